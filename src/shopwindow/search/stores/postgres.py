"""How is a table of PostgreSQL with pgvector searched and changed?

`export/pgvector.py` writes a whole new one; this reads it, and brings single products over. Each search is one
statement, and sees the old table or the new one. psycopg comes with the extra `postgres`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from jaxtyping import Float32

from shopwindow.files import DataError, parse_json
from shopwindow.search.conditions import Kind
from shopwindow.search.hits import Filter, ProductId
from shopwindow.search.stores.database import (
    Comparison,
    Found,
    Stored,
    comparisons,
    describes_ours,
    said_by,
)
from shopwindow.search.stores.protocol import StoreMovedError, StoreUnavailableError
from shopwindow.search.stores.rows import DETAILS, HASH, KEPT, WORDS, Rows
from shopwindow.search.texts import words_of

if TYPE_CHECKING:
    from psycopg import Connection, sql

Result = TypeVar("Result")
TYPES: Final[Mapping[Kind, str]] = {"number": "double precision", "word": "text"}
LEXEMES: Final = "shopwindow_lexemes"
INDEXED_FROM: Final = 50_000
"""Products from which on a sync builds an HNSW index; below it every vector is read."""
INDEXED_DIMENSIONS: Final = 2000
"""The most values of a vector that pgvector's own indexes take."""
_COLUMNS: Final = (
    "product_id {id} PRIMARY KEY, vector vector({dimensions}) NOT NULL, image_h integer NOT NULL,"
    " image_w integer NOT NULL, labels integer[] NOT NULL, texts text[] NOT NULL,"
    f" {DETAILS} text NOT NULL, {WORDS} text NOT NULL, {KEPT} bytea, {HASH} text NOT NULL,"
    f" {LEXEMES} tsvector GENERATED ALWAYS AS (to_tsvector('simple', {WORDS})) STORED"
)
FIXED: Final = ("product_id", "vector", "image_h", "image_w", "labels", "texts", DETAILS, WORDS, KEPT, HASH)
_FIXED_TYPES: Final = ("int4", "int4", "int4[]", "text[]", "text", "text", "bytea", "text")
"""Of the columns from `image_h` on."""
_SEARCHING: Final = (
    "-c hnsw.ef_search=100 -c hnsw.iterative_scan=relaxed_order -c ivfflat.probes=32"
    " -c statement_timeout=20000"
)
_LONGEST_NAME_BYTES: Final = 63
_CONNECT_SECONDS: Final = 5


def connect(url: str, table: str) -> Postgres:
    """The table of the database at a URL; connects when it is asked. Raises: DataError for no URL of psycopg's,
    ValueError for a name that PostgreSQL would cut, ImportError."""
    psycopg = driver()
    check_url(psycopg, url)
    return Postgres(_Connections(psycopg, url), *table_name(table))


def driver() -> Any:
    """psycopg. Raises: ImportError naming the extra."""
    try:
        import psycopg
    except ImportError as error:
        raise ImportError("psycopg is not installed: pip install 'shopwindow[postgres]' brings it") from error
    return psycopg


def check_url(psycopg: Any, url: str) -> None:
    """Raises: DataError, which repeats nothing: what is said of a URL holds pieces of it, perhaps the password."""
    try:
        psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        raise DataError(
            "no address of a server: postgresql://USER@HOST/DATABASE was wanted", field="--url"
        ) from None


def name_of(psycopg: Any, url: str) -> str:
    """Which database, without the password."""
    known = psycopg.conninfo.conninfo_to_dict(url)
    name = str(known.get("dbname", known.get("user", "")))
    if "@" in name:  # a password with an unescaped slash was read as a host and this
        return "PostgreSQL"
    return f"PostgreSQL {known.get('host', 'local')}/{name}"


def table_name(table: str) -> tuple[str | None, str]:
    """Schema and name. Raises: ValueError for what PostgreSQL would cut."""
    schema, dot, name = table.rpartition(".")
    for part in (schema, name) if dot else (name,):
        size = len(part.encode("utf-8", "surrogatepass"))
        if not 0 < size <= _LONGEST_NAME_BYTES or "\x00" in part or '"' in part:
            raise ValueError(
                f"table {table!r}: NAME or SCHEMA.NAME was wanted, each of 1 to {_LONGEST_NAME_BYTES} bytes"
            )
    return (schema or None), name


