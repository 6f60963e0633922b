"""Smoothing is well defined for every pool, and the matrix form equals the plain loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import BallTree

from shopwindow.model import smoothing
from shopwindow.model.smoothing import smooth_regions


def smoothed_by_loop(regions: np.ndarray, weights: tuple[float, ...]) -> np.ndarray:
    out = np.zeros_like(regions)
    for i, region in enumerate(regions):
        others = [j for j in range(len(regions)) if j != i]
        others.sort(key=lambda j: float(((regions[j] - region) ** 2).sum()))
        nearest = others[: len(weights) - 1]
        own = weights[0] + sum(weights[1 + len(nearest) :])
        out[i] = own * region + sum(w * regions[j] for w, j in zip(weights[1:], nearest, strict=False))
    return out


def test_three_regions_counted_by_hand() -> None:
    smoothed = smooth_regions(torch.tensor([[0.0], [1.0], [10.0]]), (0.5, 0.3, 0.2))
    assert smoothed[:, 0].tolist() == pytest.approx([0.3 * 1 + 0.2 * 10, 0.5 + 0.2 * 10, 5 + 0.3])


def test_weights_of_absent_neighbours_stay_with_the_region() -> None:
    assert smooth_regions(torch.tensor([[2.0, 4.0]])).tolist() == [[2.0, 4.0]]
    two = smooth_regions(torch.tensor([[0.0], [10.0]]))
    assert two[:, 0].tolist() == pytest.approx([2.0, 8.0])


def test_exact_copies_are_neighbours_and_leave_each_other_as_they_are() -> None:
    regions = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [9.0, 9.0]])
    smoothed = smooth_regions(regions)
    torch.testing.assert_close(smoothed[:3], regions[:3])
    torch.testing.assert_close(smoothed[3], 0.7 * regions[3] + 0.3 * regions[0])


def test_identity_weights_change_nothing() -> None:
    regions = torch.rand(6, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(smooth_regions(regions, (1.0,)), regions)
    torch.testing.assert_close(smooth_regions(regions, (1.0, 0.0, 0.0)), regions)


def test_pieces_of_the_distance_matrix_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    regions = torch.rand(25, 6, generator=torch.Generator().manual_seed(1))
    whole = smooth_regions(regions)
    monkeypatch.setattr(smoothing, "REGIONS_AT_ONCE", 4)
    torch.testing.assert_close(smooth_regions(regions), whole)


@pytest.mark.parametrize(("rows", "others"), [(7, 61), (61, 2), (4, 9), (1, 1)])
def test_blocks_of_a_catalogue_give_the_same(rows: int, others: int, monkeypatch: pytest.MonkeyPatch) -> None:
    regions = torch.rand(61, 6, generator=torch.Generator().manual_seed(2))
    regions[40] = regions[3]
    weights = (0.4, 0.3, 0.2, 0.1)
    whole = smooth_regions(regions, weights)
    monkeypatch.setattr(smoothing, "REGIONS_AT_ONCE", rows)
    monkeypatch.setattr(smoothing, "OTHERS_AT_ONCE", others)
    torch.testing.assert_close(smooth_regions(regions, weights), whole)


def test_of_equally_near_regions_the_earlier_is_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    regions = torch.tensor([[0.0], [1.0], [-1.0], [1.0], [-1.0]])
    for others in (5, 2):
        monkeypatch.setattr(smoothing, "OTHERS_AT_ONCE", others)
        assert smooth_regions(regions, (0.0, 1.0))[0, 0] == 1
        assert smooth_regions(regions[[0, 2, 1, 4, 3]], (0.0, 1.0))[0, 0] == -1


def test_half_precision_regions_are_smoothed_in_float32() -> None:
    regions = torch.rand(30, 6, generator=torch.Generator().manual_seed(3)).half()
    smoothed = smooth_regions(regions)
    assert smoothed.dtype == torch.float32
    torch.testing.assert_close(smoothed, smooth_regions(regions.float()))


def test_no_regions_stay_none() -> None:
    assert smooth_regions(torch.empty(0, 4)).shape == (0, 4)


def test_smoothing_leaves_what_it_was_given() -> None:
    regions = torch.rand(9, 4, generator=torch.Generator().manual_seed(4))
    before = regions.clone()
    smooth_regions(regions)
    torch.testing.assert_close(regions, before, rtol=0, atol=0)


def test_neighbours_of_large_vectors_are_told_apart() -> None:
    near = torch.tensor([[0.0, 0.0], [0.01, 0.0], [0.03, 0.0]]) + 1000.0
    smoothed = smooth_regions(near, (0.0, 1.0))
    torch.testing.assert_close(smoothed, near[[1, 0, 1]])


def test_no_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="weight of the region itself"):
        smooth_regions(torch.ones(2, 2), ())


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 12), copies=st.integers(0, 3), seed=st.integers(0, 10_000))
def test_matrix_form_equals_the_loop(count: int, copies: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    regions = rng.random((count, 8)).astype(np.float32)
    regions = np.concatenate([regions, regions[:copies]])
    got = smooth_regions(torch.from_numpy(regions)).numpy()
    np.testing.assert_allclose(got, smoothed_by_loop(regions, (0.7, 0.2, 0.1)), atol=1e-5)


def test_matrix_form_equals_the_ball_tree_of_the_seed() -> None:
    regions = np.random.default_rng(5).standard_normal((120, 64), np.float32)
    tree = BallTree(regions)
    nearest = np.stack([tree.query(region[None], k=3, return_distance=False)[0] for region in regions])
    assert np.array_equal(nearest[:, 0], np.arange(120))  # without copies the nearest is the region itself
    wanted = sum(weight * regions[nearest[:, place]] for place, weight in enumerate(smoothing.SEED_WEIGHTS))
    np.testing.assert_allclose(smooth_regions(torch.from_numpy(regions)).numpy(), wanted, atol=1e-5)


def test_smoothed_regions_are_the_seeds() -> None:
    """To 0.003: the original rounds to float16, at values up to 7."""
    with np.load(Path(__file__).parent / "golden" / "smoothing.npz") as golden:
        smoothed = smooth_regions(torch.from_numpy(golden["regions"]))
        np.testing.assert_allclose(smoothed.numpy(), golden["smoothed"].astype(np.float32), atol=0.003)
