"""How does a text table of ids and numbers become columns? One reader under runs, qrels, pools and submissions.

The first line decides the delimiter and the layout of the whole file. Lines may be half a megabyte long (competition
rows with their features): only the wanted fields are kept.
It knows delimiters and line numbers, and nothing of what the columns mean.
"""

from __future__ import annotations

import bisect
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from jaxtyping import Float64, Shaped

from shopwindow.cells import DELIMITERS, QUOTING, cells_of, check_distinct_names, column_names, csv_rows
from shopwindow.files import STANDARD_STREAM, DataError, text_lines
from shopwindow.ids import RowError, first_other_spelling, ids_from_text, joined_ids, other_spelling_problem

_LINES_AT_ONCE: Final = 256
_OTHER_NAMES: Final = {
    **dict.fromkeys(("qid", "q_id", "query"), "query_id"),
    **dict.fromkeys(("pid", "product", "item_id", "doc_id", "docid", "docno", "corpus_id"), "product_id"),
}
"""What other systems call the two columns; taken where no column has the name itself."""


@dataclass(frozen=True)
class Layout:
    """A table without header that has `width` fields, and where in it the columns stand. -1: it needs a header."""

    name: str
    width: int
    columns: tuple[tuple[str, int], ...]


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of one file, and the line each row came from."""

    path: str
    ids: dict[str, Shaped[np.ndarray, "rows"]]
    numbers: dict[str, Float64[np.ndarray, "rows"]]
    _stretches: list[tuple[int, int]] = field(repr=False)

    def line(self, row: int) -> int:
        """The line number (from 1) of a row (from 0)."""
        first, line = self._stretches[bisect.bisect_right(self._stretches, (row, math.inf)) - 1]
        return line + row - first

    def error(self, wrong: RowError) -> DataError:
        """The error of a row as the error of a line of this file."""
        return DataError(wrong.problem, path=self.path, line=self.line(wrong.row), field=wrong.field)


def shown_name(path: str | os.PathLike[str]) -> str:
    """The path as messages show it."""
    name = os.fspath(path)
    return "standard input" if name == STANDARD_STREAM else name


def read_table(
    path: str | os.PathLike[str],
    layouts: Sequence[Layout],
    *,
    numbers: frozenset[str] = frozenset(),
    lines: Iterable[tuple[int, str]] | None = None,
    any_name: str | None = None,
) -> Table:
    """The wanted columns of a text table: by its header's names, or by the layout that its field count fits.

    A header names the columns of the first layout, or what other systems call them. Case does not matter, `-` is `_`,
    and further columns are ignored. `any_name` is the column whose name does not matter where a header names the
    others and one more. Blank lines are skipped. Columns in `numbers` are float64, the others ids. `lines` are those
    of a file that was already read.

    Raises: DataError with line and field for no rows, a first line that fits no layout, or another number of fields
        than in the first line. Also for an empty id, a word that is no number, a header of other names or with a name
        twice, wrong quotes, and a column of integers of which some are spelled as other numbers (`100.0`).
    """
    name = shown_name(path)
    numbered = text_lines(path) if lines is None else lines
    filled = ((number, line) for number, line in numbered if line and not line.isspace())
    first = next(filled, None)
    if first is None:
        raise DataError("is empty, a table was wanted", path=name)
    shape, header = _shape(first, layouts, numbers, name, any_name)
    rows = filled if header else itertools.chain([first], filled)
    collected: dict[str, list[Shaped[np.ndarray, "_"]]] = {column: [] for column in shape.columns}
    stretches: list[tuple[int, int]] = []
    count = 0
    for block in _blocks(rows):
        line_numbers, words = shape.split(block, rows, name)
        _note_stretches(stretches, count, line_numbers)
        for (column, parts), texts in zip(collected.items(), words, strict=True):
            try:
                parts.append(_numbers(texts, column) if column in numbers else ids_from_text(texts))
            except RowError as wrong:
                shown = column if wrong.field == "id" else wrong.field
                raise DataError(
                    wrong.problem, path=name, line=line_numbers[wrong.row], field=shown
                ) from wrong
        count += len(line_numbers)
    if count == 0:
        raise DataError("has a header and no rows", path=name)
    ids = {column: joined_ids(parts) for column, parts in collected.items() if column not in numbers}
    if not header and count > 1 and all(map(_begins_with_a_name, ids.values())):
        names = " ".join(column for column, _ in layouts[0].columns)
        raise DataError(
            f"looks like a header: only this line holds no numbers; name its columns {names}",
            path=name,
            line=first[0],
        )
    table = Table(
        path=name,
        ids=ids,
        numbers={column: np.concatenate(parts) for column, parts in collected.items() if column in numbers},
        _stretches=stretches,
    )
    for column, column_ids in ids.items():
        if (row := first_other_spelling(column_ids)) is not None:
            raise table.error(RowError(other_spelling_problem(column_ids[row]), row=row, field=column))
    return table


@dataclass(frozen=True)
class _Shape:
    delimiter: str
    width: int
    columns: dict[str, int]

    def split(
        self, block: list[tuple[int, str]], rest: Iterator[tuple[int, str]], path: str
    ) -> tuple[list[int], list[list[str]]]:
        """The line numbers of a block's rows, and its wanted columns as words; a quoted cell may go on in the rest."""
        separator = DELIMITERS[self.delimiter]
        if separator in QUOTING and any('"' in line for _, line in block):
            numbers, rows = self._quoted(block, rest, path)
        else:
            numbers, rows = [number for number, _ in block], [line.split(separator) for _, line in block]
        for place, row in enumerate(rows):
            if len(row) != self.width:
                line = block[place][1] if len(rows) == len(block) else ""
                raise DataError(self._misfit(line, len(row)), path=path, line=numbers[place])
        return numbers, [[row[index] for row in rows] for index in self.columns.values()]

    def _quoted(
        self, block: list[tuple[int, str]], rest: Iterator[tuple[int, str]], path: str
    ) -> tuple[list[int], list[list[str]]]:
        separator = DELIMITERS[self.delimiter]
        assert separator is not None
        numbers, rows = [], []
        for first, last, row in csv_rows(itertools.chain(block, rest), separator, path):
            numbers.append(first)
            rows.append(row)
            if last >= block[-1][0]:
                break
        return numbers, rows

    def _misfit(self, line: str, got: int) -> str:
        for other, separator in DELIMITERS.items():
            if other != self.delimiter and len(line.split(separator)) == self.width:
                return f"fields are parted by {other}, in the first line by {self.delimiter}: one file, one delimiter"
        return f"{got} fields parted by {self.delimiter}, the first line has {self.width}"


