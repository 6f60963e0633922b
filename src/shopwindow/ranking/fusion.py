"""Several runs as one: scores made comparable per query, averaged, with given or learned weights.

The union of the runs' (query, product) pairs is ranked. A pair that a run leaves out of a query that it ranks stands
below all that the run scores there (see `normalise`). A query that a run does not rank adds nothing. Both are counted.
It knows runs, and answers where weights are learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped
from scipy import optimize, stats

from shopwindow.ids import Pairs, codes_of, group, in_one_kind
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.pools import Pools, grades_of, run_of
from shopwindow.ranking.runs import Run

METHODS: Final = ("mean", "zscore", "rank", "rrf")
_LARGE: Final = 1e100
RRF_CONSTANT: Final = 60.0
_WEIGHT_DECAY: Final = 1e-3


@dataclass(frozen=True, eq=False)
class Aligned:
    """Several runs over the union of their pairs; `scores` is NaN where a run does not score a pair."""

    pools: Pools
    scores: Float64[np.ndarray, "runs rows"]

    @property
    def unscored(self) -> Int64[np.ndarray, "runs"]:
        """How many pairs of the union each run leaves out."""
        unscored: Int64[np.ndarray, "runs"] = np.isnan(self.scores).sum(axis=1)
        return unscored


def align(runs: Sequence[Run]) -> Aligned:
    """The scores of all runs, pair by pair.

    Raises: ValueError for fewer than one run.
    """
    if not runs:
        raise ValueError("no run to fuse")
    queries, products = runs[0].query_ids, runs[0].product_ids
    for run in runs[1:]:
        queries, more_queries = in_one_kind(queries, run.query_ids)
        products, more_products = in_one_kind(products, run.product_ids)
        queries, products = np.concatenate([queries, more_queries]), np.concatenate([products, more_products])
    codes = group(queries).codes
    order = np.lexsort((products, codes))
    codes, products = codes[order], products[order]
    distinct = np.ones(len(codes), bool)
    distinct[1:] = (codes[1:] != codes[:-1]) | (products[1:] != products[:-1])
    pools = Pools.from_arrays(queries[order][distinct], products[distinct])
    scores = np.full((len(runs), len(pools)), np.nan)
    for row, run in zip(scores, runs, strict=True):
        pairs = Pairs.of(run.queries, run.offsets, run.product_ids)
        rows = pairs.find(pools.queries, pools.offsets, pools.product_ids)
        row[rows >= 0] = run.scores[rows[rows >= 0]]
    return Aligned(pools, scores)


def normalise(
    scores: Float64[np.ndarray, "rows"], offsets: Int64[np.ndarray, "bounds"], method: str
) -> Float64[np.ndarray, "rows"]:
    """One run's scores, made comparable inside each query: higher stays better, tied stays tied. NaN: not scored.

    `mean`: as they are. `zscore`: less the query's mean, over its standard deviation (0 where all are equal).
    `rank`: 1 for the first to 0 for the last, ties share their mean rank. `rrf`: 1 / (60 + rank).

    A pair without a score gets the next rank after the last (`rank`) or 0 (`rrf`). By the other methods it gets the
    query's lowest value less one standard deviation, or less 1 where all are equal.

    Raises: ValueError for another method.

    Source: reciprocal rank fusion, Cormack, Clarke and Büttcher, SIGIR 2009.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r}: one of {', '.join(METHODS)} was wanted")
    codes, queries = codes_of(offsets), len(offsets) - 1
    scored = ~np.isnan(scores)
    of_query = codes[scored]
    counts = np.bincount(of_query, minlength=queries)
    values = _comparable(scores[scored], of_query, counts, method)
    normalised = np.zeros(len(scores))
    normalised[scored] = values
    normalised[~scored] = _below(values, of_query, counts, method)[codes[~scored]]
    return normalised


