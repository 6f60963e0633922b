"""What does smoothing over a whole catalogue cost, and how many of the exact neighbours are found through cells?

Vectors: generated as in `search.py`, exact neighbours of 500 of them as the oracle. Regions: those of the real sets,
2,048 values each, against the exact comparison of all; skipped where the sets are not there. One thread.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from ablation import write_set
from real_sets import SHARED
from record import Figures, private_peak, record
from search import clustered
from shopwindow.data.dataset import Dataset
from shopwindow.model.smoothing import SEED_WEIGHTS
from shopwindow.search.smoothing import SmoothedRegions, near_neighbours, smooth_catalogue

ORACLES = 500
NEIGHBOURS = len(SEED_WEIGHTS) - 1
Made = TypeVar("Made")


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=100_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    measure_vectors(options.products)
    for name in ("ikea", "grocery"):
        if (SHARED / "sets" / name).is_dir():
            measure_regions(name)
        else:
            print(f"skipped: no real set at {SHARED / 'sets' / name}")


def measure_vectors(count: int) -> None:
    """Smoothing of product vectors: the ends of the range of probes, and exact on a tenth."""
    vectors, _ = clustered(count)
    rows = np.random.default_rng(1).choice(count, ORACLES, replace=False)
    distances = np.einsum("ph,ph->p", vectors, vectors) - 2 * vectors[rows] @ vectors.T
    distances[np.arange(ORACLES), rows] = np.inf
    exact = np.argpartition(distances, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    figures: Figures = {"products": count}
    for probes in (8, 24, 64):
        found, seconds, megabytes = timed(partial(near_neighbours, vectors, NEIGHBOURS, probes=probes))
        figures[f"{probes} cells: seconds"] = seconds
        figures[f"{probes} cells: recall@{NEIGHBOURS}"] = shared(found[rows], exact)
        figures[f"{probes} cells: private MB"] = megabytes
    few = vectors[: count // 10]
    for name, exactly in (("exact", True), ("24 cells", False)):
        _, seconds, _ = timed(partial(smooth_catalogue, few, SEED_WEIGHTS, unit=True, exact=exactly))
        figures[f"a tenth of them, {name}: seconds"] = seconds
    record(f"smoothing of a catalogue's vectors through cells: {count:,} of them, one thread", figures)


def measure_regions(name: str) -> None:
    """Neighbours of the regions of a real set, exactly and through cells."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_set(name, folder)
        dataset = Dataset(folder / "train")
        figures: Figures = {
            "products": len(dataset.product_ids),
            "regions": int(dataset.region_counts.sum()),
        }
        look = partial(SmoothedRegions.of, dataset, SEED_WEIGHTS, folder)
        oracle, seconds, megabytes = timed(partial(look, exact=True))
        figures |= {"exact: seconds": seconds, "exact: private MB": megabytes}
        for probes in (8, 24, 64):
            found, seconds, megabytes = timed(partial(look, exact=False, probes=probes))
            figures[f"{probes} cells: seconds"] = seconds
            figures[f"{probes} cells: recall@{NEIGHBOURS}"] = shared(found.nearest, oracle.nearest)
            figures[f"{probes} cells: private MB"] = megabytes
    record(f"smoothing of a catalogue's regions: {name}, one thread", figures)


def timed(make: Callable[[], Made]) -> tuple[Made, float, float]:
    """What was made, in how many seconds, in how much private memory."""
    with private_peak() as peak:
        start = time.perf_counter()
        made = make()
        seconds = time.perf_counter() - start
    return made, seconds, peak[0]


def shared(found: np.ndarray, exact: np.ndarray) -> float:
    """The share of exact neighbours that was found, in whatever order."""
    return float(np.mean([np.isin(one, other).mean() for one, other in zip(exact, found, strict=True)]))


if __name__ == "__main__":
    main()
