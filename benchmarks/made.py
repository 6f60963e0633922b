"""Datasets of made-up products, as many as wanted, with the competition's numbers of regions, without a TSV before."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from shopwindow.data.competition import Row, regions_of
from shopwindow.data.dataset import FORMAT, MANIFEST, REJECTED
from shopwindow.data.writer import DatasetWriter
from shopwindow.files import whole_directory

SIZE = 2048
MOST_REGIONS = 91
MEAN_REGIONS = 3.8
_POOL_OF_REGIONS = 4_096
_PRODUCTS_AT_ONCE = 1_024
WORDS = ("red", "blue", "soft", "small", "shoe", "lamp", "bag", "dress", "for", "men", "winter", "steel")


def write_dataset(path: Path, products: int, *, products_per_query: int = 1, seed: int = 0) -> None:
    """A dataset of `products` pairs, each of its own product; lengths are geometric with mean 3.8, at most 91."""
    rng = np.random.default_rng(seed)
    known = np.maximum(rng.standard_normal((_POOL_OF_REGIONS + MOST_REGIONS, SIZE), np.float32), 0)
    values = known.astype(np.float16)
    lengths = np.minimum(rng.geometric(1 / MEAN_REGIONS, products), MOST_REGIONS)
    with whole_directory(path, marker=MANIFEST) as folder:
        (folder / REJECTED).touch()
        with DatasetWriter(folder) as writer:
            waiting: list[Row] = []
            for row, length in enumerate(lengths.tolist()):
                place = int(rng.integers(_POOL_OF_REGIONS))
                waiting.append(_row(row, values[place : place + length]))
                product = writer.products.add(row, b"")
                if len(waiting) == _PRODUCTS_AT_ONCE or row == products - 1:
                    writer.add_regions(regions_of(waiting))
                    waiting = []
                query = row // products_per_query
                if row % products_per_query == 0:
                    text = " ".join(rng.choice(WORDS, int(rng.integers(2, 7))))
                    writer.queries.add(query, text)
                writer.add_pair(product, query, training=True)
        manifest = {
            "format": FORMAT,
            "feature_size": SIZE,
            "label_count": 1,
            "content_hash": f"made {products} {products_per_query} {seed}",
            "sources": [],
            "rules": [],
            "shards": writer.shards,
            "report": {},
        }
        (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def _row(product_id: int, features: np.ndarray) -> Row:
    count = len(features)
    boxes = np.tile(np.array([0, 0, 50, 50], np.float32), (count, 1))
    labels = np.zeros(count, np.int64)
    return Row(product_id, 0, "", (100, 100), boxes, features, labels)
