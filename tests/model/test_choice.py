"""The weights that are kept: the last, or those best on held-out products of the training; never by the validation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shopwindow.data import held_out
from shopwindow.files import DataError
from shopwindow.model.bundle import Bundle
from shopwindow.model.recipe import Recipe, load_recipe
from shopwindow.model.training import train
from shopwindow.model.validation import Validation
from shopwindow.model.watch import Moment
from shopwindow.ranking.answers import Answers, read_answers
from tests.model.conftest import TinyShop
from tests.model.parts import part, transformer

TINY: dict[str, Any] = {
    "parts": [part(transformer(inner=48, dropout=0.0), transformer(inner=48, dropout=0.0))],
    "batches.size": 30,
    "text.vocabulary": 100,
    "optimiser.epochs": 6,
    "optimiser.validations": 1.0,
}
SLOW = {"optimiser.learning_rate": 1e-12, "optimiser.weight_decay": 0.0}
"""Nothing is learned, so no validation is better than the first."""


def tiny(keep: str, **changes: object) -> Recipe:
    return load_recipe("small", {**TINY, "optimiser.keep": keep, **changes})


@pytest.fixture(autouse=True)
def few_texts_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "LEAST_TEXTS", 2)


@pytest.fixture
def validation(tiny_shop: TinyShop) -> Validation:
    return Validation(tiny_shop.valid, read_answers(tiny_shop.answers))


@pytest.fixture
def wrong(tiny_shop: TinyShop, validation: Validation) -> Validation:
    """Whose answers are the last products of every pool: a model that learns gets worse on it."""
    lists = json.loads(tiny_shop.answers.read_text())
    queries = list(lists)
    shifted = {int(query): lists[queries[place - 5]] for place, query in enumerate(queries)}
    return Validation(tiny_shop.valid, Answers.from_lists(shifted))


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("keep", ["last", "held-out"])
def test_the_validation_set_chooses_nothing(
    tiny_shop: TinyShop, validation: Validation, wrong: Validation, tmp_path: Path, keep: str
) -> None:
    bundles = [
        train(tiny_shop.train, tiny(keep), tmp_path / name, validation=given)
        for name, given in (("right", validation), ("wrong", wrong))
    ]
    assert weights(tmp_path / "right") == weights(tmp_path / "wrong")
    assert bundles[0].scores["nDCG@5"] > bundles[1].scores["nDCG@5"] + 0.2
    if keep == "last":
        assert bundles[1].provenance["best_step"] == bundles[1].provenance["steps"]
        assert bundles[1].provenance["kept"] == "the last"
    else:
        assert "4 held-out queries of the training" in bundles[1].provenance["kept"]
        trained = len(tiny_shop.train.pair_training) - 20
        assert {bundle.provenance["pairs"] for bundle in bundles} == {trained}


def test_the_validation_set_chooses_where_the_recipe_says_so(
    tiny_shop: TinyShop, wrong: Validation, tmp_path: Path
) -> None:
    bundle = train(tiny_shop.train, tiny("valid"), tmp_path / "bundle", validation=wrong)
    assert bundle.provenance["best_step"] < bundle.provenance["steps"]
    assert "somewhat too good" in bundle.provenance["kept"]


def test_no_validation_set_is_needed_where_pairs_are_held_out(tiny_shop: TinyShop, tmp_path: Path) -> None:
    bundle = train(tiny_shop.train, tiny("held-out"), tmp_path / "bundle")
    assert bundle.audit["verdict"].endswith("4 held-out queries rank all 20 held-out products")
    assert bundle.scores["nDCG@5"] > 0.5
    last = train(tiny_shop.train, tiny("last"), tmp_path / "last")
    assert (last.scores, last.audit["verdict"]) == ({}, "none, as nothing measured the model")
    assert Bundle.load(tmp_path / "last").provenance["best_step"] == last.provenance["steps"]
    with pytest.raises(DataError, match=r"no held-out clicks.*give --valid and --answers"):
        train(tiny_shop.train, tiny("valid"), tmp_path / "none")


def test_a_training_that_gains_no_more_stops(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path
) -> None:
    recipe = tiny("held-out", **SLOW)
    bundle = train(tiny_shop.train, recipe, tmp_path / "bundle", validation=validation)
    curves = (tmp_path / "bundle" / "curves.csv").read_text().splitlines()
    steps = bundle.provenance["steps"]
    assert bundle.provenance["best_step"] == steps // 6
    assert curves[-1].split(",")[0] == str(4 * steps // 6)

    def killed(moment: Moment) -> None:
        if moment.step == 4 * steps // 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny_shop.train, recipe, tmp_path / "again", validation=validation, progress=killed)
    train(tiny_shop.train, recipe, tmp_path / "again", validation=validation)
    assert weights(tmp_path / "again") == weights(tmp_path / "bundle")
    assert len((tmp_path / "again" / "curves.csv").read_text().splitlines()) == len(curves)


@pytest.mark.slow
def test_two_processes_stop_together(tiny_shop: TinyShop, validation: Validation, tmp_path: Path) -> None:
    recipe = tiny("held-out", **SLOW)
    for name, devices in (("one", 1), ("two", 2)):
        train(
            tiny_shop.train,
            recipe,
            tmp_path / name,
            validation=validation,
            device="cpu",
            devices=devices,
        )
    one, two = (Bundle.load(tmp_path / name).provenance["best_step"] for name in ("one", "two"))
    assert one == two
