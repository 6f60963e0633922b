"""How many queries a second does `rank` answer, on pools of 30 products, and where does the time go?

1,000 pools of made-up regions (3.8 a product on average), of the recipe `seed` 100; untrained weights: what is computed
does not depend on what was learned.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from made import write_dataset
from record import counted_threads, record
from shopwindow.data.dataset import Dataset
from shopwindow.model.encoder import encode_products, encode_texts
from shopwindow.model.initial import initial_model
from shopwindow.model.rank import rank_pools
from shopwindow.model.recipe import load_recipe

POOL = 30


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pools", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seed-pools", type=int, default=100, help="pools for the recipe seed, which is slow"
    )
    options = parser.parse_args()
    for name, pools in (("default", options.pools), ("linear", options.pools), ("seed", options.seed_pools)):
        with tempfile.TemporaryDirectory(prefix="shopwindow-") as folder:
            write_dataset(Path(folder) / "pools", pools * POOL, products_per_query=POOL)
            measure(name, Dataset(Path(folder) / "pools"), pools, options.rounds)


def measure(name: str, dataset: Dataset, pools: int, rounds: int) -> None:
    """One recipe: plain, smoothed, and the parts of the plain one."""
    tokenizer, model = initial_model(dataset, load_recipe(name, {}))
    plain, smoothed, photos, words, reading = [], [], [], [], []
    everything = np.arange(len(dataset.product_ids))
    for _ in range(rounds):
        plain.append(seconds(lambda: rank_pools(model, tokenizer, dataset)))
        smoothed.append(seconds(lambda: rank_pools(model, tokenizer, dataset, smooth=(0.7, 0.2, 0.1))))
        photos.append(seconds(lambda: encode_products(model, dataset, everything)))
        words.append(seconds(lambda: encode_texts(model, tokenizer, dataset.query_texts)))
        reading.append(seconds(lambda: [dataset.regions(part) for part in np.array_split(everything, pools)]))
    record(
        f"rank: {pools:,} pools of {POOL}, recipe {name}, {counted_threads(torch.get_num_threads())}",
        {
            "pools": float(pools),
            "threads": float(torch.get_num_threads()),
            "load of the machine": os.getloadavg()[0],
            "queries/s": [pools / took for took in plain],
            "queries/s, regions smoothed": [pools / took for took in smoothed],
            "share of encoding products": [part / whole for part, whole in zip(photos, plain, strict=True)],
            "share of encoding queries": [part / whole for part, whole in zip(words, plain, strict=True)],
            "share of reading regions": [part / whole for part, whole in zip(reading, plain, strict=True)],
        },
    )


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
