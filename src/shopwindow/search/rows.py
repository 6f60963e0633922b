"""What of a product goes into another system, and what must that system know to use it?

Living products of an index, some at a time: ids, vectors as finely as the index keeps them, and its columns. Knows no
other system; `parquet.py`, `pgvector.py` and `qdrant.py` do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, Int32, Int64

from shopwindow.search.index import OpenIndex, OpenPart

FORMAT: Final = "shopwindow vectors 1"
Progress = Callable[[int, int], None]
"""Called with products written and products in all."""


@dataclass(frozen=True)
class Rows:
    """Some products. `sizes` are (height, width) in px; `labels` those of a product's regions, each once, rising;
    `texts` texts known to match."""

    ids: Int64[np.ndarray, " products"]
    vectors: Float32[np.ndarray, "products width"]
    sizes: Int32[np.ndarray, "products 2"]
    labels: list[list[int]]
    texts: list[list[str]]


def rows_of(index: OpenIndex, at_once: int) -> Iterator[Rows]:
    """All living products, a segment after the other, at most `at_once` at a time."""
    for part in index.parts:
        living = part.living_rows
        for start in range(0, len(living), at_once):
            yield _rows(part, living[start : start + at_once])


def describe_vectors(index: OpenIndex) -> dict[str, Any]:
    """What made the vectors and how they are compared, as JSON: goes with them wherever they go.

    `state` names the state of the index: equal for equal files and an equal description.
    """
    manifest = index.manifest
    parts = sorted((part.name, part.deleted or "") for part in manifest.parts)
    card = {
        "format": FORMAT,
        "bundle": manifest.bundle_hash,
        "products": len(index),
        "dimensions": manifest.width,
        "unit_length": manifest.unit,
        "score": "dot product, higher is better",
        "smoothed": None if manifest.smooth is None else list(manifest.smooth),
        "smoothed_regions": None if manifest.smooth_regions is None else list(manifest.smooth_regions),
        "datasets": [source.content_hash for source in manifest.sources],
        "label_names": {str(label): name for label, name in manifest.label_names.items()},
    }
    state = hashlib.sha256(json.dumps([card, parts], sort_keys=True).encode()).hexdigest()[:16]
    return {**card, "state": state}


def _rows(part: OpenPart, rows: Int64[np.ndarray, " some"]) -> Rows:
    columns = part.segment.columns.take(rows)
    pieces = np.split(columns.labels, columns.region_bounds[1:-1])
    ids = np.ascontiguousarray(columns.ids)
    return Rows(
        ids=ids,
        vectors=np.ascontiguousarray(part.segment.vectors(rows)),
        sizes=np.ascontiguousarray(columns.sizes),
        labels=[np.unique(piece).tolist() for piece in pieces],
        texts=[list(part.texts.of(one)) if part.texts else [] for one in ids.tolist()],
    )
