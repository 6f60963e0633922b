"""Qdrant's own engine in this process (`qdrant-edge-py`) behind the client's interface.

No package holds Qdrant's server. Its engine takes no collections, aliases and metadata: those stay with the client's
memory. Points, filters and searches are the engine's.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import qdrant_client
from qdrant_client import http, models


def edge_client(folder: Path) -> qdrant_client.QdrantClient:
    """A client whose points lie in shards of the engine."""
    client = qdrant_client.QdrantClient(":memory:")
    shards = _Shards(client, folder)
    names = "create_collection create_payload_index upsert delete query_batch_points retrieve count scroll"
    for name in names.split():
        setattr(client, name, getattr(shards, name))
    return client


class _Shards:
    """The methods of a client that touch points."""

    def __init__(self, client: qdrant_client.QdrantClient, folder: Path) -> None:
        self._edge: Any = importlib.import_module("qdrant_edge")
        self._folder = folder
        self._shards: dict[str, Any] = {}
        self._aliases, self._create = client.get_aliases, client.create_collection

    def create_collection(self, collection_name: str, *args: Any, **settings: Any) -> bool:
        size = self._edge.EdgeVectorParams(settings["vectors_config"].size, self._edge.Distance.Dot)
        place = self._folder / f"{collection_name}-{len(self._shards)}"
        place.mkdir(parents=True)
        self._shards[collection_name] = self._edge.EdgeShard.create(
            str(place), self._edge.EdgeConfig(vectors=size)
        )
        return self._create(collection_name, *args, **settings)

    def create_payload_index(
        self, collection_name: str, field_name: str, field_schema: Any = None, **_: Any
    ) -> Any:
        kind = getattr(self._edge.PayloadSchemaType, str(field_schema).title())
        self._shard(collection_name).update(self._edge.UpdateOperation.create_field_index(field_name, kind))

    def _shard(self, name: str) -> Any:
        aliases = {one.alias_name: one.collection_name for one in self._aliases().aliases}
        return self._shards[aliases.get(name, name)]

    def upsert(self, collection_name: str, points: Any, **_: Any) -> Any:
        edge = [
            self._edge.Point(one, vector, payload)
            for one, vector, payload in zip(points.ids, points.vectors, points.payloads, strict=True)
        ]
        self._shard(collection_name).update(self._edge.UpdateOperation.upsert_points(edge))

    def delete(self, collection_name: str, points_selector: Any, **_: Any) -> Any:
        gone = self._edge.UpdateOperation.delete_points(points_selector.points)
        self._shard(collection_name).update(gone)

    def query_batch_points(self, collection_name: str, requests: Any, **_: Any) -> Any:
        shard = self._shard(collection_name)
        return [http.models.QueryResponse(points=self._found(shard, one)) for one in requests]

    def _found(self, shard: Any, asked: Any) -> list[models.ScoredPoint]:
        request = self._edge.QueryRequest(
            asked.limit,
            query=self._edge.Query.Nearest(asked.query),
            filter=self._filter(asked.filter),
            with_payload=bool(asked.with_payload),
            params=self._edge.SearchParams(exact=True) if asked.params else None,
        )
        return [
            models.ScoredPoint(id=_id(one.id), version=0, score=one.score, payload=one.payload)
            for one in shard.query(request)
        ]

    def retrieve(self, collection_name: str, ids: Any, **settings: Any) -> list[models.Record]:
        found = self._shard(collection_name).retrieve(ids, True, settings.get("with_vectors", False))
        return [models.Record(id=_id(one.id), payload=one.payload, vector=one.vector) for one in found]

    def count(self, collection_name: str, count_filter: Any = None, **_: Any) -> models.CountResult:
        request = self._edge.CountRequest(exact=True, filter=self._filter(count_filter))
        return models.CountResult(count=self._shard(collection_name).count(request))

    def scroll(self, collection_name: str, **settings: Any) -> Any:
        request = self._edge.ScrollRequest(
            offset=settings.get("offset"), limit=settings["limit"], with_payload=True, with_vector=False
        )
        found, offset = self._shard(collection_name).scroll(request)
        return [models.Record(id=_id(one.id), payload=one.payload) for one in found], offset

    def _filter(self, asked: Any) -> Any:
        if asked is None:
            return None
        must = [self._condition(one) for one in asked.must or []]
        should = [self._condition(one) for one in asked.should or []]
        return self._edge.Filter(must=must or None, should=should or None)

    def _condition(self, asked: Any) -> Any:
        if isinstance(asked, models.Filter):
            return self._filter(asked)
        if asked.range is not None:
            bounds = asked.range.model_dump(exclude_none=True)
            return self._edge.FieldCondition(asked.key, range=self._edge.RangeFloat(**bounds))
        return self._edge.FieldCondition(asked.key, match=self._edge.MatchAny(asked.match.any))


def _id(given: Any) -> Any:
    return given if isinstance(given, int) else str(given)
