"""What is held out of a training is whole products, the same every time, and enough of them or none."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from shopwindow.data import held_out
from shopwindow.data.dataset import Dataset
from shopwindow.data.held_out import held_out_clicks, hold_out_products
from shopwindow.data.outliers import whole_photos
from shopwindow.data.prepare import prepare
from tests.data.rows import SIZE, make_line, make_product, write_tsv


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """400 products; each text belongs to two, and one product in three has a second text."""
    rows = [(product, f"lamp {product // 2}") for product in range(400)]
    rows += [(product, f"red lamp {product}") for product in range(0, 400, 3)]
    lines = [make_line(make_product(product, 1), text, row) for row, (product, text) in enumerate(rows)]
    folder: Path = tmp_path_factory.mktemp("held")
    prepare([write_tsv(folder / "train.tsv", lines)], folder / "train", feature_size=SIZE)
    return Dataset(folder / "train")


def test_a_tenth_of_the_products_is_asked_for_and_never_trained_on(dataset: Dataset) -> None:
    parted = hold_out_products(dataset)
    assert parted is not None
    training, kept = parted
    assert len(kept.ranked) == 40
    assert set(kept.products.tolist()) == set(kept.ranked.tolist())
    trained = dataset.pair_products[training.pair_training]
    assert not np.isin(trained, kept.ranked).any()
    asked = {(kept.texts[query], product) for query, product in zip(kept.queries, kept.products, strict=True)}
    texts = [dataset.query_texts[query] for query in dataset.pair_queries.tolist()]
    pairs = set(zip(texts, dataset.pair_products.tolist(), strict=True))
    assert asked == {pair for pair in pairs if pair[1] in set(kept.ranked.tolist())}
    assert training.content_hash == dataset.content_hash
    again = pickle.loads(pickle.dumps(training))
    assert (again.pair_training == training.pair_training).all()
    assert dataset.pair_training.all()


def test_products_that_look_alike_are_held_out_together(dataset: Dataset) -> None:
    parted = hold_out_products(dataset)
    assert parted is not None
    vectors = whole_photos(dataset, np.arange(400))
    ranked = parted[1].ranked
    first = min(
        ranked.tolist(), key=lambda row: hashlib.sha256(str(dataset.product_ids[row]).encode()).digest()
    )
    alike = np.argsort(-vectors @ vectors[first])[: held_out.ALIKE]
    assert set(alike.tolist()) <= set(ranked.tolist())


def test_what_is_held_out_twice_is_held_out(dataset: Dataset) -> None:
    parted = hold_out_products(dataset.without(np.arange(100)))
    assert parted is not None
    assert parted[1].ranked.min() >= 100
    trained = dataset.pair_products[parted[0].pair_training]
    assert trained.min() >= 100
    assert not np.isin(trained, parted[1].ranked).any()


def test_too_few_texts_hold_nothing_out(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert held_out_clicks(dataset) is None
    monkeypatch.setattr(held_out, "LEAST_TEXTS", 100)
    assert hold_out_products(dataset) is None


def test_the_digest_names_the_products(dataset: Dataset) -> None:
    first, again, more = (hold_out_products(dataset, share) for share in (0.1, 0.1, 0.2))
    assert first is not None
    assert again is not None
    assert more is not None
    assert first[1].digest == again[1].digest != more[1].digest
