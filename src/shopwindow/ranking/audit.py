"""Can this set be scored without doing the job? Shortcuts measured, strata shown, runs cleared of them, a verdict.

A shortcut *leaks* when it scores more than a margin above random order and the difference is real (paired
randomisation test, one-sided, Holm-corrected over the shortcuts). A shortcut's ties are broken at random and its score
is the mean over tie-breaking seeds; a run's ties rank by product id, as everywhere. Random order is the exact
expectation. It knows pools, answers, runs and plain arrays; no dataset and no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float64, Int64

from shopwindow.ids import Pairs, offsets_of, positions
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.chance import random_values
from shopwindow.ranking.cleared import Cleared, chance_corrected, cleared
from shopwindow.ranking.fusion import normalise
from shopwindow.ranking.measures import Measure, evaluate
from shopwindow.ranking.pools import Pools, grades_of, misfit, oracle_run, run_of
from shopwindow.ranking.runs import Run
from shopwindow.ranking.shortcuts import (
    Shortcut,
    occurrence_shortcuts,
    occurrences,
    order_shortcuts,
    prefix_shortcut,
)
from shopwindow.ranking.significance import Score, holm, mean_scores, randomisation_p_values

OFFICIAL: Final = Measure("nDCG", 5)
MARGIN: Final = 0.03
TIE_SEEDS: Final = 30
_STRATA: Final = ((1, 1), (2, 2), (3, 3), (4, 7), (8, 15), (16, 31), (32, None))


@dataclass(frozen=True)
class Line:
    """One order that needs no query, and what it is worth. `above_random` is paired, query by query."""

    name: str
    score: Score
    above_random: Score
    p_corrected: float
    leaks: bool


@dataclass(frozen=True)
class Stratum:
    """Candidates that share a property, and how many of them are answers."""

    name: str
    candidates: int
    answers: int

    @property
    def probability(self) -> float:
        """P(answer | stratum); NaN without candidates."""
        return self.answers / self.candidates if self.candidates else float("nan")


@dataclass(frozen=True)
class RunAudit:
    """A run's score, also corrected for chance; what it would be with each shortcut added after the fact; and where
    occurrence counts and every grouping shortcut that leaks say nothing. `not_cleared`: leaks that order, not group.

    `missing`: judged queries that it leaves out, `unscored`: candidates that it does not score, `outside`: products
    that it scores and that are no candidates.
    """

    name: str
    score: Score
    corrected: Score
    after: dict[str, Score]
    cleared: Cleared | None
    not_cleared: tuple[str, ...]
    missing: int
    unscored: int
    outside: int


@dataclass(frozen=True)
class Audit:
    """What can be scored on a set without its queries."""

    measure: str
    queries: int
    candidates: int
    answers: int
    margin: float
    random: Score
    oracle: Score
    lines: tuple[Line, ...]
    strata: tuple[Stratum, ...]
    runs: tuple[RunAudit, ...]
    notes: tuple[str, ...] = ()

    @property
    def leaks(self) -> tuple[Line, ...]:
        """The shortcuts that leak, the strongest first."""
        return tuple(sorted((line for line in self.lines if line.leaks), key=lambda line: -line.score.mean))

    @property
    def verdict(self) -> str:
        """The result in plain words."""
        scale = f"random order scores {self.random.mean:.3f}, the best possible {self.oracle.mean:.3f}"
        if not self.leaks:
            most = max(self.lines, key=lambda line: line.above_random.mean)
            return (
                f"No leak found: none of {len(self.lines)} shortcuts is found to be more than {self.margin:g} above"
                f" random order ({scale}; the best of them, {most.name!r}, {most.above_random.mean:+.3f}, corrected p"
                f" {most.p_corrected:.2g})."
            )
        worst = self.leaks[0]
        return (
            f"This set leaks: without the query, {worst.name!r} alone reaches {worst.score.mean:.3f}"
            f" in {self.measure} ({scale}). {len(self.leaks)} of {len(self.lines)} shortcuts leak. Scores on it"
            " compare only systems that cannot see or use this; do not use it to re-order results."
        )


def audit(
    pools: Pools,
    answers: Answers,
    generator: np.random.Generator,
    *,
    also: Sequence[Pools] = (),
    shortcuts: Sequence[Shortcut] = (),
    runs: Sequence[Run] = (),
    measure: Measure = OFFICIAL,
    margin: float = MARGIN,
    tie_seeds: int = TIE_SEEDS,
    resamples: int = 10_000,
) -> Audit:
    """Measures the built-in shortcuts and the given ones on the pools' queries, and what they add to each run.

    `resamples` are those of the intervals.

    Raises: ValueError where no query of the pools is judged, other pools are these very ones, a run scores no
        candidate, or as `Measure.values`.
    """
    if any(_are_equal(pools, other) for other in also):
        raise ValueError("the other pools are the pools themselves; another split was wanted")
    judged = _judged(pools, answers)
    grades = grades_of(pools, answers)
    counts = occurrences(pools, also)
    every = [
        *order_shortcuts(pools),
        prefix_shortcut(pools, grades, generator),
        *occurrence_shortcuts(counts),
        *shortcuts,
    ]
    ties = generator.random((tie_seeds, len(pools)))

    def values(scores: Float64[np.ndarray, "rows"]) -> Float64[np.ndarray, "queries"]:
        taken = [_values_of(pools, _without_ties(scores, tie), judged, measure) for tie in ties]
        mean: Float64[np.ndarray, "queries"] = np.mean(taken, axis=0)
        return mean

    chance = random_values(pools, judged, measure)
    oracle = evaluate(oracle_run(pools, answers), judged, [measure]).values[0]
    rows = np.stack([values(shortcut.scores) for shortcut in every])
    p_values = holm(randomisation_p_values(rows - chance, generator, alternative="greater"))
    scores = mean_scores(np.stack([chance, oracle, *rows]), generator, resamples=resamples)
    above = mean_scores(rows - chance, generator, resamples=resamples)
    lines = tuple(
        Line(one.name, score, lead, float(p), bool(lead.mean > margin and p < 0.05))
        for one, score, lead, p in zip(every, scores[2:], above, p_values, strict=True)
    )
    leaking = [one for one, line in zip(every, lines, strict=True) if line.leaks]
    groupings = [np.unique(one.scores, return_inverse=True)[1] for one in leaking if one.is_grouping]
    keys = np.vstack([counts, *groupings])
    not_cleared = tuple(one.name for one in leaking if not one.is_grouping)
    return Audit(
        measure=str(measure),
        queries=len(judged.queries),
        candidates=len(pools),
        answers=int((grades > 0).sum()),
        margin=margin,
        random=scores[0],
        oracle=scores[1],
        lines=lines,
        strata=tuple(_strata(counts, grades)),
        runs=tuple(
            _run_audit(run, pools, judged, measure, every, keys, not_cleared, generator, resamples)
            for run in runs
        ),
    )


def audit_card(
    pools: Pools, answers: Answers, generator: np.random.Generator, *, also: Sequence[Pools] = ()
) -> dict[str, Any]:
    """The audit in few words, as plain values for JSON: what a score card carries of the set it was measured on.

    Quicker than `audit` (fewer tie-breaking seeds). Raises: ValueError where no query of the pools is judged.
    """
    found = audit(pools, answers, generator, also=also, tie_seeds=5, resamples=1000)
    return {
        "verdict": found.verdict,
        "measure": found.measure,
        "random": found.random.mean,
        "best_possible": found.oracle.mean,
        "leaks": {line.name: line.score.mean for line in found.leaks},
    }


def _judged(pools: Pools, answers: Answers) -> Answers:
    """The answers of the pools' queries only: an audit is of these pools."""
    kept = positions(answers.queries, pools.queries) >= 0
    if not kept.any():
        raise ValueError("no query of the pools is judged in the answers")
    rows = np.repeat(kept, np.diff(answers.offsets))
    return Answers(
        queries=answers.queries[kept],
        offsets=offsets_of(np.diff(answers.offsets)[kept]),
        product_ids=answers.product_ids[rows],
        grades=answers.grades[rows],
    )


