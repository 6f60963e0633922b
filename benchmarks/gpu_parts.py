"""The parts of `step_gpu.py` that compute: the step of a batch, compiled parts, reading, sending.

Each gives its figures and what was wrong. Everything takes a device and sizes, so that it also runs small on a CPU.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.util
import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from stand_ins import missing, stand_in

if names := missing():
    stand_in(names)

from dataset_read import bare_reader
from made import write_dataset
from record import Figures
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
from shopwindow.data.regions import Regions
from shopwindow.model.towers import EncoderSize, compile_parts

OURS: Final = "ours, bf16"
COMPILED: Final = "ours compiled, bf16"
SEEDS: Final = "seed, padded fp16"
TRANSFORMERS: Final = "transformers, bf16"
Found = tuple[Figures, list[str]]
"""Figures, and what was wrong."""


@dataclass(frozen=True)
class Scale:
    """How large everything is. `step_pairs` are taken by each way a round, in at least two steps; a matrix product is
    timed `products_timed` times, and the best counts."""

    device: torch.device
    size: EncoderSize
    vocabulary: int
    batches: tuple[int, ...]
    rounds: int
    step_pairs: int
    products: int
    seconds: float
    products_timed: int

    @property
    def half(self) -> torch.dtype:
        """The type in which the card's rate counts; on a CPU float32."""
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def batches_of(self, pairs: int) -> list[Batch]:
        """Four batches on the host."""
        return [Batch.drawn(pairs, seed=seed, vocabulary=self.vocabulary) for seed in range(4)]

    def rate(self, rows: int) -> float:
        """Operations a second of the best of some matrix products."""
        return matmul_rate(
            rows, device=self.device.type, dtype=self.half, times=self.products_timed, size=self.size
        )

    def pair_of(self, kind: Callable[..., nn.Module]) -> nn.Module:
        """Two towers of that kind on the device, weights at random."""
        torch.manual_seed(0)
        return kind(self.size, vocabulary=self.vocabulary).to(self.device)


CARD: Final = Scale(torch.device("cuda"), SEED, VOCABULARY, (512, 2048, 8192), 5, 10_240, 24_000, 2.0, 20)
TOY: Final = Scale(
    torch.device("cpu"), EncoderSize(hidden=48, layers=2, heads=4, inner=64), 500, (8, 16), 3, 16, 96, 0.05, 1
)


def steps(scale: Scale, pairs: int) -> Found:
    """The step of one batch size, every way in turn, against the card's own rate."""
    check_alike()
    made: dict[str, Callable[[], nn.Module]] = {
        OURS: functools.partial(scale.pair_of, PackedPair),
        SEEDS: functools.partial(scale.pair_of, PaddedPair),
    }
    if importlib.util.find_spec("transformers"):
        made[TRANSFORMERS] = functools.partial(scale.pair_of, TransformersPair)
    return raced(scale, pairs, made)


def compiled(scale: Scale) -> Found:
    """The step with compiled parts beside the step without, at every batch size; compiled once, for all sizes."""
    figures: Figures = {}
    wrong: list[str] = []
    plain, own = scale.pair_of(PackedPair), scale.pair_of(PackedPair)
    compile_parts(own, backend="inductor" if scale.device.type == "cuda" else "eager")
    for pairs in scale.batches:
        started = time.perf_counter()
        found, bad = raced(scale, pairs, {OURS: lambda: plain, COMPILED: lambda: own})
        figures |= {f"{pairs:,} pairs: {name}": value for name, value in found.items()}
        figures[f"{pairs:,} pairs: seconds in all, compiling among them"] = time.perf_counter() - started
        wrong += bad
    return figures, wrong


