"""What does a shop's table say of its products? A row per product: its id, then numbers and words.

CSV, TSV or Parquet, read strictly: an error names line (Parquet: row) and field. Only the kind of a column is guessed.
Knows no index.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64, Shaped

from shopwindow.files import STANDARD_STREAM, DataError, open_bytes, text_lines
from shopwindow.ids import RowError, ids_from_text, positions
from shopwindow.search.attributes import NUMBER, OWN_COLUMNS, TYPES, WORD, Attributes
from shopwindow.search.conditions import COLUMN_NAME, Kind, parse_number, shortened
from shopwindow.search.hits import Value

ID_COLUMN: Final = "product_id"
MOST_COLUMNS: Final = 64
LONGEST_WORD: Final = 200
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DECIMAL_COMMA: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]{3})*,[0-9]+")
_PARQUET: Final = b"PAR1"
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
        """How many products have no row, and how many rows no product, in words; empty where all match.

        Raises: DataError where the table has a row for none of them: its ids are others.
        """
        known = int((self.rows_of(product_ids) >= 0).sum())
        if not known:
            raise DataError(
                f"none of its {len(self.ids):,} products is in the dataset or index",
                path=self.path,
                field=ID_COLUMN,
            )
        parts = []
        if without := len(product_ids) - known:
            parts.append(f"{without:,} of {len(product_ids):,} products have no row")
        if strangers := len(self.ids) - known:
            parts.append(f"{strangers:,} rows are of other products")
        return f"{self.path}: {'; '.join(parts)}" if parts else ""


def read_product_table(path: str | Path, *, kinds: Mapping[str, Kind] | None = None) -> ProductTable:
    """A table with a header line, whose first column is `product_id` and whose others are numbers or words.

    Tabs separate cells where the header has one (no quoting then). Else commas do, or semicolons where the header has
    no comma, quoted as RFC 4180 has it. Parquet is known by its first bytes. Ids are integers, or text where some are
    no plain integers (`00123`, `SKU-42`). Numbers have a decimal point; words are kept in Unicode's form NFC. The kind
    of a column is what the header says (`name:word`, `name:number`), else what `kinds` says. Else its first value
    decides: numbers if it is one, words otherwise. In Parquet the type decides. An empty cell is no value.

    Raises: DataError naming line and field. Causes of a row: no UTF-8, another length, a number that is none or not
    finite, a word with control characters or | or too long. Causes of an id: empty, too long or repeated. Causes of a
    column: a name that is repeated or has other than letters, digits and _; no value and no kind. Causes of the
    table: more than MOST_COLUMNS, no row.
    """
    name = str(path)
    if name != STANDARD_STREAM:
        with open_bytes(name) as file:
            packed = file.read(len(_PARQUET)) == _PARQUET
        if packed:
            return _read_parquet(name, kinds or {})
    return _read_text(name, kinds or {})


class _Column:
    """The values of a column as they are read: numbers or words, None where there is no value."""

    def __init__(self, path: str, name: str, declared: Kind | None, before: Kind | None) -> None:
        self._path = path
        self.name = name
        self._kind = declared or before
        self._as_before = declared is None and before is not None
        self._values: list[Value | None] = []
        self._read: dict[str, Value | None] = {"": None}
        self._decided = 0

    def add(self, cell: str, line: int) -> None:
        """Takes the next row's value. Raises: DataError."""
        if cell in self._read:
            value = self._read[cell]
        else:
            value = self._value_of(cell.strip(), line)
            if len(self._read) < _CELLS_KEPT:
                self._read[cell] = value
        self._values.append(value)

    def _value_of(self, text: str, line: int) -> Value | None:
        if not text:
            return None
        if self._kind is None:
            self._kind, self._decided = _kind_of(text), line
        try:
            return parse_number(text) if self._kind == "number" else check_word(text)
        except ValueError as error:
            comma = ", a decimal point was wanted, as in 1.99" if _DECIMAL_COMMA.fullmatch(text) else ""
            problem = f"{error}{comma if self._kind == 'number' else ''}{self._hint(line)}"
            raise DataError(problem, path=self._path, line=line, field=self.name) from error

    def _hint(self, line: int) -> str:
        """Why a number was wanted, where the header does not say it."""
        if self._kind != "number":
            return ""
        if self._as_before:
            return "; the column holds numbers in the index"
        if not self._decided:
            return ""
        first = f", as the column's first value is (line {self._decided})" if line != self._decided else ""
        return f"{first}; {self.name}:word in the header makes the column one of words"

    def finished(self) -> pa.Array:
        """The whole column. Raises: DataError where no row has a value and nothing says its kind."""
        if self._kind is None:
            problem = f"its kind in the header, as in {self.name}:number"
            raise DataError(_no_value(problem), path=self._path, field=self.name)
        return pa.array(self._values, TYPES[self._kind])


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


