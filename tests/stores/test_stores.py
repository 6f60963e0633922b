"""A database answers as local files do: same products, filters, pages and re-ranking, whatever holds the vectors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shopwindow.files import DataError
from shopwindow.model.bundle import Bundle
from shopwindow.search.building import add_products, delete_products
from shopwindow.search.conditions import parse_conditions
from shopwindow.search.engine import SearchEngine
from shopwindow.search.hits import EVERYTHING, Filter, Hit, UnknownProduct
from shopwindow.search.stores import sync as syncing
from shopwindow.search.stores.database import Database, DatabaseOrigin
from shopwindow.search.stores.local import LocalFiles
from shopwindow.search.stores.sync import Synced, sync
from tests.search.catalogue import PRODUCTS, write_bundle, write_dataset
from tests.search.conftest import Shop
from tests.search.text_ids import give_text_ids, sku

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact")  # said by qdrant-client's memory
FILTERS = (
    EVERYTHING,
    Filter(frozenset({3, 17})),
    Filter(conditions=parse_conditions(["price<20"])),
    Filter(conditions=parse_conditions(["colour=red|dark green"])),
    Filter(conditions=parse_conditions(["price=4|5.5", "image_h>=1"])),
    Filter(frozenset({3}), parse_conditions(["colour=blue", "price>10", "Price<=40"])),
    Filter(conditions=parse_conditions(["price<0"])),
)


def over(database: Database, bundle: Path) -> SearchEngine:
    return SearchEngine.over(DatabaseOrigin(database), bundle=bundle)


def check_same(found: list[Hit], wanted: list[Hit]) -> None:
    """Same products in the same order; scores are summed in float32 there, in float64 here."""
    assert [hit.product_id for hit in found] == [hit.product_id for hit in wanted]
    np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in wanted], atol=1e-5)


def test_searches_filters_and_pages_are_those_of_local_files(stocked: Path, database: Database) -> None:
    sync(stocked / "index", database)
    ours, theirs = SearchEngine.open(stocked / "index"), over(database, stocked / "bundle")
    for words in ("red shoe", "small lamp"):
        for where in FILTERS:
            wanted = ours.search(words, where=where, exact=True)
            check_same(theirs.search(words, where=where), wanted)
            check_same(theirs.search(words, where=where, exact=True), wanted)
            assert theirs.count(where) == ours.count(where)
        wanted = ours.search(words, rerank="late", k=5)
        check_same(theirs.search(words, rerank="late", k=5), wanted)
        shown = theirs.with_views(wanted)
        assert [hit.view for hit in shown] == [hit.view for hit in ours.with_views(wanted)]
    for product in (0, 17, PRODUCTS - 1):
        assert theirs.product(str(product)) == ours.product(product)
    check_same(theirs.similar(5), ours.similar(5))
    assert theirs.columns == ours.columns
    assert (theirs.label_counts, theirs.label_names) == (ours.label_counts, ours.label_names)
    assert theirs.stats()["rerankers"] == ["late"]
    assert theirs.holds(np.array([3, PRODUCTS])).tolist() == [True, False]
    with pytest.raises(UnknownProduct):
        theirs.product(PRODUCTS)
    with pytest.raises(ValueError, match="no column prize; there are price"):
        theirs.search("red", where=Filter(conditions=parse_conditions(["prize<3"])))
    with pytest.raises(ValueError, match="features of regions, which a database does not hold"):
        theirs.explain("red", 5)


def test_hybrid_finds_what_texts_say_or_a_line_says_why_not(
    stocked: Path, database: Database, kind: str
) -> None:
    sync(stocked / "index", database)
    theirs = over(database, stocked / "bundle")
    if database.full_text is not None:
        with pytest.raises(ValueError, match=r"hybrid: shopwindow uses no full text of (Qdrant|Milvus)"):
            theirs.search("red shoe", hybrid=True)
        assert not theirs.stats()["texts"]
        return
    where = Filter(conditions=parse_conditions(["price<20"]))
    # No word that the model knows, so that full text alone finds: every product has one of these words at most.
    texts = DatabaseOrigin(database).open().find_by_texts("LAMP", 300, where)
    lamps = LocalFiles(stocked / "index").open().find_by_texts("LAMP", 300, where)
    assert sorted(texts.ids.tolist()) == sorted(lamps.ids.tolist())
    assert len(texts.ids) > 10
    assert len(theirs.search("lamp '& | !", hybrid=True, where=where)) == 10
    assert DatabaseOrigin(database).open().find_by_texts("'!&|", 10, where).ids.tolist() == []


def test_sync_brings_only_what_differs_and_says_so(stocked: Path, database: Database, tmp_path: Path) -> None:
    index = tmp_path / "index"
    shutil.copytree(stocked / "index", index)
    assert sync(index, database) == Synced(PRODUCTS, 0, 0, 0)
    theirs = over(database, stocked / "bundle")
    assert str(sync(index, database)) == "0 new, 0 changed, 0 gone, 300 equal"
    delete_products(index, [1, 2, 3])
    add_products(index, write_dataset(tmp_path / "more", range(295, 305), seed=5))
    assert sync(index, database) == Synced(5, 5, 3, 292)
    theirs.reload()
    assert theirs.count() == 302
    check_same(theirs.search("red shoe", k=400), SearchEngine.open(index).search("red shoe", k=400))


def test_a_sync_that_was_killed_goes_on_where_it_was(
    stocked: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncing, "_ROWS_AT_ONCE", 100)

    def interrupt(done: int, total: int) -> None:
        if done == 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sync(stocked / "index", database, progress=interrupt)
    assert sync(stocked / "index", database) == Synced(100, 0, 0, 200)


def test_another_model_is_refused(stocked: Path, shop: Shop, database: Database, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no products yet"):
        over(database, stocked / "bundle")
    sync(stocked / "index", database)
    other = write_bundle(tmp_path / "other", seed=1)
    with pytest.raises(DataError, match="another model than the index was made by"):
        over(database, other)
    with pytest.raises(DataError, match="vectors of another model; `shopwindow export` replaces"):
        sync(shop.index, database)
    assert over(database, stocked / "bundle").count() == PRODUCTS


def test_a_reranker_that_needs_what_is_not_kept_is_refused(
    shop: Shop, stocked: Path, database: Database
) -> None:
    sync(shop.index, database)
    theirs = over(database, shop.bundle)
    assert theirs.stats()["rerankers"] == []
    wanted = SearchEngine.open(shop.index).search("red shoe", rerank="expand:5,3")
    check_same(theirs.search("red shoe", rerank="expand:5,3"), wanted)

    late = Bundle.load(stocked / "bundle").reranker
    assert late is not None
    with pytest.raises(ValueError, match="re-ranking late: this store keeps no regions"):
        theirs.search("red shoe", rerank=late)


def test_ids_of_text_and_odd_columns_come_back(priced_index: Path, shop: Shop, database: Database) -> None:
    ours = SearchEngine.open(priced_index)
    sync(priced_index, database)
    theirs = over(database, shop.bundle)
    for conditions in (["Price<=1"], ["order=dark 'green'"], ["ORDER=red|dark 'green'", "price>3"]):
        where = Filter(conditions=parse_conditions(conditions))
        check_same(theirs.search("red", where=where), ours.search("red", where=where))
        assert 0 < theirs.count(where) == ours.count(where)
    assert theirs.product(4).values == {"Price": 1.0, "order": "dark 'green'"}


def test_ids_of_text_are_ids_there_too(own_index: Path, shop: Shop, database: Database) -> None:
    give_text_ids(own_index)
    ours = SearchEngine.open(own_index)
    sync(own_index, database)
    theirs = over(database, shop.bundle)
    check_same(theirs.search("red shoe", k=30), ours.search("red shoe", k=30))
    assert theirs.product(sku(42)).product_id == sku(42)
    check_same(theirs.similar(sku(7)), ours.similar(sku(7)))
    delete_products(own_index, [sku(42)])
    assert sync(own_index, database) == Synced(0, 0, 1, PRODUCTS - 1)
    theirs.reload()  # LanceDB stays in the version that was opened
    assert theirs.holds(np.array([sku(41), sku(42)])).tolist() == [True, False]


def test_a_new_column_comes_with_a_sync(
    own_index: Path, shop: Shop, database: Database, tmp_path: Path
) -> None:
    from tests.search.conftest import give_columns

    sync(own_index, database)
    give_columns(own_index, "product_id,stock:number", "3,4", "5,6")
    assert sync(own_index, database) == Synced(0, 2, 0, PRODUCTS - 2)
    theirs = over(database, shop.bundle)
    where = Filter(conditions=parse_conditions(["stock>5"]))
    assert [hit.product_id for hit in theirs.search("red", where=where)] == [5]


def test_lance_searches_the_kept_regions_by_its_own_late_interaction(stocked: Path, tmp_path: Path) -> None:
    """The column is a multivector one: its MaxSim, the sum of each word's best cosine, is LanceDB's."""
    lancedb = pytest.importorskip("lancedb", reason="lancedb is not installed (extra lance)")
    from shopwindow.export.lance import write_lance

    write_lance(stocked / "index", f"lance://{tmp_path}/base")
    table = lancedb.connect(tmp_path / "base").open_table("products")
    rows = table.to_arrow().select(["product_id", "shopwindow_kept"]).to_pylist()
    words = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    best = {row["product_id"]: (words @ np.array(row["shopwindow_kept"]).T).max(axis=1).sum() for row in rows}
    asked = table.search(words, vector_column_name="shopwindow_kept").distance_type("cosine")
    found = asked.limit(10).select(["product_id", "_distance"]).to_arrow()["product_id"].to_pylist()
    # float16 in the table: neighbours in the order may change places
    wanted = sorted(best, key=lambda one: -best[one])[:10]
    assert len(set(found) & set(wanted)) >= 9
    card = json.loads(table.schema.field("product_id").metadata[b"shopwindow"])
    assert card["search"]["kept_regions"] == "late"
