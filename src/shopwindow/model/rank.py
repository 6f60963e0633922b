"""Which products of a query's pool come first?

Takes a bundle and a dataset whose pairs are candidates, gives a run. Measuring is the ranking room's job. Knows no
training, and of a reranker only that it scores pools.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64

from shopwindow.data.dataset import Dataset
from shopwindow.data.regions import Regions
from shopwindow.model.encoder import TOKENS_AT_ONCE, check_features, pieces_of
from shopwindow.model.pools import PairRows
from shopwindow.model.rerankers import Pool, Query, Reranker, read_queries
from shopwindow.model.smoothing import smooth_regions
from shopwindow.ranking.runs import Run

if TYPE_CHECKING:
    from shopwindow.model.bundle import Bundle


def rank_pools(
    bundle: Bundle,
    dataset: Dataset,
    *,
    reranker: Reranker | None = None,
    smooth: tuple[float, ...] | None = None,
    pairs: PairRows | None = None,
    name: str = "shopwindow",
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """The score of every candidate of every query: the dot product of their vectors, or what `reranker` gives the pool.

    `smooth` are the weights of `smooth_regions`, applied to all regions of a pool as one set. Without it every product
    is encoded, and what the reranker needs of it made, once; with it once in each of its pools. A pair that occurs
    twice counts once. Memory: the vectors of all products, or of one group of pools; what the reranker keeps of them;
    what it takes for one pool. `pairs`: rows of queries and products to score instead of the dataset's own pools, a
    query's side by side. `progress` gets products done and in all.

    Raises: ValueError when the dataset's features are not what the model takes.
    """
    check_features(bundle.model, dataset)
    queries, products = candidate_pairs(dataset) if pairs is None else pairs
    asked = read_queries(dataset.query_texts, bundle)
    if smooth is None:
        used, place = np.unique(products, return_inverse=True)
        vectors = bundle.encode_dataset(dataset, used, progress=progress)
        kept = keep_products(reranker, dataset, used, boxes=bundle.needs_boxes)
        scores = score_pools(asked, queries, Pool(dataset.product_ids[used], vectors, kept), place, reranker)
    else:
        scores = np.empty(len(queries))
        for rows in _pool_groups(queries, dataset.region_counts[products]):
            regions = _smoothed(bundle, dataset, queries[rows], products[rows], smooth)
            kept = None if reranker is None else reranker.keep(regions)
            group = Pool(dataset.product_ids[products[rows]], bundle.encode_products(regions), kept)
            scores[rows] = score_pools(asked, queries[rows], group, np.arange(len(group.ids)), reranker)
            if progress is not None:
                progress(rows.stop, len(queries))
    return Run.from_arrays(dataset.query_ids[queries], dataset.product_ids[products], scores, name=name)


def candidate_pairs(dataset: Dataset) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """The rows of the queries and products of all pairs, each once, a query's pool side by side."""
    pairs = np.unique(np.stack([dataset.pair_queries, dataset.pair_products]), axis=1)
    return pairs[0], pairs[1]


def score_pairs(
    words: Float32[np.ndarray, "queries hidden"],
    photos: Float32[np.ndarray, "products hidden"],
    queries: Int64[np.ndarray, " pairs"],
    products: Int64[np.ndarray, " pairs"],
) -> np.ndarray:
    """The dot product of the vectors of every pair, float64; `queries` and `products` are rows of the two."""
    scores = np.empty(len(queries))
    for start in range(0, len(queries), 65_536):
        piece = slice(start, start + 65_536)
        scores[piece] = np.einsum("ph,ph->p", words[queries[piece]], photos[products[piece]])
    return scores


def score_pools(
    asked: Sequence[Query],
    queries: Int64[np.ndarray, " pairs"],
    products: Pool,
    rows: Int64[np.ndarray, " pairs"],
    reranker: Reranker | None,
) -> Float64[np.ndarray, " pairs"]:
    """The scores of pairs, the pool of a query side by side: of the reranker, or else the vectors' dot products.

    `queries` are places in `asked`, `rows` those in `products`.
    """
    if reranker is None:
        words = np.stack([query.vector for query in asked])
        return score_pairs(words, products.vectors, queries, rows)
    scores = np.empty(len(queries))
    start = 0
    for end in _pool_ends(queries).tolist():
        pool = products.take(rows[start:end])
        scores[start:end] = reranker.score(asked[queries[start]], pool)
        start = end
    return scores


def keep_products(
    reranker: Reranker | None, dataset: Dataset, products: Int64[np.ndarray, " products"], *, boxes: bool
) -> Regions | None:
    """What a reranker keeps of some products (rows of the dataset), read at most TOKENS_AT_ONCE regions (one product
    at least) at once. None where it keeps nothing."""
    if reranker is None or not reranker.kept_values:
        return None
    pieces = [
        reranker.keep(dataset.regions(products[start:end], boxes=boxes))
        for start, end in pieces_of(dataset.region_counts[products])
    ]
    return Regions.join([piece for piece in pieces if piece is not None])


def _pool_ends(queries: Int64[np.ndarray, " pairs"]) -> Int64[np.ndarray, " pools"]:
    """Where each pool ends; none where there are no pairs."""
    return np.flatnonzero(np.diff(queries, append=-1)) + 1


def _pool_groups(
    queries: Int64[np.ndarray, " pairs"], region_counts: Int64[np.ndarray, " pairs"]
) -> Iterator[slice]:
    """Whole pools in groups of at most TOKENS_AT_ONCE regions, one pool at least."""
    ends = _pool_ends(queries)
    regions = np.concatenate([[0], np.cumsum(region_counts)])
    start = 0
    for end, following in zip(ends, [*ends[1:], None], strict=True):
        if following is None or regions[following] - regions[start] > TOKENS_AT_ONCE:
            yield slice(start, int(end))
            start = int(end)


def _smoothed(
    bundle: Bundle,
    dataset: Dataset,
    queries: Int64[np.ndarray, " pairs"],
    products: Int64[np.ndarray, " pairs"],
    weights: tuple[float, ...],
) -> Regions:
    """The regions of the products of every pair, those of a pool smoothed as one set."""
    regions = bundle.regions(dataset, products).to(bundle.model.device)
    ends = np.cumsum(regions.counts.numpy())
    pool_sizes = np.diff(np.concatenate([[0], ends[_pool_ends(queries) - 1]])).tolist()
    pools = torch.split(regions.features, pool_sizes)
    return regions.with_features(torch.cat([smooth_regions(pool, weights) for pool in pools]))
