"""How long do the words of one query take to a vector: PyTorch, ONNX, ONNX int8, and the least that a machine needs?

One thread; the ways take turns, query by query. Weights are random (time does not depend on them). The floor is the
larger of: the bytes of the matrices over the bandwidth of reading an array larger than the caches, and their
operations over the rate of a large matrix product, both measured in the same run.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch

from large_index import make_bundle, some_words
from record import Figures, record
from shopwindow.export.onnx import export_text
from shopwindow.model.bundle import Bundle
from shopwindow.model.exported_text import ExportedText
from shopwindow.model.towers import TextTower

RECIPES: Final = ("small", "seed", "default", "late")
ROUNDS: Final = 3
QUERIES: Final = 60


def main() -> None:
    """Measures and records, one recipe after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        for recipe in options.recipes:
            measure(Path(name), recipe)


def measure(folder: Path, recipe: str) -> None:
    """The figures of one recipe."""
    bundle = Bundle.load(make_bundle(folder, recipe))
    rng = np.random.default_rng(0)
    texts = [some_words(rng) for _ in range(QUERIES)]
    wanted = bundle.encode_texts(texts)
    ways: dict[str, Callable[[list[str]], np.ndarray]] = {"PyTorch": bundle.encode_texts}
    figures: Figures = {}
    for way, int8 in (("ONNX", False), ("ONNX int8", True)):
        export_text(bundle, folder / way, int8=int8)
        ways[way] = ExportedText.load(folder / way).encode
        found = np.concatenate([ways[way]([text]) for text in texts])
        figures[f"{way}: largest 1 - cosine with PyTorch"] = float(cosine_errors(found, wanted).max())
        figures[f"{way}: MB"] = (folder / way / "text.onnx").stat().st_size / 1e6
    tokens = [len(bundle.tokenizer.encode(text).ids) for text in texts]
    floors = []
    for _ in range(ROUNDS):
        times: dict[str, list[float]] = {way: [] for way in ways}
        for text in texts:
            for way, encode in ways.items():
                start = time.perf_counter()
                encode([text])
                times[way].append(1000 * (time.perf_counter() - start))
        for way, some in times.items():
            value = figures.setdefault(f"{way}, ms: median", [])
            assert isinstance(value, list)
            value.append(float(np.median(some)))
        if bundle.model.text is not None:
            floors.append(floor_ms(bundle.model.text, float(np.median(tokens))))
    if floors:
        figures["floor, ms"] = floors
        for way in ways:
            measured = figures[f"{way}, ms: median"]
            assert isinstance(measured, list)
            figures[f"{way}: times the floor"] = [
                one / least for one, least in zip(measured, floors, strict=True)
            ]
    figures["load of the machine"] = os.getloadavg()[0]
    record(f"words of one query to its vector, recipe {recipe}, one thread", figures)


def cosine_errors(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """1 - cosine of each row with its other: half the square of the distance of their unit vectors, which keeps errors
    far below the rounding of a cosine near 1."""
    one, other = (rows.astype(np.float64) for rows in (found, wanted))
    one /= np.linalg.norm(one, axis=1, keepdims=True)
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    errors: np.ndarray = np.square(one - other).sum(1) / 2
    return errors


def floor_ms(tower: TextTower, tokens: float) -> float:
    """The least time for one query of so many tokens."""
    size = tower.size
    layer = 4 * size.hidden**2 + 2 * size.hidden * size.inner
    values = size.layers * layer + size.hidden**2
    # Of the last layer, keys and values are wanted for all tokens, the rest and the pooler for the first.
    all_tokens = (size.layers - 1) * layer + 2 * size.hidden**2
    products = all_tokens * tokens + values - all_tokens
    return 1000 * max(4 * values / bytes_per_second(), 2 * products / operations_per_second())


def bytes_per_second() -> float:
    """Of reading an array of 256 MB, the best of five."""
    array = np.ones(2**26, np.float32)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        array.max()
        seconds.append(time.perf_counter() - start)
    return array.nbytes / min(seconds)


def operations_per_second() -> float:
    """Of a matrix product of 1,024 by 1,024 by 1,024, float32, the best of five."""
    one = torch.ones(1024, 1024)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        one @ one
        seconds.append(time.perf_counter() - start)
    return 2 * 1024**3 / min(seconds)


if __name__ == "__main__":
    main()
