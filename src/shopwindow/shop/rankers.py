"""What else could rank the catalogue? Every system of the verdict: random, popularity, full text, the trained model.

A ranker scores all products for any query. Its rankings become runs, which `ranking` measures. Exact: knows no index.

Legend of axes: queries = of one call; products = the catalogue, in the order of its dataset.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped

from shopwindow.ids import positions
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.fusion import RRF_CONSTANT
from shopwindow.ranking.runs import Run
from shopwindow.search.hits import FUSED
from shopwindow.search.texts import Texts, write_texts

DEPTH: Final = 100
"""Products of a query's ranking of the whole catalogue."""
_LATER: Final = 1e-6
_CELLS_AT_ONCE: Final = 20_000_000
Scores = Callable[[Sequence[str]], Float64[np.ndarray, "queries products"]]


@dataclass(frozen=True)
class Ranker:
    """A system: `scores` of all products for some queries, NaN for a product that it does not find. `serve`: how it is
    served, in words; None: it is shown for comparison only."""

    name: str
    scores: Scores
    serve: str | None = None


def random_ranker(products: int, generator: np.random.Generator) -> Ranker:
    """A random order for every query."""
    return Ranker("random", lambda texts: generator.random((len(texts), products)))


def popularity_ranker(
    pair_products: Int64[np.ndarray, " pairs"], weights: Float32[np.ndarray, " pairs"], products: int
) -> Ranker:
    """The order by clicks, the same for every query. `pair_products`: rows of the catalogue."""
    clicks = np.bincount(pair_products, weights=weights, minlength=products).astype(np.float64)
    return Ranker("popularity", lambda texts: np.tile(clicks, (len(texts), 1)))


def full_text_ranker(
    ids: Shaped[np.ndarray, " products"], titles: Sequence[str], name: str, serve: str | None = None
) -> Ranker:
    """BM25 over titles, one a product of the catalogue; an empty one is none."""
    rising = np.argsort(ids, kind="stable")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "titles.sqlite"
        write_texts(path, ([titles[row]] if titles[row] else [] for row in rising.tolist()))
        texts = Texts(path, ids[rising])  # stays readable without its file

    def scores(queries: Sequence[str]) -> Float64[np.ndarray, "queries products"]:
        out = np.full((len(queries), len(ids)), np.nan)
        for row, words in zip(out, queries, strict=True):
            hits = texts.find(words, len(ids))
            places = positions(np.array([product for product, _ in hits], ids.dtype), ids[rising])
            row[rising[places]] = [score for _, score in hits]
        return out

    return Ranker(name, scores, serve)


def vector_ranker(
    encode: Callable[[list[str]], np.ndarray], products: np.ndarray, name: str, serve: str | None = None
) -> Ranker:
    """Dot products of the queries' vectors with [products, values]."""

    def scores(queries: Sequence[str]) -> Float64[np.ndarray, "queries products"]:
        matrix: Float64[np.ndarray, "queries products"] = (encode(list(queries)) @ products.T).astype(float)
        return matrix

    return Ranker(name, scores, serve)


def fused_ranker(first: Ranker, second: Ranker, name: str, serve: str | None = None) -> Ranker:
    """Reciprocal rank fusion: the sum of 1 / (60 + rank) in both rankings.

    As in a hybrid search the first FUSED of each count; later ranks only order what would be equal.

    Source: Cormack, Clarke and Büttcher, SIGIR 2009.
    """

    def scores(queries: Sequence[str]) -> Float64[np.ndarray, "queries products"]:
        total: Float64[np.ndarray, "queries products"] = _reciprocal(first.scores(queries))
        total += _reciprocal(second.scores(queries))
        return total

    return Ranker(name, scores, serve)


def _reciprocal(scores: Float64[np.ndarray, "queries products"]) -> Float64[np.ndarray, "queries products"]:
    """1 / (60 + rank), a millionth of it beyond FUSED; 0 where there is no score."""
    order = np.argsort(-scores, axis=1, kind="stable")  # NaN last
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(1, scores.shape[1] + 1)[None], axis=1)
    counted = np.where(ranks <= FUSED, 1.0, _LATER)
    return np.where(np.isnan(scores), 0.0, counted / (RRF_CONSTANT + ranks))


def catalogue_run(
    ranker: Ranker, judged: Answers, texts: Sequence[str], product_ids: Shaped[np.ndarray, " products"]
) -> Run:
    """The first DEPTH of all products for each judged query. Of equal scores the smaller id stands first.

    `texts`: the words of each of `judged.queries`.
    """
    query_ids = judged.queries
    by_id = np.argsort(product_ids, kind="stable")
    queries, products, values = [], [], []
    for rows in _some(len(texts), len(product_ids)):
        scores = ranker.scores([texts[row] for row in rows.tolist()])[:, by_id]
        for row, own in zip(rows.tolist(), scores, strict=True):
            best = np.argsort(-own, kind="stable")[:DEPTH]
            best = best[~np.isnan(own[best])]
            queries.append(np.repeat(query_ids[row : row + 1], len(best)))
            products.append(product_ids[by_id[best]])
            values.append(own[best])
    columns = (np.concatenate(column) for column in (queries, products, values))
    return Run.from_arrays(*columns, name=ranker.name)


def pool_run(
    ranker: Ranker, judged: Answers, texts: Sequence[str], product_ids: Shaped[np.ndarray, " products"]
) -> Run:
    """The judged products of each query, ranked. One that the ranker does not find stands last."""
    by_id = np.argsort(product_ids, kind="stable")
    places = by_id[positions(judged.product_ids, product_ids[by_id])]
    values = np.empty(len(judged))
    for rows in _some(len(texts), len(product_ids)):
        scores = ranker.scores([texts[row] for row in rows.tolist()])
        for row, own in zip(rows.tolist(), scores, strict=True):
            pool = slice(int(judged.offsets[row]), int(judged.offsets[row + 1]))
            found = own[places[pool]]
            lowest = np.nanmin(own, initial=0.0) - 1.0
            values[pool] = np.where(np.isnan(found), lowest, found)
    return Run.from_arrays(judged.query_ids, judged.product_ids, values, name=ranker.name)


def _some(queries: int, products: int) -> list[np.ndarray]:
    """Rows of queries, as many at a time as memory allows."""
    step = max(1, _CELLS_AT_ONCE // max(products, 1))
    return [np.arange(start, min(start + step, queries)) for start in range(0, queries, step)]
