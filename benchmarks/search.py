"""How fast is one query among a million products, how much is found, and what do bytes and libraries change?

Vectors are generated: 2,000 clusters in 24 directions of 256, with noise. Queries are noisy products. One thread. The
cells are made once, for all codings. Beside ours: faiss, usearch and lancedb, where installed (`vector_rivals.py`);
usearch only when named, as its graph takes minutes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from record import Figures, record
from shopwindow.model.encoder import PartsEncoder, encode_texts
from shopwindow.model.tokens import train_tokenizer
from shopwindow.model.towers import EncoderSize, PhotoTower, TextTower
from shopwindow.search.cells import Cells, cell_count, part_into_cells
from shopwindow.search.golden import AT, Golden, ask_exactly, recall
from shopwindow.search.index import Manifest, OpenIndex, OpenPart
from shopwindow.search.lookup import find, find_exactly
from shopwindow.search.segment import Columns, Segment, write_segment
from shopwindow.search.vectors import Coding
from vector_rivals import RIVALS, latencies, measure_rival, resident

HIDDEN = 256
QUERIES = 200
CODINGS = {
    "float32": Coding(),
    "int8, re-scored by float32": Coding("int8"),
    "int8 alone": Coding("int8", rescore="none"),
    "binary, re-scored by int8": Coding("binary", rescore="int8"),
    "128 of 256 values, re-scored by float32": Coding(dimensions=128),
}
PROBES = (4, 8, 16, 32, 64, 128, 256)
PARTS = ("ours", *RIVALS)


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=[one for one in PARTS if one != "usearch"]
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    products, queries = clustered(options.products)
    with tempfile.TemporaryDirectory(prefix="shopwindow-") as name:
        for part in options.parts:
            if part == "ours":
                measure_ours(Path(name), products, queries, options.rounds)
            else:
                measure_rival(part, Path(name), products, queries, options.rounds)


def clustered(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Products of length 1 in clusters, and queries near some of them."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((2000, 24), np.float32)
    basis = rng.standard_normal((24, HIDDEN), np.float32) / 5
    products = np.empty((count, HIDDEN), np.float32)
    for start in range(0, count, 65_536):
        part = products[start : start + 65_536]
        inner = centres[rng.integers(0, 2000, len(part))] + 0.5 * rng.standard_normal(
            (len(part), 24), np.float32
        )
        part[:] = inner @ basis + 0.15 * rng.standard_normal(part.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    noise = rng.standard_normal((QUERIES, HIDDEN), np.float32) * 0.02
    queries = products[rng.integers(0, count, QUERIES)] + noise
    return products, queries / np.linalg.norm(queries, axis=1, keepdims=True)


def small_tower(hidden: int, layers: int) -> Callable[[str], np.ndarray]:
    """Encodes one query by a model of random weights."""
    size = EncoderSize(hidden=hidden, layers=layers, heads=hidden // 64, inner=2 * hidden, dropout=0.0)
    if hidden == 768:
        size = EncoderSize()
    tokenizer = train_tokenizer(["red summer dress with long sleeves"], vocabulary=200)
    text = TextTower(size, vocabulary=tokenizer.get_vocab_size(), longest=32)
    model = PartsEncoder(
        text, PhotoTower(EncoderSize(hidden, 1, size.heads, 64), feature_size=8), normalise=True
    )
    return lambda words: encode_texts(model.eval(), tokenizer, [words])


def measure_ours(folder: Path, products: np.ndarray, queries: np.ndarray, rounds: int) -> None:
    """Every coding, with cells; exact search; one query end to end."""
    count = len(products)
    columns = Columns(
        ids=np.arange(count),
        sizes=np.full((count, 2), 400, np.int32),
        region_bounds=np.arange(count + 1),
        boxes=np.zeros((count, 4), np.float32),
        labels=(np.arange(count) % 33).astype(np.int32),
        source=np.zeros(count, np.int32),
        dataset_row=np.arange(count),
    )
    start = time.perf_counter()
    parted = part_into_cells(products, cells=cell_count(count), rng=np.random.default_rng(0))
    seconds = time.perf_counter() - start
    for name, coding in CODINGS.items():
        with tempfile.TemporaryDirectory(dir=folder) as where:
            measure_coding(name, coding, Path(where), (products, columns, queries), (parted, seconds), rounds)


def measure_coding(
    name: str,
    coding: Coding,
    where: Path,
    data: tuple[np.ndarray, Columns, np.ndarray],
    parted: tuple[tuple[Cells, np.ndarray], float],
    rounds: int,
) -> None:
    """One coding of products, and what it gives the queries."""
    products, columns, queries = data
    start = time.perf_counter()
    rng = np.random.default_rng(0)
    write_segment(
        where, products, columns, coding=coding, unit=True, approximate=True, rng=rng, parted=parted[0]
    )
    seconds = parted[1] + time.perf_counter() - start
    index = opened(where, coding)
    texts = [str(row) for row in range(QUERIES)]
    golden = ask_exactly(index, texts, queries, products)
    probes, found = enough_probes(index, golden)
    times = [latencies(lambda query: find(index, query, AT, probes=probes), queries) for _ in range(rounds)]
    private, mapped = resident(ask_ours, where, queries, coding, probes)
    figures: Figures = {
        "products": len(products),
        "build: seconds, cells among them": seconds,
        "seconds of the cells": parted[1],
        "bytes a product, scanned": coding.bytes_per_product(HIDDEN)[0],
        "bytes a product, for re-scoring": coding.bytes_per_product(HIDDEN)[1],
        "resident after the queries: private MB": private,
        "resident after the queries: mapped MB": mapped,
        "cells looked into": probes,
        f"recall@{AT}": found,
        "one query, ms: median": [float(np.median(one)) for one in times],
        "one query, ms: 99th percentile": [float(np.percentile(one, 99)) for one in times],
    }
    if coding == Coding():
        exact = [
            latencies(lambda query: next(find_exactly(index, query[None], AT)), queries[:30])
            for _ in range(rounds)
        ]
        figures["exact search, ms: median"] = [float(np.median(one)) for one in exact]
        towers = {
            "small (2 layers of 256)": small_tower(256, 2),
            "seed (4 layers of 768)": small_tower(768, 4),
        }
        for tower, encode in towers.items():
            whole = [latencies_with(encode, index, queries, probes) for _ in range(rounds)]
            figures[f"words to hits, {tower}, ms: median"] = [float(np.median(one)) for one in whole]
            figures[f"words to hits, {tower}, ms: 99th percentile"] = [
                float(np.percentile(one, 99)) for one in whole
            ]
    record(f"search: {len(products):,} products, {name}, one thread", figures)


def opened(where: Path, coding: Coding) -> OpenIndex:
    """A segment as an index of nothing else."""
    manifest = Manifest("generated", HIDDEN, True, coding, 0)
    return OpenIndex(where, manifest, (OpenPart(Segment.open(where), None, None),))


def ask_ours(where: Path, queries: np.ndarray, coding: Coding, probes: int) -> object:
    """Opens a segment and asks all queries."""
    index = opened(where, coding)
    return index, [find(index, query, AT, probes=probes) for query in queries]


def enough_probes(index: OpenIndex, golden: Golden) -> tuple[int, float]:
    """The fewest cells with recall of 0.98, or with which more do not help, and the recall."""
    reachable = recall(index, golden, probes=PROBES[-1])
    for probes in PROBES:
        found = recall(index, golden, probes=probes)
        if found >= min(0.98, reachable - 0.002):
            break
    return probes, found


def latencies_with(
    encode: Callable[[str], np.ndarray], index: OpenIndex, queries: np.ndarray, probes: int
) -> np.ndarray:
    """The same with the words encoded first; the vector searched for is a generated one, which lies near products."""

    def ask(query: np.ndarray) -> None:
        encode("red summer dress")
        find(index, query, AT, probes=probes)

    return latencies(ask, queries)


if __name__ == "__main__":
    main()
