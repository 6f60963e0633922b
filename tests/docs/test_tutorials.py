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
        for line in block.splitlines():
            run(line.removeprefix("$ "))
    for path in LEFT_BEHIND[name]:
        assert Path(path).exists(), path
    assert "nDCG" in capsys.readouterr().out


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
