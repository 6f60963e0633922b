"""Recipes are nested, checked, and say where they are wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from shopwindow.files import DataError
from shopwindow.model.recipe import (
    RECIPES,
    LateRecipe,
    LinearRecipe,
    Recipe,
    TransformerRecipe,
    WordsRecipe,
    load_recipe,
)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_loads_and_opens_with_its_command(path: Path) -> None:
    recipe = load_recipe(path.stem)
    assert load_recipe(str(path)) == recipe
    lines = path.read_text().splitlines()
    assert f"--recipe {path.stem}" in path.read_text()
    assert all(
        any(line.startswith(f"# {what}:") for line in lines) for what in ("command", "hardware", "score")
    )


def test_seed_is_what_the_winners_published() -> None:
    seed = load_recipe("seed")
    assert seed == Recipe()
    (part,) = seed.parts
    assert (part.width, part.normalise) == (768, False)
    assert (part.text.words, part.photo.linear, seed.late) == (None, None, None)
    for transformer in (part.text.transformer, part.photo.transformer):
        assert transformer is not None
        sizes = (transformer.layers, transformer.heads, transformer.inner, transformer.dropout)
        assert sizes == (4, 12, 3072, 0.1)
    assert (seed.loss.name, seed.loss.scale, seed.loss.masking) == ("sigmoid", 1.0, "none")
    optimiser = seed.optimiser
    assert (optimiser.learning_rate, optimiser.weight_decay, optimiser.schedule) == (2e-5, 0.0, "constant")
    assert (seed.batches.size, optimiser.validations) == (512, 2.0)


def test_fields_are_few() -> None:
    def leaves(kind: Any) -> set[str]:
        names = set()
        for name, hint in get_type_hints(kind).items():
            below = [own for own in (hint, *get_args(hint)) if dataclasses.is_dataclass(own)]
            inner = set().union(*(leaves(own) for own in below))
            names |= inner or {f"{kind.__name__}.{name}"}
        return {name.replace("RegionTransformerRecipe.", "TransformerRecipe.") for name in names}

    assert len(leaves(Recipe)) <= 48


def test_changes_are_values_or_yaml_by_dotted_name() -> None:
    changes = {"parts.0.width": "96", "optimiser.learning_rate": "1e-4", "loss.name": "softmax"}
    recipe = load_recipe("seed", {**changes, "parts.0.normalise": True, "late": "{width: 8}"})
    assert (recipe.parts[0].width, recipe.optimiser.learning_rate, recipe.loss.name) == (96, 1e-4, "softmax")
    assert recipe.parts[0].normalise
    assert recipe.late == LateRecipe(width=8)
    assert load_recipe("late", {"late": "null"}).late is None
    assert load_recipe("late", {"text.rules": "[lower, plural]"}).text.rules == ("lower", "plural")
    whole = load_recipe("small", {"parts.0.text": "{words: {pairs: false}, transformer: {heads: 8}}"})
    assert whole.parts[0].text.words == WordsRecipe(pairs=False)
    assert whole.parts[0].text.transformer == TransformerRecipe(heads=8)  # a group is replaced whole
    assert whole.parts[0].photo == load_recipe("small").parts[0].photo


def test_a_recipe_comes_back_from_its_yaml(tmp_path: Path) -> None:
    pretrained = load_recipe("seed", {"parts": "[{pretrained: true}]"})
    default = load_recipe("default", {"optimiser.epochs": 3})
    for recipe in (Recipe(), default, load_recipe("late"), load_recipe("shop"), pretrained):
        path = tmp_path / "mine.yaml"
        path.write_text(recipe.to_yaml())
        assert load_recipe(str(path)) == recipe


PART = "parts: [{width: 32, text: {words: {}}, photo: {linear: {%s}}}]"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("hidden: 3", "hidden: no such field; there are text, parts, regions"),
        ("optimiser: {epocs: 3}", "optimiser.epocs: no such field; there are epochs"),
        ("optimiser: {epochs: many}", "optimiser.epochs: 'many', wanted int"),
        ("optimiser: {epochs: 2.5}", "optimiser.epochs: 2.5, wanted int"),
        ("optimiser: {compiled: 1}", "optimiser.compiled: 1, wanted bool"),
        ("optimiser: 3", "optimiser: 3, wanted fields: epochs"),
        ("loss: {name: hinge}", "loss.name: 'hinge', wanted sigmoid or softmax"),
        ("optimiser: {epochs: 0}", "optimiser.epochs: 0, from 1"),
        ("optimiser: {learning_rate: -1}", "optimiser.learning_rate: -1.0, more than 0"),
        ("optimiser: {learning_rate: .nan}", "optimiser.learning_rate: nan, more than 0"),
        ("optimiser: {weight_decay: -0.1}", "optimiser.weight_decay: -0.1, from 0"),
        ("optimiser: {seed: -1}", "optimiser.seed: -1, from 0"),
        ("loss: {scale: 1" + 400 * "0" + "}", "loss.scale: more than a float holds"),
        ("loss: {scale: .inf}", "loss.scale: inf, more than 0"),
        ("batches: {size: 1}", "batches.size: 1, from 2"),
        ("batches: {size: 1000000000000}", "batches.size: 1000000000000, from 2 to"),
        ("batches: {order: nouns, hard: 0}", "batches.hard: 0.0, above 0"),
        ("batches: {order: nouns, shards_at_once: 1}", "batches.shards_at_once: 1, wants the order shuffled"),
        ("text: {longest: 2}", "text.longest: 2, from 3"),
        ("text: {rules: lower}", "text.rules: 'lower', wanted a list"),
        ("text: {rules: [lower, singular]}", "text.rules: no query rule 'singular'; there are: lower"),
        ("regions: {largest: 0}", "regions.largest: 0, from 1"),
        ("regions: {skip: [face]}", "regions.skip.0: 'face', wanted int"),
        ("parts: []", "parts: at least one"),
        ("parts: [{width: 3}]", "parts.0.text: empty, wanted words, transformer or both"),
        ("parts: {width: 3}", "parts: {'width': 3}, wanted a list"),
        (PART % "pools: []", "parts.0.photo.linear.pools: [], wanted first, mean, max"),
        (PART % "pools: [mean, mean]", "parts.0.photo.linear.pools: ['mean', 'mean'], wanted"),
        (PART % "pools: [median]", "parts.0.photo.linear.pools.0: 'median', wanted first or mean or max"),
        (PART % "look: cosine", "parts.0.photo.linear.look: 'cosine', wanted unit or standard"),
        (PART % "dropout: 1.0", "parts.0.photo.linear.dropout: 1.0, from 0"),
        ("loss: " + 3000 * "[", "no YAML"),
        ("loss: 2020-13-45", "no YAML: month"),
        ("optimiser: {epochs: 0b_}", "no YAML: invalid literal"),
        ("- parts", "a list of `field: value` was wanted"),
        ("parts: [", "no YAML"),
    ],
)
def test_wrong_recipes_are_named(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        load_recipe(str(path))
    assert says in str(caught.value)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"parts.0.width": "10"}, "parts.0.text.transformer.heads: 12, must divide width 10"),
        ({"parts.0.share": "learned"}, "parts: at least one with a fixed share"),
        ({"parts.0.share": "-1"}, "parts.0.share: -1.0, wanted 0 or more, or learned"),
        ({"parts.0.share": "0"}, "parts: at least one with a fixed share above 0"),
        ({"parts.0.title": "{words: {}}"}, "parts.0.title: beside a photo; a part reads one of them"),
        ({"parts.0.pretrained": "true"}, "parts.0.pretrained: true, so text, photo, title and width must"),
        (
            {"parts": "[{text: {transformer: {}}, title: {words: {}}}]"},
            "parts.0.title.words: they are those of the text side, which has none",
        ),
        (
            {"parts": "[{pretrained: true, normalise: false}]"},
            "parts.0.normalise: false, a pretrained part needs true",
        ),
        ({"parts.0.share": "most"}, "parts.0.share: 'most', wanted float"),
        ({"parts.0.text": "{}"}, "parts.0.text: empty, wanted words, transformer or both"),
        ({"parts.0.photo": "{}"}, "parts.0.photo: empty, wanted linear, transformer or both"),
        ({"parts.1.width": "8"}, "parts.1: wanted a number below 1"),
        ({"parts.one.width": "8"}, "parts.one: wanted a number below 1"),
        ({"late.width": "8"}, "late: not in this recipe; set it whole"),
        ({"parts.0.text.words.pairs": "false"}, "parts.0.text.words: not in this recipe"),
        ({"loss.name": "margin"}, "loss.name: margin is one of cosines; parts.0.normalise must be true"),
        ({"loss.name": "multi-similarity"}, "loss.name: multi-similarity is one of cosines"),
        ({"batches.chunk": "4", "late": "{}"}, "batches.chunk: late interaction takes a whole batch"),
        ({"late": "{width: 0}"}, "late.width: 0, from 1"),
        ({"late": "8"}, "late: 8, wanted fields: width, dropout"),
        (
            {"parts.0.text.transformer.checkpoint": "there", "parts.0.text.transformer.layers": "2"},
            "parts.0.text.transformer.layers: 2, but the checkpoint says it; set {checkpoint: DIR} alone",
        ),
    ],
)
def test_wrong_changes_are_named_and_not_blamed_on_the_recipe(changes: dict[str, str], says: str) -> None:
    with pytest.raises(DataError) as caught:
        load_recipe("seed", changes)
    assert str(caught.value).startswith(f"--set, {says}")


def test_several_parts_must_be_normalised(tmp_path: Path) -> None:
    part = "{normalise: false, text: {words: {}}, photo: {linear: {}}}"
    (tmp_path / "two.yaml").write_text(f"parts: [{part}, {part}]")
    with pytest.raises(DataError, match="parts: several need normalise true"):
        load_recipe(str(tmp_path / "two.yaml"))


@pytest.mark.parametrize(
    ("content", "line", "field"),
    [
        ('# mine\nlate: {width: 96}\nloss: {}\n"late": null\n', "line 4", "late"),
        ("optimiser:\n  epochs: 3\n  seed: 1\n  epochs: 4\n", "line 4", "epochs"),
        ("{loss: {name: softmax, scale: 2, scale: 3}}", "line 1", "scale"),
    ],
)
def test_a_key_given_twice_is_named_with_its_line(
    tmp_path: Path, content: str, line: str, field: str
) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text(content)
    with pytest.raises(DataError, match=rf"{line}, {field}: given twice, first in line"):
        load_recipe(str(path))


def test_unknown_recipes_name_those_there_are() -> None:
    with pytest.raises(DataError, match=r"there are .*seed.*small"):
        load_recipe("tiny")


def test_paths_of_a_file_are_relative_to_it_and_typed_ones_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "base.yaml").write_text(
        "text: {tokenizer: ../t/vocab.txt}\n"
        "parts: [{text: {transformer: {checkpoint: bert}}, photo: {transformer: {checkpoint: ../photo}}}]\n"
    )
    (tmp_path / "other.yaml").write_text("base: mine/base.yaml\n")
    monkeypatch.chdir(tmp_path / "here")
    for name in ("../mine/base.yaml", "../other.yaml"):
        found = load_recipe(name)
        (text,), (photo,) = found.text_transformers.values(), found.photo_transformers.values()
        assert text.checkpoint == str(tmp_path / "mine" / "bert")
        assert photo.checkpoint == str(tmp_path / "photo")
        assert found.text.tokenizer == str(tmp_path / "t" / "vocab.txt")
    (tmp_path / "here" / "link").symlink_to(tmp_path / "blob")  # as a cache of checkpoints keeps its files
    assert load_recipe("bow", {"text.tokenizer": "link"}).text.tokenizer == str(tmp_path / "here" / "link")
    typed = load_recipe("../other.yaml", {"parts.0.text": "{transformer: {checkpoint: bert}}"})
    assert typed.text_transformers["parts.0.text.transformer"].checkpoint == str(tmp_path / "here" / "bert")
    (tmp_path / "kept.yaml").write_text(typed.to_yaml())  # as a bundle keeps it, elsewhere
    monkeypatch.chdir(tmp_path)
    assert load_recipe("kept.yaml") == typed


def test_a_file_may_change_another_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "long.yaml").write_text("base: default\noptimiser: {epochs: 5}\n")
    (tmp_path / "margin.yml").write_text("base: mine/long.yaml\nloss: {name: margin}\noptimiser: {epochs: 7}")
    (tmp_path / "flat.yaml").write_text(
        "parts: [{text: {words: {}}, photo: {linear: {}}}]\nbase: margin.yml\n"
    )
    found = load_recipe(str(tmp_path / "margin.yml"))
    assert found == load_recipe("default", {"loss.name": "margin", "optimiser.epochs": 7})
    flat = load_recipe(str(tmp_path / "flat.yaml"))
    assert len(flat.parts) == 1  # lists are replaced whole
    assert flat.parts[0].photo.linear == LinearRecipe()
    assert flat.optimiser == found.optimiser


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
        ({"a": "base: linear\nlate: {width: x}"}, "a.yaml, late.width: 'x', wanted int"),
        ({"a": "base: default\nbase: late"}, "a.yaml line 2, base: given twice"),
    ],
)
def test_bases_that_are_none_are_named(files: dict[str, str], says: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / f"{name}.yaml").write_text(content)
    with pytest.raises(DataError) as caught:
        load_recipe(str(tmp_path / "a.yaml"))
    assert str(caught.value).startswith(f"{tmp_path}/{says}")
