"""What does a training step cost on this GPU, against the seed's padded step and the card's own rate?

`make bench-gpu`: one command, under 8 minutes, no network, nothing installed but torch and numpy (transformers where
it is there). 768 wide, 4 + 4 layers, 512 pairs of lengths like the competition's, dropout 0.1. In turn, several rounds:
ours in bf16, ours with compiled parts, the seed's way (padded, fp16), `transformers` (padded to the longest, bf16).
Batches lie on the card for these; reading them and sending them is timed apart. `--toy` runs every line small on a CPU.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

if importlib.util.find_spec("jaxtyping") is None:  # shapes in annotations: nothing computes with them
    words = types.ModuleType("jaxtyping")
    kind = type("Any", (), {"__class_getitem__": classmethod(lambda own, _: own)})
    vars(words).update(dict.fromkeys(("Bool", "Float", "Float16", "Float32", "Int32", "Int64"), kind))
    sys.modules["jaxtyping"] = words

from lengths import photo_lengths
from record import Figures, machine, record
from rivals import (
    FEATURES,
    SEED,
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
from shopwindow.model.towers import EncoderSize, compile_parts

PAIRS_OF_AN_EPOCH: Final = 2_999_043
EPOCHS: Final = 14
TOY: Final = EncoderSize(hidden=48, layers=2, heads=4, inner=64)


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="of each way, a round")
    parser.add_argument(
        "--products", type=int, default=100_000, help="in the file that batches are read from"
    )
    parser.add_argument("--toy", action="store_true", help="small, on a CPU: tests this script")
    options = parser.parse_args()
    if not options.toy and not torch.cuda.is_available():
        sys.exit("there is no CUDA device here (--toy runs the script on a CPU)")
    if options.toy:
        options.pairs, options.rounds, options.steps, options.products = 16, 3, 2, 500
    check_alike()
    device = torch.device("cpu" if options.toy else "cuda")
    size = TOY if options.toy else SEED
    batches = [Batch.drawn(options.pairs, seed=seed).to(device) for seed in range(8)]
    ways = ways_of(size, device, batches)
    for way in ways.values():  # every shape once
        for number in range(len(batches)):
            way(number)
    rates, seconds = [], {name: list[float]() for name in ways}
    half = torch.float32 if options.toy else torch.bfloat16
    for _ in range(options.rounds):
        rates.append(matmul_rate(len(batches[0].tokens), device=device.type, dtype=half, times=20, size=size))
        for name, way in ways.items():
            spent = timed(functools.partial(several, way, options.steps), device=device.type)
            seconds[name].append(spent / options.steps)
    work = float(np.mean([operations(batch, size) for batch in batches]))
    figures = speeds(seconds, rates, work, options.pairs)
    figures |= peaks(ways, device)
    figures |= loading(options.products, options.pairs, device, options.rounds)
    best = min(float(np.median(seconds[name])) for name in seconds if name.startswith("ours"))
    epochs = EPOCHS * PAIRS_OF_AN_EPOCH / 60
    figures["projection, minutes: 14 epochs x 3 million pairs, compute"] = epochs * best / options.pairs
    figures["projection, minutes: the same, reading"] = epochs / float(np.median(figures["reading: pairs/s"]))
    figures["projection, minutes: the same, seed"] = (
        epochs * float(np.median(seconds["seed, padded fp16"])) / options.pairs
    )
    card = "CPU, toy sizes" if options.toy else torch.cuda.get_device_name()
    if options.toy:
        print(machine(), card, *(f"{name}: {value}" for name, value in figures.items()), sep="\n")
    else:
        record(f"training step on a GPU: 768 wide, 4 + 4 layers, {options.pairs} pairs, {card}", figures)


def several(way: Callable[[int], None], steps: int) -> None:
    """Some steps, of one batch after the other."""
    for number in range(steps):
        way(number % 8)


def ways_of(
    size: EncoderSize, device: torch.device, batches: list[Batch]
) -> dict[str, Callable[[int], None]]:
    """Each way's step of a batch; what cannot be had here is left out and said."""
    bf16, fp16 = torch.bfloat16, torch.float16
    ways = {
        "ours, bf16": stepping(PackedPair(size), batches, device, bf16, fused=True),
        "seed, padded fp16": stepping(PaddedPair(size), batches, device, fp16, fused=False),
    }
    if importlib.util.find_spec("transformers"):
        ways["transformers, bf16"] = stepping(TransformersPair(size), batches, device, bf16, fused=True)
    if device.type == "cuda":
        compiled = PackedPair(size)
        compile_parts(compiled)
        step = stepping(compiled, batches, device, bf16, fused=True)
        try:
            step(0)
            ways["ours compiled, bf16"] = step
        except Exception as error:  # a card or a machine without what the compiler needs
            print(
                f"compiled parts do not run here: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr
            )
    return ways