def card_in(comment: str | None) -> dict[str, Any] | None:
    """What the comment of a table of ours says; None of any other."""
    try:
        card = parse_json(comment or "", "comment")
    except DataError:
        return None
    return dict(card) if describes_ours(card) else None


def new_table(name: sql.Identifier, id_type: str, dimensions: int, kinds: Mapping[str, Kind]) -> sql.Composed:
    """The statement that makes an empty table."""
    from psycopg import sql

    own = sql.SQL(_COLUMNS).format(id=sql.SQL(id_type), dimensions=sql.Literal(dimensions))
    columns = [own, *(defined(column, kind) for column, kind in kinds.items())]
    return sql.SQL("CREATE TABLE {} ({})").format(name, sql.SQL(", ").join(columns))


def defined(column: str, kind: Kind) -> sql.Composed:
    """A column of the shop as a statement defines it."""
    from psycopg import sql

    return sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(TYPES[kind]))


@contextlib.contextmanager
def copying(
    connection: Connection[Any], goal: sql.Identifier, id_type: str, kinds: Mapping[str, Kind]
) -> Iterator[Callable[[Rows], None]]:
    """What sends rows into a table by binary COPY."""
    from psycopg import sql
    from psycopg.types import TypeInfo

    vector = TypeInfo.fetch(connection, "vector")
    assert vector is not None
    names = sql.SQL(", ").join(map(sql.Identifier, (*FIXED, *kinds)))
    with connection.cursor() as cursor:
        cursor.adapters.register_dumper(_Packed, _dumper_of(vector.oid))
        with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(goal, names)) as copy:
            copy.set_types([id_type, vector.oid, *_FIXED_TYPES, *(TYPES[kind] for kind in kinds.values())])

            def send(rows: Rows) -> None:
                for row in _as_fields(rows):
                    copy.write_row(row)

            yield send


def poured(source: sql.Identifier, goal: sql.Identifier, kinds: Mapping[str, Kind]) -> sql.Composed:
    """The statement that takes rows of one table into another, in place of those of the same ids."""
    from psycopg import sql

    names = [sql.Identifier(name) for name in (*FIXED, *kinds)]
    changed = [sql.SQL("{0} = EXCLUDED.{0}").format(name) for name in names[1:]]
    statement = (
        "INSERT INTO {} ({names}) SELECT {names} FROM {} ON CONFLICT (product_id) DO UPDATE SET {changed}"
    )
    comma = sql.SQL(", ")
    return sql.SQL(statement).format(goal, source, names=comma.join(names), changed=comma.join(changed))


def types_of(connection: Connection[Any], table: int) -> dict[str, str]:
    """The columns of a table, each with its type."""
    asked = (
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped"
    )
    return dict(connection.execute(asked, (table,)).fetchall())


@dataclass(frozen=True)
class Postgres:
    """A table of a database."""

    connections: _Connections
    schema: str | None
    table: str
    full_text: None = None

    @property
    def name(self) -> str:
        """Says which for messages."""
        return f"{self.connections.name} {self.table}"

    @property
    def identifier(self) -> sql.Identifier:
        """The table, quoted in statements."""
        from psycopg import sql

        return sql.Identifier(*filter(None, (self.schema, self.table)))

    def open(self) -> PostgresTable | None:
        """The table as it stands. Raises: DataError for one that shopwindow did not write."""
        asked = (
            "SELECT c.oid, obj_description(c.oid, 'pg_class') FROM pg_class c WHERE c.oid = to_regclass(%s)"
        )
        name = self.identifier.as_string()
        row = self.connections.ask(lambda open_: open_.execute(asked, (name,)).fetchone())
        if row is None:
            return None
        card = card_in(row[1])
        if card is None:
            raise DataError("is a table that shopwindow did not write; give another name", path=self.name)
        return PostgresTable(self, card, row[0])

    def create(self, card: dict[str, Any]) -> PostgresTable:
        """An empty table."""
        from psycopg import sql

        told = card["search"]
        id_type = "text" if told["text_ids"] else "bigint"

        def make(connection: Connection[Any]) -> None:
            with connection.transaction():
                connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
                connection.execute(new_table(self.identifier, id_type, card["dimensions"], told["kinds"]))
                written = sql.Literal(json.dumps(card))
                connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(self.identifier, written))

        self.connections.ask(make)
        table = self.open()
        assert table is not None
        return table


