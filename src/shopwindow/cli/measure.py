"""The verb that measures: evaluate. It calls `shopwindow.ranking` and prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from shopwindow.cli.arguments import only_with
from shopwindow.cli.catalogue import PLAIN, Asking, Catalogues, is_index, measures_to
from shopwindow.cli.console import AlignedTable, counted, print_json, standard_output
from shopwindow.cli.systems import (
    check_numbers,
    check_standard_input,
    read_measures,
    read_runs,
    score_text,
    system_of,
    systems_of,
)
from shopwindow.files import DataError

if TYPE_CHECKING:
    from rich.console import Console

    from shopwindow.ranking.answers import Answers
    from shopwindow.ranking.measures import Evaluation, Measure
    from shopwindow.ranking.pools import Pools
    from shopwindow.ranking.runs import Run
    from shopwindow.ranking.significance import Comparison, System

_MOST_AUDITED = 200_000
DEFAULT_MEASURES = ["nDCG@5", "nDCG-ones@5", "hit@1", "recall@5", "recall@10", "MRR"]


def evaluate(
    run: str,
    answers: str,
    *,
    against: list[str] | None = None,
    pools: str | None = None,
    also: list[str] | None = None,
    measures: list[str] | None = None,
    queries: str | None = None,
    top: int | None = None,
    exact: bool = False,
    hybrid: bool = False,
    labels: list[int] | None = None,
    where: list[str] | None = None,
    rerank: str | None = None,
    candidates: int | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Prints what a run, or the search of an index, is worth on a set of answers, and whether it differs from others.

    Every score stands with its standard error. The mean is over the judged queries: one that the run leaves out
    counts 0, and so does one without any answer. Several files joined by commas (`a1.run,a2.run`) are the repeated
    seeds of one system. An index in place of a run ranks its whole catalogue for the words of --queries.

    Args:
        run: Scores of (query, product): a TREC run, or a TSV or CSV table `query_id product_id score`; `-` is
            standard input. Or an index, a directory that `shopwindow index make` wrote.
        answers: The competition's JSON `{query_id: [product_id, ...]}`, or TREC qrels (grades above 0 are answers).
        against: Runs, or indexes as they are set, to compare with: difference, 95 % interval (paired bootstrap over
            queries), p (paired randomisation, two-sided; also Holm-corrected for several runs), wins/ties/losses in
            queries, and the smallest true difference that these queries would show in 4 of 5 samples.
        pools: The candidates of each query (`query_id product_id`, or a competition TSV): adds random order and the
            oracle for comparison. Without it the audit of the set (see `shopwindow audit`) takes what the run
            ranks for the candidates.
        also: Pools of other splits, for the audit.
        measures: nDCG@5 (the official score), nDCG-ones@5 (divides by five ones always), nDCG-exp@k (gain
            2^grade-1), hit@k, precision@k, recall@k, MRR, MRR@k, MAP, MAP@k. When not given, of a run nDCG@5,
            nDCG-ones@5, hit@1, recall@5, recall@10, MRR; of an index nDCG@10, hit@1, recall@10, recall@100, MRR@100.
        queries: The words that an index is asked: a dataset, or a table `query_id<TAB>query`.
        top: How many products of each query an index ranks; 100, or as many as a measure reads, when not given.
        exact: How RUN, an index, is asked, as in search; so do --hybrid, --labels, --where, --rerank and --candidates.
            What --against names is asked plainly: `evaluate INDEX ... --hybrid --against INDEX` shows what full text
            brings.
        hybrid: As in search.
        labels: As in search.
        where: As in search.
        rerank: As in search.
        candidates: As in search.
        resamples: Draws of the bootstrap and of the randomisation test.
        seed: Of these draws.
        json: Prints JSON with the value of every query instead of tables.
    """
    import numpy as np

    from shopwindow.ranking.answers import read_answers
    from shopwindow.ranking.pools import read_pools
    from shopwindow.ranking.significance import compare

    words = [run, *(against or [])]
    paths = [path for word in words for path in word.split(",")]
    check_numbers(resamples=resamples, seed=seed)
    check_standard_input(answers, pools, queries, *paths, *(also or []))
    if not any(map(is_index, run.split(","))):
        only_with(
            "says how RUN is asked where it is an index; it is none",
            exact=exact,
            hybrid=hybrid,
            labels=labels,
            where=where,
            rerank=rerank,
            candidates=candidates,
        )
    if any(map(is_index, paths)):
        only_with("goes with runs; an index ranks its whole catalogue", pools=pools, also=also)
        if queries is None:
            raise DataError("an index needs it: the words that it is asked", field="--queries")
        depth, taken = measures_to(top, measures)
        found = read_answers(answers)
        catalogues = Catalogues(queries, found, depth)
        asking = Asking.of(
            exact=exact, hybrid=hybrid, labels=labels, where=where, rerank=rerank, candidates=candidates
        )
        runs = _ranked(catalogues, words, asking)
        notes = catalogues.notes
    else:
        only_with("goes with an index in place of a run", queries=queries, top=top)
        taken, found = read_measures(measures or DEFAULT_MEASURES), read_answers(answers)
        runs, notes = read_runs(words), []
    system, *others = systems_of(words, runs, found, taken)
    pooled = read_pools(pools) if pools else None
    frame = _frame(found, pooled, taken) if pooled else []
    every = [one for group in runs for one in group]
    notes += _shallow_notes(every, taken) if pooled is None else _pool_notes(every, pooled)
    card = None if is_index(paths[0]) else _card(runs[0][0], pooled, found, also or [], seed)
    comparisons = compare(system, others, np.random.default_rng(seed), resamples=resamples) if others else []
    if json:
        print_json(
            {
                "systems": [_system_as_json(one) for one in (system, *others, *frame)],
                "comparisons": [asdict(one) | {"is_real": one.is_real} for one in comparisons],
                "notes": notes,
                "audit": card,
            }
        )
        return
    console = standard_output()
    _print_scores(console, [system, *others], frame, len(found.queries))
    for note in notes:
        console.print(note)
    if card is not None:
        console.print(f"audit of {card['candidates']}: {card['verdict']}")
    for other in others:
        _print_comparison(console, system, other, [one for one in comparisons if one.second == other.name])


