"""How do the vectors of an index become a table of PostgreSQL with pgvector, whole or not at all?

One transaction: others see the old table or the new one, and a killed export leaves the old one. psycopg comes with the
extra `postgres`. Knows no query.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shopwindow.files import DataError
from shopwindow.search.index import OpenIndex
from shopwindow.search.stores.database import said_by
from shopwindow.search.stores.postgres import (
    INDEXED_DIMENSIONS,
    LEXEMES,
    TYPES,
    card_in,
    check_url,
    copying,
    defined,
    driver,
    name_of,
    new_table,
    poured,
    table_name,
    types_of,
)
from shopwindow.search.stores.rows import Progress, card_of, describe_vectors, open_for_export, rows_of

if TYPE_CHECKING:
    from psycopg import Connection, sql

Nearest = Literal["hnsw", "ivfflat"]
_MOST_DIMENSIONS = 16_000
_ROWS_AT_ONCE = 4096


def write_pgvector(
    index: str | Path,
    url: str,
    table: str,
    *,
    upsert: bool = False,
    nearest: Nearest | None = None,
    progress: Progress | None = None,
) -> int:
    """Writes the vectors of all living products into a table; gives how many.

    The table is replaced: it then holds these products and no others. Grants on the old one are gone, and a view on it
    is an error. `upsert`: the table stays; products that it holds are replaced, others added, none deleted. It gains
    the shop's columns that it lacks, null for its other products; columns that only it has stay as they are.
    `nearest`: builds pgvector's index of this kind for inner products (of an upserted table only where it is made now).
    `table` may be NAME or SCHEMA.NAME. Columns: product_id bigint (text where some id is no integer), vector, image_h,
    image_w (px), labels integer[], texts text[]; those named shopwindow_... hold what a search needs (`rows.py`). Then
    the shop's own, double precision or text, under their names as written (quoted), null where a product has no value.
    The table's comment says what made it.

    Raises: DataError as `open_for_export`, for a server that refuses, a table of that name that is not ours, another
    export into it, or an upsert into vectors of another model or a column of another type. ValueError for a name that
    PostgreSQL would cut. ImportError without psycopg.
    """
    psycopg = driver()
    schema, name = table_name(table)
    opened = open_for_export(index)
    hidden = opened.manifest.hidden
    most = INDEXED_DIMENSIONS if nearest else _MOST_DIMENSIONS
    if hidden > most:
        raise DataError(
            f"vectors of {hidden} values; pgvector {'indexes' if nearest else 'takes'} at most {most}",
            path=index,
        )
    count = 0
    with _server_errors(psycopg, url), psycopg.connect(url) as connection:
        writing = _Writing(connection, opened, schema, name)
        writing.begin(upsert=upsert)
        writing.make_table_beside()
        with copying(connection, writing.beside, writing.id_type, opened.manifest.columns) as send:
            for rows in rows_of(opened, _ROWS_AT_ONCE):
                send(rows)
                count += len(rows.ids)
                if progress is not None:
                    progress(count, len(opened))
        writing.put_in_place(upsert=upsert, nearest=nearest)
    return count


class _Writing:
    """One transaction that writes a table: into a new one beside it, which then takes its place or is poured in."""

    def __init__(self, connection: Connection[Any], index: OpenIndex, schema: str | None, name: str) -> None:
        from psycopg import sql

        self.connection = connection
        self.index = index
        self.name = name
        self.hidden = index.manifest.hidden
        self.columns = index.manifest.columns
        self.id_type = "text" if index.has_text_ids else "bigint"
        self.lacking: list[str] = []
        self.comment = json.dumps(card_of(index))
        beside = f"shopwindow_{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        self.schema = schema or self._schema_of(name)
        self.goal: sql.Identifier = sql.Identifier(*filter(None, (self.schema, name)))
        self.beside: sql.Identifier = sql.Identifier(*filter(None, (self.schema, beside)))

    def _schema_of(self, name: str) -> str | None:
        """Where a name without a schema lies, or would be made; so a table has one name, and one lock."""
        from psycopg import sql

        standing = (
            "SELECT nspname FROM pg_namespace s JOIN pg_class c ON s.oid = c.relnamespace"
            " WHERE c.oid = to_regclass(%s)"
        )
        found = self.connection.execute(standing, (sql.Identifier(name).as_string(),)).fetchone()
        schema: str | None = (found or self._one("SELECT current_schema()::text", ()))[0]
        return schema

    def begin(self, *, upsert: bool) -> None:
        """Keeps other exports out, and looks at what stands there."""
        self.connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        key = int.from_bytes(hashlib.sha256(f"{self.schema}.{self.name}".encode()).digest()[:8], signed=True)
        (alone,) = self._one("SELECT pg_try_advisory_xact_lock(%s)", (key,))
        if not alone:
            raise DataError("another export is writing it", path=self.name)
        found = self._one("SELECT to_regclass(%s)::oid", (self.goal.as_string(),))[0]
        self.exists = found is not None
        if not self.exists:
            return
        (comment,) = self._one("SELECT obj_description(%s, 'pg_class')", (found,))
        card = card_in(comment)
        if card is None:
            raise DataError("is a table that shopwindow did not write; give another name", path=self.name)
        if not upsert:
            return
        own = describe_vectors(self.index)
        if card.get("bundle") != own["bundle"]:
            raise DataError("holds vectors of another model, which cannot be compared", path=self.name)
        for made in ("dimensions", "smoothed", "smoothed_regions"):
            if card.get(made) != own[made]:
                raise DataError(
                    f"holds vectors made otherwise ({made}: {card.get(made)}, here {own[made]})",
                    path=self.name,
                )
        if "search" not in card:
            raise DataError(
                "was written by an older shopwindow; export without --upsert replaces it", path=self.name
            )
        self.lacking = self._lacking(found)

    def _lacking(self, table: int) -> list[str]:
        """The shop's columns that a table has not. Raises: DataError where it has one of another type."""
        types = types_of(self.connection, table)
        wanted = {"product_id": self.id_type} | {name: TYPES[kind] for name, kind in self.columns.items()}
        for name, kind in wanted.items():
            if types.get(name, kind) != kind:
                raise DataError(f"is {types[name]} there, {kind} was wanted", path=self.name, field=name)
        return [name for name in self.columns if name not in types]

    def make_table_beside(self) -> None:
        """An empty table for the rows."""
        from psycopg import sql

        self.connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.beside))
        self.connection.execute(new_table(self.beside, self.id_type, self.hidden, self.columns))

    def put_in_place(self, *, upsert: bool, nearest: Nearest | None) -> None:
        """Indexes the filled table and renames it, or pours it into the one that stands there."""
        from psycopg import sql

        execute = self.connection.execute
        if nearest and not (upsert and self.exists):
            lists = f" WITH (lists = {max(1, round(len(self.index) ** 0.5))})" if nearest == "ivfflat" else ""
            built = f"CREATE INDEX ON {{}} USING {nearest} (vector vector_ip_ops){lists}"
            execute(sql.SQL(built).format(self.beside))
        if upsert and self.exists:
            for name in self.lacking:
                added = defined(name, self.columns[name])
                execute(sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(self.goal, added))
            execute(poured(self.beside, self.goal, self.columns))
            execute(sql.SQL("DROP TABLE {}").format(self.beside))
        else:
            words = sql.SQL("CREATE INDEX ON {} USING gin ({})")
            execute(words.format(self.beside, sql.Identifier(LEXEMES)))
            if self.exists:
                execute(sql.SQL("DROP TABLE {}").format(self.goal))
            execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(self.beside, sql.Identifier(self.name)))
        execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(self.goal, sql.Literal(self.comment)))
        execute(sql.SQL("ANALYZE {}").format(self.goal))

    def _one(self, question: str, values: tuple[object, ...]) -> tuple[Any, ...]:
        found = self.connection.execute(question, values).fetchone()
        assert found is not None
        return tuple(found)


@contextlib.contextmanager
def _server_errors(psycopg: Any, url: str) -> Iterator[None]:
    """What the server says as a DataError; never the password."""
    check_url(psycopg, url)
    try:
        yield
    except psycopg.Error as error:
        raise DataError(said_by(error), path=name_of(psycopg, url)) from error
