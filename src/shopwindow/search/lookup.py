"""Which products of an opened index score highest with a vector?

The best rows of every segment (`neighbours.py`), merged: higher score first, of equal scores the smaller product id.
Knows no words; the engine does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Shaped

from shopwindow.search.hits import EVERYTHING, Filter
from shopwindow.search.index import OpenIndex, OpenPart
from shopwindow.search.neighbours import Nearest
from shopwindow.search.segment import joined_ids


@dataclass(frozen=True)
class Found:
    """Product ids and scores, best first."""

    ids: Shaped[np.ndarray, " found"]
    scores: Float64[np.ndarray, " found"]


def find(
    index: OpenIndex,
    query: Float32[np.ndarray, " hidden"],
    k: int,
    *,
    where: Filter = EVERYTHING,
    probes: int | None = None,
) -> Found:
    """The best k products by the quick way that the index is set to. `probes`: cells looked into, as set when None."""
    probes = probes or index.manifest.probes
    nearest = [
        part.segment.neighbours(probes).search(query[None], k, allowed=allowed_rows(part, where))[0]
        for part in index.parts
    ]
    return _merged(index.parts, nearest, k)


def find_exactly(
    index: OpenIndex, queries: Float32[np.ndarray, "queries hidden"], k: int, *, where: Filter = EVERYTHING
) -> Iterator[Found]:
    """The best k products of each query, every vector read."""
    searches = [
        part.segment.exact.search(queries, k, allowed=allowed_rows(part, where)) for part in index.parts
    ]
    for nearest in zip(*searches, strict=True):
        yield _merged(index.parts, nearest, k)


def allowed_rows(part: OpenPart, where: Filter) -> Bool[np.ndarray, " products"] | None:
    """Which products of a segment count and pass the filter; None: all."""
    if not where:
        return part.live
    passes = part.passing(where)
    return passes if part.live is None else passes & part.live


def _merged(parts: Sequence[OpenPart], nearest: Sequence[Nearest], k: int) -> Found:
    pairs = zip(parts, nearest, strict=True)
    ids = joined_ids([part.segment.columns.ids[some.rows] for part, some in pairs])
    scores = np.concatenate([some.scores for some in nearest])
    order = np.lexsort((ids, -scores))[:k]
    return Found(ids[order], scores[order])
