"""How is a collection of Milvus filled, searched and changed?

A collection is named after a state of an index, and an alias turns to it in one step. Columns of the shop are dynamic
fields. Full text with scores is not used there. pymilvus comes with the extra `milvus`; a URL of a file opens
milvus-lite's engine in this process.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float32

from shopwindow.files import DataError
from shopwindow.search.hits import Filter, ProductId
from shopwindow.search.stores.database import (
    FEW_ROWS,
    Comparison,
    Found,
    Stored,
    comparisons,
    describes_ours,
    host_of,
    said_by,
)
from shopwindow.search.stores.protocol import StoreMovedError, StoreUnavailableError
from shopwindow.search.stores.rows import DETAILS, HASH, KEPT, Rows, packed, stamp_of

TOKEN: Final = "MILVUS_TOKEN"
"""The environment variable with the key, or USER:PASSWORD, of a server that wants one."""
ROWS_AT_ONCE: Final = 512
INDEXED_FROM: Final = 50_000
"""Products from which on a new collection has HNSW; below it every vector is read."""
_CARD: Final = "shopwindow"
_NO_COLLECTION: Final = 100
_LONGEST_ID_BYTES: Final = 1024
_LONGEST_TEXT_BYTES: Final = 65_535
_MOST_LABELS: Final = 4096
_NO_TEXT: Final = "shopwindow uses no full text of Milvus; PostgreSQL and LanceDB have it"


def connect(url: str, collection: str) -> Milvus:
    """The collection of the server at `milvus://HOST:PORT`, with `?tls=1` over TLS; or of milvus-lite in a file, as in
    `milvus:///shop/products.db`.

    Raises: ImportError, ValueError for a wrong name, StoreUnavailableError.
    """
    try:
        import pymilvus
    except ImportError as error:
        raise ImportError("pymilvus is not installed: pip install 'shopwindow[milvus]' brings it") from error
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,200}", collection):
        raise ValueError(f"collection {collection!r}: letters, digits and _ were wanted")
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs what it also raises
    plain, _, settings = url.partition("?")
    place = plain.partition("://")[2]
    who, _, host = place.rpartition("@")
    is_file = host.endswith(".db")
    where = host if is_file else f"{'https' if 'tls=' in settings else 'http'}://{host}"
    if is_file:  # milvus-lite logs what it does not know, and answers by other means
        logging.getLogger("grpc._server").setLevel(logging.CRITICAL)
    name = f"Milvus {host if is_file else host_of(url)} {collection}"
    try:
        client = pymilvus.MilvusClient(where, token=who or os.environ.get(TOKEN, ""))
    except (pymilvus.MilvusException, OSError) as error:
        raise StoreUnavailableError(said_by(error), path=name) from error
    return Milvus(pymilvus, client, collection, name)


@dataclass(frozen=True)
class Milvus:
    """An alias on a server."""

    pymilvus: Any
    client: Any
    collection: str
    name: str
    full_text: str = _NO_TEXT

    def open(self) -> MilvusTable | None:
        """What the alias names now. Raises: DataError for a collection of that very name, or one of others."""
        with self.errors():
            if not self.client.has_collection(self.collection):
                return None
            goal, card = self.collection, None
            if self.collection not in self.client.list_collections():
                goal = self.client.describe_alias(self.collection)["collection_name"]
                told = self.client.describe_collection(goal).get("properties") or {}
                card = json.loads(told.get(_CARD, "null"))
        if not describes_ours(card):
            raise DataError(
                "is a collection that shopwindow did not write; give another name", path=self.name
            )
        assert card is not None
        return MilvusTable(self, card, goal)

    def create(self, card: dict[str, Any]) -> MilvusTable:
        """An empty collection behind the alias."""
        table = self.make(card)
        self.turn(table)
        return table

    def make(self, card: dict[str, Any]) -> MilvusTable:
        """An empty collection of a new name, that no alias names."""
        state = card["state"]
        with self.errors():
            names = self.client.list_collections()
            while (name := f"{self.collection}_{state}") in names:
                state = hashlib.sha256(state.encode()).hexdigest()[:16]
            self.client.create_collection(
                name, schema=self._schema(card), index_params=self._index(card), consistency_level="Strong"
            )
        return MilvusTable(self, card, name).describe(card)

    def turn(self, table: MilvusTable) -> None:
        """Lets the alias name a collection, in one step; those of other states go."""
        with self.errors():
            names = self.client.list_collections()
            if self.collection in names:
                problem = "is a collection that shopwindow did not write; give another name"
                raise DataError(problem, path=self.name)
            turn = self.client.alter_alias if self.client.has_collection(self.collection) else None
            (turn or self.client.create_alias)(table.collection, self.collection)
            for name in names:
                if re.fullmatch(f"{self.collection}_[0-9a-f]{{16}}", name) and name != table.collection:
                    self.client.drop_collection(name)

    def _schema(self, card: dict[str, Any]) -> Any:
        kinds = self.pymilvus.DataType
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=True)
        if card["search"]["text_ids"]:
            schema.add_field("product_id", kinds.VARCHAR, is_primary=True, max_length=_LONGEST_ID_BYTES)
        else:
            schema.add_field("product_id", kinds.INT64, is_primary=True)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=card["dimensions"])
        schema.add_field("labels", kinds.ARRAY, element_type=kinds.INT64, max_capacity=_MOST_LABELS)
        for name in (DETAILS, KEPT, HASH):
            schema.add_field(name, kinds.VARCHAR, max_length=_LONGEST_TEXT_BYTES)
        return schema

    def _index(self, card: dict[str, Any]) -> Any:
        """How vectors are searched: HNSW of many products, else each is read."""
        many = card["products"] >= INDEXED_FROM
        how: dict[str, Any] = {"index_type": "FLAT"}
        if many:
            how = {"index_type": "HNSW", "params": {"M": 16, "efConstruction": 200}}
        index = self.client.prepare_index_params()
        index.add_index("vector", metric_type="IP", **how)
        return index

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """What client and server say, as errors of the store."""
        try:
            yield
        except self.pymilvus.MilvusException as error:
            moved = StoreMovedError if error.code == _NO_COLLECTION else StoreUnavailableError
            raise moved(said_by(error), path=self.name) from error
        except OSError as error:
            raise StoreUnavailableError(said_by(error), path=self.name) from error


@dataclass(frozen=True)
class MilvusTable:
    """One collection."""

    database: Milvus
    card: dict[str, Any]
    collection: str

    @property
    def stamp(self) -> str:
        """Names the state."""
        return stamp_of(self.collection, self.card)

    @property
    def _is_flat(self) -> bool:
        """Whether every search reads every vector."""
        return bool(self.card["exact"])

    @property
    def _client(self) -> Any:
        return self.database.client

    def search(
        self, vectors: Float32[np.ndarray, "queries dimensions"], k: int, where: Filter, *, exact: bool
    ) -> list[Found]:
        """The best k products of each query. Raises: ValueError for an exact search of a large collection with HNSW,
        unless few pass the filter."""
        if exact and not self._is_flat:
            return self._read(vectors, k, where)
        with self.database.errors():
            many = self._client.search(
                self.collection,
                data=vectors.tolist(),
                limit=k,
                filter=self._passing(where),
                output_fields=["product_id"],
                search_params={
                    "metric_type": "IP",
                    "params": {} if self._is_flat else {"ef": max(100, 2 * k)},
                },
            )
        return [
            Found([one["product_id"] for one in found], [one["distance"] for one in found]) for found in many
        ]

    def _read(self, vectors: Float32[np.ndarray, "queries dimensions"], k: int, where: Filter) -> list[Found]:
        """The best k of all products that pass, scored here: Milvus would ask its graph."""
        if self.count(where) > FEW_ROWS:
            raise ValueError(
                f"exact: Milvus reads at most {FEW_ROWS:,} products of a collection with an index"
            )
        with self.database.errors():
            rows = self._client.query(
                self.collection,
                filter=self._passing(where),
                output_fields=["product_id", "vector"],
                limit=FEW_ROWS,
            )
        if not rows:
            return [Found([], [])] * len(vectors)
        scores = vectors @ np.array([row["vector"] for row in rows], np.float32).T
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        ids = [row["product_id"] for row in rows]
        return [
            Found([ids[row] for row in some.tolist()], one[some].tolist())
            for some, one in zip(best, scores, strict=True)
        ]

    def find_texts(self, words: str, k: int, where: Filter) -> Found:  # noqa: ARG002 - there is no full text
        """Raises: ValueError."""
        raise ValueError(f"hybrid: {_NO_TEXT}")

    def fetch(self, ids: Sequence[ProductId], *, regions: bool) -> list[Stored]:
        """Those of the products that it has."""
        names = ["product_id", "image_h", "image_w", "texts", DETAILS, *self.card["search"]["kinds"]]
        with self.database.errors():
            rows = self._client.get(
                self.collection, ids=list(ids), output_fields=[*names, *(["vector", KEPT] if regions else [])]
            )
        return [self._stored(row, regions=regions) for row in rows]

    def _stored(self, row: dict[str, Any], *, regions: bool) -> Stored:
        kinds = self.card["search"]["kinds"]
        return Stored(
            product_id=row["product_id"],
            size=(row["image_h"], row["image_w"]),
            texts=row["texts"],
            values={name: row[name] for name in kinds if row.get(name) is not None},
            details=row[DETAILS],
            vector=np.array(row["vector"], np.float32) if regions else None,
            kept=base64.b64decode(row[KEPT]) if regions and row[KEPT] else None,
        )

    def count(self, where: Filter) -> int:
        """How many products pass a filter."""
        with self.database.errors():
            rows = self._client.query(
                self.collection, filter=self._passing(where), output_fields=["count(*)"]
            )
        return int(rows[0]["count(*)"])

    def hashes(self) -> dict[ProductId, str]:
        """The content hash of every product."""
        found: dict[ProductId, str] = {}
        with self.database.errors():
            pages = self._client.query_iterator(
                self.collection, batch_size=4096, output_fields=["product_id", HASH]
            )
            while rows := pages.next():
                found |= {row["product_id"]: row[HASH] for row in rows}
            pages.close()
        return found

    def upsert(self, rows: Rows) -> None:
        """Adds products, or replaces those of the same ids."""
        for start in range(0, len(rows.ids), ROWS_AT_ONCE):
            some = rows.take(np.arange(start, min(start + ROWS_AT_ONCE, len(rows.ids))))
            with self.database.errors():
                self._client.upsert(self.collection, list(_entities(some)))

    def delete(self, ids: Sequence[ProductId]) -> None:
        """Takes products away."""
        with self.database.errors():
            self._client.delete(self.collection, ids=list(ids))

    def describe(self, card: dict[str, Any]) -> MilvusTable:
        """Says what its products are, and whether its index is exact, which stays."""
        exact = self.card.get("exact", card["products"] < INDEXED_FROM)
        card = {**card, "exact": exact}
        with self.database.errors():
            self._client.alter_collection_properties(self.collection, properties={_CARD: json.dumps(card)})
        return MilvusTable(self.database, card, self.collection)

    def settle(self) -> None:
        """Writes what was brought, so that it is indexed."""
        with self.database.errors():
            self._client.flush(self.collection)

    def _passing(self, where: Filter) -> str:
        """The filter as Milvus has it; empty where everything passes."""
        parts = [_compared(one) for one in comparisons(where, self.card["search"]["kinds"])]
        if where.labels:
            parts.append(f"ARRAY_CONTAINS_ANY(labels, {sorted(where.labels)})")
        return " and ".join(parts)


def _entities(rows: Rows) -> Iterator[dict[str, Any]]:
    vectors = rows.vectors.tolist()
    for row, (product_id, (height, width)) in enumerate(
        zip(rows.ids.tolist(), rows.sizes.tolist(), strict=True)
    ):
        yield {
            "product_id": product_id,
            "vector": vectors[row],
            "labels": rows.labels[row],
            "image_h": height,
            "image_w": width,
            "texts": rows.texts[row],
            DETAILS: rows.details[row],
            KEPT: packed(rows.kept_of(row)) or "",
            HASH: rows.hashes[row],
            **rows.values_of(row),
        }


def _compared(one: Comparison) -> str:
    """Each value alone: of a dynamic field Milvus takes no list."""
    relation = "==" if one.relation == "=" else one.relation
    field = f'$meta["{one.column}"]'
    return f"({' or '.join(f'{field} {relation} {json.dumps(value)}' for value in one.values)})"
