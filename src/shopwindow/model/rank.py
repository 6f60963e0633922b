"""Which products of a query's pool come first?

Takes a model and a dataset whose pairs are candidates, gives a run. Measuring is the ranking room's
job. Knows no training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from tokenizers import Tokenizer

from shopwindow.data.dataset import Dataset
from shopwindow.data.regions import Regions
from shopwindow.model.encoder import (
    TOKENS_AT_ONCE,
    PartsEncoder,
    at_rest,
    check_features,
    encode_photos,
    encode_products,
    encode_texts,
    normalised,
)
from shopwindow.model.smoothing import smooth_regions
from shopwindow.model.tokens import tokenize
from shopwindow.ranking.operators import PoolOperator
from shopwindow.ranking.runs import Run


def rank_pools(
    model: PartsEncoder,
    tokenizer: Tokenizer,
    dataset: Dataset,
    *,
    smooth: tuple[float, ...] | None = None,
    operator: PoolOperator | None = None,
    name: str = "shopwindow",
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """The score of every candidate of every query: the dot product of their vectors, or what `operator` gives; a model
    with late interaction adds its second score.

    `smooth` are the weights of `smooth_regions`, applied to all regions of a pool as one set. Without it every
    product is encoded once, with it once in each of its pools. `operator` scores each pool on its own from the
    vectors (`ranking/operators.py`), smoothed or not. A pair that occurs twice counts once.
    Memory: the vectors of all products, or of one group of pools; what the operator takes for one pool.
    `progress` gets products done and in all.

    Raises: ValueError when the dataset's features have another size than the model's, or for an operator with a model
    of late interaction: its second score is learned on the scale of the plain one.
    """
    check_features(model, dataset)
    if operator is not None and model.late is not None:
        raise ValueError(
            "--operator: a model with late interaction takes none, its two scores belong together"
        )
    queries, products = candidate_pairs(dataset)
    ids = dataset.product_ids[products]
    words = encode_texts(model, tokenizer, dataset.query_texts)
    if smooth is None:
        used, place = np.unique(products, return_inverse=True)
        photos = encode_products(model, dataset, used, progress=progress)
        scores = _score_pools(words, photos, queries, place, ids, operator)
        scores += late_scores(model, tokenizer, dataset, queries, products)
    else:
        scores = np.empty(len(queries))
        for rows in _pool_groups(queries, dataset.region_counts[products]):
            photos = _encode_smoothed(model, dataset, queries[rows], products[rows], smooth)
            place = np.arange(len(photos))
            scores[rows] = _score_pools(words, photos, queries[rows], place, ids[rows], operator)
            scores[rows] += late_scores(
                model, tokenizer, dataset, queries[rows], products[rows], smooth=smooth
            )
            if progress is not None:
                progress(rows.stop, len(queries))
    return Run.from_arrays(dataset.query_ids[queries], ids, scores, name=name)


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


def late_scores(
    model: PartsEncoder,
    tokenizer: Tokenizer,
    dataset: Dataset,
    queries: Int64[np.ndarray, " pairs"],
    products: Int64[np.ndarray, " pairs"],
    *,
    smooth: tuple[float, ...] | None = None,
) -> Float64[np.ndarray, " pairs"]:
    """The second score of pools that lie side by side; zeros for a model without late interaction.

    Without smoothing the regions of a product are projected once, however many pools it is in, and kept: width float32
    a region. Cost: then words x regions x width operations a pool.
    """
    scores = np.zeros(len(queries))
    if model.late is None:
        return scores
    kept: Regions | None = None
    place = np.arange(len(products))
    if smooth is None:
        used, place = np.unique(products, return_inverse=True)
        kept = project_products(model, dataset, used)
    start = 0
    for end in _pool_ends(queries).tolist():
        if kept is None:
            photos = dataset.regions(products[start:end], boxes=model.needs_boxes).to(model.device)
            photos = photos.with_features(smooth_regions(photos.features, smooth or ()))
        else:
            photos = kept.take(torch.from_numpy(place[start:end]))
        text = dataset.query_texts[queries[start]]
        scores[start:end] = second_scores(model, tokenizer, text, photos, projected=kept is not None)
        start = end
    return scores


@torch.inference_mode()
def project_products(
    model: PartsEncoder, dataset: Dataset, products: Int64[np.ndarray, " photos"]
) -> Regions:
    """The regions of some products as the late interaction's vectors, read at most TOKENS_AT_ONCE (one product at
    least) at once."""
    ends = np.cumsum(dataset.region_counts[products])
    pieces: list[Regions] = []
    start, begin = 0, 0
    with at_rest(model):
        for end in range(1, len(ends) + 1):
            if end == len(ends) or ends[end] - begin > TOKENS_AT_ONCE:
                photos = dataset.regions(products[start:end], boxes=model.needs_boxes).to(model.device)
                pieces.append(model.project_regions(photos))
                start, begin = end, int(ends[end - 1])
    return Regions.join(pieces)


@torch.inference_mode()
def second_scores(
    model: PartsEncoder,
    tokenizer: Tokenizer,
    text: str,
    photos: Regions,
    *,
    projected: bool = False,
) -> Float64[np.ndarray, " photos"]:
    """The second score of one query with each photo; `projected` photos are those of `project_regions`.

    Raises: ValueError for a model without late interaction."""
    tokens, lengths = tokenize(tokenizer, normalised(model, [text]), longest=model.longest)
    with at_rest(model):
        on_device = photos.to(model.device)
        found = model.late_scores(tokens.to(model.device), lengths, on_device, projected=projected)[0]
    scores: np.ndarray = found.cpu().numpy().astype(np.float64)
    return scores


def _score_pools(
    words: Float32[np.ndarray, "queries hidden"],
    photos: Float32[np.ndarray, "products hidden"],
    queries: Int64[np.ndarray, " pairs"],
    products: Int64[np.ndarray, " pairs"],
    ids: Int64[np.ndarray, " pairs"],
    operator: PoolOperator | None,
) -> Float64[np.ndarray, " pairs"]:
    """The scores of pools that lie side by side; an operator gets each by rising product id, which settles its ties."""
    if operator is None:
        return score_pairs(words, photos, queries, products)
    scores = np.empty(len(queries))
    start = 0
    for end in _pool_ends(queries).tolist():
        pairs = start + np.argsort(ids[start:end])
        scores[pairs] = operator(words[queries[start]], photos[products[pairs]])
        start = end
    return scores


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


def _encode_smoothed(
    model: PartsEncoder,
    dataset: Dataset,
    queries: Int64[np.ndarray, " pairs"],
    products: Int64[np.ndarray, " pairs"],
    weights: tuple[float, ...],
) -> Float32[np.ndarray, "pairs hidden"]:
    photos = dataset.regions(products, boxes=model.needs_boxes).to(model.device)
    ends = np.cumsum(photos.counts.numpy())
    pool_sizes = np.diff(np.concatenate([[0], ends[_pool_ends(queries) - 1]])).tolist()
    pools = torch.split(photos.features, pool_sizes)
    photos = photos.with_features(torch.cat([smooth_regions(pool, weights) for pool in pools]))
    return encode_in_pieces(model, photos)  # one pool alone may be larger than what is encoded at once


def encode_in_pieces(model: PartsEncoder, photos: Regions) -> Float32[np.ndarray, "photos hidden"]:
    """The vectors of any number of photos, at most TOKENS_AT_ONCE regions (one photo at least) at once."""
    ends = np.cumsum(photos.counts.numpy())
    pieces, start, begin = [], 0, 0
    for end in range(1, len(ends) + 1):
        if end == len(ends) or ends[end] - begin > TOKENS_AT_ONCE:
            pieces.append(encode_photos(model, photos.part(start, end)))
            start, begin = end, int(ends[end - 1])
    return np.concatenate(pieces)
