"""The verbs that measure and combine runs: evaluate, fuse, submit. They call `shopwindow.ranking` and print."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from shopwindow.cli.console import aligned_table, print_json, standard_output
from shopwindow.files import STANDARD_STREAM, DataError

if TYPE_CHECKING:
    from rich.console import Console

    from shopwindow.ranking.answers import Answers
    from shopwindow.ranking.measures import Evaluation, Measure
    from shopwindow.ranking.pools import Pools
    from shopwindow.ranking.runs import Run
    from shopwindow.ranking.significance import Comparison, System

DEFAULT_MEASURES = ["nDCG@5", "nDCG-ones@5", "hit@1", "recall@5", "recall@10", "MRR"]


def evaluate(
    run: str,
    answers: str,
    *,
    against: list[str] | None = None,
    pools: str | None = None,
    measures: list[str] = DEFAULT_MEASURES,
    resamples: int = 10_000,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Prints what a run is worth on a set of answers, and whether it differs from other runs.

    Every score stands with its standard error. The mean is over the judged queries: one that the run leaves out
    counts 0, and so does one without any answer. Several files joined by commas (`a1.run,a2.run`) are the repeated
    seeds of one system.

    Args:
        run: Scores of (query, product): a TREC run, or a TSV or CSV table `query_id product_id score`; `-` is
            standard input.
        answers: The competition's JSON `{query_id: [product_id, ...]}`, or TREC qrels (grades above 0 are answers).
        against: Runs to compare with: difference, 95 % interval (paired bootstrap over queries), p (paired
            randomisation, two-sided; also Holm-corrected for several runs), wins/ties/losses in queries, and the
            smallest true difference that these queries would show in 4 of 5 samples.
        pools: The candidates of each query (`query_id product_id`, or a competition TSV): adds random order and the
            oracle for comparison, and the audit of the set (see `shopwindow audit`).
        measures: nDCG@5 (the official score), nDCG-ones@5 (divides by five ones always), nDCG-exp@k (gain
            2^grade-1), hit@k, precision@k, recall@k, MRR, MRR@k, MAP, MAP@k.
        resamples: Draws of the bootstrap and of the randomisation test.
        seed: Of these draws.
        json: Prints JSON with the value of every query instead of tables.
    """
    import numpy as np

    from shopwindow.ranking.answers import read_answers
    from shopwindow.ranking.audit import audit_card
    from shopwindow.ranking.measures import evaluate as evaluate_run
    from shopwindow.ranking.pools import read_pools
    from shopwindow.ranking.significance import compare

    taken = read_measures(measures)
    _one_standard_input(
        answers, pools, *run.split(","), *(path for word in against or [] for path in word.split(","))
    )
    found = read_answers(answers)
    words = [run, *(against or [])]
    runs = read_runs(words)
    system, *others = systems_of(words, runs, found, taken)
    candidates = read_pools(pools) if pools else None
    frame = [_of_one(evaluate_run(scored, found, taken)) for scored in _frame(found, candidates)]
    card = audit_card(candidates, found, np.random.default_rng(seed)) if candidates else None
    comparisons = compare(system, others, np.random.default_rng(seed), resamples=resamples) if others else []
    if json:
        print_json(
            {
                "systems": [_system_as_json(one) for one in (system, *others, *frame)],
                "comparisons": [asdict(one) | {"is_real": one.is_real} for one in comparisons],
                "audit": card,
            }
        )
        return
    console = standard_output()
    _print_scores(console, [system, *frame], len(found.queries))
    if candidates is not None and card is not None:
        for note in _pool_notes(runs[0][0], candidates):
            console.print(note)
        console.print(f"audit of the set: {card['verdict']}", markup=False)
    for other in others:
        _print_comparison(console, system, other, [one for one in comparisons if one.second == other.name])


