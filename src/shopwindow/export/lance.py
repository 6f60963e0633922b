"""How do the vectors of an index become a table of LanceDB, whole or not at all?

A new version of the table: readers of the old one go on in it, and a killed export leaves it. Knows no query.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shopwindow.search.index import OpenIndex
from shopwindow.search.stores.database import open_database
from shopwindow.search.stores.lance import Lance
from shopwindow.search.stores.rows import Progress, Rows, card_of, open_for_export, rows_of

_ROWS_AT_ONCE = 8192


def write_lance(
    index: str | Path, url: str, table: str | None = None, *, progress: Progress | None = None
) -> int:
    """Writes all living products into a table, with indexes for searches; gives how many. The table then holds these
    products and no others.

    Columns: product_id int64 (string where some id is no integer), vector, image_h, image_w (px), labels, texts; those
    named shopwindow_... hold what a search needs (`rows.py`). Then the shop's own, null where a product has no value.

    Raises: DataError as `open_for_export`, for a table of that name that is not ours, or a place that cannot be
    written. ImportError without lancedb.
    """
    opened, database = open_for_export(index), open_database(url, table)
    assert isinstance(database, Lance)
    database.open()  # one of others is refused
    database.write(card_of(opened), _told(opened, progress)).settle()
    return len(opened)


def _told(index: OpenIndex, progress: Progress | None) -> Iterator[Rows]:
    count = 0
    for rows in rows_of(index, _ROWS_AT_ONCE):
        yield rows
        count += len(rows.ids)
        if progress is not None:
            progress(count, len(index))
