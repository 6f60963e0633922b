"""Which products of an opened index come first: for a vector, for known texts, or for both together?

The best rows of every segment (`neighbours.py`, `texts.py`), merged: higher score first, of equal scores the smaller
id. Ids are compared as text in all segments where those of one segment are text. Knows no model.
Source of fusing: Cormack, Clarke and Büttcher, SIGIR 2009.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Shaped

from shopwindow.ids import as_ids
from shopwindow.search.hits import EVERYTHING, Filter
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
        return replace(self.segment.exact, ranks=ranks)

    @cached_property
    def neighbours(self) -> Neighbours:
        """The search that the index is set to."""
        return self.probing(self.probes)

    def probing(self, probes: int) -> Neighbours:
        """The search of so many cells; the exact one in a small segment."""
        ivf = self.segment.ivf
        return self.exact if ivf is None else replace(ivf, exact=self.exact, probes=probes)

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
        """How many of the products that count have texts besides a title."""
        if self.texts is None or self.live is None:
            return 0 if self.texts is None else self.texts.products
        return int(np.count_nonzero(self.live[self.segment.rows_of(self.texts.ids())]))

    @property
    def with_titles(self) -> int:
        """How many of the products that count have a title."""
        if self.segment.catalogue is None:
            return 0
        titled = self.segment.catalogue.columns["title"].is_valid().to_numpy(zero_copy_only=False)
        return int(np.count_nonzero(titled if self.live is None else titled & self.live))

    @property
    def with_values(self) -> int:
        """How many of the products that count have a value in a column of the shop."""
        if self.segment.attributes is None:
            return 0
        valued = self.segment.attributes.valued
        return int(np.count_nonzero(valued if self.live is None else valued & self.live))


@dataclass(frozen=True)
class Ranked:
    """Products found. `parts` and `rows` say where each lies: the number of its part of the index, and its row there.
    `best` orders them: higher score first, of equal scores the smaller id."""

    ids: Shaped[np.ndarray, " products"]
    scores: Float64[np.ndarray, " products"]
    parts: Int64[np.ndarray, " products"]
    rows: Int64[np.ndarray, " products"]

    @classmethod
    def of(
        cls, parts: Sequence[OpenPart], rows: Sequence[Int64[np.ndarray, " _"]], scores: Sequence[np.ndarray]
    ) -> Ranked:
        """Some rows of each part with their scores, part by part."""
        ids = np.concatenate([part.ids(some) for part, some in zip(parts, rows, strict=True)])
        numbers = np.repeat(np.arange(len(parts)), [len(some) for some in rows])
        return cls(ids, np.concatenate(scores), numbers, np.concatenate(rows))

    def best(self, k: int | None = None) -> Ranked:
        """The best k (None: all) by their scores, in order."""
        return self.take(np.lexsort((self.ids, -self.scores))[:k])

    def take(self, chosen: Int64[np.ndarray, " chosen"]) -> Ranked:
        """The chosen products, in the order given."""
        return Ranked(self.ids[chosen], self.scores[chosen], self.parts[chosen], self.rows[chosen])

    def by_part(
        self, parts: Sequence[OpenPart]
    ) -> Iterator[tuple[OpenPart, Int64[np.ndarray, " here"], Int64[np.ndarray, " here"]]]:
        """Each part that has some of the products: which they are, rising, and their rows there."""
        for number in np.unique(self.parts).tolist():
            here = np.flatnonzero(self.parts == number)
            yield parts[number], here, self.rows[here]


NOTHING: Final = Ranked(*(np.zeros(0, kind) for kind in (np.int64, np.float64, np.int64, np.int64)))


def find_quickly(
    parts: Sequence[OpenPart],
    query: Float32[np.ndarray, " dimensions"],
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
    return Ranked.of(parts, [best.rows for best in nearest], [best.scores for best in nearest]).best(k)


def find_exactly(
    parts: Sequence[OpenPart],
    queries: Float32[np.ndarray, "queries dimensions"],
    k: int,
    *,
    where: Filter = EVERYTHING,
) -> Iterator[Ranked]:
    """The best k products of each query, every vector read."""
    searches = [part.exact.search(queries, k, allowed=part.allowed(where)) for part in parts]
    for nearest in zip(*searches, strict=True):
        yield Ranked.of(parts, [best.rows for best in nearest], [best.scores for best in nearest]).best(k)


def find_by_texts(parts: Sequence[OpenPart], words: str, k: int, where: Filter) -> Ranked:
    """The best k products by full text. Ties at the cut of an integer segment stand by value: the file's order.

    The answer is the same however the products lie in segments: words are counted over all living ones.
    """
    texts = {number: part.texts for number, part in enumerate(parts) if part.texts is not None}
    nearest = [Nearest(np.zeros(0, np.int64), np.zeros(0))] * len(parts)
    if len(texts) == 1 and all(parts[number].live is None for number in texts):
        ((number, alone),) = texts.items()
        best = alone.find(words, k, parts[number].allowed(where))
        rows = parts[number].segment.rows_of(as_ids(np.array([product for product, _ in best])))
        nearest[number] = Nearest(rows, np.array([score for _, score in best], np.float64))
    else:
        living = [parts[number].live for number in texts]
        together = scores_together(list(texts.values()), living, words)
        for number, scores in zip(texts, together, strict=True):
            nearest[number] = _best_scored(scores, k, parts[number].allowed(where))
    return Ranked.of(parts, [best.rows for best in nearest], [best.scores for best in nearest]).best(k)


def _best_scored(
    scores: Float64[np.ndarray, " products"], k: int, allowed: Bool[np.ndarray, " products"] | None
) -> Nearest:
    """The best k rows of those above 0; of equal scores the earlier rows."""
    rows = np.flatnonzero(scores > 0 if allowed is None else (scores > 0) & allowed)
    rows = rows[np.argsort(-scores[rows], kind="stable")[:k]]
    return Nearest(rows, scores[rows])


def fused(vectors: Ranked, texts: Ranked, k: int) -> Ranked:
    """The best k of both rankings: of 1 / (60 + rank) in either, summed; of equal ones the smaller id first."""
    pairs = [(vectors.ids, texts.ids), (vectors.parts, texts.parts), (vectors.rows, texts.rows)]
    ids, parts, rows = (np.concatenate(pair) for pair in pairs)
    _, first, same = np.unique(ids, return_index=True, return_inverse=True)
    ranks = np.concatenate([np.arange(1, 1 + len(ranking.ids)) for ranking in (vectors, texts)])
    scores = np.zeros(len(first))
    np.add.at(scores, same, 1 / (_RRF_CONSTANT + ranks))
    return Ranked(ids[first], scores, parts[first], rows[first]).best(k)