def fuse(
    runs: list[str],
    *,
    out: str,
    method: Literal["mean", "zscore", "rank", "rrf"] = "zscore",
    weights: list[float] | None = None,
    learn: str | None = None,
    folds: int = 5,
    seed: int = 0,
) -> None:
    """Combines several runs into one.

    A product that one of the runs does not score gets the lowest value that this run gives in the query.

    Args:
        runs: Two or more runs, TREC or tables.
        out: Where the fused run is written (TREC); `-` is standard output.
        method: What is averaged, per query: the scores as they are (mean), less the mean and over the standard
            deviation (zscore), the place from 1 to 0 (rank), or 1/(60+rank) (rrf).
        weights: One number per run; equal when not given.
        learn: Answers to learn the weights from. Every query is then ranked by weights learned without it, and that
            run is written; its score is the honest one. The printed weights are of all queries, for use elsewhere.
        folds: Into how many parts the queries are dealt for --learn.
        seed: Of the dealing.
    """
    from shopwindow.ranking.fusion import align
    from shopwindow.ranking.fusion import fuse as fuse_runs
    from shopwindow.ranking.runs import read_run, run_name, write_run

    if len(runs) < 2:
        raise DataError("two runs or more are needed")
    if learn is not None and weights is not None:
        raise DataError("--weights gives the weights, --learn learns them: one of the two")
    _one_standard_input(*runs, learn)
    read = [read_run(path) for path in runs]
    name = "fused" if out == STANDARD_STREAM else run_name(out)
    quiet = out == STANDARD_STREAM
    fused = _learned(read, learn, method, folds, seed, name, quiet=quiet) if learn else None
    write_run(fused or fuse_runs(read, method=method, weights=weights, name=name), out)
    if not quiet:
        console = standard_output()
        aligned = align(read)
        for run, count in zip(read, aligned.unscored.tolist(), strict=True):
            if count:
                console.print(
                    f"{run.name}: {count} of {len(aligned.pools)} candidates not scored", markup=False
                )
        console.print(
            f"{out}: {len(aligned.pools.queries)} queries, {len(aligned.pools)} candidates", markup=False
        )


def _learned(
    runs: Sequence[Run], learn: str, method: str, folds: int, seed: int, name: str, *, quiet: bool
) -> Run:
    """The held-out fused run; prints the weights and how it compares with each run."""
    import numpy as np

    from shopwindow.ranking.answers import read_answers
    from shopwindow.ranking.fusion import learn_weights
    from shopwindow.ranking.measures import Measure
    from shopwindow.ranking.measures import evaluate as evaluate_run
    from shopwindow.ranking.significance import compare

    answers = read_answers(learn)
    generator = np.random.default_rng(seed)
    learned = learn_weights(runs, answers, generator, method=method, folds=folds, name=name)
    if quiet:
        return learned.held_out
    measure = Measure("nDCG", 5)
    systems = [_of_one(evaluate_run(run, answers, [measure])) for run in (learned.held_out, *runs)]
    comparisons = compare(systems[0], systems[1:], generator)
    table = aligned_table(
        ["run", "weight", "over folds", "nDCG@5", "fused is ahead", "95 % interval", "p (Holm)"]
    )
    table.add_row(f"{name} (held out)", "", "", _score(systems[0], "nDCG@5"), "", "", "")
    for index, (system, one) in enumerate(zip(systems[1:], comparisons, strict=True)):
        over = learned.fold_weights[:, index]
        table.add_row(
            system.name,
            f"{learned.weights[index]:.3f}",
            f"{over.min():.3f} to {over.max():.3f}",
            _score(system, "nDCG@5"),
            f"{one.difference:+.4f}",
            f"{one.low:+.4f} to {one.high:+.4f}",
            f"{one.p_corrected:.4f}",
        )
    console = standard_output()
    console.print(table)
    console.print(
        f"for other queries: --method {method} --weights " + " ".join(f"{w:.4f}" for w in learned.weights)
    )
    return learned.held_out


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
    console = standard_output()
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


def read_measures(words: Iterable[str]) -> list[Measure]:
    """The measures of words, each one or several with commas between."""
    from shopwindow.ranking.measures import Measure

    found = [Measure.parse(part) for word in words for part in word.split(",") if part.strip()]
    if not found:
        raise DataError("no measure was named")
    return list(dict.fromkeys(found))


def _one_standard_input(*paths: str | None) -> None:
    if paths.count(STANDARD_STREAM) > 1:
        raise DataError("only one file can be read from standard input")


def _frame(answers: Answers, pools: Pools | None) -> list[Run]:
    """Random order and the oracle, where the pools are known."""
    import numpy as np

    from shopwindow.ranking.pools import oracle_run, random_run

    return [random_run(pools, np.random.default_rng(0)), oracle_run(pools, answers)] if pools else []


def read_runs(words: Sequence[str]) -> list[list[Run]]:
    """The runs of each word: of one file, or of several joined by commas."""
    from shopwindow.ranking.runs import read_run

    return [[read_run(path) for path in word.split(",")] for word in words]


def systems_of(
    words: Sequence[str], runs: Sequence[Sequence[Run]], answers: Answers, measures: Sequence[Measure]
) -> list[System]:
    """Each word's runs as a system, several runs as its repeated seeds.

    Named by the file; by the whole word where two different words would have the same name.
    """
    from shopwindow.ranking.measures import evaluate as evaluate_run
    from shopwindow.ranking.significance import System

    names = [found[0].name + (f" and {len(found) - 1} more" if len(found) > 1 else "") for found in runs]
    systems = []
    for word, name, found in zip(words, names, runs, strict=True):
        same = {other for other, called in zip(words, names, strict=True) if called == name}
        evaluations = tuple(evaluate_run(one, answers, measures) for one in found)
        systems.append(System(name if len(same) == 1 else word, evaluations))
    return systems


