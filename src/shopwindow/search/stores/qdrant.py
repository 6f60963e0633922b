"""How is a collection of Qdrant searched and changed?

`export/qdrant.py` fills one named after a state of an index, and turns an alias to it. This opens what the alias names.
Full text with scores is not used there. qdrant-client comes with the extra `qdrant`.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import uuid
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float32

from shopwindow.files import DataError
from shopwindow.search.hits import Filter, ProductId
from shopwindow.search.stores.database import (
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

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

API_KEY: Final = "QDRANT_API_KEY"
"""The environment variable with the key of a server that wants one."""
ROWS_AT_ONCE: Final = 256
_SECONDS: Final = 60
_READ_AT_ONCE: Final = 4096
_NO_TEXT: Final = "shopwindow uses no full text of Qdrant; PostgreSQL and LanceDB have it"


def connect(url: str, collection: str) -> Qdrant:
    """The collection of the server at `qdrant://HOST:PORT`, with `?tls=1` over TLS. Raises: DataError for a wrong name,
    ImportError."""
    plain, _, settings = url.partition("?")
    scheme = "https" if "tls=" in settings else "http"
    client = open_qdrant(f"{scheme}://{plain.partition('://')[2]}")
    return Qdrant(client, collection, host_of(url))


def driver() -> Any:
    """qdrant_client. Raises: ImportError naming the extra."""
    try:
        import qdrant_client
    except ImportError as error:
        raise ImportError(
            "qdrant-client is not installed: pip install 'shopwindow[qdrant]' brings it"
        ) from error
    return qdrant_client


def open_qdrant(url: str) -> QdrantClient:
    """A client of the server at `http(s)://...`.

    Not of qdrant-client's own storage in a folder: that loads pickles.
    Raises: ImportError without qdrant-client, DataError for something else than such an address.
    """
    if not url.startswith(("http://", "https://")):
        raise DataError("http:// or https:// was wanted", path=url)
    client: QdrantClient = driver().QdrantClient(
        url=url, api_key=os.environ.get(API_KEY), timeout=_SECONDS, check_compatibility=False
    )
    return client


def point_id(product_id: ProductId) -> ProductId:
    """The point of a product: its id, or where that is text its UUID of version 5 in the namespace of OIDs.

    >>> point_id("SKU-0042"), point_id(42)
    ('8da66693-b820-5fef-9f33-a9abca2015b4', 42)
    """
    return product_id if isinstance(product_id, int) else str(uuid.uuid5(uuid.NAMESPACE_OID, product_id))


def check_name(collection: str) -> None:
    """Raises: ValueError for a name that an alias and its collections cannot have."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,200}", collection):
        raise ValueError(f"collection {collection!r}: letters, digits, _ and - were wanted")


def batch_of(rows: Rows) -> Any:
    """Products as points. Raises: DataError for a negative id, which Qdrant does not take."""
    text = rows.ids.dtype.kind == "U"
    if not text and int(rows.ids.min()) < 0:
        raise DataError(f"product {rows.ids.min()}: Qdrant takes no negative ids")
    ids, payloads = rows.ids.tolist(), []
    for row, (height, width) in enumerate(rows.sizes.tolist()):
        kept = packed(rows.kept_of(row))
        own = {"product_id": ids[row]} if text else {}
        own |= {"image_h": height, "image_w": width, "labels": rows.labels[row], "texts": rows.texts[row]}
        own |= {DETAILS: rows.details[row], HASH: rows.hashes[row]} | ({} if kept is None else {KEPT: kept})
        payloads.append(own | rows.values_of(row))
    points = [point_id(one) for one in ids]
    return driver().models.Batch(ids=points, vectors=rows.vectors.tolist(), payloads=payloads)


def make_collection(client: QdrantClient, name: str, card: dict[str, Any]) -> None:
    """An empty collection for products as described, with indexes of what can be filtered by."""
    models = driver().models
    size = models.VectorParams(size=card["dimensions"], distance=models.Distance.DOT)
    client.create_collection(name, vectors_config=size, metadata=card)
    index_payload(client, name, card)


