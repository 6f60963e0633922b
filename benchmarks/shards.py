"""What does a shard cost, and what the merge that follows? Processor time, so that a busy machine says the same.

Rows of 76 KB are read into a shard and joined, against `prepare` in one process. Then rows with few features, five of
each product: the merge's own work a line. Then products are encoded in shards, joined, and put into an index with
cells. Last, photos that cost next to nothing to encode: the merge's own work a photo. One thread each.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from PIL import Image

from made import train_bundle, write_rows
from record import Figures, record
from shopwindow.data.line_shards import LineWork
from shopwindow.data.prepare import prepare
from shopwindow.search.building import build_index
from shopwindow.search.product_shards import ProductWork
from shopwindow.shards import Shard, Work, cut, finished, here, map_shards
from shopwindow.vision.extract import extract
from shopwindow.vision.photo_shards import PhotoWork, features_of

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
        figures["shards"].append(rate(total, do_all, work, cut(work, out, 1)))
        figures["merge"].append(rate(total, prepare, [path], out, shards=finished(work, out)))
        figures["prepare"].append(rate(total, prepare, [path], folder / f"{features}-one"))
    return {f"{name}: lines a processor second": values for name, values in figures.items()}


def of_products(folder: Path, products: int) -> Figures:
    """Products a processor second: encoded in shards, joined, and made an index of, with cells."""
    path, dataset = folder / "products.tsv", folder / "dataset"
    write_rows(path, products, features=128, regions=2)
    prepare([path], dataset)
    bundle = train_bundle(folder, "bow", features=128)
    figures: dict[str, list[float]] = {"encode": [], "join": [], "index": []}
    for number in range(ROUNDS):
        out, work = folder / f"index-{number}", ProductWork(str(bundle), str(dataset), threads=1)
        figures["encode"].append(rate(products, do_all, work, cut(work, out, 4)))
        figures["join"].append(rate(products, work.join, finished(work, out), out))
        figures["index"].append(rate(products, build_index, bundle, dataset, out, approximate_from=1))
    return {f"{name}: products a processor second": values for name, values in figures.items()}


def of_photos(folder: Path, photos: int) -> Figures:
    """Photos of 16 x 16 px a processor second: through `plain` in shards, and joined."""
    (folder / "photos").mkdir()
    for number in range(photos):
        colour = number % 256, number // 256 % 256, number // 65_536
        Image.new("RGB", (16, 16), colour).save(folder / "photos" / f"{number}.png")
    work = PhotoWork(str(folder / "photos"), backbone="plain", threads=1)
    figures: dict[str, list[float]] = {"shards": [], "merge": []}
    for number in range(ROUNDS):
        out = folder / f"features-{number}"
        figures["shards"].append(rate(photos, do_all, work, cut(work, out, 4)))
        shards = [features_of(path) for path in finished(work, out)]
        backbone = work.encoders()[0]
        figures["merge"].append(
            rate(photos, extract, work.shop().products, out, backbone=backbone, shards=shards)
        )
    return {f"{name}: photos a processor second": values for name, values in figures.items()}


def main() -> None:
    """Measures, and records one line a question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rows", type=int, default=3500, help="rows of 76 KB: by default a shard of the usual size"
    )
    parser.add_argument("--pairs", type=int, default=100_000, help="rows of few features, five times each")
    parser.add_argument("--products", type=int, default=20_000)
    parser.add_argument("--photos", type=int, default=1000)
    sizes = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if sizes.rows:
            record(
                f"shards: {sizes.rows:,} rows of 76 KB, one shard", of_lines(folder, sizes.rows, 2048, 1, 1)
            )
        if sizes.pairs:
            record(
                f"shards: {sizes.pairs:,} rows of 8 features a region, each five times, one shard",
                of_lines(folder, sizes.pairs // 5, 8, 3, 5),
            )
        if sizes.products:
            record(
                f"shards: {sizes.products:,} products of 128 features, recipe bow",
                of_products(folder, sizes.products),
            )
        if sizes.photos:
            record(f"shards: {sizes.photos:,} photos of 16 x 16 px, plain", of_photos(folder, sizes.photos))


if __name__ == "__main__":
    main()
