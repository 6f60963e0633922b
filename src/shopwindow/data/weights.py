"""What does each pair weigh: a table of clicks, or of grades, read strictly beside the competition's files?

The table is kept in a database on disk while a dataset is prepared, so that memory does not grow with it. Knows
neither rows of a competition file nor the dataset.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from shopwindow.cells import cells_of, check_distinct_names, column_names, rows_of, separator_of
from shopwindow.files import STANDARD_STREAM, DataError, text_lines
from shopwindow.ids import Spellings, id_from_text, other_spelling_problem

COLUMNS: Final = ("product_id", "query_id", "weight")
MOST_WEIGHT: Final = 1e9
LEAST_WEIGHT: Final = 1e-9
"""Beyond these float32 loses what a batch of other pairs weighs beside it."""
_DATABASE: Final = "weights.sqlite"

_Row = tuple[int | str, int | str, float, int]


class WeightTable:
    """The weights of pairs in a file, to be asked pair by pair; its database lies in `folder` while the block lasts.

    The file has a header line with the columns product_id, query_id and weight, in any order, parted by tabs or commas,
    and no quoting; gzipped files and standard input (-) are read. Weights are from 1e-9 to 1e9.

    Raises: DataError naming line and field of what is wrong: another header, a row of another length, an id that is
    none, a weight that is no number, not finite, not above 0 or out of range, a pair that has a weight already; no
    row; as `open_bytes`. sqlite3.Error where the disk is full.
    """

    def __init__(self, path: str | Path, folder: Path) -> None:
        self.path = "standard input" if str(path) == STANDARD_STREAM else str(path)
        with contextlib.ExitStack() as stack:
            stack.callback((folder / _DATABASE).unlink, missing_ok=True)
            self._database = stack.enter_context(contextlib.closing(sqlite3.connect(folder / _DATABASE)))
            self._database.executescript(
                "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-32768;"
                "CREATE TABLE weight(product, query, weight REAL, line INTEGER, met INTEGER,"
                " PRIMARY KEY(product, query)) WITHOUT ROWID;"
            )
            self.count = self._fill(_rows(path, self.path))
            self._open = stack.pop_all()

    def __enter__(self) -> WeightTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def of(self, product_id: int | str, query_id: int | str) -> float | None:
        """The weight of a pair, which counts as met from now on; None where the file has none."""
        row = self._database.execute(
            "SELECT weight, met FROM weight WHERE product = ? AND query = ?", (product_id, query_id)
        ).fetchone()
        if row is None:
            return None
        if not row[1]:
            self._database.execute(
                "UPDATE weight SET met = 1 WHERE product = ? AND query = ?", (product_id, query_id)
            )
        return float(row[0])

    def unmet(self) -> tuple[int, DataError | None]:
        """How many pairs of the file were never asked for, and the error that names the first of them."""
        count, line = self._database.execute(
            "SELECT COUNT(*), MIN(line) FROM weight WHERE met = 0"
        ).fetchone()
        if not count:
            return 0, None
        product, query = self._database.execute(
            "SELECT product, query FROM weight WHERE line = ?", (line,)
        ).fetchone()
        first = f"product {product}, query {query}"
        problem = f"{count:,} of its {self.count:,} pairs stand in none of the files; the first: {first}"
        return count, DataError(problem, path=self.path, line=line, field="product_id, query_id")

    def _fill(self, rows: Iterator[_Row]) -> int:
        count = 0
        spellings = {"product_id": Spellings(), "query_id": Spellings()}
        self._database.execute("BEGIN")
        for product, query, weight, line in rows:
            spellings["product_id"].take(product, line)
            spellings["query_id"].take(query, line)
            try:
                self._database.execute(
                    "INSERT INTO weight VALUES (?, ?, ?, ?, 0)", (product, query, weight, line)
                )
            except sqlite3.IntegrityError as error:
                first = self._database.execute(
                    "SELECT line FROM weight WHERE product = ? AND query = ?", (product, query)
                ).fetchone()[0]
                raise DataError(
                    f"product {product}, query {query} has a weight in line {first} already",
                    path=self.path,
                    line=line,
                    field="product_id, query_id",
                ) from error
            count += 1
        if not count:
            raise DataError("has a header and no rows", path=self.path)
        for name, one in spellings.items():
            if one.first is not None:
                word, place = one.first
                raise DataError(other_spelling_problem(word), path=self.path, line=place, field=name)
        return count


def _rows(path: str | Path, shown: str) -> Iterator[_Row]:
    """(product id, query id, weight, line number) of every row after the header; blank lines are passed over."""
    lines = ((number, line) for number, line in text_lines(path) if line and not line.isspace())
    number, header = next(lines, (1, ""))
    separator = separator_of(header)
    names = column_names(cells_of(header, separator, shown, number))
    check_distinct_names(names, shown, number)
    if sorted(names) != sorted(COLUMNS):
        raise DataError(
            f"wanted a header with the columns {', '.join(COLUMNS)}, got: {header[:80]!r}",
            path=shown,
            line=number,
        )
    for number, cells in rows_of(lines, separator, shown):
        if len(cells) != len(names):
            raise DataError(f"{len(cells)} columns, {len(names)} wanted", path=shown, line=number)
        values = {}
        for name, cell in zip(names, cells, strict=True):
            try:
                values[name] = _PARSERS[name](cell.strip())
            except ValueError as error:
                raise DataError(str(error), path=shown, line=number, field=name) from error
        yield values["product_id"], values["query_id"], values["weight"], number


def parse_weight(text: str) -> float:
    """
    >>> parse_weight("12"), parse_weight("0.5")
    (12.0, 0.5)

    Raises: ValueError for what is no number from LEAST_WEIGHT to MOST_WEIGHT.
    """
    try:
        if "_" in text:
            raise ValueError(text)
        weight = float(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a number") from None
    if not math.isfinite(weight):
        raise ValueError(f"{text[:40]}, a finite number is needed")
    if not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
        raise ValueError(f"{text[:40]}, more than 0 is needed: {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}")
    return weight


_PARSERS: Final[dict[str, Callable[[str], Any]]] = {
    "product_id": id_from_text,
    "query_id": id_from_text,
    "weight": parse_weight,
}