def _of_one(evaluation: Evaluation) -> System:
    from shopwindow.ranking.significance import System

    return System(evaluation.run, (evaluation,))


def _print_scores(console: Console, systems: Sequence[System], queries: int) -> None:
    table = aligned_table(["measure", *(system.name for system in systems)])
    for measure in map(str, systems[0].evaluations[0].measures):
        table.add_row(measure, *(_score(system, measure) for system in systems))
    console.print(table)
    console.print(f"mean over {queries} queries ± its standard error", style="dim")
    if any(len(system.evaluations) > 1 for system in systems):
        console.print(
            "[...]: standard deviation over seeds; the standard error holds both", style="dim", markup=False
        )
    for evaluation in systems[0].evaluations:
        for note in _notes(evaluation):
            console.print(f"{evaluation.run}: {note}" if len(systems[0].evaluations) > 1 else note)


def _print_comparison(
    console: Console, system: System, other: System, comparisons: Sequence[Comparison]
) -> None:
    console.print(f"\n{system.name} against {other.name}", style="bold", markup=False)
    table = aligned_table(["measure", "ahead by", "95 % interval", "p", "p (Holm)", "w/t/l", "shows"])
    for one in comparisons:
        table.add_row(
            one.measure,
            f"{one.difference:+.4f}",
            f"{one.low:+.4f} to {one.high:+.4f}",
            f"{one.p_value:.4f}",
            f"{one.p_corrected:.4f}",
            f"{one.wins}/{one.ties}/{one.losses}",
            f"{one.detectable:.4f}",
        )
    console.print(table)
    main = comparisons[0]
    console.print(
        f"{main.measure}: the difference {'is real' if main.is_real else 'cannot be told from chance'} (5 %)."
    )
    console.print(
        f"With {main.queries} queries a true difference below {main.detectable:.3f} is missed in more than 1 of 5"
        " samples (shows). w/t/l: queries won, tied, lost."
    )
    _print_most_different(console, system, other, main.measure)


def _print_most_different(console: Console, system: System, other: System, measure: str) -> None:
    from shopwindow.ranking.significance import most_different

    gains, losses = most_different(system, other, measure)
    ours, theirs = system.of(measure).mean(axis=0), other.of(measure).mean(axis=0)
    for rows, better in ((gains, system.name), (losses, other.name)):
        if len(rows):
            shown = ", ".join(f"{system.queries[row]} ({ours[row]:.2f}, {theirs[row]:.2f})" for row in rows)
            console.print(f"{better} is most ahead in queries {shown}", markup=False)


def _pool_notes(run: Run, pools: Pools) -> list[str]:
    """Where a run and the pools do not fit."""
    from shopwindow.ranking.ids import Pairs

    scored, given = (Pairs.of(one.queries, one.offsets, one.product_ids) for one in (run, pools))
    unscored = int((scored.find(pools.queries, pools.offsets, pools.product_ids) < 0).sum())
    outside = int((given.find(run.queries, run.offsets, run.product_ids) < 0).sum())
    notes = [
        f"candidates of the pools that the run does not score: {unscored}" if unscored else "",
        f"products that the run scores outside the pools, ranked all the same: {outside}" if outside else "",
    ]
    return [note for note in notes if note]


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
                "standard_error": evaluation.standard_error(measure),
                "per_query": dict(zip(queries, evaluation.of(measure).tolist(), strict=True)),
            }
            for measure in evaluation.measures
        },
    }


def _system_as_json(system: System) -> dict[str, Any]:
    runs = [_as_json(evaluation) for evaluation in system.evaluations]
    if len(runs) == 1:
        return runs[0]
    measures = map(str, system.evaluations[0].measures)
    scores = {
        measure: {
            "mean": system.mean(measure),
            "standard_error": system.standard_error(measure),
            "spread": system.spread(measure),
        }
        for measure in measures
    }
    return {"run": system.name, "measures": scores, "seeds": runs}


def _score(system: System, measure: str) -> str:
    error, spread = system.standard_error(measure), system.spread(measure)
    shown = f"{system.mean(measure):.4f}" + (f" ± {error:.4f}" if math.isfinite(error) else "")
    return shown + (f" [{spread:.4f}]" if math.isfinite(spread) else "")
