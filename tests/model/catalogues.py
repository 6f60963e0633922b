"""Datasets of the tiny shop with what a shop's own catalogue adds: titles, and the backbone of the features."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shopwindow.data.dataset import CATALOGUE, MANIFEST, Dataset

BACKBONE: dict[str, Any] = {"name": "fake", "fingerprint": "f" * 64}


def with_catalogue(
    dataset: Dataset, path: Path, *, titles: list[str] | None = None, backbone: dict[str, Any] | None = None
) -> Dataset:
    """A copy of a dataset at `path` with these titles, and a backbone."""
    shutil.copytree(dataset.path, path)
    if backbone is not None:
        manifest = json.loads((path / MANIFEST).read_text())
        (path / MANIFEST).write_text(json.dumps(manifest | {"backbone": backbone}))
    if titles is not None:
        photos = pa.array([[] for _ in titles], pa.list_(pa.string()))
        table = pa.table({"title": pa.array(titles, pa.string()), "photos": photos})
        with pa.OSFile(str(path / CATALOGUE), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    return Dataset(path)


def titles_of(dataset: Dataset) -> list[str]:
    """The first query of each product, and a word that no query has; every fourth product has no title."""
    words = dict(zip(dataset.pair_products.tolist(), dataset.pair_queries.tolist(), strict=True))
    texts = [dataset.query_texts[words[row]] for row in range(len(dataset.product_ids))]
    return [f"vintage {text}" if row % 4 else "" for row, text in enumerate(texts)]


class FakeTower:
    """A text tower of random unit vectors, the same for the same text, that counts what it is asked."""

    def __init__(self, values: int) -> None:
        self.values = values
        self.asked: list[str] = []

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """One vector a text."""
        self.asked += texts
        drawn = [np.random.default_rng(list(text.encode())).normal(size=self.values) for text in texts]
        vectors = np.stack(drawn).astype(np.float32)
        unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit
