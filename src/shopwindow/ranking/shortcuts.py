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


def counts_among(
    product_ids: Shaped[np.ndarray, "rows"], among: Shaped[np.ndarray, "others"]
) -> Int64[np.ndarray, "rows"]:
    """How often each product stands in the rows of another column.

    >>> counts_among(np.array([5, 6, 7]), np.array([6, 5, 6]))
    array([1, 2, 0])
    """
    distinct, counts = np.unique(among, return_counts=True)
    repeats: Int64[np.ndarray, "rows"] = np.append(counts, 0)[positions(product_ids, distinct)]
    return repeats


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
    """The first characters and the length of the product id. What they mean is learned from other queries' answers."""
    products = np.unique(pools.product_ids)
    scores = query_blind_scores(pools, grades, products, prefix_indicators(products), generator)
    return Shortcut("product id prefix", scores)


def occurrences(pools: Pools, also: Sequence[Pools] = ()) -> Int64[np.ndarray, "files rows"]:
    """In how many pools each candidate's product stands: of its own file, then of each other file."""
    return np.stack([counts_among(pools.product_ids, other.product_ids) for other in (pools, *also)])


def occurrence_shortcuts(counts: Int64[np.ndarray, "files rows"]) -> list[Shortcut]:
    """Orders by the number of pools that hold a product: of this file, and of all files where there are several."""
    own, total, elsewhere = counts[0], counts.sum(axis=0), counts[1:].sum(axis=0)
    shortcuts = [
        Shortcut("in one pool", (own == 1).astype(np.float64), is_grouping=True),
        Shortcut("in few pools", -own.astype(np.float64), is_grouping=True),
        Shortcut("in many pools", own.astype(np.float64), is_grouping=True),
    ]
    if len(counts) > 1:
        shortcuts += [
            Shortcut("in one pool of all files", (total == 1).astype(np.float64), is_grouping=True),
            Shortcut("in few pools of all files", -total.astype(np.float64), is_grouping=True),
            Shortcut("not in the other files", (elsewhere == 0).astype(np.float64), is_grouping=True),
            Shortcut("in the other files", (elsewhere > 0).astype(np.float64), is_grouping=True),
        ]
    return shortcuts


def popularity_shortcuts(pools: Pools, train_product_ids: Shaped[np.ndarray, "pairs"]) -> list[Shortcut]:
    """How often a product stands in the training pairs."""
    count = counts_among(pools.product_ids, train_product_ids).astype(np.float64)
    return [
        Shortcut("popular in training", count, is_grouping=True),
        Shortcut("rare in training", -count, is_grouping=True),
    ]


@dataclass(frozen=True, eq=False)
class WordCounts:
    """How often each word stands in each query, and in the training queries of each product; rows as the ids."""

    query_ids: Shaped[np.ndarray, "queries"]
    of_queries: sparse.csr_array
    product_ids: Shaped[np.ndarray, "products"]
    of_products: sparse.csr_array

    @classmethod
    def of(
        cls,
        query_ids: Shaped[np.ndarray, "queries"],
        query_texts: Sequence[str],
        product_ids: Shaped[np.ndarray, "products"],
        training_texts: Sequence[str],
        pairs: Int64[np.ndarray, "pairs 2"],
    ) -> WordCounts:
        """Counts the lower-case words of texts; `pairs` are training pairs: (row of a product, row of a text)."""
        numbers: dict[str, int] = {}
        training, queries = (_words(texts, numbers) for texts in (training_texts, query_texts))
        shape = (len(product_ids), len(training_texts))
        linked = sparse.csr_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=shape)
        of_texts, of_queries = (_count_matrix(words, len(numbers)) for words in (training, queries))
        return cls(query_ids, of_queries, product_ids, sparse.csr_array(linked @ of_texts))


def _words(texts: Sequence[str], numbers: dict[str, int]) -> list[list[int]]:
    """The number of every word of each text; new words get the next number."""
    return [[numbers.setdefault(word, len(numbers)) for word in text.lower().split()] for text in texts]


def _count_matrix(texts: list[list[int]], width: int) -> sparse.csr_array:
    rows = np.repeat(np.arange(len(texts)), [len(words) for words in texts])
    columns = np.array([word for words in texts for word in words], dtype=np.int64)
    return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(texts), width))


def image_blind_shortcut(pools: Pools, words: WordCounts) -> Shortcut:
    """Text only: the cosine of a query's idf-weighted words with those of the candidate's training queries.

    A product without training text scores 0. Where no candidate was trained with, this is random order: words alone
    cannot tell candidates of one pool apart.
    """
    products_with = np.bincount(words.of_products.indices, minlength=words.of_products.shape[1])
    weight = np.log((words.of_products.shape[0] + 1.0) / (products_with + 1.0))
    queries, products = (
        _unit_rows(counts.multiply(weight).tocsr()) for counts in (words.of_queries, words.of_products)
    )
    query_row = np.repeat(_rows(pools.queries, words.query_ids), pools.sizes)
    product_row = _rows(pools.product_ids, words.product_ids)
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
    """The row of each value among ids in any order; -1 where there is none."""
    values, ids = in_one_kind(values, ids)
    order = np.argsort(ids, kind="stable")
    rows: Int64[np.ndarray, "values"] = np.append(order, -1)[positions(values, ids[order])]
    return rows