def _are_equal(pools: Pools, other: Pools) -> bool:
    return np.array_equal(pools.query_ids, other.query_ids) and np.array_equal(
        pools.product_ids, other.product_ids
    )


def _without_ties(
    scores: Float64[np.ndarray, "rows"], tie: Float64[np.ndarray, "rows"]
) -> Float64[np.ndarray, "rows"]:
    """Scores in the same order without ties: what was tied is ordered by `tie`."""
    order = np.lexsort((tie, scores))
    places = np.empty(len(scores))
    places[order] = np.arange(len(scores))
    return places


def _values_of(
    pools: Pools, scores: Float64[np.ndarray, "rows"], answers: Answers, measure: Measure
) -> Float64[np.ndarray, "queries"]:
    return evaluate(run_of(pools, scores, name="shortcut"), answers, [measure]).of(measure)


def _strata(counts: Int64[np.ndarray, "files rows"], grades: Float64[np.ndarray, "rows"]) -> list[Stratum]:
    """P(answer | occurrences in this file), and whether the product occurs in the other files."""
    right = grades > 0

    def stratum(name: str, inside: np.ndarray) -> Stratum:
        return Stratum(name, int(inside.sum()), int(right[inside].sum()))

    found = []
    for least, most in _STRATA:
        inside = (counts[0] >= least) & (counts[0] <= (most or counts[0].max()))
        if inside.any():
            many = (
                f"{least} or more" if most is None else f"{least}" if least == most else f"{least} to {most}"
            )
            found.append(stratum(f"in {many} pool{'s' * (most != 1)}", inside))
    if len(counts) > 1:
        elsewhere = counts[1:].sum(axis=0)
        found += [
            stratum("also in the other files", elsewhere > 0),
            stratum("not in the other files", elsewhere == 0),
        ]
    return found


