"""The verb that hands the vectors of an index to another system."""

from __future__ import annotations

from typing import Literal

from shopwindow.files import DataError


def export_vectors(
    index: str,
    *,
    to: Literal["parquet", "pgvector", "qdrant"],
    out: str | None = None,
    url: str | None = None,
    table: str | None = None,
    collection: str | None = None,
    nearest: Literal["hnsw", "ivfflat"] | None = None,
    upsert: bool = False,
) -> None:
    """Write the vectors of an index into a Parquet file, a table of PostgreSQL with pgvector, or a Qdrant collection.

    Each product goes with its id, its vector as finely as the index keeps it, size in px, labels, texts and the
    shop's own columns. Readers there see the old vectors or the new ones, never a mixture.

    Args:
        index: The index, a directory that `shopwindow index` wrote.
        to: Where to. pgvector and qdrant need `pip install 'shopwindow[export]'`.
        out: The file to write, for parquet.
        url: Of the database: postgresql://USER@HOST/DATABASE (a password better in PGPASSWORD or ~/.pgpass), or
            http://HOST:6333 (a key in QDRANT_API_KEY).
        table: The table, NAME or SCHEMA.NAME, for pgvector. One that shopwindow wrote is replaced.
        collection: The collection's name, an alias, for qdrant.
        nearest: Build pgvector's index of this kind, for inner products.
        upsert: Keep the table's other products; replace those of the index, add the missing, and missing columns.
    """
    from shopwindow.cli.console import counted, standard_output
    from shopwindow.cli.progress import progress, rate

    given = {"out": out, "url": url, "table": table, "collection": collection, "nearest": nearest}
    wanted = {"parquet": ("out",), "pgvector": ("url", "table"), "qdrant": ("url", "collection")}[to]
    allowed = {*wanted, "nearest"} if to == "pgvector" else set(wanted)
    for name, value in given.items():
        if value is None and name in wanted:
            raise DataError(f"--to {to} needs it", field=f"--{name}")
        if value is not None and name not in allowed:
            raise DataError(f"--to {to} does not take it", field=f"--{name}")
    if upsert and to != "pgvector":
        raise DataError(f"--to {to} does not take it", field="--upsert")
    with progress("export") as show:
        says = rate(0.0, "products")

        def tell(done: int, total: int) -> None:
            show(float(done), float(total), says(float(done)))

        try:
            if to == "parquet":
                from shopwindow.export.parquet import write_parquet

                count = write_parquet(index, str(out), progress=tell)
            elif to == "pgvector":
                from shopwindow.export.pgvector import write_pgvector

                count = write_pgvector(
                    index, str(url), str(table), upsert=upsert, nearest=nearest, progress=tell
                )
            else:
                from shopwindow.export.qdrant import open_qdrant, write_qdrant

                client = open_qdrant(str(url))
                try:
                    count = write_qdrant(index, client, str(collection), where=str(url), progress=tell)
                finally:
                    client.close()
        except ImportError as error:
            raise DataError(str(error), field=f"--to {to}") from error
    goal = out or table or collection
    standard_output().print(f"{counted(count, 'product')}: {goal}", soft_wrap=True)
