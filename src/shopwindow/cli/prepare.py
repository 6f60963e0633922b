"""`shopwindow prepare`: competition files into a dataset, with progress and a report."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

SECONDS_BETWEEN_LINES: Final = 5.0


def prepare(
    tsv: list[str],
    *,
    out: str,
    keep: list[str] | None = None,
    feature_size: int = 2048,
    allow_malformed: bool = False,
) -> None:
    """Clean competition files and store them as one dataset; tell what was dropped and why.

    Args:
        tsv: Competition files, plain or gzipped; - is standard input.
        out: The dataset to write, a directory; an older dataset there is replaced.
        keep: Cleaning rules not to apply: possessive, many_boxes.
        feature_size: Values in the feature of one region.
        allow_malformed: Store the good rows even when more than 1 % of the rows are malformed.
    """
    from rich.console import Console

    from shopwindow.data import prepare as stage
    from shopwindow.data.cleaning import choose_rules

    rules = choose_rules(tuple(keep or ()))
    with _progress(Console(stderr=True)) as progress:
        report = stage.prepare(
            tsv,
            out,
            feature_size=feature_size,
            rules=rules,
            allow_malformed=allow_malformed,
            progress=progress,
        )
    _print_report(report.lines(), out)


def _print_report(lines: list[tuple[str, int]], out: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    for what, count in lines:
        table.add_row(what, f"{count:,}")
    console = Console()
    console.print(table)
    console.print(f"dataset: {out}", soft_wrap=True, markup=False, highlight=False)


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Callable[[int, int, int], None]]:
    """A bar on a terminal; elsewhere a plain line every few seconds."""
    if not console.is_terminal:
        yield _PlainLines()
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.fields[speed]}"), TimeRemainingColumn())
    with Progress(TextColumn("prepare"), *columns, console=console) as bar:
        task = bar.add_task("prepare", total=None, speed="")
        start = time.monotonic()

        def show(rows: int, done: int, total: int) -> None:
            bar.update(
                task, completed=done, total=total or None, speed=_speed(rows, done, time.monotonic() - start)
            )

        yield show


class _PlainLines:
    """Progress for logs."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()

    def __call__(self, rows: int, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN_LINES:
            return
        self._last = now
        seconds = now - self._start
        left = f", {(total - done) * seconds / done:.0f} s left" if total and done else ""
        print(f"prepare: {_speed(rows, done, seconds)}{left}", file=sys.stderr)  # noqa: T201 - progress


def _speed(rows: int, done: int, seconds: float) -> str:
    seconds = max(seconds, 1e-9)
    return f"{rows:,} rows, {rows / seconds:,.0f} rows/s, {done / seconds / 1e6:,.0f} MB/s"