def _kind_of(first: str) -> Kind:
    """Also `nan`, `inf`, `1_000` or `1,99` make a column one of numbers: they are told as wrong ones then."""
    if _DECIMAL_COMMA.fullmatch(first):
        return "number"
    try:
        float(first)
    except ValueError:
        return "word"
    return "number"


def _read_text(path: str, kinds: Mapping[str, Kind]) -> ProductTable:
    shown = "standard input" if path == STANDARD_STREAM else path
    lines = (line + "\n" for _, line in text_lines(path))
    first = next(lines, "")
    how: dict[str, Any] = {"delimiter": ";" if ";" in first and "," not in first else ",", "strict": True}
    if "\t" in first:
        how = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    reader = csv.reader(chain([first], lines), **how)
    rows = _rows(reader, shown)
    header = _header(shown, next(rows, (1, []))[1])
    columns = [_Column(shown, name, declared, kinds.get(name)) for name, declared in header]
    ids: list[str] = []
    places: list[int] = []
    for line, row in rows:
        if len(row) != 1 + len(columns):
            raise DataError(f"{len(row)} fields, the header has {1 + len(columns)}", path=shown, line=line)
        ids.append(row[0])
        places.append(line)
        for column, cell in zip(columns, row[1:], strict=True):
            column.add(cell, line)
    if not ids:
        raise DataError("holds no product, only a header line", path=shown)
    try:
        product_ids = ids_from_text(ids)
    except RowError as error:
        raise DataError(error.problem, path=shown, line=places[error.row], field=ID_COLUMN) from error
    if (twice := _first_twice(product_ids)) is not None:
        earlier, later = (places[one] for one in twice)
        raise DataError(
            f"product {product_ids[twice[1]]} stands in line {earlier} too",
            path=shown,
            line=later,
            field=ID_COLUMN,
        )
    return ProductTable(
        shown, product_ids, Attributes({one.name: one.finished() for one in columns}, len(product_ids))
    )


