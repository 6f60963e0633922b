"""How does an immutable part of an index lie on disk, and which of its products come first for a vector?

A segment is a folder of numpy files, mapped into memory: codes of the vectors, ids, and what is shown of
a product. It is written once and never changed. Knows no words and no model.

```
segment.json                      format, coding, counts
ids.npy, rising.npy, id_order.npy product ids by row; rising; the rows of the rising ones
codes.npy, centre.npy, scale.npy  what every scan reads (vectors.py)
finest*.npy                       vectors for re-scoring, where the codes are not the vectors themselves
means.npy, bounds.npy             cells (cells.py), in large segments; rows of a cell lie side by side
sizes, region_bounds, boxes, labels, source, dataset_row (.npy)   what is shown, and where the regions are
values.arrow                      the shop's own columns (attributes.py), where there are any
kept_regions, kept_bounds (.npy)  regions for re-ranking (kept_regions.py), where they are kept
```
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, Shaped

from shopwindow.files import DataError, read_text
from shopwindow.search.arrays import bounds_of, load_array, load_bounds, ranges, save_array, save_pieces
from shopwindow.search.attributes import ATTRIBUTES_FILE, Attributes
from shopwindow.search.cells import Cells, cell_count, part_into_cells
from shopwindow.search.kept_regions import KeptRegions
from shopwindow.search.vectors import Coder, Coding

CARD: Final = "segment.json"
FORMAT: Final = "shopwindow segment 2"
_ROWS_AT_ONCE: Final = 65_536
_SCORES_AT_ONCE: Final = 2**24
_FEW_ROWS: Final = 20_000
"""So few allowed rows are all scanned, whatever the cells say."""
_MORE: Final = {"float32": 4, "int8": 4, "binary": 20}
"""How many times k candidates of a quick scan are scored anew."""
_ROUNDING: Final = 1e-5
"""Quick scores are float32 sums in any order: nearer than this they count as tied until scored anew."""


@dataclass(frozen=True)
class Columns:
    """What an index keeps of products besides vectors. The regions of product p are rows `region_bounds[p]` to
    `region_bounds[p + 1]` of boxes and labels. `source` numbers the dataset, `dataset_row` is the row in it.
    """

    ids: Int64[np.ndarray, " products"]
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
    def join(cls, parts: list[Columns]) -> Columns:
        """The products of several, end to end."""
        counts = np.concatenate([np.diff(part.region_bounds) for part in parts])
        columns = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)
        }
        columns["region_bounds"] = bounds_of(counts)
        return cls(**columns)


@dataclass(frozen=True)
class Segment:
    """An opened segment. Rows are counted from 0."""

    name: str
    columns: Columns
    rising: Int64[np.ndarray, " products"]
    id_order: Int64[np.ndarray, " products"]
    coder: Coder
    codes: Shaped[np.ndarray, "products code"]
    finest_coder: Coder
    finest: Shaped[np.ndarray, "products finest"]
    cells: Cells | None
    bytes_per_product: tuple[int, int]
    attributes: Attributes | None = None
    kept: KeptRegions | None = None

    @classmethod
    def open(cls, folder: Path) -> Segment:
        """Maps the files of a segment.

        Raises: DataError naming the file that is missing or broken; FileNotFoundError where the folder is gone.
        """
        card = _read_card(folder)
        try:
            columns = Columns(**{field.name: _load(folder, field.name) for field in fields(Columns)})
            load_bounds(folder / "region_bounds.npy", len(columns.boxes))
            coder = Coder(card["precision"], card["unit"], _load(folder, "centre"), _load(folder, "scale"))
            codes = _load(folder, "codes")
            finest_coder, finest = coder, codes
            if card["finest"] is not None:
                parts = _load(folder, "finest_centre"), _load(folder, "finest_scale")
                finest_coder, finest = Coder(card["finest"], card["unit"], *parts), _load(folder, "finest")
            cells = Cells(_load(folder, "means"), _load(folder, "bounds")) if card["cells"] else None
            values = folder / ATTRIBUTES_FILE
            kept_values = int(card["kept"])
            segment = cls(
                folder.name,
                columns,
                _load(folder, "rising"),
                _load(folder, "id_order"),
                coder,
                codes,
                finest_coder,
                finest,
                cells,
                (int(card["bytes"][0]), int(card["bytes"][1])),
                Attributes.open(values) if values.is_file() else None,
                KeptRegions.open(folder, kept_values) if kept_values else None,
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"broken segment: {error!r}", path=folder / CARD) from error
        _check_belonging(segment, int(card["products"]), folder)
        return segment

    def __len__(self) -> int:
        return len(self.columns.ids)

    @property
    def width(self) -> int:
        """Values of the finest vectors kept."""
        return len(self.finest_coder.centre)

    def rows_of(self, product_ids: Int64[np.ndarray, " asked"]) -> Int64[np.ndarray, " asked"]:
        """The row of each product, -1 where there is none."""
        places = np.minimum(np.searchsorted(self.rising, product_ids), len(self) - 1)
        return np.where(self.rising[places] == product_ids, self.id_order[places], -1)

    def vectors(self, rows: Int64[np.ndarray, " rows"]) -> Float32[np.ndarray, "rows width"]:
        """The vectors of some products, as exactly as they are kept."""
        return self.finest_coder.decode(self.finest[rows])

    def scores(
        self, query: Float32[np.ndarray, " hidden"], rows: Int64[np.ndarray, " rows"]
    ) -> Float64[np.ndarray, " rows"]:
        """The scores of some products with a query vector, from the finest vectors kept."""
        return self.finest_coder.score(self.asked(query), self.finest[rows])

    def asked(self, query: Float32[np.ndarray, " hidden"]) -> Float32[np.ndarray, " width"]:
        """A query vector as it is compared with `vectors`."""
        asked: Float32[np.ndarray, " width"] = self.finest_coder.ask(query[None])[0]
        return asked

    def candidates(
        self,
        query: Float32[np.ndarray, " hidden"],
        k: int,
        *,
        probes: int,
        allowed: Bool[np.ndarray, " products"] | None = None,
    ) -> Int64[np.ndarray, " rows"]:
        """Rows among which the best k are likely to be, by quick scores of codes; `probes` cells are looked into."""
        if allowed is not None and np.count_nonzero(allowed) <= _FEW_ROWS:
            rows = np.flatnonzero(allowed)
            quick = self.coder.scan(self.coder.ask(query[None]), self.codes[rows])[0]
            return _taken(rows, quick, self._wanted(k))
        if self.cells is None:
            return next(self._scan(self.coder, self.codes, query[None], self._wanted(k), allowed))
        asked = self.coder.ask(query[None])
        if allowed is not None:
            probes = math.ceil(probes * len(self) / np.count_nonzero(allowed))
        slices = self.cells.nearest(query, probes)
        rows = np.concatenate([np.arange(start, end) for start, end in slices.tolist()])
        quick = np.concatenate(
            [self.coder.scan(asked, self.codes[start:end])[0] for start, end in slices.tolist()]
        )
        if allowed is not None:
            rows, quick = rows[allowed[rows]], quick[allowed[rows]]
        return _taken(rows, quick, self._wanted(k))

    def exact_candidates(
        self,
        queries: Float32[np.ndarray, "queries hidden"],
        k: int,
        *,
        allowed: Bool[np.ndarray, " products"] | None = None,
    ) -> Iterator[Int64[np.ndarray, " rows"]]:
        """For each query, rows among which the best k are for sure: every finest vector is read."""
        yield from self._scan(self.finest_coder, self.finest, queries, k, allowed)

    def _wanted(self, k: int) -> int:
        if self.codes is self.finest:
            return k
        return max(k * _MORE[self.coder.precision], 10 * _MORE[self.coder.precision])

    def _scan(
        self,
        coder: Coder,
        codes: Shaped[np.ndarray, "products code"],
        queries: Float32[np.ndarray, "queries hidden"],
        wanted: int,
        allowed: Bool[np.ndarray, " products"] | None,
    ) -> Iterator[Int64[np.ndarray, " rows"]]:
        at_once = max(1, _SCORES_AT_ONCE // len(self))
        for first in range(0, len(queries), at_once):
            asked = coder.ask(queries[first : first + at_once])
            quick = np.empty((len(asked), len(self)), np.float32)
            for start in range(0, len(self), _ROWS_AT_ONCE):
                piece = slice(start, start + _ROWS_AT_ONCE)
                quick[:, piece] = coder.scan(asked, codes[piece])
            if allowed is not None:
                quick[:, ~allowed] = -np.inf
            for row in quick:
                yield _best(row, wanted)


def write_segment(
    folder: Path,
    vectors: Float32[np.ndarray, "products hidden"],
    columns: Columns,
    *,
    coding: Coding,
    unit: bool,
    approximate: bool,
    rng: np.random.Generator,
    parted: tuple[Cells, Int64[np.ndarray, " products"]] | None = None,
    attributes: Attributes | None = None,
    kept: KeptRegions | None = None,
) -> None:
    """Writes a segment into an empty folder, its card last. `approximate`: with cells, `parted` if
    they are known. `attributes` and `kept`: of the products, in their order.

    Raises: OSError where the disk is full.
    """
    cells = None
    order = np.arange(len(vectors))
    if approximate:
        cells, order = parted or part_into_cells(vectors, cells=cell_count(len(vectors)), rng=rng)
        save_array(folder / "means.npy", cells.means)
        save_array(folder / "bounds.npy", cells.offsets)
    sample = np.sort(rng.choice(len(vectors), min(len(vectors), 2 * _ROWS_AT_ONCE), replace=False))
    coder = Coder.fit(vectors[sample], precision=coding.precision, dimensions=coding.dimensions, unit=unit)
    _save_codes(folder, "", coder, vectors, order)
    rescore = coding.needs_rescoring(vectors.shape[1])
    if rescore != "none":
        _save_codes(
            folder, "finest_", Coder.fit(vectors[sample], precision=rescore, unit=unit), vectors, order
        )
    taken = columns.take(order)
    for field in fields(Columns):
        save_array(folder / f"{field.name}.npy", getattr(taken, field.name))
    if attributes is not None:
        attributes.take(order).write(folder / ATTRIBUTES_FILE)
    if kept is not None:
        kept.write(folder, order)
    rising = np.argsort(taken.ids, kind="stable")
    save_array(folder / "id_order.npy", rising)
    save_array(folder / "rising.npy", taken.ids[rising])
    card = {
        "format": FORMAT,
        "products": len(vectors),
        "precision": coding.precision,
        "finest": None if rescore == "none" else rescore,
        "unit": unit,
        "bytes": coding.bytes_per_product(vectors.shape[1]),
        "cells": len(cells.means) if cells else 0,
        "kept": 0 if kept is None else kept.values,
    }
    (folder / CARD).write_text(json.dumps(card) + "\n", encoding="utf-8")


def _check_belonging(segment: Segment, products: int, folder: Path) -> None:
    """Raises: DataError where files of a segment do not belong together."""
    columns = segment.columns
    by_product = (columns.ids, columns.sizes, columns.source, columns.dataset_row, columns.region_bounds[1:])
    arrays = (*by_product, segment.rising, segment.id_order, segment.codes, segment.finest)
    optional = [some for some in (segment.attributes, segment.kept) if some is not None]
    if {len(some) for some in (*arrays, *optional)} != {products}:
        raise DataError("its files differ in the number of products", path=folder)
    if len(columns.boxes) != len(columns.labels):
        raise DataError("its files differ in the number of regions", path=folder)
    for coder, codes in ((segment.coder, segment.codes), (segment.finest_coder, segment.finest)):
        values = len(coder.centre)
        wanted = values // 8 if coder.precision == "binary" else values
        if codes.ndim != 2 or codes.shape[1] != wanted or len(coder.scale) != values:
            raise DataError("its files differ in the number of values", path=folder)
    if segment.cells is not None and int(segment.cells.offsets[-1]) != products:
        raise DataError("its cells hold another number of products", path=folder)


def _load(folder: Path, name: str) -> np.ndarray:
    return load_array(folder / f"{name}.npy")


def _save_codes(
    folder: Path, prefix: str, coder: Coder, vectors: np.ndarray, order: Int64[np.ndarray, " products"]
) -> None:
    first = coder.encode(vectors[order[:1]])
    name = "finest.npy" if prefix else "codes.npy"
    pieces = (
        coder.encode(np.asarray(vectors[order[start : start + _ROWS_AT_ONCE]]))
        for start in range(0, len(order), _ROWS_AT_ONCE)
    )
    save_pieces(folder / name, pieces, (len(order), first.shape[1]), first.dtype)
    save_array(folder / f"{prefix}centre.npy", coder.centre)
    save_array(folder / f"{prefix}scale.npy", coder.scale)


def _taken(
    rows: Int64[np.ndarray, " rows"], quick: Float32[np.ndarray, " rows"], wanted: int
) -> Int64[np.ndarray, " best"]:
    best: Int64[np.ndarray, " best"] = rows[_best(quick, wanted)]
    return best


def _best(quick: Float32[np.ndarray, " rows"], wanted: int) -> Int64[np.ndarray, " best"]:
    """The places of the best `wanted` finite scores and of all that are tied with the last, within rounding."""
    if wanted < len(quick):
        last = float(np.partition(quick, len(quick) - wanted)[len(quick) - wanted])
        floor = last - _ROUNDING * max(1.0, abs(last)) if math.isfinite(last) else last
    else:
        floor = -math.inf
    places: Int64[np.ndarray, " best"] = np.flatnonzero((quick >= floor) & (quick > -np.inf))
    return places


def _read_card(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    try:
        card = json.loads(read_text(folder / CARD))
    except json.JSONDecodeError as error:
        raise DataError(f"no JSON: {error}", path=folder / CARD) from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise DataError(f"not of the format {FORMAT!r}", path=folder / CARD)
    return card
