"""Products whose ids are text are found, shown, filtered, changed and mixed with others as those of integers are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shopwindow.cli import main
from shopwindow.files import find_photo
from shopwindow.model.bundle import Bundle
from shopwindow.search.building import add_products, compact_index, delete_products
from shopwindow.search.conditions import parse_conditions
from shopwindow.search.engine import SearchEngine
from shopwindow.search.evaluation import rank_catalogue
from shopwindow.search.golden import check
from shopwindow.search.hits import EVERYTHING, Filter, UnknownProduct
from shopwindow.search.index import OpenIndex
from shopwindow.search.index_columns import update_columns
from shopwindow.search.lookup import OpenPart, find_by_texts, find_exactly, find_quickly, fused
from shopwindow.search.segment import Columns, Segment, write_segment
from shopwindow.search.texts import TEXTS_FILE, Texts, write_texts
from tests.search.catalogue import PRODUCTS, write_dataset
from tests.search.conftest import Shop
from tests.search.text_ids import give_text_ids, sku

WORDS = ["red shoe", "small lamp", "green bag summer", "blue"]


@pytest.fixture(scope="module")
def made(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text-ids") / "index"
    shutil.copytree(shop.index, path)
    return give_text_ids(path)


@pytest.fixture
def index(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "index")
    return tmp_path / "index"


def segment_of(folder: Path, ids: np.ndarray) -> Segment:
    count = len(ids)
    columns = Columns(
        ids=ids,
        sizes=np.ones((count, 2), np.int32),
        region_bounds=np.arange(count + 1),
        boxes=np.zeros((count, 4), np.float32),
        labels=np.zeros(count, np.int32),
        source=np.zeros(count, np.int32),
        dataset_row=np.arange(count),
    )
    folder.mkdir()
    write_segment(folder, np.ones((count, 2), np.float32), columns, approximate=False)
    return Segment.open(folder)


def test_ids_of_either_kind_find_the_rows_of_either(tmp_path: Path) -> None:
    integers = segment_of(tmp_path / "a", np.array([7, -3, 10]))
    assert integers.columns.ids.tolist() == [-3, 7, 10]
    texts = np.array(["7", "007", "+7", "-3", "10 ", "", "9" * 30, "x"])
    assert integers.rows_of(texts).tolist() == [1, -1, -1, 0, -1, -1, -1, -1]
    assert integers.rows_of(np.array([10, 11])).tolist() == [2, -1]
    words = segment_of(tmp_path / "b", np.array(["7", "10", "SKU"]))
    assert words.columns.ids.tolist() == ["10", "7", "SKU"]
    assert words.rows_of(np.array([7, 10, 1])).tolist() == [1, 0, -1]
    assert words.rows_of(np.array(["SKU-0042", "SKU", "SK"])).tolist() == [-1, 2, -1]


@pytest.mark.parametrize("how", [{}, {"exact": True}, {"hybrid": True}])
def test_the_same_products_are_found_under_their_text(shop: Shop, made: Path, how: dict[str, Any]) -> None:
    plain, engine = SearchEngine.open(shop.index), SearchEngine.open(made)
    for words in WORDS:
        wanted = [(sku(int(hit.product_id)), hit.score) for hit in plain.search(words, k=30, **how)]
        assert [(hit.product_id, hit.score) for hit in engine.search(words, k=30, **how)] == wanted
    assert [hit.product_id for hit in engine.similar(sku(5))] == [
        sku(int(hit.product_id)) for hit in plain.similar(5)
    ]
    assert engine.product(sku(7)).texts == plain.product(7).texts != ()
    assert engine.product(sku(7)).product_id == sku(7)
    with pytest.raises(UnknownProduct, match="no product 7 in the index"):
        engine.product(7)
    found = rank_catalogue(engine, np.array([1]), ["red"], k=3)
    assert found.products_of(0).tolist() == [hit.product_id for hit in engine.search("red", k=3)]


def test_a_check_passes(shop: Shop, made: Path) -> None:
    assert check(OpenIndex.open(made), Bundle.load(shop.bundle)).problems == ()


def test_both_kinds_stand_in_one_index_and_are_joined(index: Path, tmp_path: Path) -> None:
    add_products(index, write_dataset(tmp_path / "more", range(290, 310)))
    mixed = SearchEngine.open(index)
    assert mixed.stats()["products"] == PRODUCTS + 20
    everything = {hit.product_id for hit in mixed.search("red", k=1000)}
    assert everything == {sku(one) for one in range(PRODUCTS)} | {str(one) for one in range(290, 310)}
    # 290 and SKU-0290 have one vector: of equal scores the smaller text stands first.
    before = mixed.search_many(WORDS, k=1000, exact=True)
    places = {hit.product_id: hit.rank for hit in before[0]}
    assert places["290"] + 1 == places[sku(290)]
    delete_products(index, [305, "306", sku(0)])
    compact_index(index)
    (part,) = OpenIndex.open(index).parts
    assert part.segment.columns.ids.dtype.kind == "U"
    after = SearchEngine.open(index).search_many(WORDS, k=1000, exact=True)
    gone = {"305", "306", sku(0)}
    for one, other in zip(before, after, strict=True):
        assert [(hit.product_id, hit.score) for hit in other] == [
            (hit.product_id, hit.score) for hit in one if hit.product_id not in gone
        ]
    with pytest.raises(UnknownProduct, match="no product SKU-0000"):
        delete_products(index, [sku(1), sku(0)])


def mixed_part(folder: Path, ids: np.ndarray, texts: list[list[str]]) -> OpenPart:
    """An opened segment of an index in which ids are text; all vectors are equal."""
    segment = segment_of(folder, ids)
    write_texts(folder / TEXTS_FILE, texts)
    return OpenPart(segment, None, Texts(folder / TEXTS_FILE, segment.columns.ids), text_ids=True)


def test_ties_stand_by_text_where_some_ids_are_text(tmp_path: Path) -> None:
    integers = mixed_part(tmp_path / "a", np.array([2, 9, 10, 100]), [["red"], [], [], ["red shoe"]])
    words = mixed_part(tmp_path / "b", np.array(["1b", "a"]), [["red"], []])
    query = np.ones(integers.segment.dimensions, np.float32)
    for k, wanted in ((1, ["10"]), (3, ["10", "100", "1b"]), (6, ["10", "100", "1b", "2", "9", "a"])):
        assert find_quickly([integers, words], query, k).ids.tolist() == wanted
        assert next(find_exactly([integers, words], query[None], k)).ids.tolist() == wanted
    by_texts = find_by_texts([integers, words], "red", 10, EVERYTHING)
    assert sorted(by_texts.ids.tolist()) == ["100", "1b", "2"]
    both = fused(find_quickly([integers, words], query, 6), by_texts, 6)
    assert sorted(both.ids.tolist()) == sorted(["10", "100", "1b", "2", "9", "a"])


def test_a_table_of_text_ids_filters(index: Path, tmp_path: Path) -> None:
    table = tmp_path / "columns.csv"
    table.write_text("product_id,price\nSKU-0007,5\n SKU-0012 ,30\n00123,1\n7,1\n")
    told: list[str] = []
    update_columns(index, table, remark=told.append)
    assert told == [f"{table}: 298 of 300 products have no row"]
    engine = SearchEngine.open(index)
    where = Filter(conditions=parse_conditions(["price<=20"]))
    assert [hit.product_id for hit in engine.search("red", where=where)] == [sku(7)]
    assert engine.product(sku(12)).values == {"price": 30.0}


def test_a_table_may_hold_text_beside_the_integers_of_an_index(own_index: Path, tmp_path: Path) -> None:
    table = tmp_path / "columns.csv"
    table.write_text("product_id,price\n7,5\n007,1\n12,30\nSKU,1\n")
    update_columns(own_index, table)
    where = Filter(conditions=parse_conditions(["price<=20"]))
    assert [hit.product_id for hit in SearchEngine.open(own_index).search("red", where=where)] == [7]


def test_verbs_take_and_print_text(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["search", str(index), "red", "--top", "2", "--json"])
    first, second = (hit["product_id"] for hit in json.loads(capsys.readouterr().out))
    main(["index", "delete", str(index), first])
    capsys.readouterr()
    main(["search", str(index), "red", "--top", "1", "--json"])
    assert [hit["product_id"] for hit in json.loads(capsys.readouterr().out)] == [second]


def test_a_photo_is_found_by_the_text_and_never_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("photos/SKU-0042.jpg", "outside.jpg"):
        (tmp_path / name).write_bytes(b"x")
    assert find_photo(tmp_path / "photos", "SKU-0042") == tmp_path / "photos" / "SKU-0042.jpg"
    for other in ("../outside", "SKU-0043", str(tmp_path / "outside"), "", "x\0"):
        assert find_photo(tmp_path / "photos", other) is None