@dataclass(frozen=True)
class PostgresTable:
    """A table in one state. `oid`: another number means that an export has replaced it."""

    database: Postgres
    card: dict[str, Any]
    oid: int

    @property
    def stamp(self) -> str:
        """Names the state."""
        written = json.dumps(self.card, sort_keys=True)
        return f"{self.oid}-{hashlib.sha256(written.encode()).hexdigest()[:16]}"

    @property
    def _kinds(self) -> dict[str, Kind]:
        return dict(self.card["search"]["kinds"])

    @property
    def _id_type(self) -> str:
        return "text" if self.card["search"]["text_ids"] else "bigint"

    def search(
        self, vectors: Float32[np.ndarray, "queries dimensions"], k: int, where: Filter, *, exact: bool
    ) -> list[Found]:
        """The best k products of each query. `exact`: without pgvector's index."""
        from psycopg import sql

        statement = sql.SQL(
            "SELECT product_id, -(vector <#> {q}::vector), tableoid FROM {table} WHERE {where}"
            " ORDER BY vector <#> {q}::vector LIMIT {k}"
        )

        def find(connection: Connection[Any]) -> list[Found]:
            with connection.transaction() if exact else contextlib.nullcontext():
                if exact:
                    connection.execute("SET LOCAL enable_indexscan = off")
                written = [sql.Literal(json.dumps(vector.tolist())) for vector in vectors]
                asked = [
                    statement.format(
                        q=one, table=self.database.identifier, where=_passing(where, self._kinds), k=k
                    )
                    for one in written
                ]
                return [self._found(connection.execute(one).fetchall()) for one in asked]

        return self._ask(find)

    def find_texts(self, words: str, k: int, where: Filter) -> Found:
        """The best k products with any of the words, by ts_rank."""
        from psycopg import sql

        terms = dict.fromkeys(words_of(words))
        if not terms:
            return Found([], [])
        statement = sql.SQL(
            "SELECT product_id, ts_rank({lexemes}, q), tableoid FROM {table}, to_tsquery('simple', {words}) q"
            " WHERE {lexemes} @@ q AND {where} ORDER BY 2 DESC, 1 LIMIT {k}"
        ).format(
            lexemes=sql.Identifier(LEXEMES),
            table=self.database.identifier,
            words=sql.Literal(" | ".join(f"'{term}'" for term in terms)),
            where=_passing(where, self._kinds),
            k=k,
        )
        return self._ask(lambda connection: self._found(connection.execute(statement).fetchall()))

    def _found(self, rows: list[tuple[Any, ...]]) -> Found:
        self._check(rows)
        return Found([row[0] for row in rows], [float(row[1]) for row in rows])

    def _check(self, rows: list[tuple[Any, ...]]) -> None:
        """Raises: StoreMovedError where rows, whose last value is their table, are of another table."""
        if rows and rows[0][-1] != self.oid:
            raise StoreMovedError("another export has replaced it", path=self.database.name)

    def fetch(self, ids: Sequence[ProductId], *, regions: bool) -> list[Stored]:
        """Those of the products that it has."""
        from psycopg import sql

        values = [sql.Identifier(name) for name in self._kinds]
        more = [sql.SQL("vector::real[]"), sql.Identifier(KEPT)] if regions else []
        fixed = map(sql.Identifier, ("product_id", "image_h", "image_w", "texts", DETAILS))
        columns = sql.SQL(", ").join([*fixed, *values, *more, sql.SQL("tableoid")])
        statement = sql.SQL("SELECT {} FROM {} WHERE product_id = ANY({}::{}[])").format(
            columns, self.database.identifier, list(ids), sql.SQL(self._id_type)
        )
        rows = self._ask(lambda connection: connection.cursor(binary=True).execute(statement).fetchall())
        self._check(rows)
        return [self._stored(row, regions=regions) for row in rows]

    def _stored(self, row: tuple[Any, ...], *, regions: bool) -> Stored:
        product_id, height, width, texts, details = row[:5]
        values = zip(self._kinds, row[5:], strict=False)
        vector, kept = row[-3:-1] if regions else (None, None)
        return Stored(
            product_id=product_id,
            size=(height, width),
            texts=texts,
            values={name: value for name, value in values if value is not None},
            details=details,
            vector=None if vector is None else np.array(vector, np.float32),
            kept=kept,
        )

    def count(self, where: Filter) -> int:
        """How many products pass a filter."""
        from psycopg import sql

        statement = sql.SQL("SELECT count(*) FROM {} WHERE {}").format(
            self.database.identifier, _passing(where, self._kinds)
        )
        ((counted,),) = self._ask(lambda connection: connection.execute(statement).fetchall())
        return int(counted)

    def hashes(self) -> dict[ProductId, str]:
        """The content hash of every product."""
        from psycopg import sql

        statement = sql.SQL("SELECT product_id, {} FROM {}").format(
            sql.Identifier(HASH), self.database.identifier
        )
        return dict(self._ask(lambda connection: connection.execute(statement).fetchall()))

    def upsert(self, rows: Rows) -> None:
        """Adds products, or replaces those of the same ids, all in one transaction."""
        from psycopg import sql

        beside = sql.Identifier("shopwindow_beside")

        def write(connection: Connection[Any]) -> None:
            with connection.transaction():
                connection.execute("SET LOCAL statement_timeout = 0")
                connection.execute(
                    sql.SQL("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT * FROM {} LIMIT 0").format(
                        beside, self.database.identifier
                    )
                )
                with copying(connection, beside, self._id_type, self._kinds) as send:
                    send(rows)
                connection.execute(poured(beside, self.database.identifier, self._kinds))

        self._ask(write)

    def delete(self, ids: Sequence[ProductId]) -> None:
        """Takes products away."""
        from psycopg import sql

        statement = sql.SQL("DELETE FROM {} WHERE product_id = ANY({}::{}[])").format(
            self.database.identifier, list(ids), sql.SQL(self._id_type)
        )
        self._ask(lambda connection: connection.execute(statement))

    def describe(self, card: dict[str, Any]) -> PostgresTable:
        """Adds columns that the table lacks, and says what its products are. Raises: DataError for a column of another
        type."""
        from psycopg import sql

        table = self.database.identifier

        def write(connection: Connection[Any]) -> None:
            with connection.transaction():
                there = types_of(connection, self.oid)
                for name, kind in card["search"]["kinds"].items():
                    if there.get(name, TYPES[kind]) != TYPES[kind]:
                        problem = f"is {there[name]} there, {TYPES[kind]} was wanted"
                        raise DataError(problem, path=self.database.name, field=name)
                    if name not in there:
                        added = sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(table, defined(name, kind))
                        connection.execute(added)
                written = sql.Literal(json.dumps(card))
                connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(table, written))

        self._ask(write)
        return PostgresTable(self.database, card, self.oid)

    def settle(self) -> None:
        """Builds full text's index, and from INDEXED_FROM products on those of vectors and columns, where missing.

        Counts what the columns hold, so that the server knows when a filter leaves few products: those it then reads.
        """
        from psycopg import sql

        card, named = self.card, {"gin": [LEXEMES]}
        if card["products"] >= INDEXED_FROM:
            named["btree"] = list(self._kinds)
            named["hnsw"] = ["vector"] if card["dimensions"] <= INDEXED_DIMENSIONS else []
        asked = (
            "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = indrelid AND a.attnum = ANY(indkey)"
            " WHERE indrelid = %s"
        )

        def build(connection: Connection[Any]) -> None:
            with connection.transaction():
                connection.execute("SET LOCAL statement_timeout = 0")
                standing = {row[0] for row in connection.execute(asked, (self.oid,)).fetchall()}
                for kind, columns in named.items():
                    for column in set(columns) - standing:
                        how = sql.SQL(" vector_ip_ops" if kind == "hnsw" else "")
                        made = sql.SQL(f"CREATE INDEX ON {{}} USING {kind} ({{}}{{}})")
                        connection.execute(made.format(self.database.identifier, sql.Identifier(column), how))
                connection.execute(sql.SQL("ANALYZE {}").format(self.database.identifier))

        self._ask(build)

    def _ask(self, question: Callable[[Connection[Any]], Result]) -> Result:
        return self.database.connections.ask(question)


