"""`shopwindow prepare`: competition files, or a shop's clicks, into a dataset, with progress and a report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from shopwindow.cli.arguments import Replaced, at_least, only_with
from shopwindow.cli.shards import ShardOptions
from shopwindow.files import DataError, check_replaceable, is_plain_file
from shopwindow.processors import processors
from shopwindow.shards import forget

if TYPE_CHECKING:
    from shopwindow.cli.progress import Show

_LARGE_BYTES: Final = 2**30
_MOST: Final = 8
"""Reading processes beyond this wait for the one that stores."""


def prepare(
    tsv: list[str] | None = None,
    *,
    out: Replaced,
    products: str | None = None,
    clicks: str | None = None,
    judgements: str | None = None,
    click_columns: list[str] | None = None,
    split: Literal["date", "query"] | None = None,
    held_out: float | None = None,
    eta: float | None = None,
    least_clicks: int | None = None,
    keep: list[str] | None = None,
    feature_size: int | None = None,
    allow_malformed: bool = False,
    processes: int | None = None,
    weights: str | None = None,
    shard: str | None = None,
    merge: bool = False,
    shards: int | None = None,
    over: str | None = None,
) -> None:
    """Clean competition files, or a shop's clicks, and store them as one dataset; print what was dropped and why.

    Of a shop give --products and --clicks: clicks become weighted pairs, and some are held out to measure on.

    Args:
        tsv: Competition files, plain or gzipped; - is standard input.
        out: The dataset to write, a directory; an older dataset there is replaced.
        products: The features of a shop's photos, a directory that `shopwindow extract` wrote.
        clicks: The shop's click log (CSV, TSV, Parquet or JSON lines): query, product, and any of clicks, date,
            position, impressions, session. Without it phrases of the titles are learned from.
        judgements: Human grades of the shop's products, to measure on: query, product, relevant.
        click_columns: Columns of the click log by role, where their names are not usual: query=term id=article. A role
            without a name, as position=, is not used.
        split: How clicks are held out: date (the last days) or query; none given: by date where there are dates.
        held_out: Share of the clicks held out for validation, and as much for the test; none given: 0.1.
        eta: How much lower positions are looked at less: position r by 1 / r^eta; 0 counts all clicks alike; none
            given: 1.
        least_clicks: Pairs with fewer clicks are dropped; none given: 1.
        keep: Cleaning rules not to apply: possessive, many_boxes; of clicks: bots, outliers.
        feature_size: Values in the feature of one region; none given: as many as most of the first rows have.
        allow_malformed: Store the good rows even when more than 1 % of the rows are malformed.
        processes: Processes that read plain files together, at most 64; none given: one, or one for each core above
            1 GB. The dataset is the same.
        weights: How much each pair counts: a table with the columns product_id, query_id and weight (clicks, or a
            grade, above 0), with a header, tabs or commas; a pair that it lacks counts 1. The recipe field weighting
            says what training makes of it.
        shard: Do one shard of the work alone, such as 3/10, beside OUT; slurm takes it from the task of a Slurm array.
        merge: Join the shards that --shard made, once all are there.
        shards: Into how many shards --over cuts the work; none given: by its size.
        over: Do the work in shards over several workers, then join them: processes, processes:N, ray or
            ray://HOST:PORT.
    """
    shop: dict[str, Any] = {
        "clicks": clicks,
        "judgements": judgements,
        "click_columns": click_columns,
        "split": split,
        "held_out": held_out,
        "eta": eta,
        "least_clicks": least_clicks,
    }
    if products is not None:
        if tsv:
            raise DataError("goes without competition files", field="--products")
        competition: dict[str, Any] = {
            "feature_size": feature_size,
            "processes": processes,
            "weights": weights,
            "shard": shard,
            "merge": merge,
            "shards": shards,
            "over": over,
        }
        only_with("goes with competition files", allow_malformed=allow_malformed, **competition)
        _prepare_shop(products, out, keep=keep or [], **shop)
        return
    only_with("goes with --products", **shop)
    if not tsv:
        raise DataError("competition files, or --products of a shop, are wanted")
    from shopwindow.cli.progress import progress
    from shopwindow.data import prepare as stage
    from shopwindow.data.cleaning import choose_rules
    from shopwindow.data.dataset import MANIFEST
    from shopwindow.data.line_shards import LineWork

    rules = choose_rules(tuple(keep or ()))
    options, folders = ShardOptions(shard, merge, shards, over), list[Path]()
    if options.given:
        only_with("goes without shards", processes=processes)
        check_replaceable(out, marker=MANIFEST)
        folders = options.run("prepare", LineWork(tuple(tsv), feature_size), out)
        if not folders:
            return
    with progress("prepare") as show:
        report = stage.prepare(
            tsv,
            out,
            feature_size=feature_size,
            rules=rules,
            allow_malformed=allow_malformed,
            processes=1 if folders else _processes_for(tsv) if processes is None else processes,
            weights=weights,
            shards=folders,
            progress=_with_speed(show),
        )
    if folders:
        forget(folders)
    _print_report(report.lines(), out)


def _prepare_shop(
    products: str,
    out: str,
    *,
    keep: list[str],
    clicks: str | None,
    judgements: str | None,
    click_columns: list[str] | None,
    split: Literal["date", "query"] | None,
    held_out: float | None,
    eta: float | None,
    least_clicks: int | None,
) -> None:
    from shopwindow.cli.progress import counting
    from shopwindow.data.clicks import BOTS
    from shopwindow.data.features import Features
    from shopwindow.data.outliers import OUTLIERS
    from shopwindow.data.shop import prepare_shop
    from shopwindow.data.split import HELD_OUT

    at_least(0, eta=eta)
    at_least(1, least_clicks=least_clicks)
    if wrong := [rule for rule in keep if rule not in (BOTS, OUTLIERS)]:
        raise DataError(f"no rule {wrong[0]!r} of clicks; there are {BOTS}, {OUTLIERS}", field="--keep")
    with counting("prepare", "products") as tell:
        report = prepare_shop(
            Features(products),
            clicks,
            out,
            judgements=judgements,
            columns=columns_by_role(click_columns or []),
            way=split,
            share=HELD_OUT if held_out is None else held_out,
            eta=1.0 if eta is None else eta,
            least_clicks=least_clicks or 1,
            keep_bots=BOTS in keep,
            keep_outliers=OUTLIERS in keep,
            progress=tell,
        )
    _print_report(report.counts, out, report.notes)


def columns_by_role(texts: list[str]) -> dict[str, str]:
    """Columns by role. Raises: DataError for what is no role=column."""
    from shopwindow.data.clicks import USUAL

    columns = {}
    for text in texts:
        role, sign, name = text.partition("=")
        if not sign or role not in USUAL:
            problem = f"{text!r}, wanted role=column; roles are {', '.join(USUAL)}"
            raise DataError(problem, field="--click-columns")
        columns[role] = name
    return columns


def _processes_for(tsv: list[str]) -> int:
    """One for each core where the plain files are large enough to be worth the seconds of a start."""
    plain = [Path(name) for name in tsv if is_plain_file(name)]
    if sum(path.stat().st_size for path in plain) < _LARGE_BYTES:
        return 1
    return min(processors(), _MOST)


def _print_report(lines: list[tuple[str, int]], out: str, notes: Sequence[str] = ()) -> None:
    from shopwindow.cli.console import AlignedTable, say

    table = AlignedTable(["prepare", "count"])
    for what, count in lines:
        table.add_row(what, f"{count:,}")
    table.show()
    for note in notes:
        say(note)
    say(f"dataset: {out}")


def _with_speed(show: Show) -> Callable[[int, int, int], None]:
    start = time.monotonic()

    def show_speed(rows: int, done: int, total: int) -> None:
        seconds = max(time.monotonic() - start, 1e-9)
        speed = f"{rows / seconds:,.0f} rows/s, {done / seconds / 1e6:,.0f} MB/s"
        show(float(done), float(total), f"{rows:,} rows, {speed}")

    return show_speed
