"""What must change in a database so that it holds what an index holds? Only that is written.

Each product has a hash of all that is written of it. A sync that was killed goes on where it was, for what it brought
is equal the next time. Searches go on meanwhile: they see some products as they were and some as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shopwindow.files import DataError
from shopwindow.search.stores.database import Card, Database, Table
from shopwindow.search.stores.rows import Progress, card_of, open_for_export, rows_of

_ROWS_AT_ONCE = 2048
_MUST_BE_EQUAL = ("dimensions", "smoothed", "smoothed_regions")


@dataclass(frozen=True)
class Synced:
    """How many products a sync brought, replaced, took away and left."""

    new: int
    changed: int
    gone: int
    equal: int

    def __str__(self) -> str:
        return f"{self.new:,} new, {self.changed:,} changed, {self.gone:,} gone, {self.equal:,} equal"


def sync(index: str | Path, database: Database, *, progress: Progress | None = None) -> Synced:
    """Brings new and changed products of an index to a database, and takes away those that the index does not hold.

    `progress` is called with products compared and products in all. An empty database gets a table.

    Raises: DataError as `open_for_export`, for a table of others, one that another model filled, or vectors made
    otherwise. StoreUnavailableError where the database does not answer: run it again then.
    """
    opened = open_for_export(index)
    card = card_of(opened)
    table = database.open()
    if table is None:
        table = database.create(card)
    else:
        _check_same(table, card, database.name)
        table = table.describe(card)
    there = table.hashes()
    new = changed = done = 0
    for rows in rows_of(opened, _ROWS_AT_ONCE):
        ids, hashes = rows.ids.tolist(), rows.hashes
        before = [there.pop(one, None) for one in ids]
        wanted = np.flatnonzero([old != now for old, now in zip(before, hashes, strict=True)])
        if len(wanted):
            table.upsert(rows.take(wanted))
        new += before.count(None)
        changed += len(wanted) - before.count(None)
        done += len(ids)
        if progress is not None:
            progress(done, len(opened))
    gone = list(there)
    for start in range(0, len(gone), _ROWS_AT_ONCE):
        table.delete(gone[start : start + _ROWS_AT_ONCE])
    if new or changed or gone:
        table.settle()
    return Synced(new, changed, len(gone), done - new - changed)


def _check_same(table: Table, card: dict[str, Any], name: str) -> None:
    """Raises: DataError for vectors that cannot be compared with those of the index."""
    there = table.card
    Card.of(there, name)
    if there["bundle"] != card["bundle"]:
        raise DataError(
            "holds vectors of another model; `shopwindow export` replaces them all at once", path=name
        )
    for made in _MUST_BE_EQUAL:
        if there.get(made) != card[made]:
            raise DataError(f"holds vectors made otherwise ({made}: {there.get(made)})", path=name)
    for said in ("text_ids", "kept_values"):
        if there["search"][said] != card["search"][said]:
            raise DataError(f"differs in {said}: `shopwindow export` replaces it at once", path=name)
