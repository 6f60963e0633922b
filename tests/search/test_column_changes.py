"""Values of an index survive every change, tables that do not go with it change nothing, and states do not mix."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from shopwindow.files import DataError
from shopwindow.model.bundle import Bundle
from shopwindow.search.building import add_products, compact_index, delete_products
from shopwindow.search.engine import SearchEngine
from shopwindow.search.golden import check
from shopwindow.search.hits import ColumnView
from shopwindow.search.index import BUNDLE, MANIFEST, OpenIndex
from shopwindow.search.index_columns import update_columns
from tests.search.catalogue import PRODUCTS, write_dataset
from tests.search.columns import WORDS, found, known_of
from tests.search.conftest import Shop


def test_added_products_bring_their_values_and_replaced_ones_keep_theirs(
    tabled_index: Path, tmp_path: Path
) -> None:
    more = write_dataset(tmp_path / "more", range(290, 310), seed=5)
    told: list[str] = []
    add_products(tabled_index, more, remark=told.append)
    without = sum(one >= 300 or not known_of(one) for one in range(290, 310))
    assert told == [f"{without} of 20 products have no values and pass no filter; --columns gives some"]
    engine = SearchEngine.open(tabled_index)
    assert [engine.product(one).values for one in range(300)] == [known_of(one) for one in range(300)]
    assert engine.product(305).values == {}
    told.clear()
    table = tmp_path / "more.csv"
    table.write_text("product_id,price,size\n295,1.25,XL\n305,7,\n4,1,L\n")
    made = add_products(tabled_index, more, columns=table, remark=told.append)
    assert made.columns == {"price": "number", "colour": "word", "size": "word"}
    assert told == [f"{table}: 18 of 20 products have no row"]
    engine = SearchEngine.open(tabled_index)
    assert engine.product(295).values == {**known_of(295), "price": 1.25, "size": "XL"}
    assert engine.product(296).values == known_of(296)  # the table has no row of it
    assert engine.product(4).values == known_of(4)
    assert found(engine, ("size=XL",)) == [295]
    assert set(found(engine, ("price=7",))) == {
        305,
        *(one for one in range(300) if one != 295 and known_of(one).get("price") == 7),
    }


def test_a_table_that_is_added_changes_the_same_values_as_one_that_updates(
    shop: Shop, tabled_index: Path, tmp_path: Path
) -> None:
    table = tmp_path / "prices.csv"
    table.write_text("product_id,price\n1,99\n2,\n3,7\n")
    updated = tmp_path / "updated"
    shutil.copytree(tabled_index, updated)
    update_columns(updated, table)
    add_products(tabled_index, shop.dataset, columns=table)
    added, changed = SearchEngine.open(tabled_index), SearchEngine.open(updated)
    assert [added.product(one).values for one in range(PRODUCTS)] == [
        changed.product(one).values for one in range(PRODUCTS)
    ]
    assert added.product(1).values == {**known_of(1), "price": 99.0}


def test_products_with_values_are_counted_while_they_live(tabled_index: Path, tmp_path: Path) -> None:
    known = [one for one in range(PRODUCTS) if known_of(one)]
    assert OpenIndex.open(tabled_index).with_values == len(known)
    add_products(tabled_index, write_dataset(tmp_path / "more", range(295, 305)))
    delete_products(tabled_index, known[:3])
    assert OpenIndex.open(tabled_index).with_values == len(known) - 3


def test_compacting_keeps_every_value(tabled_index: Path, tmp_path: Path) -> None:
    more = write_dataset(tmp_path / "more", range(295, 305), seed=5)
    table = tmp_path / "more.csv"
    table.write_text("product_id,size\n301,M\n")
    add_products(tabled_index, more, columns=table)
    delete_products(tabled_index, [3, 301])
    before = SearchEngine.open(tabled_index)
    left = [one for one in range(305) if one not in (3, 301)]
    values = [before.product(one).values for one in left]
    compact_index(tabled_index)
    after = SearchEngine.open(tabled_index)
    assert len(OpenIndex.open(tabled_index).parts) == 1
    assert [after.product(one).values for one in left] == values
    assert found(after, ("price<=20", "colour=red|blue")) == found(before, ("price<=20", "colour=red|blue"))
    assert after.columns[2] == ColumnView(
        "size", "word"
    )  # a column that no product has a value in stays known


def test_new_values_come_without_new_vectors(tabled_index: Path, tmp_path: Path) -> None:
    add_products(tabled_index, write_dataset(tmp_path / "more", range(300, 305)))
    delete_products(tabled_index, [3])
    before = {path.stat().st_ino for path in tabled_index.rglob("codes.npy")}
    engine = SearchEngine.open(tabled_index)
    hits = engine.search(WORDS, k=400)
    table = tmp_path / "new.csv"
    table.write_text("product_id,price,size\n1,99,XL\n2,,\n302,5,M\n3,1,M\n")
    told: list[str] = []
    made = update_columns(tabled_index, table, remark=told.append)
    assert told == [f"{table}: 301 of 304 products have no row"]
    assert made.revision == 4
    assert engine.reload()
    wanted = {one: known_of(one) if one < 300 else {} for one in range(305) if one != 3}
    wanted[1] = {**wanted[1], "price": 99.0, "size": "XL"}
    wanted[2] = {name: value for name, value in wanted[2].items() if name != "price"}
    wanted[302] = {"price": 5.0, "size": "M"}
    assert {one: engine.product(one).values for one in wanted} == wanted
    assert engine.search(WORDS, k=400) == hits
    assert {path.stat().st_ino for path in tabled_index.rglob("codes.npy")} == before
    assert sorted(found(engine, ("price>=99",))) == [1]
    opened = OpenIndex.open(tabled_index)
    assert not check(opened, Bundle.load(tabled_index / BUNDLE)).problems
    names = {path.name for path in (tabled_index / "segments").iterdir()}
    assert names == {part.name for part in made.parts}
    update_columns(tabled_index, table)  # the same again changes nothing
    assert {path.name for path in (tabled_index / "segments").iterdir()} == names


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (
            "product_id,price\n1,cheap\n",
            "line 2, price: 'cheap' is no finite number; the column holds numbers in",
        ),
        (
            "product_id,price:word\n1,cheap\n",
            "price: holds words, in the index it holds numbers: say price:number",
        ),
        ("product_id,colour:number\n1,3\n", "colour: holds numbers, in the index it holds words"),
        ("product_id,Price\n1,1\n", "Price: the index has a column price"),
        ("product_id,texts\n1,1\n", "'texts': every index has one of this name"),
        ("product_id,price\n777,1\n", "none of its 1 products"),
        (
            f"product_id,{','.join(f'c{one}' for one in range(63))}\n1{',1' * 63}\n",
            "65 columns with those of the index",
        ),
    ],
)
def test_a_table_that_does_not_go_with_the_index_is_refused_and_changes_nothing(
    shop: Shop, tabled_index: Path, tmp_path: Path, lines: str, says: str
) -> None:
    table = tmp_path / "more.csv"
    table.write_text(lines)
    before = (tabled_index / MANIFEST).read_bytes()
    with pytest.raises(DataError, match=f"more.csv.*{says}"):
        update_columns(tabled_index, table)
    with pytest.raises(DataError, match=f"more.csv.*{says}"):
        add_products(tabled_index, shop.dataset, columns=table)
    assert (tabled_index / MANIFEST).read_bytes() == before


def test_a_daily_table_keeps_the_kinds_of_the_index(tabled_index: Path, tmp_path: Path) -> None:
    table = tmp_path / "day.csv"
    table.write_text("product_id,size\n1,M\n2,L\n")
    update_columns(tabled_index, table)
    table.write_text("product_id,size,price\n1,38,\n2,38,\n")
    assert update_columns(tabled_index, table).columns == {
        "price": "number",
        "colour": "word",
        "size": "word",
    }
    engine = SearchEngine.open(tabled_index)
    assert found(engine, ("size=38",)) == found(engine, ("size=38",), exact=True) != []
    assert "price" not in engine.product(1).values
    more = write_dataset(tmp_path / "more", range(300, 305))
    table.write_text("product_id,size\n301,40\n")
    add_products(tabled_index, more, columns=table)
    assert SearchEngine.open(tabled_index).product(301).values == {"size": "40"}


def test_an_older_index_without_columns_opens_and_takes_some(
    shop: Shop, own_index: Path, tmp_path: Path
) -> None:
    content = json.loads((own_index / MANIFEST).read_text())
    del content["columns"]
    (own_index / MANIFEST).write_text(json.dumps(content))
    assert SearchEngine.open(own_index).columns == ()
    more = write_dataset(tmp_path / "more", range(300, 305))
    table = tmp_path / "more.csv"
    table.write_text("product_id,price\n301,3\n")
    add_products(own_index, more, columns=table)
    assert found(SearchEngine.open(own_index), ("price<=3",)) == [301]


def test_a_reopened_index_does_not_answer_with_masks_of_the_old_state(
    tabled_index: Path, tmp_path: Path
) -> None:
    engine = SearchEngine.open(tabled_index)
    before = found(engine, ("price<=3",))
    more = write_dataset(tmp_path / "more", range(PRODUCTS))  # the very same products and vectors
    table = tmp_path / "more.csv"
    table.write_text(
        "product_id,price\n" + "".join(f"{one},{'1' if one == 8 else '9'}\n" for one in range(PRODUCTS))
    )
    add_products(tabled_index, more, columns=table)
    assert found(engine, ("price<=3",)) == before
    assert engine.reload()
    assert found(engine, ("price<=3",)) == [8]
