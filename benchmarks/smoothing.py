"""How fast are the regions of a pool smoothed, against the seed's way: a ball tree and a query for each region?

Both once a round, in turn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from sklearn.neighbors import BallTree

from record import Figures, record
from shopwindow.model.smoothing import SEED_WEIGHTS, smooth_regions


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for count in (300, 1_000):
        record(f"smoothing: a pool of {count:,} regions, one thread", measured(count, options.rounds))


def measured(count: int, rounds: int) -> Figures:
    """The figures of one pool; both ways must give the same."""
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
    """Ours."""
    return smooth_regions(torch.from_numpy(regions)).numpy()


def by_tree(regions: np.ndarray) -> np.ndarray:
    """The seed's way, written anew: the nearest in the tree is taken to be the region itself."""
    tree = BallTree(regions)
    out = np.empty_like(regions)
    for place, region in enumerate(regions):
        nearest = tree.query(region[None], k=len(SEED_WEIGHTS), return_distance=False)[0]
        out[place] = np.array(SEED_WEIGHTS, np.float32) @ regions[nearest]
    return out


def seconds(work: Callable[[np.ndarray], np.ndarray], regions: np.ndarray) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work(regions)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