class _Connections:
    """Open connections that nobody uses now; as many are opened as ask at once. Safe for threads."""

    def __init__(self, psycopg: Any, url: str) -> None:
        self._psycopg = psycopg
        self._url = url
        self._free: queue.LifoQueue[Connection[Any]] = queue.LifoQueue()
        self.name = name_of(psycopg, url)
        weakref.finalize(self, _close, self._free)

    def ask(self, question: Callable[[Connection[Any]], Result]) -> Result:
        """What a function of a connection gives. One that the server has closed meanwhile is replaced by a new one.

        Raises: StoreUnavailableError, StoreMovedError for a table that is gone, DataError for anything else that the
        server says.
        """
        errors = self._psycopg.errors
        while True:
            try:
                connection, is_new = self._free.get_nowait(), False
            except queue.Empty:
                connection, is_new = self._connect(), True
            try:
                with _given_back(self._free, connection):
                    return question(connection)
            except (errors.UndefinedTable, errors.UndefinedColumn) as error:
                raise StoreMovedError(said_by(error), path=self.name) from error
            except self._psycopg.OperationalError as error:
                if is_new or not connection.broken:
                    raise StoreUnavailableError(said_by(error), path=self.name) from error
            except self._psycopg.Error as error:
                raise DataError(said_by(error), path=self.name) from error

    def _connect(self) -> Connection[Any]:
        known = self._psycopg.conninfo.conninfo_to_dict(self._url)
        options = f"{known.get('options', '')} {_SEARCHING}".strip()
        try:
            connection: Connection[Any] = self._psycopg.connect(
                self._url,
                autocommit=True,
                prepare_threshold=None,  # a prepared statement ends with the table that an export replaces
                options=options,
                connect_timeout=_CONNECT_SECONDS,
            )
        except self._psycopg.Error as error:
            raise StoreUnavailableError(said_by(error), path=self.name) from error
        return connection


