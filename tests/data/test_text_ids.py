"""Do ids of any text pass from a competition file through prepare to a dataset, and do integers stay integers?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shopwindow.data import reading
from shopwindow.data.dataset import Dataset
from shopwindow.data.prepare import prepare
from shopwindow.files import DataError
from tests.data.rows import directory_bytes, make_line, make_product, write_tsv

IDS: list[int | str] = ["SKU-0042", 7, "007", "rouge à lèvres 3", "9223372036854775808", "x" * 256, 8]


def lines_of(products: list[int | str], queries: list[int | str]) -> list[bytes]:
    return [
        make_line(make_product(product, 1 + row % 3), f"query {query}", query)
        for row, (product, query) in enumerate(zip(products, queries, strict=True))
    ]


def stored(folder: Path, products: list[int | str], queries: list[int | str]) -> Dataset:
    source = write_tsv(folder / "a.tsv", lines_of(products, queries))
    prepare([source], folder / "ds")
    return Dataset(folder / "ds")


def test_text_ids_come_back_as_text_in_the_order_of_the_file(tmp_path: Path) -> None:
    dataset = stored(tmp_path, IDS, IDS[::-1])
    assert dataset.product_ids.dtype == np.dtype("<U256")
    assert dataset.product_ids.tolist() == [str(one) for one in IDS]
    assert dataset.query_ids.tolist() == [str(one) for one in IDS[::-1]]
    np.testing.assert_array_equal(
        dataset.regions(np.array([3])).features, make_product(IDS[3], 1).features.astype(np.float16)
    )


def test_integer_ids_stay_integers_beside_text_ones_of_the_other_kind(tmp_path: Path) -> None:
    dataset = stored(tmp_path, [3, 1, 2], ["a", "b", "c"])
    assert dataset.product_ids.dtype == np.int64
    assert dataset.product_ids.tolist() == [3, 1, 2]
    assert dataset.query_ids.tolist() == ["a", "b", "c"]
    types = {
        name: pa.ipc.open_file(str(dataset.path / name)).schema.types[0]
        for name in ("product_ids.arrow", "queries.arrow")
    }
    assert types == {"product_ids.arrow": pa.int64(), "queries.arrow": pa.string()}


def test_an_integer_and_its_other_spellings_are_different_products(tmp_path: Path) -> None:
    dataset = stored(tmp_path, [7, "07", "7.0", 7, "v7"], [1, 1, 1, 1, 1])
    assert dataset.product_ids.tolist() == ["7", "07", "7.0", "v7"]
    assert dataset.pair_products.tolist() == [0, 1, 2, 0, 3]


@pytest.mark.parametrize("field", ["product_id", "query_id"])
def test_an_id_that_changed_its_spelling_is_told_with_its_line(tmp_path: Path, field: str) -> None:
    plain: list[int | str] = list(range(20))
    odd: list[int | str] = [*range(19), "1.9E+1"]
    products, queries = (odd, plain) if field == "product_id" else (plain, odd)
    source = write_tsv(tmp_path / "a.tsv", lines_of(products, queries))
    with pytest.raises(DataError, match=rf"a\.tsv line 21, {field}: '1\.9E\+1' among integers"):
        prepare([source], tmp_path / "ds")
    assert not (tmp_path / "ds").exists()


def test_several_processes_give_the_same_text_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "RANGE_BYTES", 900)
    products: list[int | str] = [f"SKU-{row:04}" if row > 20 else row for row in range(40)]
    source = write_tsv(tmp_path / "a.tsv", lines_of(products, products))
    for processes in (1, 2):
        prepare([source], tmp_path / str(processes), processes=processes)
    assert directory_bytes(tmp_path / "1") == directory_bytes(tmp_path / "2")
    assert Dataset(tmp_path / "1").product_ids.tolist() == [str(one) for one in products]


def test_weights_meet_text_ids(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "a.tsv", lines_of(["SKU-1", 7], ["q a", "q b"]))
    table = tmp_path / "weights.csv"
    table.write_text("product_id,query_id,weight\nSKU-1,q a,3\n7,q b,4\n")
    prepare([source], tmp_path / "ds", weights=table)
    assert Dataset(tmp_path / "ds").pair_weights.tolist() == [3, 4]


def test_feature_size_and_labels_come_from_the_data(tmp_path: Path) -> None:
    source = write_tsv(
        tmp_path / "a.tsv",
        [b"broken\n", *[make_line(make_product(row, 2, size=5), "q", 1) for row in range(99)]],
    )
    prepare([source], tmp_path / "ds")
    dataset = Dataset(tmp_path / "ds")
    assert dataset.feature_size == 5
    assert dataset.label_count == 1 + max(int(make_product(row, 2, size=5).labels.max()) for row in range(99))
