"""What a database finds among many products, beside exact search: with and without filters, and after deletions."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shopwindow.search.attributes import Attributes
from shopwindow.search.conditions import parse_conditions
from shopwindow.search.hits import EVERYTHING, Filter
from shopwindow.search.index import SEGMENTS, Manifest, OpenIndex, Part, add_deleted, named_by_content
from shopwindow.search.segment import Columns, write_segment
from shopwindow.search.stores import database as stores
from shopwindow.search.stores import lance, milvus, postgres
from shopwindow.search.stores.database import Database, DatabaseOrigin
from shopwindow.search.stores.local import LocalStore
from shopwindow.search.stores.sync import Synced, sync

PRODUCTS = {"milvus": 2_000, "qdrant": 2_000}
"""Fewer where the engine in this process is slow: milvus-lite, and the memory of qdrant-client."""
MOST = 20_000
WIDTH = 32
WANTED = 0.95
FILTERS = (
    EVERYTHING,
    Filter(frozenset({3})),
    Filter(conditions=parse_conditions(["price<10"])),
    Filter(conditions=parse_conditions(["colour=red|blue", "price>=50"])),
    Filter(conditions=parse_conditions(["price<0.2"])),
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Local mode"),
]


def clustered(count: int) -> np.ndarray:
    """Vectors of length 1 around 100 centres, as catalogues have them: harder for cells than noise."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((100, WIDTH))
    vectors = centres[rng.integers(0, 100, count)] + 0.4 * rng.standard_normal((count, WIDTH))
    unit: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def make_index(folder: Path, vectors: np.ndarray) -> Path:
    """An index of vectors, a region of one label each and two columns, without a bundle."""
    count, rng = len(vectors), np.random.default_rng(1)
    columns = Columns(
        ids=np.arange(count),
        sizes=np.full((count, 2), 400, np.int32),
        region_bounds=np.arange(count + 1),
        boxes=np.zeros((count, 4), np.float32),
        labels=rng.integers(0, 10, count).astype(np.int32),
        source=np.zeros(count, np.int32),
        dataset_row=np.arange(count),
    )
    words = np.array(["red", "blue", "green", "black", None], object)[rng.integers(0, 5, count)]
    known = {"price": pa.array(rng.uniform(0, 100, count)), "colour": pa.array(words.tolist(), pa.string())}
    values = Attributes(known, count)
    segment = folder / SEGMENTS / "new"
    segment.mkdir(parents=True)
    write_segment(segment, vectors, columns, approximate=False, attributes=values)
    parts = (Part(named_by_content(segment).name, count),)
    Manifest("0" * 64, WIDTH, unit=True, approximate_from=1, parts=parts, columns=values.kinds).write(folder)
    return folder


def recalls(index: Path, database: Database, queries: np.ndarray) -> list[float]:
    """recall@10 of each filter; every product that was found passes it."""
    ours, theirs = LocalStore(OpenIndex.open(index)), DatabaseOrigin(database).open()
    shares = []
    for where in FILTERS:
        passing = {
            best for part in ours.index.parts for best in np.flatnonzero(part.segment.passing(where)).tolist()
        }
        exact = ours.find(queries, 10, where, exact=True)
        found = theirs.find(queries, 10, where, exact=False)
        assert all(set(best.ids.tolist()) <= passing for best in found)
        assert [len(best.ids) for best in found] == [len(best.ids) for best in exact]
        pairs = zip(exact, found, strict=True)
        shares.append(float(np.mean([np.isin(right.ids, best.ids).mean() for right, best in pairs])))
        assert theirs.count(where) == ours.count(where)
    return shares


def test_recall_with_filters_and_after_deletions(
    kind: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (lance, postgres, milvus):
        monkeypatch.setattr(module, "INDEXED_FROM", 1_000)  # so that the approximate indexes are asked
    monkeypatch.setattr(stores, "FEW_ROWS", 100)  # under all filters but the last
    count = PRODUCTS.get(kind, MOST)
    vectors = clustered(count)
    index = make_index(tmp_path / "index", vectors)
    assert sync(index, database) == Synced(count, 0, 0, 0)
    queries = vectors[:: count // 40] + 0.02
    shares = recalls(index, database, queries)
    assert min(shares) >= WANTED, shares
    best = LocalStore(OpenIndex.open(index)).find(queries, 3, EVERYTHING, exact=True)
    gone = np.unique(np.concatenate([one.ids for one in best]))
    manifest = Manifest.read(index)
    (part,) = manifest.parts
    changed = tmp_path / "changed"
    shutil.copytree(index, changed)
    Manifest(**{**vars(manifest), "parts": (add_deleted(changed, part, gone),)}).write(changed)
    assert sync(changed, database) == Synced(0, 0, len(gone), count - len(gone))
    theirs = DatabaseOrigin(database).open()
    found = np.concatenate([best.ids for best in theirs.find(queries, 10, EVERYTHING, exact=False)])
    assert not np.isin(found, gone).any()
    shares = recalls(changed, database, queries)
    assert min(shares) >= WANTED, shares
