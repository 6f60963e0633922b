"""How good is search over the whole catalogue? Rankings of the engine as a run, which ranking measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped

from shopwindow.ids import as_ids
from shopwindow.ranking.measures import Measure
from shopwindow.ranking.runs import Run
from shopwindow.search.engine import SearchEngine

_QUERIES_AT_ONCE = 256


def rank_catalogue(
    engine: SearchEngine,
    query_ids: Shaped[np.ndarray, " queries"],
    texts: Sequence[str],
    *,
    k: int = 100,
    name: str = "search",
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Run:
    """The best k products of the catalogue for each query, as the engine finds, fuses and re-ranks them.

    A query that finds nothing is not in the run. `settings` are those of `SearchRequest`.

    `progress` is called with queries asked and queries in all. Raises: ValueError as `SearchEngine.search`.
    """
    hits = []
    for start in range(0, len(texts), _QUERIES_AT_ONCE):
        hits += engine.search_many(texts[start : start + _QUERIES_AT_ONCE], k=k, **settings)
        if progress is not None:
            progress(len(hits), len(texts))
    flat = [hit for found in hits for hit in found]
    return Run.from_arrays(
        np.repeat(query_ids, [len(found) for found in hits]),
        as_ids(np.array([hit.product_id for hit in flat])),
        np.array([hit.score for hit in flat]),
        name=name,
    )


def default_measures(depth: int) -> tuple[Measure, ...]:
    """What is measured of a catalogue's rankings: nDCG@10, hit@1, recall@10 and @100, MRR; as far as `depth` goes."""
    wanted = (("nDCG", 10), ("hit", 1), ("recall", 10), ("recall", 100), ("MRR", depth))
    return tuple(dict.fromkeys(Measure(kind, min(k, depth)) for kind, k in wanted))
