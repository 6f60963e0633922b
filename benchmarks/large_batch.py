"""What does a batch of many thousand pairs cost in memory and time, chunk by chunk and all at once?

Towers of 256 and 2 + 2 layers, softmax loss, dropout 0.1, CPU, one process for each; `--full` takes the seed's size
(768, 4 + 4 layers), up to an hour on shared cores. Memory is the peak of resident memory, that of the process and its
libraries in it. All at once is only run where it is expected to fit.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Final

import torch

from record import Figures, record
from rivals import FEATURES, SEED, VOCABULARY, Batch, timed
from shopwindow.model.blockwise import blockwise_loss
from shopwindow.model.dual import DualEncoder
from shopwindow.model.negatives import Cells, choose_cells
from shopwindow.model.pairs import Pairs, encode_pairs
from shopwindow.model.photos import Photos
from shopwindow.model.recipe import Recipe
from shopwindow.model.steps import batch_loss
from shopwindow.model.towers import EncoderSize, PhotoTower, TextTower

SMALL: Final = EncoderSize(hidden=256, layers=2, heads=4, inner=1024)
CHUNK: Final = 512
SIZES: Final = (512, 2048, 16_384)
MOST_AT_ONCE: Final = 2048


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--once", type=int, nargs=2, help="pairs and chunk, for a process of its own")
    options = parser.parse_args()
    if options.once:
        print(json.dumps(step(options.once[0], options.once[1], SEED if options.full else SMALL)))
        return
    out: Figures = {}
    for pairs in options.sizes:
        for chunk in (CHUNK, 0) if pairs <= MOST_AT_ONCE else (CHUNK,):
            command = [sys.executable, str(Path(__file__).resolve()), "--once", str(pairs), str(chunk)]
            command += ["--full"] if options.full else []
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            name = f"{pairs:,} pairs, {f'chunks of {chunk}' if chunk else 'all at once'}"
            for figure, value in json.loads(done.stdout).items():
                out[f"{name}: {figure}"] = value
    size = "768 wide, 4 + 4 layers" if options.full else "256 wide, 2 + 2 layers"
    record(f"large batches: forward and backward, {size}, CPU", out)


def step(pairs: int, chunk: int, size: EncoderSize) -> dict[str, float]:
    """One forward and backward pass."""
    torch.manual_seed(0)
    recipe = Recipe(loss="softmax", masking="same", normalise=True, chunk=chunk, scale=10.0)
    text = TextTower(size, vocabulary=VOCABULARY, longest=32)
    model = DualEncoder(text, PhotoTower(size, feature_size=FEATURES), normalise=True, scale=10.0).train()
    batch, numbers = Batch.drawn(pairs), torch.arange(pairs)
    given = Pairs(
        batch.tokens, batch.token_lengths, Photos(batch.regions, batch.region_lengths), numbers, numbers
    )

    def cells_of(rows: slice, columns: slice) -> Cells:
        return choose_cells(numbers, numbers, masking="same", rows=rows, columns=columns)

    def work() -> None:
        words, photos = encode_pairs(model, given, seed=0, chunk=chunk)
        if chunk:
            loss = blockwise_loss(model, recipe, words, photos, cells_of, rows_at_once=chunk)
        else:
            loss = batch_loss(model, recipe, words, photos, cells_of(slice(None), slice(None)))
        torch.autograd.backward(loss)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = timed(work)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "pairs/s": pairs / seconds,
        "peak, GB": peak * 1024 / 1e9,
        "of which the step, GB": (peak - before) * 1024 / 1e9,
    }


if __name__ == "__main__":
    main()
