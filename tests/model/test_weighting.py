"""Weights of pairs reach the loss of a training as a loop says, and where all are 1 nothing changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from shopwindow.cli import main
from shopwindow.data.batches import PairBatches
from shopwindow.data.dataset import Dataset
from shopwindow.data.prepare import prepare
from shopwindow.files import DataError
from shopwindow.model.bundle import Bundle
from shopwindow.model.encoder import encode_products, encode_texts
from shopwindow.model.initial import initial_model
from shopwindow.model.recipe import Recipe, load_recipe
from shopwindow.model.steps import weighted
from shopwindow.model.training import train
from shopwindow.model.validation import Validation
from shopwindow.model.watch import Moment
from shopwindow.ranking.answers import read_answers
from tests.model.conftest import FEATURES, TinyShop
from tests.model.parts import WORDS, linear, part, read_curves, typed
from tests.model.test_training import TINY, KillError, killed_at

BAG: dict[str, Any] = {**TINY, "parts": [part(WORDS, linear(dropout=0.0))], "optimiser.epochs": 2}


@pytest.fixture(scope="module")
def shops(tiny_shop: TinyShop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """The tiny shop's training pairs, each weighing 1, and weighing 1 to 40."""
    folder, train_set = tmp_path_factory.mktemp("weighted"), tiny_shop.train
    pairs = list(
        zip(
            train_set.product_ids[train_set.pair_products].tolist(),
            train_set.query_ids[train_set.pair_queries].tolist(),
            strict=True,
        )
    )
    rng = np.random.default_rng(3)
    found = {}
    for name, weights in (("ones", [1] * len(pairs)), ("clicks", rng.integers(1, 41, len(pairs)).tolist())):
        rows = (
            f"{product}\t{query}\t{weight}" for (product, query), weight in zip(pairs, weights, strict=True)
        )
        (folder / f"{name}.tsv").write_text("\n".join(["product_id\tquery_id\tweight", *rows]) + "\n")
        prepare(
            [train_set.path.parent / "train.tsv"],
            folder / name,
            feature_size=FEATURES,
            weights=folder / f"{name}.tsv",
        )
        found[name] = Dataset(folder / name)
    return found


@pytest.fixture
def validation(tiny_shop: TinyShop) -> Validation:
    return Validation(tiny_shop.valid, read_answers(tiny_shop.answers))


def recipe_of(changes: dict[str, Any]) -> Recipe:
    return load_recipe("small", {**BAG, **changes})


def test_a_weight_of_one_counts_once_whatever_the_weighting() -> None:
    weights = np.array([1, 3, 7, 0.5], np.float32)
    assert weighted(weights, "none").tolist() == [1, 1, 1, 1]
    assert weighted(weights, "linear").tolist() == [1, 3, 7, 0.5]
    assert (weighted(np.array([1e-9, 1e9], np.float32), "log") > 0).all()
    np.testing.assert_allclose(weighted(weights, "log"), [1, 2, 3, math.log2(1.5)], rtol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": {"name": "softmax", "masking": "known"}},
        {"loss": {"name": "sigmoid"}, "parts.0.normalise": False},
        {"loss": {"name": "siglip", "masking": "same"}, "batches.chunk": 10},
    ],
)
def test_weights_of_one_train_to_the_bits_of_no_weights(
    tiny_shop: TinyShop,
    shops: dict[str, Dataset],
    validation: Validation,
    tmp_path: Path,
    changes: dict[str, Any],
) -> None:
    weights = []
    for number, (dataset, weighting) in enumerate(
        [
            (tiny_shop.train, "none"),
            (shops["ones"], "linear"),
            (shops["ones"], "log"),
            (shops["clicks"], "none"),
        ]
    ):
        recipe = recipe_of({**changes, "loss.weighting": weighting})
        train(dataset, recipe, tmp_path / str(number), validation=validation)
        weights.append((tmp_path / str(number) / "model.safetensors").read_bytes())
    assert len(set(weights)) == 1
    recipe = recipe_of({**changes, "loss.weighting": "linear"})
    train(shops["clicks"], recipe, tmp_path / "b", validation=validation)
    assert (tmp_path / "b" / "model.safetensors").read_bytes() != weights[0]


def first_batch(recipe: Recipe, dataset: Dataset) -> tuple[np.ndarray, list[tuple[str, int]], list[float]]:
    """Scores of the first batch by the untrained model, the (text, product) of each pair, and its weight."""
    tokenizer, model = initial_model(dataset, recipe)
    model.eval()
    own = recipe.optimiser
    batches = PairBatches(dataset, batch_size=recipe.batches.size, epochs=own.epochs, seed=own.seed)
    pairs = batches.pairs_of(0)
    texts = [dataset.query_texts[query] for query in dataset.pair_queries[pairs].tolist()]
    products = dataset.pair_products[pairs]
    words = encode_texts(model, tokenizer, texts).astype(np.float64)
    photos = encode_products(model, dataset, products).astype(np.float64)
    scores = recipe.loss.scale * words @ photos.T + float(model.score_bias.detach())
    return scores, list(zip(texts, products.tolist(), strict=True)), dataset.pair_weights[pairs].tolist()


