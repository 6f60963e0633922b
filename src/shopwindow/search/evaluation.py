"""How good is search over the whole catalogue? Rankings of the engine as a run, which ranking measures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from shopwindow.ranking.measures import Measure
from shopwindow.ranking.runs import Run
from shopwindow.search.engine import RERANKED, SearchEngine
from shopwindow.search.reranking import Reranking


def rank_catalogue(
    engine: SearchEngine,
    query_ids: Int64[np.ndarray, " queries"],
    texts: Sequence[str],
    *,
    k: int = 100,
    exact: bool = False,
    rerank: Reranking | None = None,
    candidates: int = RERANKED,
) -> Run:
    """The best k products of the catalogue for each query, as the engine finds and re-ranks them.

    Raises: ValueError as `SearchEngine.search`.
    """
    hits = engine.search_many(texts, k=k, exact=exact, rerank=rerank, candidates=candidates)
    flat = [hit for some in hits for hit in some]
    return Run.from_arrays(
        np.repeat(query_ids, [len(some) for some in hits]),
        np.array([hit.product_id for hit in flat], np.int64),
        np.array([hit.score for hit in flat]),
        name="-".join(["search", *(["exact"] if exact else []), *([] if rerank is None else [str(rerank)])]),
    )


def default_measures(k: int) -> tuple[Measure, ...]:
    """recall at 10 and 100 as far as k goes, and at k; MRR and nDCG to depth k."""
    depths = sorted({min(depth, k) for depth in (10, 100, k)})
    return (*(Measure("recall", depth) for depth in depths), Measure("MRR", k), Measure("nDCG", k))
