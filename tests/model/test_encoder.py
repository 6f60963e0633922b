"""Parts laid end to end: how each enters the score, what each learns by, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from shopwindow.data.regions import Regions
from shopwindow.model.bags import FIRST_PAIR, WordBag
from shopwindow.model.encoder import Part, PartsEncoder, Side
from shopwindow.model.tokens import tokenize
from tests.model.conftest import FEATURES, TinyShop
from tests.model.parts import mean_view, named_bag
from tests.model.test_bundle_parts import TEXTS, made


def sides_of(shop: TinyShop, kind: str) -> tuple[PartsEncoder, dict[str, list[Tensor]], Tensor]:
    """The model, its vectors of texts and products, and what each part's sides give, summed by hand."""
    bundle = made(shop, kind)
    model, regions = bundle.model, shop.valid.regions(np.arange(len(shop.valid.product_ids)))
    tokens, lengths = tokenize(bundle.tokenizer, TEXTS, longest=model.longest)
    assert model.names is not None
    by_hand: dict[str, list[Tensor]] = {"text": [], "photo": []}
    with torch.no_grad():
        named = model.names(tokens, lengths, pairs=True)
        for part in model.parts:
            for name, side in (("text", part.text), ("photo", part.photo)):
                total = torch.zeros(1)
                for gate, component in zip([1.0, *side.gates], side.components, strict=True):
                    if isinstance(component, WordBag):
                        own = component(named)
                    else:
                        own = component(tokens, lengths) if name == "text" else component(regions)
                    total = total + gate * own
                by_hand[name].append(total)
        text, photo = model.encode_text(tokens, lengths), model.encode_photo(regions)
    torch.testing.assert_close(photo.norm(dim=1), torch.ones(len(photo)), atol=1e-6, rtol=0)
    return model, {**by_hand, "vectors": [text, photo]}, text @ photo.T


@pytest.mark.parametrize("kind", ["two views and a common part", "two views, towers and a common part"])
def test_the_score_is_the_mean_of_the_parts_cosines_by_share(tiny_shop: TinyShop, kind: str) -> None:
    model, sides, scores = sides_of(tiny_shop, kind)
    cosines = [
        functional.normalize(text, dim=1) @ functional.normalize(photo, dim=1).T
        for text, photo in zip(sides["text"], sides["photo"], strict=True)
    ]
    share = float(model.parts[2].log_share.detach().exp())
    wanted = ((cosines[0] + cosines[1]) / 2 + share * cosines[2]) / (1 + share)
    torch.testing.assert_close(scores, wanted, atol=1e-6, rtol=0)
    own = zip(*(model.by_part(vectors) for vectors in sides["vectors"]), strict=True)
    for ((weight, text), (_, photo)), cosine in zip(own, cosines[:2], strict=True):
        assert weight == 0.5
        learned_by = (cosine + share * cosines[2]) / (1 + share)
        torch.testing.assert_close(text @ photo.T, learned_by, atol=1e-6, rtol=0)


def test_shares_that_differ_weigh_scores_and_losses() -> None:
    torch.manual_seed(0)
    names, one = named_bag([3, 4], 4)
    _, other = named_bag([3, 4], 6)
    parts = [
        Part(4, Side(one), Side(mean_view(4, FEATURES)), share=3.0),
        Part(6, Side(other), Side(mean_view(6, FEATURES)), share=1.0),
    ]
    model = PartsEncoder(parts, feature_size=FEATURES, vocabulary=9, names=names).eval()
    regions = Regions(torch.rand(3, FEATURES), torch.tensor([2, 1]))
    text = model.encode_text(torch.tensor([3, 4]), torch.tensor([2])).detach()
    photo = model.encode_photo(regions).detach()
    torch.testing.assert_close(text[:, :4].norm(), torch.tensor(0.75).sqrt())
    halves = list(zip(model.by_part(text), model.by_part(photo), strict=True))
    assert [weight for (weight, _), _ in halves] == [0.75, 0.25]
    total = sum(weight * (a @ b.T) for (weight, a), (_, b) in halves)
    assert isinstance(total, Tensor)
    torch.testing.assert_close(total, text @ photo.T)
    torch.testing.assert_close(model.shares(), torch.tensor([0.75, 0.25]))


def test_a_bag_without_pairs_knows_single_tokens_alone() -> None:
    names, bag = named_bag([7, 8, 8 * FIRST_PAIR + 8], 5, pairs=False)
    assert len(bag.weight) == 2
    got = bag(names(torch.tensor([7, 8]), torch.tensor([2]), pairs=True)).detach()[0]
    torch.testing.assert_close(got, bag.weight.detach().sum(0))


def test_parts_that_do_not_fit_are_refused() -> None:
    names, bag = named_bag([3], 4)

    def made_of(*parts: Part) -> PartsEncoder:
        return PartsEncoder(parts, feature_size=FEATURES, vocabulary=9, names=names)

    def part(**own: object) -> Part:
        return Part(4, Side(bag), Side(mean_view(4, FEATURES)), **own)  # type: ignore[arg-type] # two kinds

    with pytest.raises(ValueError, match="several parts must be normalised"):
        made_of(part(), part(normalise=False))
    with pytest.raises(ValueError, match="at least one part needs a fixed share"):
        made_of(part(share="learned"))
    with pytest.raises(ValueError, match="a side needs a component"):
        Side()
