"""The GPU's benchmark, on a CPU: every part runs small, and what fails or hangs costs no other part."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gpu_kernels
import gpu_parts
import gpu_training
import step_gpu
from record import ROOT
from rivals import Batch, PackedPair

CPU = torch.device("cpu")


def scaled(*given: Any, **more: Any) -> Tensor:
    return 1.1 * gpu_kernels.looped(*given, **more)


def failing(*_: Any, **__: Any) -> Tensor:
    raise RuntimeError("no such kernel on this card")


def test_a_right_kernel_is_right_and_one_that_fails_or_errs_costs_it_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ways: dict[str, Any] = {"failing": failing, "scaled": scaled, "right": gpu_kernels.looped}
    monkeypatch.setattr(gpu_kernels, "kernels_of", lambda _, dropout=0.0: {} if dropout else ways)
    figures, wrong = gpu_kernels.measured(CPU, pairs=6, rounds=3, times=1)
    assert not [one for one in wrong if one.startswith("right")]
    assert sum(one.startswith("failing") and "no such kernel" in one for one in wrong) == 4
    assert sum(one.startswith("scaled") for one in wrong) == 4 * 4
    for asked in ("all tokens ask", "the first token asks"):
        for part in ("output", "queries' gradient", "keys' gradient", "values' gradient"):
            error = figures[f"right, bfloat16, {asked}: relative error of the {part}"]
            assert isinstance(error, float)
            assert 0 < error < 0.02
        ratios = figures[f"right, float16, {asked}: times faster than the groups"]
        assert isinstance(ratios, list)
        assert len(ratios) == 3
    assert figures["errors beyond what is right, and failures"] == len(wrong)


def test_a_kernel_that_drops_other_weights_backward_is_found_out() -> None:
    case = gpu_kernels.Case.drawn(200, first_only=False, dtype=torch.float32, device=CPU)
    dropping = functools.partial(gpu_kernels.looped, dropout=0.1)

    def forgetful(*given: Any) -> Tensor:
        forward, backward = dropping(*given), dropping(*given)
        return forward.detach() + backward - backward.detach()

    part = "backward against forward, off by"
    assert gpu_kernels.dropout_errors(dropping, case)[part] < 1e-5
    assert gpu_kernels.dropout_errors(forgetful, case)[part] > gpu_kernels.DROPOUT_TOLERANCE


def test_a_way_that_fails_or_does_not_fit_leaves_the_others() -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, _: Batch) -> tuple[Tensor, Tensor]:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def none() -> nn.Module:
        raise ImportError("no module named transformers")

    figures, wrong = gpu_parts.raced(
        gpu_parts.TOY,
        8,
        {
            gpu_parts.SEEDS: Large,
            gpu_parts.TRANSFORMERS: none,
            gpu_parts.OURS: lambda: gpu_parts.TOY.pair_of(PackedPair),
        },
    )
    speeds = figures[f"{gpu_parts.OURS}: pairs/s"]
    assert isinstance(speeds, list)
    assert len(speeds) == gpu_parts.TOY.rounds
    assert figures[f"{gpu_parts.SEEDS}: does not fit into the card"] == 1.0
    assert [one.split(":")[0] for one in wrong] == [f"{gpu_parts.TRANSFORMERS}, 8 pairs"]


def test_parts_of_a_batch_are_its_pairs() -> None:
    whole = Batch.drawn(6, vocabulary=50)
    parts = [gpu_training.part_of(whole, 0, 2), gpu_training.part_of(whole, 2, 6)]
    for name in ("tokens", "token_lengths", "regions", "region_lengths"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))


@pytest.mark.slow
def test_the_trainer_has_the_losses_of_a_cpu_and_writes_a_bundle() -> None:
    assert gpu_training.first_losses(gpu_parts.TOY) == ({"relative error": [0.0, 0.0, 0.0]}, [])
    seconds, wrong = gpu_training.bundles(gpu_parts.TOY)
    assert not wrong
    assert list(seconds) == ["1 process: seconds"]
    figures, wrong = gpu_training.training(gpu_parts.TOY)
    assert not wrong
    for pairs in gpu_parts.TOY.batches:
        values = figures[f"{pairs} pairs: pairs/s, reading and Lightning among it"]
        assert isinstance(values, list)
        assert min(values) > 0


@pytest.mark.slow
def test_processes_have_the_gradients_of_one() -> None:
    figures, wrong = gpu_training.together(gpu_parts.TOY)
    assert not wrong
    assert figures["processes"] == 2
    error = figures["gradients against one process: all weights, relative error"]
    assert isinstance(error, float)
    assert error < 1e-5


def test_minutes_are_those_of_the_best_batch_size() -> None:
    entries = [
        {
            "question": "GPU: training step, 768 wide, 512 pairs, a card",
            "figures": {
                "ours, bf16: pairs/s": [1.0, 2.0, 3.0],
                "seed, padded fp16: pairs/s": [0.5],
                "transformers, bf16: pairs/s": [9.0],
            },
        },
        {
            "question": "GPU: training step with compiled parts, a card",
            "figures": {"2,048 pairs: ours compiled, bf16: pairs/s": [4.0]},
        },
        {"question": "GPU: reading batches, a card", "figures": {"8 pairs, pinned and sent: pairs/s": [8.0]}},
    ]
    pairs = step_gpu.EPOCHS * step_gpu.PAIRS_OF_AN_EPOCH
    assert step_gpu.projection(entries) == {
        "computing alone: minutes": pairs / 4 / 60,
        "reading alone: minutes": pairs / 8 / 60,
        "the seed's way, computing alone: minutes": pairs / 0.5 / 60,
        "bound by the slower of both: minutes": pairs / 4 / 60,
    }
    assert step_gpu.projection([]) == {}


@pytest.mark.slow
def test_a_part_that_hangs_is_stopped_and_the_others_are_recorded(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_gpu, "LIMITS", {"processes": 0.5, "kernels": 200})
    monkeypatch.setattr(sys, "argv", [step_gpu.__file__, "--toy"])
    assert step_gpu.run_all(results, toy=True) == 1
    questions = [json.loads(line)["question"] for line in results.read_text().splitlines()]
    assert [question.split(",")[0] for question in questions] == [
        "GPU: attention over the regions of 8 photos",
        "GPU: projection for 14 epochs of 2",
    ]


def test_all_parts_end_within_eight_minutes() -> None:
    assert 0 < step_gpu.LEAST_SECONDS < step_gpu.ALL_SECONDS < 8 * 60


BARE = """
import runpy, sys
sys.modules.update(jaxtyping=None, pybase64=None)
sys.path.insert(0, "benchmarks")
sys.argv = ["benchmarks/step_gpu.py", "--toy", "--part", sys.argv[1]]
runpy.run_path("benchmarks/step_gpu.py", run_name="__main__")
"""
WANTED = {
    "step-512": [
        f"{gpu_parts.OURS}: times faster than {gpu_parts.SEEDS}",
        f"{gpu_parts.OURS}: times faster than {gpu_parts.TRANSFORMERS}",
        f"{gpu_parts.OURS}: share of the card's rate, packed operations",
    ],
    "compiled": [f"{n} pairs: {gpu_parts.COMPILED}: times faster than without" for n in (8, 16)],
    "reading": [f"{n} pairs, {way}: pairs/s" for n in (8, 16) for way in ("bare map", "pinned and sent")],
}


@pytest.mark.slow
@pytest.mark.parametrize("part", list(WANTED))
def test_a_part_runs_without_the_small_packages_that_a_gpu_machine_may_lack(results: Path, part: str) -> None:
    """In a process of its own also because the tests' shape checks refuse padded batches and cannot be compiled."""
    command = [sys.executable, "-c", BARE, part]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(results.read_text())["figures"]
    for name in WANTED[part]:
        assert len(figures[name]) >= 3
        assert min(figures[name]) > 0
