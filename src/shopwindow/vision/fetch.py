"""How are the bytes of a photo fetched: from a file, a tar, the web, or a store such as S3?

A source is an absolute path, `TAR::MEMBER`, or a URL. Each has a state, by which a file that has not changed need not
be read again. What cannot be reached is an unreadable photo. Knows no picture.
"""

from __future__ import annotations

import functools
import http.client
import os
import stat
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shopwindow.files import DataError, open_bytes
from shopwindow.objects import located
from shopwindow.vision.pictures import UnreadablePicture

MOST_BYTES: Final = 64 * 2**20
"""Of a photo's file."""
IN_TAR: Final = "::"
_SECONDS: Final = 20.0
"""Without a byte, after which a URL counts as unreachable."""
_MOST_SECONDS: Final = 120.0
_TRIES: Final = 2
_PASSING: Final = (408, 425, 429, 500, 502, 503, 504)
"""HTTP codes after which it is worth asking again."""
_CHUNK: Final = 2**18


@dataclass(frozen=True)
class Fetched:
    """The bytes of a source, None where it has not changed since the state that was given."""

    data: bytes | None
    state: str
    """Size and time of a file, the ETag or date of a URL; "" where there is none."""


def fetch(source: str, known: str = "") -> Fetched:
    """The bytes of a source, or None where its state is still `known`.

    Raises: UnreadablePicture where it cannot be reached, or is larger than 64 MB.
    """
    scheme, mark, _ = source.partition("://")
    try:
        if not mark:
            return _from_file(source, known)
        return _from_web(source, known) if scheme in ("http", "https") else _from_store(source, known)
    except UnreadablePicture:
        raise
    except FileNotFoundError as error:
        raise UnreadablePicture("no such file") from error
    except Exception as error:  # stores raise errors of their own kinds
        reason = str(getattr(error, "strerror", None) or error).partition("\n")[0]
        raise UnreadablePicture(f"cannot be read: {reason or type(error).__name__}") from error


def read_photo(path: str | os.PathLike[str]) -> bytes:
    """The bytes of one photo: of a file, a pipe, or standard input (`-`).

    Raises: DataError for more than 64 MB, and as `open_bytes`.
    """
    with open_bytes(path) as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise DataError(f"is no photo: more than {MOST_BYTES:,} bytes", path=path)
    return data


def _from_file(source: str, known: str) -> Fetched:
    place, mark, member = source.rpartition(IN_TAR)
    path = Path(place if mark and place.endswith(".tar") else source)
    info = path.stat()
    if not stat.S_ISREG(info.st_mode):
        raise UnreadablePicture("is a directory" if path.is_dir() else "is no plain file")
    state = f"{info.st_size}-{info.st_mtime_ns}"
    if state == known:
        return Fetched(None, state)
    first, size = 0, info.st_size
    if path != Path(source):
        members = _members(path, state)
        if member not in members:
            raise UnreadablePicture("no such file in the tar")
        first, size = members[member]
    _check_size(size)
    with path.open("rb") as file:
        file.seek(first)
        return Fetched(file.read(size), state)


@functools.lru_cache(maxsize=8)
def _members(path: Path, state: str) -> dict[str, tuple[int, int]]:  # noqa: ARG001 - a changed tar has another state
    """Where the bytes of each file of a tar begin, and how many they are."""
    with tarfile.open(path) as tar:
        return {member.name: (member.offset_data, member.size) for member in tar if member.isfile()}


def _from_web(url: str, known: str) -> Fetched:
    headers = {"User-Agent": "shopwindow", "Accept": "image/*,*/*;q=0.5"}
    if known:
        headers["If-None-Match" if known.startswith(('"', "W/")) else "If-Modified-Since"] = known
    request = urllib.request.Request(urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]"), headers=headers)
    for tried in range(1, _TRIES + 1):
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as response:
                state = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
                return Fetched(_read(response), state)
        except urllib.error.HTTPError as error:
            if error.code == http.client.NOT_MODIFIED:
                return Fetched(None, known)
            if error.code not in _PASSING or tried == _TRIES:
                raise UnreadablePicture(f"HTTP {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            if tried == _TRIES:
                raise UnreadablePicture(f"not reachable: {getattr(error, 'reason', error)}") from error
        time.sleep(0.2 * tried)
    raise AssertionError("the last try returns or raises")


def _read(response: Any) -> bytes:
    """At most 64 MB, in at most two minutes."""
    end = time.monotonic() + _MOST_SECONDS
    chunks, size = [], 0
    while chunk := response.read1(_CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        _check_size(size)
        if time.monotonic() > end:
            raise UnreadablePicture(f"took more than {_MOST_SECONDS:.0f} s")
    return b"".join(chunks)


def _from_store(source: str, known: str) -> Fetched:
    try:
        files, path = located(source)
    except DataError as error:
        raise UnreadablePicture(error.problem) from error
    info = files.get_file_info(path)
    if not info.is_file:
        raise UnreadablePicture("no such file")
    state = f"{info.size}-{info.mtime_ns}" if info.mtime_ns else ""
    if state and state == known:
        return Fetched(None, state)
    _check_size(info.size)
    with files.open_input_stream(path) as file:
        return Fetched(bytes(file.read()), state)


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        raise UnreadablePicture(f"{size:,} bytes, at most {MOST_BYTES:,} are read")
