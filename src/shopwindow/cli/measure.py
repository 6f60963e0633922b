"""The verbs that measure: evaluate and submit. They read, call `shopwindow.ranking` and print; they hold no logic."""

from __future__ import annotations

import json as json_text
import math
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from shopwindow.files import STANDARD_STREAM, DataError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from shopwindow.ranking.answers import Answers
    from shopwindow.ranking.measures import Evaluation, Measure
    from shopwindow.ranking.runs import Run

DEFAULT_MEASURES = ["nDCG@5", "nDCG-ones@5", "hit@1", "recall@5", "recall@10", "MRR"]


def evaluate(
    run: str,
    answers: str,
    *,
    pools: str | None = None,
    measures: list[str] = DEFAULT_MEASURES,
    json: bool = False,
) -> None:
    """Prints what a run is worth on a set of answers, each score with its standard error.

    The mean is over the judged queries: one that the run leaves out counts 0, and so does one without any answer.

    Args:
        run: Scores of (query, product): a TREC run, or a TSV or CSV table `query_id product_id score`; `-` is
            standard input.
        answers: The competition's JSON `{query_id: [product_id, ...]}`, or TREC qrels (grades above 0 are answers).
        pools: The candidates of each query (`query_id product_id`, or a competition TSV): adds random order and the
            oracle for comparison.
        measures: nDCG@5 (the official score), nDCG-ones@5 (divides by five ones always), nDCG-exp@k (gain
            2^grade-1), hit@k, precision@k, recall@k, MRR, MRR@k, MAP, MAP@k.
        json: Prints JSON with the value of every query instead of a table.
    """
    from shopwindow.ranking.answers import read_answers
    from shopwindow.ranking.measures import evaluate as evaluate_run
    from shopwindow.ranking.runs import read_run

    taken = _measures(measures)
    _one_standard_input(run, answers, pools)
    found = read_answers(answers)
    evaluations = [evaluate_run(scored, found, taken) for scored in _framed(read_run(run), found, pools)]
    if json:
        _print_json([_as_json(evaluation) for evaluation in evaluations])
        return
    console = _console()
    table = _table(["measure", *(evaluation.run for evaluation in evaluations)])
    for measure in taken:
        table.add_row(str(measure), *(_score(evaluation, measure) for evaluation in evaluations))
    console.print(table)
    console.print(f"mean over {len(found.queries)} queries ± its standard error", style="dim")
    for note in _notes(evaluations[0]):
        console.print(note)


def submit(run: str, *, out: str | None = None, pools: str | None = None, check: bool = False) -> None:
    """Writes the competition's submission of a run, or checks one from elsewhere.

    `shopwindow submit RUN --out CSV` writes `query-id,product1,...,product5`, one line per query, five different
    products of its pool; `shopwindow submit --check CSV` says whether a file is such a submission.

    Args:
        run: The run; with --check, the submission.
        out: Where the submission is written.
        pools: The candidates of each query of the split (`query_id product_id`, or a competition TSV). Without it
            the run's own products are the pools, and a check sees the form only.
        check: Checks a submission instead of writing one.
    """
    from shopwindow.ranking.pools import Pools, read_pools
    from shopwindow.ranking.runs import read_run
    from shopwindow.ranking.submission import check_submission, write_submission

    _one_standard_input(run, pools)
    given = read_pools(pools) if pools else None
    console = _console()
    if check:
        if out is not None:
            raise DataError("--check writes nothing; leave out --out or --check")
        count = check_submission(run, given)
        scope = "every product in its pool" if given else "form only; give --pools to check membership"
        console.print(f"{run}: right, {count} queries ({scope})")
        return
    if out is None:
        raise DataError("--out FILE is needed (or --check to check a submission)")
    scored = read_run(run)
    split = given or Pools.of_run(scored)
    write_submission(scored, split, out)
    if out != STANDARD_STREAM:
        console.print(f"{out}: {len(split.queries)} queries")


def _measures(words: Iterable[str]) -> list[Measure]:
    from shopwindow.ranking.measures import Measure

    return [Measure.parse(part) for word in words for part in word.split(",") if part.strip()]


def _one_standard_input(*paths: str | None) -> None:
    if paths.count(STANDARD_STREAM) > 1:
        raise DataError("only one file can be read from standard input")


def _framed(run: Run, answers: Answers, pools: str | None) -> list[Run]:
    """The run; where the pools are known, random order and the oracle beside it."""
    import numpy as np

    from shopwindow.ranking.pools import oracle_run, random_run, read_pools

    if pools is None:
        return [run]
    candidates = read_pools(pools)
    return [run, random_run(candidates, np.random.default_rng(0)), oracle_run(candidates, answers)]


def _notes(evaluation: Evaluation) -> list[str]:
    return [
        f"{what}: {len(ids)}, the first is {ids[0]}"
        for ids, what in (
            (evaluation.missing, "judged queries that are not in the run, counted 0"),
            (evaluation.unanswered, "judged queries without an answer, counted 0"),
            (evaluation.extra, "queries of the run that are not judged, not counted"),
        )
        if len(ids)
    ]


def _as_json(evaluation: Evaluation) -> dict[str, Any]:
    queries = [str(query) for query in evaluation.queries.tolist()]
    return {
        "run": evaluation.run,
        "queries": len(queries),
        "missing": evaluation.missing.tolist(),
        "unanswered": evaluation.unanswered.tolist(),
        "extra": evaluation.extra.tolist(),
        "measures": {
            str(measure): {
                "mean": evaluation.mean(measure),
                "standard_error": _number(evaluation.standard_error(measure)),
                "per_query": dict(zip(queries, evaluation.of(measure).tolist(), strict=True)),
            }
            for measure in evaluation.measures
        },
    }


def _number(value: float) -> float | None:
    """JSON knows no NaN."""
    return value if math.isfinite(value) else None


def _print_json(content: object) -> None:
    sys.stdout.write(json_text.dumps(content, indent=1, allow_nan=False) + "\n")


def _score(evaluation: Evaluation, measure: Measure) -> str:
    mean, error = evaluation.mean(measure), evaluation.standard_error(measure)
    return f"{mean:.4f} ± {error:.4f}" if math.isfinite(error) else f"{mean:.4f}"


def _console() -> Console:
    """Standard output as it is: colours on a terminal; wide, plain and unwrapped in a pipe."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=1000, no_color=True)


def _table(columns: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    return table
