"""The GPU's benchmark, on a CPU: every part runs small, and what fails or hangs costs no other part."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import step_gpu
from record import ROOT
from rivals import Batch


class Large(nn.Module):
    """A model that does not fit."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, _: Batch) -> tuple[Tensor, Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory")


class Failing(Large):
    """A model that cannot be computed."""

    def forward(self, _: Batch) -> tuple[Tensor, Tensor]:
        raise RuntimeError("no such kernel on this card")


def test_a_method_that_fails_or_does_not_fit_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_gpu, "PaddedPair", Large)
    monkeypatch.setattr(step_gpu, "TransformersPair", Failing)
    monkeypatch.setattr(step_gpu, "check_alike", lambda: None)
    names = (step_gpu.OURS, step_gpu.SEEDS, step_gpu.TRANSFORMERS)
    figures, wrong = step_gpu.raced(step_gpu.TOY, 8, names)
    speeds = figures[f"{step_gpu.OURS}: pairs/s"]
    assert isinstance(speeds, list)
    assert len(speeds) == step_gpu.TOY.rounds
    assert figures[f"{step_gpu.SEEDS}: does not fit into the card"] == 1.0
    assert wrong == [f"{step_gpu.TRANSFORMERS}, 8 pairs: RuntimeError: no such kernel on this card"]


def test_speeds_are_compared_round_by_round() -> None:
    seconds = {step_gpu.OURS: [1.0, 2.0], step_gpu.SEEDS: [10.0, 30.0]}
    figures = step_gpu.speeds(seconds, [4.0, 4.0], 2.0, 8)
    assert figures[f"{step_gpu.OURS}: pairs/s"] == [8.0, 4.0]
    assert figures[f"{step_gpu.OURS}: times faster than {step_gpu.SEEDS}"] == [10.0, 15.0]
    assert figures[f"{step_gpu.OURS}: share of the card's rate, packed operations"] == [0.5, 0.25]


@pytest.mark.slow
def test_a_part_that_hangs_is_stopped(results: Path) -> None:
    assert step_gpu.started_part("reading", 0.5, toy=True) == "stopped after 0 s"
    assert not results.exists()


@pytest.mark.slow
@pytest.mark.parametrize("part", ["step-512", "compiled", "reading"])
def test_a_part_runs_and_is_recorded(results: Path, part: str) -> None:
    """In a process of its own: the tests' shape checks refuse padded batches and cannot be compiled."""
    command = [sys.executable, "benchmarks/step_gpu.py", "--toy", "--part", part]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    entry = json.loads(results.read_text())
    assert entry["question"].endswith("CPU, toy sizes")
    speeds = [value for name, value in entry["figures"].items() if name.endswith("pairs/s")]
    assert len(speeds) >= 2
    assert all(min(values) > 0 and len(values) == step_gpu.TOY.rounds for values in speeds)


def test_all_parts_end_within_eight_minutes() -> None:
    assert sum(step_gpu.LIMITS.values()) < 8 * 60
