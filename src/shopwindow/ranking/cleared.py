"""What is left of a run where shortcuts say nothing? Scores among candidates that the shortcuts cannot tell apart.

It takes pools, answers, scores of all candidates and the keys that part them; it knows no shortcut by name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from shopwindow.ids import codes_of, group
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.chance import random_values
from shopwindow.ranking.measures import Measure, evaluate
from shopwindow.ranking.pools import Pools, grades_of, run_of
from shopwindow.ranking.significance import Score, bootstrap_means, mean_scores, wide_percentiles


@dataclass(frozen=True)
class Cleared:
    """A run's score where its pool's groups say nothing, beside random order's on the same candidates.

    Defined: each pool is parted into groups of candidates that are equal in every key. A group counts when it holds
    an answer and a non-answer; it is scored as a pool of its own. A query's value is the mean over its groups,
    weighted by their answers: the measure as seen by an answer drawn at random, among candidates that the keys cannot
    tell from it. Queries without such a group are out: `queries` and `answers` are those left. Small groups make
    random order good, so that `corrected` is the figure to compare (see `chance_corrected`).
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
    left, query = np.unique(codes[usable][order][inside.offsets[:-1]], return_inverse=True)
    weights = right[inside.queries]

    def by_query(values: Float64[np.ndarray, "groups"]) -> Float64[np.ndarray, "left"]:
        total: Float64[np.ndarray, "left"] = np.bincount(query, weights=values * weights)
        return total / np.bincount(query, weights=weights)

    run = run_of(inside, scores[usable][order], name="cleared")
    mine = by_query(evaluate(run, narrowed, [measure]).values[0])
    chance = by_query(random_values(inside, narrowed, measure))
    score, random, above = mean_scores(
        np.stack([mine, chance, mine - chance]), generator, resamples=resamples
    )
    return Cleared(
        score=score,
        random=random,
        above_random=above,
        corrected=chance_corrected(mine, chance, generator, resamples=resamples),
        queries=len(left),
        answers=int(weights.sum()),
    )


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