def raced(scale: Scale, pairs: int, made: dict[str, Callable[[], nn.Module]]) -> Found:
    """Every way's steps of the same batches, in turn; a way that fails, as one without memory, is left out and said."""
    drawn = scale.batches_of(pairs)
    batches = [batch.to(scale.device) for batch in drawn]
    ways: dict[str, Step] = {}
    wrong: list[str] = []
    memory: Figures = {}
    for name, make in made.items():
        half = torch.float16 if name == SEEDS else torch.bfloat16
        try:
            ways[name] = warmed(Step(make(), batches, scale.device, half))
            memory |= step_memory(name, ways[name], scale.device)
        except torch.OutOfMemoryError:
            memory[f"{name}: does not fit into the card"] = 1.0
            if name in (OURS, COMPILED):
                wrong.append(f"{name}, {pairs:,} pairs: the card's memory does not suffice")
        except Exception as error:  # one way does not cost the others
            wrong.append(f"{name}, {pairs:,} pairs: {type(error).__name__}: {str(error)[:300]}")
        release(scale.device)
    rates: list[float] = []
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    count = max(2, scale.step_pairs // pairs)
    for _ in range(scale.rounds):
        rates.append(scale.rate(len(drawn[0].tokens)))
        for name, way in ways.items():
            spent = timed(functools.partial(several, way, count), device=scale.device.type)
            seconds[name].append(spent / count)
    work = float(np.mean([operations(batch, scale.size) for batch in drawn]))
    return speeds(seconds, rates, work, pairs) | memory, wrong


def warmed(way: Step) -> Step:
    """The same after a step of every batch; raises FloatingPointError where its loss is no number."""
    for number in range(way.batches):
        way(number)
    if not math.isfinite(way.loss()):
        raise FloatingPointError(f"a loss of {way.loss()}")
    return way


def release(device: torch.device) -> None:
    """Gives back what a failed way held on the card."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def several(way: Callable[[int], None], count: int) -> None:
    """Some steps, of one batch after the other."""
    for number in range(count):
        way(number)


class Step:
    """A step of a model: forward under autocast, loss in float32, backward, Adam; fp16 with a scaled loss and the plain
    Adam that the seed had, bf16 with the fused one."""

    def __init__(
        self, model: nn.Module, batches: list[Batch], device: torch.device, half: torch.dtype
    ) -> None:
        self._model, self._batches, self._device, self._half = model, batches, device, half
        self._on_gpu = device.type == "cuda"
        fused = True if half is torch.bfloat16 else None
        self._optimizer = torch.optim.Adam(model.parameters(), lr=2e-5, eps=1e-8, fused=fused)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._on_gpu and half is torch.float16)

    @property
    def batches(self) -> int:
        """How many it has."""
        return len(self._batches)

    def __call__(self, number: int) -> None:
        with torch.autocast(self._device.type, dtype=self._half, enabled=self._on_gpu):
            text, photo = self._model(self._batches[number % len(self._batches)])
        loss = sigmoid_in_batch(text, photo)
        self._optimizer.zero_grad()
        torch.autograd.backward(self._scaler.scale(loss))
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._loss = loss.detach()

    def loss(self) -> float:
        """Of the last step; waits for the card."""
        return float(self._loss)


def step_memory(name: str, way: Callable[[int], None], device: torch.device) -> Figures:
    """The most memory of the card that a step adds to all models' weights, GB."""
    if device.type != "cuda":
        return {}
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    way(0)
    torch.cuda.synchronize()
    return {f"{name}: step's memory, GB": (torch.cuda.max_memory_allocated() - before) / 1e9}


def speeds(seconds: dict[str, list[float]], rates: list[float], work: float, pairs: int) -> Figures:
    """Pairs a second, ratios of the same round, shares of the floor."""
    out: Figures = {
        "matrix product, TFLOP/s": [rate / 1e12 for rate in rates],
        "packed operations a step, TFLOP": work / 1e12,
        "floor: milliseconds a step": [1000 * work / rate for rate in rates],
    }
    for name, values in seconds.items():
        out[f"{name}: pairs/s"] = [pairs / value for value in values]
        if name in (OURS, COMPILED):
            out[f"{name}: share of the card's rate, packed operations"] = [
                work / rate / value for rate, value in zip(rates, values, strict=True)
            ]
    for name in (SEEDS, TRANSFORMERS):
        if OURS in seconds and name in seconds:
            out[f"{OURS}: times faster than {name}"] = [
                theirs / ours for ours, theirs in zip(seconds[OURS], seconds[name], strict=True)
            ]
    if COMPILED in seconds and OURS in seconds:
        out[f"{COMPILED}: times faster than without"] = [
            plain / own for plain, own in zip(seconds[OURS], seconds[COMPILED], strict=True)
        ]
    return out


@contextlib.contextmanager
def made_dataset(products: int, *, products_per_query: int = 1) -> Iterator[tuple[Path, Dataset]]:
    """A folder, and in it a dataset of so many products, while the block lasts."""
    with tempfile.TemporaryDirectory(prefix="shopwindow-") as folder:
        write_dataset(Path(folder) / "dataset", products, products_per_query=products_per_query)
        yield Path(folder), Dataset(Path(folder) / "dataset")


def reading(scale: Scale) -> Found:
    """Batches as the trainer reads them (memory map, pinned ahead by a thread), to the host and on to the card."""
    from shopwindow.model.trainer import Loader

    figures: Figures = {}
    on_gpu = scale.device.type == "cuda"
    with made_dataset(scale.products) as (folder, dataset):
        bare = bare_reader(dataset, folder / "values.f16")
        figures["GB of regions"] = (folder / "values.f16").stat().st_size / 1e9
        for pairs in scale.batches:
            found: dict[str, list[float]] = {"bare map": [], "pinned": [], "pinned and sent": []}
            for seed in range(scale.rounds):
                rng = np.random.default_rng(seed)
                bare_batches = (bare(rng.integers(0, scale.products, pairs)) for _ in itertools.count())
                found["bare map"].append(speed(bare_batches, pairs, scale.seconds, _keep))
                for name, use in (("pinned", _keep), ("pinned and sent", sender(scale.device))):
                    batches = PairBatches(dataset, batch_size=pairs, epochs=10_000, seed=seed)
                    read = ((batch.regions, batch.regions.counts) for batch in Loader(batches, to_gpu=on_gpu))
                    found[name].append(speed(read, pairs, scale.seconds, use))
            figures |= {f"{pairs:,} pairs, {name}: pairs/s": values for name, values in found.items()}
            figures[f"{pairs:,} pairs, pinned and sent: share of the bare map's speed"] = [
                ours / plain for ours, plain in zip(found["pinned and sent"], found["bare map"], strict=True)
            ]
    return figures, []


def _keep(batch: object) -> None:
    """Reads it and no more."""


def sender(device: torch.device) -> Callable[[object], None]:
    """Sends a batch to the card as a training does, and waits for it."""

    def send(batch: object) -> None:
        assert isinstance(batch, tuple)
        Regions(*map(torch.from_numpy, batch)).to(device)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return send


def speed(batches: Iterator[object], pairs: int, seconds: float, use: Callable[[object], None]) -> float:
    """Pairs a second, the first two batches not counted: they wait for the thread to begin."""
    for _ in range(2):
        use(next(batches))
    began, done = time.perf_counter(), 0
    for batch in batches:
        use(batch)
        done += pairs
        if time.perf_counter() - began > seconds:
            break
    return done / (time.perf_counter() - began)
