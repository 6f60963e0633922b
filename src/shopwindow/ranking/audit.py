"""Can this set be scored without doing the job? Shortcuts measured, strata shown, runs cleared of them, a verdict.

A shortcut *leaks* when it scores more than a margin above random order and the difference is significant. The test is
paired randomisation, one-sided, Holm-corrected over the shortcuts. A shortcut's score is its exact expectation over all
orders of its ties, and so is random order; a run's ties rank by product id, as everywhere. A shortcut *may leak* when
it is so near the margin, or near p = 0.05, that other queries could decide otherwise. It knows pools, answers, runs and
plain arrays; no dataset and no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float64, Int64

from shopwindow.ids import Pairs, offsets_of, positions
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.chance import Cleared, chance_corrected, cleared, expected_values, random_values
from shopwindow.ranking.fusion import normalise
from shopwindow.ranking.measures import Measure, evaluate
from shopwindow.ranking.pools import Misfit, Pools, grades_of, misfit, oracle_run, run_of
from shopwindow.ranking.runs import Run
from shopwindow.ranking.shortcuts import (
    Shortcut,
    occurrence_shortcuts,
    occurrences,
    order_shortcuts,
    prefix_shortcut,
)
from shopwindow.ranking.significance import BORDERLINE, Score, holm, mean_scores, randomisation_p_values

OFFICIAL: Final = Measure("nDCG", 5)
MARGIN: Final = 0.03
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
    """A run's score, also corrected for chance, and what it would be `after` each shortcut is added to it.

    `cleared`: the score where occurrence counts and every leaking shortcut that groups say nothing; None where no
    group is usable. `not_cleared`: leaking shortcuts that order and do not group. `missing`: judged queries that the
    run leaves out. `unscored`: candidates that it does not score. `outside`: products that it scores outside the pools.
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


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        return f"Audit({self.queries:,} queries: {self.verdict})"

    @property
    def leaks(self) -> tuple[Line, ...]:
        """The shortcuts that leak, the strongest first."""
        return tuple(sorted((line for line in self.lines if line.leaks), key=lambda line: -line.score.mean))

    def may_leak(self, line: Line) -> bool:
        """Whether a shortcut is too near the margin, or too near p = 0.05, to say that it leaks or does not."""
        low, mean, high = line.above_random.low, line.above_random.mean, line.above_random.high
        near_margin = low <= self.margin <= high and line.p_corrected <= BORDERLINE[1]
        near_level = mean > self.margin and BORDERLINE[0] <= line.p_corrected <= BORDERLINE[1]
        return near_margin or near_level

    @property
    def verdict(self) -> str:
        """The result in plain words."""
        scale = f"random order scores {self.random.mean:.3f}, the best possible {self.oracle.mean:.3f}"
        most = max(self.lines, key=lambda line: line.above_random.mean)
        if not self.leaks:
            near = f" But {self._nearness(most)}" if self.may_leak(most) else ""
            return (
                f"No leak found: none of {len(self.lines)} shortcuts is significantly more than {self.margin:g} above"
                f" random order. {scale.capitalize()}. The best shortcut is {most.name!r}:"
                f" {most.above_random.mean:+.3f}, corrected p {most.p_corrected:.2g}.{near}"
            )
        worst, may = self.leaks[0], all(map(self.may_leak, self.leaks))
        return (
            f"This set {'may leak' if may else 'leaks'}: without the query, {worst.name!r} alone reaches"
            f" {worst.score.mean:.3f} in {self.measure} ({scale}). {len(self.leaks)} of {len(self.lines)} shortcuts"
            f" {'do' if may else 'leak'}. {self._nearness(worst) + ' ' if may else ''}Scores on it compare only systems"
            " that cannot see or use this; do not use it to re-order results."
        )

    def _nearness(self, line: Line) -> str:
        lead = line.above_random
        return (
            f"{line.name!r} is near the threshold of {self.margin:g} above random order: {lead.mean:+.3f}, 95 %"
            f" interval {lead.low:+.3f} to {lead.high:+.3f}, corrected p {line.p_corrected:.2g}."
            " Other queries may decide otherwise."
        )

    def notes_on(self, run: RunAudit) -> list[str]:
        """What the scores of one of its runs do not show, a line each: what cleared it, and what it leaves out."""
        cleared = "cleared: no pool holds an answer and another candidate that occur equally often"
        if run.cleared is not None:
            queries, answers = run.cleared.queries / self.queries, run.cleared.answers / self.answers
            cleared = (
                f"cleared: among candidates that occur equally often; {queries:.0%} of the queries and {answers:.0%}"
                " of the answers are left"
            )
        leaks = f"not cleared of: {', '.join(run.not_cleared)}" if run.not_cleared else None
        missing = f"judged queries that are not in the run, counted 0: {run.missing}" if run.missing else None
        notes = [note for note in (cleared, leaks, missing) if note is not None]
        return notes + Misfit(run.unscored, run.outside).notes

    def to_json(self) -> dict[str, Any]:
        """The audit as plain values for JSON."""
        strata = [asdict(stratum) | {"probability": stratum.probability} for stratum in self.strata]
        leaks = [line.name for line in self.leaks]
        return asdict(self) | {"strata": strata, "verdict": self.verdict, "leaks": leaks}


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
    resamples: int = 10_000,
    notes: Sequence[str] = (),
) -> Audit:
    """Measures the built-in shortcuts and the given ones on the pools' queries, and what they add to each run.

    `resamples` are those of the intervals. A generator of one seed gives a shortcut the same score beside any others.

    Raises: ValueError where no query of the pools is judged, other pools are these very ones, a run scores no
    candidate, or as `Measure.values`.
    """
    if any(_are_equal(pools, other) for other in also):
        raise ValueError("the other pools are the pools themselves; another split was wanted")
    judged = _judged(pools, answers)
    grades = grades_of(pools, answers)
    counts = occurrences(pools, also)
    tried = [
        *order_shortcuts(pools),
        prefix_shortcut(pools, grades, generator),
        *occurrence_shortcuts(counts),
        *shortcuts,
    ]
    chance = random_values(pools, judged, measure)
    oracle = evaluate(oracle_run(pools, answers), judged, [measure]).values[0]
    values = np.stack([expected_values(pools, shortcut.scores, judged, measure) for shortcut in tried])
    p_values = holm(randomisation_p_values(values - chance, generator, alternative="greater"))
    random, best, *scores = mean_scores(np.stack([chance, oracle, *values]), generator, resamples=resamples)
    leads = mean_scores(values - chance, generator, resamples=resamples)
    lines = tuple(
        Line(shortcut.name, score, lead, float(p), bool(lead.mean > margin and p < 0.05))
        for shortcut, score, lead, p in zip(tried, scores, leads, p_values, strict=True)
    )
    leaking = [shortcut for shortcut, line in zip(tried, lines, strict=True) if line.leaks]
    ground = _Ground(pools, judged, measure, chance, leaking, _group_keys(counts, leaking), resamples)
    return Audit(
        measure=str(measure),
        queries=len(judged.queries),
        candidates=len(pools),
        answers=int((grades > 0).sum()),
        margin=margin,
        random=random,
        oracle=best,
        lines=lines,
        strata=tuple(_strata(counts, grades)),
        runs=tuple(_run_audit(run, ground, tried, generator) for run in runs),
        notes=tuple(notes),
    )


