"""Columns of an index: filtered search is brute force, and what does not fit is told."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from shopwindow.cli import main
from shopwindow.data.dataset import Dataset
from shopwindow.files import DataError
from shopwindow.model.bundle import Bundle
from shopwindow.search.attributes import ATTRIBUTES_FILE
from shopwindow.search.building import build_index, delete_products
from shopwindow.search.conditions import parse_conditions
from shopwindow.search.engine import SearchEngine
from shopwindow.search.hits import ColumnView, Filter, Value
from shopwindow.search.index import MANIFEST
from shopwindow.search.lookup import MASKS_KEPT
from shopwindow.search.stores.local import LocalStore
from tests.search.catalogue import PRODUCTS
from tests.search.columns import COLOURS, WORDS, found, known_of, write_columns
from tests.search.conftest import Shop

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


def brute_force(shop: Shop, allowed: list[int]) -> list[int]:
    bundle = Bundle.load(shop.bundle)
    query = bundle.encode_texts([WORDS])[0].astype(np.float64)
    vectors = bundle.encode_dataset(Dataset(shop.dataset)).astype(np.float64)
    scores = {one: math.fsum(query * vectors[one]) for one in allowed}
    return sorted(scores, key=lambda one: (-scores[one], one))


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
    monkeypatch.setattr("shopwindow.search.neighbours.FEW_ROWS", 10)  # few rows would all be scanned
    through_cells = found(engine, ("price<=30",))
    assert set(through_cells) <= set(exact)
    assert len(set(through_cells[:10]) & set(exact[:10])) >= 8


def test_deleted_products_do_not_pass(shop: Shop, tabled_index: Path) -> None:
    gone = [one for one in range(PRODUCTS) if passes(known_of(one), ("colour=red",))][:5]
    delete_products(tabled_index, gone)
    allowed = [one for one in range(PRODUCTS) if passes(known_of(one), ("colour=red",)) and one not in gone]
    for exact in (False, True):
        assert found(SearchEngine.open(tabled_index), ("colour=red",), exact=exact) == brute_force(
            shop, allowed
        )


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
        ColumnView("price", "number", min(prices), max(prices), role="price"),
        ColumnView(
            "colour",
            "word",
            words=engine.columns[1].words,
            counts=tuple(
                sum(known_of(one).get("colour") == word for one in range(PRODUCTS))
                for word in engine.columns[1].words
            ),
            count=len(COLOURS),
        ),
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


def test_masks_are_kept_and_not_without_end(tabled: Path) -> None:
    engine = SearchEngine.open(tabled / "index")
    store = engine._state.store
    assert isinstance(store, LocalStore)
    (part,) = store.index.parts
    where = Filter(conditions=parse_conditions(["price<=20"]))
    engine.search("red", where=where)
    kept = part.passing(where)
    assert part.passing(where) is kept
    for bound in range(MASKS_KEPT + 5):
        found(engine, (f"price>={bound}",))
    again = part.passing(where)
    assert again is not kept
    assert np.array_equal(again, kept)


def test_values_of_another_index_are_refused(tabled_index: Path) -> None:
    (values,) = tabled_index.glob(f"segments/*/{ATTRIBUTES_FILE}")
    content = json.loads((tabled_index / MANIFEST).read_text())
    for columns, says in (
        ({"price": "word", "colour": "word"}, "the index says"),
        ({"price": "box"}, "columns"),
    ):
        (tabled_index / MANIFEST).write_text(json.dumps({**content, "columns": columns}))
        with pytest.raises(DataError, match=says):
            SearchEngine.open(tabled_index)
    (tabled_index / MANIFEST).write_text(json.dumps(content))
    values.write_bytes(values.read_bytes()[:100])
    with pytest.raises(DataError, match=ATTRIBUTES_FILE):
        SearchEngine.open(tabled_index)


def test_the_verbs_take_columns_and_conditions(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = write_columns(tmp_path / "columns.csv", range(PRODUCTS))
    main(
        [
            "index",
            "make",
            str(shop.bundle),
            str(shop.dataset),
            "--out",
            str(tmp_path / "i"),
            "--columns",
            str(columns),
        ]
    )
    said = capsys.readouterr().out
    assert "28 of 300 products have no row\n" in said
    assert "columns to filter by: price (numbers), colour (words)\n" in said
    assert f", {sum(bool(known_of(one)) for one in range(PRODUCTS))} with values to filter by\n" in said
    search = ["search", str(tmp_path / "i"), "red", "--top", "300"]
    main([*search, "--json", "--where", "price<=20", "--where", "colour=red|blue"])
    hits = json.loads(capsys.readouterr().out)
    asked = ("price<=20", "colour=red|blue")
    assert {int(hit["product_id"]) for hit in hits} == {
        one for one in range(PRODUCTS) if passes(known_of(one), asked)
    }
    assert all(hit["values"] == known_of(int(hit["product_id"])) for hit in hits)
    main([*search, "--where", "price=8"])
    assert "price 8, colour" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["search", "INDEX", "red", "--where", "price!20"],
            "--where: condition 'price!20': wanted one such as",
        ),
        (["search", "INDEX", "red", "--where", "price<=2"], "no column price"),
        (["index", "compact", "INDEX", "--columns", "x.csv"], "--columns: no such option"),
        (["index", "update", "INDEX"], "required: --columns"),
        (["index", "make", "BUNDLE", "DATASET", "--out", "OUT", "--columns", "x.csv"], "x.csv: no such file"),
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
