"""What of a product goes into another system, and what must that system know to use it?

Living products of an index, some at a time: ids, vectors as finely as the index keeps them, what it knows of them, and
the shop's own columns. `card_of` describes them all; the databases of this folder keep it. Knows no other system.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from jaxtyping import Float16, Float32, Int32, Int64, Shaped

from shopwindow.files import DataError
from shopwindow.search.attributes import OWN_COLUMNS
from shopwindow.search.conditions import Kind
from shopwindow.search.hits import Value
from shopwindow.search.index import OpenIndex
from shopwindow.search.kept_regions import KeptRegions
from shopwindow.search.lookup import OpenPart
from shopwindow.search.segment import Columns
from shopwindow.search.stores.local import LocalStore

FORMAT: Final = "shopwindow vectors 1"
ARROW_TYPES: Final[Mapping[Kind, pa.DataType]] = {"number": pa.float64(), "word": pa.string()}
DETAILS: Final = "shopwindow_details"
"""JSON: title and photo, boxes and labels of regions."""
WORDS: Final = "shopwindow_words"
"""Title and texts, as full text reads them."""
KEPT: Final = "shopwindow_kept"
"""The regions that a reranker needs, in float16."""
HASH: Final = "shopwindow_hash"
"""Names all that is known of a product."""
RESERVED: Final = (*OWN_COLUMNS, DETAILS, WORDS, KEPT, HASH)
_TEXTS_KEPT: Final = 50
Progress = Callable[[int, int], None]
"""Called with products written and products in all."""


@dataclass(frozen=True)
class Rows:
    """Some products. `ids` are text where some of the index are, else int64; `regions` holds their sizes, boxes and
    labels; `texts` are known to match. `values` are the shop's columns, all that the index has, in ARROW_TYPES, null
    where a product has no value. `photos`: path or URL of each. `kept`: None where the index keeps no regions."""

    ids: Shaped[np.ndarray, " products"]
    vectors: Float32[np.ndarray, "products width"]
    regions: Columns
    texts: list[list[str]]
    values: Mapping[str, pa.Array]
    titles: Sequence[str | None]
    photos: Sequence[str | None]
    kept: KeptRegions | None

    @property
    def sizes(self) -> Int32[np.ndarray, "products 2"]:
        """(height, width) of the photos in px."""
        return self.regions.sizes

    @cached_property
    def labels(self) -> list[list[int]]:
        """The labels of each product's regions, each once, rising."""
        return [np.unique(piece).tolist() for piece in self._split(self.regions.labels)]

    @cached_property
    def details(self) -> list[str]:
        """What a page shows of each product besides its values, as JSON."""
        boxes, labels = self._split(self.regions.boxes), self._split(self.regions.labels)
        known = zip(self.titles, self.photos, boxes, labels, strict=True)
        return [
            json.dumps({"title": title, "photo": photo, "boxes": box.tolist(), "labels": label.tolist()})
            for title, photo, box, label in known
        ]

    @property
    def words(self) -> list[str]:
        """What full text reads of each product."""
        return ["\n".join([title or "", *some]) for title, some in zip(self.titles, self.texts, strict=True)]

    def kept_of(self, row: int) -> Float16[np.ndarray, "regions width"] | None:
        """The kept regions of one product."""
        if self.kept is None:
            return None
        kept: Float16[np.ndarray, "regions width"]
        kept = self.kept.regions[self.kept.bounds[row] : self.kept.bounds[row + 1]]
        return kept

    def values_of(self, row: int) -> dict[str, Value]:
        """The values of one product, those that it has."""
        return {name: column[row] for name, column in self._listed.items() if column[row] is not None}

    @cached_property
    def _listed(self) -> dict[str, list[Any]]:
        return {name: column.to_pylist() for name, column in self.values.items()}

    @cached_property
    def hashes(self) -> list[str]:
        """Names all that is written of each product: equal for equal content."""
        return [self._hash(row) for row in range(len(self.ids))]

    def _hash(self, row: int) -> str:
        kept = self.kept_of(row)
        said = [self.details[row], self.texts[row], sorted(self.values_of(row).items())]
        content = hashlib.sha256(json.dumps([said, self.sizes[row].tolist()]).encode())
        content.update(self.vectors[row].tobytes())
        content.update(b"" if kept is None else kept.tobytes())
        return content.hexdigest()[:32]

    def take(self, chosen: Int64[np.ndarray, " chosen"]) -> Rows:
        """Some of the products."""
        rows = chosen.tolist()
        return Rows(
            ids=self.ids[chosen],
            vectors=self.vectors[chosen],
            regions=self.regions.take(chosen),
            texts=[self.texts[row] for row in rows],
            values={name: column.take(pa.array(chosen)) for name, column in self.values.items()},
            titles=[self.titles[row] for row in rows],
            photos=[self.photos[row] for row in rows],
            kept=None if self.kept is None else self.kept.take(chosen),
        )

    def _split(self, regions: np.ndarray) -> list[np.ndarray]:
        return np.split(regions, self.regions.region_bounds[1:-1])


def open_for_export(index: str | Path) -> OpenIndex:
    """The index. Raises: DataError for no index, or a column of the shop named as one that every export has."""
    opened = OpenIndex.open(index)
    for name in opened.manifest.columns:
        if name.lower() in RESERVED:
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
            yield _rows(part, living[start : start + at_once], index.manifest.columns)


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


def card_of(index: OpenIndex) -> dict[str, Any]:
    """`describe_vectors`, and under `search` what a search of these products needs besides them."""
    store, made = LocalStore(index), index.manifest
    kept = index.parts[0].segment.kept
    return describe_vectors(index) | {
        "search": {
            "text_ids": index.has_text_ids,
            "kinds": dict(made.columns),
            "columns": [asdict(view) for view in store.columns],
            "label_counts": {str(label): count for label, count in store.label_counts.items()},
            "shown": made.shown,
            "photos": made.photos,
            "backbone": made.backbone,
            "kept_regions": made.kept_regions,
            "kept_values": 0 if kept is None else kept.values,
            "texts": index.has_texts,
            "known_texts": store.known_texts()[:_TEXTS_KEPT] if made.golden else [],
        }
    }


def packed(kept: Float16[np.ndarray, "regions width"] | None) -> str | None:
    """Kept regions as text, for a system that takes no bytes."""
    return None if kept is None else base64.b64encode(kept.tobytes()).decode()


def _rows(part: OpenPart, rows: Int64[np.ndarray, " some"], kinds: Mapping[str, Kind]) -> Rows:
    segment = part.segment
    columns = segment.columns.take(rows)
    catalogue = None if segment.catalogue is None else segment.catalogue.take(rows).columns
    nothing = [None] * len(rows)
    return Rows(
        ids=np.ascontiguousarray(part.ids(rows)),
        vectors=np.ascontiguousarray(segment.vectors(rows)),
        regions=columns,
        texts=[list(part.texts.of(one)) if part.texts else [] for one in columns.ids.tolist()],
        values=_values(part, rows, kinds),
        titles=nothing if catalogue is None else catalogue["title"].to_pylist(),
        photos=nothing if catalogue is None else catalogue["photo"].to_pylist(),
        kept=None if segment.kept is None else segment.kept.take(rows),
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


def stamp_of(collection: str, card: dict[str, Any]) -> str:
    """Names the state of a collection that changes its card with each export or sync."""
    written = json.dumps([collection, card], sort_keys=True)
    return hashlib.sha256(written.encode()).hexdigest()[:16]
