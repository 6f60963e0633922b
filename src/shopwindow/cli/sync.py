"""The verb that brings an index to a database. It calls `shopwindow.search.stores` and prints."""

from __future__ import annotations

from shopwindow.cli.arguments import optional_libraries
from shopwindow.cli.console import say
from shopwindow.cli.progress import counting


def sync(index: str, *, store: str) -> None:
    """Bring new, changed and gone products of an index to a database; run it after each change of the index.

    Only what differs is written, so an interrupted run goes on where it was. Searches go on meanwhile.

    Args:
        index: An index that `shopwindow index make` wrote, or a folder of `shopwindow shop`.
        store: The database: postgresql://USER@HOST/DATABASE, lance://FOLDER, qdrant://HOST:6333 or milvus://HOST:19530,
            and ?table=NAME where the table is not to be called products.
    """
    with optional_libraries():
        from shopwindow.search.stores.database import open_database
        from shopwindow.search.stores.sync import sync as bring

        database = open_database(store)
    with counting("sync", "products") as tell:
        done = bring(index, database, progress=tell)
    say(f"{database.name}: {done}")
