"""The verbs that turn runs into other files: fuse, submit. They compose `shopwindow.ranking` and print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from shopwindow.cli.arguments import Replaced
from shopwindow.cli.console import AlignedTable, counted, remark, say
from shopwindow.cli.systems import (
    check_numbers,
    check_overlap,
    check_standard_input,
    overlap_notes,
    read_scores,
    score_text,
    system_of,
)
from shopwindow.files import STANDARD_STREAM, DataError

if TYPE_CHECKING:
    import numpy as np

    from shopwindow.ranking.answers import Answers
    from shopwindow.ranking.runs import Run


def fuse(
    runs: list[str],
    *,
    out: Replaced,
    method: Literal["mean", "zscore", "rank", "rrf"] = "zscore",
    weights: list[float] | None = None,
    learn: str | None = None,
    folds: int = 5,
    answers: str | None = None,
    seed: int = 0,
    score_column: str | None = None,
) -> None:
    """Combine several runs into one.

    A product that one of the runs does not score stands below all that this run scores in the query.

    Args:
        runs: Two or more runs: TREC, tables, JSON, Parquet, or submissions.
        out: Where the fused run is written (TREC); `-` is standard output.
        method: What is averaged, per query: the scores as they are (mean), less the mean and over the standard
            deviation (zscore), the place from 1 to 0 (rank), or 1/(60+rank) (rrf).
        weights: One number per run; equal when not given.
        learn: Answers to learn the weights from. Every query is then ranked by weights learned without it, and that
            run is written; its score is the honest one. The printed weights are of all queries, for use elsewhere.
        folds: Into how many parts the queries are dealt for --learn.
        answers: Without --learn: answers to say what the fused run is worth, beside each run.
        seed: Of the dealing and resampling.
        score_column: The column of the scores, in tables whose header names other columns too.
    """
    import numpy as np

    from shopwindow.ranking.answers import read_answers
    from shopwindow.ranking.fusion import align
    from shopwindow.ranking.fusion import fuse as fuse_runs
    from shopwindow.ranking.runs import run_name, write_run

    if len(runs) < 2:
        raise DataError("two runs or more are needed")
    if learn is not None and weights is not None:
        raise DataError("--weights gives the weights, --learn learns them: one of the two")
    if learn is not None and answers is not None:
        raise DataError("--learn measures on its own answers: leave out --answers")
    check_numbers(seed=seed)
    check_standard_input(*runs, learn, answers)
    parts, quiet = [read_scores(path, score_column) for path in runs], out == STANDARD_STREAM
    for note in overlap_notes(parts):
        remark(note)
    name, generator = "fused" if quiet else run_name(out), np.random.default_rng(seed)
    if learn is not None:
        fused = _learned(parts, read_answers(learn), generator, method, folds, name, quiet=quiet)
    else:
        fused = fuse_runs(parts, method=method, weights=weights, name=name)
    write_run(fused, out)
    if quiet:
        return
    if answers is not None:
        _print_fused(fused, parts, read_answers(answers), generator)
    aligned = align(parts)
    for run, count in zip(parts, aligned.unscored.tolist(), strict=True):
        if count:
            say(f"{run.name}: {count} of {len(aligned.pools)} candidates not scored")
    queries = counted(len(aligned.pools.queries), "query", "queries")
    say(f"{out}: {queries}, {counted(len(aligned.pools), 'candidate')}")


def submit(
    run: str,
    *,
    out: Replaced | None = None,
    pools: str | None = None,
    check: bool = False,
    score_column: str | None = None,
) -> None:
    """Write the competition's submission of a run, or check one from elsewhere.

    `shopwindow submit RUN --out CSV` writes `query-id,product1,...,product5`, one line per query, five different
    products of its pool; `shopwindow submit --check CSV` says whether a file is such a submission.

    Args:
        run: The run; with --check, the submission.
        out: Where the submission is written.
        pools: The candidates of each query of the split (`query_id product_id`, or a competition TSV). Without it
            the run's own products are the pools, and a check sees the form only.
        check: Checks a submission instead of writing one.
        score_column: The column of the scores, in a table whose header names other columns too.
    """
    from shopwindow.ranking.pools import Pools, read_pools
    from shopwindow.ranking.submission import check_submission, write_submission

    check_standard_input(run, pools)
    candidates = read_pools(pools) if pools else None
    if check:
        if out is not None:
            raise DataError("--check writes nothing; leave out --out or --check")
        count = check_submission(run, candidates)
        scope = "every product in its pool" if candidates else "form only; give --pools to check membership"
        say(f"{run}: right, {counted(count, 'query', 'queries')} ({scope})")
        return
    if out is None:
        raise DataError("--out FILE is needed (or --check to check a submission)")
    scored = read_scores(run, score_column)
    split = candidates or Pools.of_run(scored)
    write_submission(scored, split, out)
    if out != STANDARD_STREAM:
        say(f"{out}: {counted(len(split.queries), 'query', 'queries')}")


def _learned(
    runs: Sequence[Run],
    answers: Answers,
    generator: np.random.Generator,
    method: str,
    folds: int,
    name: str,
    *,
    quiet: bool,
) -> Run:
    """The held-out fused run; prints the weights and how it compares with each run."""
    from shopwindow.ranking.fusion import learn_weights

    learned = learn_weights(runs, answers, generator, method=method, folds=folds, name=name)
    if not quiet:
        weights = [
            (f"{weight:.3f}", f"{over.min():.3f} to {over.max():.3f}")
            for weight, over in zip(learned.weights, learned.fold_weights.T, strict=True)
        ]
        _print_fused(learned.held_out, runs, answers, generator, weights=weights)
        of_all = " ".join(f"{weight:.4f}" for weight in learned.weights)
        say(f"for other queries: --method {method} --weights {of_all}")
    return learned.held_out


def _print_fused(
    fused: Run,
    runs: Sequence[Run],
    answers: Answers,
    generator: np.random.Generator,
    *,
    weights: Sequence[tuple[str, str]] = (),
) -> None:
    """What the fused run is worth and how it compares with each run; with weights, it was held out."""
    from shopwindow.ranking.measures import Measure
    from shopwindow.ranking.measures import evaluate as evaluate_run
    from shopwindow.ranking.significance import compare

    for run in runs:
        check_overlap(run, answers)
    systems = [system_of(evaluate_run(run, answers, [Measure("nDCG", 5)])) for run in (fused, *runs)]
    comparisons = compare(systems[0], systems[1:], generator)
    learned, label = (["weight", "over folds"], " (held out)") if weights else ([], "")
    table = AlignedTable(["run", *learned, "nDCG@5", "fused is ahead", "95 % interval", "p (Holm)"])
    blank = [""] * len(learned)
    table.add_row(f"{fused.name}{label}", *blank, score_text(systems[0], "nDCG@5"), "", "", "")
    for index, (system, comparison) in enumerate(zip(systems[1:], comparisons, strict=True)):
        table.add_row(
            system.name,
            *(weights[index] if weights else ()),
            score_text(system, "nDCG@5"),
            f"{comparison.difference:+.4f}",
            f"{comparison.low:+.4f} to {comparison.high:+.4f}",
            f"{comparison.p_corrected:.4f}",
        )
    table.show()
