"""Weights of words and regions are the differences they say they are."""

from __future__ import annotations

import numpy as np
import pytest

from shopwindow.data.dataset import Dataset
from shopwindow.model.bundle import Bundle
from shopwindow.model.explanation import MOST_WORDS, interactions
from shopwindow.search.engine import SearchEngine
from tests.search.conftest import Shop


def score(shop: Shop, words: str, regions: np.ndarray) -> float:
    import torch

    from shopwindow.data.regions import Regions
    from shopwindow.model.encoder import encode_photos

    bundle = Bundle.load(shop.bundle)
    photos = Regions(torch.from_numpy(regions), torch.tensor([len(regions)]))
    photo = encode_photos(bundle.model, photos)[0]
    return float(bundle.encode_texts([words])[0] @ photo)


def test_weights_are_the_second_differences_one_by_one(shop: Shop, engine: SearchEngine) -> None:
    regions = Dataset(shop.dataset).regions(np.array([7])).features.numpy()
    assert len(regions) == 4
    explained = engine.explain("red  summer bag", 7)
    assert explained.words == ("red", "summer", "bag")
    without = ["summer bag", "red bag", "red summer"]
    whole = score(shop, "red summer bag", regions)
    assert explained.score == pytest.approx(whole, abs=1e-6)
    for w in range(3):
        for r in range(4):
            rest = np.delete(regions, r, axis=0)
            wanted = (
                whole
                - score(shop, without[w], regions)
                - score(shop, "red summer bag", rest)
                + score(shop, without[w], rest)
            )
            # four float32 scores of size 1, summed
            assert explained.weights[w][r] == pytest.approx(wanted, abs=2e-6)


def test_single_region_takes_the_words_whole_contribution(shop: Shop, engine: SearchEngine) -> None:
    regions = Dataset(shop.dataset).regions(np.array([8])).features.numpy()
    assert len(regions) == 1
    explained = engine.explain("red bag", 8)
    wanted = score(shop, "red bag", regions) - score(shop, "bag", regions)
    assert explained.weights[0] == pytest.approx((wanted,), abs=2e-6)


def test_single_word_is_weighed_against_no_words(shop: Shop, engine: SearchEngine) -> None:
    assert engine.explain("red", 7).words == ("red",)
    assert len(engine.explain("red", 7).weights[0]) == 4


def test_interactions_by_hand() -> None:
    scores = np.array([[10.0, 6.0, 9.0], [4.0, 3.0, 4.0]])
    assert interactions(scores).tolist() == [[10 - 4 - 6 + 3, 10 - 4 - 9 + 4]]
    assert interactions(scores[:, :1]).tolist() == [[6.0]]


def test_score_that_is_a_sum_has_no_interaction() -> None:
    words, regions = np.array([0.0, 1.0, 2.0]), np.array([0.0, 5.0, 7.0, 9.0])
    np.testing.assert_allclose(interactions(words[:, None] + regions[None]), 0)


def test_signs_without_spaces_are_words_each(engine: SearchEngine) -> None:
    assert engine.explain("红色 bag裙", 7).words == ("红", "色", "bag", "裙")


def test_long_queries_are_explained_as_far_as_makes_sense(engine: SearchEngine) -> None:
    assert len(engine.explain("red " * 1000, 7).words) == MOST_WORDS
