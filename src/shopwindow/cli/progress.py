"""How does a long stage show that it lives? A bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

SECONDS_BETWEEN_LINES: Final = 5.0

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


class _Lines:
    """Progress for logs."""

    def __init__(self, stage: str, console: Console) -> None:
        self._stage = stage
        self._console = console
        self._start = self._last = time.monotonic()

    def __call__(self, done: float, total: float, says: str) -> None:
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN_LINES:
            return
        self._last = now
        left = f", {(total - done) * (now - self._start) / done:.0f} s left" if total and done else ""
        self._console.print(f"{self._stage}: {says}{left}", markup=False, highlight=False, soft_wrap=True)


def rate(done: float, what: str) -> Callable[[float], str]:
    """Words for a speed: `rate(0, "products")(120)` some seconds later says `120 products, 40 products/s`."""
    start = time.monotonic()

    def says(now: float) -> str:
        seconds = max(time.monotonic() - start, 1e-9)
        return f"{now:,.0f} {what}, {(now - done) / seconds:,.0f} {what}/s"

    return says


@contextlib.contextmanager
def counting(stage: str, what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows the progress of a stage that tells how many things are done, and of how many."""
    with progress(stage) as show:
        says = rate(0.0, what)
        yield lambda done, total: show(float(done), float(total), says(float(done)))