def _run_audit(
    run: Run,
    pools: Pools,
    answers: Answers,
    measure: Measure,
    shortcuts: Sequence[Shortcut],
    keys: Int64[np.ndarray, "keys rows"],
    not_cleared: tuple[str, ...],
    generator: np.random.Generator,
    resamples: int,
) -> RunAudit:
    rows = Pairs.of(run.queries, run.offsets, run.product_ids).find(
        pools.queries, pools.offsets, pools.product_ids
    )
    if not (rows >= 0).any():
        raise ValueError(f"{run.name} scores no candidate of the pools: are its ids of another set?")
    own = np.where(rows >= 0, np.append(run.scores, np.nan)[rows], np.nan)
    normal = normalise(own, pools.offsets, "zscore")
    _, place = np.unique(normalise(own, pools.offsets, "rank"), return_inverse=True)
    evaluation = evaluate(run, answers, [measure])
    values = [evaluation.values[0]]
    for shortcut in shortcuts:
        if shortcut.is_grouping:
            _, grouped = np.unique(shortcut.scores, return_inverse=True)
            combined = (grouped * (place.max() + 1) + place).astype(np.float64)
        else:
            combined = normal + normalise(shortcut.scores, pools.offsets, "zscore")
        values.append(_values_of(pools, combined, answers, measure))
    scores = mean_scores(np.stack(values), generator, resamples=resamples)
    chance = random_values(pools, answers, measure)
    unscored, outside = misfit(run, pools)
    return RunAudit(
        name=run.name,
        score=scores[0],
        corrected=chance_corrected(values[0], chance, generator, resamples=resamples),
        after={shortcut.name: score for shortcut, score in zip(shortcuts, scores[1:], strict=True)},
        cleared=cleared(
            pools, answers, place.astype(np.float64), keys, generator, measure=measure, resamples=resamples
        ),
        not_cleared=not_cleared,
        missing=len(evaluation.missing),
        unscored=unscored,
        outside=outside,
    )
