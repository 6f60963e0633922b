"""How fast are random batches read from a dataset, against a bare memory map of the same values?

Warm: everything read once before, so that the page cache and not the disk is measured.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from record import record
from rows import write_rows
from shopwindow.data.dataset import Dataset
from shopwindow.data.prepare import prepare

BATCH = 512


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shopwindow-") as name:
        folder = Path(name)
        write_rows(folder / "rows.tsv", options.rows)
        prepare([folder / "rows.tsv"], folder / "dataset")
        (folder / "rows.tsv").unlink()
        dataset = Dataset(folder / "dataset")
        bare = bare_reader(dataset, folder / "values.f16")
        for ask in (np.array([3, 1, 2]), np.arange(options.rows)):
            np.testing.assert_array_equal(dataset.regions(ask).features, bare(ask))
        rng = np.random.default_rng(0)
        ours, theirs = [], []
        for _ in range(options.rounds):
            ours.append(
                speed(lambda rows: dataset.regions(rows).features.numpy(), options.rows, options.seconds, rng)
            )
            theirs.append(speed(bare, options.rows, options.seconds, rng))
    record(
        f"reading: random batches of {BATCH} from {options.rows:,} products, warm",
        {
            "rows/s": ours,
            "memory map: rows/s": theirs,
            "share of the memory map's speed": [our / bare for our, bare in zip(ours, theirs, strict=True)],
        },
    )


def bare_reader(dataset: Dataset, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The same values in one flat file, read through numpy alone."""
    offsets = np.concatenate([[0], np.cumsum(dataset.region_counts)])
    with path.open("wb") as file:
        for start in range(0, len(dataset.region_counts), BATCH):
            stop = min(start + BATCH, len(dataset.region_counts))
            file.write(dataset.regions(np.arange(start, stop)).features.numpy().tobytes())
    # A plain array over the map: slices of np.memmap itself are slow to make.
    values = np.asarray(np.memmap(path, np.float16, "r")).reshape(-1, dataset.feature_size)

    def read(rows: np.ndarray) -> np.ndarray:
        starts, stops = offsets[rows], offsets[rows + 1]
        out = np.empty((int((stops - starts).sum()), dataset.feature_size), np.float16)
        end = 0
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            out[end : end + stop - start] = values[start:stop]
            end += stop - start
        return out

    return read


def speed(
    read: Callable[[np.ndarray], np.ndarray], rows: int, seconds: float, rng: np.random.Generator
) -> float:
    """Rows per second."""
    start = time.perf_counter()
    done = 0
    while time.perf_counter() - start < seconds:
        read(rng.integers(0, rows, BATCH))
        done += BATCH
    return done / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
