"""How fast is one query among a million products, how much is found, and what do filters and libraries change?

Vectors are generated, queries lie near products; one thread. Every system, ours and the rivals, is two functions:
build a file, and open it for a given effort (cells, or width of the search). The least effort with recall 0.98 is
measured. Filters: conditions that half to a thousandth of the products pass, beside exact search with the same
condition. Re-ranking: words to hits through an index of the recipe `late`, plain and re-ranked. faiss here keeps whole
vectors in its cells, ours byte codes. usearch and lancedb are skipped where they are not installed.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import torch

from made import clustered, some_words, train_bundle, write_dataset
from record import Figures, record, resident_kilobytes, run_verb
from shopwindow.search.attributes import Attributes
from shopwindow.search.conditions import parse_conditions
from shopwindow.search.engine import SearchEngine
from shopwindow.search.hits import EVERYTHING, Filter
from shopwindow.search.lookup import OpenPart, find_exactly, find_quickly
from shopwindow.search.segment import Columns, Segment, write_segment

HIDDEN: Final = 256
QUERIES: Final = 200
EXACT_QUERIES: Final = 30
AT: Final = 10
WANTED: Final = 0.98
EFFORTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
RERANKED: Final = 1_000
Ask = Callable[[np.ndarray], np.ndarray]
"""The ids of the best products of a query."""

FILTERS: Final = {
    "price<=50 (half)": ("price<=50",),
    "colour=colour 3 (a tenth)": ("colour=colour 3",),
    "price<=20 and colour (a fiftieth)": ("price<=20", "colour=colour 3"),
    "price<=0.1 (a thousandth)": ("price<=0.1",),
}
PARTS: Final = ("ours", "filters", "rerank", "faiss", "lancedb", "usearch")


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:-1], help="usearch takes minutes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="shopwindow-") as name:
        folder = Path(name)
        if "rerank" in options.parts:
            rerank(folder, options.rounds)
        products, queries = clustered(options.products, QUERIES, HIDDEN)
        for part in options.parts:
            if part == "filters":
                filters(folder / "filters", products, queries, options.rounds)
            elif part == "ours":
                measure(", one thread", folder / part, products, queries, options.rounds)
            elif part != "rerank" and installed(part):
                threads = ", one thread" if part == "faiss" else ""
                measure(f" by {part}{threads}", folder / part, products, queries, options.rounds)


def installed(package: str) -> bool:
    """Whether a rival can be imported; prints where not."""
    try:
        importlib.import_module(package)
    except ImportError:
        print(f"skipped: {package} is not installed (pip install {package})")
        return False
    return True


def measure(says: str, path: Path, products: np.ndarray, queries: np.ndarray, rounds: int) -> None:
    """Builds the system that `path` is named after, finds the least effort, and records its figures."""
    build, opened = SYSTEMS[path.name]
    exact = np.stack([np.argpartition(-(products @ query), AT)[:AT] for query in queries])
    start = time.perf_counter()
    build(path, products)
    figures: Figures = {"products": len(products), "build: seconds": time.perf_counter() - start}
    figures["bytes a product on disk"] = size_of(path) / len(products)
    effort, share = least_effort(functools.partial(opened, path), queries, exact)
    ask = opened(path, effort)
    times = [latencies(ask, queries) for _ in range(rounds)]
    del ask
    private, mapped = resident(path, queries, effort)
    figures |= {
        "effort (cells, or width of the search)": effort,
        f"recall@{AT}": share,
        "one query, ms: median": [float(np.median(one)) for one in times],
        "one query, ms: 99th percentile": [float(np.percentile(one, 99)) for one in times],
        "resident after the queries: private MB": private,
        "resident after the queries: mapped MB": mapped,
    }
    if path.name in EXACT:
        exactly = EXACT[path.name](path, products)
        all_rounds = [latencies(exactly, queries[:EXACT_QUERIES]) for _ in range(rounds)]
        figures["exact search, ms: median"] = [float(np.median(one)) for one in all_rounds]
    record(f"search: {len(products):,} products{says}", figures)


def least_effort(opened: Callable[[int], Ask], queries: np.ndarray, exact: np.ndarray) -> tuple[int, float]:
    """The least effort with the wanted recall, or the most that is tried, and its recall."""
    for effort in EFFORTS:
        ask = opened(effort)
        shares = [np.isin(one, ask(query)).mean() for query, one in zip(queries, exact, strict=True)]
        if np.mean(shares) >= WANTED:
            break
    return effort, float(np.mean(shares))


def latencies(ask: Callable[[Any], object], queries: Any) -> np.ndarray:
    """Milliseconds of each query, after a few to warm up."""
    times = []
    for query in [*queries[:5], *queries]:
        start = time.perf_counter()
        ask(query)
        times.append(1000 * (time.perf_counter() - start))
    return np.array(times[5:])


def resident(path: Path, queries: np.ndarray, effort: int) -> tuple[float, float]:
    """Private and mapped MB that a fresh process holds after all queries; of a library, its code too."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        private, mapped = pool.apply(_held, (path, queries, effort))
    return private, mapped


