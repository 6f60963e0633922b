"""What does a shop's table say of its products? A row per product: its id, then numbers and words.

CSV, TSV or Parquet, read strictly: an error names line (Parquet: row) and field. Only the kind of a column is guessed.
Knows no index.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, Shaped

from shopwindow.data.tables import (
    Table,
    as_words,
    exact_number,
    is_code,
    is_number,
    kind_of_cells,
    not_a_number,
    open_table,
    read_ids,
)
from shopwindow.files import DataError
from shopwindow.ids import positions
from shopwindow.search.attributes import OWN_COLUMNS, TYPES, Attributes
from shopwindow.search.conditions import COLUMN_NAME, Kind, shortened
from shopwindow.search.hits import Value

ID_COLUMN: Final = "product_id"
MOST_COLUMNS: Final = 64
LONGEST_WORD: Final = 200
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CELLS_KEPT: Final = 100_000
"""Different cells of a column that are looked up when they come again, not read anew."""


@dataclass(frozen=True)
class ProductTable:
    """A shop's table: ids, each once, and the values of each."""

    path: str
    ids: Shaped[np.ndarray, " rows"]
    values: Attributes

    def rows_of(self, product_ids: Shaped[np.ndarray, " products"]) -> Int64[np.ndarray, " products"]:
        """The row of each product, -1 where there is none."""
        order = np.argsort(self.ids, kind="stable")
        places = positions(product_ids, self.ids[order])
        return np.where(places >= 0, order[places], -1)

    def of_products(self, product_ids: Shaped[np.ndarray, " products"]) -> Attributes:
        """The values of these products, in their order; of one without a row none."""
        return self.values.take(self.rows_of(product_ids))

    def mismatch_with(self, product_ids: Shaped[np.ndarray, " products"]) -> str:
        """How many products have no row, in words; empty where all have one. Rows of other products are no mismatch:
        one table serves several datasets.

        Raises: DataError where the table has a row for none of them: its ids are others.
        """
        known = int((self.rows_of(product_ids) >= 0).sum())
        if not known:
            raise DataError(
                f"none of its {len(self.ids):,} products is in the dataset or index",
                path=self.path,
                field=ID_COLUMN,
            )
        without = len(product_ids) - known
        return f"{self.path}: {without:,} of {len(product_ids):,} products have no row" if without else ""


def read_product_table(path: str | Path, *, kinds: Mapping[str, Kind] | None = None) -> ProductTable:
    """A table with a header line, whose first column is `product_id` and whose others are numbers or words.

    Tabs separate cells where the header has one (no quoting then). Else commas do, or semicolons where the header has
    no comma, quoted as RFC 4180 has it. Parquet is known by its first bytes. Ids are integers, or text where some are
    no plain integers (`00123`, `SKU-42`). Numbers have a decimal point; words are kept in Unicode's form NFC. The kind
    of a column is what the header says (`name:word`, `name:number`), else what `kinds` says. Else it is one of numbers
    where all values are and none is a code (`00123`, digits that a number would lose), and one of words otherwise. In
    Parquet the type decides. An empty cell is no value.

    Raises: DataError naming line and field. Causes of a row: no UTF-8, another length, a number that is none or not
    finite, a word with control characters or | or too long. Causes of an id: empty, too long or repeated. Causes of a
    column: a name that is repeated or has other than letters, digits and _; no value and no kind. Causes of the
    table: more than MOST_COLUMNS, no row.
    """
    table = open_table(path)
    columns = _columns(table, kinds or {})
    id_place = table.names.index(ID_COLUMN)
    places: list[int] = []
    ids: list[str] = []
    for line, row in table.rows:
        places.append(line)
        ids.append(row.pop(id_place))
        for column, cell in zip(columns, row, strict=True):
            column.add(cell, line)
    if not ids:
        raise DataError("holds no product, only a header line", path=table.path)
    product_ids = read_ids(table, ids, places, ID_COLUMN)
    return ProductTable(
        table.path, product_ids, Attributes({one.name: one.finished() for one in columns}, len(product_ids))
    )


