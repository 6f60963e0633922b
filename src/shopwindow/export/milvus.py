"""How do the vectors of an index become a collection of Milvus that searchers see whole?

A new collection is filled, then the alias turns to it, and the old one goes. What a killed export left goes with the
next. Knows no query.
"""

from __future__ import annotations

from pathlib import Path

from shopwindow.search.stores.database import open_database
from shopwindow.search.stores.milvus import ROWS_AT_ONCE, Milvus
from shopwindow.search.stores.rows import Progress, card_of, open_for_export, rows_of


def write_milvus(
    index: str | Path, url: str, collection: str | None = None, *, progress: Progress | None = None
) -> int:
    """Writes all living products into a collection behind an alias; gives how many. The alias then names these products
    and no others.

    Fields: product_id, vector (compared by inner product), labels, and what a search needs; in the dynamic field
    image_h, image_w (px), texts, and those of the shop's columns in which a product has a value.

    Raises: DataError as `open_for_export`, for a collection of that very name, or a server that refuses. ImportError
    without pymilvus.
    """
    opened, database = open_for_export(index), open_database(url, collection)
    assert isinstance(database, Milvus)
    database.open()  # one of others is refused
    table, count = database.make(card_of(opened)), 0
    for rows in rows_of(opened, ROWS_AT_ONCE):
        table.upsert(rows)
        count += len(rows.ids)
        if progress is not None:
            progress(count, len(opened))
    table.settle()
    database.turn(table)
    return count