def _ranked(catalogues: Catalogues, words: Sequence[str], asking: Asking) -> list[list[Run]]:
    """The runs of all words: what is an index is asked, the first word's as said, the others' plainly."""
    from shopwindow.ranking.runs import read_run

    def read(path: str, asking: Asking = PLAIN) -> Run:
        return catalogues.ranked(path, asking) if is_index(path) else read_run(path)

    return [*read_runs(words[:1], lambda path: read(path, asking)), *read_runs(words[1:], read)]


def _frame(answers: Answers, pools: Pools, measures: Sequence[Measure]) -> list[System]:
    """Random order, as it is expected, and the oracle."""
    from shopwindow.ranking.chance import random_evaluation
    from shopwindow.ranking.measures import evaluate as evaluate_run
    from shopwindow.ranking.pools import oracle_run

    best = evaluate_run(oracle_run(pools, answers), answers, measures)
    return [system_of(random_evaluation(pools, answers, measures)), system_of(best)]


def _card(run: Run, pools: Pools | None, answers: Answers, also: Sequence[str], seed: int) -> dict[str, Any]:
    """The audit of the pools, or, without them, of what the run ranks, and which of the two it is."""
    import numpy as np

    from shopwindow.ranking.audit import audit_card
    from shopwindow.ranking.pools import Pools, read_pools

    taken = Pools.of_run(run) if pools is None else pools
    said = "the set" if pools else f"what {run.name} ranks (no --pools)"
    if pools is None and len(taken) > _MOST_AUDITED:
        verdict = f"Left out: {len(taken)} candidates are many; give --pools."
        return {"candidates": said, "verdict": verdict}
    others = [read_pools(path) for path in also]
    return {"candidates": said} | audit_card(taken, answers, np.random.default_rng(seed), also=others)


def _print_scores(console: Console, systems: Sequence[System], frame: Sequence[System], queries: int) -> None:
    table = AlignedTable(["measure", *(system.name for system in (*systems, *frame))])
    for measure in map(str, systems[0].evaluations[0].measures):
        table.add_row(measure, *(score_text(system, measure) for system in (*systems, *frame)))
    console.print(table)
    console.print(f"mean over {counted(queries, 'query', 'queries')} ± its standard error", style="dim")
    if any(len(system.evaluations) > 1 for system in systems):
        console.print("[...]: standard deviation over seeds; the standard error holds both", style="dim")
    runs = [one for system in systems for one in system.evaluations]
    for evaluation in runs:
        for note in _notes(evaluation):
            console.print(f"{evaluation.run}: {note}" if len(runs) > 1 else note)


def _print_comparison(
    console: Console, system: System, other: System, comparisons: Sequence[Comparison]
) -> None:
    console.print(f"\n{system.name} against {other.name}", style="bold")
    table = AlignedTable(["measure", "ahead by", "95 % interval", "p", "p (Holm)", "w/t/l", "detects"])
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
        f"With {main.queries} queries a difference seen below {main.noticeable:.3f} cannot be told from chance, and a"
        f" true one below {main.detectable:.3f} is missed in more than 1 of 5 samples (detects)."
    )
    console.print("w/t/l: queries won, tied, lost. Holm: over the runs compared, within one measure.")
    if main.single is not None:
        console.print(
            f"{main.single} is a single run: it is charged the other side's variance over seeds.",
        )
    _print_most_different(console, system, other, main.measure)


def _print_most_different(console: Console, system: System, other: System, measure: str) -> None:
    from shopwindow.ranking.significance import most_different

    gains, losses = most_different(system, other, measure)
    ours, theirs = system.of(measure).mean(axis=0), other.of(measure).mean(axis=0)
    for rows, better in ((gains, system.name), (losses, other.name)):
        if len(rows):
            shown = ", ".join(f"{system.queries[row]} ({ours[row]:.2f}, {theirs[row]:.2f})" for row in rows)
            console.print(f"{better} is most ahead in queries {shown}")


def _pool_notes(runs: Sequence[Run], pools: Pools) -> list[str]:
    """Where runs and the pools do not fit."""
    from shopwindow.ranking.pools import misfit

    notes = []
    for run in runs:
        named = f"{run.name}: " if len(runs) > 1 else ""
        unscored, outside = misfit(run, pools)
        if unscored:
            notes.append(f"{named}candidates of the pools that the run does not score: {unscored}")
        if outside:
            notes.append(
                f"{named}products that the run scores outside the pools, ranked all the same: {outside}"
            )
    return notes


def _shallow_notes(runs: Sequence[Run], measures: Sequence[Measure]) -> list[str]:
    """Where a measure reads further than a run ranks."""
    notes = []
    for run in runs:
        longest = max((run.offsets[1:] - run.offsets[:-1]).tolist(), default=0)
        deeper = [str(measure) for measure in measures if measure.k is not None and measure.k > longest]
        if deeper:
            shown = f"{run.name}: " if len(runs) > 1 else ""
            notes.append(
                f"{shown}at most {counted(longest, 'product')} of a query {'is' if longest == 1 else 'are'} ranked: "
                f"{', '.join(deeper)} {'see' if deeper[1:] else 'sees'} no more"
            )
    return notes


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
