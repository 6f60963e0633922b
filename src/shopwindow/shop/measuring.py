"""How good is the shop's search? The systems that could serve it, measured on clicks held out and on judgements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from shopwindow.data.clicks import read_judgements
from shopwindow.data.dataset import Dataset
from shopwindow.model.bundle import Bundle
from shopwindow.model.recipe import Reads
from shopwindow.ranking.answers import Answers
from shopwindow.shop.rankers import (
    Ranker,
    catalogue_run,
    full_text_ranker,
    fused_ranker,
    pool_run,
    popularity_ranker,
    random_ranker,
    vector_ranker,
)
from shopwindow.shop.verdict import Verdict, judge_systems

_SEED: Final = 0
_ALONE: Final[dict[Reads, tuple[str, str | None]]] = {
    "pretrained": ("pretrained towers alone", "the pretrained towers alone, untrained"),
    "photo": ("trained, photos alone", None),
    "title": ("trained, titles alone", None),
}
"""What a part of the model is called in the table, and how it is served."""


def rankers_of(bundle: Bundle, dataset: Dataset) -> list[Ranker]:
    """The systems that could rank a shop, the simplest first. `random` and parts of the model are for comparison only.

    The trained model is also shown by its photos alone and its titles alone, where it reads both.
    """
    rankers = [random_ranker(len(dataset.product_ids), np.random.default_rng(_SEED))]
    chosen = dataset.pair_training
    if dataset.has_weights:
        clicks = dataset.pair_products[chosen], dataset.pair_weights[chosen]
        rankers.append(popularity_ranker(*clicks, len(dataset.product_ids)))
    full_text = None
    if dataset.titles is not None:
        serve = "full text over titles alone, which needs no model"
        full_text = full_text_ranker(dataset.product_ids, dataset.titles, "full text over titles", serve)
        rankers.append(full_text)
    rankers += _of_model(bundle, dataset)
    if full_text is not None:
        serve = 'the trained model and full text together ("Also by full text" on the page)'
        rankers.append(fused_ranker(rankers[-1], full_text, "trained + full text", serve))
    return rankers


def _of_model(bundle: Bundle, dataset: Dataset) -> list[Ranker]:
    """The model's parts, each alone where there are several kinds, then the whole: `trained`."""
    rankers = []
    kinds = [kind for kind in _ALONE if kind in bundle.model.reads]
    for kind in kinds if len(kinds) > 1 else ():
        alone = bundle.only(kind)
        rankers.append(vector_ranker(alone.encode_texts, alone.encode_dataset(dataset), *_ALONE[kind]))
    vectors = bundle.encode_dataset(dataset)
    rankers.append(vector_ranker(bundle.encode_texts, vectors, "trained", "the trained model"))
    return rankers


@dataclass(frozen=True)
class Judged:
    """Graded products of queries: `texts` are the words of each of `answers.queries`. `unanswered` queries, of which no
    product is right, are left out."""

    answers: Answers
    texts: list[str]
    unanswered: int

    @classmethod
    def read(cls, path: Path, dataset: Dataset) -> Judged:
        """Of a table of query, id, relevant. Raises: DataError as `read_judgements`."""
        judged = read_judgements(path, dataset.product_ids)
        right = np.unique(judged.queries[judged.grades > 0])
        rows = np.isin(judged.queries, right)
        answers = Answers.from_arrays(
            judged.queries[rows], dataset.product_ids[judged.products[rows]], judged.grades[rows]
        )
        return cls(answers, [judged.texts[row] for row in right], len(np.unique(judged.queries)) - len(right))


def measure(rankers: Sequence[Ranker], dataset: Dataset, judged: Judged, *, pools: bool) -> Verdict:
    """The verdict on rankings of the whole catalogue, or of `pools`: of the judged products of each query alone.

    Raises: ValueError for fewer than two judged queries.
    """
    run_of = pool_run if pools else catalogue_run
    runs = [
        (run_of(ranker, judged.answers, judged.texts, dataset.product_ids), ranker.serve)
        for ranker in rankers
    ]
    return judge_systems(runs, judged.answers)