def index_payload(client: QdrantClient, name: str, card: dict[str, Any]) -> None:
    """Indexes what can be filtered by; what is indexed already stays."""
    kinds = {"word": "keyword", "number": "float"}
    fields = {"labels": "integer"} | {one: kinds[kind] for one, kind in card["search"]["kinds"].items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the client's own storage has no such indexes, and warns
        for field, kind in fields.items():
            client.create_payload_index(name, field, field_schema=kind)


def turn_alias(client: QdrantClient, alias: str, collection: str) -> None:
    """Lets an alias name a collection, in one step."""
    models = driver().models
    turn = models.CreateAlias(collection_name=collection, alias_name=alias)
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=turn)])


@dataclass(frozen=True)
class Qdrant:
    """An alias on a server."""

    client: QdrantClient
    collection: str
    host: str = "Qdrant"
    full_text: str = _NO_TEXT

    @property
    def name(self) -> str:
        """Says which for messages."""
        return f"Qdrant {self.host} {self.collection}"

    def open(self) -> QdrantTable | None:
        """What the alias names now. Raises: DataError for a collection of that very name, or one of others."""
        with self.errors():
            aliases = {one.alias_name: one.collection_name for one in self.client.get_aliases().aliases}
            goal = aliases.get(self.collection)
            if goal is None and not self.client.collection_exists(self.collection):
                return None
            card = None if goal is None else self.client.get_collection(goal).config.metadata
        if goal is None or not describes_ours(card):
            raise DataError(
                "is a collection that shopwindow did not write; give another name", path=self.name
            )
        assert card is not None
        return QdrantTable(self, dict(card), goal)

    def create(self, card: dict[str, Any]) -> QdrantTable:
        """An empty collection behind the alias."""
        check_name(self.collection)
        name = f"{self.collection}-{card['state']}"
        with self.errors():
            if self.client.collection_exists(name):  # of an export that was killed before it turned the alias
                self.client.delete_collection(name)
            make_collection(self.client, name, card)
            turn_alias(self.client, self.collection, name)
        return QdrantTable(self, card, name)

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """What client and server say, as errors of the store."""
        import httpx
        from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

        try:
            yield
        except UnexpectedResponse as error:
            moved = StoreMovedError if error.status_code == 404 else DataError
            raise moved(said_by(error), path=self.name) from error
        except (ApiException, httpx.HTTPError, OSError) as error:
            raise StoreUnavailableError(said_by(error), path=self.name) from error
        except ValueError as error:  # the client's own storage
            raise StoreMovedError(said_by(error), path=self.name) from error


