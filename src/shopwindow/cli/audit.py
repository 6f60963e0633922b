"""The verb that looks at a set: audit. It composes `shopwindow.ranking` and `shopwindow.report`, and prints."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

from shopwindow.cli.arguments import Replaced
from shopwindow.cli.console import AlignedTable, print_json, say
from shopwindow.cli.systems import check_numbers, check_overlap, read_scores
from shopwindow.files import DataError

if TYPE_CHECKING:
    from shopwindow.ranking.audit import Audit, RunAudit
    from shopwindow.ranking.significance import Score

LEAKS = 1


def audit(
    *,
    pools: str,
    answers: str,
    also: list[str] | None = None,
    run: list[str] | None = None,
    dataset: str | None = None,
    train: str | None = None,
    measure: str = "nDCG@5",
    fail_above: float | None = None,
    html: Replaced | None = None,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Show which score a set gives without reading the query.

    Orders that never read the query are measured beside random order and the best possible: the order of the file,
    product ids, how often a product occurs, and with a dataset boxes, labels, sizes and photos. An order leaks when it
    is more than 0.03 above random and the difference is significant.

    Args:
        pools: The candidates of each query: a table `query_id product_id`, or a competition TSV.
        answers: Competition JSON or TREC qrels.
        also: Pools of other splits, in which the same products may occur.
        run: Runs to judge: their score, what each shortcut would add, and the score where occurrence says nothing.
        dataset: The prepared set of these pools: adds models on boxes, labels and sizes, and on the photos' features,
            that never read the query (held out by query and by product).
        train: The prepared training set: adds the popularity of products in it, and, with --dataset, its words.
        measure: One measure, as in evaluate.
        fail_above: Ends with status 1 when a shortcut leaks by more than this above random order.
        html: Where the report is written.
        seed: Of held-out parts and resampling.
        json: Prints JSON instead of tables.
    """
    from shopwindow.ranking.answers import read_answers
    from shopwindow.ranking.audit import MARGIN
    from shopwindow.ranking.measures import Measure
    from shopwindow.ranking.pools import grades_of, read_pools
    from shopwindow.report.sources import audit_set

    check_numbers(seed=seed)
    parsed, candidates, judged = Measure.parse(measure), read_pools(pools), read_answers(answers)
    if not grades_of(candidates, judged).any():
        raise DataError("no answer is among the candidates: pools of another set?", path=pools)
    runs = [read_scores(path) for path in run or []]
    for one in runs:
        check_overlap(one, judged)
    audited = audit_set(
        candidates,
        judged,
        also=also or [],
        dataset=dataset,
        train=train,
        runs=runs,
        measure=parsed,
        margin=MARGIN if fail_above is None else fail_above,
        seed=seed,
    )
    if html is not None:
        _write_page(audited, [pools, answers, *(also or []), *(run or [])], html, seed)
    if json:
        print_json(audited.to_json())
    else:
        _print_audit(audited)
    if fail_above is not None and audited.leaks:
        sys.exit(LEAKS)


def _write_page(audited: Audit, files: list[str], out: str, seed: int) -> None:
    from shopwindow.report.report import audit_report
    from shopwindow.report.sources import Outside, provenance

    audit_report(audited, outside=Outside(provenance=provenance(files, seed=seed))).write(out)


def _print_audit(audited: Audit) -> None:
    table = AlignedTable(["order", audited.measure, "95 % interval", "over random", "p (Holm)", ""])
    for name, score in (("best possible", audited.oracle), ("random", audited.random)):
        table.add_row(name, *_cells(score), "", "", "")
    for line in sorted(audited.lines, key=lambda line: -line.score.mean):
        lead, p = f"{line.above_random.mean:+.3f}", f"{line.p_corrected:.4f}"
        leaks = "may leak" if audited.may_leak(line) else "leaks" if line.leaks else ""
        table.add_row(line.name, *_cells(line.score), lead, p, leaks)
    table.show()
    say("")
    table = AlignedTable(["candidates", "number", "answers", "P(answer)"])
    for stratum in audited.strata:
        numbers = str(stratum.candidates), str(stratum.answers), f"{stratum.probability:.3f}"
        table.add_row(stratum.name, *numbers)
    table.show()
    for run in audited.runs:
        _print_run(run, audited)
    for note in audited.notes:
        say(f"\n{note}")
    say(f"\n{audited.verdict}")


def _print_run(run: RunAudit, audited: Audit) -> None:
    """What leaking shortcuts add to a run, and its score where grouping shortcuts say nothing."""
    say(f"\n{run.name}", style="bold")
    table = AlignedTable(["", audited.measure, "95 % interval"])
    table.add_row("the run", *_cells(run.score))
    leaking = {line.name for line in audited.leaks}
    for name, score in run.after.items():
        if name in leaking:
            table.add_row(f"+ {name}", *_cells(score))
    table.show()
    say("")
    _de_leaked(run, audited).show()
    for note in audited.notes_on(run):
        say(note)


def _de_leaked(run: RunAudit, audited: Audit) -> AlignedTable:
    """The run's score on the full pools and cleared of shortcuts, both beside random order."""
    columns = ["de-leaked", "(s-r)/(1-r)", "95 % interval", audited.measure, "random", "over random"]
    table = AlignedTable(columns)
    rows = [("full pools", run.corrected, run.score, audited.random)]
    if run.cleared is not None:
        rows.append(("cleared", run.cleared.corrected, run.cleared.score, run.cleared.random))
    for name, corrected, score, random in rows:
        lead = f"{score.mean - random.mean:+.3f}"
        table.add_row(name, *_cells(corrected), f"{score.mean:.3f}", f"{random.mean:.3f}", lead)
    return table


def _cells(score: Score) -> tuple[str, str]:
    known = math.isfinite(score.low)
    return f"{score.mean:.3f}", f"{score.low:.3f} to {score.high:.3f}" if known else ""
