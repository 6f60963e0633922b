"""How does a long stage show that it lives? A bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from shopwindow.cli.console import wrapped

if TYPE_CHECKING:
    from rich.console import Console

SECONDS_BETWEEN_LINES: Final = 5.0
_KNOWN_AFTER: Final = 0.02
"""Of all that is to be done: from there on the time that is left is estimated."""

Show = Callable[[float, float, str], None]
"""Takes what is done, what there is in all (0 when unknown), and words beside the bar."""


@contextlib.contextmanager
def progress(stage: str) -> Iterator[Show]:
    """Shows the progress of a stage on standard error while the block lasts."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(stage, console)
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.fields[says]}"), TimeRemainingColumn())
    with Progress(TextColumn(f"[bold]{stage}"), *columns, console=console) as bar:
        task = bar.add_task(stage, total=None, says="")

        def show(done: float, total: float, says: str) -> None:
            bar.update(task, completed=done, total=total or None, says=says)

        yield show


def started(stage: str, says: str) -> None:
    """Says on a terminal what a stage is about to do, before libraries are imported that take seconds. A log is spared:
    where a stage is refused, it has the one line that says why."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{wrapped(f'{stage}: {says}')}\n")
        sys.stderr.flush()


class _Lines:
    """Progress for logs."""

    def __init__(self, stage: str, console: Console) -> None:
        self._stage = stage
        self._console = console
        self._last = time.monotonic()
        self._first: tuple[float, float] | None = None

    def __call__(self, done: float, total: float, says: str) -> None:
        now = time.monotonic()
        first, first_done = self._first = self._first or (now, done)
        if now - self._last < SECONDS_BETWEEN_LINES:
            return
        self._last = now
        # The first step stands for libraries that warm up, and is left out; of a few nothing can be promised.
        # Nor of a short time: photos that were read ahead come all at once.
        measured = now - first >= SECONDS_BETWEEN_LINES and done - first_done >= total * _KNOWN_AFTER
        known = total > 0 and done > first_done and measured
        left = f", {duration((total - done) * (now - first) / (done - first_done))} left" if known else ""
        self._console.print(f"{self._stage}: {says}{left}", markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """A time in words, as exact as an estimate is.

    >>> duration(48.0), duration(400.0), duration(45948.0)
    ('48 s', '7 min', '12.8 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def rate(done: float, what: str) -> Callable[[float], str]:
    """Words for a speed: `rate(0, "products")(120)` some seconds later says `120 products, 40 products/s`."""
    start = time.monotonic()

    def says(now: float) -> str:
        speed = (now - done) / max(time.monotonic() - start, 1e-9)
        return f"{now:,.0f} {what}" + (f", {speed:,.0f} {what}/s" if speed >= 1 else "")

    return says


@contextlib.contextmanager
def counting(stage: str, what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows the progress of a stage that tells how many things are done, and of how many."""
    with progress(stage) as show:
        says = rate(0.0, what)
        yield lambda done, total: show(float(done), float(total), says(float(done)))
