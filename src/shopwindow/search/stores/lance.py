"""How is a table of LanceDB searched and changed? Files in a folder or on object storage, no server.

A table has versions. A search stays in the version that was opened, so an export or a sync beside it disturbs nothing.
The kept regions are a multivector column: LanceDB's own late interaction can search it too. lancedb comes with the
extra `lance`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from shopwindow.files import DataError
from shopwindow.search.hits import Filter, ProductId
from shopwindow.search.stores.database import (
    Comparison,
    Found,
    Stored,
    as_unavailable,
    comparisons,
    describes_ours,
)
from shopwindow.search.stores.rows import ARROW_TYPES, DETAILS, HASH, KEPT, WORDS, Rows
from shopwindow.search.texts import words_of

INDEXED_FROM: Final = 50_000
"""Products from which on vectors are indexed in cells; below it every vector is read."""
_CELLS_LOOKED_INTO: Final = 32
_ROWS_PER_CELL: Final = 1000
_CARD: Final = "shopwindow"
_SQL_TYPES: Final = {"number": "double", "word": "string"}


def connect(url: str, table: str) -> Lance:
    """The table of a folder, `lance://FOLDER`, or of object storage, `lance+s3://BUCKET/FOLDER`.

    Raises: ImportError naming the extra.
    """
    try:
        import lancedb
    except ImportError as error:
        raise ImportError("lancedb is not installed: pip install 'shopwindow[lance]' brings it") from error
    kind, _, place = url.partition("://")
    where = place if kind == "lance" else f"{kind.removeprefix('lance+')}://{place}"
    return Lance(lancedb, where, table)


@dataclass(frozen=True)
class Lance:
    """A table in a folder."""

    lancedb: Any
    where: str
    table: str
    full_text: None = None

    @property
    def name(self) -> str:
        """Says which for messages."""
        return f"LanceDB {self.where} {self.table}"

    @cached_property
    def base(self) -> Any:
        """The opened folder."""
        with self.errors():
            return self.lancedb.connect(self.where)

    def errors(self) -> Any:
        """What LanceDB says as a StoreUnavailableError."""
        return as_unavailable(self.name, RuntimeError, OSError, ValueError)

    def open(self) -> LanceTable | None:
        """The newest version. Raises: DataError for a table that shopwindow did not write."""
        if "://" not in self.where and not (Path(self.where) / f"{self.table}.lance").is_dir():
            return None
        with self.errors():
            if self.table not in self.base.list_tables(limit=10_000).tables:
                return None
            opened = self.base.open_table(self.table)
            told = (opened.schema.field("product_id").metadata or {}) if _is_ours(opened.schema) else {}
        card = json.loads(told.get(_CARD.encode(), b"null"))
        if not describes_ours(card):
            raise DataError("is a table that shopwindow did not write; give another name", path=self.name)
        return LanceTable(self, card, opened)

    def create(self, card: dict[str, Any]) -> LanceTable:
        """An empty table."""
        return self.write(card, iter(()))

    def write(self, card: dict[str, Any], many: Iterator[Rows]) -> LanceTable:
        """The table of these products and no others: a new version of it, which is there when all of it is."""
        schema = schema_of(card)
        with self.errors():
            batches = pa.RecordBatchReader.from_batches(schema, (_batch(rows, schema) for rows in many))
            self.base.create_table(self.table, batches, mode="overwrite")
        table = self.open()
        assert table is not None
        return table


@dataclass(frozen=True)
class LanceTable:
    """A table at one version."""

    database: Lance
    card: dict[str, Any]
    opened: Any

    @property
    def stamp(self) -> str:
        """The number of the version."""
        return f"{self.card['state']}-{self.opened.version}"

    @cached_property
    def _names(self) -> list[str]:
        """What a page shows."""
        return ["product_id", "image_h", "image_w", "texts", DETAILS, *self.card["search"]["kinds"]]

    def search(
        self, vectors: Float32[np.ndarray, "queries dimensions"], k: int, where: Filter, *, exact: bool
    ) -> list[Found]:
        """The best k products of each query. `exact`: every vector is read."""
        found = []
        for vector in vectors:
            asked = self.opened.search(vector, vector_column_name="vector").distance_type("dot")
            asked = asked.bypass_vector_index() if exact else asked.nprobes(_CELLS_LOOKED_INTO)
            found.append(self._found(asked, k, where, "_distance", lambda distance: 1.0 - distance))
        return found

    def find_texts(self, words: str, k: int, where: Filter) -> Found:
        """The best k products with any of the words, by BM25."""
        from lancedb.query import MatchQuery

        terms = words_of(words)
        if not terms:
            return Found([], [])
        asked = self.opened.search(MatchQuery(" ".join(terms), WORDS), query_type="fts")
        return self._found(asked, k, where, "_score", float)

    def _found(self, asked: Any, k: int, where: Filter, name: str, score: Any) -> Found:
        passing = _passing(where, self.card)
        asked = asked.where(passing, prefilter=True) if passing else asked
        with self.database.errors():
            rows = asked.limit(k).select(["product_id", name]).to_arrow()
        return Found(rows["product_id"].to_pylist(), [score(one) for one in rows[name].to_pylist()])

    def fetch(self, ids: Sequence[ProductId], *, regions: bool) -> list[Stored]:
        """Those of the products that it has."""
        kept = [KEPT] if self.card["search"]["kept_values"] else []
        columns = [*self._names, *(["vector", *kept] if regions else [])]
        with self.database.errors():
            asked = self.opened.search().where(_any_of("product_id", ids)).limit(len(ids))
            rows = asked.select(columns).to_arrow().to_pylist()
        return [self._stored(row, regions=regions) for row in rows]

    def _stored(self, row: dict[str, Any], *, regions: bool) -> Stored:
        kinds, kept = self.card["search"]["kinds"], row.get(KEPT)
        return Stored(
            product_id=row["product_id"],
            size=(row["image_h"], row["image_w"]),
            texts=row["texts"],
            values={name: row[name] for name in kinds if row[name] is not None},
            details=row[DETAILS],
            vector=np.array(row["vector"], np.float32) if regions else None,
            kept=None if kept is None else np.array(kept, np.float16).tobytes(),
        )

    def count(self, where: Filter) -> int:
        """How many products pass a filter."""
        with self.database.errors():
            return int(self.opened.count_rows(_passing(where, self.card) or None))

    def hashes(self) -> dict[ProductId, str]:
        """The content hash of every product."""
        with self.database.errors():
            rows = self.opened.search().select(["product_id", HASH]).limit(2**31).to_arrow()
        return dict(zip(rows["product_id"].to_pylist(), rows[HASH].to_pylist(), strict=True))

    def upsert(self, rows: Rows) -> None:
        """Adds products, or replaces those of the same ids."""
        merged = (
            self.opened.merge_insert("product_id").when_matched_update_all().when_not_matched_insert_all()
        )
        schema = schema_of(self.card)
        with self.database.errors():
            merged.execute(pa.Table.from_batches([_batch(rows, schema)], schema))

    def delete(self, ids: Sequence[ProductId]) -> None:
        """Takes products away."""
        with self.database.errors():
            self.opened.delete(_any_of("product_id", ids))

    def describe(self, card: dict[str, Any]) -> LanceTable:
        """Adds columns that the table lacks, and says what its products are. Raises: DataError for a column of another
        type."""
        there = {field.name: field.type for field in self.opened.schema}
        kinds = card["search"]["kinds"]
        for name, kind in kinds.items():
            if there.get(name, ARROW_TYPES[kind]) != ARROW_TYPES[kind]:
                problem = f"is {there[name]} there, {ARROW_TYPES[kind]} was wanted"
                raise DataError(problem, path=self.database.name, field=name)
        lacking = {
            name: f"cast(null as {_SQL_TYPES[kind]})" for name, kind in kinds.items() if name not in there
        }
        with self.database.errors():
            if lacking:
                self.opened.add_columns(lacking)
            told = {"path": "product_id", "metadata": {_CARD: json.dumps(card)}}
            self.opened.update_field_metadata(told)
        table = self.database.open()
        assert table is not None
        return table

    def settle(self) -> None:
        """Builds full text's index, and from INDEXED_FROM products on cells of vectors and indexes of the columns. What
        is indexed takes new products in."""
        from lancedb.index import FTS, BTree, IvfFlat

        with self.database.errors():
            standing = {index.columns[0] for index in self.opened.list_indices()}
            count = self.opened.count_rows()
            if WORDS not in standing and count:
                as_written = {"stem": False, "remove_stop_words": False, "ascii_folding": False}
                self.opened.create_index(WORDS, config=FTS(max_token_length=200, **as_written))
            if "vector" not in standing and count >= INDEXED_FROM:
                cells = IvfFlat(distance_type="dot", num_partitions=count // _ROWS_PER_CELL)
                self.opened.create_index("vector", config=cells)
            for name in set(self.card["search"]["kinds"]) - standing if count >= INDEXED_FROM else ():
                self.opened.create_index(name, config=BTree())
            self.opened.optimize()


def schema_of(card: dict[str, Any]) -> pa.Schema:
    """The columns of a table for products as described."""
    told = card["search"]
    width = told["kept_values"]
    kept = [pa.field(KEPT, pa.list_(pa.list_(pa.float16(), width)))] if width else []
    id_field = pa.field("product_id", pa.string() if told["text_ids"] else pa.int64(), nullable=False)
    columns = [
        id_field.with_metadata({_CARD: json.dumps(card)}),
        pa.field("vector", pa.list_(pa.float32(), card["dimensions"])),
        pa.field("image_h", pa.int32()),
        pa.field("image_w", pa.int32()),
        pa.field("labels", pa.list_(pa.int32())),
        pa.field("texts", pa.list_(pa.string())),
        pa.field(DETAILS, pa.string()),
        pa.field(WORDS, pa.string()),
        *kept,
        pa.field(HASH, pa.string()),
        *(pa.field(name, ARROW_TYPES[kind]) for name, kind in told["kinds"].items()),
    ]
    return pa.schema(columns)


def _batch(rows: Rows, schema: pa.Schema) -> pa.RecordBatch:
    height, width = np.ascontiguousarray(rows.sizes.T)
    types = {field.name: field.type for field in schema}
    known = {
        "product_id": pa.array(rows.ids.tolist(), types["product_id"]),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(rows.vectors.reshape(-1)), type=types["vector"]),
        "image_h": pa.array(height),
        "image_w": pa.array(width),
        "labels": pa.array(rows.labels, types["labels"]),
        "texts": pa.array(rows.texts, types["texts"]),
        DETAILS: pa.array(rows.details),
        WORDS: pa.array(rows.words),
        HASH: pa.array(rows.hashes),
        **rows.values,
    }
    if KEPT in types:
        known[KEPT] = _kept(rows, types[KEPT])
    return pa.record_batch([known[name] for name in schema.names], schema=schema)


def _kept(rows: Rows, kind: pa.DataType) -> pa.Array:
    assert rows.kept is not None
    regions = pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(rows.kept.regions).reshape(-1)), type=kind.value_type
    )
    return pa.ListArray.from_arrays(pa.array(rows.kept.bounds.astype(np.int32)), regions)


def _is_ours(schema: pa.Schema) -> bool:
    return "product_id" in schema.names


def _passing(where: Filter, card: dict[str, Any]) -> str:
    """The condition of a query for a filter; empty where everything passes."""
    parts = [_compared(one) for one in comparisons(where, card["search"]["kinds"])]
    if where.labels:
        parts.append(f"array_has_any(labels, {sorted(where.labels)})")
    return " AND ".join(parts)


def _compared(one: Comparison) -> str:
    """Numbers are compared as doubles: LanceDB takes none for a column of whole numbers."""
    column = f"`{one.column}`"
    if isinstance(one.values[0], float):
        column = f"cast({column} as double)"
    if one.relation == "=":
        return _any_of(column, one.values)
    return f"{column} {one.relation} {one.values[0]!r}"


def _any_of(column: str, values: Sequence[int | float | str]) -> str:
    written = ("'" + one.replace("'", "''") + "'" if isinstance(one, str) else repr(one) for one in values)
    return f"{column} IN ({', '.join(written)})"
