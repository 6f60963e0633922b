"""What does a shop sell? Its table of products: ids, titles, photos, and whatever else it says of them.

The first file of a shop's own. Read with the one strict reader of tables (`tables.py`). Knows no photo's content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from jaxtyping import Shaped

from shopwindow.data.tables import (
    Kind,
    Table,
    exact_number,
    find_columns,
    kind_of_cells,
    no_column,
    open_table,
    plain_name,
    read_ids,
)
from shopwindow.files import DataError

ID_NAMES: Final = (
    "id", "product_id", "sku", "item_id", "item", "article_id", "article", "variant_id", "product_code", "item_code",
    "code", "ean", "ean13", "gtin", "upc", "barcode", "asin", "uid", "product", "pid",
)  # fmt: skip
USUAL: Final[Mapping[str, Sequence[str]]] = {
    "id": ID_NAMES,
    "title": (
        "title", "name", "product_name", "product_title", "display_name", "item_name", "label", "caption",
    ),
    "photo": (
        "photo", "photos", "photo_path", "photo_url", "image", "images", "image_path", "image_url", "image_link",
        "image_urls", "img", "img_url", "picture", "picture_url", "file_name", "file", "path", "url",
    ),
}  # fmt: skip
_CODES: Final = frozenset({"ean", "ean13", "gtin", "upc", "isbn", "barcode", "zip", "phone"})
_CODE_DIGITS: Final = 12
"""Whole numbers with as many digits are codes, not amounts."""


@dataclass(frozen=True)
class Products:
    """A shop's products, each once, in the order of their file.

    `photos` are paths, URLs or nothing, as written. `columns` are the others: float64 where every value is a number,
    else text; null where there is no value. `found` names the column of each role (id, title, photo).
    """

    ids: Shaped[np.ndarray, " products"]
    titles: list[str] | None
    photos: list[tuple[str, ...]] | None
    columns: pa.Table
    found: dict[str, str]
    path: str

    def __len__(self) -> int:
        return len(self.ids)


def read_products(
    path: str | Path, *, id: str | None = None, title: str | None = None, photo: str | None = None
) -> Products:
    """The products of a CSV, TSV, Parquet or JSON lines file (`open_table`).

    Columns are found by their usual names (`USUAL`) or given. A cell of photos may hold several with | between them.
    A column of codes (00123, EAN) is text as written, also where all are digits; `price:number` or `code:word` in the
    header settles it. A file of photos alone (Hugging Face's metadata.csv) has its `file_name` as id.

    Raises: DataError naming line and field: as `open_table`, and for no column of ids, an id that is empty, too long or
    repeated, a column without a name, no product.
    """
    table = open_table(path, several=True)
    found = find_columns(table, USUAL, {"id": id, "title": title, "photo": photo})
    id_column = found.get("id")
    if id_column is None:
        id_column = next((name for name in table.names if plain_name(name) == "filename"), None)
    if id_column is None:
        raise no_column(table, "ids", ID_NAMES)
    if "" in table.names:
        place = table.names.index("") + 1
        raise DataError(f"column {place} has no name in the header", path=table.path, line=1)
    found = {"id": id_column} | found
    cells, lines = _read_cells(table)
    ids = read_ids(table, cells[id_column], lines, id_column)
    titles = cells[found["title"]] if "title" in found else None
    photos = None if "photo" not in found else [_sources(cell) for cell in cells[found["photo"]]]
    others = [name for name in table.names if name not in found.values()]
    columns = {name: _column(table, name, cells[name], lines) for name in others}
    # without any column the number of rows would be lost
    other = pa.table(columns) if columns else pa.table({"": pa.nulls(len(ids))}).select([])
    return Products(ids, titles, photos, other, found, table.path)


def _read_cells(table: Table) -> tuple[dict[str, list[str]], list[int]]:
    """The cells by column, equal ones stored once, and the line of every row."""
    columns: list[list[str]] = [[] for _ in table.names]
    lines: list[int] = []
    kept: dict[str, str] = {}
    for line, row in table.rows:
        lines.append(line)
        for column, cell in zip(columns, row, strict=True):
            column.append(kept.setdefault(cell, cell))
    if not lines:
        raise DataError("holds no product", path=table.path)
    return dict(zip(table.names, columns, strict=True)), lines


def _sources(cell: str) -> tuple[str, ...]:
    """
    >>> _sources("a.jpg | b.jpg"), _sources("")
    (('a.jpg', 'b.jpg'), ())
    """
    return tuple(part for part in map(str.strip, cell.split("|")) if part)


def _column(table: Table, name: str, cells: list[str], lines: list[int]) -> pa.Array:
    """Numbers or text, null for an empty cell. Raises: DataError for no number where the header wants some."""
    kind = table.kinds.get(name)
    if kind is None:
        kind = _kind_of(table, name, cells, lines)
    if kind == "word":
        return pa.array([cell or None for cell in cells], pa.string())
    numbers: list[float | None] = []
    for cell, line in zip(cells, lines, strict=True):
        try:
            numbers.append(exact_number(cell) if cell else None)
        except ValueError as error:
            raise table.error(str(error), line, name) from error
    return pa.array(numbers, pa.float64())


def _kind_of(table: Table, name: str, cells: list[str], lines: list[int]) -> Kind:
    """As `kind_of_cells`, and columns of codes by their names or lengths are words."""
    filled = set(cells) - {""}
    if plain_name(name) in _CODES or all(cell.isdecimal() and len(cell) >= _CODE_DIGITS for cell in filled):
        return "word"
    return kind_of_cells(table, name, cells, lines)
