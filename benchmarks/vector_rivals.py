"""What do other systems give on the vectors of `search.py`: build time, bytes, recall, one query, resident memory?

faiss is a development package; usearch and lancedb are skipped with a word where they are not installed.
"""

from __future__ import annotations

import importlib
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from record import Figures, record, resident_kilobytes

AT: Final = 10
WANTED: Final = 0.98
_EFFORTS: Final = (8, 16, 32, 64, 128, 256, 512)
_THREADS: Final = 2


def measure_rival(name: str, folder: Path, products: np.ndarray, queries: np.ndarray, rounds: int) -> None:
    """Builds one, finds the least effort of recall 0.98, or the most that is tried, and records."""
    try:
        importlib.import_module(name)
    except ImportError:
        print(f"skipped: {name} is not installed (pip install {name})")
        return
    exact = np.empty((len(queries), AT), np.int64)
    for row, query in enumerate(queries):
        scores = products @ query
        exact[row] = np.argpartition(-scores, AT)[:AT]
    figures: Figures = {"products": len(products)}
    build, ask = RIVALS[name]
    start = time.perf_counter()
    build(folder / name, products)
    figures["build: seconds"] = time.perf_counter() - start
    figures["bytes a product on disk"] = size_of(folder / name) / len(products)
    for effort in _EFFORTS:
        find = ask(folder / name, effort)
        found = [find(query) for query in queries]
        share = float(np.mean([np.isin(one, other).mean() for one, other in zip(exact, found, strict=True)]))
        if share >= WANTED:
            break
    times = [latencies(find, queries) for _ in range(rounds)]
    del find
    private, mapped = resident(ask_rival, name, folder, queries, effort)
    figures |= {
        "effort (cells, or width of the search)": effort,
        f"recall@{AT}": share,
        "one query, ms: median": [float(np.median(one)) for one in times],
        "one query, ms: 99th percentile": [float(np.percentile(one, 99)) for one in times],
        "resident after the queries: private MB": private,
        "resident after the queries: mapped MB": mapped,
    }
    if name == "faiss":
        flat = [float(np.median(exact_by_faiss(products, queries))) for _ in range(rounds)]
        figures["exact search, ms: median"] = flat
    threads = ", one thread" if name == "faiss" else ""
    record(f"search: {len(products):,} products by {name}{threads}", figures)


def latencies(ask: Callable[[np.ndarray], object], queries: np.ndarray) -> np.ndarray:
    """Milliseconds of each query, after a few to warm up."""
    times = []
    for query in [*queries[:5], *queries]:
        start = time.perf_counter()
        ask(query)
        times.append(1000 * (time.perf_counter() - start))
    return np.array(times[5:])


def resident(ask: Callable[..., object], *arguments: Any) -> tuple[float, float]:
    """Private and mapped MB that a fresh process holds after `ask`, beyond what it held before; of a library, its code
    too."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        private, mapped = pool.apply(_held, (ask, arguments))
    return private, mapped


def _held(ask: Callable[..., object], arguments: tuple[Any, ...]) -> tuple[float, float]:
    kinds = ("RssAnon", "RssFile")
    before = [resident_kilobytes(kind) for kind in kinds]
    kept = ask(*arguments)
    after = [resident_kilobytes(kind) for kind in kinds]
    assert kept is not None
    return (after[0] - before[0]) / 1000, (after[1] - before[1]) / 1000


def ask_rival(name: str, folder: Path, queries: np.ndarray, effort: int) -> object:
    """Opens one and asks all queries."""
    find = RIVALS[name][1](folder / name, effort)
    return find, [find(query) for query in queries]


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())


def build_faiss(path: Path, products: np.ndarray) -> None:
    """As many cells as ours, one thread."""
    import faiss

    faiss.omp_set_num_threads(1)
    cells = round(4 * len(products) ** 0.5)
    index = faiss.index_factory(products.shape[1], f"IVF{cells},Flat", faiss.METRIC_INNER_PRODUCT)
    cells_of: Any = index  # the general class has not the attributes of cells
    cells_of.cp.max_points_per_centroid = 39
    index.train(products)
    index.add(products)
    faiss.write_index(index, str(path))


def exact_by_faiss(products: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Milliseconds of its exact search, one thread."""
    import faiss

    faiss.omp_set_num_threads(1)
    flat = faiss.IndexFlatIP(products.shape[1])
    flat.add(products)
    return latencies(lambda query: flat.search(query[None], AT), queries[:30])


def ask_faiss(path: Path, effort: int) -> Callable[[np.ndarray], np.ndarray]:
    """Its search in `effort` cells, one thread."""
    import faiss

    faiss.omp_set_num_threads(1)
    index: Any = faiss.read_index(str(path))
    index.nprobe = effort

    def find(query: np.ndarray) -> np.ndarray:
        found: np.ndarray = index.search(query[None], AT)[1][0]
        return found

    return find


def build_usearch(path: Path, products: np.ndarray) -> None:
    """A graph over bytes, on two threads: its lightest form, as a build takes minutes."""
    from usearch.index import Index

    index = Index(
        ndim=products.shape[1],
        metric="ip",
        dtype="i8",
        connectivity=16,
        expansion_add=64,
        expansion_search=64,
    )
    index.add(np.arange(len(products)), products, threads=_THREADS)
    index.save(str(path))


def ask_usearch(path: Path, effort: int) -> Callable[[np.ndarray], np.ndarray]:
    """Its search in the mapped file, one thread."""
    from usearch.index import Index

    index: Any = Index.restore(str(path), view=True)
    index.expansion_search = effort

    def find(query: np.ndarray) -> np.ndarray:
        found: np.ndarray = index.search(query, AT, threads=1).keys.astype(np.int64)
        return found

    return find


def build_lancedb(path: Path, products: np.ndarray) -> None:
    """IVF_RQ, a bit a value, on all threads."""
    import lancedb
    import pyarrow as pa
    from lancedb.index import IvfRq

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(products.reshape(-1)), products.shape[1])
    rows = pa.table({"product_id": np.arange(len(products)), "vector": vectors})
    table = lancedb.connect(path).create_table("products", rows)
    table.create_index("vector", config=IvfRq(distance_type="dot"))


def ask_lancedb(path: Path, effort: int) -> Callable[[np.ndarray], np.ndarray]:
    """Its search in `effort` parts, the first 100 scored anew by the whole vectors; as many threads as it takes."""
    import lancedb

    table: Any = lancedb.connect(path).open_table("products")

    def find(query: np.ndarray) -> np.ndarray:
        asked = table.search(query).distance_type("dot").nprobes(effort).refine_factor(10)
        found: np.ndarray = (
            asked.select(["product_id", "_distance"]).limit(AT).to_arrow()["product_id"].to_numpy()
        )
        return found

    return find


RIVALS: Final[
    dict[
        str,
        tuple[Callable[[Path, np.ndarray], None], Callable[[Path, int], Callable[[np.ndarray], np.ndarray]]],
    ]
] = {
    "faiss": (build_faiss, ask_faiss),
    "usearch": (build_usearch, ask_usearch),
    "lancedb": (build_lancedb, ask_lancedb),
}
