"""Which products should another system score for the queries that a model learns from? Its nearest, and some at random.

A pool that holds only what is near teaches nothing of what is far, so a random share goes with it. Gives rows of a
dataset for `rank_pools`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import Int64

from shopwindow.data.dataset import Dataset

if TYPE_CHECKING:
    from shopwindow.model.bundle import Bundle

PairRows = tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]
"""Rows of a dataset's queries and products, a query's side by side."""
_QUERIES_AT_ONCE: Final = 256


def training_pools(bundle: Bundle, dataset: Dataset, *, first: int, others: int, seed: int = 0) -> PairRows:
    """For each query of a training pair the `first` products by a first stage, and so
    many `others` drawn from the rest. A query's pool holds its own products in any case.

    Raises: ValueError when the dataset's features are not what the model takes.
    """
    training = dataset.pair_training
    queries = np.unique(dataset.pair_queries[training])
    texts = [dataset.query_texts[row] for row in queries.tolist()]
    words, photos = bundle.encode_texts(texts), bundle.encode_dataset(dataset)
    near, far = min(first, len(photos)), min(others, max(len(photos) - first, 0))
    rng = np.random.default_rng(seed)
    found = [np.stack([dataset.pair_queries[training], dataset.pair_products[training]])]
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        rows = queries[start : start + _QUERIES_AT_ONCE]
        scores = words[start : start + _QUERIES_AT_ONCE] @ photos.T
        order = np.argsort(-scores, axis=1, kind="stable")
        rest = rng.permuted(order[:, near:], axis=1)[:, :far]
        pools = np.concatenate([order[:, :near], rest], axis=1)
        found.append(np.stack([np.repeat(rows, pools.shape[1]), pools.ravel()]))
    pairs = np.unique(np.concatenate(found, axis=1), axis=1)
    return pairs[0], pairs[1]
