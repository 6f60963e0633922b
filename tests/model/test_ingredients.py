"""Every ingredient of a recipe takes part in a training, which goes on after a kill as if nothing had happened."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from shopwindow.data.queries import numbers_of
from shopwindow.model.bags import FIRST_PAIR
from shopwindow.model.bundle import Bundle
from shopwindow.model.curves import read_curves
from shopwindow.model.dual import encode_products, normalised
from shopwindow.model.initial import initial_model
from shopwindow.model.negatives import KnownPairs
from shopwindow.model.recipe import Recipe, load_recipe
from shopwindow.model.steps import NamesLoss, TokenTable, WeightAverage
from shopwindow.model.training import train
from shopwindow.model.validation import Validation
from shopwindow.model.watch import Moment
from shopwindow.ranking.answers import read_answers
from tests.model.conftest import TinyShop

BAGS = {
    "text": "bag",
    "photo": "bag",
    "hidden": "32",
    "heads": "2",
    "batch_size": "30",
    "epochs": "4",
    "vocabulary": "200",
    "learning_rate": "0.005",
    "validations": "0.5",
}
BERTS = {**BAGS, "text": "bert", "photo": "bert", "layers": "1", "inner": "48", "dropout": "0.2"}
INGREDIENTS: dict[str, dict[str, str]] = {
    "views": {**BAGS, "views": "unit:first+mean,standard:first+max"},
    "common part": {**BAGS, "views": "unit:first,standard:max", "common": "8", "chunk": "10"},
    "closed form": {**BAGS, "naming": "1", "views": "unit:first+mean"},
    "bags and towers": {
        **BERTS,
        "text": "bag+bert",
        "photo": "bag+bert",
        "naming": "1",
        "views": "unit:mean",
    },
    "towers beside a common part": {
        **BERTS,
        "text": "bag",
        "photo": "bag+bert",
        "views": "unit:mean",
        "common": "8",
        "readout": "attention",
    },
    "mean of weights": {**BAGS, "views": "unit:mean", "average": "0.9"},
    "mined": {**BAGS, "views": "unit:mean", "order": "neighbours", "group": "4", "hard": "0.5"},
    "nouns": {**BAGS, "views": "unit:mean", "order": "nouns", "temper": "0.9"},
    "wording": {**BAGS, "views": "unit:mean", "word_dropout": "0.3", "word_shuffle": "0.5"},
    "naming loss": {**BAGS, "views": "unit:mean", "naming_loss": "0.1"},
    "boxes": {**BERTS, "boxes": "true", "readout": "attention"},
    "selection": {**BERTS, "dropout": "0", "selection": "largest", "largest": "2", "readout": "cls"},
    "siglip": {**BAGS, "views": "unit:mean", "loss": "siglip", "bias": "-5", "masking": "known"},
    "margin": {**BAGS, "views": "unit:mean", "loss": "margin", "masking": "words", "positives": "all"},
    "multi-similarity": {**BAGS, "views": "unit:mean", "loss": "multi-similarity", "masking": "same"},
    "focal": {**BAGS, "views": "unit:mean", "loss": "focal", "scale": "10"},
}


@pytest.fixture
def validation(tiny_shop: TinyShop) -> Validation:
    return Validation(tiny_shop.valid, read_answers(tiny_shop.answers))


def recipe_of(name: str, **changes: str) -> Recipe:
    return load_recipe("small", {**INGREDIENTS[name], **changes})


class KillError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("name", INGREDIENTS)
def test_resumed_training_equals_an_undisturbed_one(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path, name: str
) -> None:
    recipe = recipe_of(name)
    whole = train(tiny_shop.train, recipe, tmp_path / "whole", validation=validation)
    stop = whole.provenance["steps"] // 2 + 1

    def killed(moment: Moment) -> None:
        if moment.step == stop:
            raise KillError

    options = {"validation": validation, "seconds_between_saves": 0.0}
    with pytest.raises(KillError):
        train(tiny_shop.train, recipe, tmp_path / "broken", progress=killed, **options)  # type: ignore[arg-type] # two kinds of values
    train(tiny_shop.train, recipe, tmp_path / "broken", validation=validation, resume=True)
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("broken", "whole")]
    assert weights[0] == weights[1]
    rows = [
        [(row.step, row.train_loss) for row in read_curves(tmp_path / run)] for run in ("whole", "broken")
    ]
    assert rows[0] == rows[1]


def test_resumed_mean_of_weights_misses_no_step(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path
) -> None:
    recipe = recipe_of("mean of weights", validations="0.01")  # the last step alone is validated, and so kept

    def killed(moment: Moment) -> None:
        if moment.step == moment.steps - 2:
            raise KillError

    whole = train(tiny_shop.train, recipe, tmp_path / "whole", validation=validation)
    with pytest.raises(KillError):
        train(
            tiny_shop.train,
            recipe,
            tmp_path / "broken",
            validation=validation,
            seconds_between_saves=0.0,
            progress=killed,
        )
    resumed = train(tiny_shop.train, recipe, tmp_path / "broken", validation=validation, resume=True)
    for expected, found in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", INGREDIENTS)
def test_each_ingredient_learns_the_tiny_shop(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path, name: str
) -> None:
    bundle = train(tiny_shop.train, recipe_of(name, epochs="24"), tmp_path / "bundle", validation=validation)
    assert bundle.scores["nDCG@5"] > 0.6  # random order scores about 0.25
    again = Bundle.load(tmp_path / "bundle")
    texts = tiny_shop.valid.query_texts
    np.testing.assert_array_equal(again.encode_queries(texts), bundle.encode_queries(texts))
    np.testing.assert_array_equal(
        again.encode_products(tiny_shop.valid), bundle.encode_products(tiny_shop.valid)
    )


def test_closed_form_alone_ranks_without_a_step(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(recipe_of("closed form"), epochs=0)
    bundle = train(tiny_shop.train, recipe, tmp_path / "bundle", validation=validation)
    assert bundle.provenance["steps"] == 0
    assert bundle.provenance["false_negatives_a_batch"] is None
    assert bundle.scores["nDCG@5"] > 0.8
    assert [row.step for row in read_curves(tmp_path / "bundle")] == [0]


def test_false_negatives_of_a_batch_are_counted_and_kept(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path
) -> None:
    recipe = recipe_of("views", epochs="1")
    bundle = train(tiny_shop.train, recipe, tmp_path / "bundle", validation=validation)
    training = tiny_shop.train.pair_training
    texts = numbers_of(tiny_shop.train.query_texts)[tiny_shop.train.pair_queries[training]]
    # 12 phrases, each product has one: a batch of 30 of 180 pairs has on average 30 x 29 x P(equal phrase) of them
    shares = np.bincount(texts) / len(texts)
    expected = 30 * 29 * ((shares * len(texts) * (shares * len(texts) - 1)).sum() / (180 * 179))
    assert bundle.provenance["false_negatives_a_batch"] == pytest.approx(expected, rel=0.15)


def test_mean_of_weights_is_the_formulas_loop() -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    average = WeightAverage(model, 0.5)
    expected = 1.0
    for step, value in enumerate([2.0, 4.0, -1.0], start=1):
        with torch.no_grad():
            model.weight.fill_(value)
        average.follow(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.weights["weight"][0, 0].item() == pytest.approx(expected, rel=1e-6)
    with average.in_place():
        assert model.weight[0, 0].item() == pytest.approx(expected, rel=1e-6)
    assert model.weight[0, 0].item() == -1.0


@pytest.mark.parametrize("name", ["views", "bags and towers"])
def test_vectors_do_not_depend_on_the_batch(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path, name: str
) -> None:
    bundle = train(tiny_shop.train, recipe_of(name, epochs="1"), tmp_path / "b", validation=validation)
    together = bundle.encode_products(tiny_shop.valid)
    rows = np.array([5, 0, 3])
    np.testing.assert_allclose(
        bundle.encode_products(tiny_shop.valid, rows), together[rows], atol=1e-6
    )  # float32 sums in another order
    texts = tiny_shop.valid.query_texts
    alone = np.concatenate([bundle.encode_queries([text]) for text in texts])
    np.testing.assert_allclose(alone, bundle.encode_queries(texts), atol=1e-6)


@pytest.mark.parametrize("common", ["0", "8"])
def test_loss_of_names_is_that_of_a_loop(tiny_shop: TinyShop, common: str) -> None:
    recipe = recipe_of("naming loss", normalise="true", common=common, text_names="0")
    tokenizer, model = initial_model(tiny_shop.train, recipe)
    model.eval()
    texts = normalised(model, tiny_shop.train.query_texts)
    table = TokenTable(tokenizer, texts, longest=model.longest)
    numbers, products = table.numbers[:5], torch.tensor([0, 1, 2, 3, 0])
    others = {0: [7], 1: [1], 2: [], 3: [8, 9]}  # texts known to match each product, the pair's own too
    known = KnownPairs(
        np.array([int(table.numbers[text]) for texts_of in others.values() for text in texts_of]),
        np.array([product for product, texts_of in others.items() for _ in texts_of]),
    )
    photo = torch.from_numpy(encode_products(model, tiny_shop.train, np.arange(5)))

    def names(tokens: list[int]) -> set[int]:
        return set(tokens) | {(one + 1) * FIRST_PAIR + other for one, other in itertools.pairwise(tokens)}

    bag = model.bag
    assert bag is not None
    vectors = bag.weight.detach().clone()
    for row, key in enumerate(bag.keys.tolist()):
        if int(common) and not 0 <= key < FIRST_PAIR:
            vectors[row, -int(common) :] = 0  # to the common part words alone add
    wanted = 0.0
    for place, text in enumerate(texts[:5]):
        tokens = tokenizer.encode(text).ids
        said = names(tokens)
        true = [names(tokenizer.encode(texts[other]).ids) for other in others[int(products[place])]]
        for key, vector in zip(bag.keys.tolist(), vectors, strict=True):
            if key not in said and any(key in one for one in true):
                continue
            cosine = float(photo[place] @ (vector / vector.norm()))
            chance = 1 / (1 + np.exp(-(recipe.scale * cosine - np.log(len(vectors)))))
            wanted -= np.log(chance if key in said else 1 - chance) / 5
    assert float(NamesLoss(table, known)(model, photo, numbers, products).detach()) == pytest.approx(
        wanted, rel=1e-4
    )


@pytest.mark.parametrize("normalise", ["true", "false"])
@pytest.mark.parametrize("pairs_at_once", [1, 2, 3, 100])
def test_loss_of_names_in_blocks_is_that_of_the_whole(
    tiny_shop: TinyShop, normalise: str, pairs_at_once: int
) -> None:
    recipe = recipe_of("naming loss", normalise=normalise, text_names="0", common="0", views="unit:mean")
    tokenizer, model = initial_model(tiny_shop.train, recipe)
    table = TokenTable(tokenizer, normalised(model, tiny_shop.train.query_texts), longest=model.longest)
    numbers, products = table.numbers[:8], torch.tensor([0, 1, 2, 3, 0, 5, 6, 7])
    known = KnownPairs(table.numbers[[7, 1, 8, 9]].numpy(), np.array([0, 1, 3, 3]))  # of some products none
    assert model.bag is not None
    names = len(model.bag.keys)

    def found(at_once: int) -> tuple[Tensor, list[Tensor], int]:
        model.zero_grad()
        photo = torch.from_numpy(encode_products(model, tiny_shop.train, np.arange(8))).requires_grad_()
        kept: list[int] = []

        def keep(tensor: Tensor) -> Tensor:
            of_pairs = tensor.shape[1:] == (names,) and len(tensor) <= len(numbers)  # not the bag's, turned
            kept.append(len(tensor) if of_pairs else 0)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = NamesLoss(table, known, at_once=at_once)(model, photo, numbers, products)
        loss.backward()  # type: ignore[no-untyped-call] # torch's
        gradients = [one.grad for one in (photo, model.bag.weight, model.log_scale)] if model.bag else []
        return loss.detach(), [one for one in gradients if one is not None], max(kept)

    whole, wanted, all_kept = found(0)
    loss, gradients, kept_of_blocks = found(pairs_at_once * names)
    torch.testing.assert_close(loss, whole)
    assert len(gradients) == len(wanted) == 3
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other)
    assert all_kept == len(numbers)
    assert kept_of_blocks == 0


def test_a_chunked_step_takes_the_loss_of_names_in_blocks(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []
    for at_once in (1, 1 << 30):
        monkeypatch.setattr("shopwindow.model.steps.NAMED_AT_ONCE", at_once)
        recipe = recipe_of("naming loss", chunk="8", epochs="1")
        bundle = train(tiny_shop.train, recipe, tmp_path / str(at_once), validation=validation)
        assert bundle.model.bag is not None
        weights.append(bundle.model.bag.weight.detach())
    torch.testing.assert_close(*weights, atol=1e-6, rtol=1e-4)
