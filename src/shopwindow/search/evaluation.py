"""How good is search over the whole catalogue? Rankings of the engine, or of full text over titles, as a run, which
ranking measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Shaped

from shopwindow.ids import as_ids
from shopwindow.ranking.measures import Measure
from shopwindow.ranking.runs import Run
from shopwindow.search.engine import SearchEngine
from shopwindow.search.hits import ProductId
from shopwindow.search.texts import TEXTS_FILE, Texts, write_texts

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
    return _run(query_ids, [[(hit.product_id, hit.score) for hit in found] for found in hits], name)


def rank_by_titles(
    titles: Sequence[str | None],
    product_ids: Shaped[np.ndarray, " products"],
    query_ids: Shaped[np.ndarray, " queries"],
    texts: Sequence[str],
    *,
    k: int = 100,
    name: str = "titles",
) -> Run:
    """The best k products of a catalogue for each query by full text of their titles alone: BM25 of any of the words
    (`texts.py`). Needs no model and no index. A query that finds nothing is not in the run.
    """
    order = np.argsort(product_ids, kind="stable")
    with TemporaryDirectory() as folder:
        path = Path(folder) / TEXTS_FILE
        write_texts(path, ([] for _ in titles), (titles[row] for row in order.tolist()))
        known = Texts(path, product_ids[order])
        return _run(query_ids, [known.find(text, k) for text in texts], name)


def _run(
    query_ids: Shaped[np.ndarray, " queries"], found: Sequence[Sequence[tuple[ProductId, float]]], name: str
) -> Run:
    flat = [pair for pairs in found for pair in pairs]
    return Run.from_arrays(
        np.repeat(query_ids, [len(pairs) for pairs in found]),
        as_ids(np.array([product for product, _ in flat])),
        np.array([score for _, score in flat]),
        name=name,
    )


def default_measures(depth: int) -> tuple[Measure, ...]:
    """What is measured of a catalogue's rankings: nDCG@10, hit@1, recall@10 and @100, MRR; as far as `depth` goes."""
    wanted = (("nDCG", 10), ("hit", 1), ("recall", 10), ("recall", 100), ("MRR", depth))
    return tuple(dict.fromkeys(Measure(kind, min(k, depth)) for kind, k in wanted))
