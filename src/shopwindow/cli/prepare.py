"""`shopwindow prepare`: competition files into a dataset, with progress and a report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shopwindow.files import is_plain_file

if TYPE_CHECKING:
    from shopwindow.cli.progress import Show

_LARGE_BYTES: Final = 2**30
_MOST: Final = 8
"""Reading processes beyond this wait for the one that stores."""


def prepare(
    tsv: list[str],
    *,
    out: str,
    keep: list[str] | None = None,
    feature_size: int | None = None,
    allow_malformed: bool = False,
    processes: int | None = None,
    weights: str | None = None,
) -> None:
    """Clean competition files and store them as one dataset; print what was dropped and why.

    Args:
        tsv: Competition files, plain or gzipped; - is standard input.
        out: The dataset to write, a directory; an older dataset there is replaced.
        keep: Cleaning rules not to apply: possessive, many_boxes.
        feature_size: Values in the feature of one region; none given: as many as most of the first rows have.
        allow_malformed: Store the good rows even when more than 1 % of the rows are malformed.
        processes: Processes that read plain files together, at most 64; none given: one, or one for each core above
            1 GB. The dataset is the same.
        weights: How much each pair counts: a table with the columns product_id, query_id and weight (clicks, or a
            grade, above 0), with a header, tabs or commas; a pair that it lacks counts 1. The recipe field weighting
            says what training makes of it.
    """
    from shopwindow.cli.progress import progress
    from shopwindow.data import prepare as stage
    from shopwindow.data.cleaning import choose_rules

    rules = choose_rules(tuple(keep or ()))
    with progress("prepare") as show:
        report = stage.prepare(
            tsv,
            out,
            feature_size=feature_size,
            rules=rules,
            allow_malformed=allow_malformed,
            processes=_processes_for(tsv) if processes is None else processes,
            weights=weights,
            progress=_with_speed(show),
        )
    _print_report(report.lines(), out)


def _processes_for(tsv: list[str]) -> int:
    """One for each core where the plain files are large enough to be worth the seconds of a start."""
    plain = [Path(name) for name in tsv if is_plain_file(name)]
    if sum(path.stat().st_size for path in plain) < _LARGE_BYTES:
        return 1
    return min(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, _MOST
    )


def _print_report(lines: list[tuple[str, int]], out: str) -> None:
    from shopwindow.cli.console import AlignedTable, standard_output

    table = AlignedTable(["prepare", "count"])
    for what, count in lines:
        table.add_row(what, f"{count:,}")
    console = standard_output()
    console.print(table)
    console.print(f"dataset: {out}", soft_wrap=True)


def _with_speed(show: Show) -> Callable[[int, int, int], None]:
    start = time.monotonic()

    def show_speed(rows: int, done: int, total: int) -> None:
        seconds = max(time.monotonic() - start, 1e-9)
        speed = f"{rows / seconds:,.0f} rows/s, {done / seconds / 1e6:,.0f} MB/s"
        show(float(done), float(total), f"{rows:,} rows, {speed}")

    return show_speed
