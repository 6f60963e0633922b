"""What stands in a table that somebody keeps? Rows of cells as text, from CSV, TSV, Parquet or JSON lines.

Read strictly and row by row: an error names line (Parquet: row) and field. Numbers are not parsed here, so that a
code such as 00123 stays as written. Knows no product and no click.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Shaped

from shopwindow.cells import rows_of, separator_of
from shopwindow.files import STANDARD_STREAM, DataError, is_plain_file, open_bytes, text_lines
from shopwindow.ids import RowError, first_other_spelling, ids_from_text, other_spelling_problem

Kind = Literal["number", "word"]
Rows = Iterator[tuple[int, list[str]]]
"""Line (Parquet: row) from 1, and the cells."""
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_ALMOST_NUMBER: Final = re.compile(
    r"[€$£¥₹₽₩]?\s*[+-]?([0-9]{1,3}([.,' ][0-9]{3})+|[0-9]+)([.,][0-9]+)?([eE][0-9]+)?\s*"
    r"([€$£¥₹₽₩%]|eur|usd|gbp|chf|jpy|cny|inr|rub|krw|aud|cad|sek|nok|dkk|pln)?|[0-9_]+|nan|[+-]?inf(inity)?",
    re.IGNORECASE,
)
"""A price with its currency, a decimal comma, a share in %: a number to whoever wrote it."""
_NO_VALUE: Final = frozenset({"null", "n/a", "na", "nan", "none", "nil", "-", "--", "?", "#n/a", "unknown"})
_MOST_NUMBERS: Final = 0.9
_SHOWN: Final = 40
_EXACT_DIGITS: Final = 15
_PARQUET: Final = b"PAR1"
_SEPARATOR: Final = "|"
"""Between the values of a cell that holds several."""


@dataclass
class Table:
    """An open table: its columns, and its rows to be read once.

    `kinds` has the columns whose kind the header (`price:number`) or Parquet's type says. Rows without any cell are
    passed over; every other has as many cells as there are columns, blanks around them dropped.
    """

    path: str
    names: tuple[str, ...]
    kinds: dict[str, Kind]
    rows: Rows = field(repr=False)
    unit: Literal["line", "row"] = "line"

    def error(self, problem: str, number: int, name: str | None = None) -> DataError:
        """The error of a line, or of a row of Parquet."""
        if self.unit == "line":
            return DataError(problem, path=self.path, line=number, field=name)
        return DataError(f"row {number}: {problem}", path=self.path, field=name)


def open_table(path: str | Path, *, several: bool = False) -> Table:
    """The table of a file; what it is is read from its first bytes, not from its name.

    Tabs separate cells where the header has one (no quoting then). Else commas do, or semicolons where the header has
    no comma, quoted as RFC 4180 has it. A file that begins with { has a JSON object a line. Gzipped text is read too.
    With `several` a cell of Parquet or JSON may be a list, given with | between its values.

    Raises: DataError here for a broken Parquet file or a column name that comes twice. While rows are read: for no
    UTF-8, a line of another length, broken CSV or JSON, a value that is neither text, number, date nor truth value.
    """
    name = str(path)
    if is_plain_file(name):  # a pipe is read once
        with open_bytes(name) as file:
            packed = file.read(len(_PARQUET)) == _PARQUET
        if packed:
            return _open_parquet(name, several=several)
    shown = "standard input" if name == STANDARD_STREAM else name
    lines = text_lines(name)
    first = next(lines, (1, ""))
    if first[1].lstrip().startswith("{"):
        return _open_json(shown, chain([first], lines), several=several)
    return _open_delimited(shown, chain([first], lines), separator_of(first[1]))


def parse_number(text: str) -> float:
    """A decimal number, as in `12`, `-0.5` or `1e3`.

    Raises: ValueError for anything else, also for one that is not finite.

    >>> parse_number("12.50")
    12.5
    """
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise ValueError(f"{shortened(text)} is no finite number")
    return number


def exact_number(text: str) -> float:
    """As `parse_number`, and refuses a whole number that float64 would round. Raises: ValueError.

    >>> exact_number("1152921504606846977")
    Traceback (most recent call last):
    ValueError: '1152921504606846977' has more digits than a number keeps
    """
    number = parse_number(text)
    if len(text) > _EXACT_DIGITS and text.lstrip("+-").isdecimal() and int(text) != number:
        raise ValueError(f"{shortened(text)} has more digits than a number keeps")
    return number


def is_code(cell: str) -> bool:
    """Whether digits stand for no amount: a zero leads, or a number would lose some.

    >>> is_code("00123"), is_code("9007199254740993"), is_code("0.5")
    (True, True, False)
    """
    digits = cell.lstrip("+-").partition(".")[0]
    too_long = cell.isdecimal() and len(cell) > _EXACT_DIGITS and (len(cell) > 20 or int(cell) > 2**53)
    return too_long or (digits.isdecimal() and len(digits) > 1 and digits.startswith("0"))


def kind_of_cells(table: Table, name: str, cells: Sequence[str], lines: Sequence[int]) -> Kind:
    """The kind of a column that nobody named: numbers where all cells that are filled are numbers and none is a code.

    Raises: DataError for the first cell that is no number where the others, or most of them, are.
    """
    kinds = {cell: is_number(cell) for cell in set(cells) if cell}
    if any(is_number and is_code(cell) for cell, is_number in kinds.items()):
        return "word"
    odd = [cell for cell, is_number in kinds.items() if not is_number]
    if not odd:
        return "number" if kinds else "word"
    filled = [cell for cell in cells if cell]
    numbers = sum(kinds[cell] for cell in filled)
    almost = sum(bool(_ALMOST_NUMBER.fullmatch(cell)) for cell in odd)
    named = all(cell.lower() in _NO_VALUE or _ALMOST_NUMBER.fullmatch(cell) for cell in odd)
    if (named and numbers + almost) or numbers >= _MOST_NUMBERS * len(filled):
        row = next(row for row, cell in enumerate(cells) if cell and not kinds[cell])
        raise table.error(f"{not_a_number(cells[row])}; {as_words(name)}", lines[row], name)
    return "word"


def is_number(cell: str) -> bool:
    """Whether `parse_number` takes it."""
    try:
        parse_number(cell)
    except ValueError:
        return False
    return True


def not_a_number(cell: str) -> str:
    """What is wrong with a cell that should be a number, and what was wanted."""
    problem = f"{shortened(cell)} is no finite number"
    if cell.lower() in _NO_VALUE:
        return f"{problem}; an empty cell says that there is none"
    if _ALMOST_NUMBER.fullmatch(cell) and "," in cell:
        return f"{problem}, a decimal point was wanted, as in 1.99"
    return f"{problem}, digits alone were wanted, as in 1.99" if _ALMOST_NUMBER.fullmatch(cell) else problem


def as_words(name: str) -> str:
    """How a column is made one of words."""
    return f"{name}:word in the header makes the column one of words"


def shortened(text: str) -> str:
    """Text of anybody as part of a message: its beginning, quoted."""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")


def read_ids(
    table: Table, words: Sequence[str], lines: Sequence[int], name: str
) -> Shaped[np.ndarray, " rows"]:
    """The words of a column as ids, each once.

    Raises: DataError for an id that is empty, too long or repeated, a number with a fraction, or an integer in another
    spelling than the others.
    """
    if table.unit == "row" and table.kinds.get(name) == "number":
        wrong = next(
            (row for row, word in enumerate(words) if word and not word.lstrip("-").isdecimal()), None
        )
        if wrong is not None:
            raise table.error(
                f"{shortened(words[wrong])}: whole numbers or text were wanted", lines[wrong], name
            )
    try:
        ids = ids_from_text(words)
    except RowError as error:
        raise table.error(error.problem, lines[error.row], name) from error
    if (row := first_other_spelling(ids)) is not None:
        raise table.error(other_spelling_problem(words[row]), lines[row], name)
    if (twice := _first_repeated(ids)) is not None:
        earlier, later = twice
        raise table.error(
            f"product {ids[later]} stands in {table.unit} {lines[earlier]} too", lines[later], name
        )
    return ids


def _first_repeated(ids: Shaped[np.ndarray, " rows"]) -> tuple[int, int] | None:
    """The rows of the first id that comes again: where it stood before, and where it comes again."""
    order = np.argsort(ids, kind="stable")
    again = np.flatnonzero(ids[order[1:]] == ids[order[:-1]])
    if not len(again):
        return None
    later = order[again + 1]
    best = int(np.argmin(later))
    return int(order[again[best]]), int(later[best])


def _open_delimited(path: str, lines: Iterator[tuple[int, str]], separator: str) -> Table:
    blank = ([""],) if separator == "\t" else ([],)
    rows = ((line, row) for line, row in rows_of(lines, separator, path) if row not in blank)
    header = [cell.strip() for cell in next(rows, (1, []))[1]]
    names, kinds = [], dict[str, Kind]()
    for text in header:
        name, colon, kind = text.rpartition(":")
        said = bool(colon) and kind in ("number", "word")
        names.append(name if said else text)
        if said:
            kinds[name] = "number" if kind == "number" else "word"
    _check_distinct(names, path, line=1)
    table = Table(path, tuple(names), kinds, iter(()))
    table.rows = _whole(table, rows)
    return table


def _whole(table: Table, rows: Rows) -> Rows:
    for line, row in rows:
        if len(row) != len(table.names):
            raise table.error(f"{len(row)} fields, the header has {len(table.names)}", line)
        yield line, [cell.strip() for cell in row]


def _open_json(path: str, lines: Iterator[tuple[int, str]], *, several: bool) -> Table:
    """The first object names the columns; a later one may lack some."""
    objects = ((number, _object(line, path, number)) for number, line in lines if line and not line.isspace())
    first = next(objects)
    names = tuple(first[1])
    _check_distinct(names, path, line=first[0])
    table = Table(path, names, {}, iter(()))

    def rows() -> Rows:
        for number, values in chain([first], objects):
            strange = [key for key in values if key not in first[1]]
            if strange:
                raise table.error(f"a key that the first line lacks: {shortened(strange[0])}", number)
            yield number, [_cell(values.get(name), table, number, name, several=several) for name in names]

    table.rows = rows()
    return table


def _object(line: str, path: str, number: int) -> dict[str, Any]:
    def distinct(items: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(items)
        if len(values) < len(items):
            raise ValueError("a key comes twice")
        return values

    try:
        # numbers stay as they are written
        value = json.loads(line, object_pairs_hook=distinct, parse_int=str, parse_float=str)
        if "\\u" in line:
            json.dumps(value, ensure_ascii=False).encode()  # half a letter is no text
    except (ValueError, RecursionError) as error:
        problem = "half a character" if isinstance(error, UnicodeError) else getattr(error, "msg", error)
        raise DataError(f"no JSON object: {problem}", path=path, line=number) from error
    if not isinstance(value, dict):
        raise DataError("no JSON object", path=path, line=number)
    return value


def _open_parquet(path: str, *, several: bool) -> Table:
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"broken Parquet: {error}", path=path) from error
    _check_distinct(schema.names, path)
    kinds = {one.name: kind for one in schema if (kind := _kind_of(one.type)) is not None}
    table = Table(path, tuple(schema.names), kinds, iter(()), unit="row")
    table.rows = _parquet_rows(file, table, several=several)
    return table


def _kind_of(arrow: pa.DataType) -> Kind | None:
    kind = arrow.value_type if pa.types.is_dictionary(arrow) else arrow
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    return None if pa.types.is_null(kind) else "word"


def _parquet_rows(file: pq.ParquetFile, table: Table, *, several: bool) -> Rows:
    number = 0
    try:
        for batch in file.iter_batches():
            batch.validate(full=True)
            columns = [column.to_pylist() for column in batch.columns]
            for cells in zip(*columns, strict=True):
                number += 1
                named = zip(table.names, cells, strict=True)
                yield number, [_cell(cell, table, number, name, several=several) for name, cell in named]
    except (pa.ArrowException, OSError, OverflowError, ValueError) as error:  # a date of the year 300,000
        raise DataError(f"broken Parquet: {error}", path=table.path) from error


def _cell(value: Any, table: Table, number: int, name: str, *, several: bool) -> str:
    """The value as a CSV file would have it. Raises: DataError for one that has no such form."""
    match value:
        case str():
            text = value.strip()
            if "\0" in text:
                raise table.error("holds a NUL character", number, name)
            return text
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | Decimal():
            return str(value)
        case float():
            return repr(value)
        case datetime.datetime() | datetime.date():
            return value.isoformat()
        case list() if several:
            parts = [_cell(one, table, number, name, several=False) for one in value]
            return _SEPARATOR.join(part for part in parts if part)
    raise table.error(f"{type(value).__name__}: text or a number was wanted", number, name)


def _check_distinct(names: Sequence[str], path: str, *, line: int | None = None) -> None:
    """Raises: DataError for names that differ in nothing, or in the case of letters alone."""
    known: dict[str, str] = {}
    for name in names:
        if name.casefold() in known:
            raise DataError(f"columns {known[name.casefold()]!r} and {name!r}", path=path, line=line)
        known[name.casefold()] = name


def find_columns(
    table: Table, usual: Mapping[str, Sequence[str]], given: Mapping[str, str | None]
) -> dict[str, str]:
    """The column of every role that the table has: the one that is given, else the first of its usual names.

    Case, blanks and separators do not matter: `Product ID` is `product_id`. A column has one role; a role that is given
    as "" has none.

    Raises: DataError for a given column that the table lacks or that has two roles.
    """
    by_name = {plain_name(name): name for name in reversed(table.names)}
    columns: dict[str, str] = {}
    for role, wanted in given.items():
        if wanted:
            name = wanted if wanted in table.names else by_name.get(plain_name(wanted))
            if name is None or name in columns.values():
                problem = "no such column" if name is None else "is given twice"
                raise DataError(
                    f"{role} = {wanted!r}: {problem}; there are {_listed(table.names)}", path=table.path
                )
            columns[role] = name
    for role, names in usual.items():
        known = [by_name[one] for one in map(plain_name, names) if one in by_name]
        free = [name for name in known if name not in columns.values()]
        if free and role not in columns and given.get(role) != "":
            columns[role] = free[0]
    return columns


def no_column(table: Table, role: str, usual: Sequence[str]) -> DataError:
    """The error of a table without a column that is needed."""
    if table.names in ((), ("",)):
        return DataError("is empty, a table with a header line was wanted", path=table.path)
    wanted = f"no column of the {role}: name it (usual names: {', '.join(usual[:5])} ...)"
    return DataError(f"{wanted}; there are {_listed(table.names)}", path=table.path, line=1)


def plain_name(name: str) -> str:
    """
    >>> plain_name("Product ID"), plain_name("product_id")
    ('productid', 'productid')
    """
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(shortened, names[:12])) + (" ..." if len(names) > 12 else "")