def counts_of(dataset: Dataset, count: Callable[[float], float]) -> dict[tuple[str, int], float]:
    texts = [dataset.query_texts[query] for query in dataset.pair_queries.tolist()]
    rows = zip(texts, dataset.pair_products.tolist(), dataset.pair_weights.tolist(), strict=True)
    return {(text, product): count(weight) for text, product, weight in rows}


@pytest.mark.parametrize(
    ("weighting", "count"), [("linear", float), ("log", lambda weight: math.log2(1 + weight))]
)
@pytest.mark.parametrize("chunk", [0, 7])
def test_the_loss_of_a_step_counts_every_pair_as_it_weighs(
    shops: dict[str, Dataset],
    validation: Validation,
    tmp_path: Path,
    weighting: str,
    count: Callable[[float], float],
    chunk: int,
) -> None:
    """Binary cross-entropy by a loop over cells: other known pairs are neither right nor wrong."""
    loss = {"name": "siglip", "masking": "known", "weighting": weighting, "scale": 5.0}
    recipe = recipe_of({"loss": loss, "batches.chunk": chunk})
    dataset = shops["clicks"]
    scores, pairs, weights = first_batch(recipe, dataset)
    texts = [dataset.query_texts[query] for query in dataset.pair_queries.tolist()]
    known = set(zip(texts, dataset.pair_products.tolist(), strict=True))
    total = 0.0
    for row, (text, _) in enumerate(pairs):
        for column, (_, product) in enumerate(pairs):
            score = float(scores[row, column])
            if row == column:
                total += count(weights[row]) * math.log1p(math.exp(-score))
            elif (text, product) not in known:
                total += math.log1p(math.exp(score))
    train(dataset, recipe, tmp_path / "b", validation=validation)
    first = read_curves(tmp_path / "b")[0]
    assert first.step == 1
    assert first.train_loss == pytest.approx(total / len(pairs), rel=1e-5)


def test_the_loss_of_a_step_is_the_weighted_mean_over_its_pairs(
    shops: dict[str, Dataset], validation: Validation, tmp_path: Path
) -> None:
    recipe = recipe_of({"loss": {"name": "softmax", "scale": 10.0, "weighting": "linear"}})
    scores, _, weights = first_batch(recipe, shops["clicks"])
    wanted = 0.0
    for table in (scores, scores.T):
        for row, weight in enumerate(weights):
            wanted += weight * (math.log(sum(math.exp(score) for score in table[row])) - table[row, row]) / 2
    train(shops["clicks"], recipe, tmp_path / "b", validation=validation)
    assert read_curves(tmp_path / "b")[0].train_loss == pytest.approx(wanted / sum(weights), rel=1e-5)


def test_resumed_weighted_training_equals_an_undisturbed_one(
    shops: dict[str, Dataset], validation: Validation, tmp_path: Path
) -> None:
    recipe = recipe_of({"loss": {"name": "softmax", "masking": "known", "weighting": "log"}})
    train(shops["clicks"], recipe, tmp_path / "whole", validation=validation)
    with pytest.raises(KillError):
        train(
            shops["clicks"],
            recipe,
            tmp_path / "broken",
            validation=validation,
            seconds_between_saves=0.0,
            progress=killed_at(7),
        )
    with pytest.raises(DataError, match="another dataset"):
        train(shops["ones"], recipe, tmp_path / "broken", validation=validation, resume=True)
    train(shops["clicks"], recipe, tmp_path / "broken", validation=validation, resume=True)
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == (
        tmp_path / "broken" / "model.safetensors"
    ).read_bytes()


@pytest.mark.slow
def test_two_processes_train_by_weights_as_one_does(
    shops: dict[str, Dataset], validation: Validation, tmp_path: Path
) -> None:
    loss = {"name": "siglip", "masking": "known", "weighting": "linear"}
    recipe = recipe_of({"loss": loss, "batches.chunk": 5})
    train(shops["clicks"], recipe, tmp_path / "one", validation=validation)
    moments: list[Moment] = []
    train(
        shops["clicks"], recipe, tmp_path / "two", validation=validation, devices=2, progress=moments.append
    )
    assert moments[-1].step == moments[-1].steps
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, atol=1e-5, rtol=1e-4, msg=name)


def test_weighting_without_weights_is_refused_and_the_verb_tells_weights(
    tiny_shop: TinyShop, shops: dict[str, Dataset], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(dataset: Dataset, *more: str) -> list[str]:
        settings = typed({**BAG, "optimiser.epochs": 1})
        valid = ["--valid", str(tiny_shop.valid.path), "--answers", str(tiny_shop.answers)]
        return [
            *("train", str(dataset.path), *valid, "--out", str(tmp_path / "b"), "--recipe", "small"),
            *("--set", *settings, *more),
        ]

    with pytest.raises(SystemExit) as stopped:
        main(command(tiny_shop.train, "loss.weighting=log"))
    assert stopped.value.code == 2
    assert "weighting: log, but the pairs have no weights; prepare --weights" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
    with pytest.raises(SystemExit):
        main(command(shops["clicks"], "loss.weighting=cubic"))
    assert "wanted none or linear or log" in capsys.readouterr().err
    main(command(shops["clicks"], "loss.weighting=log"))
    said = "pairs have weights from 1 to 40; in the loss each counts by 1 + the logarithm of its weight"
    assert said in capsys.readouterr().out
    assert Bundle.load(tmp_path / "b").recipe.count("weighting: log") == 1