def _shape(
    first: tuple[int, str],
    layouts: Sequence[Layout],
    numbers: frozenset[str],
    path: str,
    any_name: str | None,
) -> tuple[_Shape, bool]:
    """How the file is laid out, and whether its first line is a header."""
    number, line = first
    wanted = [column for column, _ in layouts[0].columns]
    rows = {name: cells_of(line, separator, path, number) for name, separator in DELIMITERS.items()}
    for delimiter, fields in rows.items():
        columns = _named(fields, wanted, path, number, any_name)
        if columns is not None:
            return _Shape(delimiter, len(fields), columns), True
    for delimiter, fields in rows.items():
        for layout in layouts:
            if len(fields) == layout.width:
                if delimiter == "commas" and len(rows["semicolons"]) in {one.width for one in layouts}:
                    problem = "commas and semicolons both part it into a row: give a header"
                    raise DataError(problem, path=path, line=number)
                _check_first(fields, layout, numbers, path, number)
                return _Shape(delimiter, layout.width, dict(layout.columns)), False
    if all(layout.width < 0 for layout in layouts):
        raise DataError(f"a header was wanted that names {', '.join(wanted)}", path=path, line=number)
    shapes = " or ".join(f"{layout.width} ({layout.name})" for layout in layouts)
    counts = ", ".join(f"{len(fields)} by {name}" for name, fields in rows.items())
    raise DataError(f"wanted {shapes} fields, got {counts}", path=path, line=number)


