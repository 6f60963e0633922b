"""Which products of an opened index come first: for a vector, for known texts, or for both together?

The best rows of every segment (`neighbours.py`, `texts.py`), merged: higher score first, of equal scores the smaller
id. Ids are compared as text in all segments where those of one segment are text. Knows no model.
Source of fusing: Cormack, Clarke and Büttcher, SIGIR 2009.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Shaped

from shopwindow.ids import as_ids
from shopwindow.search.hits import EVERYTHING, Filter, ProductId
from shopwindow.search.neighbours import Exact, Nearest, Neighbours
from shopwindow.search.segment import Segment
from shopwindow.search.texts import Texts, scores_together

MASKS_KEPT: Final = 32
"""Of the filters asked last, for each segment; a byte a product each."""
_RRF_CONSTANT: Final = 60


@dataclass(frozen=True)
class OpenPart:
    """An opened segment of an index. `live`: which of its products count (None: all). `probes`: cells looked into.
    `text_ids`: whether ids are text, in this segment or in another of the index."""

    segment: Segment
    live: Bool[np.ndarray, " products"] | None
    texts: Texts | None
    probes: int = 1
    text_ids: bool = False

    def ids(self, rows: Int64[np.ndarray, " some"]) -> Shaped[np.ndarray, " some"]:
        """The ids of some rows, of the kind that all segments of the index have in common."""
        ids: Shaped[np.ndarray, " some"] = self.segment.columns.ids[rows]
        return ids.astype(np.str_) if self.text_ids else ids

    @cached_property
    def exact(self) -> Exact:
        """The exact search of its rows; equal scores stand by the smaller id."""
        if not self.text_ids or self.segment.has_text_ids:
            return self.segment.exact
        ranks = np.argsort(np.argsort(self.segment.columns.ids.astype(np.str_), kind="stable"))
        return dataclasses.replace(self.segment.exact, ranks=ranks)

    @cached_property
    def neighbours(self) -> Neighbours:
        """The search that the index is set to."""
        return self.probing(self.probes)

    def probing(self, probes: int) -> Neighbours:
        """The search of so many cells; the exact one in a small segment."""
        ivf = self.segment.ivf
        return self.exact if ivf is None else dataclasses.replace(ivf, exact=self.exact, probes=probes)

    @cached_property
    def passing(self) -> Callable[[Filter], Bool[np.ndarray, " products"]]:
        """The mask of the products that pass a filter. Masks are kept, so nobody may write to them."""

        def passing(where: Filter) -> Bool[np.ndarray, " products"]:
            mask = self.segment.passing(where)
            mask.flags.writeable = False
            return mask

        return lru_cache(MASKS_KEPT)(passing)

    def allowed(self, where: Filter) -> Bool[np.ndarray, " products"] | None:
        """The mask of the products that count and pass the filter; None: all."""
        if not where:
            return self.live
        passes = self.passing(where)
        return passes if self.live is None else passes & self.live

    @property
    def living_rows(self) -> Int64[np.ndarray, " rows"]:
        """The rows of the products that count, rising."""
        return np.arange(len(self.segment)) if self.live is None else np.flatnonzero(self.live)

    @property
    def with_texts(self) -> int:
        """How many of the products that count have texts."""
        if self.texts is None or self.live is None:
            return 0 if self.texts is None else self.texts.products
        return int(np.count_nonzero(self.live[self.segment.rows_of(self.texts.ids())]))

    @property
    def with_values(self) -> int:
        """How many of the products that count have a value in a column of the shop."""
        if self.segment.attributes is None:
            return 0
        valued = self.segment.attributes.valued
        return int(np.count_nonzero(valued if self.live is None else valued & self.live))


@dataclass(frozen=True)
class Ranked:
    """Product ids and scores, best first."""

    ids: Shaped[np.ndarray, " products"]
    scores: Float64[np.ndarray, " products"]


def find(
    parts: Sequence[OpenPart],
    query: Float32[np.ndarray, " hidden"],
    k: int,
    *,
    where: Filter = EVERYTHING,
    probes: int | None = None,
) -> Ranked:
    """The best k products by the quick way that the index is set to. `probes`: cells looked into, as set when None."""
    nearest = []
    for part in parts:
        neighbours = part.neighbours if probes is None else part.probing(probes)
        nearest += neighbours.search(query[None], k, allowed=part.allowed(where))
    return _merged(parts, nearest, k)


def find_exactly(
    parts: Sequence[OpenPart],
    queries: Float32[np.ndarray, "queries hidden"],
    k: int,
    *,
    where: Filter = EVERYTHING,
) -> Iterator[Ranked]:
    """The best k products of each query, every vector read."""
    searches = [part.exact.search(queries, k, allowed=part.allowed(where)) for part in parts]
    for nearest in zip(*searches, strict=True):
        yield _merged(parts, nearest, k)


def find_by_texts(parts: Sequence[OpenPart], words: str, k: int, where: Filter) -> list[ProductId]:
    """The best k product ids by full text. Ties at the cut of an integer segment stand by value: the file's order.

    The answer is the same however the products lie in segments: words are counted over all living ones.
    """
    with_texts = [(part, part.texts) for part in parts if part.texts is not None]
    ranked: list[tuple[float, ProductId]] = []
    if len(with_texts) == 1 and with_texts[0][0].live is None:
        ((part, texts),) = with_texts
        best = texts.find(words, k, part.allowed(where))
        ranked = [(-score, str(product) if part.text_ids else product) for product, score in best]
    else:
        scores = scores_together(
            [texts for _, texts in with_texts], [part.live for part, _ in with_texts], words
        )
        for (part, _), own in zip(with_texts, scores, strict=True):
            ranked += _best_by_texts(part, own, k, where)
    return [product for _, product in sorted(ranked)[:k]]


def _best_by_texts(
    part: OpenPart, scores: Float64[np.ndarray, " products"], k: int, where: Filter
) -> list[tuple[float, ProductId]]:
    """(score below 0, id) of the best k products of a segment; of equal scores the earlier rows."""
    allowed = part.allowed(where)
    rows = np.flatnonzero(scores > 0 if allowed is None else (scores > 0) & allowed)
    rows = rows[np.argsort(-scores[rows], kind="stable")[:k]]
    return list(zip((-scores[rows]).tolist(), part.ids(rows).tolist(), strict=True))


def fused(vectors: Ranked, texts: list[ProductId], k: int) -> Ranked:
    """The best k of both rankings: of 1 / (60 + rank) in either, summed; of equal ones the smaller id first."""
    scores: dict[ProductId, float] = {}
    for ranking in (vectors.ids.tolist(), texts):
        for rank, product in enumerate(ranking, start=1):
            scores[product] = scores.get(product, 0.0) + 1 / (_RRF_CONSTANT + rank)
    best = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
    ids = as_ids(np.array([product for product, _ in best]))
    return Ranked(ids, np.array([score for _, score in best]))


def _merged(parts: Sequence[OpenPart], nearest: Sequence[Nearest], k: int) -> Ranked:
    ids = np.concatenate([part.ids(best.rows) for part, best in zip(parts, nearest, strict=True)])
    scores = np.concatenate([best.scores for best in nearest])
    order = np.lexsort((ids, -scores))[:k]
    return Ranked(ids[order], scores[order])
