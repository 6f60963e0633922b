"""How is FEATURES written so that a run can be killed at any moment?

Photos are appended a shard at a time, each file whole or not at all. A manifest says from the beginning what encodes
them and is replaced last. What is known of each source lies in a small database, which may be lost.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from jaxtyping import Float16, Float32, Int64

from shopwindow.data.features import (
    CATALOGUE,
    CATALOGUE_FIELDS,
    FORMAT,
    MANIFEST,
    UNFINISHED,
    Shard,
    content_hash,
    photo_schema,
)
from shopwindow.data.products import Products
from shopwindow.files import (
    DataError,
    alone,
    check_fields,
    check_replaceable,
    check_writable,
    parse_json,
    read_text,
    whole_file,
)
from shopwindow.shards import link_or_copy
from shopwindow.vision.backbone import check_same

UNREADABLE: Final = "unreadable.jsonl"
_SEEN: Final = "seen.sqlite"
_SHARD_PHOTOS: Final = 512
_SHARD_SECONDS: Final = 30.0
"""After which a shard is written though it is small: what a killed run can lose."""
_CHUNK: Final = 8192


@dataclass(frozen=True)
class Encoded:
    """A photo and its regions, the whole photo first."""

    key: str
    """SHA-256 of its file."""
    height: int
    width: int
    features: Float16[np.ndarray, "regions values"]
    boxes: Float32[np.ndarray, "regions 4"]
    labels: Int64[np.ndarray, " regions"]


@dataclass(frozen=True)
class Row:
    """A row of the catalogue: a product, its photos and their keys."""

    product: int
    photos: list[str]
    keys: list[str]


@dataclass(frozen=True)
class Unreadable:
    """A photo that cannot be read; `source` is None where a product has none."""

    product: str
    source: str | None
    reason: str


@contextlib.contextmanager
def open_writer(
    path: str | Path, *, backbone: dict[str, Any], detector: dict[str, Any] | None
) -> Iterator[FeaturesWriter]:
    """A directory of features to begin, or to go on with.

    Raises: DataError for a folder that holds other files, features of another backbone or detector, or where another
    process is writing it.
    """
    folder = check_writable(Path(path) / MANIFEST).parent
    with alone(folder):
        for name in (MANIFEST, "photos-*.arrow", CATALOGUE, UNREADABLE):
            for partial in folder.glob(f".{name}.*.partial"):
                partial.unlink()
        check_replaceable(folder, marker=MANIFEST)
        _begin(folder, backbone, detector)
        with contextlib.closing(_open_seen(folder / _SEEN)) as seen:
            yield FeaturesWriter(folder, seen)


def _begin(folder: Path, backbone: dict[str, Any], detector: dict[str, Any] | None) -> None:
    path = folder / MANIFEST
    if not path.exists():
        _write_json(path, {"format": UNFINISHED, "backbone": backbone, "detector": detector})
        return
    before = parse_json(read_text(path), path)
    check_fields(before, {"format": str, "backbone": dict, "detector": dict | None}, path)
    if before.get("format") not in (FORMAT, UNFINISHED):
        raise DataError(f"not of the format {FORMAT!r}; give another folder", path=path)
    check_same(before["backbone"], backbone, path=folder, here_is="the one asked for")
    one, other = (
        spec and [spec.get("name"), spec.get("fingerprint")] for spec in (before["detector"], detector)
    )
    if one != other:
        raise DataError(
            f"was made with the detector {one}, {other} is asked for; give another folder", path=folder
        )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _open_seen(path: Path) -> sqlite3.Connection:
    """Made anew where it is broken: it only saves reading."""
    for _ in range(2):
        connection = sqlite3.connect(path)
        try:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS seen(source TEXT PRIMARY KEY, state TEXT, key TEXT)"
            )
            connection.execute("SELECT source, state, key FROM seen LIMIT 1").fetchone()
        except sqlite3.DatabaseError:
            connection.close()
            path.unlink(missing_ok=True)
        else:
            return connection
    raise DataError("cannot be written", path=path)


class FeaturesWriter:
    """Appends photos to a directory of features; `finish` names what belongs to the catalogue.

    Raises: DataError for a shard that is broken.
    """

    def __init__(self, folder: Path, seen: sqlite3.Connection) -> None:
        self.folder = folder
        self._seen = seen
        self._keys: set[bytes] = set()
        self._shards: list[str] = []
        self._waiting: list[Encoded] = []
        self._since = time.monotonic()
        self._feature_size = self._label_count = 0
        for path in sorted(folder.glob("photos-*.arrow")):
            shard = Shard.open(path)
            self._take_up(path.name, shard.keys.to_pylist(), shard.features.shape[1], shard.labels)

    def __contains__(self, key: str) -> bool:
        """Whether a photo is stored, or waits to be."""
        return bytes.fromhex(key) in self._keys

    def add(self, photo: Encoded) -> None:
        """Stores a photo; one that is stored already is passed over."""
        if photo.key in self:
            return
        if not photo.features.shape[1]:  # pyarrow ends the process
            raise DataError("the backbone gave features of no values; use another", path=self.folder)
        if not np.isfinite(photo.features).all():
            raise DataError("the backbone gave values beyond float16 (65,504); use another", path=self.folder)
        self._keys.add(bytes.fromhex(photo.key))
        self._waiting.append(photo)
        if len(self._waiting) >= _SHARD_PHOTOS or time.monotonic() - self._since > _SHARD_SECONDS:
            self.flush()

    def known(self, source: str) -> tuple[str, str] | None:
        """State and key of a source when it was last read, if its photo is stored."""
        row: tuple[str, str] | None = self._seen.execute(
            "SELECT state, key FROM seen WHERE source = ?", (source,)
        ).fetchone()
        return row if row and row[1] in self else None

    def remember(self, source: str, state: str, key: str) -> None:
        """What a source holds; lost with a killed run since the last shard."""
        self._seen.execute("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", (source, state, key))

    def forget(self, source: str) -> None:
        """Of a source that cannot be read any more."""
        self._seen.execute("DELETE FROM seen WHERE source = ?", (source,))

    def flush(self) -> None:
        """Writes what waits as a shard."""
        if self._waiting:
            name = self._next_name()
            batch = _batch_of(self._waiting)
            with (
                whole_file(self.folder / name) as partial,
                pa.ipc.new_file(str(partial), batch.schema) as file,
            ):
                file.write_batch(batch)
            labels = np.concatenate([photo.labels for photo in self._waiting])
            keys = [photo.key for photo in self._waiting]
            self._take_up(name, keys, self._waiting[0].features.shape[1], labels)
            self._waiting = []
        self._since = time.monotonic()
        self._seen.commit()

    def take_up(self, folder: Path) -> int:
        """Takes over the photos of another directory of the same backbone, and what it knows of their sources; gives
        how many photos are new here. Its files are linked where the file system can, and need not stay.

        Raises: DataError for a file of it that is broken.
        """
        self.flush()
        new = 0
        for path in sorted(folder.glob("photos-*.arrow")):
            shard = Shard.open(path)
            keys = shard.keys.to_pylist()
            wanted = [key not in self for key in keys]
            if any(wanted):
                name = self._next_name()
                with whole_file(self.folder / name) as partial:
                    _copy_photos(path, partial, wanted)
                taken = [key for key, is_wanted in zip(keys, wanted, strict=True) if is_wanted]
                self._take_up(name, taken, shard.features.shape[1], shard.labels)
                new += len(taken)
        with contextlib.closing(_open_seen(folder / _SEEN)) as seen:
            rows = seen.execute("SELECT source, state, key FROM seen")
            self._seen.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", rows)
        return new

    def finish(self, products: Products, rows: Iterable[Row], counts: dict[str, int]) -> None:
        """Writes the catalogue of these rows, then the manifest."""
        self.flush()
        if not self._shards:
            raise DataError("no photo could be read", path=self.folder)
        with whole_file(self.folder / CATALOGUE) as partial:
            _write_catalogue(partial, products, rows)
        before = parse_json(read_text(self.folder / MANIFEST), self.folder / MANIFEST)
        made_by = {"backbone": before["backbone"], "detector": before["detector"]}
        manifest = {
            "format": FORMAT,
            **made_by,
            "feature_size": self._feature_size,
            "label_count": self._label_count,
            "content_hash": content_hash(self.folder / CATALOGUE, **made_by),
            "shards": self._shards,
            "counts": counts,
        }
        _write_json(self.folder / MANIFEST, manifest)

    def write_unreadable(self, unreadable: Iterable[Unreadable]) -> None:
        """The list of what cannot be read, a JSON object a line."""
        with whole_file(self.folder / UNREADABLE) as partial:
            lines = (json.dumps(vars(one), ensure_ascii=False) + "\n" for one in unreadable)
            partial.write_text("".join(lines), encoding="utf-8")

    def _next_name(self) -> str:
        last = int(self._shards[-1].removeprefix("photos-").removesuffix(".arrow")) if self._shards else -1
        return f"photos-{last + 1:05d}.arrow"

    def _take_up(self, name: str, keys: list[str], size: int, labels: Int64[np.ndarray, " regions"]) -> None:
        if self._feature_size not in (0, size):
            raise DataError(
                f"features of {size} values, the others have {self._feature_size}", path=self.folder / name
            )
        self._feature_size = size
        self._shards.append(name)
        self._keys.update(map(bytes.fromhex, keys))
        self._label_count = max(self._label_count, int(labels.max()) + 1)


def _batch_of(photos: list[Encoded]) -> pa.RecordBatch:
    offsets = pa.array(np.cumsum([0, *(len(photo.labels) for photo in photos)]), pa.int32())
    schema = photo_schema(photos[0].features.shape[1])

    def lists(name: str) -> pa.Array:
        kind = schema.field(name).type
        values = np.concatenate([getattr(photo, name) for photo in photos])
        flat = pa.array(values.reshape(-1))
        inner = flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, type=kind.value_type)
        return pa.ListArray.from_arrays(offsets, inner, type=kind)

    plain = [pa.array([getattr(photo, name) for photo in photos]) for name in ("key", "height", "width")]
    return pa.record_batch([*plain, *map(lists, ("features", "boxes", "labels"))], schema=schema)


def _copy_photos(path: Path, out: Path, wanted: list[bool]) -> None:
    """The wanted photos of a shard; all of them by a link, where that can be."""
    if all(wanted):
        link_or_copy(path, out)
        return
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
        batch = file.read_all().to_batches()[0].filter(pa.array(wanted))
    with pa.ipc.new_file(str(out), batch.schema) as new:
        new.write_batch(batch)


def _write_catalogue(path: Path, products: Products, rows: Iterable[Row]) -> None:
    """In chunks: the rows need not be in memory together."""
    schema = pa.schema([*map(pa.field, *zip(*CATALOGUE_FIELDS, strict=True)), *products.columns.schema])
    with pa.ipc.new_file(str(path), schema) as file:
        for chunk in _chunks(rows):
            places = [row.product for row in chunk]
            first = [
                [str(products.ids[place]) for place in places],
                [products.titles[place] if products.titles else "" for place in places],
                [row.photos for row in chunk],
                [row.keys for row in chunk],
            ]
            arrays = [
                pa.array(values, kind) for values, (_, kind) in zip(first, CATALOGUE_FIELDS, strict=True)
            ]
            others = [column.combine_chunks() for column in products.columns.take(places).columns]
            file.write_batch(pa.record_batch([*arrays, *others], schema=schema))


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
