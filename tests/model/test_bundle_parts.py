"""A bundle of every kind of model comes back from disk as it went."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shopwindow.data.regions import Regions
from shopwindow.model.bundle import Bundle, build, describe
from shopwindow.model.initial import initial_model
from shopwindow.model.recipe import load_recipe
from shopwindow.model.tokens import tokenize
from tests.model.conftest import TinyShop
from tests.model.parts import SINGLE, WORDS, linear, part, transformer

RULES = {"text.rules": ["lower", "punctuation", "plural"]}
BERT = [part(transformer(), transformer(), 16, normalise=False)]
BAG = [part(WORDS, linear(), 16)]
BOTH = [part(WORDS | transformer(), linear() | transformer(), 16)]
TWO = [
    part(WORDS, linear("unit", "first", "mean"), 8),
    part(WORDS, linear("standard", "max", dropout=0.3), 8),
]
COMMON = part(SINGLE, linear(), 4, share="learned")
SIX = [part(WORDS, linear("unit", "first", "mean"), 6), part(WORDS, linear("standard", "max"), 6)]
SIX_AND_TOWERS = [SIX[0], part(WORDS | transformer(), linear("standard", "max") | transformer(), 6)]
KINDS: dict[str, dict[str, Any]] = {
    "bert": {"parts": BERT},
    "bert of boxes": {"parts": [part(transformer(), transformer(boxes=True, readout="attention"), 16)]},
    "bert of goods": {"parts": BERT, "regions.skip": [29, 30, 31, 32]},
    "words alone": {"parts": [part(SINGLE, linear("standard", "first", "mean", "max"), 16)]},
    "two views": {"parts": TWO},
    "a view and a common part": {"parts": [part(WORDS, linear("unit", "first"), 12), COMMON]},
    "two views and a common part": {"parts": [*SIX, COMMON]},
    "two views, towers and a common part": {"parts": [*SIX_AND_TOWERS, COMMON]},
    "two views of the largest": {"parts": TWO, "regions.largest": 2},
    "bag and bert": {"parts": BOTH},
    "bag and bert of boxes": {"parts": [part(WORDS | transformer(), linear() | transformer(boxes=True), 16)]},
    "text bag, photo bert": {"parts": [part(WORDS, transformer(), 16)]},
    "text bert, photo bag": {"parts": [part(transformer(), linear(), 16)]},
    "late": {"parts": BERT, "late": {"width": 8}},
    "late bag": {"parts": BAG, "late": {"width": 8}},
    "query rules": {"parts": BERT, **RULES},
    "bag with query rules": {"parts": BAG, **RULES},
}
TEXTS = ["red shoe", "Red, Shoes!", "lamp", "black bag", "something else", "red shoe"]


def made(shop: TinyShop, kind: str) -> Bundle:
    """A bundle whose weights, buffers of the data aside, are far from those that its sizes alone give."""
    recipe = load_recipe("seed", {"text.vocabulary": 200, "text.longest": 12, **KINDS[kind]})
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
    queries, products = loaded.encode_texts(TEXTS), loaded.encode_dataset(tiny_shop.valid)
    assert np.array_equal(queries, bundle.encode_texts(TEXTS))
    assert np.array_equal(products, bundle.encode_dataset(tiny_shop.valid))
    assert queries.shape == (len(TEXTS), 16)
    assert products.std(0).min() > 0
    assert np.array_equal(queries[0], queries[5])
    rows = np.array([7, 3])
    np.testing.assert_allclose(
        loaded.encode_dataset(tiny_shop.valid, rows), products[rows], atol=1e-5, rtol=0
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
    vectors = loaded.encode_texts(TEXTS)
    assert [rule.name for rule in loaded.model.query_rules] == ["lower", "punctuation", "plural"]
    assert np.array_equal(vectors[0], vectors[1])  # red shoe and Red, Shoes!
    plain = made(tiny_shop, "bert").encode_texts(TEXTS)
    assert not np.array_equal(plain[0], plain[1])


def test_a_query_of_unknown_names_scores_zero_with_everything(tiny_shop: TinyShop) -> None:
    bundle = made(tiny_shop, "two views")
    assert np.array_equal(bundle.encode_texts(["something else"]), np.zeros((1, 16)))


def test_a_gate_of_zero_leaves_the_first_component_alone(tiny_shop: TinyShop) -> None:
    tokenizer, model = initial_model(tiny_shop.train, load_recipe("seed", {"parts": BOTH}))
    bundle = Bundle(model.eval(), tokenizer)
    texts, photos = bundle.encode_texts(["red shoe"]), bundle.encode_dataset(tiny_shop.valid)
    (part,) = model.parts
    with torch.no_grad():
        for component in (part.text.components[1], part.photo.components[1]):
            component.pooler.dense.bias.add_(1.0)  # type: ignore[union-attr, operator] # a tower
        assert np.array_equal(bundle.encode_texts(["red shoe"]), texts)
        part.text.gates[0].fill_(0.5)
        part.photo.gates[0].fill_(0.5)
    assert np.abs(bundle.encode_texts(["red shoe"]) - texts).max() > 1e-3
    assert np.abs(bundle.encode_dataset(tiny_shop.valid) - photos).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_regions_in_memory_have_the_vectors_of_the_dataset(tiny_shop: TinyShop, kind: str) -> None:
    bundle = made(tiny_shop, kind)
    rows = np.array([7, 3, 20])
    regions = tiny_shop.valid.regions(rows, boxes=bundle.model.needs_boxes)
    wanted = bundle.encode_dataset(tiny_shop.valid, rows)
    np.testing.assert_allclose(bundle.encode_products(regions), wanted, atol=1e-5, rtol=0)
    assert bundle.encode_products(regions.part(0, 0)).shape == (0, 16)
    if bundle.model.needs_boxes:
        with pytest.raises(ValueError, match="looks at boxes and labels"):
            bundle.encode_products(tiny_shop.valid.regions(rows))


def test_regions_that_are_none_are_refused(tiny_shop: TinyShop) -> None:
    bundle = made(tiny_shop, "bert")
    good = tiny_shop.valid.regions(np.array([0, 1]))
    broken = good.features.float().clone()
    broken[0, 0] = torch.nan
    for wrong, says in (
        (Regions(good.features, torch.tensor([len(good.features), 0])), "product 1: no region"),
        (good.with_features(good.features[:, :3]), "features of 3 values"),
        (good.with_features(broken), "not finite"),
    ):
        with pytest.raises(ValueError, match=says):
            bundle.encode_products(wrong)


def test_a_fingerprint_names_what_determines_vectors(tiny_shop: TinyShop) -> None:
    prints = {
        kind: made(tiny_shop, kind).fingerprint for kind in ("bert", "query rules", "two views", "late")
    }
    assert prints["bert"] == made(tiny_shop, "bert").fingerprint
    assert len({prints[kind] for kind in ("bert", "query rules", "two views")}) == 3
    changed = made(tiny_shop, "two views")
    with torch.no_grad():
        changed.model.log_scale.add_(1.0)  # of the loss alone
    assert changed.fingerprint == prints["two views"]
    changed = made(tiny_shop, "two views")
    with torch.no_grad():
        changed.model.word_bags[1].weight[0, 0] += 1e-3
    assert changed.fingerprint != prints["two views"]


def test_labels_outside_the_training_data_add_nothing(tiny_shop: TinyShop) -> None:
    bundle = made(tiny_shop, "bert of boxes")
    (tower,) = bundle.model.photo_towers
    assert tower.label_count == 29  # all regions of the tiny shop are labelled 28
    regions = tiny_shop.valid.regions(np.array([0]), boxes=True)
    unknown = [replace(regions, labels=torch.full_like(regions.labels, label)) for label in (29, 1000, -1)]  # type: ignore[arg-type] # labels are there
    one, *others = [bundle.encode_products(own) for own in unknown]
    assert all(np.array_equal(one, other) for other in others)
    assert not np.array_equal(one, bundle.encode_products(regions))
