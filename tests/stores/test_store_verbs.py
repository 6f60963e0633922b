"""The verbs that fill and ask a database, and what they never print: a password."""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path
from typing import Any

import pytest

from shopwindow.cli import main
from tests.docs import pages
from tests.search.catalogue import PRODUCTS
from tests.search.conftest import Shop
from tests.stores.conftest import table_url

Capture = pytest.CaptureFixture[str]


def refused(capsys: Capture, *words: str) -> str:
    """The line that a command says before it exits 2."""
    with pytest.raises(SystemExit) as left:
        main(list(words))
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1, said
    return said


def test_sync_then_search(url: str, shop: Shop, capsys: Capture, tmp_path: Path) -> None:
    main(["sync", str(shop.index), "--store", url])
    assert f": {PRODUCTS} new, 0 changed, 0 gone, 0 equal" in capsys.readouterr().out
    main(["search", str(shop.index), "red", "shoe", "--json", "--where", "image_h>=1"])
    wanted = json.loads(capsys.readouterr().out)
    asked = ["--store", url, "--bundle", str(shop.bundle)]
    main(["search", "red", "shoe", "--json", "--where", "image_h>=1", *asked])
    found = json.loads(capsys.readouterr().out)
    assert [hit["product_id"] for hit in found] == [hit["product_id"] for hit in wanted]
    assert [hit["labels"] for hit in found] == [hit["labels"] for hit in wanted]
    main(["search", "--queries", str(shop.dataset), "--run", str(tmp_path / "a.run"), "--top", "3", *asked])
    assert "a.run: " in capsys.readouterr().out


def test_the_page_about_databases_is_run(
    server: str, own_index: Path, shop: Shop, capsys: Capture, tmp_path: Path
) -> None:
    """Every command of it but `serve`, which test_live_store.py starts, on a real PostgreSQL."""
    (tmp_path / "prices.csv").write_text("product_id,price:number\n3,4.5\n5,6\n")
    said = []
    text = (pages.DOCS / "how-to" / "stores.md").read_text(encoding="utf-8")
    places = {
        "postgresql://me@localhost/shop": table_url(server, "page"),
        "myshop/index/bundle": str(shop.bundle),
        "myshop/index": str(own_index),
        "myshop": str(own_index),
        "prices.csv": str(tmp_path / "prices.csv"),
    }
    for command in pages.commands(text):
        words = [places.get(word, word) for word in shlex.split(command)[1:]]
        if words[0] != "serve":
            main(words)
            said.append(capsys.readouterr().out)
    assert said[0].endswith(": 300 new, 0 changed, 0 gone, 0 equal\n")
    assert len(said[1].splitlines()) == 11
    assert said[3].endswith(": 0 new, 2 changed, 0 gone, 298 equal\n")


@pytest.mark.parametrize("verb", ["lance", "milvus"])
def test_export_fills_what_search_asks(verb: str, shop: Shop, capsys: Capture, tmp_path: Path) -> None:
    package = {"lance": "lancedb", "milvus": "milvus_lite"}[verb]
    pytest.importorskip(package, reason=f"{package} is not installed (extra {verb})")
    url = f"{verb}://{tmp_path}/goods.db"
    for _ in range(2):
        main(["export", verb, str(shop.index), "--url", url])
        assert capsys.readouterr().out == f"{PRODUCTS} products: products\n"
    main(["search", "red", "shoe", "--json", "--store", url, "--bundle", str(shop.bundle)])
    assert len(json.loads(capsys.readouterr().out)) == 10


def test_what_does_not_go_together_is_named(shop: Shop, capsys: Capture) -> None:
    index, store = str(shop.index), "lance://nowhere"
    assert "--bundle: --store needs it" in refused(capsys, "search", "red", "--store", store)
    assert "--bundle: goes with --store" in refused(capsys, "search", index, "red", "--bundle", "b")
    assert "either an index or --store" in refused(capsys, "serve", index, "--store", store, "--bundle", "b")
    assert "an index is wanted, or --store" in refused(capsys, "serve")
    says = "--store: no address of a store: postgresql://, lance://, qdrant:// or milvus:// was wanted"
    for wrong in ("mysql://me:geheim@host/shop", "shop"):
        said = refused(capsys, "sync", index, "--store", wrong)
        assert says in said
        assert "geheim" not in said


@pytest.mark.parametrize(
    ("package", "url"),
    [
        ("psycopg", "postgresql://shop:geheim@127.0.0.1:1/goods?table=t"),
        ("psycopg", "postgresql://shop:geh%zzeim@127.0.0.1:1/goods"),
        ("qdrant_client", "qdrant://shop:geheim@127.0.0.1:1"),
        ("pymilvus", "milvus://shop:geheim@127.0.0.1:1"),
        ("lancedb", "lance:///dev/null/geheim"),
    ],
)
def test_a_password_is_never_printed(
    shop: Shop, capsys: Capture, caplog: Any, package: str, url: str
) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed")
    caplog.set_level(logging.DEBUG)
    said = refused(capsys, "search", "red", "--store", url, "--bundle", str(shop.bundle))
    if "lance" not in url:
        assert "geh" not in said + caplog.text, said
