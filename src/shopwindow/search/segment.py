"""How does an immutable part of an index lie on disk, and which of its products come first for a vector?

A segment is a folder of files, mapped into memory: vectors, ids, and what is shown of a product. Rows stand by rising
id, so that scores equal by row are equal by id. It is written once and never changed. Knows no words and no model.

```
segment.json                      format and counts
ids.npy                           product ids, rising: int64 where all are integers, else text
vectors.npy                       float32
ivf.faiss                         cells of codes of the vectors (neighbours.py), in large segments
sizes, region_bounds, boxes, labels, source, dataset_row (.npy)   what is shown, and where the regions are
values.arrow                      the shop's own columns (attributes.py), where there are any
catalogue.arrow                   title and first photo (path or URL) of each product, where the dataset has them
kept_regions, kept_bounds (.npy)  regions for re-ranking (kept_regions.py), where they are kept
```
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int32, Int64, Shaped

from shopwindow.files import DataError, read_card
from shopwindow.ids import joined_ids
from shopwindow.search.arrays import bounds_of, load_array, load_bounds, ranges, save_array, save_pieces
from shopwindow.search.attributes import ATTRIBUTES_FILE, Attributes
from shopwindow.search.conditions import PHOTO_COLUMNS
from shopwindow.search.hits import Filter
from shopwindow.search.kept_regions import KeptRegions
from shopwindow.search.neighbours import Exact, Ivf, cell_count, write_ivf

CARD: Final = "segment.json"
CATALOGUE_FILE: Final = "catalogue.arrow"
FORMAT: Final = "shopwindow segment 2"
VECTORS_FILE: Final = "vectors.npy"
IVF_FILE: Final = "ivf.faiss"
_ROWS_AT_ONCE: Final = 65_536


@dataclass(frozen=True)
class Columns:
    """What an index keeps of products besides vectors. The regions of product p are rows `region_bounds[p]` to
    `region_bounds[p + 1]` of boxes and labels. `source` numbers the dataset, `dataset_row` is the row in it.
    """

    ids: Shaped[np.ndarray, " products"]
    sizes: Int32[np.ndarray, "products 2"]
    region_bounds: Int64[np.ndarray, " bounds"]
    boxes: Float32[np.ndarray, "regions 4"]
    labels: Int32[np.ndarray, " regions"]
    source: Int32[np.ndarray, " products"]
    dataset_row: Int64[np.ndarray, " products"]

    def take(self, rows: Int64[np.ndarray, " chosen"]) -> Columns:
        """The chosen products, in the order given."""
        counts = np.diff(self.region_bounds)[rows]
        regions = ranges(self.region_bounds, rows)
        return Columns(
            ids=self.ids[rows],
            sizes=self.sizes[rows],
            region_bounds=bounds_of(counts),
            boxes=self.boxes[regions],
            labels=self.labels[regions],
            source=self.source[rows],
            dataset_row=self.dataset_row[rows],
        )

    @classmethod
    def join(cls, parts: Sequence[Columns]) -> Columns:
        """The products of several, end to end."""
        counts = np.concatenate([np.diff(part.region_bounds) for part in parts])
        columns = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(cls)
            if field.name != "ids"
        }
        columns["region_bounds"] = bounds_of(counts)
        return cls(ids=joined_ids([part.ids for part in parts]), **columns)


@dataclass(frozen=True)
class Segment:
    """An opened segment. Rows are counted from 0, and stand by rising id. `ivf`: of a large one. `catalogue`: columns
    `title` and `photo`. `backbone`: the fingerprint of what made its features of photos; None where nobody said."""

    name: str
    columns: Columns
    exact: Exact
    ivf: Ivf | None = None
    attributes: Attributes | None = None
    kept: KeptRegions | None = None
    catalogue: Attributes | None = None
    backbone: str | None = None

    @classmethod
    def open(cls, folder: Path) -> Segment:
        """Maps the files of a segment.

        Raises: DataError naming the file that is missing or broken; FileNotFoundError where the folder is gone.
        """
        card = _read_card(folder)
        try:
            columns = Columns(**{field.name: _load(folder, field.name) for field in fields(Columns)})
            load_bounds(folder / "region_bounds.npy", len(columns.boxes))
            vectors = load_array(folder / VECTORS_FILE)
            if vectors.dtype != np.float32 or vectors.ndim != 2:
                raise DataError(f"{vectors.dtype} of shape {list(vectors.shape)}", path=folder / VECTORS_FILE)
            kept_values, products = int(card["kept"]), int(card["products"])
            segment = cls(
                folder.name,
                columns,
                Exact(vectors),
                Ivf.open(folder / IVF_FILE, vectors, probes=1) if card["cells"] else None,
                Attributes.open_if_there(folder / ATTRIBUTES_FILE),
                KeptRegions.open(folder, kept_values) if kept_values else None,
                Attributes.open_if_there(folder / CATALOGUE_FILE),
                card.get("backbone"),
            )
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise DataError(f"broken segment: {repr(error)[:200]}", path=folder / CARD) from error
        _check_belonging(segment, products, folder)
        return segment

    def __len__(self) -> int:
        return len(self.columns.ids)

    @property
    def dimensions(self) -> int:
        """Values of a vector."""
        return int(self.exact.vectors.shape[1])

    @property
    def cells(self) -> int:
        """Of how many cells a search reads a few; 0 where every vector is read."""
        return 0 if self.ivf is None else int(self.ivf.index.nlist)

    @property
    def has_text_ids(self) -> bool:
        """Whether some id is no integer."""
        return self.columns.ids.dtype.kind == "U"

    def rows_of(self, product_ids: Shaped[np.ndarray, " asked"]) -> Int64[np.ndarray, " asked"]:
        """The row of each product, -1 where there is none. Ids may be integers or text, whatever the segment's are."""
        ids = self.columns.ids
        if ids.dtype.kind != "U" and product_ids.dtype.kind == "U":
            integers = [integer_of(text) for text in product_ids.tolist()]
            rows = self.rows_of(np.array([0 if one is None else one for one in integers], np.int64))
            return np.where([one is None for one in integers], -1, rows)
        asked = product_ids if ids.dtype.kind == "i" else product_ids.astype(np.str_)
        # Cut to the segment's own type: else numpy would copy all of its ids into a wider one.
        places = np.minimum(np.searchsorted(ids, asked.astype(ids.dtype)), len(self) - 1)
        return np.where(ids[places] == asked, places, -1)

    def vectors(self, rows: Int64[np.ndarray, " rows"]) -> Float32[np.ndarray, "rows dimensions"]:
        """The vectors of some products."""
        taken: Float32[np.ndarray, "rows dimensions"] = self.exact.vectors[rows]
        return taken

    def passing(self, where: Filter) -> Bool[np.ndarray, " products"]:
        """Which products pass a filter. Raises: ValueError for a condition that does not fit its column."""
        columns = self.columns
        passes = np.ones(len(self), bool)
        if where.labels:
            wanted = np.isin(columns.labels, np.array(sorted(where.labels)))
            # Every product has a region, so no slice of the sum is empty.
            passes &= np.logical_or.reduceat(wanted, columns.region_bounds[:-1])
        for condition in where.conditions:
            if condition.column in PHOTO_COLUMNS:
                side = columns.sizes[:, PHOTO_COLUMNS.index(condition.column)]
                passes &= condition.holds(pa.array(side))
            elif self.attributes is None:
                passes[:] = False
            else:
                passes &= self.attributes.passing(condition)
        return passes


