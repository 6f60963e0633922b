"""What does a batch of many thousand pairs cost in memory and time, chunk by chunk and all at once?

Towers of 256 and 2 + 2 layers, softmax loss, dropout 0.1, CPU, one process for each; `--full` takes the seed's size
(768, 4 + 4 layers), up to an hour on shared cores; `--narrow` towers of 64 and up to 65,536 pairs, ten minutes of a
core. Memory is private memory beyond that after the batch was made: the batch is told apart, and so are the vectors
of all pairs and their gradients, four tensors. All at once is only run where it is expected to fit.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import torch

from record import Figures, private_peak, record
from rivals import FEATURES, SEED, VOCABULARY, Batch, timed
from shopwindow.data.regions import Regions
from shopwindow.model.blockwise import blockwise_loss
from shopwindow.model.encoder import PartsEncoder
from shopwindow.model.negatives import Cells, choose_cells
from shopwindow.model.pairs import Pairs, encode_pairs
from shopwindow.model.recipe import Recipe
from shopwindow.model.steps import batch_loss
from shopwindow.model.towers import EncoderSize, PhotoTower, TextTower

NARROW: Final = EncoderSize(hidden=64, layers=2, heads=4, inner=256)
SMALL: Final = EncoderSize(hidden=256, layers=2, heads=4, inner=1024)
CHUNK: Final = 512
SIZES: Final = (512, 2048, 16_384)
NARROW_SIZES: Final = (512, 2048, 8192, 65_536)
DRAWN_AT_ONCE: Final = 2048
MOST_AT_ONCE: Final = 2048


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    width = parser.add_mutually_exclusive_group()
    width.add_argument("--full", action="store_true")
    width.add_argument("--narrow", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--once", type=int, nargs=2, help="pairs and chunk, for a process of its own")
    options = parser.parse_args()
    size = SEED if options.full else NARROW if options.narrow else SMALL
    if options.once:
        print(json.dumps(step(options.once[0], options.once[1], size)))
        return
    out: Figures = {}
    sizes = options.sizes or (NARROW_SIZES if options.narrow else SIZES)
    for pairs in sizes:
        for chunk in (CHUNK, 0) if pairs <= MOST_AT_ONCE else (CHUNK,):
            command = [sys.executable, str(Path(__file__).resolve()), "--once", str(pairs), str(chunk)]
            command += [option for option in ("--full", "--narrow") if getattr(options, option[2:])]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            name = f"{pairs:,} pairs, {f'chunks of {chunk}' if chunk else 'all at once'}"
            for figure, value in json.loads(done.stdout).items():
                out[f"{name}: {figure}"] = value
    towers = f"{size.hidden} wide, {size.layers} + {size.layers} layers"
    several = ", ".join(f"{pairs:,}" for pairs in sizes)
    record(f"large batches: forward and backward of {several} pairs, {towers}, CPU", out)


def drawn(pairs: int) -> Batch:
    """A batch made part by part, so that what is freed on the way is little."""
    starts = range(0, pairs, DRAWN_AT_ONCE)
    parts = [Batch.drawn(min(DRAWN_AT_ONCE, pairs - start), seed=start) for start in starts]
    return Batch(
        *(
            torch.cat([getattr(part, name) for part in parts])
            for name in ("tokens", "token_lengths", "regions", "region_lengths")
        )
    )


def step(pairs: int, chunk: int, size: EncoderSize) -> dict[str, float]:
    """One forward and backward pass."""
    torch.manual_seed(0)
    recipe = Recipe(loss="softmax", masking="same", normalise=True, chunk=chunk, scale=10.0)
    text = TextTower(size, vocabulary=VOCABULARY, longest=32)
    model = PartsEncoder(text, PhotoTower(size, feature_size=FEATURES), normalise=True, scale=10.0).train()
    batch, numbers = drawn(pairs), torch.arange(pairs)
    given = Pairs(
        batch.tokens, batch.token_lengths, Regions(batch.regions, batch.region_lengths), numbers, numbers
    )

    def cells_of(rows: slice, columns: slice) -> Cells:
        return choose_cells(numbers, numbers, masking="same", rows=rows, columns=columns)

    def work() -> None:
        words, photos = encode_pairs(model, given, seed=0, chunk=chunk)
        if chunk:
            loss = blockwise_loss(model, recipe, words, photos, cells_of)
        else:
            loss = batch_loss(model, recipe, words, photos, cells_of(slice(None), slice(None)))
        torch.autograd.backward(loss)

    ctypes.CDLL(None).malloc_trim(0)  # else memory that was freed, and kept, would hold what the step takes
    with private_peak() as peak:
        seconds = timed(work)
    return {
        "pairs/s": pairs / seconds,
        "private memory of the step, MB": peak[0],
        "batch, MB": sum(tensor.nbytes for tensor in vars(batch).values()) / 1e6,
        "vectors and their gradients, MB": 4 * pairs * size.hidden * 4 / 1e6,
    }


if __name__ == "__main__":
    main()