class _Column:
    """The values of a column as they are read: numbers or words, None where there is no value."""

    def __init__(self, table: Table, name: str, before: Kind | None) -> None:
        declared = table.kinds.get(name)
        self._table = table
        self.name = name
        self._kind = declared or before
        self._as_before = declared is None and before is not None
        self._values: list[Value | None] = []
        self._read: dict[str, Value | None] = {}
        self._cells: list[str] = []
        self._same: dict[str, str] = {}
        self._lines: list[int] = []

    def add(self, cell: str, line: int) -> None:
        """Takes the next row's value. Raises: DataError."""
        if self._kind is None:  # decided once all cells are known
            self._cells.append(self._same.setdefault(cell, cell))
            self._lines.append(line)
            return
        if cell in self._read:
            value = self._read[cell]
        else:
            value = self._value_of(cell, line) if cell else None
            if len(self._read) < _CELLS_KEPT:
                self._read[cell] = value
        self._values.append(value)

    def _value_of(self, text: str, line: int) -> Value:
        try:
            if self._kind == "word":
                return check_word(text)
            if self._as_before and is_code(text):
                raise ValueError(f"{shortened(text)} is a code")
            return exact_number(text)
        except ValueError as error:
            problem = str(error)
            if self._kind == "number" and "is no finite number" in problem:
                problem = not_a_number(text)
            raise self._table.error(f"{problem}{self._hint()}", line, self.name) from error

    def _hint(self) -> str:
        """Why a number was wanted, where the header does not say it."""
        if self._kind != "number":
            return ""
        if self._as_before:
            return "; the column holds numbers in the index"
        return f"; {as_words(self.name)}" if self._cells else ""

    def finished(self) -> pa.Array:
        """The whole column. Raises: DataError where no row has a value and nothing says its kind."""
        if self._kind is None:
            self._kind = self._guessed()
            for cell, line in zip(self._cells, self._lines, strict=True):
                self.add(cell, line)
        return pa.array(self._values, TYPES[self._kind])

    def _guessed(self) -> Kind:
        """As `kind_of_cells`; where the first value is a number, the others must be."""
        if not any(self._cells):
            problem = f"its kind in the header, as in {self.name}:number"
            raise DataError(_no_value(problem), path=self._table.path, field=self.name)
        kind = kind_of_cells(self._table, self.name, self._cells, self._lines)
        first = next(cell for cell in self._cells if cell)
        if kind == "word" and is_number(first) and not any(is_code(cell) for cell in self._same):
            return "number"
        return kind


def _no_value(wanted: str) -> str:
    return f"has no value in any row: leave it out, or give it {wanted}"


def check_word(text: str) -> str:
    """The word as it is kept, if it can be one. Raises: ValueError."""
    text = unicodedata.normalize("NFC", text)
    if len(text) > LONGEST_WORD:
        raise ValueError(f"{shortened(text)} has {len(text)} characters, a word may have {LONGEST_WORD}")
    if _CONTROL.search(text):
        raise ValueError(f"{shortened(text)} holds a control character")
    if "|" in text or text.startswith("="):
        raise ValueError(f"{shortened(text)} cannot be asked for: a word holds no | and begins with no =")
    return text


def _columns(table: Table, kinds: Mapping[str, Kind]) -> list[_Column]:
    """A column for each of the table's beside the ids. Raises: DataError for a header that is not as wanted."""
    first = next(iter(table.names), "")
    if table.unit == "row" and ID_COLUMN not in table.names:
        raise DataError(f"a column {ID_COLUMN} was wanted", path=table.path)
    if table.unit == "line" and first != ID_COLUMN:
        raise DataError(
            f"a header line was wanted, its first column {ID_COLUMN}, with commas, semicolons or tabs; got "
            f"{shortened(first)}",
            path=table.path,
            line=1,
        )
    names = [name for name in table.names if name != ID_COLUMN]
    check_names(names, table.path, line=1 if table.unit == "line" else None)
    return [_Column(table, name, kinds.get(name)) for name in names]


def check_names(names: Sequence[str], path: str, *, line: int | None = None) -> None:
    """Raises: DataError for names of columns that cannot be asked for, or that cannot be told apart."""
    if not names:
        raise DataError(f"holds no column beside {ID_COLUMN}", path=path, line=line)
    if len(names) > MOST_COLUMNS:
        raise DataError(f"{len(names)} columns, at most {MOST_COLUMNS} are kept", path=path, line=line)
    for name in names:
        if ":" in name:
            problem = f"the kind is number or word, as in {name.partition(':')[0][:40]}:word"
            raise DataError(f"column {shortened(name)}: {problem}", path=path, line=line)
        if not COLUMN_NAME.fullmatch(name):
            raise DataError(
                f"column {shortened(name)}: a name has letters, digits and _, begins with a letter, and has at most "
                "40 characters",
                path=path,
                line=line,
            )
        if name.lower() in OWN_COLUMNS:
            raise DataError(f"column {name!r}: every index has one of this name", path=path, line=line)