def _below(
    values: Float64[np.ndarray, "scored"],
    codes: Int64[np.ndarray, "scored"],
    counts: Int64[np.ndarray, "queries"],
    method: str,
) -> Float64[np.ndarray, "queries"]:
    """What a pair that is not scored gets in each query; 0 where nothing is scored."""
    if method == "rrf":
        return np.zeros(len(counts))
    if method == "rank":
        below = 1.0 - counts / np.maximum(counts - 1, 1)
    else:
        lowest = np.full(len(counts), np.inf)
        np.minimum.at(lowest, codes, values)
        mean, deviation = _moments(values, codes, counts)
        flat = deviation <= 1e-12 * np.maximum(np.abs(mean), 1e-300)
        below = lowest - np.where(flat, 1.0, deviation)
    return np.where(counts > 0, below, 0.0)


def _comparable(
    scores: Float64[np.ndarray, "scored"],
    codes: Int64[np.ndarray, "scored"],
    counts: Int64[np.ndarray, "queries"],
    method: str,
) -> Float64[np.ndarray, "scored"]:
    if method == "mean":
        return scores
    if method == "zscore":
        scores = _squarable(scores, codes, len(counts))
        mean, deviation = (moment[codes] for moment in _moments(scores, codes, counts))
        flat = deviation <= 1e-12 * np.maximum(np.abs(scores), 1e-300)
        standardised = np.zeros(len(scores))
        np.divide(scores - mean, deviation, out=standardised, where=~flat)
        return standardised
    ranks = _mean_ranks(scores, codes, counts)
    places: Float64[np.ndarray, "scored"]
    by_rank = 1.0 - (ranks - 1.0) / np.maximum(counts - 1, 1)[codes]
    places = 1.0 / (RRF_CONSTANT + ranks) if method == "rrf" else by_rank
    return places


def _squarable(
    scores: Float64[np.ndarray, "scored"], codes: Int64[np.ndarray, "scored"], queries: int
) -> Float64[np.ndarray, "scored"]:
    """The scores, those of a query with any beyond 1e100 multiplied by one power of two: squares stay finite."""
    is_large = np.zeros(queries, bool)
    is_large[codes[np.abs(scores) > _LARGE]] = True
    return np.where(is_large[codes], scores * 2.0**-600, scores)


def _moments(
    values: Float64[np.ndarray, "scored"],
    codes: Int64[np.ndarray, "scored"],
    counts: Int64[np.ndarray, "queries"],
) -> tuple[Float64[np.ndarray, "queries"], Float64[np.ndarray, "queries"]]:
    """The mean and the standard deviation of each query's values; 0 where it has none."""
    mean = np.bincount(codes, weights=values, minlength=len(counts)) / np.maximum(counts, 1)
    squares = np.bincount(codes, weights=(values - mean[codes]) ** 2, minlength=len(counts))
    return mean, np.sqrt(squares / np.maximum(counts, 1))


def _mean_ranks(
    scores: Float64[np.ndarray, "scored"],
    codes: Int64[np.ndarray, "scored"],
    counts: Int64[np.ndarray, "queries"],
) -> Float64[np.ndarray, "scored"]:
    """The rank in the query from 1, best first; tied scores share the mean of their ranks."""
    if not len(scores):
        return scores
    _, dense = np.unique(-scores, return_inverse=True)
    overall = stats.rankdata(codes * (int(dense.max()) + 1) + dense, method="average")
    before = np.concatenate([[0], np.cumsum(counts)[:-1]])
    ranks: Float64[np.ndarray, "scored"] = overall - before[codes]
    return ranks


def fuse(
    runs: Sequence[Run],
    *,
    method: str = "zscore",
    weights: Sequence[float] | None = None,
    name: str = "fused",
) -> Run:
    """The weighted mean of the runs' normalised scores as a run; equal weights when none are given.

    Raises: ValueError for an unknown method, or weights that are not one finite number per run, not all 0.
    """
    aligned = align(runs)
    shares = np.ones(len(runs)) if weights is None else np.array(weights, dtype=np.float64)
    if shares.shape != (len(runs),) or not np.isfinite(shares).all() or not shares.any():
        raise ValueError(
            f"{len(shares)} weights for {len(runs)} runs: one finite number per run, not all 0, was wanted"
        )
    return run_of(aligned.pools, _features(aligned, method).T @ (shares / np.abs(shares).sum()), name=name)