@dataclass(frozen=True)
class QdrantTable:
    """One collection."""

    database: Qdrant
    card: dict[str, Any]
    collection: str

    @property
    def stamp(self) -> str:
        """Names the state."""
        return stamp_of(self.collection, self.card)

    @property
    def _client(self) -> QdrantClient:
        return self.database.client

    @property
    def _text_ids(self) -> bool:
        return bool(self.card["search"]["text_ids"])

    def search(
        self, vectors: Float32[np.ndarray, "queries dimensions"], k: int, where: Filter, *, exact: bool
    ) -> list[Found]:
        """The best k products of each query. `exact`: every vector is read."""
        models = driver().models
        passing = self._passing(where)
        requests = [
            models.QueryRequest(
                query=vector.tolist(),
                limit=k,
                filter=passing,
                params=models.SearchParams(exact=True) if exact else None,
                with_payload=["product_id"] if self._text_ids else False,
            )
            for vector in vectors
        ]
        with self.database.errors():
            found = self._client.query_batch_points(self.collection, requests)
        return [
            Found([self._id(one) for one in some.points], [one.score for one in some.points])
            for some in found
        ]

    def _id(self, point: Any) -> ProductId:
        held: ProductId = point.payload["product_id"] if self._text_ids else point.id
        return held

    def find_texts(self, words: str, k: int, where: Filter) -> Found:  # noqa: ARG002 - there is no full text
        """Raises: ValueError."""
        raise ValueError(f"hybrid: {_NO_TEXT}")

    def fetch(self, ids: Sequence[ProductId], *, regions: bool) -> list[Stored]:
        """Those of the products that it has."""
        names = ["product_id", "image_h", "image_w", "texts", DETAILS, *self.card["search"]["kinds"]]
        with self.database.errors():
            points = self._client.retrieve(
                self.collection,
                [point_id(one) for one in ids],
                with_payload=[*names, *([KEPT] if regions else [])],
                with_vectors=regions,
            )
        return [self._stored(point) for point in points]

    def _stored(self, point: Any) -> Stored:
        payload = point.payload
        kept = payload.get(KEPT)
        return Stored(
            product_id=self._id(point),
            size=(payload["image_h"], payload["image_w"]),
            texts=payload["texts"],
            values={name: payload[name] for name in self.card["search"]["kinds"] if name in payload},
            details=payload[DETAILS],
            vector=None if point.vector is None else np.array(point.vector, np.float32),
            kept=None if kept is None else base64.b64decode(kept),
        )

    def count(self, where: Filter) -> int:
        """How many products pass a filter."""
        with self.database.errors():
            return int(self._client.count(self.collection, count_filter=self._passing(where)).count)

    def hashes(self) -> dict[ProductId, str]:
        """The content hash of every product."""
        found: dict[ProductId, str] = {}
        offset: Any = None
        with self.database.errors():
            while True:
                points, offset = self._client.scroll(
                    self.collection,
                    limit=_READ_AT_ONCE,
                    offset=offset,
                    with_payload=[HASH, "product_id"],
                )
                found |= {self._id(point): str((point.payload or {}).get(HASH)) for point in points}
                if offset is None:
                    return found

    def upsert(self, rows: Rows) -> None:
        """Adds products, or replaces those of the same ids."""
        for start in range(0, len(rows.ids), ROWS_AT_ONCE):
            some = rows.take(np.arange(start, min(start + ROWS_AT_ONCE, len(rows.ids))))
            with self.database.errors():
                self._client.upsert(self.collection, batch_of(some), wait=True)

    def delete(self, ids: Sequence[ProductId]) -> None:
        """Takes products away."""
        points = driver().models.PointIdsList(points=[point_id(one) for one in ids])
        with self.database.errors():
            self._client.delete(self.collection, points, wait=True)

    def describe(self, card: dict[str, Any]) -> QdrantTable:
        """Says what its products are."""
        with self.database.errors():
            self._client.update_collection(self.collection, metadata=card)
            index_payload(self._client, self.collection, card)
        return QdrantTable(self.database, card, self.collection)

    def settle(self) -> None:
        """Nothing: Qdrant indexes by itself."""

    def _passing(self, where: Filter) -> Any:
        """The filter as Qdrant has it; None where everything passes."""
        models = driver().models
        parts = [_compared(one) for one in comparisons(where, self.card["search"]["kinds"])]
        if where.labels:
            wanted = models.MatchAny(any=sorted(where.labels))
            parts.append(models.FieldCondition(key="labels", match=wanted))
        return models.Filter(must=parts) if parts else None


def _compared(one: Comparison) -> Any:
    models = driver().models
    first, name = one.values[0], {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}.get(one.relation)
    if name is not None:
        return models.FieldCondition(key=one.column, range=models.Range(**{name: first}))
    if isinstance(first, str):
        return models.FieldCondition(key=one.column, match=models.MatchAny(any=one.values))
    ranges = [models.Range(gte=value, lte=value) for value in one.values]
    return models.Filter(should=[models.FieldCondition(key=one.column, range=some) for some in ranges])
