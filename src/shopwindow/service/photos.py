"""How is a photo handed out? As the bytes of the file that the index names, if they are an image at all.

The kind is read from the file's first bytes, not from its name. Knows no request but the mark of what the asker has.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from fastapi import Response

from shopwindow.search.hits import ProductView
from shopwindow.service.problems import Problem

_CACHE: Final = "private, max-age=300"
_KINDS: Final = (
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"),
    (b"GIF8", 0, "image/gif"),
    (b"WEBP", 8, "image/webp"),
)


def photo_response(view: ProductView, *, known: str | None, most_bytes: int) -> Response:
    """A product's photo; without its bytes when the asker's mark `known` is that of this file.

    Raises: Problem for a photo that is missing, unreadable, no image, or larger than `most_bytes`.
    """
    if view.photo is None:
        raise _no_photo(view, "the index knows no photo of it")
    try:
        content, mark = _read(view.photo, most_bytes)
    except OSError as error:
        raise _no_photo(view, "its file cannot be read") from error
    if len(content) > most_bytes:
        raise _no_photo(view, f"its file has more than {most_bytes} bytes")
    kind = image_kind(content)
    if kind is None:
        raise _no_photo(view, "its file is no image")
    headers = {"ETag": mark, "Cache-Control": _CACHE}
    if known is not None and mark in known:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)


def image_kind(content: bytes) -> str | None:
    """The media type of an image by its first bytes.

    >>> image_kind(b"GIF89a"), image_kind(b"<svg onload=...>")
    ('image/gif', None)
    """
    return next(
        (kind for magic, at, kind in _KINDS if content[at : at + len(magic)] == magic),
        None,
    )


def _read(path: Path, most_bytes: int) -> tuple[bytes, str]:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        return file.read(most_bytes + 1), f'"{status.st_mtime_ns:x}-{status.st_size:x}"'


def _no_photo(view: ProductView, why: str) -> Problem:
    return Problem(404, "no-photo", f"product {view.product_id} has no photo: {why}")
