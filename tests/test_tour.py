"""docs/tour.md holds: its code prints what the page shows, and every file and function that it names exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, Final

import pytest

PAGE: Final = Path(__file__).parents[1] / "docs" / "tour.md"
STOPS: Final = 12
DECIMAL: Final = re.compile(r"-?\d+\.\d+")
TOLERANCE: Final = 0.02
"""Of decimals: another processor sums in another order, and a training of some steps carries that on."""


def blocks() -> list[tuple[str, str]]:
    """The code of each stop, and what it prints."""
    return re.findall(
        r"```python\n(.*?)```\n```text\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL
    )


def named() -> list[str]:
    """The `file.py: name` of the page."""
    return sorted(set(re.findall(r"`(\w+/\w+\.py: [\w.]+)`", PAGE.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("place", named())
def test_a_named_function_exists(place: str) -> None:
    file, _, name = place.partition(": ")
    found: Any = importlib.import_module("shopwindow." + file.removesuffix(".py").replace("/", "."))
    for part in name.split("."):
        found = getattr(found, part)


def test_each_stop_names_a_function_and_shows_what_it_prints() -> None:
    page = PAGE.read_text(encoding="utf-8")
    stops = re.findall(r"^## (\d+)\. .*`\w+/\w+\.py: [\w.]+`$", page, flags=re.MULTILINE)
    assert stops == [str(number) for number in range(1, STOPS + 1)]
    assert page.count("```python") == len(blocks()) == STOPS + 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Using .httpx. with .starlette.testclient. is deprecated")
def test_the_code_prints_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code, shown in blocks():
        exec(compile(code, str(PAGE), "exec"), names)
        printed = capsys.readouterr().out
        assert DECIMAL.sub("#", printed) == DECIMAL.sub("#", shown)
        assert numbers(printed) == pytest.approx(numbers(shown), abs=TOLERANCE)


def numbers(text: str) -> list[float]:
    """The decimals of a text."""
    return [float(number) for number in DECIMAL.findall(text)]
