"""Users see what they saw at commit 7fa6022: commands, files, HTTP answers, errors, vectors, first steps of trainings.

`data/` holds what the code of that commit gave (`make.py`). A case that changes on purpose is named in `adapter.py`.
Vectors and scores may differ by 1e-6 (float32, sums in another order), losses by 1e-5 of themselves, vectors after 20
steps by 1e-4: Adam divides by small gradients. Order, text and exit codes are exact.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.frozen import adapter, house

LOSSES = 1e-5
TRAINED = 1e-4
CASES = house.load("cases.json")
TRAININGS = house.load("trainings.json")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What every frozen command gives now; the folder it was played in is the current one meanwhile."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("frozen"))
    yield house.play_all()
    os.chdir(before)


def differences(got: dict[str, Any], want: dict[str, Any]) -> list[str]:
    """The cases that differ, each with where it differs first."""
    assert got.keys() == want.keys()
    found = [house.difference(got[key], house.bettered(key, want[key]), key) for key in want]
    return [one for one in found if one]


def test_the_drawn_shop_is_the_same_to_the_byte(played: dict[str, Any]) -> None:
    assert {name: house.digest(Path("shop", name).read_bytes()) for name in house.SHOP} == CASES["shop"]


def test_datasets_count_the_same(played: dict[str, Any]) -> None:
    assert {name: adapter.dataset_facts(name) for name in CASES["facts"]} == CASES["facts"]


def test_commands_say_the_same(played: dict[str, Any]) -> None:
    assert differences(played, house.load("commands.json")) == []


def test_files_written_are_the_same(played: dict[str, Any]) -> None:
    want = house.load("written.json")
    assert differences({name: house.written(name) for name in want}, want) == []


def test_wrong_commands_end_with_the_same_line_and_code(played: dict[str, Any]) -> None:
    want = house.load("wrong.json")
    assert differences({words: house.play(words.split()) for words in want}, want) == []


def test_the_service_answers_the_same(played: dict[str, Any]) -> None:
    want = house.load("http.json")
    got = house.answers([case["request"] for case in want])
    keys = [" ".join(map(str, case["request"])) for case in want]
    assert differences(dict(zip(keys, got, strict=True)), dict(zip(keys, want, strict=True))) == []


@pytest.mark.parametrize("recipe", adapter.RECIPES)
def test_batches_and_tokens_are_the_same(played: dict[str, Any], recipe: str) -> None:
    want = TRAININGS[recipe]
    steps = [[list(pair) for pair in step] for step in adapter.batches(recipe)]
    assert steps[:2] == want["batches"]["first"]
    assert [house.digest(step) for step in steps] == want["batches"]["all"]
    assert adapter.tokens(f"bundles/{recipe}", CASES["texts"]) == want["tokens"]


@pytest.mark.parametrize("recipe", adapter.RECIPES)
def test_vectors_of_given_weights_are_the_same(played: dict[str, Any], recipe: str) -> None:
    got = house.vectors(f"bundles/{recipe}", "valid", CASES)
    assert house.difference(got, TRAININGS[recipe]["vectors"]) == ""


@pytest.mark.parametrize("dropout", ["dropout", "no_dropout"])
@pytest.mark.parametrize("recipe", adapter.RECIPES)
def test_twenty_steps_from_given_weights_are_the_same(
    played: dict[str, Any], tmp_path: Path, recipe: str, dropout: str
) -> None:
    out, want = str(tmp_path / "bundle"), TRAININGS[recipe]
    rows = adapter.train(recipe, out, house.weights_of(recipe), dropout=dropout == "dropout")
    assert house.difference(house.curve(rows), want[dropout], tolerance=LOSSES) == ""
    got = house.vectors(out, "valid", CASES)
    assert house.difference(got, want[f"{dropout}_vectors"], tolerance=TRAINED) == ""


@pytest.mark.parametrize("recipe", adapter.RECIPES)
def test_twenty_steps_from_the_seeds_own_weights_are_the_same(
    played: dict[str, Any], tmp_path: Path, recipe: str
) -> None:
    rows = adapter.train(recipe, str(tmp_path / "bundle"), None)
    assert house.difference(house.curve(rows), TRAININGS[recipe]["own"], tolerance=LOSSES) == ""


@pytest.fixture
def ikea(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, product_sets: Path) -> Path:
    """The product set; the current folder is an empty one."""
    monkeypatch.chdir(tmp_path)
    return product_sets


def test_a_real_product_set_gives_the_same(ikea: Path) -> None:
    got, want = house.real_set(ikea), house.load("ikea.json")
    for part, tolerance in (("said", house.SCORES), ("curves", LOSSES), ("vectors", TRAINED)):
        assert house.difference(got[part], want[part], part, tolerance) == ""
