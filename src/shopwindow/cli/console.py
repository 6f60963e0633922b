"""How does a verb print? Tables that are aligned on a terminal and plain in a pipe; JSON that is only JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def standard_output() -> Console:
    """Standard output as it is: colours and wrapping on a terminal, neither in a pipe."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=1000, no_color=True)


def aligned_table(columns: Sequence[str]) -> Table:
    """An empty table: the first column left, the others, numbers, right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    head = box.SIMPLE_HEAD if sys.stdout.isatty() else None
    # two spaces between columns either way: the box brings one of its own
    table = Table(box=head, show_edge=False, pad_edge=False, padding=(0, 1 if head else 2, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if index == 0 else "right", no_wrap=True)
    return table


def remark(text: str) -> None:
    """Says something beside the output, on standard error; what cannot be seen in it as a question mark."""
    seen = "".join(letter if letter.isprintable() else "?" for letter in text)
    sys.stderr.write(f"shopwindow: {seen}\n")


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
