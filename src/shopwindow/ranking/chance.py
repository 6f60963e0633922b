"""What is random order worth? The expected value of a measure over all orders of each pool, by formula.

It knows pools, answers and measures, and needs no chance: nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from shopwindow.ids import codes_of, positions
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.measures import Evaluation, Measure, judge
from shopwindow.ranking.pools import Pools, grades_of, oracle_run


def random_values(pools: Pools, answers: Answers, measure: Measure) -> Float64[np.ndarray, "queries"]:
    """The expected value of every judged query when its pool is ordered at random; 0 for a query without a pool.

    Every rank holds every candidate equally often, so a sum over ranks (nDCG, precision, recall) is the mean gain
    times the sum of discounts. The first answer stands behind the first r ranks with the hypergeometric chance of
    none among r (hit, MRR); a second candidate is an answer with chance (answers - 1) / (candidates - 1) (MAP).

    Raises: ValueError as `Measure.values`.
    """
    grades = np.maximum(grades_of(pools, answers), 0.0)
    codes, sizes = codes_of(pools.offsets), pools.sizes
    right = np.bincount(codes, weights=grades > 0, minlength=len(sizes)).astype(np.int64)
    gained = np.bincount(codes, weights=measure.gains(grades), minlength=len(sizes))
    normal = measure.normaliser(judge(oracle_run(pools, answers), answers))
    at = positions(answers.queries, pools.queries)
    found = np.zeros(len(answers.queries))
    for query in np.flatnonzero((at >= 0) & (normal > 0)).tolist():
        pool = at[query]
        if right[pool]:
            ranks = np.arange(1, min(measure.k or sizes[pool], sizes[pool]) + 1)
            total = _expected(measure.kind, ranks, int(sizes[pool]), int(right[pool]), float(gained[pool]))
            found[query] = total / normal[query]
    return found


def _expected(kind: str, ranks: Int64[np.ndarray, "ranks"], size: int, right: int, gained: float) -> float:
    """The expected value of a pool of `size` candidates, before it is divided by the best one."""
    match kind:
        case "precision" | "recall":
            return right / size * len(ranks)
        case "hit" | "MRR":
            before = np.concatenate(
                [[1.0], np.cumprod(np.maximum(size - right - ranks + 1, 0) / (size - ranks + 1))]
            )
            first_at = before[:-1] - before[1:]
            return float(first_at.sum() if kind == "hit" else (first_at / ranks).sum())
        case "MAP":
            others = (ranks - 1) * (right - 1) / max(size - 1, 1)
            return float((right / size * (1 + others) / ranks).sum())
        case _:
            return gained / size * float((1 / np.log2(ranks + 1.0)).sum())


def random_evaluation(pools: Pools, answers: Answers, measures: Sequence[Measure]) -> Evaluation:
    """What random order of the pools is worth on average, as if it were a run."""
    return Evaluation(
        run="random",
        measures=tuple(measures),
        queries=answers.queries,
        values=np.stack([random_values(pools, answers, measure) for measure in measures]),
        missing=answers.queries[positions(answers.queries, pools.queries) < 0],
        unanswered=answers.queries[answers.counts == 0],
        extra=answers.queries[:0],
    )
