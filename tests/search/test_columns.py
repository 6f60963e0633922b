"""Columns of an index: filtered search is brute force, values survive every change, and states do not mix."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shopwindow.cli import main
from shopwindow.data.dataset import Dataset
from shopwindow.files import DataError
from shopwindow.model.bundle import Bundle
from shopwindow.search.attributes import ATTRIBUTES_FILE
from shopwindow.search.building import add_products, build_index, compact_index, delete_products
from shopwindow.search.conditions import parse_conditions
from shopwindow.search.engine import SearchEngine
from shopwindow.search.golden import check
from shopwindow.search.hits import ColumnView, Filter, Value
from shopwindow.search.index import BUNDLE, MANIFEST, OpenIndex
from shopwindow.search.index_columns import update_columns
from shopwindow.search.masks import MASKS_KEPT
from tests.search.catalogue import PRODUCTS, write_dataset
from tests.search.conftest import Shop

WORDS = "red shoe"
COLOURS = ("red", "blue", "dark green")
ASKED = (
    ("price<=20",),
    ("price>=5.5", "price<=30"),
    ("price=8",),
    ("colour=red",),
    ("colour=dark green|blue", "price<=40"),
    ("colour=violet",),
    ("price<=-1",),
    ("image_h=100", "image_w<=80", "colour=red"),
    ("image_w>=81",),
)


def price_of(product_id: int) -> float | None:
    return None if product_id % 7 == 0 else product_id % 50 + 0.5 * (product_id % 2)


def colour_of(product_id: int) -> str | None:
    return None if product_id % 5 == 4 else COLOURS[product_id % 3]


def known_of(product_id: int) -> dict[str, Value]:
    """What the table says of a product: every eleventh has no row."""
    found = {} if product_id % 11 == 0 else {"price": price_of(product_id), "colour": colour_of(product_id)}
    return {name: value for name, value in found.items() if value is not None}


def passes(known: dict[str, Value], conditions: tuple[str, ...]) -> bool:
    """The second opinion: what the words of a condition say, of one product."""
    known = {**known, "image_h": 100.0, "image_w": 80.0}
    for condition in conditions:
        name, relation, asked = next(
            (name, relation, asked)
            for relation in ("<=", ">=", "=")
            for name, found, asked in [condition.partition(relation)]
            if found
        )
        value = known.get(name)
        if value is None:
            return False
        if isinstance(value, str):
            right = value in asked.split("|")
        else:
            right = {"<=": value <= float(asked), ">=": value >= float(asked), "=": value == float(asked)}[
                relation
            ]
        if not right:
            return False
    return True


def write_columns(path: Path, product_ids: range) -> Path:
    """The table of these products, in no order of theirs, with rows of strangers."""
    lines = ["product_id,price,colour"]
    for one in reversed(product_ids):
        if one % 11:
            price, colour = price_of(one), colour_of(one)
            lines.append(f"{one},{'' if price is None else price},{colour or ''}")
    path.write_text("\n".join([*lines, "987654,1,red", "987655,,"]) + "\n")
    return path


@pytest.fixture(scope="module")
def tabled(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with columns, exact, and beside it one with cells, `cells`."""
    folder = tmp_path_factory.mktemp("columns")
    columns = write_columns(folder / "columns.csv", range(PRODUCTS))
    for name, start in (("index", 10_000), ("cells", 100)):
        build_index(
            shop.bundle,
            shop.dataset,
            folder / name,
            texts=shop.dataset,
            columns=columns,
            approximate_from=start,
        )
    return folder


@pytest.fixture
def own(tabled: Path, tmp_path: Path) -> Path:
    shutil.copytree(tabled / "index", tmp_path / "index")
    return tmp_path / "index"


def brute_force(shop: Shop, allowed: list[int]) -> list[int]:
    bundle = Bundle.load(shop.bundle)
    query = bundle.encode_queries([WORDS])[0].astype(np.float64)
    vectors = bundle.encode_products(Dataset(shop.dataset)).astype(np.float64)
    scores = {one: math.fsum(query * vectors[one]) for one in allowed}
    return sorted(scores, key=lambda one: (-scores[one], one))


def found(engine: SearchEngine, conditions: tuple[str, ...], **how: Any) -> list[int]:
    where = Filter(conditions=parse_conditions(conditions))
    return [hit.product_id for hit in engine.search(WORDS, k=PRODUCTS, where=where, **how)]


@pytest.mark.parametrize("conditions", ASKED)
def test_filtered_search_is_brute_force_over_those_that_pass(
    shop: Shop, tabled: Path, conditions: tuple[str, ...]
) -> None:
    allowed = [one for one in range(PRODUCTS) if passes(known_of(one), conditions)]
    wanted = brute_force(shop, allowed)
    for name in ("index", "cells"):
        engine = SearchEngine.open(tabled / name)
        assert found(engine, conditions) == wanted
        assert found(engine, conditions, exact=True) == wanted
        assert set(found(engine, conditions, hybrid=True)) == set(wanted)


