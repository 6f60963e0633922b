"""What does a training step cost on this GPU, against the seed's padded step and the card's own rate?

`make bench-gpu`: under 8 minutes, no network. Each part is a process of its own that records when it is done, so a part
that fails, or is stopped at its limit, costs no other:

- step-512, step-2048, step-8192: ours in bf16, the seed's method (padded, fp16), `transformers` (padded to the longest)
- compiled: ours with compiled parts beside ours without
- reading: batches from the dataset onto the card
- train: the verb's own training of one epoch, reading and validation included; on two cards where there are two

`--toy` runs every part small on a CPU and prints; `--part` runs one part. Whether the card's kernels attend as the
CPU does is a test (`tests/model/test_kernels.py`, marked gpu).
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import itertools
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from made import write_dataset
from record import ELSEWHERE, Figures, record, verb
from rivals import (
    SEED,
    VOCABULARY,
    Batch,
    PackedPair,
    PaddedPair,
    TransformersPair,
    check_alike,
    matmul_rate,
    operations,
    sigmoid_in_batch,
    timed,
)
from shopwindow.data.batches import PairBatches
from shopwindow.data.dataset import Dataset
from shopwindow.model.towers import EncoderSize, compile_parts

LIMITS: Final = {
    "step-512": 75,
    "step-2048": 60,
    "step-8192": 75,
    "compiled": 120,
    "reading": 45,
    "train": 75,
}
"""Seconds that each part may take, in this order."""
OURS: Final = "ours, bf16"
COMPILED: Final = "ours compiled, bf16"
SEEDS: Final = "seed, padded fp16"
TRANSFORMERS: Final = "transformers, bf16"
BATCHES: Final = 4


@dataclass(frozen=True)
class Scale:
    """How large everything is: `step_pairs` are taken by each method a round, in at least two steps."""

    device: torch.device
    size: EncoderSize
    vocabulary: int
    rounds: int
    step_pairs: int
    products: int
    most_pairs: int

    def model(self, kind: Callable[..., nn.Module]) -> nn.Module:
        """Two towers of that kind on the device, weights at random."""
        torch.manual_seed(0)
        return kind(self.size, vocabulary=self.vocabulary).to(self.device)


CARD: Final = Scale(torch.device("cuda"), SEED, VOCABULARY, 5, 10_240, 24_000, 8192)
TOY_SIZE: Final = EncoderSize(hidden=48, layers=2, heads=4, inner=64)
TOY: Final = Scale(torch.device("cpu"), TOY_SIZE, 500, 3, 16, 96, 16)


def main() -> None:
    """Runs every part, or one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--toy", action="store_true", help="small, on a CPU: tests this script")
    parser.add_argument("--part", choices=list(LIMITS))
    options = parser.parse_args()
    if options.toy:
        os.environ.setdefault(ELSEWHERE, os.devnull)
    elif not torch.cuda.is_available():
        sys.exit("there is no CUDA device here (--toy runs the script on a CPU)")
    if options.part:
        sys.exit(run_part(options.part, TOY if options.toy else CARD))
    outcomes = {part: started_part(part, limit, toy=options.toy) for part, limit in LIMITS.items()}
    for part, outcome in outcomes.items():
        print(f"{part}: {outcome}")
    sys.exit(0 if set(outcomes.values()) == {"done"} else 1)


def started_part(part: str, limit: float, *, toy: bool) -> str:
    """Runs a part in a process group of its own, ends the group at the limit, and gives the outcome."""
    command = [sys.executable, str(Path(__file__).resolve()), "--part", part, *(["--toy"] if toy else [])]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"stopped after {limit:.0f} s"
    return "done" if status == 0 else f"failed with {status}"


