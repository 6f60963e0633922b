"""Which pairs of a dataset does a training not see, so that it can be judged on them?

A shop's held-out clicks, where `prepare` kept some; else those of a tenth of the products. Knows no model.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64, Int64

from shopwindow.data.clicks import read_judgements
from shopwindow.data.dataset import Dataset
from shopwindow.data.outliers import whole_photos

SHARE: Final = 0.1
"""Of the products of a training."""
ALIKE: Final = 4
"""Products held out together: one, and those that look most like it."""
MOST_COMPARED: Final = 20_000
"""Of more products each is held out alone."""
LEAST_TEXTS: Final = 30
"""Fewer held-out texts say too little of a model to choose by."""


@dataclass(frozen=True)
class HeldOut:
    """Right pairs that no step sees: places in `texts`, rows of the dataset's products, grades.

    `ranked` are the products among which they are to be found, ascending; `digest` names all of it.
    """

    texts: list[str]
    queries: Int64[np.ndarray, " pairs"]
    products: Int64[np.ndarray, " pairs"]
    grades: Float64[np.ndarray, " pairs"]
    ranked: Int64[np.ndarray, " ranked"]
    digest: str


def held_out_clicks(dataset: Dataset) -> HeldOut | None:
    """The clicks that `prepare` held out to validate on; None where there are none. Raises: as `Dataset.held_out`."""
    path = dataset.held_out("valid")
    if path is None:
        return None
    judged = read_judgements(path, dataset.product_ids)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    everything = np.arange(len(dataset.product_ids))
    return HeldOut(judged.texts, judged.queries, judged.products, judged.grades, everything, digest)


def hold_out_products(dataset: Dataset, share: float = SHARE) -> tuple[Dataset, HeldOut] | None:
    """The dataset without a share of its training products, and the pairs of these; None where they are too few.

    Products are drawn by the SHA-256 of their ids, so they are the same in every training; each takes those along that
    look most like it, for a photo of the same thing would tell. Their texts are asked among them alone. A text may also
    stand in pairs that are trained on, with other products, as in a shop.
    """
    training = dataset.pair_training
    products = np.unique(dataset.pair_products[training])
    chosen = np.sort(products[_drawn(dataset, products, round(share * len(products)))])
    rows = np.flatnonzero(training & np.isin(dataset.pair_products, chosen))
    texts = [dataset.query_texts[query] for query in dataset.pair_queries[rows].tolist()]
    pairs = sorted(set(zip(texts, dataset.pair_products[rows].tolist(), strict=True)))
    known = sorted(set(texts))
    if len(known) < LEAST_TEXTS:
        return None
    numbers = {text: number for number, text in enumerate(known)}
    held_out = HeldOut(
        known,
        np.array([numbers[text] for text, _ in pairs]),
        np.array([product for _, product in pairs]),
        np.ones(len(pairs)),
        chosen,
        hashlib.sha256(chosen.tobytes()).hexdigest(),
    )
    return dataset.without(chosen), held_out


def _drawn(
    dataset: Dataset, products: Int64[np.ndarray, " products"], count: int
) -> Int64[np.ndarray, " drawn"]:
    """The places of some products, in groups that look alike; at least `count` where there are so many."""
    hashes = [hashlib.sha256(str(one).encode()).digest() for one in dataset.product_ids[products].tolist()]
    order = np.argsort(np.array(hashes, dtype="S32"), kind="stable")
    if not ALIKE <= len(products) <= MOST_COMPARED:
        return order[:count]
    vectors = whole_photos(dataset, products)
    drawn = np.zeros(len(products), bool)
    for place in order.tolist():
        if drawn.sum() >= count:
            break
        if not drawn[place]:
            likeness = np.where(drawn, -np.inf, vectors @ vectors[place])
            drawn[np.argpartition(-likeness, ALIKE - 1)[:ALIKE]] = True
    return np.flatnonzero(drawn)
