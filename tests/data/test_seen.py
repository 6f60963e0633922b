"""Is an id found wherever it lies: among the new ones, those before, on disk, or nowhere?"""

from __future__ import annotations

import random
import sqlite3

import pytest

from shopwindow.data import seen
from shopwindow.data.seen import Seen


@pytest.mark.parametrize("marks", [1, 7, 16_777_213])
def test_ids_are_known_as_a_dict_knows_them(marks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "_MARKS", marks)
    monkeypatch.setattr(seen, "_AT_HAND", 10)
    rng = random.Random(0)
    rows, oracle = Seen[str](sqlite3.connect(":memory:"), "query"), dict[int, tuple[int, str]]()
    for row in range(500):
        key = rng.choice([rng.randrange(60), 2**63 - 1 - rng.randrange(60), rng.randrange(2**63)])
        assert rows.get(key) == oracle.get(key)
        if key not in oracle:
            rows.add(key, row, f"text {row}")
            oracle[key] = (row, f"text {row}")
    assert len(rows._new) < 10
    assert len(rows._before) == 10
    assert all(rows.get(key) == found for key, found in oracle.items())


def test_long_texts_are_kept_on_disk_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "_BYTES_AT_HAND", 100)
    rows = Seen[str](sqlite3.connect(":memory:"), "query")
    for row in range(10):
        rows.add(row, row, "é" * 20 + str(row) * 20)
        assert len(rows._new) < 2
    assert [rows.get(row) for row in range(10)] == [(row, "é" * 20 + str(row) * 20) for row in range(10)]