def _rows(reader: Any, path: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, with the number of their (last) line."""
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"no CSV: {error}", path=path, line=max(1, reader.line_num)) from error
        if row:
            yield reader.line_num, row


def _header(path: str, cells: Sequence[str]) -> list[tuple[str, Kind | None]]:
    """Name and kind, where it is said, of each column after the first."""
    names = [cell.strip() for cell in cells]
    if not names or names[0] != ID_COLUMN:
        raise DataError(
            f"a header line was wanted, its first column {ID_COLUMN}, with commas, semicolons or tabs; got "
            f"{shortened(names[0] if names else '')}",
            path=path,
            line=1,
        )
    columns: list[tuple[str, Kind | None]] = []
    for text in names[1:]:
        name, colon, kind = text.partition(":")
        if colon and kind not in ("number", "word"):
            raise DataError(
                f"column {shortened(text)}: the kind is number or word, as in {name[:40]}:word",
                path=path,
                line=1,
            )
        columns.append((name, ("number" if kind == "number" else "word") if colon else None))
    check_names([name for name, _ in columns], path, line=1)
    return columns


def check_names(names: Sequence[str], path: str, *, line: int | None = None) -> None:
    """Raises: DataError for names of columns that cannot be asked for, or that cannot be told apart."""
    if not names:
        raise DataError(f"holds no column beside {ID_COLUMN}", path=path, line=line)
    if len(names) > MOST_COLUMNS:
        raise DataError(f"{len(names)} columns, at most {MOST_COLUMNS} are kept", path=path, line=line)
    met: dict[str, str] = {}
    for name in names:
        if not COLUMN_NAME.fullmatch(name):
            raise DataError(
                f"column {shortened(name)}: a name has letters, digits and _, begins with a letter, and has at most "
                "40 characters",
                path=path,
                line=line,
            )
        if name.lower() in OWN_COLUMNS:
            raise DataError(f"column {name!r}: every index has one of this name", path=path, line=line)
        if name.lower() in met:
            raise DataError(f"columns {met[name.lower()]!r} and {name!r}", path=path, line=line)
        met[name.lower()] = name


def _first_twice(ids: Shaped[np.ndarray, " rows"]) -> tuple[int, int] | None:
    """The rows of the first product that comes again."""
    order = np.argsort(ids, kind="stable")
    again = np.flatnonzero(ids[order[1:]] == ids[order[:-1]])
    if not len(again):
        return None
    later = order[again + 1]
    best = int(np.argmin(later))
    return int(order[again[best]]), int(later[best])


def _read_parquet(path: str, kinds: Mapping[str, Kind]) -> ProductTable:
    try:
        table = pq.read_table(path)
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"broken Parquet: {error}", path=path) from error
    if ID_COLUMN not in table.column_names:
        raise DataError(f"a column {ID_COLUMN} was wanted", path=path)
    names = [name for name in table.column_names if name != ID_COLUMN]
    check_names(names, path)
    if not len(table):
        raise DataError("holds no product", path=path)
    ids = _parquet_ids(table[ID_COLUMN], path)
    if (twice := _first_twice(ids)) is not None:
        raise DataError(
            f"product {ids[twice[1]]} stands in row {twice[0] + 1} and row {twice[1] + 1}",
            path=path,
            field=ID_COLUMN,
        )
    columns = {name: _parquet_column(table[name], path, name, kinds.get(name)) for name in names}
    return ProductTable(path, ids, Attributes(columns, len(ids)))


def _parquet_ids(column: pa.ChunkedArray, path: str) -> Shaped[np.ndarray, " rows"]:
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy())) + 1
        raise DataError(f"row {row} has none", path=path, field=ID_COLUMN)
    kind = _plain_type(column)
    try:
        if pa.types.is_integer(kind):
            return np.array(column.cast(pa.int64()).to_numpy(), np.int64)
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return ids_from_text(column.cast(pa.string()).to_pylist())
    except RowError as error:
        raise DataError(f"row {error.row + 1} {error.problem}", path=path, field=ID_COLUMN) from error
    except pa.ArrowInvalid as error:
        raise DataError(f"not all are product ids: {error}", path=path, field=ID_COLUMN) from error
    raise DataError(f"{column.type}: integers or text were wanted", path=path, field=ID_COLUMN)


def _plain_type(column: pa.ChunkedArray) -> pa.DataType:
    return column.type.value_type if pa.types.is_dictionary(column.type) else column.type


def _parquet_column(column: pa.ChunkedArray, path: str, name: str, before: Kind | None) -> pa.Array:
    if pa.types.is_null(column.type):
        if before is None:
            raise DataError(_no_value("a type, double or string"), path=path, field=name)
        return pa.nulls(len(column), TYPES[before])
    kind = _plain_type(column)
    try:
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            return _parquet_numbers(column.cast(NUMBER).combine_chunks())
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind):
            return _parquet_words(column.cast(pa.string()).combine_chunks())
    except (ValueError, pa.ArrowException) as error:
        raise DataError(str(error), path=path, field=name) from error
    raise DataError(f"{column.type} is neither numbers nor words", path=path, field=name)


def _parquet_numbers(column: pa.Array) -> pa.Array:
    numbers = column.fill_null(0.0).to_numpy()
    if not np.isfinite(numbers).all():
        row = int(np.argmin(np.isfinite(numbers)))
        raise ValueError(f"row {row + 1}: {numbers[row]} is no finite number")
    return column


def _parquet_words(column: pa.Array) -> pa.Array:
    words: dict[str | None, str | None] = {None: None}
    for row, text in enumerate(column.to_pylist()):
        if text not in words:
            try:
                words[text] = check_word(text.strip()) or None
            except ValueError as error:
                raise ValueError(f"row {row + 1}: {error}") from error
    return pa.array(map(words.get, column.to_pylist()), WORD)