def header_columns(names: Sequence[str], score: str, path: str) -> dict[str, int]:
    """Where `query_id`, `product_id` and `score` stand among the columns of a file whose names are known.

    Raises: DataError where one is missing or stands twice.
    """
    score = column_names([score])[0]
    any_name = "score" if score == "score" else None
    columns = _named(names, ["query_id", "product_id", score], path, 1, any_name)
    if columns is None:
        raise DataError(
            f"columns query_id, product_id, {score} were wanted, got {', '.join(names)[:80]}", path=path
        )
    query, product, place = columns.values()
    return {"query_id": query, "product_id": product, "score": place}


def _named(
    fields: Sequence[str], wanted: Sequence[str], path: str, line: int, any_name: str | None
) -> dict[str, int] | None:
    """Where a header's columns stand; None where the line is no header. Raises: DataError for one that is wrong."""
    names = column_names(fields)
    known = {None, *names}
    names = [name if (common := _OTHER_NAMES.get(name)) in known else str(common) for name in names]
    missing = [column for column in wanted if column not in names]
    if not missing or (missing == [any_name] and len(wanted) > 1):
        check_distinct_names(names, path, line)
    if missing and missing == [any_name]:
        others = [index for index, name in enumerate(names) if name not in wanted]
        if len(others) != 1:
            listed = ", ".join(names[index][:40] for index in others[:12])
            raise DataError(
                f"no column {any_name}; --score-column NAME takes one of: {listed}", path=path, line=line
            )
        return {column: names.index(column) if column in names else others[0] for column in wanted}
    return None if missing else {column: names.index(column) for column in wanted}


def _check_first(fields: list[str], layout: Layout, numbers: frozenset[str], path: str, line: int) -> None:
    for column, index in layout.columns:
        if column in numbers:
            try:
                _numbers([fields[index]], column)
            except RowError as wrong:
                names = " ".join(name for name, _ in layout.columns)
                raise DataError(
                    f"{wrong.problem} (a header would name {names})", path=path, line=line, field=column
                ) from wrong


def _blocks(lines: Iterator[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    while block := list(itertools.islice(lines, _LINES_AT_ONCE)):
        yield block


def _note_stretches(stretches: list[tuple[int, int]], row: int, line_numbers: list[int]) -> None:
    """Adds (row, line) wherever lines stop following one by one; the common block without a gap costs nothing."""
    follows = bool(stretches) and stretches[-1][1] + row - stretches[-1][0] == line_numbers[0]
    if follows and line_numbers[-1] - line_numbers[0] == len(line_numbers) - 1:
        return
    for index, number in enumerate(line_numbers, start=row):
        if not stretches or stretches[-1][1] + index - stretches[-1][0] != number:
            stretches.append((index, number))


def _numbers(words: list[str], column: str) -> Float64[np.ndarray, "rows"]:
    """The words as float64; inf and nan are read, `1_0` is not a number."""
    if "_" not in "".join(words):
        try:
            return np.array(list(map(float, words)), dtype=np.float64)
        except ValueError:
            pass
    row = next(index for index, word in enumerate(words) if not _is_number(word))
    raise RowError(f"{words[row][:40]!r} is not a number", row=row, field=column)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return "_" not in word


def _begins_with_a_name(ids: Shaped[np.ndarray, "rows"]) -> bool:
    """Whether the first id alone is no integer."""
    if ids.dtype.kind != "U" or ids[0].isdecimal() or not ids[1].isdecimal():
        return False
    return ids_from_text(ids[1:].tolist()).dtype.kind != "U"
