"""What does a training step cost at full size, against padding, `transformers`, and the floor?

768 wide, 4 + 4 layers, 512 pairs of lengths like the competition's, dropout 0.1, float32: forward, loss, backward,
Adam. Each method has a process of its own in each round, in turn. The packed floor counts every token in every layer,
by formula, over the best rate of a matrix product in any process of the round. The strict floor counts only what ours
computes, which leaves out most of the last layer. Ours is warmed up by a step, the padded methods by a small batch.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Final

import torch
from torch import nn

from record import Figures, counted_threads, record
from rivals import (
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

WAYS: Final[dict[str, type[nn.Module]]] = {
    "ours": PackedPair,
    "seed, padded": PaddedPair,
    "transformers": TransformersPair,
}
PACKED_SHARE: Final = (
    "share of the packed floor: every token through every layer, over the best product's rate"
)
FLOOR_SHARE: Final = "share of the floor: operations over the best product's rate"


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="of ours, a round; the others take one")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--once", choices=list(WAYS), help="for the process of one way")
    options = parser.parse_args()
    if options.once:
        print(json.dumps(measure(options.once, options.pairs, options.steps)))
        return
    check_alike()
    found: dict[str, list[dict[str, float]]] = {way: [] for way in options.ways}
    for _ in range(options.rounds):
        for way in options.ways:
            steps = options.steps if way == "ours" else 1
            found[way].append(in_a_process(way, options.pairs, steps))
    threads = counted_threads(torch.get_num_threads())
    alone = ", ours alone" if list(found) == ["ours"] else ""
    record(
        f"training step: 768 wide, 4 + 4 layers, {options.pairs} pairs, CPU, {threads}{alone}",
        figures(found, options.pairs),
    )


def in_a_process(way: str, pairs: int, steps: int) -> dict[str, float]:
    """The figures of one way in a process of its own, so that its memory is its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--once", way]
    command += ["--pairs", str(pairs), "--steps", str(steps)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    values: dict[str, float] = json.loads(done.stdout)
    return values


def measure(way: str, pairs: int, steps: int) -> dict[str, float]:
    """Seconds a step, the peak of resident memory in GB, the rate of a matrix product around the steps."""
    load = os.getloadavg()[0]
    torch.manual_seed(0)
    batch = Batch.drawn(pairs)
    model = WAYS[way]()
    # Each as it is used: ours with the fused Adam that it trains with, the others with the optimiser's default.
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-5, eps=1e-8, fused=True if way == "ours" else None)

    def step(batch: Batch) -> None:
        text, photo = model(batch)
        loss = sigmoid_in_batch(text, photo)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    step(batch if way == "ours" else Batch.drawn(8))
    packed_rows = int(batch.token_lengths.sum())
    rates = [matmul_rate(packed_rows)]
    seconds = []
    for _ in range(steps):
        seconds.append(timed(lambda: step(batch)))
        rates.append(matmul_rate(packed_rows))
    return {
        "seconds": statistics.median(seconds),
        "GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "load": load,
        "rate": max(rates),
    }


def figures(found: dict[str, list[dict[str, float]]], pairs: int) -> Figures:
    """What is recorded: speeds, ratios of the same round, memory, shares of the floor."""
    batch = Batch.drawn(pairs)
    ours = found["ours"]
    rates = [max(values["rate"] for values in round_) for round_ in zip(*found.values(), strict=True)]
    floors = [operations(batch) / rate for rate in rates]
    out: Figures = {
        "pairs/s": [pairs / values["seconds"] for values in ours],
        "seconds a step": [values["seconds"] for values in ours],
        "peak, GB": [values["GB"] for values in ours],
        "load of the machine before": [values["load"] for values in ours],
        "threads": float(torch.get_num_threads()),
        "matrix product, GFLOP/s": [rate / 1e9 for rate in rates],
        "operations a step, TFLOP": operations(batch) / 1e12,
        "floor: seconds a step": floors,
        PACKED_SHARE: [
            operations(batch, whole_last_layer=True) / rate / values["seconds"]
            for rate, values in zip(rates, ours, strict=True)
        ],
        FLOOR_SHARE: [floor / values["seconds"] for floor, values in zip(floors, ours, strict=True)],
    }
    for way in found:
        if way == "ours":
            continue
        theirs = found[way]
        out[f"{way}: pairs/s"] = [pairs / values["seconds"] for values in theirs]
        out[f"{way}: peak, GB"] = [values["GB"] for values in theirs]
        out[f"times faster than {way}"] = [
            other["seconds"] / mine["seconds"] for mine, other in zip(ours, theirs, strict=True)
        ]
    return out


if __name__ == "__main__":
    main()
