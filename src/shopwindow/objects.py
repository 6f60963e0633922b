"""How are files and folders of an object store (`s3://`, `gs://`) read and written, where a verb wants a path?

What is read is fetched into a cache first, and fetched again only when it has changed. A folder is put with its marker
last: whoever reads it earlier sees no marker. By pyarrow's file systems, which read the usual settings of the stores
(AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS ...). Knows no format.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path
from typing import Any, Final

from shopwindow.files import DataError, is_ours, is_plain_file, whole_directory

SCHEMES: Final = ("s3", "gs", "gcs")
_FETCHED: Final = "fetched.json"


def is_object(place: object) -> bool:
    """Whether a place is a text such as `s3://bucket/name` or `gs://bucket/name`."""
    return isinstance(place, str) and place.partition("://")[0] in SCHEMES and "://" in place


def cache_folder() -> Path:
    """Where fetched objects lie: `shopwindow` in XDG_CACHE_HOME, else in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shopwindow"


@functools.lru_cache(maxsize=64)
def file_system(bucket: str) -> tuple[Any, str]:
    """The file system of `scheme://bucket/?settings`, and the path of its root: pyarrow's, else fsspec's.

    Raises: DataError where none of them knows the scheme.
    """
    import pyarrow as pa
    from pyarrow import fs

    try:
        files, root = fs.FileSystem.from_uri(bucket)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        try:
            import fsspec

            inner, root = fsspec.core.url_to_fs(bucket.partition("?")[0])
        except (ImportError, ValueError):
            scheme = bucket.partition("://")[0]
            raise DataError(f"neither pyarrow nor fsspec reads {scheme}:// here", path=bucket) from error
        files = fs.PyFileSystem(fs.FSSpecHandler(inner))
    return files, root


def located(place: str) -> tuple[Any, str]:
    """The file system and the path in it of `scheme://bucket/name?settings`. Raises: DataError as `file_system`."""
    scheme, _, rest = place.partition("://")
    rest, _, query = rest.partition("?")
    bucket, _, key = rest.partition("/")
    files, root = file_system(f"{scheme}://{bucket}/" + (f"?{query}" if query else ""))
    return files, f"{root.rstrip('/')}/{key.strip('/')}"


def below(place: str, name: str) -> str:
    """The place of a name within a folder.

    >>> below("s3://shop/photos/?region=eu", "7.jpg")
    's3://shop/photos/7.jpg?region=eu'
    """
    path, mark, query = place.partition("?")
    return f"{path.rstrip('/')}/{name}{mark}{query}"


def names_below(place: str) -> list[tuple[str, int, int]]:
    """(name, bytes, time) of all objects below a folder, sorted; [("", bytes, time)] for one object; [] for nothing.

    Raises: DataError for a place that cannot be reached.
    """
    from pyarrow import fs

    files, path = located(place)
    try:
        info = files.get_file_info(path)
        below = fs.FileSelector(path, recursive=True, allow_not_found=True)
        found = [info] if info.is_file else files.get_file_info(below)
    except OSError as error:
        raise DataError(f"cannot be read: {_reason(error)}", path=place) from error
    start = len(path)
    return sorted((one.path[start:].strip("/"), one.size, one.mtime_ns or 0) for one in found if one.is_file)


def fetched(place: str) -> Path:
    """A copy of an object or a folder on this machine, of the same name. It stays in the cache until it is changed
    there.

    Raises: DataError for a place that holds nothing or cannot be reached.
    """
    from pyarrow import fs

    held = names_below(place)
    if not held:
        raise DataError("no such object or folder", path=place)
    name = hashlib.sha256(repr((place, held)).encode()).hexdigest()[:24]
    files, path = located(place)
    goal = cache_folder() / name
    if not (goal / _FETCHED).is_file():
        with whole_directory(goal, marker=_FETCHED) as folder:
            for inner, _, _ in held:
                (folder / _last(path) / inner).parent.mkdir(parents=True, exist_ok=True)
            try:
                fs.copy_files(path, str(folder / _last(path)), files, fs.LocalFileSystem())
            except OSError as error:
                raise DataError(f"cannot be read: {_reason(error)}", path=place) from error
            (folder / _FETCHED).write_text('{"format": "shopwindow fetched 1"}\n', encoding="utf-8")
    return goal / _last(path)


def put(local: Path, place: str) -> None:
    """Writes a file or a folder to a place; of a folder the marker last. What stood there before goes.

    Raises: DataError where the place holds other files than ours, or cannot be written.
    """
    from pyarrow import fs

    files, path = located(place)
    here = fs.LocalFileSystem()
    try:
        if is_plain_file(local):
            fs.copy_files(str(local), path, here, files)
            return
        names = sorted(one.relative_to(local).as_posix() for one in local.rglob("*") if one.is_file())
        markers = [name for name in names if "/" not in name and is_ours(local, name)]
        held = [name for name, _, _ in names_below(place)]
        if held and not any(name in markers for name in held):
            raise DataError(f"holds other files (no {''.join(markers[:1])}); give another name", path=place)
        for name in markers:
            if name in held:
                files.delete_file(f"{path}/{name}")
        for name in (*(name for name in names if name not in markers), *markers):
            fs.copy_files(str(local / name), f"{path}/{name}", here, files)
        for name in set(held) - set(names):
            files.delete_file(f"{path}/{name}")
    except OSError as error:
        raise DataError(f"cannot be written: {_reason(error)}", path=place) from error


def remove(place: str) -> None:
    """Deletes all objects below a folder."""
    files, path = located(place)
    for name, _, _ in names_below(place):
        files.delete_file(f"{path}/{name}")


def _last(path: str) -> str:
    return path.rpartition("/")[2] or "objects"


def _reason(error: OSError) -> str:
    return str(error).partition("\n")[0][:300]
