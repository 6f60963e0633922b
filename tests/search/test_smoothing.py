"""A smoothed catalogue leans on what an exact comparison of everything says, and of large ones on nearly that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import shopwindow.search.neighbours as neighbours
import shopwindow.search.smoothing as smoothing
from shopwindow.data.dataset import Dataset
from shopwindow.data.prepare import prepare
from shopwindow.model.bundle import Bundle
from shopwindow.model.encoder import encode_photos
from shopwindow.model.smoothing import smooth_regions
from shopwindow.search.building import build_index
from shopwindow.search.engine import SearchEngine
from shopwindow.search.index import MANIFEST, Manifest
from shopwindow.search.neighbours import nearest_others
from shopwindow.search.smoothing import SmoothedRegions, smooth_catalogue
from tests.data.rows import SIZE, make_line, make_product, write_tsv
from tests.search.conftest import Shop

WEIGHTS = (0.7, 0.2, 0.1)


def clustered(count: int, width: int = 24) -> np.ndarray:
    """Vectors in clusters, of length 1."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((60, width))[rng.integers(0, 60, count)] + 0.4 * rng.standard_normal(
        (count, width)
    )
    made: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return made


def nearest_by_loop(vectors: np.ndarray, count: int) -> np.ndarray:
    """The nearest others of each vector, one vector after the other."""
    found = []
    for row, vector in enumerate(vectors.astype(np.float64)):
        distances = ((vectors - vector) ** 2).sum(1)
        distances[row] = np.inf
        found.append(np.argsort(distances, kind="stable")[:count])
    return np.array(found)


def test_smoothing_is_the_weighted_mean_with_the_nearest_others() -> None:
    vectors = clustered(40, 6)
    vectors[3] = vectors[2]  # an exact copy is a neighbour, not the product itself
    nearest = nearest_by_loop(vectors, 2)
    wanted = 0.7 * vectors + 0.2 * vectors[nearest[:, 0]] + 0.1 * vectors[nearest[:, 1]]
    np.testing.assert_allclose(smooth_catalogue(vectors, WEIGHTS, unit=False), wanted, atol=1e-6)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(smooth_catalogue(vectors, WEIGHTS, unit=True), wanted, atol=1e-6)
    np.testing.assert_array_equal(smooth_catalogue(vectors, (1.0,), unit=False), vectors)
    for exact in (False, True):
        with pytest.raises(ValueError, match="at least the weight"):
            smooth_catalogue(vectors, (), unit=False, exact=exact)
        with pytest.raises(ValueError, match="finite"):
            smooth_catalogue(vectors, (1.0, np.nan), unit=False, exact=exact)


def test_all_cells_give_the_exact_neighbours() -> None:
    vectors = clustered(700)
    vectors[5] = vectors[600]
    np.testing.assert_array_equal(nearest_others(vectors, 3, probes=10**6), nearest_by_loop(vectors, 3))
    for unit in (False, True):
        approximate = smooth_catalogue(vectors, WEIGHTS, unit=unit, exact=False, probes=10**6)
        np.testing.assert_allclose(approximate, smooth_catalogue(vectors, WEIGHTS, unit=unit), atol=1e-6)


def test_few_cells_give_nearly_all_neighbours_and_always_some() -> None:
    vectors = clustered(3000)
    exact = nearest_by_loop(vectors, 2)
    shares = [(nearest_others(vectors, 2, probes=probes) == exact).mean() for probes in (1, 8, 64)]
    assert shares == sorted(shares)
    assert shares[2] > 0.97
    few = nearest_others(vectors[:50], 20, probes=1)  # a cell holds fewer: more are looked into
    assert (np.sort(few, axis=1)[:, 1:] != np.sort(few, axis=1)[:, :-1]).all()
    assert not (few == np.arange(50)[:, None]).any()
    with pytest.raises(ValueError, match="50 neighbours of 50 vectors"):
        nearest_others(vectors[:50], 50, probes=1)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clustered(500)
    whole = nearest_others(vectors, 3, probes=5)
    monkeypatch.setattr(neighbours, "_QUERIES_AT_ONCE", 37)
    np.testing.assert_array_equal(nearest_others(vectors, 3, probes=5), whole)


