"""Vectors made elsewhere, in each format, come back as the regions of their products."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from shopwindow.cli import main
from shopwindow.data.features import Features
from shopwindow.data.products import read_products
from shopwindow.files import DataError
from shopwindow.vision.backbone import check_same
from shopwindow.vision.extract import Extracted
from shopwindow.vision.precomputed import take_vectors

IDS = ["A", "B"]
VECTORS = [[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]]
BOXES: list[list[list[float]]] = [[[0, 0, 10, 20]], [[0, 0, 30, 40], [5, 5, 20.5, 25]]]


def as_parquet(path: Path, **columns: Any) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


def as_npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def two_products(folder: Path, kind: str) -> Path:
    """The vectors and boxes above."""
    if kind == "parquet":
        return as_parquet(folder / "v.parquet", sku=IDS, vectors=VECTORS, boxes=BOXES)
    flat, boxes = (np.concatenate([np.array(part) for part in parts]) for parts in (VECTORS, BOXES))
    return as_npz(folder / "v.npz", ids=np.array(IDS), vectors=flat, counts=np.array([1, 2]), boxes=boxes)


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_vectors_and_boxes_come_back_as_regions(tmp_path: Path, kind: str) -> None:
    done = take_vectors(two_products(tmp_path, kind), tmp_path / "f")
    assert (done.products, done.photos) == (2, 2)
    features = Features(tmp_path / "f")
    regions = features.regions(np.array([1, 0]))
    assert (features.ids.tolist(), features.titles, features.photos) == (IDS, None, [(), ()])
    assert regions.features.tolist() == [[3, 4], [5, 6], [1, 2]]
    assert regions.counts.tolist() == [2, 1]
    assert regions.boxes is not None
    assert regions.labels is not None
    assert regions.photo_sizes is not None
    assert regions.boxes.tolist() == BOXES[1] + BOXES[0]
    assert regions.labels.tolist() == [0, 2, 0]
    assert regions.photo_sizes.tolist() == [[30, 40], [30, 40], [10, 20]]


def test_one_vector_a_product_is_its_whole_photo(tmp_path: Path) -> None:
    fixed = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2))
    take_vectors(as_parquet(tmp_path / "v.parquet", id=[7, 8], embedding=fixed), tmp_path / "f")
    features = Features(tmp_path / "f")
    regions = features.regions(np.array([0, 1]))
    assert features.ids.tolist() == [7, 8]
    assert regions.features.tolist() == [[1, 2], [3, 4]]
    assert regions.boxes is not None
    assert regions.boxes.tolist() == [[0, 0, 1, 1]] * 2


def test_products_of_a_table_get_their_vectors(tmp_path: Path) -> None:
    table = tmp_path / "products.csv"
    table.write_text("sku,title,photo,price\nB,bee,b.jpg,3\nA,ay,a.jpg|a2.jpg,4\nC,see,,5\n")
    vectors = two_products(tmp_path, "parquet")
    with pytest.raises(
        DataError, match="1 of 3 photos cannot be read, more than 1 %, such as C: the product has no vector"
    ):
        take_vectors(vectors, tmp_path / "f", products=read_products(table))
    main(
        [
            "extract",
            str(table),
            "--backbone",
            str(vectors),
            "--out",
            str(tmp_path / "f"),
            "--allow-unreadable",
        ]
    )
    features = Features(tmp_path / "f")
    assert (features.ids.tolist(), features.titles) == (["B", "A"], ["bee", "ay"])
    assert features.photos == [("b.jpg",), ("a.jpg", "a2.jpg")]
    assert features.columns.to_pylist() == [{"price": 3.0}, {"price": 4.0}]
    assert features.regions(np.array([1])).features.tolist() == [[1, 2]]


def test_vectors_may_be_added_to_and_spaces_of_another_size_may_not(tmp_path: Path) -> None:
    main(["extract", str(two_products(tmp_path, "npz")), "--out", str(tmp_path / "f")])
    more = as_npz(tmp_path / "more.npz", ids=np.array(["C"]), vectors=np.ones((1, 2)))
    assert take_vectors(more, tmp_path / "f") == Extracted(1, 1, 1, 0, 0)
    assert Features(tmp_path / "f").ids.tolist() == ["C"]
    wide = as_npz(tmp_path / "wide.npz", ids=np.array(["C"]), vectors=np.ones((1, 3)))
    with pytest.raises(DataError, match="features of different backbones cannot be compared"):
        take_vectors(wide, tmp_path / "f")
    spec = Features(tmp_path / "f").backbone
    check_same(spec, spec)


def test_wrong_files_say_what_is_wrong(tmp_path: Path) -> None:
    ones = np.ones((2, 3))
    wrong = [
        (
            as_npz(tmp_path / "1.npz", ids=np.array(["A", None], object), vectors=ones),
            "no npz of plain arrays",
        ),
        (as_npz(tmp_path / "2.npz", vectors=ones), "has no array named ids; it has vectors"),
        (as_npz(tmp_path / "3.npz", ids=np.array(IDS), vectors=ones[:1]), "2 ids, 2 counts that sum to 2"),
        (as_npz(tmp_path / "4.npz", ids=np.array(IDS), vectors=ones * np.nan), "holds NaN, infinity"),
        (as_npz(tmp_path / "5.npz", ids=np.array(IDS), vectors=ones * 1e6), r"a value beyond float16"),
        (
            as_npz(tmp_path / "6.npz", ids=np.array(IDS), vectors=ones, boxes=ones),
            r"boxes of float64 \(2, 3\), numbers \(2, 4\) wanted",
        ),
        (as_npz(tmp_path / "7.npz", ids=np.array(["A", "A"]), vectors=ones), "the id A stands there twice"),
        (as_parquet(tmp_path / "1.parquet", id=IDS), "has no column named vector; it has id"),
        (
            as_parquet(tmp_path / "2.parquet", id=IDS, vector=[[1.0], [1.0, 2.0]]),
            "lists of equal length are wanted",
        ),
        (
            as_parquet(tmp_path / "3.parquet", id=IDS, vector=["a", "b"]),
            "lists of numbers are wanted, it holds string",
        ),
        (as_parquet(tmp_path / "4.parquet", id=IDS, vector=[[1.0], None]), "vector: holds nulls"),
        (as_parquet(tmp_path / "5.parquet", id=IDS, vectors=[[[1.0]], []]), "B has no vector"),
        (
            as_parquet(tmp_path / "6.parquet", id=IDS, vector=[[1.0], [2.0]], boxes=BOXES),
            "a box of 4 px values",
        ),
        (as_parquet(tmp_path / "7.parquet", id=[], vector=[]), "holds no vector"),
        (tmp_path / "gone.parquet", "no such file"),
    ]
    (tmp_path / "8.parquet").write_bytes(b"PAR1 no more")
    (tmp_path / "8.npz").write_bytes(b"PK no more")
    wrong += [
        (tmp_path / "8.parquet", "no Parquet that can be read"),
        (tmp_path / "8.npz", "no npz of plain arrays"),
    ]
    for path, message in wrong:
        with pytest.raises(DataError, match=message):
            take_vectors(path, tmp_path / "f" / path.name)


def test_lance_is_asked_for_only_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(DataError, match="pip install pylance"):
        take_vectors(tmp_path / "v.lance", tmp_path / "f")


def test_lance_is_read_as_parquet_is(tmp_path: Path) -> None:
    lance = pytest.importorskip("lance")
    lance.write_dataset(pa.table({"id": IDS, "vectors": VECTORS}), str(tmp_path / "v.lance"))
    take_vectors(tmp_path / "v.lance", tmp_path / "f")
    assert Features(tmp_path / "f").regions(np.array([1])).features.tolist() == [[3, 4], [5, 6]]


def test_vectors_of_no_values_and_strange_ids_are_refused(tmp_path: Path) -> None:
    empty = as_npz(tmp_path / "empty.npz", ids=np.array(IDS), vectors=np.zeros((2, 0), np.float32))
    with pytest.raises(DataError, match=r"empty\.npz: vectors of no values"):
        take_vectors(empty, tmp_path / "out")
    strange = [
        np.array([b"A", b"B"]),
        np.array([1.5, 2.5]),
        np.array([True, False]),
        np.array(["\ud800", "B"]),
    ]
    for ids in strange:
        path = as_npz(tmp_path / "ids.npz", ids=ids, vectors=np.ones((2, 3)))
        with pytest.raises(DataError, match=r"ids\.npz: the id .* (wanted|no Unicode text)"):
            take_vectors(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
