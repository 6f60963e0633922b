"""A bundle of every kind of model comes back from disk as it went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shopwindow.model.bundle import Bundle, build, describe
from shopwindow.model.initial import initial_model
from shopwindow.model.recipe import load_recipe
from shopwindow.model.tokens import tokenize
from tests.model.conftest import TinyShop

BAGS = {"text": "bag", "photo": "bag", "normalise": True}
BOTH = {"text": "bag+bert", "photo": "bag+bert"}
TWO = "unit:first+mean,standard:max"
KINDS: dict[str, dict[str, Any]] = {
    "bert": {},
    "bert of boxes": {"boxes": True, "readout": "cls", "features": "sqrt", "normalise": True},
    "bert of goods": {"readout": "attention", "selection": "goods"},
    "bag": {**BAGS, "views": "standard:first+mean+max", "pair_names": 0.0},
    "bag of two views": {**BAGS, "views": TWO, "text_names": 0.0, "pooled_dropout": 0.3},
    "bag and a common part": {**BAGS, "views": "unit:first", "hidden": 12, "common": 4},
    "bag of two views and a common part": {**BAGS, "views": TWO, "hidden": 12, "common": 4},
    "bag, bert and a common part": {**BOTH, "normalise": True, "views": TWO, "hidden": 12, "common": 4},
    "named bag of two views": {**BAGS, "views": TWO, "naming": 1.0, "selection": "largest", "largest": 2},
    "bag and bert": BOTH,
    "bag and bert of boxes": {**BOTH, "naming": 1.0, "boxes": True, "normalise": True},
    "text bag, photo bert": {"text": "bag", "photo": "bert"},
    "text bert, photo bag": {"text": "bert", "photo": "bag"},
    "late": {"late": 8, "features": "sqrt"},
    "late bag": {**BAGS, "late": 8, "naming": 1.0},
    "query rules": {"query_rules": "lower,punctuation,plural"},
    "bag with query rules": {**BAGS, "query_rules": "lower,punctuation,plural", "naming": 1.0},
}
TEXTS = ["red shoe", "Red, Shoes!", "lamp", "black bag", "something else", "red shoe"]


def made(shop: TinyShop, kind: str) -> Bundle:
    """A bundle whose weights, buffers of the data aside, are far from those that its sizes alone give."""
    changes: dict[str, Any] = {
        "hidden": 16,
        "heads": 2,
        "vocabulary": 200,
        "longest_query": 12,
        **KINDS[kind],
    }
    if not changes.items() >= {"text": "bag", "photo": "bag"}.items():
        changes |= {"layers": 2, "inner": 24}
    recipe = load_recipe("seed", changes)
    tokenizer, model = initial_model(shop.train, recipe)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return Bundle(model.eval(), tokenizer, recipe=recipe.to_yaml())


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_the_same_after_saving_and_loading(
    tiny_shop: TinyShop, tmp_path: Path, kind: str
) -> None:
    bundle = made(tiny_shop, kind)
    bundle.save_into(tmp_path)
    loaded = Bundle.load(tmp_path)
    assert describe(loaded.model) == describe(bundle.model)
    assert loaded.recipe.strip() == bundle.recipe.strip()
    weights, again = bundle.model.state_dict(), loaded.model.state_dict()
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    queries, products = loaded.encode_queries(TEXTS), loaded.encode_products(tiny_shop.valid)
    assert np.array_equal(queries, bundle.encode_queries(TEXTS))
    assert np.array_equal(products, bundle.encode_products(tiny_shop.valid))
    assert queries.shape == (len(TEXTS), 16)
    assert products.std(0).min() > 0
    assert np.array_equal(queries[0], queries[5])
    rows = np.array([7, 3])
    np.testing.assert_allclose(
        loaded.encode_products(tiny_shop.valid, rows), products[rows], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_description_alone_gives_the_same_sizes(tiny_shop: TinyShop, kind: str) -> None:
    model = made(tiny_shop, kind).model
    other = build(describe(model))
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    assert {name: value.shape for name, value in other.state_dict().items()} == shapes
    assert (other.longest, other.vocabulary) == (model.longest, model.vocabulary)
    assert other.needs_boxes == model.needs_boxes


@pytest.mark.parametrize("kind", ["late", "late bag"])
def test_late_scores_are_the_same_after_saving_and_loading(
    tiny_shop: TinyShop, tmp_path: Path, kind: str
) -> None:
    bundle = made(tiny_shop, kind)
    bundle.save_into(tmp_path)
    loaded = Bundle.load(tmp_path)
    photos = tiny_shop.valid.regions(np.arange(10), boxes=False)
    tokens, lengths = tokenize(bundle.tokenizer, TEXTS, longest=12)
    with torch.no_grad():
        one, two = (each.model.late_scores(tokens, lengths, photos) for each in (bundle, loaded))
    assert torch.equal(one, two)
    assert one.shape == (len(TEXTS), 10)
    assert float(one.std()) > 0


def test_a_model_without_late_interaction_says_so(tiny_shop: TinyShop) -> None:
    bundle = made(tiny_shop, "bert")
    tokens, lengths = tokenize(bundle.tokenizer, TEXTS, longest=12)
    with pytest.raises(ValueError, match="no late interaction"):
        bundle.model.late_scores(tokens, lengths, tiny_shop.valid.regions(np.arange(2), boxes=False))


@pytest.mark.parametrize("kind", ["query rules", "bag with query rules"])
def test_rules_of_a_loaded_bundle_spell_its_queries(tiny_shop: TinyShop, tmp_path: Path, kind: str) -> None:
    made(tiny_shop, kind).save_into(tmp_path)
    loaded = Bundle.load(tmp_path)
    vectors = loaded.encode_queries(TEXTS)
    assert [rule.name for rule in loaded.model.query_rules] == ["lower", "punctuation", "plural"]
    assert np.array_equal(vectors[0], vectors[1])  # red shoe and Red, Shoes!
    plain = made(tiny_shop, "bert").encode_queries(TEXTS)
    assert not np.array_equal(plain[0], plain[1])


@pytest.mark.parametrize("kind", ["bag of two views", "named bag of two views"])
def test_the_score_of_several_views_is_the_mean_of_their_cosines(tiny_shop: TinyShop, kind: str) -> None:
    bundle = made(tiny_shop, kind)
    model = bundle.model
    assert model.members == 2
    texts = ["red shoe", "lamp", "black bag", "bag something"]
    queries, products = bundle.encode_queries(texts), bundle.encode_products(tiny_shop.valid)
    for vectors in (queries, products):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6, rtol=0)
    assert model.bag is not None
    count = len(tiny_shop.valid.product_ids)
    photos = model.seen(tiny_shop.valid.regions(np.arange(count), boxes=True))
    with torch.no_grad():
        words = model.bag(*tokenize(bundle.tokenizer, texts, longest=12)).numpy().astype(np.float64)
        looks = [view(photos).numpy().astype(np.float64) for view in model.views]
    cosines = []
    for place, look in enumerate(looks):
        own = words[:, 8 * place : 8 * place + 8]
        lengths = np.linalg.norm(own, axis=1)[:, None] * np.linalg.norm(look, axis=1)
        cosines.append(own @ look.T / lengths)
    assert np.abs(cosines[0] - cosines[1]).max() > 0.1
    np.testing.assert_allclose(queries @ products.T, (cosines[0] + cosines[1]) / 2, atol=1e-5, rtol=0)


def test_a_query_of_unknown_names_scores_zero_with_everything(tiny_shop: TinyShop) -> None:
    bundle = made(tiny_shop, "bag of two views")
    assert np.array_equal(bundle.encode_queries(["something else"]), np.zeros((1, 16)))


def test_a_gate_of_zero_leaves_the_bag_alone(tiny_shop: TinyShop) -> None:
    recipe = load_recipe(
        "seed", {"hidden": 16, "layers": 1, "heads": 2, "inner": 24, "vocabulary": 200, "naming": 1.0, **BOTH}
    )
    tokenizer, model = initial_model(tiny_shop.train, recipe)
    bundle = Bundle(model.eval(), tokenizer)
    assert model.bag is not None
    tokens, lengths = tokenize(tokenizer, ["red shoe"], longest=12)
    with torch.no_grad():
        wanted = model.bag(tokens, lengths).numpy()
        np.testing.assert_allclose(bundle.encode_queries(["red shoe"]), wanted, atol=1e-6, rtol=0)
        photos = bundle.encode_products(tiny_shop.valid)
        model.text_gate.fill_(0.5)
        model.photo_gate.fill_(0.5)
    assert np.abs(bundle.encode_queries(["red shoe"]) - wanted).max() > 1e-3
    assert np.abs(bundle.encode_products(tiny_shop.valid) - photos).max() > 1e-3


def regions_of(shop: TinyShop, row: int) -> np.ndarray:
    features: np.ndarray = shop.valid.regions(np.array([row])).features.numpy()
    return features


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "boxes" not in kind and "goods" not in kind])
def test_photos_in_memory_have_the_vectors_of_the_dataset(tiny_shop: TinyShop, kind: str) -> None:
    bundle = made(tiny_shop, kind)
    if bundle.model.needs_boxes:
        with pytest.raises(ValueError, match="give it a dataset"):
            bundle.encode_products([regions_of(tiny_shop, 0)])
        return
    rows = np.array([7, 3, 20])
    photos = [regions_of(tiny_shop, row) for row in rows.tolist()]
    np.testing.assert_allclose(
        bundle.encode_products(photos), bundle.encode_products(tiny_shop.valid, rows), atol=1e-5, rtol=0
    )
    assert bundle.encode_products([]).shape == (0, 16)


def test_photos_in_memory_that_are_none_are_refused(tiny_shop: TinyShop) -> None:
    bundle = made(tiny_shop, "bert")
    good = regions_of(tiny_shop, 0)
    broken = good.astype(np.float32)
    broken[0, 0] = np.nan
    for wrong, says in (
        (good[:0], "wanted"),
        (good[:, :3], "wanted"),
        (good[0], "wanted"),
        (broken, "finite"),
    ):
        with pytest.raises(ValueError, match=f"photo 1: .*{says}"):
            bundle.encode_products([good, wrong])
    with pytest.raises(ValueError, match="rows of a dataset"):
        bundle.encode_products([good], np.array([0]))