def _held(path: Path, queries: np.ndarray, effort: int) -> tuple[float, float]:
    kinds = ("RssAnon", "RssFile")
    before = [resident_kilobytes(kind) for kind in kinds]
    ask = SYSTEMS[path.name][1](path, effort)
    for query in queries:
        ask(query)
    after = [resident_kilobytes(kind) for kind in kinds]
    return (after[0] - before[0]) / 1000, (after[1] - before[1]) / 1000


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())


def filters(path: Path, products: np.ndarray, queries: np.ndarray, rounds: int) -> None:
    """Milliseconds with and without each condition, in turn, and the recall beside exact search; and records."""
    rng = np.random.default_rng(1)
    colours = pa.array([f"colour {one}" for one in rng.integers(0, 10, len(products))])
    prices = pa.array(rng.uniform(0, 100, len(products)))
    values = {"price": prices, "colour": colours}
    build_ours(path, products, Attributes(values, len(products)))
    exact = np.stack([exactly_ours(path, EVERYTHING)(query) for query in queries])
    effort, share = least_effort(functools.partial(open_ours, path), queries, exact)
    figures: Figures = {"products": len(products), "effort (cells)": effort, f"recall@{AT}": share}
    some = queries[:EXACT_QUERIES]
    for name, conditions in FILTERS.items():
        where = Filter(conditions=parse_conditions(conditions))
        start = time.perf_counter()
        filtered = open_ours(path, effort, where=where)
        filtered(queries[0])
        figures[f"{name}: the first search, its mask included, ms"] = 1000 * (time.perf_counter() - start)
        ways = {
            "a search, ms: median": (filtered, queries),
            "without the filter, ms: median": (open_ours(path, effort), queries),
            "exactly, ms: median": (exactly_ours(path, where), some),
        }
        for _ in range(rounds):
            for way, (ask, asked) in ways.items():
                measured = figures.setdefault(f"{name}: {way}", [])
                assert isinstance(measured, list)
                measured.append(float(np.median(latencies(ask, asked))))
        exactly = exactly_ours(path, where)
        shares = [np.isin(exactly(query), filtered(query)).mean() for query in some]
        figures[f"{name}: recall@{AT} of exact search"] = float(np.mean(shares))
    record(f"filters: conditions among {len(products):,} products, one thread", figures)


def rerank(folder: Path, rounds: int) -> None:
    """Milliseconds from words to hits, all of 1,000 products, plain and re-ranked by late interaction; and records."""
    bundle = train_bundle(folder, "late")
    write_dataset(folder / "products", RERANKED)
    run_verb("index", "make", bundle, folder / "products", "--out", folder / "late-index")
    engine = SearchEngine.open(folder / "late-index")
    rng = np.random.default_rng(0)
    texts = [some_words(rng) for _ in range(20)]
    figures: Figures = {"load of the machine": os.getloadavg()[0]}
    ways: dict[str, Callable[[str], object]] = {
        "search": lambda text: engine.search(text, k=RERANKED),
        "search, re-ranked": lambda text: engine.search(text, k=RERANKED, rerank="late"),
    }
    for way in [*ways] * rounds:
        measured = figures.setdefault(f"{way}, ms: median", [])
        assert isinstance(measured, list)
        measured.append(float(np.median(latencies(ways[way], texts))))
    record(f"late interaction: words to hits, a pool of {RERANKED:,} re-ranked, one thread", figures)


