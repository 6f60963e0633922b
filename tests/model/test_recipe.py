"""Recipes are short, checked, and say where they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from shopwindow.files import DataError
from shopwindow.model.recipe import RECIPES, Recipe, load_recipe


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_loads_and_opens_with_its_command(path: Path) -> None:
    recipe = load_recipe(path.stem)
    assert load_recipe(str(path)) == recipe
    assert f"--recipe {path.stem}" in path.read_text()


def test_seed_is_what_the_winners_published() -> None:
    seed = load_recipe("seed")
    assert seed == Recipe()
    published = {
        "hidden": 768,
        "layers": 4,
        "heads": 12,
        "inner": 3072,
        "dropout": 0.1,
        "loss": "sigmoid",
        "normalise": False,
        "scale": 1.0,
        "features": "raw",
        "batch_size": 512,
        "learning_rate": 2e-5,
        "adam_epsilon": 1e-8,
        "weight_decay": 0.0,
        "schedule": "constant",
        "validations": 2.0,
    }
    assert {name: getattr(seed, name) for name in published} == published


def test_changes_are_read_as_yaml_values() -> None:
    recipe = load_recipe(
        "seed", {"hidden": "96", "learning_rate": "1e-4", "loss": "softmax", "normalise": "true"}
    )
    assert (recipe.hidden, recipe.learning_rate, recipe.loss, recipe.normalise) == (96, 1e-4, "softmax", True)


def test_differences_come_back_from_yaml(tmp_path: Path) -> None:
    recipe = load_recipe("small", {"epochs": "3"})
    path = tmp_path / "mine.yaml"
    path.write_text(recipe.to_yaml())
    assert load_recipe(str(path)) == recipe
    path.write_text(Recipe().to_yaml())
    assert load_recipe(str(path)) == Recipe()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("hiden: 3", "hiden: no such field"),
        ("hidden: wide", "hidden: 'wide', wanted int"),
        ("hidden: 2.5", "hidden: 2.5, wanted int"),
        ("normalise: 1", "normalise: 1, wanted bool"),
        ("loss: hinge", "loss: 'hinge', wanted sigmoid or softmax"),
        ("hidden: 100", "heads: 12 does not divide hidden 100"),
        ("epochs: 0", "epochs: 0, at least 1"),
        ("learning_rate: -1", "learning_rate: -1.0, more than 0"),
        ("learning_rate: .nan", "learning_rate: nan, more than 0"),
        ("dropout: 1.0", "dropout: 1.0, from 0"),
        ("- hidden", "a recipe is a list of"),
        ("hidden: [", "no YAML"),
        ("batch_size: 1", "batch_size"),
        ("seed: -1", "seed: -1, from 0"),
        ("weight_decay: -0.1", "weight_decay: -0.1, at least 0"),
    ],
)
def test_wrong_recipes_are_named(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        load_recipe(str(path))
    assert says in str(caught.value)
    assert "wrong.yaml" in str(caught.value)


def test_a_wrong_change_is_not_blamed_on_the_recipe() -> None:
    with pytest.raises(DataError) as caught:
        load_recipe("small", {"epochs": "0"})
    assert str(caught.value) == "--set: epochs: 0, at least 1 is needed (0 where naming gives the weights)"


def test_unknown_recipes_name_those_there_are() -> None:
    with pytest.raises(DataError, match=r"there are .*seed.*small"):
        load_recipe("tiny")
