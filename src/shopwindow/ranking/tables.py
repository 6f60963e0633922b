"""How does a text table of ids and numbers become columns? One reader under runs, qrels, pools and submissions.

The first line decides the delimiter and the layout of the whole file. Lines may be half a megabyte long (competition
rows with their features): only the wanted fields are kept.
It knows delimiters and line numbers, and nothing of what the columns mean.
"""

from __future__ import annotations

import bisect
import csv
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from jaxtyping import Float64, Shaped

from shopwindow.files import STANDARD_STREAM, DataError, text_lines
from shopwindow.ids import RowError, ids_from_text, joined_ids

_LINES_AT_ONCE: Final = 256
_DELIMITERS: Final = {"tabs": "\t", "commas": ",", "spaces": None}


@dataclass(frozen=True)
class Layout:
    """A table without header that has `width` fields, and where in it the columns stand."""

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
) -> Table:
    """The wanted columns of a text table: by its header's names, or by the layout that its field count fits.

    A header names the columns of the first layout; case does not matter, `-` is `_`, and further columns are ignored.
    Blank lines are skipped. Columns in `numbers` are float64, the others ids. `lines` are those of a file that was
    already read.

    Raises: DataError with line and field for no rows, a first line that fits no layout, or another number of fields
        than in the first line. Also for an empty id, a word that is no number, or a header of other names.
    """
    name = shown_name(path)
    numbered = text_lines(path) if lines is None else lines
    filled = ((number, line) for number, line in numbered if line and not line.isspace())
    first = next(filled, None)
    if first is None:
        raise DataError("is empty, a table was wanted", path=name)
    shape, header = _shape(first, layouts, numbers, name)
    rows = filled if header else itertools.chain([first], filled)
    collected: dict[str, list[Shaped[np.ndarray, "_"]]] = {column: [] for column in shape.columns}
    stretches: list[tuple[int, int]] = []
    count = 0
    for block in _blocks(rows):
        line_numbers = [number for number, _ in block]
        _note_stretches(stretches, count, line_numbers)
        words = shape.split(block, name)
        for (column, parts), texts in zip(collected.items(), words, strict=True):
            try:
                parts.append(_numbers(texts, column) if column in numbers else ids_from_text(texts))
            except RowError as wrong:
                shown = column if wrong.field == "id" else wrong.field
                raise DataError(
                    wrong.problem, path=name, line=line_numbers[wrong.row], field=shown
                ) from wrong
        count += len(block)
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
    return Table(
        path=name,
        ids=ids,
        numbers={column: np.concatenate(parts) for column, parts in collected.items() if column in numbers},
        _stretches=stretches,
    )


@dataclass(frozen=True)
class _Shape:
    delimiter: str
    width: int
    columns: dict[str, int]

    def split(self, block: list[tuple[int, str]], path: str) -> list[list[str]]:
        """The wanted columns of a block of lines, as words."""
        separator = _DELIMITERS[self.delimiter]
        wanted = list(self.columns.values())
        if separator == "," and any('"' in line for _, line in block):
            rows = [next(csv.reader([line])) for _, line in block]
        else:
            rows = [line.split(separator) for _, line in block]
        for (number, line), row in zip(block, rows, strict=True):
            if len(row) != self.width:
                raise DataError(self._misfit(line, len(row)), path=path, line=number)
        return [[row[index] for row in rows] for index in wanted]

    def _misfit(self, line: str, got: int) -> str:
        for other, separator in _DELIMITERS.items():
            if other != self.delimiter and len(line.split(separator)) == self.width:
                return f"fields are parted by {other}, in the first line by {self.delimiter}: one file, one delimiter"
        return f"{got} fields parted by {self.delimiter}, the first line has {self.width}"


def _shape(
    first: tuple[int, str], layouts: Sequence[Layout], numbers: frozenset[str], path: str
) -> tuple[_Shape, bool]:
    """How the file is laid out, and whether its first line is a header."""
    number, line = first
    wanted = [column for column, _ in layouts[0].columns]
    for delimiter, separator in _DELIMITERS.items():
        fields = [word.strip().strip('"') for word in line.split(separator)]
        names = [word.lower().replace("-", "_") for word in fields]
        if all(column in names for column in wanted):
            columns = {column: names.index(column) for column in wanted}
            return _Shape(delimiter, len(fields), columns), True
        for layout in layouts:
            if len(fields) == layout.width:
                _check_first(fields, layout, numbers, path, number)
                return _Shape(delimiter, layout.width, dict(layout.columns)), False
    shapes = " or ".join(f"{layout.width} ({layout.name})" for layout in layouts)
    counts = ", ".join(f"{len(line.split(separator))} by {name}" for name, separator in _DELIMITERS.items())
    raise DataError(f"wanted {shapes} fields, got {counts}", path=path, line=number)


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
