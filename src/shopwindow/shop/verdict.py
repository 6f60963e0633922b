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
    """The table, and what it says in one sentence. `serve`: the system to serve, None where there is none."""

    queries: int
    lines: tuple[Line, ...]
    sentence: str
    serve: str | None

    def to_json(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {
            "queries": self.queries,
            "sentence": self.sentence,
            "serve": self.serve,
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
    serve, sentence = _advice(lines, systems, rng)
    return Verdict(len(answers.queries), lines, sentence, serve)


def _against(system: System, others: list[System], rng: np.random.Generator) -> Comparison:
    """A system against the best of the others, by the official measure."""
    best = max(others, key=lambda other: other.mean(OFFICIAL))
    return next(one for one in compare(system, [best], rng) if one.measure == OFFICIAL)


def _advice(
    lines: tuple[Line, ...], systems: list[System], rng: np.random.Generator
) -> tuple[str | None, str]:
    """The name of the system to serve, and why: the best that can be served, or one that is simpler and not
    significantly worse. The first listed is the simplest."""
    served = [(line, system) for line, system in zip(lines, systems, strict=True) if line.serve is not None]
    if not served:
        return None, "Nothing to serve."
    if len(served) == 1:
        only = served[0][0]
        return only.name, f"Serve {only.serve}: there is nothing else to serve."
    best, of_best = max(served, key=lambda pair: pair[0].score.mean)
    rivals = [system for line, system in served if line is not best]
    tests = [one for one in compare(of_best, rivals, rng) if one.measure == OFFICIAL]
    equals = {one.second: one for one in tests if one.is_borderline or not one.is_real}
    if not equals:
        next_best = max(tests, key=lambda one: one.second_mean)
        return best.name, (
            f"Serve {best.serve}: {best.score.mean:.3f} against {next_best.second_mean:.3f} of {next_best.second}, "
            f"the next best; the difference is significant ({p_text(next_best.p_corrected)})."
        )
    simplest = next(line for line, _ in served if line is best or line.name in equals)
    return simplest.name, _of_equals(best, simplest, equals)


def _of_equals(best: Line, simplest: Line, equals: dict[str, Comparison]) -> str:
    """Why the simplest is served: another is no better, or not surely so."""
    told = next(iter(equals.values())) if simplest is best else equals[simplest.name]
    both = f"{best.name} ({best.score.mean:.3f}) and {told.second} ({told.second_mean:.3f})"
    on = f"on {told.queries} queries ({p_text(told.p_corrected)}"
    serve = f"Serve the simpler one: {simplest.serve}."
    if told.is_borderline:
        return f"The difference of {both} is borderline {on}, near 0.05). More queries would decide. {serve}"
    return (
        f"{both} show no significant difference {on}); a true difference below {told.detectable:.3f} would often be "
        f"missed. {serve}"
    )
