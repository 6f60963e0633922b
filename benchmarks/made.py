"""Datasets of made-up products, as many as wanted, with the competition's numbers of regions, without a TSV before."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from shopwindow.data.checking import GoodRow
from shopwindow.data.dataset import FORMAT, MANIFEST, REJECTED
from shopwindow.data.writer import DatasetWriter
from shopwindow.files import whole_directory

SIZE = 2048
MOST_REGIONS = 91
MEAN_REGIONS = 3.8
_POOL_OF_REGIONS = 4_096
WORDS = ("red", "blue", "soft", "small", "shoe", "lamp", "bag", "dress", "for", "men", "winter", "steel")


def write_dataset(path: Path, products: int, *, products_per_query: int = 1, seed: int = 0) -> None:
    """A dataset of `products` pairs, each of its own product; lengths are geometric with mean 3.8, at most 91."""
    rng = np.random.default_rng(seed)
    known = np.maximum(rng.standard_normal((_POOL_OF_REGIONS + MOST_REGIONS, SIZE), np.float32), 0)
    values = known.astype(np.float16)
    lengths = np.minimum(rng.geometric(1 / MEAN_REGIONS, products), MOST_REGIONS)
    with whole_directory(path, marker=MANIFEST) as folder:
        (folder / REJECTED).touch()
        with DatasetWriter(folder, SIZE) as writer:
            for row, length in enumerate(lengths.tolist()):
                place = int(rng.integers(_POOL_OF_REGIONS))
                product = writer.add_product(_row(row, values[place : place + length]))
                query = row // products_per_query
                if row % products_per_query == 0:
                    text = " ".join(rng.choice(WORDS, int(rng.integers(2, 7))))
                    writer.add_query(query, text)
                writer.add_pair(product, query, training=True)
        manifest = {
            "format": FORMAT,
            "feature_size": SIZE,
            "content_hash": f"made {products} {products_per_query} {seed}",
            "sources": [],
            "rules": [],
            "shards": writer.shards,
            "report": {},
        }
        (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def _row(product_id: int, regions: np.ndarray) -> GoodRow:
    count = len(regions)
    boxes = np.tile(np.array([0, 0, 50, 50], np.float32), (count, 1))
    labels = np.zeros(count, np.int64)
    return GoodRow(product_id, 100, 100, "", 0, b"", (), boxes, labels, regions)
