"""How fast is smoothing: regions of a pool against the seed's ball tree, vectors of a catalogue against exact search?

The seed asks a ball tree for the neighbours of each region; ours is one matrix product. A catalogue's neighbours are
sought in a few cells; the exact neighbours of 500 vectors say which share was found. One thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from sklearn.neighbors import BallTree

from made import clustered
from record import Figures, record
from shopwindow.model.smoothing import SEED_WEIGHTS, smooth_regions
from shopwindow.search.smoothing import near_neighbours

ORACLES: Final = 500
NEIGHBOURS: Final = len(SEED_WEIGHTS) - 1


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--products", type=int, default=100_000, help="of the catalogue")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for count in (300, 1_000):
        record(f"smoothing: a pool of {count:,} regions, one thread", pool(count, options.rounds))
    question = f"smoothing of a catalogue's vectors through cells: {options.products:,} of them, one thread"
    record(question, catalogue(options.products))


def pool(count: int, rounds: int) -> Figures:
    """Milliseconds of both methods, in turn in each round; raises AssertionError where they differ."""
    regions = np.random.default_rng(count).standard_normal((count, 2048), np.float32).clip(0)
    np.testing.assert_allclose(by_product(regions), by_tree(regions), atol=1e-5)  # and both are warm
    trees, ours = [], []
    for _ in range(rounds):
        trees.append(seconds(by_tree, regions))
        ours.append(seconds(by_product, regions))
    return {
        "milliseconds": [1e3 * took for took in ours],
        "ball tree: milliseconds": [1e3 * took for took in trees],
        "times faster than the ball tree": [tree / our for tree, our in zip(trees, ours, strict=True)],
    }


def by_product(regions: np.ndarray) -> np.ndarray:
    """The regions smoothed by ours."""
    return smooth_regions(torch.from_numpy(regions)).numpy()


def by_tree(regions: np.ndarray) -> np.ndarray:
    """The regions smoothed as the seed does: the nearest in the tree is taken for the region itself."""
    tree = BallTree(regions)
    out = np.empty_like(regions)
    for place, region in enumerate(regions):
        nearest = tree.query(region[None], k=len(SEED_WEIGHTS), return_distance=False)[0]
        out[place] = np.array(SEED_WEIGHTS, np.float32) @ regions[nearest]
    return out


def catalogue(count: int) -> Figures:
    """Seconds and recall of the neighbours of all vectors, by the number of cells searched."""
    vectors, _ = clustered(count, 1, 256)
    rows = np.random.default_rng(1).choice(count, ORACLES, replace=False)
    distances = np.einsum("ph,ph->p", vectors, vectors) - 2 * vectors[rows] @ vectors.T
    distances[np.arange(ORACLES), rows] = np.inf
    exact = np.argpartition(distances, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    figures: Figures = {"products": count}
    for cells in (8, 24, 64):
        start = time.perf_counter()
        found = near_neighbours(vectors, NEIGHBOURS, probes=cells)[rows]
        figures[f"{cells} cells: seconds"] = time.perf_counter() - start
        shares = [np.isin(one, other).mean() for one, other in zip(exact, found, strict=True)]
        figures[f"{cells} cells: recall@{NEIGHBOURS}"] = float(np.mean(shares))
    return figures


def seconds(work: Callable[[np.ndarray], np.ndarray], regions: np.ndarray) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work(regions)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
