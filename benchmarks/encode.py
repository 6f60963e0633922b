"""How fast do products and one query become vectors, against padding and the floor?

Products: the photo tower of 768, 4 layers, packed and sorted by length in batches of 8,192 regions, against the same
weights padded to 40 regions. One query: the text tower, eval, one thread; its floor is the larger of its
operations over the rate of a matrix product and its weights over the rate at which memory is read.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lengths import photo_lengths
from record import Figures, record
from rivals import FEATURES, SEED, VOCABULARY, PaddedPair, matmul_rate, padded, timed
from shopwindow.model.packing import places_of
from shopwindow.model.towers import EncoderSize, PhotoTower, TextTower

SMALL: Final = EncoderSize(hidden=256, layers=2, heads=4, inner=512)
WORDS: Final = (4, 6, 9)
REGIONS_AT_ONCE: Final = 8192
PADDED_AT_ONCE: Final = 200


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=60, help="a round, of each length")
    options = parser.parse_args()
    with torch.inference_mode():
        products(options.products, options.rounds)
        torch.set_num_threads(1)
        for name, size in (("768 wide, 4 layers", SEED), ("256 wide, 2 layers", SMALL)):
            one_query(name, size, options.rounds, options.queries)


def products(count: int, rounds: int) -> None:
    """Packed and sorted against padded; both must give the same vectors."""
    rng = np.random.default_rng(0)
    lengths = torch.from_numpy(photo_lengths(count, rng))
    regions = torch.randn(int(lengths.sum()), FEATURES).half()
    pair = PaddedPair().eval()
    packed_seconds, padded_seconds, difference = [], [], 0.0
    for _ in range(rounds):
        results: list[Tensor] = []
        packed_seconds.append(
            timed(functools.partial(collect, results, packed, pair.photo, regions, lengths))
        )
        padded_seconds.append(timed(functools.partial(collect, results, all_padded, pair, regions, lengths)))
        difference = float((results[0] - results[1]).abs().max())
    if difference > 1e-4:
        raise AssertionError(f"packed and padded differ by {difference}")
    figures: Figures = {
        "products/s": [count / seconds for seconds in packed_seconds],
        "padded to 40: products/s": [count / seconds for seconds in padded_seconds],
        "times faster": [slow / fast for fast, slow in zip(packed_seconds, padded_seconds, strict=True)],
        "largest difference": difference,
    }
    record(f"encoding: {count:,} products, photo tower of 768, 4 layers, CPU", figures)


def collect(out: list[Tensor], work: Callable[..., Tensor], *given: object) -> None:
    """Keeps what some work gives."""
    out.append(work(*given))


def packed(tower: PhotoTower, regions: Tensor, lengths: Tensor) -> Tensor:
    """As `encode_products` does it: similar lengths together."""
    order = torch.argsort(lengths, stable=True)
    out = torch.empty(len(lengths), tower.size.hidden)
    batch = lengths[order].cumsum(0) // REGIONS_AT_ONCE
    for rows in torch.split(order, torch.unique_consecutive(batch, return_counts=True)[1].tolist()):
        out[rows] = tower(regions[places_of(lengths, rows)].float(), lengths[rows])
    return out


def all_padded(pair: PaddedPair, regions: Tensor, lengths: Tensor) -> Tensor:
    """Every photo padded to 40, in batches as they come."""
    out, start = [], 0
    for some in torch.split(lengths, PADDED_AT_ONCE):
        rows, kept = padded(regions[start : start + int(some.sum())].float(), some, 40)
        start += int(some.sum())
        out.append(pair._encoded(pair.photo, pair.photo.embeddings(pair.photo.projection(rows)), kept))
    return torch.cat(out)


def one_query(name: str, size: EncoderSize, rounds: int, queries: int) -> None:
    """Milliseconds of one query at a time, and the floor of the middle length."""
    tower = TextTower(size, vocabulary=VOCABULARY, longest=32).eval()
    layers = [own for key, own in tower.named_parameters() if "embeddings." not in key]
    weights = sum(own.numel() for own in layers)
    figures: Figures = {}
    medians: dict[int, list[float]] = {length: [] for length in WORDS}
    floors: list[float] = []
    for _ in range(rounds):
        for length in WORDS:
            tokens = torch.randint(5, VOCABULARY, (length,))
            lengths = torch.tensor([length])
            spent = [timed(functools.partial(tower, tokens, lengths)) for _ in range(queries)]
            medians[length].append(1000 * statistics.median(spent))
        bytes_a_second = memory_rate()
        operations = 2.0 * weights * WORDS[1]
        floors.append(1000 * max(4 * weights / bytes_a_second, operations / matmul_rate(2048)))
    for length in WORDS:
        figures[f"{length} tokens: milliseconds"] = medians[length]
    figures["floor at 6 tokens: milliseconds"] = floors
    figures["6 tokens: times the floor"] = [
        own / floor for own, floor in zip(medians[WORDS[1]], floors, strict=True)
    ]
    record(f"encoding: one query, text tower, {name}, one thread", figures)


def memory_rate() -> float:
    """Bytes a second at which one thread reads memory: the sum of 200 MB."""
    values = torch.ones(50_000_000)
    start = time.perf_counter()
    values.sum()
    first = time.perf_counter() - start
    return 4 * len(values) / min(first, *(timed(values.sum) for _ in range(3)))


if __name__ == "__main__":
    main()
