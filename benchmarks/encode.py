"""How fast do photos and words become vectors, and how many pools a second does `rank` answer?

Photos: the tower of 768, 4 layers, packed as the project encodes, against the same weights padded to 40 regions. Words
of one query: PyTorch, ONNX and ONNX int8 in turn, one thread, beside the time in which the tower's float32 weights are
read from memory. `rank`: pools of 30 products, plain and smoothed, and its share of encoding alone. The weights are of
no worth; time does not depend on them.
"""

from __future__ import annotations

import argparse
import functools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from made import FEATURES, MOST_REGIONS, photo_lengths, some_words, train_bundle, write_dataset
from record import Figures, counted_threads, record, run_verb
from rivals import PaddedPair, padded, timed
from shopwindow.data.dataset import Dataset
from shopwindow.data.regions import Regions
from shopwindow.model.bundle import Bundle
from shopwindow.model.exported_text import ExportedText

TEXT_RECIPES: Final = ("small", "seed", "default", "late")
RANK_RECIPES: Final = ("default", "linear", "seed")
PARTS: Final = ("photos", "rank", "words")
QUERIES: Final = 60
POOL: Final = 30
PHOTOS_AT_ONCE: Final = 200


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=400)
    parser.add_argument("--pools", type=int, default=1_000, help="of the recipe seed a twentieth")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shopwindow-") as name, torch.inference_mode():
        folder = Path(name)
        if "photos" in options.parts:
            photos(options.products, options.rounds)
        if "rank" in options.parts:
            for recipe in RANK_RECIPES:
                rank(folder, recipe, options.pools // (20 if recipe == "seed" else 1), options.rounds)
        if "words" in options.parts:
            torch.set_num_threads(1)
            for recipe in TEXT_RECIPES:
                words(folder, recipe, options.rounds)


def photos(count: int, rounds: int) -> None:
    """Packed against padded; raises AssertionError where their vectors differ."""
    lengths = torch.from_numpy(photo_lengths(count, np.random.default_rng(0)))
    regions = torch.randn(int(lengths.sum()), FEATURES).half()
    torch.manual_seed(0)
    pair = PaddedPair().eval()
    ways: list[Callable[[Tensor, Tensor], Tensor]] = [
        lambda some, counts: pair.photo(Regions(some.float(), counts)),
        functools.partial(padded_photos, pair),
    ]
    order = torch.argsort(lengths, stable=True)  # similar lengths together, as `encode_products` has them
    parts = torch.split_with_sizes(regions, lengths.tolist())
    regions, lengths = torch.cat([parts[row] for row in order]), lengths[order]
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds):
        vectors = []
        for way, spent in zip(ways, seconds, strict=True):
            start = time.perf_counter()
            vectors.append(in_batches(way, regions, lengths))
            spent.append(time.perf_counter() - start)
        torch.testing.assert_close(vectors[0], vectors[1], atol=1e-4, rtol=0)
    figures: Figures = {
        "products/s": [count / one for one in seconds[0]],
        f"padded to {MOST_REGIONS}: products/s": [count / one for one in seconds[1]],
        "times faster": [slow / fast for fast, slow in zip(*seconds, strict=True)],
    }
    record(f"encoding: {count:,} products, photo tower of 768, 4 layers, CPU", figures)


def in_batches(way: Callable[[Tensor, Tensor], Tensor], regions: Tensor, lengths: Tensor) -> Tensor:
    """The vectors of all photos, some at once."""
    out, start = [], 0
    for some in torch.split(lengths, PHOTOS_AT_ONCE):
        out.append(way(regions[start : start + int(some.sum())], some))
        start += int(some.sum())
    return torch.cat(out)


def padded_photos(pair: PaddedPair, regions: Tensor, lengths: Tensor) -> Tensor:
    """The vectors of some photos, each padded to 40 regions."""
    rows, kept = padded(regions.float(), lengths, MOST_REGIONS)
    return pair.encoded(pair.photo, pair.photo.embeddings(pair.photo.projection(rows)), kept)


def rank(folder: Path, recipe: str, pools: int, rounds: int) -> None:
    """Pools a second of one recipe, and the shares of its parts."""
    data = folder / f"pools{pools}"
    if not data.exists():
        write_dataset(data, pools * POOL, rows_per_query=POOL)
    bundle, dataset = Bundle.load(train_bundle(folder, recipe)), Dataset(data)
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: bundle.rank(dataset),
        "smoothed": lambda: bundle.rank(dataset, smooth=(0.7, 0.2, 0.1)),
        "photos": lambda: bundle.encode_dataset(dataset),
        "words": lambda: bundle.encode_texts(dataset.query_texts),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(timed(way))
    figures: Figures = {
        "pools/s": [pools / took for took in seconds["plain"]],
        "pools/s, regions smoothed": [pools / took for took in seconds["smoothed"]],
        "load of the machine": os.getloadavg()[0],
    }
    for part in ("photos", "words"):
        shares = [took / whole for took, whole in zip(seconds[part], seconds["plain"], strict=True)]
        figures[f"share of encoding {part}"] = shares
    threads = counted_threads(torch.get_num_threads())
    record(f"rank: {pools:,} pools of {POOL}, recipe {recipe}, {threads}", figures)


def words(folder: Path, recipe: str, rounds: int) -> None:
    """Milliseconds of one query at a time by every runtime, and the error of their vectors."""
    path = train_bundle(folder, recipe)
    bundle = Bundle.load(path)
    rng = np.random.default_rng(0)
    texts = [some_words(rng) for _ in range(QUERIES)]
    wanted = bundle.encode_texts(texts)
    ways: dict[str, Callable[[list[str]], np.ndarray]] = {"PyTorch": bundle.encode_texts}
    figures: Figures = {"load of the machine": os.getloadavg()[0]}
    for way, more in (("ONNX", ()), ("ONNX int8", ("--int8",))):
        out = folder / f"{recipe} {way}"
        run_verb("export", "onnx", path, "--out", out, *more)
        ways[way] = ExportedText.load(out).encode_texts
        found = np.concatenate([ways[way]([text]) for text in texts])
        figures[f"{way}: largest 1 - cosine with PyTorch"] = float(cosine_errors(found, wanted).max())
    times: dict[str, list[list[float]]] = {way: [[] for _ in range(rounds)] for way in ways}
    for number in range(rounds):
        for text in texts:
            for way, encode in ways.items():
                times[way][number].append(1000 * timed(functools.partial(encode, [text])))
    for way, some in times.items():
        figures[f"{way}, ms: median"] = [float(np.median(one)) for one in some]
    for tower in bundle.model.text_towers:
        weights = [own for name, own in tower.named_parameters() if "embeddings." not in name]
        reading = 1000 * 4 * sum(own.numel() for own in weights) / bytes_per_second()
        figures["reading the weights, ms"] = reading
        for way, some in times.items():
            figures[f"{way}: times reading the weights"] = [float(np.median(one)) / reading for one in some]
    record(f"words of one query to its vector, recipe {recipe}, one thread", figures)


def cosine_errors(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """1 - cosine of each row with its other: half the squared distance of their unit vectors.

    This keeps errors far below the rounding of a cosine near 1.
    """
    one, other = (rows.astype(np.float64) for rows in (found, wanted))
    one /= np.linalg.norm(one, axis=1, keepdims=True)
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    errors: np.ndarray = np.square(one - other).sum(1) / 2
    return errors


def bytes_per_second() -> float:
    """The rate at which one thread reads an array of 256 MB, the best of five."""
    array = np.ones(2**26, np.float32)
    return array.nbytes / min(timed(array.max) for _ in range(5))


if __name__ == "__main__":
    main()
