"""How do the vectors of an index become a collection of Qdrant that searchers see whole?

A collection named after the state of the index is filled in batches, then an alias turns to it in one step: searchers
see the old collection or the new one, and an export that was killed is finished by doing it again. qdrant-client comes
with the extra `qdrant`. Knows no query.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shopwindow.files import DataError
from shopwindow.search.stores.database import said_by
from shopwindow.search.stores.qdrant import ROWS_AT_ONCE, batch_of, check_name, make_collection, turn_alias
from shopwindow.search.stores.rows import Progress, card_of, open_for_export, rows_of

if TYPE_CHECKING:
    from qdrant_client import QdrantClient


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
    image_w (px), labels, texts, those of the shop's columns in which it has a value, and what a search needs besides.
    Where some product id is no integer, which Qdrant does not take, points have `point_id` of it and `product_id` in
    the payload.

    Doing it twice gives what doing it once gives; two exports at once into one name are not kept apart. `where` names
    the server in errors.

    Raises: DataError as `open_for_export`, for a negative product id, which Qdrant does not take, a collection of that
    very name, or a server that refuses. ValueError for a name with other than letters, digits, `_` and `-`.
    """
    check_name(collection)
    opened = open_for_export(index)
    card = card_of(opened)
    count = 0
    with _server_errors(where):
        ours = [one for one in _collections(client) if re.fullmatch(f"{collection}-[0-9a-f]{{16}}", one)]
        if collection in _collections(client):
            raise DataError(
                "is a collection that shopwindow did not write; give another name", path=collection
            )
        filled = _goal(client, collection, card, ours)
        if filled in ours:
            client.update_collection(filled, metadata=card)
        else:
            make_collection(client, filled, card)
        for rows in rows_of(opened, ROWS_AT_ONCE):
            client.upsert(filled, batch_of(rows), wait=True)
            count += len(rows.ids)
            if progress is not None:
                progress(count, len(opened))
        turn_alias(client, collection, filled)
        for one in ours:
            if one != filled:
                client.delete_collection(one)
    return count


def _goal(client: QdrantClient, collection: str, card: dict[str, Any], ours: list[str]) -> str:
    """The collection of a state: one that a killed export began, or a new one. Not one that a sync has changed since:
    it holds more than this state."""
    state = card["state"]
    while (name := f"{collection}-{state}") in ours:
        if (client.get_collection(name).config.metadata or {}).get("state") == card["state"]:
            break
        state = hashlib.sha256(state.encode()).hexdigest()[:16]
    return name


def _collections(client: QdrantClient) -> list[str]:
    return [one.name for one in client.get_collections().collections]


@contextlib.contextmanager
def _server_errors(where: str) -> Iterator[None]:
    """What client and server say as a DataError."""
    import httpx
    from qdrant_client.http.exceptions import ApiException

    try:
        yield
    except (ApiException, httpx.HTTPError, RuntimeError, ValueError, OSError) as error:
        raise DataError(f"Qdrant: {said_by(error)}", path=where) from error
