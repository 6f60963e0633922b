"""What does a filter cost among many products: its mask when it is first asked, and a search when it is kept?

The generated vectors of `search.py`, float32, with cells; a column of prices and one of colours. Conditions that half,
a tenth, a fiftieth and a thousandth of the products pass; beside each the same search without a filter, in turns, and
the exact one. One thread.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import torch

from record import Figures, record
from search import clustered, enough_probes, opened
from shopwindow.search.attributes import Attributes
from shopwindow.search.conditions import parse_conditions
from shopwindow.search.golden import AT, ask_exactly
from shopwindow.search.hits import EVERYTHING, Filter
from shopwindow.search.index import OpenIndex
from shopwindow.search.lookup import find, find_exactly
from shopwindow.search.masks import passing
from shopwindow.search.segment import Columns, write_segment
from shopwindow.search.vectors import Coding
from vector_rivals import latencies

COLOURS = tuple(f"colour {one}" for one in range(10))
FILTERS = {
    "price<=50 (half)": ("price<=50",),
    "colour=colour 3 (a tenth)": ("colour=colour 3",),
    "price<=20 and colour (a fiftieth)": ("price<=20", "colour=colour 3"),
    "price<=0.1 (a thousandth)": ("price<=0.1",),
}
EXACT_QUERIES = 20


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    products, queries = clustered(options.products)
    with tempfile.TemporaryDirectory(prefix="shopwindow-") as name:
        write(Path(name), products)
        index = opened(Path(name), Coding())
        probes, found = enough_probes(index, ask_exactly(index, [""] * len(queries), queries))
        segment = index.parts[0].segment
        figures: Figures = {"products": len(products), "cells looked into": probes, f"recall@{AT}": found}
        for what, conditions in FILTERS.items():
            where = Filter(conditions=parse_conditions(conditions))
            masks: list[float] = []
            plain: list[float] = []
            filtered: list[float] = []
            exact: list[float] = []
            for _ in range(options.rounds):
                start = time.perf_counter()
                mask = passing(segment, where)
                masks.append(1000 * (time.perf_counter() - start))
                plain.append(median(index, queries, EVERYTHING, probes))
                filtered.append(median(index, queries, where, probes))
                exact.append(median(index, queries[:EXACT_QUERIES], where, None))
            some = queries[:EXACT_QUERIES]
            pairs = zip(some, find_exactly(index, some, AT, where=where), strict=True)
            shares = [
                np.isin(find(index, query, AT, where=where, probes=probes).ids, right.ids).sum()
                / len(right.ids)
                for query, right in pairs
            ]
            figures[f"{what}: products that pass"] = float(mask.sum())
            figures[f"{what}: the mask, ms"] = masks
            figures[f"{what}: a search, ms: median"] = filtered
            figures[f"{what}: without the filter, ms: median"] = plain
            figures[f"{what}: exactly, ms: median"] = exact
            figures[f"{what}: recall@{AT} of exact search"] = float(np.mean(shares))
        record(f"filters: conditions among {options.products:,} products, one thread", figures)


def median(index: OpenIndex, queries: np.ndarray, where: Filter, probes: int | None) -> float:
    """Milliseconds of one search; exact where no cells are said."""

    def ask(query: np.ndarray) -> object:
        if probes is None:
            return next(find_exactly(index, query[None], AT, where=where))
        return find(index, query, AT, where=where, probes=probes)

    return float(np.median(latencies(ask, queries)))


def write(folder: Path, products: np.ndarray) -> None:
    """A segment of the products, with a price between 0 and 100 and one of ten colours each."""
    count = len(products)
    rng = np.random.default_rng(1)
    columns = Columns(
        ids=np.arange(count),
        sizes=np.full((count, 2), 400, np.int32),
        region_bounds=np.arange(count + 1),
        boxes=np.zeros((count, 4), np.float32),
        labels=(np.arange(count) % 33).astype(np.int32),
        source=np.zeros(count, np.int32),
        dataset_row=np.arange(count),
    )
    colours = pa.DictionaryArray.from_arrays(
        pa.array(rng.integers(0, len(COLOURS), count), pa.int32()), pa.array(COLOURS)
    )
    values = {"price": pa.array(rng.uniform(0, 100, count)), "colour": colours}
    write_segment(
        folder,
        products,
        columns,
        coding=Coding(),
        unit=True,
        approximate=True,
        rng=np.random.default_rng(0),
        attributes=Attributes(values, count),
    )


if __name__ == "__main__":
    main()
