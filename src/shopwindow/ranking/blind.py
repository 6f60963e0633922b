"""How well can the answers be guessed without reading the query? Held-out scores of models that never see it.

A linear model per held-out block of queries *and* products: no candidate is scored by a model that saw its query or
its product. It takes plain arrays (features per product), so that it knows no dataset and no photo.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float, Float64, Int64, Shaped

from shopwindow.ids import codes_of, positions
from shopwindow.ranking.pools import Pools

FOLDS: Final = 5
DEALS: Final = 10
_MOST_DIMENSIONS: Final = 256
_RIDGE: Final = 0.1


def query_blind_scores(
    pools: Pools,
    grades: Float64[np.ndarray, "rows"],
    product_ids: Shaped[np.ndarray, "products"],
    features: Float[np.ndarray, "products dim"],
    generator: np.random.Generator,
    *,
    folds: int = FOLDS,
    deals: int = DEALS,
    same: Int64[np.ndarray, "products"] | None = None,
) -> Float64[np.ndarray, "rows"]:
    """A score for every candidate, by ridge regression of being an answer on its product's features.

    Features and target are taken less their pool's mean, because only the order inside a pool counts. Queries and
    products are dealt into `folds` parts each. The candidates of one part of both are scored by the model of all rows
    that share neither. The scores are the mean over `deals` deals, because a single one depends on chance. Products of
    one number in `same` (one photo under two ids) stay in one part.

    More than 256 features are first projected on their 256 largest directions, found without answers. A candidate
    whose product has no features scores 0, as an average one. `product_ids` are distinct, in any order. The model sees
    what is linear in the features: "far from the mean", say, only where they are binned.
    Cost of a deal: a Gram matrix of all rows per product fold, and folds x folds solves.

    Raises: ValueError for fewer than 2 folds, or features that are not finite.
    """
    if folds < 2:
        raise ValueError(f"{folds} folds: at least 2 were wanted")
    if not np.isfinite(features).all():
        raise ValueError("features hold NaN or infinity")
    codes = codes_of(pools.offsets)
    _, product_codes = np.unique(pools.product_ids, return_inverse=True)
    order = np.argsort(product_ids, kind="stable")
    product_row = positions(pools.product_ids, product_ids[order])
    rows = _standardised(_reduced(features.astype(np.float64), generator))[order][product_row]
    rows[product_row < 0] = 0.0
    target = (grades > 0).astype(np.float64)
    if same is not None:
        alone = int(same.max(initial=0)) + 1 + product_codes
        _, product_codes = np.unique(
            np.where(product_row >= 0, same[order][product_row], alone), return_inverse=True
        )
    scores = np.zeros(len(pools))
    for _ in range(deals):
        query_fold = (generator.permutation(len(pools.queries)) % folds)[codes]
        product_fold = (generator.permutation(int(product_codes.max()) + 1) % folds)[product_codes]
        scores += _held_out(rows, target, codes, query_fold, product_fold, folds) / deals
    scores[product_row < 0] = 0.0
    return scores


def _held_out(
    rows: Float64[np.ndarray, "rows dim"],
    target: Float64[np.ndarray, "rows"],
    codes: Int64[np.ndarray, "rows"],
    query_fold: Int64[np.ndarray, "rows"],
    product_fold: Int64[np.ndarray, "rows"],
    folds: int,
) -> Float64[np.ndarray, "rows"]:
    """Every block's scores by the model of the blocks that share neither its queries nor its products.

    Pool means are taken over the products kept: over the whole pool they would carry the held-out ones in.
    """
    dim = rows.shape[1]
    scores = np.zeros(len(rows))
    centred = _less_pool_mean(rows, codes)
    for product in range(folds):
        kept = product_fold != product
        training = _less_pool_mean(rows[kept], codes[kept])
        answer = _less_pool_mean(target[kept][:, None], codes[kept])[:, 0]
        parts = [query_fold[kept] == query for query in range(folds)]
        gram = np.stack([training[part].T @ training[part] for part in parts])
        moment = np.stack([training[part].T @ answer[part] for part in parts])
        for query in range(folds):
            others = np.arange(folds) != query
            total = gram[others].sum(axis=0)
            ridge = _RIDGE * max(float(np.trace(total)) / dim, 1e-12)
            weights = np.linalg.solve(total + ridge * np.eye(dim), moment[others].sum(axis=0))
            block = (query_fold == query) & ~kept
            scores[block] = centred[block] @ weights
    return scores


def _less_pool_mean(
    rows: Float64[np.ndarray, "rows dim"], codes: Int64[np.ndarray, "rows"]
) -> Float64[np.ndarray, "rows dim"]:
    """The rows less the mean of their pool; rows of one pool stand together."""
    if not len(rows):
        return rows
    new = np.concatenate([[True], codes[1:] != codes[:-1]])
    sums = np.add.reduceat(rows, np.flatnonzero(new), axis=0)
    pool = np.cumsum(new) - 1
    centred: Float64[np.ndarray, "rows dim"] = rows - (sums / np.bincount(pool)[:, None])[pool]
    return centred


def _standardised(features: Float64[np.ndarray, "products dim"]) -> Float64[np.ndarray, "products dim"]:
    deviation = features.std(axis=0)
    centred = features - features.mean(axis=0)
    scaled = np.zeros_like(features)
    np.divide(centred, deviation, out=scaled, where=deviation > 1e-12)
    return scaled


def _reduced(
    features: Float64[np.ndarray, "products dim"], generator: np.random.Generator
) -> Float64[np.ndarray, "products kept"]:
    """The features themselves, or their share in their largest directions where they are many.

    Source: randomised range finder with one power iteration, Halko, Martinsson and Tropp, SIAM Review 2011.
    """
    dim = features.shape[1]
    if dim <= _MOST_DIMENSIONS:
        return features
    centred = features - features.mean(axis=0)
    sketch = centred @ generator.standard_normal((dim, _MOST_DIMENSIONS))
    basis, _ = np.linalg.qr(centred.T @ sketch)
    reduced: Float64[np.ndarray, "products kept"] = centred @ basis
    return reduced


def box_statistics(
    counts: Int64[np.ndarray, "products"],
    boxes: Float[np.ndarray, "regions 4"],
    sizes: Int64[np.ndarray, "products 2"],
    labels: Int64[np.ndarray, "regions"],
) -> Float64[np.ndarray, "products 7"]:
    """What is known of a photo without its features, of each product.

    Number of regions, height, width, height / width, first label, largest box and sum of boxes as shares of the photo.
    """
    starts = np.cumsum(counts) - counts
    height, width = sizes.T
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    largest, total = (part.reduceat(areas, starts) / sizes.prod(axis=1) for part in (np.maximum, np.add))
    columns = [counts, height, width, height / width, labels[starts], largest, total]
    return np.stack(columns, axis=1).astype(np.float64)


def in_bins(
    statistics: Float[np.ndarray, "products dim"], *, bins: int = 8
) -> Float64[np.ndarray, "products cells"]:
    """Each statistic as indicators of its quantile bins, so that a linear model can see any shape of dependence.

    Equal values share a bin; a statistic of few values gets a bin per value.

    >>> in_bins(np.array([[1.0], [1.0], [2.0]]), bins=2).tolist()
    [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    """
    columns = []
    for values in statistics.T:
        distinct, cells = np.unique(values, return_inverse=True)
        if len(distinct) > bins:
            inner = np.linspace(0, 1, bins + 1)[1:-1]
            edges = np.unique(np.quantile(values, inner, method="lower"))
            cells = np.searchsorted(edges, values, side="right")
        columns.append((cells[:, None] == np.unique(cells)).astype(np.float64))
    return np.concatenate(columns, axis=1)


def prefix_indicators(
    product_ids: Shaped[np.ndarray, "products"], *, length: int = 3, most: int = 64
) -> Float64[np.ndarray, "products prefixes"]:
    """Indicators of the first characters of each id, and of its length; only the `most` frequent of each have one."""
    words = product_ids.astype(np.str_)
    indicators = []
    for values in (np.array([word[:length] for word in words.tolist()]), np.strings.str_len(words)):
        distinct, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
        kept = np.argsort(-counts, kind="stable")[:most]
        indicators.append((codes[:, None] == np.arange(len(distinct))[kept]).astype(np.float64))
    return np.concatenate(indicators, axis=1)


def equal_rows(features: Float[np.ndarray, "products dim"]) -> Int64[np.ndarray, "products"]:
    """A number per product, equal where the features are equal to the bit: one photo under several ids.

    >>> equal_rows(np.array([[1.0, 2.0], [0.0, 2.0], [1.0, 2.0]])).tolist()
    [0, 1, 0]
    """
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in features], dtype=np.int64)
