"""Cells part the products, and looking into all of them is the exact search."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans

from shopwindow.search.cells import cell_count, part_into_cells


@pytest.fixture
def clustered() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((20, 16), np.float32)
    found = centres[rng.integers(0, 20, 2000)] + 0.2 * rng.standard_normal((2000, 16), np.float32)
    unit: np.ndarray = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def test_every_product_is_in_one_cell_and_means_are_of_their_products(clustered: np.ndarray) -> None:
    cells, order = part_into_cells(clustered, cells=30, rng=np.random.default_rng(1))
    assert sorted(order.tolist()) == list(range(2000))
    assert cells.offsets[0] == 0
    assert cells.offsets[-1] == 2000
    for cell in range(30):
        rows = order[cells.offsets[cell] : cells.offsets[cell + 1]]
        if len(rows):
            np.testing.assert_allclose(cells.means[cell], clustered[rows].mean(0), atol=1e-6)


def test_cells_are_nearly_as_tight_as_those_of_scikit_learn(clustered: np.ndarray) -> None:
    def spread(cell_of: np.ndarray) -> float:
        return sum(
            float(((clustered[cell_of == cell] - clustered[cell_of == cell].mean(0)) ** 2).sum())
            for cell in np.unique(cell_of)
        )

    cells, order = part_into_cells(clustered, cells=20, rng=np.random.default_rng(1))
    ours = np.empty(2000, np.int64)
    ours[order] = np.repeat(np.arange(20), np.diff(cells.offsets))
    theirs = KMeans(20, n_init=1, random_state=0).fit_predict(clustered)
    one_cell = spread(np.zeros(2000))
    # k-means ends in some local optimum: what counts is that most of the spread is gone, as it is there
    assert spread(ours) < spread(theirs) + 0.15 * one_cell
    assert spread(ours) < 0.4 * one_cell


def test_nearest_cells_are_those_of_the_highest_means(clustered: np.ndarray) -> None:
    cells, _ = part_into_cells(clustered, cells=30, rng=np.random.default_rng(1))
    scores = cells.means @ clustered[5]
    wanted = sorted(np.argsort(-scores)[:4].tolist())
    found = cells.nearest(clustered[5], 4)
    assert sorted(np.searchsorted(cells.offsets, found[:, 0], side="right").tolist()) == [
        w + 1 for w in wanted
    ]
    everything = cells.nearest(clustered[5], 1000)
    assert int((everything[:, 1] - everything[:, 0]).sum()) == 2000


def test_equal_products_still_part() -> None:
    same = np.ones((50, 4), np.float32)
    cells, order = part_into_cells(same, cells=7, rng=np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(50))
    assert cells.offsets[-1] == 50


@pytest.mark.parametrize("cells", [0, 51])
def test_impossible_number_of_cells_is_refused(cells: int) -> None:
    with pytest.raises(ValueError, match="cells for 50 products"):
        part_into_cells(np.ones((50, 4), np.float32), cells=cells, rng=np.random.default_rng(0))


def test_cell_count_is_four_times_the_root() -> None:
    assert [cell_count(n) for n in (1, 100, 1_000_000)] == [1, 40, 4000]
