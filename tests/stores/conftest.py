"""Databases to fill, each with a real engine, and small indexes to fill them from."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from shopwindow.search.building import build_index
from shopwindow.search.stores.database import Database, open_database
from tests.postgres import running_postgres
from tests.search import conftest as search
from tests.search.catalogue import PRODUCTS, write_late_bundle
from tests.search.columns import write_columns
from tests.search.conftest import Shop

own_index = search.own_index
priced_index = search.priced_index
shop = search.shop
KINDS = {
    "postgres": "psycopg",
    "lance": "lancedb",
    "qdrant": "qdrant_client",
    "qdrant edge": "qdrant_edge",
    "milvus": "milvus_lite",
}
"""Each with the package that holds its engine, or its client."""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL for all tests of this folder."""
    with running_postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    package = KINDS[request.param]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    return str(request.param)


@pytest.fixture
def url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Where the database is; of Qdrant there is none here that a URL could name."""
    if kind == "postgres":
        return table_url(request.getfixturevalue("server"), f"t_{abs(hash(tmp_path))}")
    if kind.startswith("qdrant"):
        pytest.skip("no Qdrant server: its engine runs without a URL")
    return {"lance": f"lance://{tmp_path}/lance", "milvus": f"milvus://{tmp_path}/milvus.db"}[kind]


@pytest.fixture
def database(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty one."""
    if not kind.startswith("qdrant"):
        yield open_database(request.getfixturevalue("url"))
        return
    from qdrant_client import QdrantClient

    from shopwindow.search.stores.qdrant import Qdrant

    client = QdrantClient(":memory:")
    if kind == "qdrant edge":
        from tests.stores.edge import edge_client

        client = edge_client(tmp_path / "edge")
    yield Qdrant(client, "products")
    client.close()


def table_url(server: str, table: str) -> str:
    """The server's URL with a table named."""
    return f"{server}{'&' if '?' in server else '?'}table={quote(table)}"


@pytest.fixture(scope="session")
def stocked(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundle of a model with late interaction, and an index with texts and columns."""
    folder = tmp_path_factory.mktemp("stocked")
    columns = write_columns(folder / "columns.csv", range(PRODUCTS))
    build_index(
        write_late_bundle(folder / "bundle"),
        shop.dataset,
        folder / "index",
        texts=shop.dataset,
        columns=columns,
        labels=shop.labels,
    )
    return folder