def run_part(part: str, scale: Scale) -> int:
    """Runs and records one part in this process, also where some of it was wrong; gives the exit status."""
    towers = f"{scale.size.hidden} wide, {scale.size.layers} + {scale.size.layers} layers"
    card = torch.cuda.get_device_name() if scale.device.type == "cuda" else "CPU, toy sizes"
    if part.startswith("step-"):
        pairs = min(int(part.removeprefix("step-")), scale.most_pairs)
        figures, wrong = raced(scale, pairs, (OURS, SEEDS, TRANSFORMERS))
        question = f"training step, {towers}, {pairs:,} pairs"
    elif part == "compiled":
        pairs = min(2048, scale.most_pairs)
        figures, wrong = raced(scale, pairs, (OURS, COMPILED))
        question = f"training step with compiled parts, {towers}, {pairs:,} pairs"
    elif part == "reading":
        figures, wrong = reading(scale), []
        question = f"reading batches from {scale.products:,} products"
    else:
        figures, wrong = training(scale)
        question = f"train, recipe seed, {towers}, one epoch of {scale.products:,} pairs"
    record(f"GPU: {question}, {card}", figures)
    for problem in wrong:
        print(f"wrong: {problem}", file=sys.stderr)
    return 1 if wrong else 0


def raced(scale: Scale, pairs: int, names: tuple[str, ...]) -> tuple[Figures, list[str]]:
    """Steps of the same batches by each method, in turn, and what was wrong; a method that fails is left out."""
    check_alike()
    drawn = [Batch.drawn(pairs, seed=seed, vocabulary=scale.vocabulary) for seed in range(BATCHES)]
    batches = [batch.to(scale.device) for batch in drawn]
    ways: dict[str, Step] = {}
    wrong: list[str] = []
    figures: Figures = {}
    for name in names:
        if name == TRANSFORMERS and not importlib.util.find_spec("transformers"):
            continue
        try:
            ways[name] = made_step(name, scale, batches)
            figures |= step_memory(name, ways[name], scale.device)
        except torch.OutOfMemoryError:
            figures[f"{name}: does not fit into the card"] = 1.0
        except Exception as error:  # a method that fails costs no other
            wrong.append(f"{name}, {pairs:,} pairs: {type(error).__name__}: {str(error)[:300]}")
        release(scale.device)
    half = torch.bfloat16 if scale.device.type == "cuda" else torch.float32
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    rates: list[float] = []
    count = max(2, scale.step_pairs // pairs)
    for _ in range(scale.rounds):
        rows = int(drawn[0].token_lengths.sum())
        rates.append(matmul_rate(rows, device=scale.device.type, dtype=half, size=scale.size))
        for name, way in ways.items():
            seconds[name].append(timed(lambda way=way: way.run(count), device=scale.device.type) / count)  # type: ignore[misc] # mypy cannot infer the type of a lambda with a default
    work = float(np.mean([operations(batch, scale.size) for batch in drawn]))
    return {**speeds(seconds, rates, work, pairs), **figures}, wrong


class Step:
    """Training steps of a model: autocast, loss in float32, backward, Adam.

    fp16 scales its loss and takes the plain Adam, as the seed does; bf16 takes the fused one, as ours does.
    """

    def __init__(
        self, model: nn.Module, batches: list[Batch], device: torch.device, half: torch.dtype
    ) -> None:
        self._model, self._batches, self._device, self._half = model, batches, device, half
        self._on_gpu = device.type == "cuda"
        fused = True if half is torch.bfloat16 else None
        self._optimizer = torch.optim.Adam(model.parameters(), lr=2e-5, eps=1e-8, fused=fused)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._on_gpu and half is torch.float16)

    def run(self, count: int) -> torch.Tensor:
        """Takes some steps, of one batch after the other, and gives the last loss."""
        for number in range(count):
            with torch.autocast(self._device.type, dtype=self._half, enabled=self._on_gpu):
                text, photo = self._model(self._batches[number % len(self._batches)])
            loss = sigmoid_in_batch(text, photo)
            self._optimizer.zero_grad()
            torch.autograd.backward(self._scaler.scale(loss))
            self._scaler.step(self._optimizer)
            self._scaler.update()
        return loss.detach()


def made_step(name: str, scale: Scale, batches: list[Batch]) -> Step:
    """A method after one step of every batch; raises FloatingPointError where its loss is not finite."""
    kinds = {SEEDS: PaddedPair, TRANSFORMERS: TransformersPair}
    model = scale.model(kinds.get(name, PackedPair))
    if name == COMPILED:
        compile_parts(model, backend="inductor" if scale.device.type == "cuda" else "eager")
    step = Step(model, batches, scale.device, torch.float16 if name == SEEDS else torch.bfloat16)
    loss = float(step.run(len(batches)))
    if not math.isfinite(loss):
        raise FloatingPointError(f"a loss of {loss}")
    return step


