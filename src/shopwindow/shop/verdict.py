"""What should the shop serve, and how sure is that? A table of systems on held-out queries, and one sentence.

Every row has its interval, and a paired test against the best of the other rows, corrected over the rows (Holm).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from shopwindow.ranking.answers import Answers
from shopwindow.ranking.measures import Measure, evaluate
from shopwindow.ranking.runs import Run
from shopwindow.ranking.significance import (
    Comparison,
    Score,
    System,
    compare,
    holm,
    mean_scores,
    p_text,
)

OFFICIAL: Final = "nDCG@5"
_SHOWN: Final = (OFFICIAL, "hit@1", "recall@10")
_LEVEL: Final = 0.05
FEWEST_QUERIES: Final = 2
"""Judged queries that a paired test needs."""


@dataclass(frozen=True)
class Line:
    """One system: its score with interval, other measures, and its difference to the best of the others."""

    name: str
    serve: str | None
    score: Score
    others: dict[str, float]
    best_other: str
    difference: float
    p_value: float

    @property
    def against(self) -> str:
        """The difference to the best of the others, with its p-value."""
        return f"{self.difference:+.3f} ({p_text(self.p_value)})"


@dataclass(frozen=True)
class Verdict:
    """The table, and what it says in one sentence."""

    queries: int
    lines: tuple[Line, ...]
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {
            "queries": self.queries,
            "sentence": self.sentence,
            "systems": [
                {
                    "name": line.name,
                    OFFICIAL: line.score.mean,
                    "low": line.score.low,
                    "high": line.score.high,
                    **line.others,
                    "best_other": line.best_other,
                    "difference": line.difference,
                    "p": line.p_value,
                }
                for line in self.lines
            ],
        }


def judge_systems(runs: Sequence[tuple[Run, str | None]], answers: Answers, *, seed: int = 0) -> Verdict:
    """The verdict on runs, each with how its system is served in words (None: shown for comparison only).

    Raises: ValueError for fewer than two runs or two judged queries.
    """
    if min(len(runs), len(answers.queries)) < FEWEST_QUERIES:
        raise ValueError("at least two systems and two judged queries are needed")
    rng = np.random.default_rng(seed)
    measures = [Measure.parse(name) for name in _SHOWN]
    systems = [System(run.name, (evaluate(run, answers, measures),)) for run, _ in runs]
    values = np.stack([system.of(OFFICIAL)[0] for system in systems])
    scores = mean_scores(values, rng)
    comparisons = [
        _against(system, [other for other in systems if other is not system], rng) for system in systems
    ]
    corrected = holm(np.array([comparison.p_value for comparison in comparisons])).tolist()
    lines = tuple(
        Line(
            system.name,
            serve,
            score,
            {name: system.mean(name) for name in _SHOWN[1:]},
            comparison.second,
            comparison.difference,
            p_value,
        )
        for system, (_, serve), score, comparison, p_value in zip(
            systems, runs, scores, comparisons, corrected, strict=True
        )
    )
    return Verdict(len(answers.queries), lines, _sentence(lines, systems, rng))


def _against(system: System, others: list[System], rng: np.random.Generator) -> Comparison:
    """A system against the best of the others, by the official measure."""
    best = max(others, key=lambda other: other.mean(OFFICIAL))
    return next(one for one in compare(system, [best], rng) if one.measure == OFFICIAL)


def _sentence(lines: tuple[Line, ...], systems: list[System], rng: np.random.Generator) -> str:
    """What to serve: the best system that can be served, and whether its lead over the next one is significant.

    Between systems without a significant difference the first listed is served: it is the simpler one.
    """
    served = [(line, system) for line, system in zip(lines, systems, strict=True) if line.serve is not None]
    if len(served) < 2:
        return (
            f"Serve {served[0][0].serve}: there is nothing else to serve." if served else "Nothing to serve."
        )
    best, of_best = max(served, key=lambda pair: pair[0].score.mean)
    rivals = [system for line, system in served if line is not best]
    tests = [one for one in compare(of_best, rivals, rng) if one.measure == OFFICIAL]
    equals = [one.second for one in tests if one.p_corrected >= _LEVEL]
    next_best = max(tests, key=lambda one: one.second_mean)
    if not equals:
        return (
            f"Serve {best.serve}: {best.score.mean:.3f} against {next_best.second_mean:.3f} of {next_best.second}, "
            f"the next best; the difference is significant ({p_text(next_best.p_corrected)})."
        )
    simplest = next(line for line, _ in served if line is best or line.name in equals)
    told = next(one for one in tests if one.second == (equals[0] if simplest is best else simplest.name))
    return (
        f"{best.name} ({best.score.mean:.3f}) and {told.second} ({told.second_mean:.3f}) show no significant "
        f"difference on {told.queries} queries ({p_text(told.p_corrected)}); a true difference below "
        f"{told.detectable:.3f} would often be missed. Serve the simpler one: {simplest.serve}."
    )
