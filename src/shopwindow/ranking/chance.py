"""What is a score worth beside chance? Ties and random order by formula, and what is left where shortcuts say nothing.

Nothing is drawn to find an expectation. It knows pools, answers, measures and scores of candidates, and no shortcut
by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from shopwindow.ids import codes_of, group, offsets_of, positions
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.measures import Evaluation, Measure, evaluate, judge
from shopwindow.ranking.pools import Pools, grades_of, oracle_run, run_of
from shopwindow.ranking.significance import Score, bootstrap_means, mean_scores, wide_percentiles


def random_values(pools: Pools, answers: Answers, measure: Measure) -> Float64[np.ndarray, "queries"]:
    """The expected value of every judged query when its pool is ordered at random; 0 for a query without a pool.

    Raises: ValueError as `Measure.values`.
    """
    return expected_values(pools, np.zeros(len(pools)), answers, measure)


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


def expected_values(
    pools: Pools, scores: Float64[np.ndarray, "rows"], answers: Answers, measure: Measure
) -> Float64[np.ndarray, "queries"]:
    """The expected value of every judged query when its candidates are ordered by `scores` and ties at random.

    Exact: the mean over all orders of the tied candidates. A judged query without a pool has 0.

    Raises: ValueError as `Measure.values`.
    """
    grades = np.maximum(grades_of(pools, answers), 0.0)
    ties = _Ties.of(pools, scores, grades > 0, measure.gains(grades))
    totals = np.append(_expected_totals(ties, measure), 0.0)[positions(answers.queries, pools.queries)]
    best = measure.normaliser(judge(oracle_run(pools, answers), answers))
    values: Float64[np.ndarray, "queries"] = np.divide(
        totals, best, out=np.zeros(len(answers.queries)), where=best > 0
    )
    return values


@dataclass(frozen=True, eq=False)
class _Ties:
    """The places of all rankings, pool by pool, and the block of tied candidates that holds each place.

    Of a block: its size, its number of answers, the gain of all its candidates, and what stands before it in its pool
    (candidates and answers).
    """

    pool: Int64[np.ndarray, "rows"]
    rank: Int64[np.ndarray, "rows"]
    block: Int64[np.ndarray, "rows"]
    size: Int64[np.ndarray, "blocks"]
    right: Int64[np.ndarray, "blocks"]
    gain: Float64[np.ndarray, "blocks"]
    before: Int64[np.ndarray, "blocks"]
    right_before: Int64[np.ndarray, "blocks"]

    @classmethod
    def of(
        cls,
        pools: Pools,
        scores: Float64[np.ndarray, "rows"],
        is_answer: np.ndarray,
        gains: Float64[np.ndarray, "rows"],
    ) -> _Ties:
        pool = codes_of(pools.offsets)
        order = np.lexsort((-scores, pool))
        scores, is_answer = scores[order], is_answer[order]
        begins = np.ones(len(pool), bool)
        begins[1:] = (pool[1:] != pool[:-1]) | (scores[1:] != scores[:-1])
        block = np.cumsum(begins) - 1
        size = np.bincount(block)
        right = np.bincount(block, weights=is_answer).astype(np.int64)
        first, right_until = offsets_of(size)[:-1], offsets_of(right)[:-1]
        start = pools.offsets[pool[first]]
        return cls(
            pool=pool,
            rank=np.arange(1, len(pool) + 1) - pools.offsets[pool],
            block=block,
            size=size,
            right=right,
            gain=np.bincount(block, weights=gains[order]),
            before=first - start,
            right_before=right_until - right_until[block[start]],
        )


def _expected_totals(ties: _Ties, measure: Measure) -> Float64[np.ndarray, "pools"]:
    """The expected value of every pool before it is divided by its best one.

    Every place of a block holds each of its candidates equally often: a sum over places adds the block's mean.
    """
    block, rank = ties.block, ties.rank
    share = (ties.right / ties.size)[block]
    match measure.kind:
        case "precision" | "recall":
            terms = share
        case "hit" | "MRR":
            first = _first_answer(ties)
            terms = first if measure.kind == "hit" else first / rank
        case "MAP":
            # another place of an answer's block holds an answer with chance (right - 1) / (size - 1)
            others = (ties.right - 1) / np.maximum(ties.size - 1, 1)
            inside = (rank - 1 - ties.before[block]) * others[block]
            terms = share * (1 + ties.right_before[block] + inside) / rank
        case _:
            terms = (ties.gain / ties.size)[block] / np.log2(rank + 1.0)
    if measure.k is not None:
        terms = np.where(rank <= measure.k, terms, 0.0)
    return np.bincount(ties.pool, weights=terms).astype(np.float64)


def _first_answer(ties: _Ties) -> Float64[np.ndarray, "rows"]:
    """The chance that the first answer of its pool stands at each place: hypergeometric in the first block that has
    any, 0 elsewhere."""
    chances = np.zeros(len(ties.rank))
    starts = offsets_of(ties.size)
    for block in np.flatnonzero((ties.right > 0) & (ties.right_before == 0)).tolist():
        size = int(ties.size[block])
        drawn = np.arange(size)
        none = np.cumprod(np.maximum(size - ties.right[block] - drawn, 0) / (size - drawn))
        chances[starts[block] : starts[block + 1]] = -np.diff(none, prepend=1.0)
    return chances


@dataclass(frozen=True)
class Cleared:
    """A run's score where its pool's groups say nothing, beside random order's on the same candidates.

    Each pool is parted into groups of candidates that are equal in every key. A group with an answer and a non-answer
    is scored as a pool of its own. A query's value is the mean over such groups, weighted by their answers. So it is
    the measure that a random answer sees, among candidates that the keys cannot tell from it.

    Queries without such a group are left out: `queries` and `answers` are those that remain. Random order is good in
    small groups, so `corrected` is the figure to compare (see `chance_corrected`).
    """

    score: Score
    random: Score
    above_random: Score
    corrected: Score
    queries: int
    answers: int


def cleared(
    pools: Pools,
    answers: Answers,
    scores: Float64[np.ndarray, "rows"],
    keys: Int64[np.ndarray, "keys rows"],
    generator: np.random.Generator,
    *,
    measure: Measure,
    resamples: int,
) -> Cleared | None:
    """The scores measured only among candidates of one pool that are equal in all `keys` (see `Cleared`).

    Ties: smaller product id. None where no group holds both an answer and a non-answer.
    """
    grades = grades_of(pools, answers)
    codes = codes_of(pools.offsets)
    _, groups = np.unique(np.vstack([codes, keys]), axis=1, return_inverse=True)
    groups = groups.ravel()
    right = np.bincount(groups, weights=grades > 0)
    usable = ((right > 0) & (right < np.bincount(groups)))[groups]
    if not usable.any():
        return None
    groups, products, grades = groups[usable], pools.product_ids[usable], grades[usable]
    inside = Pools.from_arrays(groups, products)
    order = group(groups).order
    narrowed = Answers.from_arrays(groups[grades > 0], products[grades > 0], grades[grades > 0])
    remaining, query = np.unique(codes[usable][order][inside.offsets[:-1]], return_inverse=True)
    weights = right[inside.queries]

    def by_query(values: Float64[np.ndarray, "groups"]) -> Float64[np.ndarray, "remaining"]:
        total: Float64[np.ndarray, "remaining"] = np.bincount(query, weights=values * weights)
        return total / np.bincount(query, weights=weights)

    run = run_of(inside, scores[usable][order], name="cleared")
    of_run = by_query(evaluate(run, narrowed, [measure]).values[0])
    chance = by_query(random_values(inside, narrowed, measure))
    rows = np.stack([of_run, chance, of_run - chance])
    score, random, above_random = mean_scores(rows, generator, resamples=resamples)
    corrected = chance_corrected(of_run, chance, generator, resamples=resamples)
    return Cleared(score, random, above_random, corrected, queries=len(remaining), answers=int(weights.sum()))


def chance_corrected(
    values: Float64[np.ndarray, "queries"],
    chance: Float64[np.ndarray, "queries"],
    generator: np.random.Generator,
    *,
    resamples: int,
) -> Score:
    """(score - random) / (1 - random): 0 for random order, 1 for a perfect one, on pools of any size and on groups.

    The ratio of means, bootstrapped over queries; NaN where random order is perfect.

    Source: agreement corrected for chance, Cohen, Educational and Psychological Measurement 1960.
    """
    rows = np.stack([values - chance, 1.0 - chance])
    above, room = np.concatenate(
        [rows.mean(axis=1)[None], bootstrap_means(rows, generator, resamples=resamples)]
    ).T
    ratio = np.divide(above, room, out=np.full(len(room), np.nan), where=room > 1e-12)
    if len(values) < 2 or np.isnan(ratio).any():
        return Score(float(ratio[0]), float("nan"), float("nan"))
    low, high = wide_percentiles(ratio[1:, None], len(values))[0].tolist()
    return Score(float(ratio[0]), low, high)
