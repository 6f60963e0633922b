"""How does a verb print? Tables that are aligned on a terminal and plain in a pipe; JSON that is only JSON."""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

NARROWEST: Final = 60
"""Columns of the narrowest terminal that lines are wrapped for."""
_JOINERS: Final = "\u200c\u200d"
_LONGEST_NAME: Final = 300
_LONGEST_REMARK: Final = 2000
_IN_A_PIPE: Final = 100_000
"""Columns of standard output where nothing is wrapped."""

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def _standard_output() -> Console:
    """Standard output as it is: colours and wrapping on a terminal, neither in a pipe. What is printed is text,
    never markup."""
    from functools import partial

    from rich.console import Console

    plain = partial(Console, highlight=False, emoji=False)
    console: Console = plain()
    return console if console.is_terminal else plain(width=_IN_A_PIPE, no_color=True)


def say(text: str, *, style: str | None = None) -> None:
    """Prints a text on standard output: on a terminal wrapped at words, in a pipe each line as it is."""
    shown = wrapped(text) if sys.stdout.isatty() else text
    _standard_output().print(shown, style=style, soft_wrap=True, markup=False)


def wrapped(text: str, width: int | None = None) -> str:
    """The text in lines of at most so many columns (None: the terminal's), broken between words only.

    >>> print(wrapped("best nDCG@5 0.6665, of /a/folder/that/is/long", 20))
    best nDCG@5 0.6665,
    of
    /a/folder/that/is/long
    """
    width = width or max(NARROWEST, shutil.get_terminal_size().columns)
    lines = (
        textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
        for line in text.split("\n")
    )
    return "\n".join(line for some in lines for line in some)


class AlignedTable:
    """A table of text as it is, for a console to print: the first column left, the others, numbers, right."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._rows: list[tuple[str, ...]] = []

    def add_row(self, *cells: str) -> None:
        """A row: a cell for each column, or fewer. Nothing in a cell is markup."""
        self._rows.append(cells)

    def show(self) -> None:
        """Prints it on standard output."""
        _standard_output().print(self)

    def __rich__(self) -> Table:
        """The table as rich draws it."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        head = box.SIMPLE_HEAD if sys.stdout.isatty() else None
        # two spaces between columns either way: the box brings one of its own
        table = Table(box=head, show_edge=False, pad_edge=False, padding=(0, 1 if head else 2, 0, 0))
        for index, column in enumerate(self._columns):
            column_cells = [column, *(row[index] for row in self._rows if index < len(row))]
            longest = max((len(word) for cell in column_cells for word in cell.split()), default=0)
            table.add_column(Text(seen(column)), justify="left" if index == 0 else "right", min_width=longest)
        for cells in self._rows:
            table.add_row(*(Text(seen(cell)) for cell in cells))
        return table


def seen(text: str) -> str:
    """The text on one line, with what cannot be seen escaped; spaces and joiners of any script stay.

    >>> print(seen("red\\x1b[0m"))
    red\\x1b[0m
    """
    if text.isprintable():
        return text
    return "".join(letter if _can_be_seen(letter) else repr(letter)[1:-1] for letter in text)


def _can_be_seen(letter: str) -> bool:
    return letter.isprintable() or letter in _JOINERS or unicodedata.category(letter) == "Zs"


def shortened(text: str) -> str:
    """The text with long names, and what is long as a whole, cut in the middle.

    >>> shortened("/a" * 5000 + "/x.run: no such file")[-40:]
    '/a/a/a/a/a/a/a/a/a/a/x.run: no such file'
    """
    words = (_cut(word, _LONGEST_NAME) for word in text.split(" "))
    return _cut(" ".join(words), _LONGEST_REMARK)


def _cut(text: str, longest: int) -> str:
    """Its beginning and its end, where it is longer."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}...{text[-half:]}"


def remark(text: str) -> None:
    """Says something beside the output, on standard error: one line, of a bounded length."""
    line = f"shopwindow: {shortened(seen(text))}"
    sys.stderr.write(f"{wrapped(line) if sys.stderr.isatty() else line}\n")


def counted(number: int, one: str, several: str | None = None) -> str:
    """A number with its noun.

    >>> counted(1, "segment"), counted(2000, "query", "queries")
    ('1 segment', '2,000 queries')
    """
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def print_json(content: object) -> None:
    """Prints JSON; NaN and infinity, which JSON does not know, become null."""
    sys.stdout.write(json.dumps(_finite(content), indent=1, allow_nan=False) + "\n")


def _finite(content: object) -> object:
    if isinstance(content, float) and not math.isfinite(content):
        return None
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return content
