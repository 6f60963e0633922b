"""How do the vectors of an index become a collection of Qdrant that searchers see whole?

A collection named after the state of the index is filled in batches, then an alias turns to it in one step: searchers
see the old collection or the new one, and an export that was killed is finished by doing it again. qdrant-client comes
with the extra `export`. Knows no query.
"""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shopwindow.export.rows import Progress, Rows, describe_vectors, open_for_export, rows_of
from shopwindow.files import DataError

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

API_KEY: Final = "QDRANT_API_KEY"
"""The environment variable with the key of a server that wants one."""
_ROWS_AT_ONCE: Final = 256
_SECONDS: Final = 60


def open_qdrant(url: str) -> QdrantClient:
    """A client of the server at `http(s)://...`.

    Not of qdrant-client's own storage in a folder: that loads pickles.
    Raises: ImportError without qdrant-client, DataError for something else than such an address.
    """
    if not url.startswith(("http://", "https://")):
        raise DataError("http:// or https:// was wanted", path=url)
    client: QdrantClient = _driver().QdrantClient(
        url=url, api_key=os.environ.get(API_KEY), timeout=_SECONDS, check_compatibility=False
    )
    return client


def write_qdrant(
    index: str | Path,
    client: QdrantClient,
    collection: str,
    *,
    where: str = "Qdrant",
    progress: Progress | None = None,
) -> int:
    """Writes the vectors of all living products as points; gives how many.

    `collection` becomes an alias of COLLECTION-STATE, which holds these products and no others; collections of earlier
    states are deleted after the turn. Points: id, the vector (compared by dot product), and a payload of image_h,
    image_w (px), labels, texts, and those of the shop's columns in which it has a value. Where some product id is no
    integer, which Qdrant does not take, points have `point_id` of it and `product_id` in the payload.

    Doing it twice gives what doing it once gives; two exports at once into one name are not kept apart. `where` names
    the server in errors.

    Raises: DataError as `open_for_export`, for a negative product id, which Qdrant does not take, a collection of that
    very name, or a server that refuses. ValueError for a name with other than letters, digits, `_` and `-`.
    """
    models = _driver().models
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,200}", collection):
        raise ValueError(f"collection {collection!r}: letters, digits, _ and - were wanted")
    opened = open_for_export(index)
    card = describe_vectors(opened)
    filled = f"{collection}-{card['state']}"
    count = 0
    with _server_errors(where):
        ours = [one for one in _collections(client) if re.fullmatch(f"{collection}-[0-9a-f]{{16}}", one)]
        if collection in _collections(client):
            raise DataError(
                "is a collection that shopwindow did not write; give another name", path=collection
            )
        if filled not in ours:
            size = models.VectorParams(size=opened.manifest.hidden, distance=models.Distance.DOT)
            client.create_collection(filled, vectors_config=size, metadata=card)
        for rows in rows_of(opened, _ROWS_AT_ONCE):
            client.upsert(filled, _batch(models, rows), wait=True)
            count += len(rows.ids)
            if progress is not None:
                progress(count, len(opened))
        turn = models.CreateAlias(collection_name=filled, alias_name=collection)
        client.update_collection_aliases([models.CreateAliasOperation(create_alias=turn)])
        for one in ours:
            if one != filled:
                client.delete_collection(one)
    return count


def point_id(product_id: str) -> str:
    """The point of a product whose id is text: its UUID of version 5 in the namespace of OIDs.

    >>> point_id("SKU-0042")
    '8da66693-b820-5fef-9f33-a9abca2015b4'
    """
    return str(uuid.uuid5(uuid.NAMESPACE_OID, product_id))


def _batch(models: Any, rows: Rows) -> Any:
    text = rows.ids.dtype.kind == "U"
    if not text and int(rows.ids.min()) < 0:
        raise DataError(f"product {rows.ids.min()}: Qdrant takes no negative ids")
    columns = {name: column.to_pylist() for name, column in rows.values.items()}
    payloads = [
        {"image_h": height, "image_w": width, "labels": rows.labels[row], "texts": rows.texts[row]}
        | {name: values[row] for name, values in columns.items() if values[row] is not None}
        for row, (height, width) in enumerate(rows.sizes.tolist())
    ]
    ids = rows.ids.tolist()
    if text:
        payloads = [{"product_id": one, **some} for one, some in zip(ids, payloads, strict=True)]
        ids = [point_id(one) for one in ids]
    return models.Batch(ids=ids, vectors=rows.vectors.tolist(), payloads=payloads)


def _collections(client: QdrantClient) -> list[str]:
    return [one.name for one in client.get_collections().collections]


def _driver() -> Any:
    try:
        import qdrant_client
    except ImportError as error:
        raise ImportError(
            "qdrant-client is not installed: pip install 'shopwindow[export]' writes to Qdrant"
        ) from error
    return qdrant_client


@contextlib.contextmanager
def _server_errors(where: str) -> Iterator[None]:
    """What client and server say as a DataError."""
    import httpx
    from qdrant_client.http.exceptions import ApiException

    try:
        yield
    except (ApiException, httpx.HTTPError, RuntimeError, ValueError, OSError) as error:
        raise DataError(f"Qdrant: {' '.join(str(error).split())}", path=where) from error