@pytest.mark.parametrize("exact", [True, False])
def test_smoothed_regions_are_those_of_one_pool_of_everything(
    shop: Shop, tmp_path: Path, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoothing, "_ROWS_AT_ONCE", 37)
    dataset = Dataset(shop.dataset)
    rows = np.arange(len(dataset.product_ids))
    everything = dataset.regions(rows, boxes=False)
    wanted = everything.with_features(smooth_regions(everything.features, WEIGHTS))
    smoothed = SmoothedRegions.of(dataset, WEIGHTS, tmp_path, exact=exact, probes=10**6)
    assert list(tmp_path.iterdir()) == []
    chosen = np.array([299, 3, 4, 3])
    found = smoothed.photos(chosen, boxes=True)
    assert found.labels is not None
    lengths = dataset.region_counts[chosen]
    assert found.counts.tolist() == lengths.tolist()
    whole = [wanted.part(row, row + 1).features for row in chosen.tolist()]
    torch.testing.assert_close(found.features, torch.cat(whole), atol=1e-6, rtol=1e-6)
    bundle = Bundle.load(shop.bundle)
    np.testing.assert_allclose(smoothed.encode(bundle, rows), encode_photos(bundle.model, wanted), atol=2e-6)


def test_regions_of_many_values_find_their_neighbours_in_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoothing, "_PROJECTED", 6)
    lines = [make_line(make_product(one, 1 + one % 4, size=40), "red", 1) for one in range(400)]
    prepare([write_tsv(tmp_path / "a.tsv", lines)], tmp_path / "ds", feature_size=40)
    dataset = Dataset(tmp_path / "ds")
    exact = SmoothedRegions.of(dataset, (0.8, 0.2), tmp_path, exact=True).nearest
    few = SmoothedRegions.of(dataset, (0.8, 0.2), tmp_path, exact=False, probes=10**6).nearest
    # Noise in 40 directions, 6 of them looked at: far more often right than by chance (0.008).
    assert (few == exact).mean() > 0.08
    monkeypatch.setattr(smoothing, "_PROJECTED", 40)
    all_directions = SmoothedRegions.of(dataset, (0.8, 0.2), tmp_path, exact=False, probes=10**6).nearest
    np.testing.assert_array_equal(all_directions, exact)


def test_one_region_alone_leans_on_itself(shop: Shop, tmp_path: Path) -> None:
    prepare(
        [write_tsv(tmp_path / "a.tsv", [make_line(make_product(1, 1))])], tmp_path / "ds", feature_size=SIZE
    )
    dataset = Dataset(tmp_path / "ds")
    one = np.array([0])
    for exact in (False, True):
        smoothed = SmoothedRegions.of(dataset, WEIGHTS, tmp_path, exact=exact)
        found = smoothed.photos(one, boxes=False).features
        torch.testing.assert_close(found, dataset.regions(one, boxes=False).features.float())
        with pytest.raises(ValueError, match="at least the weight"):
            SmoothedRegions.of(dataset, (), tmp_path, exact=exact)


@pytest.mark.parametrize("how", ["smooth", "smooth_regions"])
def test_smoothed_index_holds_the_smoothed_vectors_and_says_so(shop: Shop, tmp_path: Path, how: str) -> None:
    dataset, bundle = Dataset(shop.dataset), Bundle.load(shop.bundle)
    made = build_index(shop.bundle, shop.dataset, tmp_path / "index", **{how: WEIGHTS})  # type: ignore[arg-type] # one of two
    assert getattr(made, how) == getattr(Manifest.read(tmp_path / "index"), how) == WEIGHTS
    rows = np.arange(len(dataset.product_ids))
    if how == "smooth":
        wanted = smooth_catalogue(bundle.encode_dataset(dataset), WEIGHTS, unit=True)
    else:
        wanted = SmoothedRegions.of(dataset, WEIGHTS, tmp_path).encode(bundle, rows)
    engine = SearchEngine.open(tmp_path / "index")
    query = bundle.encode_texts(["red shoe"])[0].astype(np.float64)
    scores = {int(dataset.product_ids[row]): float(wanted[row] @ query) for row in rows}
    for hit in engine.search("red shoe", k=20):
        assert hit.score == pytest.approx(scores[int(hit.product_id)], abs=1e-6)
    with pytest.raises(ValueError, match="at least the weight"):
        build_index(shop.bundle, shop.dataset, tmp_path / "other", **{how: ()})  # type: ignore[arg-type] # as above


def test_encoding_of_other_regions_is_not_taken_up(shop: Shop, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(shop.bundle, shop.dataset, tmp_path / "index", progress=interrupt)
    build_index(shop.bundle, shop.dataset, tmp_path / "index", smooth_regions=WEIGHTS)
    build_index(shop.bundle, shop.dataset, tmp_path / "fresh", smooth_regions=WEIGHTS)
    first, second = (SearchEngine.open(tmp_path / name).search("red") for name in ("index", "fresh"))
    assert first == second


def test_index_of_before_region_smoothing_opens(own_index: Path) -> None:
    content = json.loads((own_index / MANIFEST).read_text())
    del content["smooth_regions"]
    (own_index / MANIFEST).write_text(json.dumps(content))
    assert Manifest.read(own_index).smooth_regions is None