def write_segment(
    folder: Path,
    vectors: Float32[np.ndarray, "products dimensions"],
    columns: Columns,
    *,
    approximate: bool,
    attributes: Attributes | None = None,
    kept: KeptRegions | None = None,
    catalogue: Attributes | None = None,
    backbone: str | None = None,
) -> None:
    """Writes a segment into an empty folder, its card last. `approximate`: with cells. Products come in any order, and
    `vectors`, `attributes`, `kept` and `catalogue` in that of `columns`.

    Raises: OSError where the disk is full.
    """
    order = np.argsort(columns.ids, kind="stable")
    pieces = (vectors[order[at : at + _ROWS_AT_ONCE]] for at in range(0, len(order), _ROWS_AT_ONCE))
    save_pieces(folder / VECTORS_FILE, pieces, vectors.shape, np.dtype(np.float32))
    cells = cell_count(len(order)) if approximate else 0
    if cells:
        write_ivf(folder / IVF_FILE, load_array(folder / VECTORS_FILE), cells=cells)
    taken = columns.take(order)
    for field in fields(Columns):
        save_array(folder / f"{field.name}.npy", getattr(taken, field.name))
    for name, values in ((ATTRIBUTES_FILE, attributes), (CATALOGUE_FILE, catalogue)):
        if values is not None:
            values.take(order).write(folder / name)
    if kept is not None:
        kept.write(folder, order)
    card = {
        "format": FORMAT,
        "products": len(order),
        "cells": cells,
        "kept": 0 if kept is None else kept.values,
        "backbone": backbone,
    }
    (folder / CARD).write_text(json.dumps(card) + "\n", encoding="utf-8")


def integer_of(text: str) -> int | None:
    """The id as an integer where it is one written plainly and fits 64 bits."""
    with contextlib.suppress(ValueError):
        number = int(text)
        if str(number) == text and -(2**63) <= number < 2**63:
            return number
    return None


def _check_belonging(segment: Segment, products: int, folder: Path) -> None:
    """Raises: DataError where files of a segment do not belong together."""
    columns = segment.columns
    by_product = (columns.ids, columns.sizes, columns.source, columns.dataset_row, columns.region_bounds[1:])
    optional = [some for some in (segment.attributes, segment.kept, segment.catalogue) if some is not None]
    if {len(some) for some in (*by_product, segment.exact.vectors, *optional)} != {products}:
        raise DataError("its files differ in the number of products", path=folder)
    if len(columns.boxes) != len(columns.labels):
        raise DataError("its files differ in the number of regions", path=folder)
    if columns.ids.dtype.kind not in "iU" or not (columns.ids[1:] > columns.ids[:-1]).all():
        raise DataError("its ids are not of one kind and rising", path=folder)


def _load(folder: Path, name: str) -> np.ndarray:
    return load_array(folder / f"{name}.npy")


def _read_card(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    return read_card(folder / CARD, format=FORMAT, made_by="index make")
