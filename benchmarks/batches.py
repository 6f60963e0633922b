"""How fast are training batches read from the dataset, against a bare memory map of the same rows, warm and cold?

Beside them the seed's collate, written anew: photo by photo from the same map into zeros of 40 regions, float64. Cold:
the pages of every file are dropped before a round (posix_fadvise), and a round reads a quarter of the data at most.
Each method has a process of its own in each round, in turn, so that resident memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from made import MEAN_REGIONS, MOST_REGIONS, write_dataset
from record import Figures, record
from shopwindow.data.batches import PairBatches
from shopwindow.data.dataset import Dataset

BATCH = 512
SEEDS = "seed, 40 regions of float64"
WAYS = ("bare", "mapped", "by shards", "past the map", SEEDS)


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each round of each way, warm")
    parser.add_argument("--folder", help="where to put the data; none given: the system's temporary folder")
    parser.add_argument(
        "--once", nargs=4, metavar=("WAY", "STATE", "DATA", "SEED"), help="for this script itself"
    )
    options = parser.parse_args()
    if options.once:
        way, state, data, seed = options.once
        print(json.dumps(once(way, state, Path(data), options.seconds, int(seed))))
        return
    with tempfile.TemporaryDirectory(prefix="shopwindow-", dir=options.folder) as name:
        data = Path(name)
        write_dataset(data / "dataset", options.products)
        write_flat(Dataset(data / "dataset"), data / "values.f16")
        for state in ("warm", "cold"):
            measure(data, state, options.products, options.rounds, options.seconds)


def measure(data: Path, state: str, products: int, rounds: int, seconds: float) -> None:
    """One line of results."""
    speeds: dict[str, list[float]] = {way: [] for way in WAYS}
    resident: dict[str, list[float]] = {way: [] for way in WAYS}
    for seed in range(rounds):
        for way in WAYS:
            command = [sys.executable, __file__, "--seconds", str(seconds)]
            command += ["--once", way, state, str(data), str(seed)]
            said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            speeds[way].append(said["rows/s"])
            resident[way].append(said["MB"])
    figures: Figures = {
        "products": float(products),
        "GB of regions": products * MEAN_REGIONS * 4096 / 1e9,
        "load of the machine": os.getloadavg()[0],
    }
    for way in WAYS:
        figures[f"{way}: rows/s"] = speeds[way]
        figures[f"{way}: resident memory, MB"] = resident[way]
        if way != "bare":
            figures[f"{way}: share of the bare map's speed"] = [
                our / bare for our, bare in zip(speeds[way], speeds["bare"], strict=True)
            ]
    figures["mapped: times faster than the seed's collate"] = [
        our / seed for our, seed in zip(speeds["mapped"], speeds[SEEDS], strict=True)
    ]
    record(f"training batches of {BATCH} pairs from {products:,} products, {state}", figures)


def once(way: str, state: str, data: Path, seconds: float, seed: int) -> dict[str, float]:
    """Rows a second and peak resident memory of one way."""
    files = [*(data / "dataset").glob("*.arrow"), data / "values.f16"]
    dataset = Dataset(data / "dataset", mapped=way != "past the map")
    dataset.region_counts  # noqa: B018 - opened before the clock runs
    if state == "warm":
        for file in files:
            read_through(file)
    else:
        for file in files:
            drop(file)
    ask = asker(way, dataset, data, seed)
    start = time.perf_counter()
    rows = steps = 0
    # Cold: at most a quarter of the data, or later batches would find what earlier ones brought.
    most = len(dataset.product_ids) // 4 // BATCH if state == "cold" else 10**9
    while time.perf_counter() - start < seconds and steps < max(most, 1):
        rows += ask()
        steps += 1
    return {"rows/s": rows / (time.perf_counter() - start), "MB": peak_resident_mb()}


def asker(way: str, dataset: Dataset, data: Path, seed: int) -> Callable[[], int]:
    """What reads the next batch and gives its pairs."""
    if way not in ("bare", SEEDS):
        shards = 1 if way == "by shards" else 0
        made = iter(PairBatches(dataset, batch_size=BATCH, epochs=999, seed=seed, shards_at_once=shards))
        return lambda: len(next(made).regions.counts)
    values, offsets = flat(dataset, data / "values.f16")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(dataset.product_ids))
    place = 0

    def read() -> int:
        nonlocal place, order
        if place + BATCH > len(order):
            place, order = 0, rng.permutation(len(order))
        rows = order[place : place + BATCH]
        place += BATCH
        if way == SEEDS:
            return len(collated(values, offsets, rows))
        taken(values, offsets, rows)
        return BATCH

    return read


def write_flat(dataset: Dataset, path: Path) -> None:
    """Writes the values of all regions into one flat file."""
    with path.open("wb") as file:
        for rows in np.array_split(
            np.arange(len(dataset.product_ids)), len(dataset.product_ids) // BATCH + 1
        ):
            file.write(dataset.regions(rows).features.numpy().tobytes())


def flat(dataset: Dataset, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The bare map of that file, and where each photo begins in it."""
    offsets = np.concatenate([[0], np.cumsum(dataset.region_counts)])
    # A plain array over the map: slices of np.memmap itself are slow to make.
    return np.asarray(np.memmap(path, np.float16, "r")).reshape(-1, dataset.feature_size), offsets


def taken(values: np.ndarray, offsets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The regions of some photos, end to end, by one fancy read."""
    lengths = offsets[rows + 1] - offsets[rows]
    within = np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths)
    out: np.ndarray = values[np.repeat(offsets[rows], lengths) + within]
    return out


def collated(values: np.ndarray, offsets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """As the seed does: float64, every photo padded to 40 regions; longer ones, which it drops, are cut."""
    out = np.zeros((len(rows), MOST_REGIONS, values.shape[1]))
    for photo, row in enumerate(rows.tolist()):
        regions = values[offsets[row] : min(offsets[row + 1], offsets[row] + MOST_REGIONS)]
        out[photo, : len(regions)] = regions
    return out


def read_through(path: Path) -> None:
    """Brings a file into the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(2**24):
            pass


def drop(path: Path) -> None:
    """Drops a file's clean pages from the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def peak_resident_mb() -> float:
    """Of this process, mapped pages counted."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


if __name__ == "__main__":
    main()
