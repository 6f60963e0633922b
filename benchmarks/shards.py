"""What does a shard cost, and what the merge that follows? Processor time, so that a busy machine says the same.

Rows of 76 KB are read into shards and joined, against `prepare` in one process. Then rows with few features, as many of
a product as pairs have in a shop: the merge's own work a line. Then products are encoded in shards, joined, and put
into an index with cells. One thread each.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from made import train_bundle, write_rows
from record import Figures, record
from shopwindow.data.line_shards import LineWork
from shopwindow.data.prepare import prepare
from shopwindow.search.building import build_index
from shopwindow.search.product_shards import ProductWork
from shopwindow.shards import Shard, Work, cut, finished, here, map_shards

ROUNDS: Final = 3


def rate(count: int, work: Callable[..., Any], *arguments: Any, **options: Any) -> float:
    """So many things a second of this process's processor time."""
    start = time.process_time()
    work(*arguments, **options)
    return count / (time.process_time() - start)


def do_all(work: Work, shards: list[Shard]) -> None:
    """One after the other, here."""
    map_shards(work, shards, over=here)


def of_lines(folder: Path, rows: int, features: int, rows_per_query: int, copies: int) -> Figures:
    """Lines a processor second: whole, in shards, merged. The file's rows stand in it `copies` times."""
    path = folder / f"{rows}-{features}.tsv"
    write_rows(
        path, rows, features=features, regions=7 if features > 100 else None, rows_per_query=rows_per_query
    )
    header, *lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([header, *lines * copies]))
    total = rows * copies
    figures: dict[str, list[float]] = {"prepare": [], "shards": [], "merge": []}
    for number in range(ROUNDS):
        out, work = folder / f"{features}-{number}", LineWork((str(path),), features)
        figures["shards"].append(rate(total, do_all, work, cut(work, out, 4)))
        figures["merge"].append(rate(total, prepare, [path], out, shards=finished(work, out)))
        figures["prepare"].append(rate(total, prepare, [path], folder / f"{features}-one"))
    return {f"{name}: lines a processor second": values for name, values in figures.items()}


def of_products(folder: Path, products: int) -> Figures:
    """Products a processor second: encoded in shards, joined, and made an index of, with cells."""
    path, dataset = folder / "products.tsv", folder / "dataset"
    write_rows(path, products, features=128, regions=2)
    prepare([path], dataset)
    bundle = train_bundle(folder, "shop", features=128)
    figures: dict[str, list[float]] = {"encode": [], "join": [], "index": []}
    for number in range(ROUNDS):
        out, work = folder / f"index-{number}", ProductWork(str(bundle), str(dataset), threads=1)
        figures["encode"].append(rate(products, do_all, work, cut(work, out, 4)))
        figures["join"].append(rate(products, work.join, finished(work, out), out))
        figures["index"].append(rate(products, build_index, bundle, dataset, out, approximate_from=1))
    return {f"{name}: products a processor second": values for name, values in figures.items()}


def main() -> None:
    """Measures, and records one line a question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4000, help="rows of 76 KB")
    parser.add_argument("--pairs", type=int, default=100_000, help="rows of few features, five times each")
    parser.add_argument("--products", type=int, default=20_000)
    sizes = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        record(f"shards: {sizes.rows:,} rows of 76 KB", of_lines(folder, sizes.rows, 2048, 1, 1))
        record(
            f"shards: {sizes.pairs:,} rows of 8 features a region, each five times",
            of_lines(folder, sizes.pairs // 5, 8, 3, 5),
        )
        record(
            f"shards: {sizes.products:,} products of 128 features, recipe shop",
            of_products(folder, sizes.products),
        )


if __name__ == "__main__":
    main()
