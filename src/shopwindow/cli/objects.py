"""Places such as `s3://bucket/name` in a command: what is read is fetched before the verb, what it writes is put after.

The verbs know paths alone. Photos of `extract` are the exception: they are read one by one where they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from shopwindow.files import DataError
from shopwindow.objects import below, cache_folder, fetched, is_object, names_below, put, remove
from shopwindow.shards import place_of, work_folder

_CHANGE: Final = ("index add", "index delete", "index compact", "index update")
"""Verbs that change what they are given."""


@contextlib.contextmanager
def on_this_machine(verb: str, arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The arguments of a verb with paths in place of objects. What it wrote is put when the block ends well.

    Raises: DataError as `fetched` and `put`; for a verb that would change an index there, and for `--over ray`.
    """
    place = arguments.get("out")
    goes_there = isinstance(place, str) and is_object(place)
    local = {
        name: _path(verb, name, value) for name, value in arguments.items() if name != "out" or not goes_there
    }
    if not isinstance(place, str) or not goes_there:
        yield local
        return
    if str(arguments.get("over") or "").startswith("ray"):
        problem = "Ray's nodes need a folder that all of them share: put it there when it is done"
        raise DataError(problem, path=place, field="--out")
    folder = cache_folder() / f"out-{hashlib.sha256(place.encode()).hexdigest()[:24]}-{os.getpid()}"
    folder.mkdir(parents=True)
    try:
        out = folder / place.partition("?")[0].rstrip("/").rpartition("/")[2]
        _fetch_earlier(verb, arguments, place, out)
        yield {**local, "out": str(out)}
        _put_written(arguments, place, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _path(verb: str, name: str, value: Any) -> Any:
    """The value with objects fetched; the photos of `extract` stay where they are."""
    if isinstance(value, list):
        return [_path(verb, name, one) for one in value]
    if not is_object(value):
        return value
    if verb in _CHANGE and name == "index":
        raise DataError("is changed where it is a folder of this machine only", path=value)
    if verb == "extract" and (name == "photos" or (name == "products" and _is_folder(value))):
        return value
    return str(fetched(value))


def _is_folder(place: str) -> bool:
    return [name for name, _, _ in names_below(place)] != [""]


def _fetch_earlier(verb: str, arguments: dict[str, Any], place: str, out: Path) -> None:
    """Lays here what the verb goes on with: earlier features, the shard if it was done, or all shards to be joined."""
    shards, wanted = _shards_of(place), ""
    if verb == "extract" and names_below(place):
        shutil.copytree(fetched(place), out)
    if arguments.get("shard"):
        number, count = place_of(arguments["shard"], os.environ)
        wanted = f"{number:05d}-of-{count:05d}-"
    if arguments.get("shard") or arguments.get("merge"):
        names = {name.partition("/")[0] for name, _, _ in names_below(shards)}
        for name in sorted(names):
            if name.startswith(wanted):
                shutil.copytree(fetched(below(shards, name)), work_folder(out) / name)


def _put_written(arguments: dict[str, Any], place: str, out: Path) -> None:
    if arguments.get("shard"):
        for folder in work_folder(out).iterdir():
            put(folder, below(_shards_of(place), folder.name))
        return
    put(out, place)
    if arguments.get("merge"):
        remove(_shards_of(place))


def _shards_of(place: str) -> str:
    path, mark, query = place.partition("?")
    return f"{path.rstrip('/')}.shards{mark}{query}"
