"""A Qdrant collection holds the vectors of the index, and finds with them what our exact search finds.

In qdrant-client's own storage in memory; against a real server too where SHOPWINDOW_QDRANT_URL names one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shopwindow.cli import main
from shopwindow.export.qdrant import write_qdrant
from shopwindow.files import DataError
from shopwindow.search.building import build_index, delete_products
from shopwindow.search.engine import SearchEngine
from shopwindow.search.index import OpenIndex
from shopwindow.search.stores.qdrant import open_qdrant, point_id
from shopwindow.search.stores.rows import DETAILS, HASH, card_of
from tests.search.catalogue import PRODUCTS, write_dataset
from tests.search.conftest import Shop, give_columns, name_column
from tests.search.text_ids import give_text_ids, sku

qdrant_client = pytest.importorskip("qdrant_client", reason="qdrant-client is not installed (extra qdrant)")
SERVER = os.environ.get("SHOPWINDOW_QDRANT_URL")
NAME = "shopwindow-test"


@pytest.fixture(params=["in memory", "server"])
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "server" and SERVER is None:
        pytest.skip("no Qdrant server: SHOPWINDOW_QDRANT_URL is not set")
    opened = open_qdrant(str(SERVER)) if request.param == "server" else qdrant_client.QdrantClient(":memory:")
    yield opened
    for one in opened.get_collections().collections:
        if one.name.startswith(NAME):
            opened.delete_collection(one.name)
    opened.close()


def collections(client: Any) -> list[str]:
    return [one.name for one in client.get_collections().collections if one.name.startswith(NAME)]


def test_collection_finds_what_exact_search_finds(shop: Shop, client: Any) -> None:
    assert write_qdrant(shop.index, client, NAME) == PRODUCTS
    engine = SearchEngine.open(shop.index)
    for words in ("red shoe", "small lamp", "green bag summer"):
        found = client.query_points(NAME, engine.encode([words])[0].tolist(), limit=10).points
        wanted = engine.search(words, exact=True)
        assert [point.id for point in found] == [hit.product_id for hit in wanted]
        np.testing.assert_allclose([p.score for p in found], [hit.score for hit in wanted], atol=1e-5)
        for point in found:
            view = engine.product(point.id)
            known = {name: value for name, value in point.payload.items() if name not in (DETAILS, HASH)}
            assert known == {
                "image_h": view.image_h,
                "image_w": view.image_w,
                "labels": sorted(set(view.labels)),
                "texts": list(view.texts),
            }


def test_points_of_text_ids_are_found_by_a_uuid_and_say_the_id(own_index: Path, client: Any) -> None:
    give_text_ids(own_index)
    assert write_qdrant(own_index, client, NAME) == write_qdrant(own_index, client, NAME) == PRODUCTS
    assert client.count(NAME).count == PRODUCTS
    engine = SearchEngine.open(own_index)
    found = client.query_points(NAME, engine.encode(["red shoe"])[0].tolist(), limit=10).points
    assert [point.payload["product_id"] for point in found] == [
        hit.product_id for hit in engine.search("red shoe", exact=True)
    ]
    (point,) = client.retrieve(NAME, [point_id(sku(42))])
    assert point.payload["product_id"] == "SKU-0042"


def test_payload_holds_the_shop_s_values_where_there_are_any(priced_index: Path, client: Any) -> None:
    write_qdrant(priced_index, client, NAME)
    engine = SearchEngine.open(priced_index)
    found = {point.id: point.payload for point in client.retrieve(NAME, list(range(305)))}
    own = {"image_h", "image_w", "labels", "texts", DETAILS, HASH}
    values = {one: {name: payload[name] for name in payload.keys() - own} for one, payload in found.items()}
    assert values == {one: dict(engine.product(one).values) for one in range(305)}
    assert (values[1], values[2], values[4]) == ({}, {"Price": 0.5}, {"Price": 1.0, "order": "dark 'green'"})
    models = qdrant_client.models
    cheap = models.FieldCondition(key="Price", range=models.Range(lte=1.0))
    assert client.count(NAME, count_filter=models.Filter(must=[cheap])).count == 2
    give_columns(priced_index, "product_id,Price:number,order:word", "4,,")
    write_qdrant(priced_index, client, NAME)
    (point,) = client.retrieve(NAME, [4])
    assert point.payload.keys() == own


def test_column_named_as_one_of_the_export_s_own_leaves_the_server_alone(
    own_index: Path, client: Any
) -> None:
    with pytest.raises(DataError, match="column 'labels': every export has one of this name"):
        write_qdrant(name_column(own_index, "labels"), client, NAME)
    assert collections(client) == []


def test_again_is_as_once_and_a_new_state_takes_the_place_of_the_old(own_index: Path, client: Any) -> None:
    for _ in range(2):
        write_qdrant(own_index, client, NAME)
        assert client.count(NAME).count == PRODUCTS
        assert len(collections(client)) == 1
    before = collections(client)
    delete_products(own_index, [1, 2])
    write_qdrant(own_index, client, NAME)
    assert client.count(NAME).count == PRODUCTS - 2
    assert client.retrieve(NAME, [1, 2, 3])[0].id == 3
    assert len(collections(client)) == 1
    assert collections(client) != before


def test_metadata_is_that_of_the_index_as_it_is_now(shop: Shop, client: Any, tmp_path: Path) -> None:
    for name in ("shoes", "boots"):
        (tmp_path / "labels.txt").write_text(f"category_id\tcategory_name\n0\t{name}\n")
        build_index(shop.bundle, shop.dataset, tmp_path / "index", labels=tmp_path / "labels.txt")
        write_qdrant(tmp_path / "index", client, NAME)
        (one,) = collections(client)
        card = client.get_collection(one).config.metadata
        assert card == card_of(OpenIndex.open(tmp_path / "index"))
        assert card["label_names"] == {"0": name}


def test_interrupted_export_leaves_the_old_collection_and_goes_on(own_index: Path, client: Any) -> None:
    write_qdrant(own_index, client, NAME)
    delete_products(own_index, [1])

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_qdrant(own_index, client, NAME, progress=interrupt)
    assert client.count(NAME).count == PRODUCTS
    write_qdrant(own_index, client, NAME)
    assert client.count(NAME).count == PRODUCTS - 1
    assert len(collections(client)) == 1


def test_collection_of_others_is_not_touched(shop: Shop, client: Any) -> None:
    size = qdrant_client.models.VectorParams(size=3, distance="Cosine")
    client.create_collection(NAME, vectors_config=size)
    client.create_collection(f"{NAME}-mine", vectors_config=size)
    with pytest.raises(DataError, match="a collection that shopwindow did not write"):
        write_qdrant(shop.index, client, NAME)
    client.delete_collection(NAME)
    write_qdrant(shop.index, client, NAME)
    assert f"{NAME}-mine" in collections(client)


def test_what_qdrant_does_not_take_is_said(shop: Shop, client: Any, tmp_path: Path) -> None:
    build_index(shop.bundle, write_dataset(tmp_path / "ds", [7, 2**63 - 1]), tmp_path / "index")
    assert write_qdrant(tmp_path / "index", client, NAME) == 2
    for wrong in ("", "a b", "a/b", "ä", "a\n"):
        with pytest.raises(ValueError, match="letters, digits"):
            write_qdrant(shop.index, client, wrong)


@pytest.mark.skipif(SERVER is None, reason="no Qdrant server: SHOPWINDOW_QDRANT_URL is not set")
def test_verb_fills_the_collection(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    main(["export", "qdrant", str(shop.index), "--url", str(SERVER), "--collection", NAME])
    assert capsys.readouterr().out == f"300 products: {NAME}\n"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ftp://x", "folder"])
def test_no_server_is_one_clear_line(shop: Shop, capsys: pytest.CaptureFixture[str], url: str) -> None:
    with pytest.raises(SystemExit) as left:
        main(["export", "qdrant", str(shop.index), "--url", url, "--collection", "c"])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"shopwindow: {url}: ")
    assert len(said.splitlines()) == 1
