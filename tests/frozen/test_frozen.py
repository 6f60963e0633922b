"""Users see what they saw at commit 7fa6022: commands, files, HTTP answers, errors, vectors, first steps of trainings.

`data/` holds what the code of that commit gave (`make.py`). A case that changes on purpose is named in `adapter.py`.
Vectors and scores may differ by 1e-6 (float32, sums in another order), losses by 1e-5 of themselves, vectors after 20
steps by 1e-4: Adam divides by small gradients. Order, text and exit codes are exact.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.frozen import adapter, house

ROOT = Path(__file__).parents[2]
LOSSES = 1e-5
TRAINED = 1e-4
TRAININGS = house.load("trainings.json")


def play(folder: Path, *options: str) -> dict[str, Any]:
    """What all frozen cases give now, by the name of their data file."""
    command = [sys.executable, str(ROOT / "tests" / "frozen" / "make.py"), str(folder / "played"), *options]
    done = subprocess.run(
        command, check=False, env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return {file.name: json.loads(file.read_text()) for file in (folder / "played").glob("*.json")}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return play(tmp_path_factory.mktemp("frozen"))


def differences(got: dict[str, Any], want: dict[str, Any]) -> list[str]:
    """The cases that differ, each with where it differs first."""
    assert got.keys() == want.keys()
    found = [house.difference(got[key], house.bettered(key, want[key]), key) for key in want]
    return [difference for difference in found if difference]


@pytest.mark.parametrize("part", ["shop", "facts", "texts", "products"])
def test_the_drawn_shop_and_its_datasets_are_the_same(played: dict[str, Any], part: str) -> None:
    assert played["cases.json"][part] == house.load("cases.json")[part]


@pytest.mark.parametrize("name", ["commands.json", "written.json", "wrong.json"])
def test_commands_files_and_errors_are_the_same(played: dict[str, Any], name: str) -> None:
    assert "\n".join(differences(played[name], house.load(name))) == ""


def test_the_service_answers_the_same(played: dict[str, Any]) -> None:
    want = house.load("http.json")
    keys = [" ".join(map(str, case["request"])) for case in want]
    got = dict(zip(keys, played["http.json"], strict=True))
    assert differences(got, dict(zip(keys, want, strict=True))) == []


@pytest.mark.parametrize("recipe", adapter.RECIPES)
@pytest.mark.parametrize(
    ("part", "tolerance"),
    [
        ("batches", 0),
        ("tokens", 0),
        ("vectors", house.SCORES),
        ("dropout", LOSSES),
        ("no_dropout", LOSSES),
        ("dropout_vectors", TRAINED),
        ("no_dropout_vectors", TRAINED),
        ("own", LOSSES),
    ],
)
def test_trainings_are_the_same(played: dict[str, Any], recipe: str, part: str, tolerance: float) -> None:
    got, want = played["trainings.json"][recipe][part], TRAININGS[recipe][part]
    assert house.difference(got, want, part, tolerance) == ""


def test_a_real_product_set_gives_the_same(product_sets: Path, tmp_path: Path) -> None:
    got, want = play(tmp_path, "--sets", str(product_sets))["ikea.json"], house.load("ikea.json")
    said = ({f"ikea: {key}": value for key, value in side["said"].items()} for side in (got, want))
    assert differences(*said) == []
    for part, tolerance in (("curves", LOSSES), ("vectors", TRAINED)):
        assert house.difference(got[part], want[part], part, tolerance) == ""