def test_the_questions_are_not_all_empty_nor_all_alike() -> None:
    sizes = {sum(passes(known_of(one), asked) for one in range(PRODUCTS)) for asked in ASKED}
    assert len(sizes) >= 6
    assert 0 in sizes


def test_cells_are_filtered_as_exact_search_is(tabled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = SearchEngine.open(tabled / "cells")
    exact = found(engine, ("price<=30",), exact=True)
    monkeypatch.setattr("shopwindow.search.segment._FEW_ROWS", 10)  # few rows would all be scanned
    through_cells = found(engine, ("price<=30",))
    assert set(through_cells) <= set(exact)
    assert len(set(through_cells[:10]) & set(exact[:10])) >= 8


def test_deleted_products_do_not_pass(shop: Shop, own: Path) -> None:
    gone = [one for one in range(PRODUCTS) if passes(known_of(one), ("colour=red",))][:5]
    delete_products(own, gone)
    allowed = [one for one in range(PRODUCTS) if passes(known_of(one), ("colour=red",)) and one not in gone]
    for exact in (False, True):
        assert found(SearchEngine.open(own), ("colour=red",), exact=exact) == brute_force(shop, allowed)


def test_similar_products_are_filtered_too(tabled: Path) -> None:
    engine = SearchEngine.open(tabled / "index")
    where = Filter(conditions=parse_conditions(["colour=blue"]))
    for hits in (
        engine.similar(5, k=PRODUCTS, where=where),
        engine.similar_region(5, 0, k=PRODUCTS, where=where),
    ):
        assert sorted(hit.product_id for hit in hits) == [
            one for one in range(PRODUCTS) if known_of(one).get("colour") == "blue" and one != 5
        ]


def test_a_product_shows_its_values_and_an_index_its_columns(tabled: Path) -> None:
    engine = SearchEngine.open(tabled / "index")
    for one in range(PRODUCTS):
        assert engine.product(one).values == known_of(one)
    prices = [float(known_of(one)["price"]) for one in range(PRODUCTS) if "price" in known_of(one)]
    assert engine.columns == (
        ColumnView("price", "number", min(prices), max(prices)),
        ColumnView("colour", "word", words=engine.columns[1].words),
    )
    assert sorted(engine.columns[1].words) == sorted(COLOURS)


def test_what_does_not_fit_is_told_by_every_search(shop: Shop, tabled: Path) -> None:
    engine = SearchEngine.open(tabled / "index")
    for text, says in (
        ("weight<=2", "no column weight; there are price"),
        ("price=cheap", "no finite number"),
    ):
        where = Filter(conditions=parse_conditions([text]))
        for ask in (
            lambda where=where: engine.search("red", where=where),
            lambda where=where: engine.search_many(["red"], where=where, exact=True),
            lambda where=where: engine.similar(5, where=where),
            lambda where=where: engine.similar_region(5, 0, where=where),
        ):
            with pytest.raises(ValueError, match=says):
                ask()
    plain = SearchEngine.open(shop.index)
    assert plain.columns == ()
    with pytest.raises(ValueError, match="no column price; there are image_h"):
        plain.search("red", where=Filter(conditions=parse_conditions(["price<=2"])))


def test_hybrid_without_texts_is_told(shop: Shop, tmp_path: Path) -> None:
    build_index(shop.bundle, shop.dataset, tmp_path / "index")
    with pytest.raises(ValueError, match="holds no texts"):
        SearchEngine.open(tmp_path / "index").search("red", hybrid=True)


def test_added_products_bring_their_values_and_replaced_ones_keep_theirs(own: Path, tmp_path: Path) -> None:
    more = write_dataset(tmp_path / "more", range(290, 310), seed=5)
    told: list[str] = []
    add_products(own, more, remark=told.append)
    without = sum(one >= 300 or not known_of(one) for one in range(290, 310))
    assert told == [f"{without} of 20 products have no values and pass no filter; --columns gives some"]
    engine = SearchEngine.open(own)
    assert [engine.product(one).values for one in range(300)] == [known_of(one) for one in range(300)]
    assert engine.product(305).values == {}
    told.clear()
    table = tmp_path / "more.csv"
    table.write_text("product_id,price,size\n295,1.25,XL\n305,7,\n4,1,L\n")
    made = add_products(own, more, columns=table, remark=told.append)
    assert made.columns == {"price": "number", "colour": "word", "size": "word"}
    assert told == [f"{table}: 18 of 20 products have no row; 1 rows are of other products"]
    engine = SearchEngine.open(own)
    assert engine.product(295).values == {**known_of(295), "price": 1.25, "size": "XL"}
    assert engine.product(296).values == known_of(296)  # the table has no row of it
    assert engine.product(4).values == known_of(4)
    assert found(engine, ("size=XL",)) == [295]
    assert set(found(engine, ("price=7",))) == {
        305,
        *(one for one in range(300) if one != 295 and known_of(one).get("price") == 7),
    }


def test_a_table_that_is_added_changes_the_same_values_as_one_that_updates(
    shop: Shop, own: Path, tmp_path: Path
) -> None:
    table = tmp_path / "prices.csv"
    table.write_text("product_id,price\n1,99\n2,\n3,7\n")
    updated = tmp_path / "updated"
    shutil.copytree(own, updated)
    update_columns(updated, table)
    add_products(own, shop.dataset, columns=table)
    added, changed = SearchEngine.open(own), SearchEngine.open(updated)
    assert [added.product(one).values for one in range(PRODUCTS)] == [
        changed.product(one).values for one in range(PRODUCTS)
    ]
    assert added.product(1).values == {**known_of(1), "price": 99.0}


def test_products_with_values_are_counted_while_they_live(own: Path, tmp_path: Path) -> None:
    known = [one for one in range(PRODUCTS) if known_of(one)]
    assert OpenIndex.open(own).with_values == len(known)
    add_products(own, write_dataset(tmp_path / "more", range(295, 305)))
    delete_products(own, known[:3])
    assert OpenIndex.open(own).with_values == len(known) - 3


def test_compacting_keeps_every_value(own: Path, tmp_path: Path) -> None:
    more = write_dataset(tmp_path / "more", range(295, 305), seed=5)
    table = tmp_path / "more.csv"
    table.write_text("product_id,size\n301,M\n")
    add_products(own, more, columns=table)
    delete_products(own, [3, 301])
    before = SearchEngine.open(own)
    left = [one for one in range(305) if one not in (3, 301)]
    values = [before.product(one).values for one in left]
    compact_index(own)
    after = SearchEngine.open(own)
    assert len(OpenIndex.open(own).parts) == 1
    assert [after.product(one).values for one in left] == values
    assert found(after, ("price<=20", "colour=red|blue")) == found(before, ("price<=20", "colour=red|blue"))
    assert after.columns[2] == ColumnView(
        "size", "word"
    )  # a column that no product has a value in stays known


def test_new_values_come_without_new_vectors(own: Path, tmp_path: Path) -> None:
    add_products(own, write_dataset(tmp_path / "more", range(300, 305)))
    delete_products(own, [3])
    before = {path.stat().st_ino for path in own.rglob("codes.npy")}
    engine = SearchEngine.open(own)
    hits = engine.search(WORDS, k=400)
    table = tmp_path / "new.csv"
    table.write_text("product_id,price,size\n1,99,XL\n2,,\n302,5,M\n3,1,M\n")
    told: list[str] = []
    made = update_columns(own, table, remark=told.append)
    assert told == [f"{table}: 301 of 304 products have no row; 1 rows are of other products"]
    assert made.revision == 4
    assert engine.reload()
    wanted = {one: known_of(one) if one < 300 else {} for one in range(305) if one != 3}
    wanted[1] = {**wanted[1], "price": 99.0, "size": "XL"}
    wanted[2] = {name: value for name, value in wanted[2].items() if name != "price"}
    wanted[302] = {"price": 5.0, "size": "M"}
    assert {one: engine.product(one).values for one in wanted} == wanted
    assert engine.search(WORDS, k=400) == hits
    assert {path.stat().st_ino for path in own.rglob("codes.npy")} == before
    assert sorted(found(engine, ("price>=99",))) == [1]
    opened = OpenIndex.open(own)
    assert not check(opened, Bundle.load(own / BUNDLE)).problems
    names = {path.name for path in (own / "segments").iterdir()}
    assert names == {part.name for part in made.parts}
    update_columns(own, table)  # the same again changes nothing
    assert {path.name for path in (own / "segments").iterdir()} == names


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
    shop: Shop, own: Path, tmp_path: Path, lines: str, says: str
) -> None:
    table = tmp_path / "more.csv"
    table.write_text(lines)
    before = (own / MANIFEST).read_bytes()
    for change in (
        lambda: update_columns(own, table),
        lambda: add_products(own, shop.dataset, columns=table),
    ):
        with pytest.raises(DataError, match=says) as told:
            change()
        assert "more.csv" in str(told.value)
    assert (own / MANIFEST).read_bytes() == before


