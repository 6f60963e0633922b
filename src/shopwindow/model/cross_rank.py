"""How does a cross-encoder order the first products of a run anew?

Takes a run of any first stage, and a dataset that has its queries and products; gives a run. Knows no training.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float64, Int64, Shaped

from shopwindow.data.dataset import Dataset
from shopwindow.files import DataError
from shopwindow.model.cross_bundle import CrossBundle
from shopwindow.model.encoder import pieces_of
from shopwindow.model.rank import candidate_pairs
from shopwindow.ranking.runs import Run


def unranked(dataset: Dataset) -> Run:
    """All candidates of all queries of a dataset, with equal scores."""
    queries, products = candidate_pairs(dataset)
    return Run.from_arrays(dataset.query_ids[queries], dataset.product_ids[products], np.zeros(len(queries)))


def rerank(
    bundle: CrossBundle,
    dataset: Dataset,
    run: Run,
    *,
    first: int | None = None,
    name: str = "cross",
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """The run with the `first` products of each query in the order of the cross-encoder; None: all of them.

    The others follow in the order that they had, with scores below. `progress` gets pairs done and in all.
    Raises: DataError for a query or product that the dataset does not have. ValueError for features of another size.
    """
    if dataset.feature_size != bundle.model.feature_size:
        raise ValueError(
            f"the dataset {dataset.path} has features of {dataset.feature_size} values,"
            f" the cross-encoder takes {bundle.model.feature_size}"
        )
    ranks = run.ranks
    near = np.flatnonzero(ranks <= (len(run) if first is None else first))
    queries = _rows_of(run.query_ids[near], dataset.query_ids, dataset, "query")
    products = _rows_of(run.product_ids[near], dataset.product_ids, dataset, "product")
    scores = np.empty(len(run))
    scores[near] = score_rows(bundle, dataset, queries, products, progress=progress)
    for start, end in zip(run.offsets[:-1].tolist(), run.offsets[1:].tolist(), strict=True):
        last = end if first is None else min(end, start + first)
        if last < end:
            scores[last:end] = scores[start:last].min() - np.arange(1, end - last + 1)
    return Run.from_arrays(run.query_ids, run.product_ids, scores, name=name)


def score_rows(
    bundle: CrossBundle,
    dataset: Dataset,
    queries: Int64[np.ndarray, " pairs"],
    products: Int64[np.ndarray, " pairs"],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Float64[np.ndarray, " pairs"]:
    """The scores of pairs of rows of a dataset."""
    scores = np.empty(len(queries))
    texts = dataset.query_texts
    for start, end in pieces_of(dataset.region_counts[products]):
        tokens, lengths = bundle.tokenise([texts[row] for row in queries[start:end].tolist()])
        rows, places = np.unique(products[start:end], return_inverse=True)
        regions = dataset.regions(rows, boxes=True).take(torch.from_numpy(places))
        scores[start:end] = bundle.score(tokens, lengths, regions)
        if progress is not None:
            progress(end, len(queries))
    return scores


def _rows_of(
    asked: Shaped[np.ndarray, " asked"], ids: Shaped[np.ndarray, " ids"], dataset: Dataset, what: str
) -> Int64[np.ndarray, " asked"]:
    """The row of each id; ids of a run may be text where the dataset's are numbers."""
    rows = {str(own): row for row, own in enumerate(ids.tolist())}
    try:
        return np.array([rows[str(own)] for own in asked.tolist()], np.int64)
    except KeyError as error:
        raise DataError(f"has no {what} {error.args[0]}, which the run ranks", path=dataset.path) from error
