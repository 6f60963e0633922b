"""Which row did an id come in, and with what content, however many ids there are?

Nearly all ids of products are new, and those of queries come side by side: so a table of marks in memory says of most
new ones that they are new, what came last is at hand, and a database on disk knows the rest. Memory grows
neither with rows nor with ids.
"""

from __future__ import annotations

import sqlite3
from typing import Final, Generic, TypeVar

Content = TypeVar("Content", bytes, str)

_MARKS: Final = 16_777_213
"""One byte each, of ids modulo this prime: of three million ids five in six new ones need no look at the disk."""
_AT_HAND: Final = 8_192
_BYTES_AT_HAND: Final = 4 * 2**20


class Seen(Generic[Content]):
    """One table of a database: id, row, content."""

    def __init__(self, database: sqlite3.Connection, name: str) -> None:
        self._database = database
        self._insert = f"INSERT INTO {name} VALUES (?, ?, ?)"
        self._select = f"SELECT row, content FROM {name} WHERE id = ?"
        self._marks = bytearray(_MARKS)
        self._new: dict[int, tuple[int, Content]] = {}
        self._new_bytes = 0
        self._before: dict[int, tuple[int, Content]] = {}
        database.execute(f"CREATE TABLE {name}(id INTEGER PRIMARY KEY, row INTEGER, content)")

    def get(self, key: int) -> tuple[int, Content] | None:
        """Row and content of an id; None for one that was not added."""
        if not self._marks[key % _MARKS]:
            return None
        found = self._new.get(key) or self._before.get(key)
        if found is None:
            found = self._database.execute(self._select, (key,)).fetchone()
        return found

    def add(self, key: int, row: int, content: Content) -> None:
        """An id that was not added before."""
        self._marks[key % _MARKS] = 1
        self._new[key] = (row, content)
        self._new_bytes += _bytes(content)
        if len(self._new) >= _AT_HAND or self._new_bytes >= _BYTES_AT_HAND:
            # In order of their ids: neighbours lie in one page of the file.
            rows = [(one, place, known) for one, (place, known) in sorted(self._new.items())]
            self._database.executemany(self._insert, rows)
            self._before, self._new, self._new_bytes = self._new, {}, 0


def _bytes(content: bytes | str) -> int:
    return len(content.encode() if isinstance(content, str) else content)
