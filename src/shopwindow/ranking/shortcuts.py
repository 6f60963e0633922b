"""Which orders can be had without doing the job? Every shortcut as scores over the candidates of the pools.

Each one is plain arrays to plain arrays and reads at most the pools, other pools, and counts. Where a shortcut has
two directions both are tried. What a shortcut is worth, `audit.py` measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Shaped
from scipy import sparse

from shopwindow.ids import in_one_kind, positions
from shopwindow.ranking.blind import prefix_indicators, query_blind_scores
from shopwindow.ranking.pools import Pools


@dataclass(frozen=True, eq=False)
class Shortcut:
    """Scores of all candidates (row by row of the pools; higher is better) that never needed query and photo.

    `is_grouping`: the scores part the candidates into few groups; a run is then re-ordered inside them. Else the
    scores are added to the run's.
    """

    name: str
    scores: Float64[np.ndarray, "rows"]
    is_grouping: bool = False


def counted(
    product_ids: Shaped[np.ndarray, "rows"], among: Shaped[np.ndarray, "others"]
) -> Int64[np.ndarray, "rows"]:
    """How often each product stands in the rows of another column.

    >>> counted(np.array([5, 6, 7]), np.array([6, 5, 6]))
    array([1, 2, 0])
    """
    distinct, counts = np.unique(among, return_counts=True)
    found = positions(product_ids, distinct)
    return np.where(found >= 0, np.append(counts, 0)[found], 0)


def order_shortcuts(pools: Pools) -> list[Shortcut]:
    """The order of the file (where the pools have one) and of the product ids."""
    place = np.arange(len(pools)) - np.repeat(pools.offsets[:-1], pools.sizes)
    _, by_id = np.unique(pools.product_ids, return_inverse=True)
    of_file = [
        Shortcut("first in the file", -place.astype(np.float64)),
        Shortcut("last in the file", place.astype(np.float64)),
    ]
    return [
        *(of_file if pools.of_file else []),
        Shortcut("small product id", -by_id.astype(np.float64)),
        Shortcut("large product id", by_id.astype(np.float64)),
    ]


def prefix_shortcut(
    pools: Pools, grades: Float64[np.ndarray, "rows"], generator: np.random.Generator
) -> Shortcut:
    """The first characters and the length of the product id; what they mean is learned from other queries' answers."""
    products = np.unique(pools.product_ids)
    scores = query_blind_scores(pools, grades, products, prefix_indicators(products), generator)
    return Shortcut("product id prefix", scores)


def occurrences(pools: Pools, also: Sequence[Pools] = ()) -> Int64[np.ndarray, "files rows"]:
    """In how many pools each candidate's product stands: of its own file, then of each other file."""
    return np.stack([counted(pools.product_ids, other.product_ids) for other in (pools, *also)])


def occurrence_shortcuts(counts: Int64[np.ndarray, "files rows"]) -> list[Shortcut]:
    """What the number of pools that a product stands in says, in this file, and over all files where there are more."""
    own, total, elsewhere = counts[0], counts.sum(axis=0), counts[1:].sum(axis=0)
    found = [
        Shortcut("in one pool", (own == 1).astype(np.float64), is_grouping=True),
        Shortcut("in few pools", -own.astype(np.float64), is_grouping=True),
        Shortcut("in many pools", own.astype(np.float64), is_grouping=True),
    ]
    if len(counts) > 1:
        found += [
            Shortcut("in one pool of all files", (total == 1).astype(np.float64), is_grouping=True),
            Shortcut("in few pools of all files", -total.astype(np.float64), is_grouping=True),
            Shortcut("not in the other files", (elsewhere == 0).astype(np.float64), is_grouping=True),
            Shortcut("in the other files", (elsewhere > 0).astype(np.float64), is_grouping=True),
        ]
    return found


def popularity_shortcuts(pools: Pools, train_product_ids: Shaped[np.ndarray, "pairs"]) -> list[Shortcut]:
    """How often a product stands in the training pairs."""
    count = counted(pools.product_ids, train_product_ids).astype(np.float64)
    return [
        Shortcut("popular in training", count, is_grouping=True),
        Shortcut("rare in training", -count, is_grouping=True),
    ]


def image_blind_shortcut(
    pools: Pools,
    query_words: sparse.csr_array,
    query_ids: Shaped[np.ndarray, "queries"],
    product_words: sparse.csr_array,
    product_ids: Shaped[np.ndarray, "products"],
) -> Shortcut:
    """Text only: how much the query's words are those of the queries that the candidate's product was trained with.

    Both matrices are word counts (rows as the ids beside them); the score is the cosine of their idf-weighted rows.
    A product without training text scores 0. Without shared products this is random order: words alone cannot tell
    candidates of one pool apart.

    Raises: ValueError for matrices of unequal width.
    """
    if query_words.shape[1] != product_words.shape[1]:
        raise ValueError(f"{query_words.shape[1]} words of queries, {product_words.shape[1]} of products")
    seen = np.bincount(product_words.indices, minlength=product_words.shape[1])
    weight = np.log((product_words.shape[0] + 1.0) / (seen + 1.0))
    queries, products = (_unit_rows(words.multiply(weight).tocsr()) for words in (query_words, product_words))
    query_row = np.repeat(_rows(pools.queries, query_ids), pools.sizes)
    product_row = _rows(pools.product_ids, product_ids)
    known = (query_row >= 0) & (product_row >= 0)
    scores = np.zeros(len(pools))
    overlap = queries[query_row[known]].multiply(products[product_row[known]])
    scores[known] = np.asarray(overlap.sum(axis=1)).ravel()
    return Shortcut("image-blind (text only)", scores)


def _unit_rows(words: sparse.csr_array) -> sparse.csr_array:
    lengths = np.sqrt(np.asarray(words.multiply(words).sum(axis=1)).ravel())
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return sparse.csr_array(sparse.diags_array(scale) @ words)


def _rows(
    values: Shaped[np.ndarray, "values"], ids: Shaped[np.ndarray, "ids"]
) -> Int64[np.ndarray, "values"]:
    values, ids = in_one_kind(values, ids)
    order = np.argsort(ids, kind="stable")
    found = positions(values, ids[order])
    return np.where(found >= 0, np.append(order, -1)[found], -1)
