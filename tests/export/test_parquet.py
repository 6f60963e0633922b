"""Exported vectors are those of the living products, with what the index knows of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shopwindow.cli import main
from shopwindow.data.dataset import Dataset
from shopwindow.export.parquet import METADATA, write_parquet
from shopwindow.files import DataError
from shopwindow.model.bundle import Bundle
from shopwindow.search.building import add_products, delete_products
from shopwindow.search.engine import SearchEngine
from shopwindow.search.index import Manifest, OpenIndex
from shopwindow.search.stores.rows import rows_of
from tests.search.catalogue import PRODUCTS, write_dataset
from tests.search.conftest import Shop, name_column
from tests.search.text_ids import give_text_ids, sku


def test_parquet_holds_each_living_product(shop: Shop, own_index: Path, tmp_path: Path) -> None:
    delete_products(own_index, [5, 6])
    assert write_parquet(own_index, tmp_path / "vectors.parquet") == PRODUCTS - 2
    table = pq.read_table(tmp_path / "vectors.parquet")
    ids = np.array(table.column("product_id").to_pylist())
    assert sorted(ids.tolist()) == [one for one in range(PRODUCTS) if one not in (5, 6)]
    wanted = Bundle.load(shop.bundle).encode_dataset(Dataset(shop.dataset))
    np.testing.assert_array_equal(np.array(table.column("vector").to_pylist(), np.float32), wanted[ids])
    engine = SearchEngine.open(own_index)
    for row in table.select(["product_id", "image_h", "image_w", "labels", "texts"]).to_pylist():
        view = engine.product(row["product_id"])
        assert (row["image_h"], row["image_w"]) == (view.image_h, view.image_w)
        assert row["labels"] == sorted(set(view.labels))
        assert row["texts"] == list(view.texts)


def test_parquet_holds_the_shop_s_columns(priced_index: Path, tmp_path: Path) -> None:
    write_parquet(priced_index, tmp_path / "vectors.parquet")
    table = pq.read_table(tmp_path / "vectors.parquet")
    assert (table.field("Price").type, table.field("order").type) == (pa.float64(), pa.string())
    engine = SearchEngine.open(priced_index)
    rows = table.select(["product_id", "Price", "order"]).to_pylist()
    assert len(rows) == 305
    for row in rows:
        known = engine.product(row["product_id"]).values
        assert row == {"product_id": row["product_id"], "Price": None, "order": None, **known}
    assert 0 < table["Price"].null_count < 305
    assert set(table["order"].to_pylist()) == {"red", "dark 'green'", None}


@pytest.mark.parametrize("name", ["vector", "labels", "Texts"])
def test_column_named_as_one_of_the_export_s_own_is_refused_before_anything_is_written(
    own_index: Path, tmp_path: Path, name: str
) -> None:
    name_column(own_index, name)
    with pytest.raises(DataError, match=f"column '{name}': every export has one of this name"):
        write_parquet(own_index, tmp_path / "out" / "vectors.parquet")
    assert not (tmp_path / "out").exists()


def test_parquet_says_what_made_it(own_index: Path, tmp_path: Path) -> None:
    write_parquet(own_index, tmp_path / "a.parquet")
    first = json.loads(pq.read_schema(tmp_path / "a.parquet").metadata[METADATA])
    manifest = Manifest.read(own_index)
    assert first["bundle"] == manifest.bundle_hash
    assert (first["dimensions"], first["products"], first["unit_length"]) == (32, PRODUCTS, True)
    assert first["label_names"] == {"0": "shoes", "1": "bags"}
    delete_products(own_index, [5])
    write_parquet(own_index, tmp_path / "b.parquet")
    second = json.loads(pq.read_schema(tmp_path / "b.parquet").metadata[METADATA])
    assert second["state"] != first["state"]
    assert second["products"] == PRODUCTS - 1


@pytest.mark.parametrize("at_once", [1, 7, PRODUCTS])
def test_rows_are_the_same_however_many_come_at_once(shop: Shop, at_once: int) -> None:
    index = OpenIndex.open(shop.index)
    whole = next(rows_of(index, 10**6))
    pieces = list(rows_of(index, at_once))
    assert max(len(rows.ids) for rows in pieces) == at_once
    np.testing.assert_array_equal(np.concatenate([rows.vectors for rows in pieces]), whole.vectors)
    np.testing.assert_array_equal(np.concatenate([rows.sizes for rows in pieces]), whole.sizes)
    assert [one for rows in pieces for one in rows.labels] == whole.labels
    assert [one for rows in pieces for one in rows.texts] == whole.texts


def test_ids_of_text_and_of_integers_are_one_column(own_index: Path, tmp_path: Path) -> None:
    give_text_ids(own_index)
    add_products(own_index, write_dataset(tmp_path / "more", range(3)))
    write_parquet(own_index, tmp_path / "vectors.parquet")
    table = pq.read_table(tmp_path / "vectors.parquet")
    assert table.schema.field("product_id").type == pa.string()
    assert table["product_id"].to_pylist() == [*map(sku, range(PRODUCTS)), "0", "1", "2"]


def test_no_index_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no index"):
        write_parquet(tmp_path / "none", tmp_path / "vectors.parquet")
    assert list(tmp_path.iterdir()) == []


def test_verb_writes_the_file(shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "vectors.parquet"
    main(["export", "parquet", str(shop.index), "--out", str(out)])
    assert capsys.readouterr().out == f"300 products: {out}\n"
    write_parquet(shop.index, tmp_path / "same.parquet")
    assert out.read_bytes() == (tmp_path / "same.parquet").read_bytes()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["parquet", "INDEX"], "required: --out"),
        (["parquet", "INDEX", "--out", "x", "--table", "t"], "--table: no such option"),
        (["qdrant", "INDEX", "--url", "http://127.0.0.1:1"], "required: --collection"),
        (["qdrant", "INDEX", "--url", "u", "--collection", "c", "--upsert"], "--upsert: no such option"),
        (["pgvector", "INDEX", "--table", "t"], "required: --url"),
        (["vespa", "INDEX", "--out", "x"], "export vespa: no such verb"),
    ],
)
def test_options_that_do_not_belong_together_are_named(
    shop: Shop, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["export", *(str(shop.index) if word == "INDEX" else word for word in words)])
    assert left.value.code == 2
    assert says in capsys.readouterr().err