def audit_card(
    pools: Pools, answers: Answers, generator: np.random.Generator, *, also: Sequence[Pools] = ()
) -> dict[str, Any]:
    """The audit in few words, as plain values for JSON: what a score card carries of the set it was measured on.

    Raises: ValueError where no query of the pools is judged.
    """
    audited = audit(pools, answers, generator, also=also)
    return {
        "verdict": audited.verdict,
        "measure": audited.measure,
        "random": audited.random.mean,
        "best_possible": audited.oracle.mean,
        "leaks": {line.name: line.score.mean for line in audited.leaks},
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


def _group_keys(
    counts: Int64[np.ndarray, "files rows"], leaking: Sequence[Shortcut]
) -> Int64[np.ndarray, "keys rows"]:
    """What a group shares when runs are cleared: the occurrence counts, and every leaking shortcut that groups."""
    groupings = [np.unique(one.scores, return_inverse=True)[1] for one in leaking if one.is_grouping]
    return np.vstack([counts, *groupings])


def _strata(counts: Int64[np.ndarray, "files rows"], grades: Float64[np.ndarray, "rows"]) -> list[Stratum]:
    """P(answer | occurrences in this file), and whether the product occurs in the other files."""
    right = grades > 0

    def stratum(name: str, inside: np.ndarray) -> Stratum:
        return Stratum(name, int(inside.sum()), int(right[inside].sum()))

    strata = []
    for least, most in _STRATA:
        inside = (counts[0] >= least) & (counts[0] <= (most or counts[0].max()))
        if inside.any():
            upper = " or more" if most is None else "" if least == most else f" to {most}"
            strata.append(stratum(f"in {least}{upper} pool{'s' * (most != 1)}", inside))
    if len(counts) > 1:
        elsewhere = counts[1:].sum(axis=0)
        strata += [
            stratum("also in the other files", elsewhere > 0),
            stratum("not in the other files", elsewhere == 0),
        ]
    return strata


@dataclass(frozen=True, eq=False)
class _Ground:
    """What every run is audited on: pools and answers, random order's values, leaks, and the keys that part pools."""

    pools: Pools
    answers: Answers
    measure: Measure
    chance: Float64[np.ndarray, "queries"]
    leaking: Sequence[Shortcut]
    keys: Int64[np.ndarray, "keys rows"]
    resamples: int


def _run_audit(
    run: Run, ground: _Ground, shortcuts: Sequence[Shortcut], generator: np.random.Generator
) -> RunAudit:
    pools, measure, resamples = ground.pools, ground.measure, ground.resamples
    rows = Pairs.of(run.queries, run.offsets, run.product_ids).find(
        pools.queries, pools.offsets, pools.product_ids
    )
    if not (rows >= 0).any():
        raise ValueError(f"{run.name} scores no candidate of the pools: are its ids of another set?")
    scores = np.where(rows >= 0, np.append(run.scores, np.nan)[rows], np.nan)
    _, place = np.unique(normalise(scores, pools.offsets, "rank"), return_inverse=True)
    evaluation = evaluate(run, ground.answers, [measure])
    values = [evaluation.values[0]]
    for shortcut in shortcuts:
        combined = run_of(pools, _added(shortcut, scores, place, pools), name=run.name)
        values.append(evaluate(combined, ground.answers, [measure]).values[0])
    score, *after = mean_scores(np.stack(values), generator, resamples=resamples)
    unfit = misfit(run, pools)
    return RunAudit(
        name=run.name,
        score=score,
        corrected=chance_corrected(values[0], ground.chance, generator, resamples=resamples),
        after={shortcut.name: one for shortcut, one in zip(shortcuts, after, strict=True)},
        cleared=cleared(
            pools,
            ground.answers,
            place.astype(np.float64),
            ground.keys,
            generator,
            measure=measure,
            resamples=resamples,
        ),
        not_cleared=tuple(shortcut.name for shortcut in ground.leaking if not shortcut.is_grouping),
        missing=len(evaluation.missing),
        unscored=unfit.unscored,
        outside=unfit.outside,
    )


def _added(
    shortcut: Shortcut,
    scores: Float64[np.ndarray, "rows"],
    place: Int64[np.ndarray, "rows"],
    pools: Pools,
) -> Float64[np.ndarray, "rows"]:
    """A run's scores (NaN: not scored) with a shortcut: re-ordered inside its groups, or both z-scores added."""
    total: Float64[np.ndarray, "rows"]
    if shortcut.is_grouping:
        _, grouped = np.unique(shortcut.scores, return_inverse=True)
        total = (grouped * (place.max() + 1) + place).astype(np.float64)
    else:
        zscores = [normalise(values, pools.offsets, "zscore") for values in (scores, shortcut.scores)]
        total = zscores[0] + zscores[1]
    return total
