"""How good is the shop's search? The systems that could serve it, measured on clicks held out and on judgements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from shopwindow.data.dataset import Dataset
from shopwindow.ids import positions
from shopwindow.model.bundle import Bundle
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
        serve = "the trained model and full text together (the default of the page)"
        rankers.append(fused_ranker(rankers[-1], full_text, "trained + full text", serve))
    return rankers


def _of_model(bundle: Bundle, dataset: Dataset) -> list[Ranker]:
    """The model's parts, each alone where there are several kinds, then the whole: `trained`."""
    rankers = []
    kinds = bundle.part_kinds
    for kind in kinds if len(kinds) > 1 else ():
        alone = bundle.only(kind)
        serve = "the pretrained towers alone" if kind == "pretrained" else None
        rankers.append(
            vector_ranker(alone.encode_texts, alone.encode_dataset(dataset), _NAMES[kind], serve)
        )
    vectors = bundle.encode_dataset(dataset)
    rankers.append(vector_ranker(bundle.encode_texts, vectors, "trained", "the trained model"))
    return rankers


_NAMES: Final = {
    "pretrained": "pretrained towers alone",
    "photo": "trained, photos alone",
    "title": "trained, titles alone",
}


def measure_catalogue(rankers: Sequence[Ranker], dataset: Dataset, answers: Answers, texts: Sequence[str]) -> Verdict:
    """The verdict on rankings of the whole catalogue. `texts`: the words of each of `answers.queries`.

    Raises: ValueError for fewer than two judged queries.
    """
    runs = [catalogue_run(ranker, answers.queries, texts, dataset.product_ids) for ranker in rankers]
    return judge_systems([(run, ranker.serve) for run, ranker in zip(runs, rankers, strict=True)], answers)


def measure_pools(rankers: Sequence[Ranker], dataset: Dataset, pools: Answers, texts: Sequence[str]) -> Verdict:
    """The verdict on rankings of the judged products of each query alone. Raises: ValueError as above."""
    runs = [pool_run(ranker, pools, texts, dataset.product_ids) for ranker in rankers]
    return judge_systems([(run, ranker.serve) for run, ranker in zip(runs, rankers, strict=True)], pools)
