"""A part that all views share: whose words it takes, how it enters the score, and what each view learns by."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from shopwindow.files import DataError
from shopwindow.model.bags import FIRST_PAIR, WordBag
from shopwindow.model.dual import DualEncoder
from shopwindow.model.recipe import load_recipe
from shopwindow.model.tokens import tokenize
from tests.model.conftest import TinyShop
from tests.model.test_bundle_parts import TEXTS, made

KIND = "bag of two views and a common part"


def test_pairs_of_words_add_nothing_to_the_common_values() -> None:
    bag = WordBag(5, 3, pairs=True, texts=False, common=2)
    bag.keys.copy_(torch.tensor([7, 8, 8 * FIRST_PAIR + 8]))
    got = bag(torch.tensor([7, 8]), torch.tensor([2])).detach()[0]
    weight = bag.weight.detach()
    torch.testing.assert_close(got[:3], weight[:, :3].sum(0))
    torch.testing.assert_close(got[3:], weight[:2, 3:].sum(0))


def vectors(shop: TinyShop) -> tuple[DualEncoder, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The model, vectors of texts and photos, and what they are made of, not yet of length 1."""
    bundle = made(shop, KIND)
    model, photos = bundle.model, shop.valid.regions(np.arange(len(shop.valid.product_ids)), boxes=False)
    tokens, lengths = tokenize(bundle.tokenizer, TEXTS, longest=model.longest)
    assert model.bag is not None
    with torch.no_grad():
        raw_text = model.bag(tokens, lengths)
        raw_photo = torch.cat([view(photos) for view in model.views], dim=1)
        return model, model.encode_text(tokens, lengths), model.encode_photo(photos), raw_text, raw_photo


def test_the_score_is_the_mean_cosine_of_the_views_and_a_share_of_the_common_one(
    tiny_shop: TinyShop,
) -> None:
    model, text, photo, raw_text, raw_photo = vectors(tiny_shop)
    cosines = [
        functional.normalize(raw_text[:, part], dim=1) @ functional.normalize(raw_photo[:, part], dim=1).T
        for part in (slice(0, 6), slice(6, 12), slice(12, 16))
    ]
    share = float(model.log_share.detach().exp())
    wanted = ((cosines[0] + cosines[1]) / 2 + share * cosines[2]) / (1 + share)
    torch.testing.assert_close(text @ photo.T, wanted, atol=1e-6, rtol=0)
    own = [one @ other.T for one, other in zip(model.by_view(text), model.by_view(photo), strict=True)]
    for found, cosine in zip(own, cosines[:2], strict=True):
        torch.testing.assert_close(found, (cosine + share * cosines[2]) / (1 + share), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.stack(own).mean(0), text @ photo.T, atol=1e-6, rtol=0)
    torch.testing.assert_close(photo.norm(dim=1), torch.ones(len(photo)), atol=1e-6, rtol=0)


def test_towers_add_to_the_last_view_alone(tiny_shop: TinyShop) -> None:
    bundle = made(tiny_shop, "bag, bert and a common part")
    model, photos = bundle.model, tiny_shop.valid.regions(np.arange(3), boxes=False)
    tokens, lengths = tokenize(bundle.tokenizer, TEXTS, longest=model.longest)
    assert model.bag is not None
    assert model.text is not None
    assert model.photo is not None
    with torch.no_grad():
        bag, tower = model.bag(tokens, lengths), model.text(tokens, lengths)
        pooled = torch.cat([view(photos) for view in model.views], dim=1)
        seen = model.photo(photos.features.float(), photos.counts)
        text, photo = model.encode_text(tokens, lengths), model.encode_photo(photos)
    share = float(model.log_share.detach().exp())
    for found, own, other, gate in (
        (text, bag, tower, model.text_gate),
        (photo, pooled, seen, model.photo_gate),
    ):
        views = own[:, :12].reshape(len(own), 2, 6)
        views[:, 1] += float(gate.detach()) * other
        wanted = torch.cat(
            [
                functional.normalize(views, dim=2).flatten(1) / 2**0.5,
                share**0.5 * functional.normalize(own[:, 12:], dim=1),
            ],
            dim=1,
        )
        torch.testing.assert_close(found, wanted / (1 + share) ** 0.5, atol=1e-6, rtol=0)


def test_a_common_part_needs_bags_of_length_1(tiny_shop: TinyShop) -> None:
    for changes in (
        {"text": "bert"},
        {"photo": "bert"},
        {"normalise": "false"},
        {"epochs": "0", "naming": "1"},
    ):
        with pytest.raises(DataError, match="common"):
            load_recipe("bow", {"common": "8", **changes})
    bag = made(tiny_shop, "bag").model
    with pytest.raises(ValueError, match="common part"):
        DualEncoder(None, None, bag=bag.bag, views=list(bag.views), common=4, normalise=True)
