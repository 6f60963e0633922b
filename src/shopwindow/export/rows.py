"""What of a product goes into another system, and what must that system know to use it?

Living products of an index, some at a time: ids, vectors as finely as the index keeps them, what it knows of them, and
the shop's own columns. Knows no other system; `parquet.py`, `pgvector.py` and `qdrant.py` do.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int32, Int64, Shaped

from shopwindow.files import DataError
from shopwindow.search.attributes import OWN_COLUMNS
from shopwindow.search.conditions import Kind
from shopwindow.search.index import OpenIndex
from shopwindow.search.lookup import OpenPart

FORMAT: Final = "shopwindow vectors 1"
ARROW_TYPES: Final[Mapping[Kind, pa.DataType]] = {"number": pa.float64(), "word": pa.string()}
Progress = Callable[[int, int], None]
"""Called with products written and products in all."""


@dataclass(frozen=True)
class Rows:
    """Some products. `ids` are text where some of the index are, else int64; `sizes` are (height, width) in px.

    `labels` are those of a product's regions, each once, rising; `texts` are known to match. `values` are the shop's
    columns, all that the index has, in ARROW_TYPES, null where a product has no value."""

    ids: Shaped[np.ndarray, " products"]
    vectors: Float32[np.ndarray, "products width"]
    sizes: Int32[np.ndarray, "products 2"]
    labels: list[list[int]]
    texts: list[list[str]]
    values: Mapping[str, pa.Array]


def open_for_export(index: str | Path) -> OpenIndex:
    """The index. Raises: DataError for no index, or a column of the shop named as one that every export has."""
    opened = OpenIndex.open(index)
    for name in opened.manifest.columns:
        if name.lower() in OWN_COLUMNS:
            raise DataError(
                f"column {name!r}: every export has one of this name; index the shop's under another",
                path=index,
            )
    return opened


def rows_of(index: OpenIndex, at_once: int) -> Iterator[Rows]:
    """All living products, a segment after the other, at most `at_once` at a time."""
    for part in index.parts:
        living = part.living_rows
        for start in range(0, len(living), at_once):
            rows = _rows(part, living[start : start + at_once], index.manifest.columns)
            yield dataclasses.replace(rows, ids=rows.ids.astype(np.str_)) if index.has_text_ids else rows


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
        "dimensions": manifest.hidden,
        "unit_length": manifest.unit,
        "score": "dot product, higher is better",
        "smoothed": None if manifest.smooth is None else list(manifest.smooth),
        "smoothed_regions": None if manifest.smooth_regions is None else list(manifest.smooth_regions),
        "datasets": [source.content_hash for source in manifest.sources],
        "label_names": {str(label): name for label, name in manifest.label_names.items()},
    }
    state = hashlib.sha256(json.dumps([card, parts], sort_keys=True).encode()).hexdigest()[:16]
    return {**card, "state": state}


def _rows(part: OpenPart, rows: Int64[np.ndarray, " some"], kinds: Mapping[str, Kind]) -> Rows:
    columns = part.segment.columns.take(rows)
    pieces = np.split(columns.labels, columns.region_bounds[1:-1])
    ids = np.ascontiguousarray(columns.ids)
    return Rows(
        ids=ids,
        vectors=np.ascontiguousarray(part.segment.vectors(rows)),
        sizes=np.ascontiguousarray(columns.sizes),
        labels=[np.unique(piece).tolist() for piece in pieces],
        texts=[list(part.texts.of(one)) if part.texts else [] for one in ids.tolist()],
        values=_values(part, rows, kinds),
    )


def _values(
    part: OpenPart, rows: Int64[np.ndarray, " some"], kinds: Mapping[str, Kind]
) -> dict[str, pa.Array]:
    held = part.segment.attributes
    columns = {} if held is None else held.take(rows).columns
    return {
        name: columns[name].cast(ARROW_TYPES[kind])
        if name in columns
        else pa.nulls(len(rows), ARROW_TYPES[kind])
        for name, kind in kinds.items()
    }