def build_ours(path: Path, products: np.ndarray, attributes: Attributes | None = None) -> None:
    """Our index of vectors, with cells."""
    count = len(products)
    columns = Columns(
        ids=np.arange(count),
        sizes=np.full((count, 2), 400, np.int32),
        region_bounds=np.arange(count + 1),
        boxes=np.zeros((count, 4), np.float32),
        labels=np.zeros(count, np.int32),
        source=np.zeros(count, np.int32),
        dataset_row=np.arange(count),
    )
    path.mkdir()
    write_segment(path, products, columns, approximate=True, attributes=attributes)


def open_ours(path: Path, effort: int, *, where: Filter = EVERYTHING) -> Ask:
    """Our search in `effort` cells."""
    part = OpenPart(Segment.open(path), None, None)
    return lambda query: find_quickly([part], query, AT, probes=effort, where=where).ids


def exactly_ours(path: Path, where: Filter) -> Ask:
    """Our exact search of float32 vectors."""
    part = OpenPart(Segment.open(path), None, None)
    return lambda query: next(find_exactly([part], query[None], AT, where=where)).ids


def build_faiss(path: Path, products: np.ndarray) -> None:
    """As many cells as ours, one thread."""
    import faiss

    faiss.omp_set_num_threads(1)
    cells = round(4 * len(products) ** 0.5)
    index: Any = faiss.index_factory(products.shape[1], f"IVF{cells},Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = 39
    index.train(products)
    index.add(products)
    faiss.write_index(index, str(path))


def open_faiss(path: Path, effort: int) -> Ask:
    """Its search in `effort` cells, one thread."""
    import faiss

    faiss.omp_set_num_threads(1)
    index: Any = faiss.read_index(str(path))
    index.nprobe = effort
    return lambda query: index.search(query[None], AT)[1][0]


def exactly_faiss(_: Path, products: np.ndarray) -> Ask:
    """Its exact search, one thread."""
    import faiss

    faiss.omp_set_num_threads(1)
    flat: Any = faiss.IndexFlatIP(products.shape[1])
    flat.add(products)
    return lambda query: flat.search(query[None], AT)[1][0]


def build_usearch(path: Path, products: np.ndarray) -> None:
    """A graph over bytes, on two threads: its lightest form, as a build takes minutes."""
    from usearch.index import Index

    sizes = {"connectivity": 16, "expansion_add": 64, "expansion_search": 64}
    index = Index(ndim=products.shape[1], metric="ip", dtype="i8", **sizes)
    index.add(np.arange(len(products)), products, threads=2)
    index.save(str(path))


def open_usearch(path: Path, effort: int) -> Ask:
    """Its search in the mapped file, one thread."""
    from usearch.index import Index

    index: Any = Index.restore(str(path), view=True)
    index.expansion_search = effort
    return lambda query: index.search(query, AT, threads=1).keys.astype(np.int64)


def build_lancedb(path: Path, products: np.ndarray) -> None:
    """IVF_RQ, a bit a value, on all threads."""
    import lancedb
    from lancedb.index import IvfRq

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(products.reshape(-1)), products.shape[1])
    rows = pa.table({"product_id": np.arange(len(products)), "vector": vectors})
    table = lancedb.connect(path).create_table("products", rows)
    table.create_index("vector", config=IvfRq(distance_type="dot"))


def open_lancedb(path: Path, effort: int) -> Ask:
    """Its search in `effort` parts, the first 100 scored anew by whole vectors; as many threads as it takes."""
    import lancedb

    table: Any = lancedb.connect(path).open_table("products")

    def ask(query: np.ndarray) -> np.ndarray:
        search = table.search(query).distance_type("dot").nprobes(effort).refine_factor(10)
        rows = search.select(["product_id", "_distance"]).limit(AT).to_arrow()
        ids: np.ndarray = rows["product_id"].to_numpy()
        return ids

    return ask


Build = Callable[[Path, np.ndarray], None]
SYSTEMS: Final[dict[str, tuple[Build, Callable[[Path, int], Ask]]]] = {
    "ours": (build_ours, open_ours),
    "faiss": (build_faiss, open_faiss),
    "usearch": (build_usearch, open_usearch),
    "lancedb": (build_lancedb, open_lancedb),
}
EXACT: Final[dict[str, Callable[[Path, np.ndarray], Ask]]] = {
    "ours": lambda path, _: exactly_ours(path, EVERYTHING),
    "faiss": exactly_faiss,
}


if __name__ == "__main__":
    main()
