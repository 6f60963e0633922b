"""Exact search of a segment is what faiss finds by brute force, and ties and filters do not disturb it."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np

from shopwindow.search.lookup import OpenPart, find_exactly
from shopwindow.search.segment import Columns, Segment, write_segment


def columns_of(count: int) -> Columns:
    return Columns(
        ids=np.arange(count),
        sizes=np.full((count, 2), 10, np.int32),
        region_bounds=np.arange(count + 1),
        boxes=np.zeros((count, 4), np.float32),
        labels=np.zeros(count, np.int32),
        source=np.zeros(count, np.int32),
        dataset_row=np.arange(count),
    )


def test_exact_search_finds_what_faiss_finds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3000, 24), np.float32)
    queries = rng.standard_normal((50, 24), np.float32)
    write_segment(tmp_path, vectors, columns_of(3000), approximate=True)
    part = OpenPart(Segment.open(tmp_path), None, None)
    flat = faiss.IndexFlatIP(24)
    flat.add(vectors)
    scores, ids = flat.search(queries, 10)
    for found, wanted, wanted_scores in zip(find_exactly([part], queries, 10), ids, scores, strict=True):
        assert found.ids.tolist() == wanted.tolist()
        np.testing.assert_allclose(found.scores, wanted_scores, rtol=1e-5)


def test_taken_and_joined_columns_keep_every_products_regions() -> None:
    columns = Columns(
        ids=np.array([7, 8, 9]),
        sizes=np.array([[1, 2], [3, 4], [5, 6]], np.int32),
        region_bounds=np.array([0, 2, 3, 6]),
        boxes=np.arange(24, dtype=np.float32).reshape(6, 4),
        labels=np.array([1, 2, 3, 4, 5, 6], np.int32),
        source=np.zeros(3, np.int32),
        dataset_row=np.array([0, 1, 2]),
    )
    both = Columns.join([columns.take(np.array([2, 0])), columns.take(np.array([1]))])
    assert both.ids.tolist() == [9, 7, 8]
    assert both.region_bounds.tolist() == [0, 3, 5, 6]
    assert both.labels.tolist() == [4, 5, 6, 1, 2, 3]
    assert both.boxes[3].tolist() == columns.boxes[0].tolist()
    assert both.sizes.tolist() == [[5, 6], [1, 2], [3, 4]]
