"""How does a line of a table part into cells? One rule of delimiters, quotes and column names for all tables.

Knows lines and cells, and nothing of what a column means.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from shopwindow.files import DataError

DELIMITERS: Final = {"tabs": "\t", "commas": ",", "semicolons": ";", "spaces": None}
QUOTING: Final = frozenset({",", ";"})
"""Between these a cell may be quoted, as RFC 4180 has it."""
_ANY_LENGTH: Final = 2**31 - 1


def csv_rows(
    lines: Iterable[tuple[int, str]], separator: str, path: str
) -> Iterator[tuple[int, int, list[str]]]:
    """(first line, last line, cells) of each row; a quoted cell may be of any length and hold ends of lines.

    Raises: DataError for quotes that are wrong or not closed.
    """
    csv.field_size_limit(_ANY_LENGTH)
    first = last = 0

    def texts() -> Iterator[str]:
        nonlocal first, last
        for last, line in lines:
            first = first or last
            yield line + "\n"

    reader = csv.reader(texts(), delimiter=separator, strict=True)
    while True:
        first = 0
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"no CSV: {error}", path=path, line=first or last) from error
        yield first, last, row


def cells_of(line: str, separator: str | None, path: str, number: int) -> list[str]:
    """The cells of one line. Raises: DataError for quotes that are wrong or not closed."""
    if separator in QUOTING and '"' in line:
        assert separator is not None
        return next(csv_rows([(number, line)], separator, path))[2]
    return line.split(separator)


def separator_of(header: str) -> str:
    """What parts a table with a header: a tab where it has one, semicolons where it has no comma, else commas."""
    if "\t" in header:
        return "\t"
    return ";" if ";" in header and "," not in header else ","


def rows_of(lines: Iterable[tuple[int, str]], separator: str, path: str) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of each row. Raises: DataError for quotes that are wrong or not closed."""
    if separator in QUOTING:
        yield from ((first, row) for first, _, row in csv_rows(lines, separator, path))
    else:
        yield from ((number, line.split(separator)) for number, line in lines)


def column_names(cells: Sequence[str]) -> list[str]:
    """Names as they are compared: small letters, `_` for `-`, without quotes and blanks around."""
    return [cell.strip().strip('"').strip().lower().replace("-", "_") for cell in cells]


def check_distinct_names(names: Sequence[str], path: str, line: int) -> None:
    """Raises: DataError for a column name that stands twice in a header."""
    known: set[str] = set()
    for name in filter(None, names):
        if name in known:
            raise DataError(f"column {name[:80]!r} stands twice in the header", path=path, line=line)
        known.add(name)
