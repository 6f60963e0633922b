"""What does a list show of a product? Built from what an index or a database knows of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shopwindow.files import find_photo
from shopwindow.search.hits import ProductId, Value
from shopwindow.search.roles import Roles
from shopwindow.vision.fetch import IN_TAR


def view_fields(
    product_id: ProductId,
    size: tuple[int, int],
    values: Mapping[str, Value],
    *,
    roles: Roles,
    photos: str | None,
    title: str | None,
    source: str | None,
) -> dict[str, Any]:
    """The fields of a `View`. `size` is (height, width) in px; `photos` a folder of photos named by id; `source` the
    path or address that the shop gave of the photo."""
    told = roles.shown(values)
    photo, source = find_photo(photos, product_id), source or ""
    is_url = source.startswith(("http://", "https://"))
    return {
        "image_h": size[0],
        "image_w": size[1],
        "photo": photo or (None if is_url else _photo_file(source)),
        "photo_url": source if is_url and photo is None else None,
        **told,
        "title": title or told["title"],
        "values": values,
    }


def _photo_file(source: str) -> Path | str | None:
    """The file that a source names; text where it lies in a tar or a store."""
    if os.path.isfile(source):  # noqa: PTH113 - as `find_photo`
        return Path(source)
    return source if IN_TAR in source or "://" in source else None
