"""Which clicks went to a product that looks like nothing else that the query's clicks went to? They are likely wrong.

A query's products are compared by their whole photos. Each has the mean cosine with its three nearest among the others
of the query; products of other queries have the same. One that is no nearer than many of those is an outlier. A query
whose products do not look alike anyhow, such as `present`, has none.

Legend of axes: pairs = (query, product) of a click log; values = of a feature.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from shopwindow.data.clicks import Pairs
from shopwindow.data.dataset import Dataset
from shopwindow.data.features import Features

MOST_OTHERS_NEARER: Final = 0.2
"""Share of other queries' products that may be as near to a query's as one of its own."""
_ALIKE: Final = 0.1
"""A query's products look alike where half of them have a share below this."""
OUTLIERS: Final = "outliers"
"""The cleaning rule's name."""
_NEAREST: Final = 3
_FEWEST: Final = 6
"""Products of a query of which outliers are told."""
_CERTAIN: Final = 3.0
"""Clicks of a pair that is never an outlier."""
_MOST_OTHERS: Final = 1000
_AT_ONCE: Final = 1024


def outliers(features: Features, pairs: Pairs) -> Bool[np.ndarray, " pairs"]:
    """Which pairs are outliers. The same in each run."""
    found = np.zeros(len(pairs.queries), bool)
    products, places = np.unique(pairs.products, return_inverse=True)
    vectors: Float32[np.ndarray, "products values"] | None = None
    rng = np.random.default_rng(0)
    bounds = np.flatnonzero(np.diff(pairs.queries, prepend=-1, append=-1))
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        own = places[start:end]
        if len(own) < _FEWEST or len(products) < 2 * len(own):
            continue
        vectors = whole_photos(features, products) if vectors is None else vectors
        others = np.setdiff1d(np.arange(len(products)), own)
        others = rng.choice(others, min(len(others), _MOST_OTHERS), replace=False)
        shares = _shares(vectors[own], vectors[others])
        if np.median(shares) <= _ALIKE:
            found[start:end] = (shares > MOST_OTHERS_NEARER) & (pairs.clicks[start:end] < _CERTAIN)
    return found


def _shares(
    own: Float32[np.ndarray, "own values"], others: Float32[np.ndarray, "others values"]
) -> Float64[np.ndarray, " own"]:
    """The share of the others that are as near to `own` as each of its rows is to the rest of it."""
    among = own @ own.T
    np.fill_diagonal(among, -np.inf)
    reference = np.sort(_nearest(others @ own.T))
    shares: Float64[np.ndarray, " own"] = 1 - np.searchsorted(reference, _nearest(among)) / len(reference)
    return shares


def _nearest(cosines: Float32[np.ndarray, "rows columns"]) -> Float32[np.ndarray, " rows"]:
    nearest: Float32[np.ndarray, " rows"] = np.partition(cosines, -_NEAREST, axis=1)[:, -_NEAREST:].mean(
        axis=1
    )
    return nearest


def whole_photos(
    features: Features | Dataset, products: Int64[np.ndarray, " products"]
) -> Float32[np.ndarray, "products values"]:
    """The first region of each product, square roots that keep their sign, of length 1."""
    pieces = []
    for start in range(0, len(products), _AT_ONCE):
        regions = features.regions(products[start : start + _AT_ONCE])
        pieces.append(regions.features[regions.starts].float().numpy())
    values = np.concatenate(pieces)
    roots = np.sign(values) * np.sqrt(np.abs(values))
    lengths = np.linalg.norm(roots, axis=1, keepdims=True)
    vectors: Float32[np.ndarray, "products values"] = roots / np.maximum(lengths, 1e-12)
    return vectors
