"""The code of docs/python.md runs, block after block, as somebody would type it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any, Final

import pytest

from shopwindow.cli import main
from tests.search.conftest import Shop

PAGE: Final = Path(__file__).parents[2] / "docs" / "python.md"
OPTIONAL: Final = {"from sentence_transformers": "sentence_transformers", "exported_text": "onnx"}


def test_the_code_of_the_page_runs(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, goal in (("bundle", shop.bundle), ("valid", shop.dataset), ("index", shop.index)):
        (tmp_path / name).symlink_to(goal)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    ran = 0
    for block in blocks:
        needed = [library for words, library in OPTIONAL.items() if words in block]
        if not all(map(importlib.util.find_spec, needed)):
            continue
        if "onnx" in needed:
            main(["export", "onnx", "bundle", "--out", "text"])
        exec(compile(block, str(PAGE), "exec"), names)
        ran += 1
    assert ran >= 6
    assert names["one"].shape == (32,)
    assert names["words"].shape == (2, 32)
    assert names["photos"].shape == (300, 32)
    assert len(names["table"]) == 3
    assert len(names["values"]) == 10
    assert names["vectors"].shape == (2, 32)
    printed = capsys.readouterr().out.replace("text side as ONNX, float32: text\n", "").splitlines()
    assert [line.split()[0] for line in printed[:3]] == ["1", "2", "3"]
    assert printed[3].startswith("Evaluation('run', 2 queries: nDCG@5 0.8155")
    assert printed[4].startswith("no significant difference")
    assert printed[5].startswith("No leak found")
    assert len(printed) == 6 or "1 - cosine over 256 texts" in printed[6]