def _close(free: queue.LifoQueue[Connection[Any]]) -> None:
    """Closes what nobody uses any more."""
    while not free.empty():
        free.get_nowait().close()


@contextlib.contextmanager
def _given_back(free: queue.LifoQueue[Connection[Any]], connection: Connection[Any]) -> Iterator[None]:
    """Keeps a connection for the next question, unless it broke."""
    try:
        yield
    finally:
        if connection.broken:
            connection.close()
        else:
            free.put(connection)


def _passing(where: Filter, kinds: Mapping[str, Kind]) -> sql.Composable:
    """The condition of a statement for a filter."""
    from psycopg import sql

    parts: list[sql.Composable] = [sql.SQL("true"), *map(_compared, comparisons(where, kinds))]
    if where.labels:
        parts.append(sql.SQL("labels && {}::integer[]").format(sorted(where.labels)))
    return sql.SQL(" AND ").join(parts)


def _compared(one: Comparison) -> sql.Composed:
    from psycopg import sql

    column = sql.Identifier(one.column)
    if one.relation == "=":
        return sql.SQL("{} = ANY({})").format(column, one.values)
    return sql.SQL("{} {} {}").format(column, sql.SQL(one.relation), one.values[0])


class _Packed(bytes):
    """A vector as pgvector's binary format has it: two bytes the number of values, two of zero, big-endian float32."""


def _as_fields(rows: Rows) -> Iterator[tuple[object, ...]]:
    count, hidden = rows.vectors.shape
    packed = np.zeros((count, 4 + 4 * hidden), np.uint8)
    packed[:, :2] = np.array([hidden], ">u2").view(np.uint8)
    packed[:, 4:] = rows.vectors.astype(">f4").view(np.uint8)
    columns = [column.to_pylist() for column in rows.values.values()]
    sizes, words = rows.sizes.tolist(), rows.words
    for row, product_id in enumerate(rows.ids.tolist()):
        kept = rows.kept_of(row)
        yield (
            product_id,
            _Packed(packed[row].tobytes()),
            *sizes[row],
            rows.labels[row],
            rows.texts[row],
            rows.details[row],
            words[row],
            None if kept is None else kept.tobytes(),
            rows.hashes[row],
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
