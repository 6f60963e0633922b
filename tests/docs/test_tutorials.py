"""The tutorials run from the first command to the last, on fewer products than they name."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

import pytest

from shopwindow.cli import main
from tests.docs import pages

FEWER = (("--products 400", "--products 80"), ("--products 300", "--products 140"))
NUMBER = re.compile(r"(?<![\w@])[-+]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?!\w)")
OF_SCORES_ALONE = ("score-files.md",)
"""Tutorials whose figures are the same on every machine: no model is trained."""
LEFT_BEHIND = {
    "shop.md": ["drawn/products.csv", "myshop/index/index.json"],
    "competition.md": ["bundle", "valid.run", "submission.csv"],
    "score-files.md": ["both.run", "report.html"],
}


def test_every_tutorial_is_run() -> None:
    assert sorted(path.name for path in (pages.DOCS / "tutorials").glob("*.md")) == sorted(LEFT_BEHIND)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_a_tutorial_runs_and_leaves_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (pages.DOCS / "tutorials" / name).read_text(encoding="utf-8")
    assert not pages.fenced(text, "")  # every block says what it is
    for kind, block in re.findall(r"^```(python|console)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if kind == "python":
            exec(compile(block, name, "exec"), {})
            continue
        for command, shown in steps(block):
            capsys.readouterr()
            run(command)
            missing = unlike(shown, capsys.readouterr().out, exact=name in OF_SCORES_ALONE)
            assert not missing, f"{command} does not print {missing}"
    for path in LEFT_BEHIND[name]:
        assert Path(path).exists(), path


def steps(block: str) -> list[tuple[str, list[str]]]:
    """The commands of a block, each with the lines that the page shows of its output; `...` stands for any lines."""
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        elif line != "...":
            found[-1][1].append(line)
    return found


def unlike(shown: list[str], printed: str, *, exact: bool) -> list[str]:
    """The lines that a page shows and a command does not print, in their order. Numbers are equal to 1 % where `exact`,
    and else any numbers; blanks do not count."""
    left = iter([parts(line) for line in printed.splitlines()])
    return [line for line in shown if not any(is_like(parts(line), other, exact=exact) for other in left)]


def parts(line: str) -> tuple[str, list[float]]:
    """The words of a line, and its numbers."""
    masked = re.sub(r" [<=] #", " #", " ".join(NUMBER.sub("#", line).split()))
    return masked, [float(number.replace(",", "")) for number in NUMBER.findall(line)]


def is_like(shown: tuple[str, list[float]], printed: tuple[str, list[float]], *, exact: bool) -> bool:
    return shown[0] == printed[0] and (not exact or shown[1] == pytest.approx(printed[1], rel=0.01))


def test_a_line_that_is_not_printed_is_found() -> None:
    printed = "prepare   count\nrows read   1,956\nnDCG@5  0.50 to 0.61 (p < 0.01)\n"
    shown = ["rows read 956", "nDCG@5 0.55 to 0.61 (p = 0.2)"]
    assert unlike(shown, printed, exact=False) == []
    assert unlike(shown, printed, exact=True) == shown
    assert unlike(shown[::-1], printed, exact=False) == ["rows read 956"]  # another order
    assert unlike(["rows read 1,960"], printed, exact=True) == []
    assert unlike(["rows written 956"], printed, exact=False) == ["rows written 956"]


def run(command: str) -> None:
    """Runs a command of a tutorial, smaller; one that goes on until Ctrl-C is left to the tests of the service."""
    for many, few in FEWER:
        command = command.replace(many, few)
    program, verb, *rest = shlex.split(command)
    assert program == "shopwindow"
    if verb == "serve":
        return
    if verb == "train":
        rest += ["--set", "optimiser.epochs=2"]
    with contextlib.suppress(SystemExit) if verb == "audit" else contextlib.nullcontext():
        main([verb, *rest])
