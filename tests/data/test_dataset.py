"""Does a dataset give back what was stored, and is a broken one told?"""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopwindow.data import writer
from shopwindow.data.dataset import Dataset
from shopwindow.data.prepare import prepare
from shopwindow.files import DataError
from tests.data.rows import SIZE, make_line, make_product, write_tsv

COUNT = 40
PRODUCTS = [make_product(100 + row, 1 + row % 4) for row in range(COUNT)]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of PRODUCTS in several shards of several chunks."""
    folder = tmp_path_factory.mktemp("dataset")
    lines = [make_line(product, f"query {row}", row) for row, product in enumerate(PRODUCTS)]
    with pytest.MonkeyPatch.context() as small:
        small.setattr(writer, "CHUNK_BYTES", 200)
        small.setattr(writer, "SHARD_BYTES", 600)
        small.setattr(writer, "CHUNK_ROWS", 7)
        prepare([write_tsv(folder / "a.tsv", lines)], folder / "ds", feature_size=SIZE)
    assert len(list((folder / "ds").glob("products-*.arrow"))) > 2
    return folder / "ds"


def test_reading_gives_what_was_written_in_the_order_asked(stored: Path) -> None:
    dataset = Dataset(stored)
    asked = np.random.default_rng(0).integers(0, COUNT, 200)
    wanted = [PRODUCTS[row] for row in asked]
    regions = dataset.regions(asked, boxes=True)
    assert regions.counts.tolist() == [len(product.boxes) for product in wanted]
    np.testing.assert_array_equal(
        regions.features, np.concatenate([product.features for product in wanted]).astype(np.float16)
    )
    np.testing.assert_array_equal(dataset.boxes(asked), np.concatenate([p.boxes for p in wanted]))
    np.testing.assert_array_equal(dataset.labels(asked), np.concatenate([p.labels for p in wanted]))
    assert dataset.image_sizes(asked).tolist() == [[100, 80]] * 200
    assert dataset.product_ids.tolist() == [product.product_id for product in PRODUCTS]
    assert dataset.query_texts == [f"query {row}" for row in range(COUNT)]


def test_long_queries_are_written_in_small_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "CHUNK_BYTES", 1000)
    texts = [f"{row} " + "x" * 300 for row in range(10)]
    lines = [make_line(PRODUCTS[row], text, row) for row, text in enumerate(texts)]
    prepare([write_tsv(tmp_path / "a.tsv", lines)], tmp_path / "ds", feature_size=SIZE)
    file = pa.ipc.open_file(str(tmp_path / "ds" / "queries.arrow"))
    assert [file.get_batch(number).num_rows for number in range(file.num_record_batches)] == [4, 4, 2]
    assert Dataset(tmp_path / "ds").query_texts == texts


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("first", ["product_ids", "query_texts", "pair_training", "content_hash"])
def test_a_dataset_that_was_replaced_is_not_mixed_with_its_successor(
    tmp_path: Path, first: str, mapped: bool
) -> None:
    def lay(words: str, seed: int) -> None:
        lines = [
            make_line(make_product(100 + row + seed, 1 + row % 4), f"{words} {row}", row) for row in range(9)
        ]
        prepare([write_tsv(tmp_path / "a.tsv", lines)], tmp_path / "ds", feature_size=SIZE)

    lay("old", 0)
    dataset, whole = Dataset(tmp_path / "ds", mapped=mapped), Dataset(tmp_path / "ds", mapped=mapped)
    getattr(dataset, first)
    rows = np.arange(9)
    before = [whole.query_texts, whole.pair_training.tolist(), whole.regions(rows).features.tolist()]
    lay("new", 1)
    assert [whole.query_texts, whole.pair_training.tolist(), whole.regions(rows).features.tolist()] == before
    with pytest.raises(DataError, match="was replaced since it was opened"):
        (dataset.query_texts, dataset.pair_training, dataset.regions(rows))
    with pytest.raises(DataError, match="was replaced since it was opened"):
        pickle.loads(pickle.dumps(whole))
    assert Dataset(tmp_path / "ds").query_texts[0] == "new 0"


def test_nothing_asked_gives_nothing(stored: Path) -> None:
    dataset, none = Dataset(stored), np.array([], np.int64)
    regions = dataset.regions(none)
    assert (regions.features.shape, regions.features.dtype) == ((0, SIZE), torch.float16)
    assert len(regions.counts) == 0
    assert (dataset.boxes(none).shape, dataset.image_sizes(none).shape) == ((0, 4), (0, 2))


def test_regions_are_copies(stored: Path) -> None:
    dataset = Dataset(stored)
    dataset.regions(np.array([0])).features[:] = 0
    assert dataset.regions(np.array([0])).features.any()


@pytest.mark.parametrize("row", [-1, COUNT, 10**9])
def test_row_out_of_range_is_an_index_error(stored: Path, row: int) -> None:
    dataset = Dataset(stored)
    for read in (dataset.regions, dataset.boxes, dataset.labels, dataset.image_sizes):
        with pytest.raises(IndexError, match="product rows go from 0 to 39"):
            read(np.array([0, row]))


def test_dataset_survives_pickling(stored: Path) -> None:
    dataset = Dataset(stored)
    again = pickle.loads(pickle.dumps(dataset))
    seven = np.array([7])
    assert torch.equal(again.regions(seven).features, dataset.regions(seven).features)


def read_everything(path: Path) -> None:
    dataset = Dataset(path)
    rows = np.arange(len(dataset.product_ids))
    dataset.regions(rows, boxes=True)
    dataset.image_sizes(rows)
    assert len(dataset.pair_products) == len(dataset.pair_queries) == len(dataset.pair_training)
    assert len(dataset.query_ids) == len(dataset.query_texts)


def test_what_is_no_dataset_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such dataset"):
        Dataset(tmp_path / "none")
    with pytest.raises(DataError, match=r"it holds no manifest\.json"):
        Dataset(tmp_path)
    for text, problem in [
        ("{", "broken JSON"),
        ("[]", "not of the format"),
        ('{"format": "shopwindow dataset 9"}', "not of the format"),
        ('{"format": "shopwindow dataset 2", "feature_size": "8"}', "content_hash: missing or of another"),
        (
            '{"format": "shopwindow dataset 1"}',
            "but 'shopwindow dataset 1'; make it again with `shopwindow prepare`",
        ),
    ]:
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(DataError, match=problem):
            Dataset(tmp_path)


@pytest.mark.parametrize(
    "name", ["products-00001.arrow", "product_ids.arrow", "queries.arrow", "pairs.arrow", "manifest.json"]
)
@pytest.mark.parametrize("how", ["missing", "empty", "cut", "foreign"])
def test_broken_file_of_a_dataset_is_a_data_error_that_names_it(
    stored: Path, tmp_path: Path, name: str, how: str
) -> None:
    broken = shutil.copytree(stored, tmp_path / "ds")
    file = broken / name
    if how == "missing":
        file.unlink()
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "cut":
        file.write_bytes(file.read_bytes()[:-20])
    else:
        schema = pa.schema([("a", pa.int64())])
        with pa.ipc.new_file(str(file), schema) as arrow:
            arrow.write_batch(pa.record_batch([pa.array([1, 2])], schema=schema))
    with pytest.raises(DataError) as caught:
        read_everything(broken)
    assert name in str(caught.value)


def test_manifest_with_other_counts_or_names_is_a_data_error(stored: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(stored, tmp_path / "ds")
    manifest = json.loads((broken / "manifest.json").read_text())
    cases: list[tuple[list[object], str]] = [
        ([{"file": "products-00000.arrow", "products": 1}], "the manifest says 1"),
        ([{"file": "../products-00000.arrow", "products": 1}], "names no products file"),
        ([{"products": 1}], "names no products file"),
        (["products-00000.arrow"], "names no products file"),
        ([], "names no products file"),
    ]
    for shards, problem in cases:
        (broken / "manifest.json").write_text(json.dumps(manifest | {"shards": shards}))
        with pytest.raises(DataError, match=problem):
            read_everything(broken)


def test_regions_and_labels_that_differ_in_number_are_a_data_error(stored: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(stored, tmp_path / "ds")
    file = broken / "products-00001.arrow"
    with pa.ipc.open_file(str(file)) as arrow:
        table = arrow.read_all()
    place = table.schema.get_field_index("labels")
    one_less = pa.array([labels[1:] for labels in table["labels"].to_pylist()], table["labels"].type)
    table = table.set_column(place, "labels", one_less)
    with pa.ipc.new_file(str(file), table.schema) as arrow:
        arrow.write_table(table)
    with pytest.raises(DataError, match="the columns of a product differ in their number of regions"):
        read_everything(broken)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_products_are_told(stored: Path, tmp_path: Path, codec: str) -> None:
    packed = shutil.copytree(stored, tmp_path / "ds")
    file = packed / "products-00001.arrow"
    with pa.ipc.open_file(str(file)) as arrow:
        table = arrow.read_all()
    with pa.ipc.new_file(str(file), table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as arrow:
        arrow.write_table(table)
    with pytest.raises(DataError, match=r"products-00001\.arrow: compressed"):
        read_everything(packed)


def test_pair_of_an_unknown_product_is_a_data_error(stored: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(stored, tmp_path / "ds")
    with pa.ipc.open_file(str(broken / "pairs.arrow")) as arrow:
        table = arrow.read_all()
    table = table.set_column(0, "product", pa.array([COUNT] * table.num_rows))
    with pa.ipc.new_file(str(broken / "pairs.arrow"), table.schema) as arrow:
        arrow.write_table(table)
    with pytest.raises(DataError, match=r"pairs\.arrow, product: a row outside 0 to 39"):
        read_everything(broken)


def test_ids_of_other_number_than_products_are_a_data_error(stored: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(stored, tmp_path / "ds")
    manifest = json.loads((broken / "manifest.json").read_text())
    (broken / "manifest.json").write_text(json.dumps(manifest | {"shards": manifest["shards"][:1]}))
    with pytest.raises(DataError, match=r"product_ids\.arrow: 40 ids, the manifest says \d+ products"):
        read_everything(broken)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(
        ["products-00001.arrow", "product_ids.arrow", "queries.arrow", "pairs.arrow", "manifest.json"]
    ),
    st.integers(0, 10**6),
    st.binary(min_size=1, max_size=8),
)
def test_damaged_dataset_is_read_or_a_data_error(
    stored: Path, tmp_path: Path, name: str, place: int, garbage: bytes
) -> None:
    broken = shutil.copytree(stored, tmp_path / "ds", dirs_exist_ok=True)
    data = bytearray((stored / name).read_bytes())
    place %= len(data)
    data[place : place + len(garbage)] = garbage
    (broken / name).write_bytes(data)
    try:
        read_everything(broken)
    except DataError:
        return
