"""The benchmarks are scripts, not a package: their folder is where they find each other."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that takes the recorded lines, in place of the project's own."""
    path = tmp_path / "results.jsonl"
    monkeypatch.setenv("SHOPWINDOW_RESULTS", str(path))
    return path
