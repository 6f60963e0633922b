"""How do a shop's values get into an index, stay in it, and change without its vectors?

Between the table that a shop writes (`product_table.py`) and the files of segments (`attributes.py`). Knows no vector.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from shopwindow.files import DataError, real_path, whole_directory
from shopwindow.ids import joined_ids
from shopwindow.search.attributes import ATTRIBUTES_FILE, Attributes, nothing_known
from shopwindow.search.index import (
    MANIFEST,
    SEGMENTS,
    Manifest,
    OpenIndex,
    Part,
    keep,
    link,
    named_by_content,
)
from shopwindow.search.lookup import OpenPart
from shopwindow.search.product_table import MOST_COLUMNS, ProductTable, read_product_table

Remark = Callable[[str], None]
"""Called with what a user should know, in words."""


def update_columns(index: str | Path, columns: str | Path, *, remark: Remark | None = None) -> Manifest:
    """Gives the products of an index the values of a new table; nothing is encoded.

    A product with a row takes its values in the table's columns, also none; everything else stays.
    Raises: DataError as `build_index` and `add_products` do of a table.
    """
    index = real_path(index)
    table = read_product_table(columns, kinds=Manifest.read(index).columns)
    with whole_directory(index, marker=MANIFEST) as folder:
        before = OpenIndex.open(index)
        manifest = with_columns(before.manifest, table.values, table.path)
        living = joined_ids([part.segment.columns.ids[part.living_rows] for part in before.parts])
        values_of(table, living, remark)
        keep(index, folder, before.manifest)
        if manifest.golden is not None:
            link(index / manifest.golden, folder / manifest.golden)
        pairs = zip(manifest.parts, before.parts, strict=True)
        parts = tuple(_updated(folder / SEGMENTS, part, opened, table) for part, opened in pairs)
        manifest = dataclasses.replace(manifest, parts=parts, revision=manifest.revision + 1)
        manifest.write(folder)
    return manifest


def values_of(
    table: ProductTable, product_ids: Shaped[np.ndarray, " products"], remark: Remark | None
) -> Attributes:
    """What a table says of these products, in their order. Raises: DataError where it knows none of them."""
    mismatch = table.mismatch_with(product_ids)
    if mismatch and remark is not None:
        remark(mismatch)
    return table.of_products(product_ids)


def values_to_add(
    before: OpenIndex,
    table: ProductTable | None,
    product_ids: Shaped[np.ndarray, " products"],
    remark: Remark | None,
) -> Attributes | None:
    """The values of products that are added or replaced, in their order: those they had, and over them the table's.

    None where no product has any. Raises: DataError where the table knows none of them.
    """
    held = _values_before(before, product_ids)
    if table is not None:
        values_of(table, product_ids, remark)
        return _laid_over(held, table, product_ids)
    if remark is not None and before.manifest.columns:
        without = len(held) - int(np.count_nonzero(held.valued))
        if without:
            remark(
                f"{without:,} of {len(held):,} products have no values and pass no filter; --columns gives some"
            )
    return held if held.columns else None


def _values_before(before: OpenIndex, product_ids: Shaped[np.ndarray, " products"]) -> Attributes:
    """The values that an index has of these products."""
    known, places = [], []
    numbers, rows = before.rows_of(product_ids)
    for number, part in enumerate(before.parts):
        held = np.flatnonzero(numbers == number)
        if part.segment.attributes is not None and len(held):
            known.append(part.segment.attributes.take(rows[held]))
            places.append(held)
    if not known:
        return nothing_known(len(product_ids))
    joined = np.full(len(product_ids), -1)
    joined[np.concatenate(places)] = np.arange(sum(map(len, known)))
    return Attributes.join(known).take(joined)


def _laid_over(
    held: Attributes, table: ProductTable, product_ids: Shaped[np.ndarray, " products"]
) -> Attributes:
    """What products have; of one with a row, in the table's columns what the row says, also nothing."""
    has_row = table.rows_of(product_ids) >= 0
    new, here = table.of_products(product_ids), np.arange(len(held))
    joined = Attributes.join([held, new])
    rows = {
        name: np.where(has_row, here + len(held), here) if name in new.columns else here
        for name in joined.columns
    }
    return Attributes({name: column.take(rows[name]) for name, column in joined.columns.items()}, len(held))


def with_columns(manifest: Manifest, values: Attributes, path: str) -> Manifest:
    """The index with these columns too.

    Raises: DataError where one is of the other kind, or named as one of the index but for capitals. DataError where
    they would be more than MOST_COLUMNS.
    """
    held = {name.lower(): name for name in manifest.columns}
    for name, kind in values.kinds.items():
        before = held.get(name.lower(), name)
        if before != name:
            raise DataError(f"the index has a column {before}", path=path, field=name)
        wanted = manifest.columns.get(name, kind)
        if wanted != kind:
            raise DataError(
                f"holds {kind}s, in the index it holds {wanted}s: say {name}:{wanted}, in Parquet by its type",
                path=path,
                field=name,
            )
    columns = {**manifest.columns, **values.kinds}
    if len(columns) > MOST_COLUMNS:
        raise DataError(
            f"{len(columns)} columns with those of the index, at most {MOST_COLUMNS} are kept", path=path
        )
    return dataclasses.replace(manifest, columns=columns)


def _updated(segments: Path, part: Part, opened: OpenPart, table: ProductTable) -> Part:
    """The segment with the table's values, under the name of its new content; the other files are the same."""
    ids = opened.segment.columns.ids
    if not (table.rows_of(ids) >= 0).any():
        return part
    values = _laid_over(opened.segment.attributes or nothing_known(len(ids)), table, ids)
    written = segments / ".new"
    written.mkdir()
    for path in sorted((segments / part.name).iterdir()):
        if path.name != ATTRIBUTES_FILE:
            link(path, written / path.name)
    values.write(written / ATTRIBUTES_FILE)
    name = named_by_content(written).name
    if name != part.name:
        shutil.rmtree(segments / part.name)
    return dataclasses.replace(part, name=name)
