"""How do the vectors of an index become a table of PostgreSQL with pgvector, whole or not at all?

One transaction: others see the old table or the new one, and a killed export leaves the old one. psycopg comes with the
extra `export`. Knows no query.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from shopwindow.export.rows import (
    FORMAT,
    Progress,
    Rows,
    describe_vectors,
    open_for_export,
    rows_of,
)
from shopwindow.files import DataError, parse_json
from shopwindow.search.attributes import OWN_COLUMNS
from shopwindow.search.conditions import Kind
from shopwindow.search.index import OpenIndex

if TYPE_CHECKING:
    from psycopg import Connection, Cursor, sql

Nearest = Literal["hnsw", "ivfflat"]
INDEXED_DIMENSIONS: Final = 2000
"""The most values of a vector that pgvector's own indexes take."""
_COLUMNS: Final = (
    "product_id {} PRIMARY KEY, vector vector({}) NOT NULL, image_h integer NOT NULL, image_w integer NOT NULL,"
    " labels integer[] NOT NULL, texts text[] NOT NULL"
)
_TYPES: Final[Mapping[Kind, str]] = {"number": "double precision", "word": "text"}
_MOST_DIMENSIONS: Final = 16_000
_LONGEST_NAME_BYTES: Final = 63
_ROWS_AT_ONCE: Final = 4096


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
    image_w (px), labels integer[], texts text[]. Then the shop's own, double precision or text, under their names as
    written (quoted), null where a product has no value. The table's comment says what made it.

    Raises: DataError as `open_for_export`, for a server that refuses, a table of that name that is not ours, another
    export into it, or an upsert into vectors of another model or a column of another type. ValueError for a name that
    PostgreSQL would cut. ImportError without psycopg.
    """
    psycopg = _driver()
    schema, name = _table_name(table)
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
        with connection.cursor() as cursor:
            writing.make_table_beside(cursor)
            for rows in _copied(writing, cursor):
                count += rows
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
        self.comment = json.dumps(describe_vectors(index))
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
        card = _card(comment)
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
        self.lacking = self._lacking(found)

    def _lacking(self, table: int) -> list[str]:
        """The shop's columns that a table has not. Raises: DataError where it has one of another type."""
        asked = (
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped"
        )
        types = dict(self.connection.execute(asked, (table,)).fetchall())
        wanted = {"product_id": self.id_type} | {name: _TYPES[kind] for name, kind in self.columns.items()}
        for name, kind in wanted.items():
            if types.get(name, kind) != kind:
                raise DataError(f"is {types[name]} there, {kind} was wanted", path=self.name, field=name)
        return [name for name in self.columns if name not in types]

    def _defined(self, name: str) -> sql.Composed:
        from psycopg import sql

        return sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(_TYPES[self.columns[name]]))

    def make_table_beside(self, cursor: Cursor[Any]) -> None:
        """An empty table for the rows."""
        from psycopg import sql

        own = sql.SQL(_COLUMNS).format(sql.SQL(self.id_type), sql.Literal(self.hidden))
        columns = sql.SQL(", ").join([own, *map(self._defined, self.columns)])
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.beside))
        cursor.execute(sql.SQL("CREATE TABLE {} ({})").format(self.beside, columns))

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
                execute(sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(self.goal, self._defined(name)))
            names = [sql.Identifier(name) for name in (*OWN_COLUMNS, *self.columns)]
            changed = [sql.SQL("{0} = EXCLUDED.{0}").format(name) for name in names[1:]]
            poured = "INSERT INTO {} ({names}) SELECT {names} FROM {} ON CONFLICT (product_id) DO UPDATE SET {changed}"
            comma = sql.SQL(", ")
            execute(
                sql.SQL(poured).format(
                    self.goal, self.beside, names=comma.join(names), changed=comma.join(changed)
                )
            )
            execute(sql.SQL("DROP TABLE {}").format(self.beside))
        else:
            if self.exists:
                execute(sql.SQL("DROP TABLE {}").format(self.goal))
            execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(self.beside, sql.Identifier(self.name)))
        execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(self.goal, sql.Literal(self.comment)))

    def _one(self, question: str, values: tuple[object, ...]) -> tuple[Any, ...]:
        found = self.connection.execute(question, values).fetchone()
        assert found is not None
        return tuple(found)