def release(device: torch.device) -> None:
    """Gives back what a failed method held on the card."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def step_memory(name: str, way: Step, device: torch.device) -> Figures:
    """The most memory of the card that a step adds to the weights of all models, GB."""
    if device.type != "cuda":
        return {}
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    way.run(1)
    torch.cuda.synchronize()
    return {f"{name}: step's memory, GB": (torch.cuda.max_memory_allocated() - before) / 1e9}


def speeds(seconds: dict[str, list[float]], rates: list[float], work: float, pairs: int) -> Figures:
    """Pairs a second, the share of the card's rate, and how many times faster ours is in the same round."""
    out: Figures = {
        "matrix product, TFLOP/s": [rate / 1e12 for rate in rates],
        "packed operations a step, TFLOP": work / 1e12,
    }
    for name, values in seconds.items():
        out[f"{name}: pairs/s"] = [pairs / value for value in values]
        if name in (OURS, COMPILED):
            shares = [work / rate / value for rate, value in zip(rates, values, strict=True)]
            out[f"{name}: share of the card's rate, packed operations"] = shares
        if name != OURS and OURS in seconds:
            out[f"{OURS}: times faster than {name}"] = [
                theirs / ours for ours, theirs in zip(seconds[OURS], values, strict=True)
            ]
    return out


def reading(scale: Scale) -> Figures:
    """Pairs a second of batches read from the dataset, and the same sent to the card."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="shopwindow-") as folder:
        write_dataset(Path(folder) / "dataset", scale.products)
        dataset = Dataset(Path(folder) / "dataset")
        pairs = min(512, scale.most_pairs)
        for name in ("read", "read and sent"):
            values = []
            for seed in range(scale.rounds):
                batches = iter(PairBatches(dataset, batch_size=pairs, epochs=99, seed=seed))
                began = time.perf_counter()
                steps = max(2, 4 * scale.products // pairs)
                for batch in itertools.islice(batches, steps):
                    regions = batch.regions.features
                    if name == "read and sent":
                        regions.to(scale.device)
                if scale.device.type == "cuda":
                    torch.cuda.synchronize()
                values.append(steps * pairs / (time.perf_counter() - began))
            figures[f"{pairs:,} pairs, {name}: pairs/s"] = values
    return figures


def training(scale: Scale) -> tuple[Figures, list[str]]:
    """Seconds of the verb `train` for one epoch, process start included, on one card and on two."""
    size, figures, wrong = scale.size, Figures(), list[str]()
    sizes = {"layers": size.layers, "heads": size.heads, "inner": size.inner}
    changes = [
        f"parts.0.{side}.transformer.{name}={value}"
        for side in ("text", "photo")
        for name, value in sizes.items()
    ]
    changes += [
        f"parts.0.width={size.hidden}",
        f"batches.size={min(512, scale.most_pairs)}",
        "optimiser.epochs=1",
    ]
    with tempfile.TemporaryDirectory(prefix="shopwindow-") as name:
        folder = Path(name)
        write_dataset(folder / "pairs", scale.products)
        write_dataset(folder / "pools", 40, rows_per_query=10, seed=1)
        (folder / "answers.json").write_text('{"0": [100000000]}')
        given = ("--valid", folder / "pools", "--answers", folder / "answers.json", "--recipe", "seed")
        for devices in (1, 2) if torch.cuda.device_count() > 1 else (1,):
            more = ("--device", scale.device.type, "--devices", devices, "--out", folder / str(devices))
            command = verb("train", folder / "pairs", *given, *more, "--set", *changes)
            started = time.perf_counter()
            if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode != 0:
                wrong.append(f"train on {devices} devices failed")
            figures[f"{devices} devices: seconds"] = time.perf_counter() - started
    return figures, wrong


if __name__ == "__main__":
    main()