def test_a_daily_table_keeps_the_kinds_of_the_index(own: Path, tmp_path: Path) -> None:
    table = tmp_path / "day.csv"
    table.write_text("product_id,size\n1,M\n2,L\n")
    update_columns(own, table)
    table.write_text("product_id,size,price\n1,38,\n2,38,\n")
    assert update_columns(own, table).columns == {"price": "number", "colour": "word", "size": "word"}
    engine = SearchEngine.open(own)
    assert found(engine, ("size=38",)) == found(engine, ("size=38",), exact=True) != []
    assert "price" not in engine.product(1).values
    more = write_dataset(tmp_path / "more", range(300, 305))
    table.write_text("product_id,size\n301,40\n")
    add_products(own, more, columns=table)
    assert SearchEngine.open(own).product(301).values == {"size": "40"}


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


def test_a_reopened_index_does_not_answer_with_masks_of_the_old_state(own: Path, tmp_path: Path) -> None:
    engine = SearchEngine.open(own)
    before = found(engine, ("price<=3",))
    more = write_dataset(tmp_path / "more", range(PRODUCTS))  # the very same products and vectors
    table = tmp_path / "more.csv"
    table.write_text(
        "product_id,price\n" + "".join(f"{one},{'1' if one == 8 else '9'}\n" for one in range(PRODUCTS))
    )
    add_products(own, more, columns=table)
    assert found(engine, ("price<=3",)) == before
    assert engine.reload()
    assert found(engine, ("price<=3",)) == [8]