def _copied(writing: _Writing, cursor: Cursor[Any]) -> Iterator[int]:
    """Sends all rows by binary COPY; yields how many went."""
    from psycopg import sql
    from psycopg.types import TypeInfo

    kind = TypeInfo.fetch(writing.connection, "vector")
    assert kind is not None
    cursor.adapters.register_dumper(_Packed, _dumper_of(kind.oid))
    with cursor.copy(sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(writing.beside)) as copy:
        shop = [_TYPES[one] for one in writing.columns.values()]
        copy.set_types([writing.id_type, kind.oid, "int4", "int4", "int4[]", "text[]", *shop])
        for rows in rows_of(writing.index, _ROWS_AT_ONCE):
            for row in _as_fields(rows):
                copy.write_row(row)
            yield len(rows.ids)


class _Packed(bytes):
    """A vector as pgvector's binary format has it: two bytes the number of values, two of zero, big-endian float32."""


def _as_fields(rows: Rows) -> Iterator[tuple[object, ...]]:
    count, hidden = rows.vectors.shape
    packed = np.zeros((count, 4 + 4 * hidden), np.uint8)
    packed[:, :2] = np.array([hidden], ">u2").view(np.uint8)
    packed[:, 4:] = rows.vectors.astype(">f4").view(np.uint8)
    columns = [column.to_pylist() for column in rows.values.values()]
    for row, (product_id, (height, width)) in enumerate(
        zip(rows.ids.tolist(), rows.sizes.tolist(), strict=True)
    ):
        yield (
            product_id,
            _Packed(packed[row].tobytes()),
            height,
            width,
            rows.labels[row],
            rows.texts[row],
            *(column[row] for column in columns),
        )


def _dumper_of(type_oid: int) -> Any:
    from psycopg.adapt import Dumper
    from psycopg.pq import Format

    class PackedDumper(Dumper):
        oid = type_oid
        format = Format.BINARY

        def dump(self, obj: _Packed) -> bytes:
            return bytes(obj)

    return PackedDumper


def _driver() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise ImportError(
            "psycopg is not installed: pip install 'shopwindow[export]' writes to PostgreSQL"
        ) from error
    return psycopg


def _table_name(table: str) -> tuple[str | None, str]:
    schema, dot, name = table.rpartition(".")
    for part in (schema, name) if dot else (name,):
        size = len(part.encode("utf-8", "surrogatepass"))
        if not 0 < size <= _LONGEST_NAME_BYTES or "\x00" in part or '"' in part:
            raise ValueError(
                f"table {table!r}: NAME or SCHEMA.NAME was wanted, each of 1 to {_LONGEST_NAME_BYTES} bytes"
            )
    return (schema or None), name


def _card(comment: str | None) -> dict[str, Any] | None:
    """What the comment of a table of ours says; None of any other."""
    try:
        card = parse_json(comment or "", "comment")
    except DataError:
        return None
    return card if isinstance(card, dict) and card.get("format") == FORMAT else None


@contextlib.contextmanager
def _server_errors(psycopg: Any, url: str) -> Iterator[None]:
    """What the server says as a DataError; never the password."""
    try:
        psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        # What is said of it holds pieces of it, perhaps the password.
        raise DataError(
            "no address of a server: postgresql://USER@HOST/DATABASE was wanted", field="--url"
        ) from None
    try:
        yield
    except psycopg.Error as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise DataError(said, path=_without_password(psycopg, url)) from error


def _without_password(psycopg: Any, url: str) -> str:
    known = psycopg.conninfo.conninfo_to_dict(url)
    name = str(known.get("dbname", known.get("user", "")))
    if "@" in name:  # a password with an unescaped slash was read as a host and this
        return "PostgreSQL"
    return f"PostgreSQL {known.get('host', 'local')}/{name}"
