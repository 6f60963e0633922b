"""Every ingredient of a recipe takes part in a training, which goes on after a kill as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shopwindow.data.queries import numbers_of
from shopwindow.model.bundle import Bundle
from shopwindow.model.recipe import Recipe, load_recipe
from shopwindow.model.steps import WeightAverage
from shopwindow.model.training import train
from shopwindow.model.validation import Validation
from shopwindow.model.watch import Moment
from shopwindow.ranking.answers import read_answers
from tests.model.conftest import TinyShop
from tests.model.parts import SINGLE, WORDS, linear, part, read_curves, transformer

BASE: dict[str, Any] = {
    "batches.size": 30,
    "text.vocabulary": 200,
    "optimiser.epochs": 4,
    "optimiser.learning_rate": 0.005,
    "optimiser.validations": 0.5,
}
VIEW = {"parts": [part(WORDS, linear())]}
TOWER = transformer(inner=48, dropout=0.2)
INGREDIENTS: dict[str, dict[str, Any]] = {
    "views": {
        "parts": [
            part(WORDS, linear("unit", "first", "mean"), 16),
            part(WORDS, linear("standard", "max"), 16),
        ]
    },
    "common part": {
        "parts": [
            part(WORDS, linear("unit", "first"), 16),
            part(WORDS, linear("standard", "max"), 16),
            part(SINGLE, linear(), 8, share="learned"),
        ],
        "batches.chunk": 10,
    },
    "bags and towers": {"parts": [part(WORDS | TOWER, linear() | TOWER)]},
    "towers beside a common part": {
        "parts": [
            part(WORDS, linear() | transformer(dropout=0.2, readout="attention")),
            part(SINGLE, linear(), 8, share="learned"),
        ]
    },
    "mean of weights": {**VIEW, "optimiser.average": 0.9},
    "mined": {**VIEW, "batches.order": "neighbours", "batches.hard": 0.5},
    "nouns": {**VIEW, "batches.order": "nouns"},
    "boxes": {"parts": [part(TOWER, transformer(dropout=0.2, boxes=True, readout="attention"))]},
    "largest": {"parts": [part(transformer(dropout=0.0), transformer(dropout=0.0))], "regions.largest": 2},
    "siglip": {**VIEW, "loss": {"name": "siglip", "masking": "known", "scale": 10.0}},
    "margin": {**VIEW, "loss": {"name": "margin", "masking": "known", "scale": 10.0}},
    "multi-similarity": {**VIEW, "loss": {"name": "multi-similarity", "masking": "same"}},
    "focal": {**VIEW, "loss": {"name": "focal", "masking": "same", "scale": 10.0}},
}


@pytest.fixture
def validation(tiny_shop: TinyShop) -> Validation:
    return Validation(tiny_shop.valid, read_answers(tiny_shop.answers))


def recipe_of(name: str, changes: dict[str, Any] | None = None) -> Recipe:
    return load_recipe("small", {**BASE, **INGREDIENTS[name], **(changes or {})})


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
    recipe = recipe_of(
        "mean of weights", {"optimiser.validations": 0.01}
    )  # the last step alone is validated, and so kept

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
    bundle = train(
        tiny_shop.train, recipe_of(name, {"optimiser.epochs": 24}), tmp_path / "bundle", validation=validation
    )
    assert bundle.scores["nDCG@5"] > 0.6  # random order scores about 0.25
    again = Bundle.load(tmp_path / "bundle")
    texts = tiny_shop.valid.query_texts
    np.testing.assert_array_equal(again.encode_texts(texts), bundle.encode_texts(texts))
    np.testing.assert_array_equal(
        again.encode_dataset(tiny_shop.valid), bundle.encode_dataset(tiny_shop.valid)
    )


def test_false_negatives_of_a_batch_are_counted_and_kept(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path
) -> None:
    recipe = recipe_of("views", {"optimiser.epochs": 1})
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
    bundle = train(
        tiny_shop.train, recipe_of(name, {"optimiser.epochs": 1}), tmp_path / "b", validation=validation
    )
    together = bundle.encode_dataset(tiny_shop.valid)
    rows = np.array([5, 0, 3])
    np.testing.assert_allclose(
        bundle.encode_dataset(tiny_shop.valid, rows), together[rows], atol=1e-6
    )  # float32 sums in another order
    texts = tiny_shop.valid.query_texts
    alone = np.concatenate([bundle.encode_texts([text]) for text in texts])
    np.testing.assert_allclose(alone, bundle.encode_texts(texts), atol=1e-6)