def test_masks_are_kept_and_not_without_end(tabled: Path) -> None:
    engine = SearchEngine.open(tabled / "index")
    (part,) = engine._state.index.parts
    where = Filter(conditions=parse_conditions(["price<=20"]))
    engine.search("red", where=where)
    kept = part.masks.of(part.segment, where)
    assert part.masks.of(part.segment, where) is kept
    for bound in range(MASKS_KEPT + 5):
        found(engine, (f"price>={bound}",))
    assert len(part.masks._kept) == MASKS_KEPT
    assert np.array_equal(part.masks.of(part.segment, where), kept)


def test_values_of_another_index_are_refused(own: Path) -> None:
    (values,) = own.glob(f"segments/*/{ATTRIBUTES_FILE}")
    content = json.loads((own / MANIFEST).read_text())
    for columns, says in (
        ({"price": "word", "colour": "word"}, "the index says"),
        ({"price": "box"}, "columns"),
    ):
        (own / MANIFEST).write_text(json.dumps({**content, "columns": columns}))
        with pytest.raises(DataError, match=says):
            SearchEngine.open(own)
    (own / MANIFEST).write_text(json.dumps(content))
    values.write_bytes(values.read_bytes()[:100])
    with pytest.raises(DataError, match=ATTRIBUTES_FILE):
        SearchEngine.open(own)


def test_the_verbs_take_columns_and_conditions(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = write_columns(tmp_path / "columns.csv", range(PRODUCTS))
    main(
        [
            "index",
            str(shop.bundle),
            str(shop.dataset),
            "--out",
            str(tmp_path / "i"),
            "--columns",
            str(columns),
        ]
    )
    said = capsys.readouterr().out
    assert "28 of 300 products have no row; 2 rows are of other products" in said
    assert "columns price (numbers), colour (words)" in said
    assert f", {sum(bool(known_of(one)) for one in range(PRODUCTS))} with values; " in said
    search = ["search", str(tmp_path / "i"), "red", "--top", "300"]
    main([*search, "--json", "--where", "price<=20", "--where", "colour=red|blue"])
    hits = json.loads(capsys.readouterr().out)
    asked = ("price<=20", "colour=red|blue")
    assert {hit["product_id"] for hit in hits} == {
        one for one in range(PRODUCTS) if passes(known_of(one), asked)
    }
    assert all(hit["values"] == known_of(hit["product_id"]) for hit in hits)
    main([*search, "--where", "price=8"])
    assert "price 8, colour" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["search", "INDEX", "red", "--where", "price<20"],
            "--where: condition 'price<20': wanted one such as",
        ),
        (["search", "INDEX", "red", "--where", "price<=2"], "no column price"),
        (
            ["index", "--compact", "INDEX", "--columns", "x.csv"],
            "--columns: goes with --out, --add or --update",
        ),
        (["index", "--update", "INDEX"], "--columns: --update needs it"),
        (["index", "BUNDLE", "DATASET", "--out", "OUT", "--columns", "x.csv"], "x.csv: no such file"),
    ],
)
def test_the_verbs_refuse_what_does_not_fit(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    places = {"INDEX": shop.index, "BUNDLE": shop.bundle, "DATASET": shop.dataset, "OUT": tmp_path / "out"}
    with pytest.raises(SystemExit) as ended:
        main([str(places.get(word, word)) for word in options])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
