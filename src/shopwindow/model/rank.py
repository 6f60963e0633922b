"""Which products of a query's pool come first?

Takes a model and a dataset whose pairs are candidates, gives a run. Measuring is the ranking room's
job. Knows no training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float32, Int64
from tokenizers import Tokenizer

from shopwindow.data.dataset import Dataset
from shopwindow.model.dual import (
    TOKENS_AT_ONCE,
    DualEncoder,
    check_features,
    encode_products,
    encode_regions,
    encode_texts,
)
from shopwindow.model.smoothing import smooth_regions
from shopwindow.ranking.runs import Run


def rank_pools(
    model: DualEncoder,
    tokenizer: Tokenizer,
    dataset: Dataset,
    *,
    smooth: tuple[float, ...] | None = None,
    name: str = "shopwindow",
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """The score of every candidate of every query: the dot product of their vectors.

    `smooth` are the weights of `smooth_regions`, applied to all regions of a pool as one set. Without it every
    product is encoded once, with it once in each of its pools. A pair that occurs twice counts once.
    Memory: the vectors of all products, or of one group of pools. `progress` gets products done and in all.

    Raises: ValueError when the dataset's features have another size than the model's.
    """
    check_features(model, dataset)
    queries, products = candidate_pairs(dataset)
    words = encode_texts(model, tokenizer, dataset.query_texts)
    if smooth is None:
        used, place = np.unique(products, return_inverse=True)
        photos = encode_products(model, dataset, used, progress=progress)
        scores = score_pairs(words, photos, queries, place)
    else:
        scores = np.empty(len(queries))
        for rows in _pool_groups(queries, dataset.region_counts[products]):
            photos = _encode_smoothed(model, dataset, queries[rows], products[rows], smooth)
            scores[rows] = score_pairs(words, photos, queries[rows], np.arange(len(photos)))
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


def _pool_groups(
    queries: Int64[np.ndarray, " pairs"], region_counts: Int64[np.ndarray, " pairs"]
) -> Iterator[slice]:
    """Whole pools in groups of at most TOKENS_AT_ONCE regions, one pool at least."""
    ends = np.append(np.flatnonzero(np.diff(queries)) + 1, len(queries))
    regions = np.concatenate([[0], np.cumsum(region_counts)])
    start = 0
    for end, following in zip(ends, [*ends[1:], None], strict=True):
        if following is None or regions[following] - regions[start] > TOKENS_AT_ONCE:
            yield slice(start, int(end))
            start = int(end)


def _encode_smoothed(
    model: DualEncoder,
    dataset: Dataset,
    queries: Int64[np.ndarray, " pairs"],
    products: Int64[np.ndarray, " pairs"],
    weights: tuple[float, ...],
) -> Float32[np.ndarray, "pairs hidden"]:
    packed, lengths = dataset.regions(products)
    regions = torch.from_numpy(packed).to(model.device)
    ends = np.cumsum(lengths)
    borders = np.append(np.flatnonzero(np.diff(queries)) + 1, len(queries))
    pool_sizes = np.diff(np.concatenate([[0], ends[borders - 1]])).tolist()
    smoothed = torch.cat([smooth_regions(pool, weights) for pool in torch.split(regions, pool_sizes)])
    # One pool alone may be larger than what is encoded at once.
    pieces, start, begin = [], 0, 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or ends[end] - begin > TOKENS_AT_ONCE:
            stop = int(ends[end - 1])
            pieces.append(encode_regions(model, smoothed[begin:stop], torch.from_numpy(lengths[start:end])))
            start, begin = end, stop
    return np.concatenate(pieces)