def stepping(
    model: nn.Module, batches: list[Batch], device: torch.device, half: torch.dtype, *, fused: bool
) -> Callable[[int], None]:
    """A step of a model: forward under autocast, loss in float32, backward, Adam; fp16 with a scaled loss."""
    model.to(device)
    on_gpu = device.type == "cuda"
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-5, eps=1e-8, fused=True if fused else None)
    scaler = torch.amp.GradScaler(device.type, enabled=on_gpu and half is torch.float16)

    def step(number: int) -> None:
        with torch.autocast(device.type, dtype=half, enabled=on_gpu):
            text, photo = model(batches[number])
        loss = sigmoid_in_batch(text, photo)
        optimizer.zero_grad()
        torch.autograd.backward(scaler.scale(loss))
        scaler.step(optimizer)
        scaler.update()

    return step


def speeds(seconds: dict[str, list[float]], rates: list[float], work: float, pairs: int) -> Figures:
    """Pairs a second, ratios of the same round, shares of the floor."""
    out: Figures = {
        "matrix product, TFLOP/s": [rate / 1e12 for rate in rates],
        "packed operations a step, TFLOP": work / 1e12,
        "floor: milliseconds a step": [1000 * work / rate for rate in rates],
    }
    for name, values in seconds.items():
        out[f"{name}: pairs/s"] = [pairs / value for value in values]
        if name.startswith("ours"):
            seed = seconds["seed, padded fp16"]
            out[f"{name}: share of the floor"] = [
                work / rate / value for rate, value in zip(rates, values, strict=True)
            ]
            out[f"{name}: times faster than seed"] = [
                theirs / mine for mine, theirs in zip(values, seed, strict=True)
            ]
    return out


def peaks(ways: dict[str, Callable[[int], None]], device: torch.device) -> Figures:
    """The most memory of the card that a step of each way adds to all models' weights, GB."""
    if device.type != "cuda":
        return {}
    out: Figures = {}
    for name, way in ways.items():
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        way(0)
        torch.cuda.synchronize()
        out[f"{name}: step's memory, GB"] = (torch.cuda.max_memory_allocated() - before) / 1e9
    return out


def loading(products: int, pairs: int, device: torch.device, rounds: int) -> Figures:
    """Random batches from a memory-mapped file, one thread, warm; and sending them to the card from pinned memory."""
    rng = np.random.default_rng(0)
    counts = photo_lengths(products, rng)
    ends = np.concatenate([[0], np.cumsum(counts)])
    with tempfile.TemporaryDirectory(prefix="shopwindow-") as folder:
        path = Path(folder) / "regions.f16"
        some = rng.standard_normal((1024, FEATURES)).astype(np.float16)
        with path.open("wb") as file:
            for start in range(0, int(ends[-1]), len(some)):
                file.write(some[: int(ends[-1]) - start].tobytes())
        values = np.asarray(np.memmap(path, np.float16, "r")).reshape(-1, FEATURES)
        reading, sending = [], []
        for _ in range(rounds):
            began, done = time.perf_counter(), 0
            while time.perf_counter() - began < 2 or not done:
                rows = rng.integers(0, products, pairs)
                batch = np.concatenate([values[ends[row] : ends[row + 1]] for row in rows.tolist()])
                done += pairs
            reading.append(done / (time.perf_counter() - began))
            host = torch.from_numpy(batch)
            if device.type == "cuda":
                host = host.pin_memory()
                send = functools.partial(host.to, device, non_blocking=True)
                sending.append(pairs / timed(send, device="cuda"))
    out: Figures = {"reading: pairs/s": reading}
    if sending:
        out["sending to the card: pairs/s"] = sending
    return out


if __name__ == "__main__":
    main()
