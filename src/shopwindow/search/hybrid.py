"""Which products do vectors and known texts find together? Two rankings, fused by reciprocal rank.

Knows texts and rankings, no words' vector.
Source: Cormack, Clarke and Büttcher, SIGIR 2009.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np
from jaxtyping import Bool, Shaped

from shopwindow.ids import as_ids
from shopwindow.search.hits import Filter, ProductId
from shopwindow.search.index import OpenIndex
from shopwindow.search.lookup import Found, allowed_rows
from shopwindow.search.segment import Segment

_RRF_CONSTANT: Final = 60


def by_texts(index: OpenIndex, words: str, k: int, where: Filter) -> list[ProductId]:
    """Product ids by full text, best first: those that live and pass the filter."""
    found: list[tuple[float, ProductId]] = []
    for part in index.parts:
        if part.texts is None:
            continue
        allowed = allowed_rows(part, where)
        if allowed is None or allowed.any():
            ranked = part.texts.find(words, k, partial(_passing, part.segment, allowed))
            found += [(-score, product) for product, score in ranked]
    return [product for _, product in sorted(found)[:k]]


def _passing(
    segment: Segment, allowed: Bool[np.ndarray, " products"] | None, product_ids: Shaped[np.ndarray, " some"]
) -> Bool[np.ndarray, " some"]:
    rows = segment.rows_of(product_ids)
    return rows >= 0 if allowed is None else (rows >= 0) & allowed[rows]


def fused(vectors: Found, texts: list[ProductId], k: int) -> Found:
    """The best k of both rankings: of 1 / (60 + rank) in either, summed; of equal ones the smaller id first."""
    scores: dict[ProductId, float] = {}
    for ranking in (vectors.ids.tolist(), texts):
        for rank, product in enumerate(ranking, start=1):
            scores[product] = scores.get(product, 0.0) + 1 / (_RRF_CONSTANT + rank)
    best = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
    ids = as_ids(np.array([product for product, _ in best]))
    return Found(ids, np.array([score for _, score in best]))
