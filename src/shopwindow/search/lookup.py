"""Which products of an opened index score highest with a vector?

Quick candidates of every segment, scored anew from the finest vectors kept, merged: higher score first, of
equal scores the smaller product id. Knows no words; the engine does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from shopwindow.search.hits import EVERYTHING, Filter
from shopwindow.search.index import OpenIndex, OpenPart


@dataclass(frozen=True)
class Found:
    """Product ids and scores, best first."""

    ids: Int64[np.ndarray, " found"]
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
    rows = []
    probes = probes or index.manifest.probes
    for part in index.parts:
        allowed = allowed_rows(part, where)
        if allowed is None or allowed.any():
            rows.append((part, part.segment.candidates(query, k, allowed=allowed, probes=probes)))
    return _merged(rows, query, k)


def find_exactly(
    index: OpenIndex, queries: Float32[np.ndarray, "queries hidden"], k: int, *, where: Filter = EVERYTHING
) -> Iterator[Found]:
    """The best k products of each query, every finest vector read."""
    scans = [
        (part, part.segment.exact_candidates(queries, k, allowed=allowed_rows(part, where)))
        for part in index.parts
    ]
    for query in queries:
        yield _merged([(part, next(scan)) for part, scan in scans], query, k)


def allowed_rows(part: OpenPart, where: Filter) -> Bool[np.ndarray, " products"] | None:
    """Which products of a segment count and pass the filter; None: all."""
    if not where:
        return part.live
    passes = part.masks.of(part.segment, where)
    return passes if part.live is None else passes & part.live


def _merged(
    rows: list[tuple[OpenPart, Int64[np.ndarray, " _"]]], query: Float32[np.ndarray, " hidden"], k: int
) -> Found:
    if not rows:
        return Found(np.zeros(0, np.int64), np.zeros(0))
    ids = np.concatenate([part.segment.columns.ids[chosen] for part, chosen in rows])
    scores = np.concatenate([part.segment.scores(query, chosen) for part, chosen in rows])
    order = np.lexsort((ids, -scores))[:k]
    return Found(ids[order], scores[order])
