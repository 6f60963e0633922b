"""Recipes are short, checked, and say where they are wrong."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from shopwindow.files import DataError
from shopwindow.model.effects import _rules, without_effect
from shopwindow.model.recipe import RECIPES, Look, Pool, Recipe, View, load_recipe

GRID = yaml.safe_load((Path(__file__).parents[2] / "benchmarks" / "ablation.yaml").read_text())


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_loads_and_opens_with_its_command(path: Path) -> None:
    recipe = load_recipe(path.stem)
    assert load_recipe(str(path)) == recipe
    assert f"--recipe {path.stem}" in path.read_text()


@pytest.mark.parametrize(("name", "row"), GRID.items(), ids=GRID)
def test_every_row_of_the_study_loads(name: str, row: dict[str, Any]) -> None:
    changes = row.get("set", {})
    recipe = load_recipe(row.get("recipe", "linear"), changes)
    assert {field: getattr(recipe, field) for field in changes} == changes, name
    assert not without_effect(recipe)


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
        ("learning_rate: .nan", "learning_rate: nan, a finite"),
        ("bias: .inf", "bias: inf, a finite"),
        ("scale: 1" + 400 * "0", "scale: more than a float holds"),
        ("naming: 1e400", "naming: inf, a finite"),
        ("hidden: 1000000000000", "hidden: more than 65,536"),
        ("layers: 1000000000", "layers: more than 1,024"),
        ("group: 99999999999999999999", "group: more than 2,147,483,647"),
        ("loss: " + 3000 * "[", "no YAML"),
        ("loss: 2020-13-45", "no YAML: month"),
        ("epochs: 0b_", "no YAML: invalid literal"),
        ("photo: bag\ntext: bag\nboxes: true", "boxes, readout"),
        ("photo: bag\ntext: bag\nreadout: attention", "boxes, readout"),
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


def test_a_key_given_twice_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text('# mine\nhidden: 96\nepochs: 3\n"hidden": 192\n')
    with pytest.raises(DataError) as caught:
        load_recipe(str(path))
    assert str(caught.value) == f"{path} line 4, hidden: given twice, first in line 2"


def test_a_key_given_twice_on_one_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("{heads: 4, hidden: 64, hidden: 128}")
    with pytest.raises(DataError, match="line 1, hidden: given twice, first in line 1"):
        load_recipe(str(path))


@pytest.mark.parametrize("recipe", ["default", "linear", "late", "bow", "small"])
@pytest.mark.parametrize("sides", list(itertools.product(("bag", "bert", "bag+bert"), repeat=2)))
def test_every_recipe_takes_other_sides_and_drops_what_they_cannot_have(
    recipe: str, sides: tuple[str, str]
) -> None:
    text, photo = sides
    found = load_recipe(recipe, {"text": text, "photo": photo})
    assert (found.text, found.photo) == sides
    assert found.readout == "first" or "bert" in photo
    assert not found.common or ("bag" in text and "bag" in photo)


def test_a_wrong_change_is_not_blamed_on_the_recipe() -> None:
    with pytest.raises(DataError) as caught:
        load_recipe("small", {"epochs": "0"})
    assert str(caught.value) == "--set: epochs: 0, at least 1 is needed (0 where naming gives the weights)"


def test_unknown_recipes_name_those_there_are() -> None:
    with pytest.raises(DataError, match=r"there are .*seed.*small"):
        load_recipe("tiny")


@pytest.mark.parametrize("look", get_args(Look))
def test_every_view_prints_and_parses(look: Look) -> None:
    for count in (1, 2, 3):
        for pools in itertools.combinations(get_args(Pool), count):
            view = View(look, pools)
            assert str(view) == f"{look}:{'+'.join(pools)}"
            assert View.parse(str(view)) == view
            assert View.parse(f" {view} ") == view


def test_pools_named_in_another_order_are_the_same_view() -> None:
    assert View.parse("unit:max+first") == View.parse("unit:first+max") == View("unit", ("first", "max"))


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "unit",
        "unit:",
        ":mean",
        "cosine:mean",
        "unit:median",
        "unit:mean+mean",
        "unit:mean+",
        "unit:mean:max",
    ],
)
def test_what_is_no_view_is_named(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"views: .*wanted unit or standard, a colon, and first, mean, max"):
        View.parse(wrong)


def test_views_are_parsed_in_their_order() -> None:
    recipe = Recipe(views="standard:max, unit:mean+first", text="bag", photo="bag", normalise=True)
    assert recipe.view_list == (View("standard", ("max",)), View("unit", ("first", "mean")))


BAGS = {"text": "bag", "photo": "bag", "normalise": True}
TWO, THREE = "unit:mean,unit:max", "unit:mean,unit:max,unit:first"
BESIDE = {**BAGS, "photo": "bag+bert", "views": TWO, "hidden": 48}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"views": "unit:median"}, "views: 'unit:median', wanted"),
        ({"views": ""}, "views: '', wanted"),
        ({"views": "unit:mean,"}, "views: '', wanted"),
        ({**BAGS, "hidden": 16, "heads": 4, "views": THREE}, "views: 3, they do not divide hidden 16"),
        ({"views": TWO}, "views: several need a bag on both sides, and normalise"),
        ({**BAGS, "views": TWO, "text": "bert"}, "views: several need"),
        ({**BAGS, "views": TWO, "photo": "bert"}, "views: several need"),
        ({**BAGS, "views": TWO, "normalise": False}, "views: several need"),
        ({**BESIDE, "heads": 16}, "heads: 16 does not divide hidden 48 / 2 views"),
        ({"query_rules": "lower,singular"}, "query_rules: .*singular"),
        ({"epochs": 0}, "epochs: 0, at least 1"),
        ({"order": "nouns", "hard": 0.0}, "hard: 0.0, above 0 and at most 1 is needed; none: order shuffled"),
        ({**BAGS, "epochs": 0}, "epochs: 0, at least 1"),
        ({**BAGS, "epochs": -1, "naming": 1.0}, "epochs: -1, at least 1"),
        ({"naming": 1.0}, "naming: gives both bags their weights"),
        ({"naming": 1.0, "text": "bag"}, "naming: gives both bags"),
        ({"naming": 1.0, "photo": "bag+bert"}, "naming: gives both bags"),
        ({"positives": "all"}, "positives: all, but masking none"),
        ({"naming_loss": 0.5, "photo": "bag"}, "naming_loss: .*text must have one"),
        ({"loss": "margin"}, "loss: margin is one of cosines"),
        ({"loss": "multi-similarity"}, "loss: multi-similarity is one of cosines"),
    ],
)
def test_parts_that_do_not_go_together_are_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}"):
        Recipe(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {**BAGS, "views": TWO},
        {**BAGS, "views": THREE},
        {**BESIDE, "heads": 8},
        {**BAGS, "epochs": 0, "naming": 1.0},
        {"text": "bag+bert", "photo": "bag+bert", "naming": 1.0},
        {"text": "bag", "naming_loss": 0.5},
        {"positives": "all", "masking": "same"},
        {"loss": "margin", "normalise": True},
        {"loss": "multi-similarity", "normalise": True},
    ],
)
def test_parts_that_go_together_are_taken(changes: dict[str, Any], tmp_path: Path) -> None:
    recipe = Recipe(**changes)
    path = tmp_path / "mine.yaml"
    path.write_text(recipe.to_yaml())
    assert load_recipe(str(path)) == recipe


def test_query_rules_come_by_name_and_unknown_ones_name_those_there_are() -> None:
    assert Recipe(query_rules=" lower, plural,").rule_names == ("lower", "plural")
    assert Recipe().rule_names == ()
    with pytest.raises(DataError) as caught:
        load_recipe("seed", {"query_rules": "lower,singular"})
    assert "--set" in str(caught.value)
    assert "query_rules:" in str(caught.value)
    assert "singular" in str(caught.value)
    assert "plural" in str(caught.value)


IDLE: list[tuple[dict[str, Any], str]] = [
    ({"margin": 0.1}, "margin: 0.1 has no effect: loss must be margin"),
    ({"hard": 0.5}, "hard: 0.5 has no effect: order must not be shuffled"),
    ({"group": 4}, "group: 4 has no effect: order"),
    ({"views": "unit:mean"}, "views: 'unit:mean' has no effect: photo must be bag or bag"),
    ({"views": "unit:mean", "text": "bag"}, "views: "),
    ({"pooled_dropout": 0.2, "text": "bag"}, "pooled_dropout: 0.2 has no effect: photo must"),
    ({"pair_names": 0.0, "photo": "bag"}, "pair_names: 0.0 has no effect: text must"),
    ({"text_names": 0.0}, "text_names: "),
    ({"largest": 2, "selection": "goods"}, "largest: 2 has no effect: selection must be largest"),
    ({**BAGS, "naming_rare": 0.5}, "naming_rare: 0.5 has no effect: naming must be"),
    ({"loss": "softmax", "bias": -1}, "bias: -1.0 has no effect: loss must be sigmoid, siglip or focal"),
    ({"loss": "multi-similarity", "normalise": True, "scale": 5}, "scale: 5.0 has no effect"),
    ({**BAGS, "features": "sqrt"}, "features: 'sqrt' has no effect"),
    ({**BAGS, "layers": 2}, "layers: 2 has no effect"),
    ({**BAGS, "dropout": 0.5}, "dropout: 0.5 has no effect"),
    ({**BAGS, "compiled": True}, "compiled: True has no effect: text or photo must have a BERT tower"),
    ({**BAGS, "text_from": "there"}, "text_from: 'there' has no effect: text must be bert"),
    ({**BAGS, "photo_from": "there"}, "photo_from: 'there' has no effect"),
    ({"text_from": "there", "hidden": 96}, "hidden: 96 has no effect: the checkpoint"),
    ({"text_from": "there", "photo_from": "here", "inner": 96}, "inner: 96 has no effect"),
    ({"tokenizer": "there", "vocabulary": 300}, "vocabulary: 300 has no effect"),
    ({"tokenizer": "there", "words": "whole"}, "words: 'whole' has no effect"),
    ({**BAGS, "pair_names": 0, "text_names": 0, "word_shuffle": 0.5}, "word_shuffle: 0.5 has no effect"),
    ({**BAGS, "pooled_dropout": 0, "share_masks": True}, "share_masks: True has no effect"),
    *(
        ({**BAGS, "naming": 1, "epochs": 0, **idle}, f"{says} has no effect: epochs must be more than 0")
        for says, idle in (
            ("average: 0.9", {"average": 0.9}),
            ("loss: 'softmax'", {"loss": "softmax"}),
            ("scale: 5.0", {"scale": 5.0}),
            ("bias: 1.0", {"bias": 1.0}),
            ("masking: 'same'", {"masking": "same"}),
            ("masking: 'same'", {"masking": "same", "positives": "all"}),
            ("weighting: 'log'", {"weighting": "log"}),
            ("naming_loss: 0.1", {"naming_loss": 0.1}),
            ("pooled_dropout: 0.2", {"pooled_dropout": 0.2}),
            ("order: 'nouns'", {"order": "nouns"}),
            ("shards_at_once: 1", {"shards_at_once": 1}),
        )
    ),
    (
        {"text": "bag", "pair_names": 0.3},
        "pair_names: 0.3 has no effect: naming must be more than 0; else 0 or 1",
    ),
    ({"text": "bag", "text_names": 2.0}, "text_names: 2.0 has no effect: naming must be"),
]
ACTIVE: list[dict[str, Any]] = [
    {"loss": "margin", "normalise": True, "margin": 0.1},
    {"order": "nouns", "hard": 0.5, "group": 4},
    {"photo": "bag+bert", "views": "unit:mean", "pooled_dropout": 0.2},
    {"late": 8, "pooled_dropout": 0.2},
    {"text": "bag", "pair_names": 0.0, "text_names": 0.0},
    {"selection": "largest", "largest": 2},
    {**BAGS, "naming": 1.0, "naming_rare": 0.5},
    {"loss": "focal", "bias": -1},
    {"loss": "multi-similarity", "normalise": True, "scale": 5, "text": "bag", "naming_loss": 0.1},
    {**BAGS, "late": 8, "features": "sqrt"},
    {"text": "bag", "layers": 2, "dropout": 0.5, "compiled": True},
    {"text_from": "/there", "layers": 2, "tokenizer": "/here"},
    {"text_from": "/there", "photo_from": "/here", "share_masks": True},
    {**BAGS, "pair_names": 0, "text_names": 1.0, "word_shuffle": 0.5},
    {**BAGS, "share_masks": True},
    {"text": "bag", "pair_names": 1.0, "text_names": 0.0},
    {**BAGS, "naming": 1.0, "pair_names": 0.3, "text_names": 2.0},
    {**BAGS, "naming": 1.0, "epochs": 0, "normalise": True},
    {"margin": 0.05, "group": 8, "views": "unit:first+mean"},  # as they are by default
]


@pytest.mark.parametrize(("changes", "says"), IDLE, ids=lambda one: one[:14] if isinstance(one, str) else "")
def test_a_field_without_effect_is_refused_where_it_is_set(
    changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        load_recipe("seed", changes)
    assert str(caught.value).startswith(f"--set, {says}")
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(changes))
    with pytest.raises(DataError) as caught:
        load_recipe(str(path))
    assert str(caught.value).startswith(f"{path}, {says}")


@pytest.mark.parametrize("changes", ACTIVE)
def test_the_same_field_is_taken_where_it_has_one(changes: dict[str, Any]) -> None:
    assert load_recipe("seed", changes).differences().items() <= changes.items()


def test_every_field_but_those_of_every_training_can_be_without_effect() -> None:
    always = {
        *("heads", "text", "photo", "query_rules", "tokenizer", "selection", "boxes", "readout", "common"),
        *("naming", "late", "normalise"),
        *("batch_size", "epochs", "validations", "seed", "precision"),
    }
    told = {name for _, _, *names in _rules(Recipe()) for name in names}
    assert told | always == {field.name for field in dataclasses.fields(Recipe)}
    assert not told & always


def test_what_a_change_leaves_without_effect_goes_back_to_its_default() -> None:
    recipe = load_recipe(
        "late", {"order": "shuffled", "photo": "bert", "text": "bert", "views": "unit:first+mean"}
    )
    assert (recipe.hard, recipe.pair_names, recipe.hidden) == (1.0, 0.5, 1024)
    assert not without_effect(recipe)


def test_a_path_is_relative_to_the_file_that_says_it_or_to_where_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "mine" / "base.yaml").write_text("text_from: bert\nphoto_from: ../photo\n")
    (tmp_path / "other.yaml").write_text("base: mine/base.yaml\nphoto_from: photo\ntokenizer: t/vocab.txt\n")
    monkeypatch.chdir(tmp_path / "here")
    for name in ("../other.yaml", str(tmp_path / "other.yaml")):
        found = load_recipe(name)
        assert found.text_from == str(tmp_path / "mine" / "bert")
        assert found.photo_from == str(tmp_path / "photo")
        assert found.tokenizer == str(tmp_path / "t" / "vocab.txt")
    (tmp_path / "here" / "link").symlink_to(tmp_path / "blob")  # as a cache of checkpoints keeps its files
    assert load_recipe("bow", {"tokenizer": "link"}).tokenizer == str(tmp_path / "here" / "link")
    typed = load_recipe("../other.yaml", {"text_from": "bert", "photo_from": None})
    assert typed.text_from == str(tmp_path / "here" / "bert")
    assert typed.photo_from is None
    (tmp_path / "kept.yaml").write_text(typed.to_yaml())  # as a bundle keeps it, elsewhere
    monkeypatch.chdir(tmp_path)
    assert load_recipe("kept.yaml") == typed


def test_a_file_may_change_another_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "wide.yaml").write_text("base: default\nhidden: 768\nepochs: 5\n")
    (tmp_path / "margin.yml").write_text("base: mine/wide.yaml\nloss: margin\nmargin: 0.1\nepochs: 7\n")
    (tmp_path / "softmax.yaml").write_text("loss: softmax\nbase: margin.yml\n")
    found = load_recipe(str(tmp_path / "margin.yml"), {"heads": 4})
    changes = {"hidden": 768, "loss": "margin", "margin": 0.1, "epochs": 7}
    assert found == load_recipe("default", {**changes, "heads": 4})
    assert "base" not in found.differences()
    (tmp_path / "flat.yaml").write_text(found.to_yaml())
    assert load_recipe(str(tmp_path / "flat.yaml")) == found
    back = load_recipe(str(tmp_path / "softmax.yaml"))  # the base's margin is idle then
    assert back == load_recipe("default", {"hidden": 768, "epochs": 7})


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a": "base: a.yaml"}, "a.yaml, base: a circle: a.yaml -> a.yaml"),
        ({"a": "base: ./b.yaml", "b": "base: a.yaml"}, "b.yaml, base: a circle: a.yaml -> b.yaml -> a.yaml"),
        ({"a": "base: none"}, "a.yaml, base: none: no such recipe; there are bow,"),
        ({"a": "base: none.yaml"}, "a.yaml, base: none.yaml: no such recipe"),
        ({"a": "base: b.yaml", "b": "hiden: 3"}, "b.yaml, hiden: no such field"),
        ({"a": "base: [default, late]"}, "a.yaml, base: ['default', 'late'], wanted a recipe's name"),
        ({"a": "base:"}, "a.yaml, base: None, wanted a recipe's name"),
        ({"a": "base: linear\nhard: 0.5"}, "a.yaml, hard: 0.5 has no effect"),
        ({"a": "base: default\nbase: late"}, "a.yaml line 2, base: given twice"),
    ],
)
def test_bases_that_are_none_are_named(files: dict[str, str], says: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / f"{name}.yaml").write_text(content)
    with pytest.raises(DataError) as caught:
        load_recipe(str(tmp_path / "a.yaml"))
    assert str(caught.value).startswith(f"{tmp_path}/{says}")
