"""Can this set be scored without doing the job? Shortcuts measured, strata shown, runs cleared of them, a verdict.

A shortcut *leaks* when it scores more than a margin above random order and the difference is real (paired
randomisation test, Holm-corrected over the shortcuts). Ties are broken at random and the score is the mean over
tie-breaking seeds. It knows pools, answers, runs and plain arrays; no dataset and no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float64, Int64

from shopwindow.ranking.answers import Answers
from shopwindow.ranking.fusion import normalise
from shopwindow.ranking.ids import Pairs, codes_of, group, offsets_of, positions
from shopwindow.ranking.measures import Measure, evaluate
from shopwindow.ranking.pools import Pools, grades_of, oracle_run, run_of
from shopwindow.ranking.runs import Run
from shopwindow.ranking.shortcuts import (
    Shortcut,
    occurrence_shortcuts,
    occurrences,
    order_shortcuts,
    prefix_shortcut,
)
from shopwindow.ranking.significance import bootstrap_intervals, holm, randomisation_p_values

OFFICIAL: Final = Measure("nDCG", 5)
MARGIN: Final = 0.03
TIE_SEEDS: Final = 30
_STRATA: Final = ((1, 1), (2, 2), (3, 3), (4, 7), (8, 15), (16, 31), (32, None))


@dataclass(frozen=True)
class Score:
    """A mean over queries with its 95 % interval."""

    mean: float
    low: float
    high: float


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
class Cleared:
    """A run's score where occurrence counts say nothing, beside random order's on the same candidates.

    Defined: each pool is parted into groups of candidates that stand in equally many pools (of every file). A group
    counts when it holds an answer and a non-answer; it is scored as a pool of its own. A query's value is the mean
    over its groups, weighted by their answers: the measure as seen by an answer drawn at random, among candidates
    that counting cannot tell from it. Queries without such a group (`queries` of all are left) are out.
    """

    score: Score
    random: Score
    above_random: Score
    queries: int


@dataclass(frozen=True)
class RunAudit:
    """A run's score; what it would be with each shortcut added after the fact; and where the shortcut says nothing."""

    name: str
    score: Score
    after: dict[str, Score]
    cleared: Cleared | None


