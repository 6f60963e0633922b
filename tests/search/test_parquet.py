"""Exported vectors are those of the living products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from shopwindow.data.dataset import Dataset
from shopwindow.files import DataError
from shopwindow.model.bundle import Bundle
from shopwindow.search.building import delete_products
from shopwindow.search.parquet import write_parquet
from tests.search.catalogue import PRODUCTS
from tests.search.conftest import Shop


def test_parquet_holds_each_living_products_vector(shop: Shop, own_index: Path, tmp_path: Path) -> None:
    delete_products(own_index, [5, 6])
    assert write_parquet(own_index, tmp_path / "vectors.parquet") == PRODUCTS - 2
    table = pq.read_table(tmp_path / "vectors.parquet")
    ids = np.array(table.column("product_id").to_pylist())
    assert sorted(ids.tolist()) == [one for one in range(PRODUCTS) if one not in (5, 6)]
    wanted = Bundle.load(shop.bundle).encode_products(Dataset(shop.dataset))
    np.testing.assert_array_equal(np.array(table.column("vector").to_pylist(), np.float32), wanted[ids])


def test_no_index_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no index"):
        write_parquet(tmp_path / "none", tmp_path / "vectors.parquet")
    assert list(tmp_path.iterdir()) == []