def _features(aligned: Aligned, method: str) -> Float64[np.ndarray, "runs rows"]:
    return np.stack([normalise(row, aligned.pools.offsets, method) for row in aligned.scores])


@dataclass(frozen=True, eq=False)
class Learned:
    """Weights learned from answers. `held_out` ranks every query by weights that never saw it: the run to report.

    `weights` are learned from all queries (for use elsewhere), `fold_weights` without each fold.
    """

    held_out: Run
    weights: Float64[np.ndarray, "runs"]
    fold_weights: Float64[np.ndarray, "folds runs"]


def learn_weights(
    runs: Sequence[Run],
    answers: Answers,
    generator: np.random.Generator,
    *,
    method: str = "zscore",
    folds: int = 5,
    name: str = "fused",
) -> Learned:
    """Non-negative weights, summing to 1, that give the answers the most probability in a softmax over each pool.

    Queries are dealt into folds at random. Queries without an answer in the pools teach nothing and are ranked.

    Raises: ValueError for fewer than 2 folds or fewer judged queries than folds.

    Source: ListNet's top-one loss, Cao et al., ICML 2007.
    """
    aligned = align(runs)
    features = _features(aligned, method)
    grades = np.maximum(grades_of(aligned.pools, answers), 0.0)
    codes = codes_of(aligned.pools.offsets)
    judged = np.unique(codes[grades > 0])
    if folds < 2 or len(judged) < folds:
        raise ValueError(
            f"{folds} folds of {len(judged)} judged queries: 2 folds or more, and as many queries, needed"
        )
    fold_of_query = generator.permutation(len(aligned.pools.queries)) % folds
    fold_of_query[judged] = generator.permutation(len(judged)) % folds
    scores = np.empty(len(codes))
    fold_weights = np.empty((folds, len(runs)))
    for fold in range(folds):
        out = fold_of_query[codes] == fold
        fold_weights[fold] = _fit(features[:, ~out], codes[~out], grades[~out])
        scores[out] = features[:, out].T @ fold_weights[fold]
    return Learned(
        held_out=run_of(aligned.pools, scores, name=name),
        weights=_fit(features, codes, grades),
        fold_weights=fold_weights,
    )


def _fit(
    features: Float64[np.ndarray, "runs rows"],
    codes: Int64[np.ndarray, "rows"],
    grades: Float64[np.ndarray, "rows"],
) -> Float64[np.ndarray, "runs"]:
    """The weights of least loss on the queries with an answer; equal weights where all of them are 0."""
    has_answer: Bool[np.ndarray, "rows"] = np.isin(codes, codes[grades > 0])
    features, grades = features[:, has_answer], grades[has_answer]
    _, codes = np.unique(codes[has_answer], return_inverse=True)
    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    target = grades / np.bincount(codes, weights=grades)[codes]

    def loss(weights: Float64[np.ndarray, "runs"]) -> tuple[float, Shaped[np.ndarray, "runs"]]:
        logits = weights @ features
        logits = logits - np.maximum.reduceat(logits, starts)[codes]
        exponents = np.exp(logits)
        totals = np.add.reduceat(exponents, starts)
        surprise = target @ (np.log(totals)[codes] - logits) / len(starts)
        slope = features @ (exponents / totals[codes] - target) / len(starts)
        return surprise + _WEIGHT_DECAY * weights @ weights, slope + 2 * _WEIGHT_DECAY * weights

    start = np.full(len(features), 1.0 / len(features))
    best = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(features)).x
    total = float(best.sum())
    weights: Float64[np.ndarray, "runs"] = best / total if total > 0 else start
    return weights
