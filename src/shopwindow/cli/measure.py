"""The verb that measures: evaluate. It calls `shopwindow.ranking` and prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shopwindow.cli.arguments import only_with
from shopwindow.cli.catalogue import PLAIN, Asking, Catalogues, is_index, measures_to
from shopwindow.cli.console import AlignedTable, counted, print_json, say
from shopwindow.cli.systems import (
    check_numbers,
    check_standard_input,
    overlap_notes,
    read_measures,
    read_runs,
    read_scores,
    score_text,
    system_of,
    systems_of,
)
from shopwindow.files import DataError

if TYPE_CHECKING:
    from shopwindow.ranking.answers import Answers
    from shopwindow.ranking.measures import Measure
    from shopwindow.ranking.pools import Pools
    from shopwindow.ranking.runs import Run
    from shopwindow.ranking.significance import Comparison, System

_MOST_AUDITED = 200_000


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
    score_column: str | None = None,
    json: bool = False,
) -> None:
    """Print how well a run, or the search of an index, ranks the answers, and whether it differs from others.

    Every score stands with its standard error. The mean is over the judged queries: one that the run leaves out
    counts 0, and so does one without any answer. Several files joined by commas (`a1.run,a2.run`) are the repeated
    seeds of one system. An index in place of a run ranks its whole catalogue for the words of --queries.

    Args:
        run: Scores of (query, product): a TREC run, or a TSV or CSV table `query_id product_id score`; `-` is
            standard input. Also JSON `{query: {product: score}}`, lists `query,[[score,'product'],...]`, Parquet, and
            the competition's submission. Or an index, or a folder of `shopwindow shop`.
        answers: The competition's JSON `{query_id: [product_id, ...]}`, or TREC or BEIR qrels (grades above 0 are
            answers).
        against: Runs, or indexes as they are set, to compare with: difference, 95 % interval (paired bootstrap over
            queries), p (paired randomisation, two-sided; also Holm-corrected for several runs), wins/ties/losses in
            queries, and the smallest true difference that these queries would show in 4 of 5 samples.
        pools: The candidates of each query (`query_id product_id`, or a competition TSV): adds random order and the
            oracle for comparison. Without it the audit of the set (see `shopwindow audit`) takes what the run
            ranks for the candidates.
        also: Pools of other splits, for the audit.
        measures: nDCG@5 (the official score), nDCG-ones@5 (divides by five ones always), nDCG-exp@k (gain
            2^grade-1), hit@k, precision@k, recall@k, MRR, MRR@k, MAP, MAP@k. When not given, of a run nDCG@5, hit@1,
            recall@5, recall@10, MRR; of an index nDCG@10, hit@1, recall@10, recall@100, MRR@100.
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
        score_column: The column of the scores, in tables whose header names other columns too.
        json: Prints JSON with the value of every query instead of tables.
    """
    import numpy as np

    from shopwindow.ranking.significance import compare

    words = [run, *(against or [])]
    check_numbers(resamples=resamples, seed=seed)
    check_standard_input(answers, pools, queries, *_paths(words), *(also or []))
    options: dict[str, Any] = {"exact": exact, "hybrid": hybrid, "labels": labels, "where": where}
    options |= {"rerank": rerank, "candidates": candidates}
    if not any(map(is_index, run.split(","))):
        only_with("says how RUN is asked where it is an index; it is none", **options)
    if any(map(is_index, _paths(words))):
        only_with(
            "goes with runs; an index ranks its whole catalogue",
            pools=pools,
            also=also,
            score_column=score_column,
        )
        ranked = _ranked_by_index(words, answers, queries, top, measures, options)
    else:
        only_with("goes with an index in place of a run", queries=queries, top=top)
        ranked = _ranked_in_pools(words, answers, pools, measures, score_column)
    system, *others = systems_of(words, ranked.runs, ranked.answers, ranked.measures)
    frame = [] if ranked.pools is None else _frame(ranked, ranked.pools)
    card = None if is_index(_paths(words)[0]) else _card(ranked, also or [], seed)
    comparisons = compare(system, others, np.random.default_rng(seed), resamples=resamples) if others else []
    if json:
        print_json(
            {
                "systems": [one.to_json() for one in (system, *others, *frame)],
                "comparisons": [comparison.to_json() for comparison in comparisons],
                "notes": ranked.notes,
                "audit": card,
            }
        )
        return
    _print_scores([system, *others], frame, len(ranked.answers.queries))
    for note in ranked.notes:
        say(note)
    if card is not None:
        say(f"audit of {card['candidates']}: {card['verdict']}")
    for other in others:
        _print_comparison(system, other, [one for one in comparisons if one.second == other.name])


@dataclass(frozen=True)
class _Ranked:
    """The runs of each word of the command, what they are measured on, and the notes on them."""

    runs: list[list[Run]]
    answers: Answers
    measures: list[Measure]
    pools: Pools | None
    notes: list[str]


def _paths(words: Sequence[str]) -> list[str]:
    return [path for word in words for path in word.split(",")]


def _ranked_in_pools(
    words: Sequence[str],
    answers: str,
    pools: str | None,
    measures: list[str] | None,
    score_column: str | None,
) -> _Ranked:
    """The runs of all words, read."""
    from shopwindow.ranking.answers import read_answers
    from shopwindow.ranking.measures import DEFAULT_MEASURES
    from shopwindow.ranking.pools import misfit, read_pools

    parsed = list(DEFAULT_MEASURES) if measures is None else read_measures(measures)
    try:
        judged = read_answers(answers)
    except DataError as error:
        raise _perhaps_swapped(error, words[0]) from error
    runs = read_runs(words, lambda path: read_scores(path, score_column))
    candidates = read_pools(pools) if pools else None
    every = [run for group in runs for run in group]
    notes = _shallow_notes(every, parsed)
    shared = overlap_notes(every)
    if candidates is not None:
        names = [f"{run.name}: " if len(every) > 1 else "" for run in every]
        notes = [
            f"{name}{note}"
            for name, run in zip(names, every, strict=True)
            for note in misfit(run, candidates).notes
        ]
    return _Ranked(runs, judged, parsed, candidates, notes + shared)


def _perhaps_swapped(error: DataError, run: str) -> DataError:
    """The error of the answers; where the run holds answers, it says that the two may be swapped."""
    from shopwindow.ranking.answers import read_answers

    try:
        read_answers(run)
    except (DataError, OSError):
        return error
    hint = f"; {run} holds answers: are the two swapped? `evaluate RUN ANSWERS`"
    return DataError(error.problem + hint, path=error.path, line=error.line, field=error.field)


def _ranked_by_index(
    words: Sequence[str],
    answers: str,
    queries: str | None,
    top: int | None,
    measures: list[str] | None,
    options: dict[str, Any],
) -> _Ranked:
    """The runs of all words: an index is asked, the first word's as the options say, the others' plainly."""
    from shopwindow.ranking.answers import read_answers

    if queries is None:
        raise DataError("an index needs it: the words that it is asked", field="--queries")
    depth, parsed = measures_to(top, measures)
    judged = read_answers(answers)
    catalogues = Catalogues(queries, judged, depth)
    asking = Asking.of(**options)

    def read(path: str, asking: Asking = PLAIN) -> Run:
        return catalogues.ranked(path, asking) if is_index(path) else read_scores(path)

    runs = [*read_runs(words[:1], lambda path: read(path, asking)), *read_runs(words[1:], read)]
    shallow = _shallow_notes([run for group in runs for run in group], parsed)
    return _Ranked(runs, judged, parsed, None, catalogues.notes + shallow)


def _frame(ranked: _Ranked, pools: Pools) -> list[System]:
    """Random order, as it is expected, and the oracle."""
    from shopwindow.ranking.chance import random_evaluation
    from shopwindow.ranking.measures import evaluate as evaluate_run
    from shopwindow.ranking.pools import oracle_run

    best = evaluate_run(oracle_run(pools, ranked.answers), ranked.answers, ranked.measures)
    return [system_of(random_evaluation(pools, ranked.answers, ranked.measures)), system_of(best)]


def _card(ranked: _Ranked, also: Sequence[str], seed: int) -> dict[str, Any]:
    """The audit of the pools, or, without them, of what the first run ranks, and which of the two it is."""
    import numpy as np

    from shopwindow.ranking.audit import audit_card
    from shopwindow.ranking.pools import Pools, read_pools

    run, pools, subject = ranked.runs[0][0], ranked.pools, "the set"
    if pools is None:
        pools, subject = Pools.of_run(run), f"what {run.name} ranks (no --pools)"
        if len(pools) > _MOST_AUDITED:
            verdict = f"Left out: {len(pools)} candidates are many; give --pools."
            return {"candidates": subject, "verdict": verdict}
    others = [read_pools(path) for path in also]
    card = audit_card(pools, ranked.answers, np.random.default_rng(seed), also=others)
    return {"candidates": subject} | card


def _print_scores(systems: Sequence[System], frame: Sequence[System], queries: int) -> None:
    table = AlignedTable(["measure", *(system.name for system in (*systems, *frame))])
    for measure in map(str, systems[0].evaluations[0].measures):
        table.add_row(measure, *(score_text(system, measure) for system in (*systems, *frame)))
    table.show()
    say(f"mean over {counted(queries, 'query', 'queries')} ± its standard error", style="dim")
    if any(len(system.evaluations) > 1 for system in systems):
        say("[...]: standard deviation over seeds; the standard error holds both", style="dim")
    evaluations = [evaluation for system in systems for evaluation in system.evaluations]
    for evaluation in evaluations:
        name = f"{evaluation.run}: " if len(evaluations) > 1 else ""
        for note in evaluation.notes:
            say(f"{name}{note}")


def _print_comparison(system: System, other: System, comparisons: Sequence[Comparison]) -> None:
    say(f"\n{system.name} against {other.name}", style="bold")
    table = AlignedTable(["measure", "ahead by", "95 % interval", "p", "p (Holm)", "w/t/l", "detects"])
    for comparison in comparisons:
        table.add_row(
            comparison.measure,
            f"{comparison.difference:+.4f}",
            f"{comparison.low:+.4f} to {comparison.high:+.4f}",
            f"{comparison.p_value:.4f}",
            f"{comparison.p_corrected:.4f}",
            f"{comparison.wins}/{comparison.ties}/{comparison.losses}",
            f"{comparison.detectable:.4f}",
        )
    table.show()
    main = comparisons[0]
    say(f"{main.measure}: {main.verdict}.")
    say(main.sensitivity)
    say("w/t/l: queries won, tied, lost. Holm: over the runs compared, within one measure.")
    if main.single_note is not None:
        say(main.single_note)
    _print_most_different(system, other, main.measure)


def _print_most_different(system: System, other: System, measure: str) -> None:
    from shopwindow.ranking.significance import most_different

    gains, losses = most_different(system, other, measure)
    ours, theirs = system.of(measure).mean(axis=0), other.of(measure).mean(axis=0)
    for rows, better in ((gains, system.name), (losses, other.name)):
        if len(rows):
            values = ", ".join(f"{system.queries[row]} ({ours[row]:.2f}, {theirs[row]:.2f})" for row in rows)
            say(f"{better} is most ahead in queries {values}")


def _shallow_notes(runs: Sequence[Run], measures: Sequence[Measure]) -> list[str]:
    """Where a measure reads further than a run ranks."""
    notes = []
    for run in runs:
        deeper = [str(measure) for measure in measures if measure.k is not None and measure.k > run.depth]
        if deeper:
            name = f"{run.name}: " if len(runs) > 1 else ""
            ranked = f"{counted(run.depth, 'product')} of a query {'is' if run.depth == 1 else 'are'} ranked"
            verb = "see" if len(deeper) > 1 else "sees"
            notes.append(f"{name}at most {ranked}: {', '.join(deeper)} {verb} no more")
    return notes