@dataclass(frozen=True)
class Audit:
    """What can be scored on a set without its queries."""

    measure: str
    queries: int
    candidates: int
    margin: float
    random: Score
    oracle: Score
    lines: tuple[Line, ...]
    strata: tuple[Stratum, ...]
    runs: tuple[RunAudit, ...]

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
                f"No leak found: none of {len(self.lines)} shortcuts is really more than {self.margin:g} above random"
                f" order ({scale}; the best of them, {most.name!r}, {most.above_random.mean:+.3f})."
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

    Raises: ValueError where no query of the pools is judged, or as `Measure.values`.
    """
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
        taken = [_values(pools, _ranked(scores, tie), judged, measure) for tie in ties]
        mean: Float64[np.ndarray, "queries"] = np.mean(taken, axis=0)
        return mean

    chance = values(np.zeros(len(pools)))
    oracle = evaluate(oracle_run(pools, answers), judged, [measure]).values[0]
    rows = np.stack([values(shortcut.scores) for shortcut in every])
    p_values = holm(randomisation_p_values(rows - chance, generator, resamples=resamples))
    scores = _scores(np.stack([chance, oracle, *rows]), generator, resamples)
    above = _scores(rows - chance, generator, resamples)
    lines = tuple(
        Line(one.name, score, lead, float(p), bool(lead.mean > margin and p < 0.05))
        for one, score, lead, p in zip(every, scores[2:], above, p_values, strict=True)
    )
    return Audit(
        measure=str(measure),
        queries=len(judged.queries),
        candidates=len(pools),
        margin=margin,
        random=scores[0],
        oracle=scores[1],
        lines=lines,
        strata=tuple(_strata(counts, grades)),
        runs=tuple(
            _run_audit(run, pools, judged, measure, every, counts, ties, generator, resamples) for run in runs
        ),
    )


def audit_card(pools: Pools, answers: Answers, generator: np.random.Generator) -> dict[str, Any]:
    """The audit in few words, as plain values for JSON: what a score card carries of the set it was measured on.

    Quicker than `audit` (fewer seeds and resamples). Raises: ValueError where no query of the pools is judged.
    """
    found = audit(pools, answers, generator, tie_seeds=5, resamples=1000)
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


def _ranked(
    scores: Float64[np.ndarray, "rows"], tie: Float64[np.ndarray, "rows"]
) -> Float64[np.ndarray, "rows"]:
    """Scores in the same order without ties: what was tied is ordered by `tie`."""
    order = np.lexsort((tie, scores))
    places = np.empty(len(scores))
    places[order] = np.arange(len(scores))
    return places


def _values(
    pools: Pools, scores: Float64[np.ndarray, "rows"], answers: Answers, measure: Measure
) -> Float64[np.ndarray, "queries"]:
    return evaluate(run_of(pools, scores, name="shortcut"), answers, [measure]).of(measure)


def _scores(
    values: Float64[np.ndarray, "rows queries"], generator: np.random.Generator, resamples: int
) -> list[Score]:
    ends = bootstrap_intervals(values, generator, resamples=resamples).tolist()
    return [
        Score(mean, low, high) for mean, (low, high) in zip(values.mean(axis=1).tolist(), ends, strict=True)
    ]


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
    counts: Int64[np.ndarray, "files rows"],
    ties: Float64[np.ndarray, "seeds rows"],
    generator: np.random.Generator,
    resamples: int,
) -> RunAudit:
    rows = Pairs.of(run.queries, run.offsets, run.product_ids).find(
        pools.queries, pools.offsets, pools.product_ids
    )
    own = np.where(rows >= 0, np.append(run.scores, np.nan)[rows], np.nan)
    normal = normalise(own, pools.offsets, "zscore")
    last = np.where(np.isnan(own), -np.inf, 0.0)
    _, run_order = np.unique(normal + last, return_inverse=True)
    values = [evaluate(run, answers, [measure]).values[0]]
    for shortcut in shortcuts:
        if shortcut.is_grouping:
            combined = _ranked(shortcut.scores, run_order.astype(np.float64))
        else:
            combined = normal + normalise(shortcut.scores, pools.offsets, "zscore")
        values.append(_values(pools, combined, answers, measure))
    scores = _scores(np.stack(values), generator, resamples)
    return RunAudit(
        name=run.name,
        score=scores[0],
        after={shortcut.name: score for shortcut, score in zip(shortcuts, scores[1:], strict=True)},
        cleared=cleared(
            pools, answers, normal + last, counts, ties, generator, measure=measure, resamples=resamples
        ),
    )


def cleared(
    pools: Pools,
    answers: Answers,
    scores: Float64[np.ndarray, "rows"],
    keys: Int64[np.ndarray, "keys rows"],
    ties: Float64[np.ndarray, "seeds rows"],
    generator: np.random.Generator,
    *,
    measure: Measure = OFFICIAL,
    resamples: int = 10_000,
) -> Cleared | None:
    """The scores measured only among candidates of one pool that are equal in all `keys` (see `Cleared`).

    None where no group holds both an answer and a non-answer.
    """
    grades = grades_of(pools, answers)
    codes = codes_of(pools.offsets)
    _, groups = np.unique(np.vstack([codes, keys]), axis=1, return_inverse=True)
    groups = groups.ravel()
    right = np.bincount(groups, weights=grades > 0)
    usable = ((right > 0) & (right < np.bincount(groups)))[groups]
    if not usable.any():
        return None
    groups, grades, right = groups[usable], grades[usable], right[np.unique(groups[usable])]
    parts = group(groups.astype(np.int64))
    inside = Pools.from_arrays(groups, pools.product_ids[usable])
    order = parts.order
    narrowed = Answers.from_arrays(
        groups[grades > 0], pools.product_ids[usable][grades > 0], grades[grades > 0]
    )
    query = codes[usable][order][parts.offsets[:-1]]
    left, query = np.unique(query, return_inverse=True)

    def by_query(taken: Float64[np.ndarray, "_"], tie: Float64[np.ndarray, "_"]) -> Float64[np.ndarray, "_"]:
        found = _values(inside, _ranked(taken[usable], tie[usable])[order], narrowed, measure)
        total: Float64[np.ndarray, "_"] = np.bincount(query, weights=found * right) / np.bincount(
            query, weights=right
        )
        return total

    finite = np.where(np.isfinite(scores), scores, np.finfo(np.float64).min)
    mine = np.mean([by_query(finite, tie) for tie in ties], axis=0)
    chance = np.mean([by_query(np.zeros(len(codes)), tie) for tie in ties], axis=0)
    score, random, above = _scores(np.stack([mine, chance, mine - chance]), generator, resamples)
    return Cleared(score=score, random=random, above_random=above, queries=len(left))
