"""What is an index on disk, and how does a reader see one whole state of it?

A directory: the bundle that made the vectors, immutable segments, which of their products are deleted, golden
queries, and `index.json`, the marker. Every change writes a new directory out of links to the parts that stay
and puts it in place in one step (`whole_directory`). Parts are named by their content, so a reader that holds the
older `index.json` can never mistake a part. Knows no query.

```
index.json                     format, revision, bundle hash, segments, datasets, recall, photos, names of labels,
                               kinds of columns, backbone
bundle/                        a copy of the bundle
text/                          its exported text side (exported_text.py), where onnx was there
segments/<content>/            segment.py, and texts.sqlite where titles or texts are known
deleted-<content>.npy          rows of a segment's products that are deleted or replaced, rising
golden-<content>.npz           golden.py
```
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from shopwindow.files import DataError, read_card, real_path
from shopwindow.search.arrays import load_array, save_array
from shopwindow.search.conditions import Kind
from shopwindow.search.hits import ProductId
from shopwindow.search.lookup import OpenPart
from shopwindow.search.segment import Segment
from shopwindow.search.texts import TEXTS_FILE, Texts

MANIFEST: Final = "index.json"
FORMAT: Final = "shopwindow index 2"
BUNDLE: Final = "bundle"
TEXT_SIDE: Final = "text"
SEGMENTS: Final = "segments"
_TRIES: Final = 5
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}")
_WHOLE_NUMBERS: Final = {"hidden": 1, "probes": 1, "approximate_from": 0, "revision": 0}
"""Those that a manifest names, each with the least that it may be."""
_MOST: Final = 2**31
_READ_BYTES: Final = 2**20


@dataclass(frozen=True)
class Source:
    """A dataset that products came from: where it was, and what it held."""

    path: str
    content_hash: str


@dataclass(frozen=True)
class Part:
    """A segment of the index: its folder's name, how many products, and the file of those deleted, if any."""

    name: str
    products: int
    deleted: str | None = None


def no_index(reason: str = "") -> str:
    """The problem with a folder that holds no index."""
    made_by = "`shopwindow shop` or `shopwindow index make`"
    return f"no index (a directory with {MANIFEST} that {made_by} writes){reason}"


@dataclass(frozen=True)
class Manifest:
    """What `index.json` says.

    `bundle_hash`: of weights, tokenizer and sizes. `approximate_from`: segments of so many products get cells;
    `probes`: into how many of them a search looks. `recall`: what golden.py measured when this state was written.
    `smooth` and `smooth_regions`: the weights with which vectors, or regions, lean on their neighbours. `columns`: what
    the shop's own columns hold; a segment need not have them all. `kept_regions`: the name of
    the reranker for which every segment keeps regions, None where none are kept. `backbone`: what made the features of
    photos that the bundle learned from, as `vision` opens it again; None where nobody said. `text_side`: names the
    exported text side by its content; None where there is none. `shown`: the columns that say title, link and currency,
    where they were named (`roles.py`).
    """

    bundle_hash: str
    hidden: int
    unit: bool
    approximate_from: int
    probes: int = 1
    revision: int = 1
    parts: tuple[Part, ...] = ()
    sources: tuple[Source, ...] = ()
    golden: str | None = None
    recall: dict[str, float] = field(default_factory=dict)
    photos: str | None = None
    label_names: dict[int, str] = field(default_factory=dict)
    smooth: tuple[float, ...] | None = None
    smooth_regions: tuple[float, ...] | None = None
    columns: dict[str, Kind] = field(default_factory=dict)
    kept_regions: str | None = None
    backbone: dict[str, Any] | None = None
    text_side: str | None = None
    shown: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Writes `index.json`, the last file of an index."""
        text = json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, index: Path) -> Manifest:
        """Raises: DataError where there is no index, or `index.json` is broken or of another format."""
        path = index / MANIFEST
        if not path.is_file():
            raise DataError(no_index(), path=index)
        content = read_card(path, format=FORMAT, made_by="index make")
        del content["format"]
        try:
            return cls._of(content)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DataError(f"missing or wrong: {' '.join(str(error).split())[:200]}", path=path) from error

    @classmethod
    def _of(cls, content: dict[str, Any]) -> Manifest:
        parts = tuple(Part(**part) for part in content.pop("parts"))
        if not parts:
            raise ValueError("no segment")
        files = [*(part.deleted for part in parts), content.get("golden")]
        for name in (*(part.name for part in parts), *(name for name in files if name is not None)):
            if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
                raise ValueError(f"a part named {name!r}")
        for name, kind in (
            ("bundle_hash", str),
            ("unit", bool),
            ("photos", str | None),
            ("kept_regions", str | None),
            ("backbone", dict | None),
            ("text_side", str | None),
        ):
            if not isinstance(content.setdefault(name, None), kind):
                raise ValueError(f"{name} {str(content[name])[:80]!r}")
        fingerprint(content["backbone"])
        whole = {name: (content[name], least) for name, least in _WHOLE_NUMBERS.items()}
        for name, (value, least) in (whole | {part.name: (part.products, 0) for part in parts}).items():
            if type(value) is not int or not least <= value <= _MOST:
                raise ValueError(f"{name} {str(value)[:80]!r}, a whole number from {least} is wanted")
        recall = {str(name): float(value) for name, value in content.pop("recall", {}).items()}
        columns = content.pop("columns", {})
        if not set(columns.values()) <= {"number", "word"}:
            raise ValueError(f"columns {columns!r}")
        shown = content.pop("shown", {})
        if not all(isinstance(name, str) for name in shown.values()):
            raise ValueError(f"shown {shown!r}")
        sources = tuple(Source(**source) for source in content.pop("sources"))
        if not all(
            isinstance(text, str) for source in sources for text in (source.path, source.content_hash)
        ):
            raise ValueError(f"sources {str(sources)[:80]}")
        smooth, regions = content.pop("smooth"), content.pop("smooth_regions", None)
        return cls(
            parts=parts,
            sources=sources,
            label_names={int(label): str(name) for label, name in content.pop("label_names").items()},
            smooth=None if smooth is None else tuple(map(float, smooth)),
            smooth_regions=None if regions is None else tuple(map(float, regions)),
            columns=dict(columns),
            recall=recall,
            shown=dict(shown),
            **content,
        )


@dataclass(frozen=True)
class OpenIndex:
    """One state of an index, whole."""

    path: Path
    manifest: Manifest
    parts: tuple[OpenPart, ...]

    @classmethod
    def open(cls, path: str | Path) -> OpenIndex:
        """The newest state. A state that is replaced while it is opened is opened anew.

        Raises: DataError for no index, or a broken one.
        """
        path = real_path(path)
        for _ in range(_TRIES):
            manifest = Manifest.read(path)
            try:
                parts = [_open_part(path, part, manifest) for part in manifest.parts]
                text = any(part.segment.has_text_ids for part in parts)
                return cls(path, manifest, tuple(dataclasses.replace(part, text_ids=text) for part in parts))
            except (DataError, FileNotFoundError) as error:
                wrong = error
                if Manifest.read(path) == manifest:
                    break
        raise (
            wrong if isinstance(wrong, DataError) else DataError("a segment is missing", path=path)
        ) from wrong

    def __len__(self) -> int:
        return sum(
            len(part.segment) if part.live is None else int(np.count_nonzero(part.live))
            for part in self.parts
        )

    @property
    def has_texts(self) -> bool:
        """Whether there is full text: it was made with texts or titles, or some were added."""
        return any(part.texts is not None for part in self.parts)

    @cached_property
    def with_texts(self) -> int:
        """How many of its products have texts besides a title."""
        return sum(part.with_texts for part in self.parts)

    @property
    def with_titles(self) -> int:
        """How many of its products have a title."""
        return sum(part.with_titles for part in self.parts)

    @property
    def with_values(self) -> int:
        """How many of its products have a value in a column of the shop."""
        return sum(part.with_values for part in self.parts)

    @property
    def kept_bytes(self) -> float:
        """Bytes a product, on average, of the regions kept for re-ranking; 0 where none are."""
        kept = [part.segment.kept for part in self.parts if part.segment.kept is not None]
        return sum(some.regions.nbytes for some in kept) / max(1, sum(len(some) for some in kept))

    def numbers(self) -> dict[str, Any]:
        """What it holds and how, as JSON can write it."""
        manifest, cells = self.manifest, max((part.segment.cells for part in self.parts), default=0)
        return {
            "products": len(self),
            "segments": len(self.parts),
            "dimensions": manifest.hidden,
            "vector_bytes_per_product": vector_bytes(manifest.hidden, approximate=cells > 0),
            "approximate": cells > 0,
            "cells": cells,
            "probes": manifest.probes,
            "measured": manifest.recall,
            "kept_region_bytes_per_product": self.kept_bytes,
            "texts": self.has_texts,
            "products_with_texts": self.with_texts,
            "products_with_titles": self.with_titles,
            "smoothed": manifest.smooth,
            "smoothed_regions": manifest.smooth_regions,
            "photos": manifest.photos,
            "bundle": manifest.bundle_hash,
        }

    @property
    def has_text_ids(self) -> bool:
        """Whether some id is no integer."""
        return any(part.text_ids for part in self.parts)

    def holds(self, product_ids: Shaped[np.ndarray, " asked"]) -> Bool[np.ndarray, " asked"]:
        """Which products it holds."""
        return self.rows_of(product_ids)[0] >= 0

    def rows_of(
        self, product_ids: Shaped[np.ndarray, " asked"]
    ) -> tuple[Int64[np.ndarray, " asked"], Int64[np.ndarray, " asked"]]:
        """The number of the part that holds each product, -1 where there is none, and its row there."""
        numbers, places = np.full(len(product_ids), -1), np.zeros(len(product_ids), np.int64)
        for number, part in enumerate(self.parts):
            rows = part.segment.rows_of(product_ids)
            here = (rows >= 0) if part.live is None else (rows >= 0) & part.live[rows]
            numbers[here], places[here] = number, rows[here]
        return numbers, places

    def places(self, product_ids: Shaped[np.ndarray, " asked"]) -> list[tuple[OpenPart, int] | None]:
        """The part that holds each product, and its row there; None where there is none."""
        numbers, rows = (found.tolist() for found in self.rows_of(product_ids))
        return [
            None if number < 0 else (self.parts[number], row)
            for number, row in zip(numbers, rows, strict=True)
        ]

    def locate(self, product_id: ProductId) -> tuple[OpenPart, int] | None:
        """The part that holds one product, and its row there; None where there is none."""
        return self.places(as_ids([product_id]))[0]


def as_ids(product_ids: Iterable[ProductId]) -> Shaped[np.ndarray, " asked"]:
    """Ids to ask an index for, as text; integers may be of any size."""
    return np.array([str(product_id) for product_id in product_ids], np.str_)


def vector_bytes(dimensions: int, *, approximate: bool) -> int:
    """Bytes on disk of a product's vector: float32, and its codes with their row where there are cells."""
    return 4 * dimensions + (dimensions + 8 if approximate else 0)


def _open_part(index: Path, part: Part, manifest: Manifest) -> OpenPart:
    folder, kinds = index / SEGMENTS / part.name, manifest.columns
    segment = Segment.open(folder)
    if segment.dimensions != manifest.hidden:
        raise DataError(
            f"vectors of {segment.dimensions} values, the index says {manifest.hidden}", path=folder
        )
    if (segment.kept is None) != (manifest.kept_regions is None):
        kept, wanted = ("", "none") if manifest.kept_regions is None else ("no ", "some")
        raise DataError(f"{kept}regions for re-ranking, the index says {wanted}", path=folder)
    if segment.backbone != fingerprint(manifest.backbone):
        raise DataError("made with another backbone than the index says", path=folder)
    if len(segment) != part.products:
        raise DataError(f"{len(segment)} products, the index says {part.products}", path=folder)
    live = None
    if part.deleted is not None:
        rows = load_array(index / part.deleted)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(segment):
            raise DataError("deletes products that its segment does not hold", path=index / part.deleted)
        live = np.ones(len(segment), bool)
        live[rows] = False
    texts = Texts(folder / TEXTS_FILE, segment.columns.ids) if (folder / TEXTS_FILE).is_file() else None
    attributes = segment.attributes
    if attributes is not None and not attributes.kinds.items() <= kinds.items():
        raise DataError(f"columns {attributes.kinds}, the index says {kinds}", path=folder)
    return OpenPart(segment, live, texts, manifest.probes)


def fingerprint(backbone: Mapping[str, Any] | None) -> str | None:
    """What tells a backbone from others; None of none."""
    return None if backbone is None else str(backbone["fingerprint"])


def keep(index: Path, folder: Path, manifest: Manifest) -> None:
    """Takes the parts of the state `manifest` of an index over into a folder, as links where it can."""
    _link_tree(index / BUNDLE, folder / BUNDLE)
    if manifest.text_side is not None:
        _link_tree(index / TEXT_SIDE, folder / TEXT_SIDE)
    (folder / SEGMENTS).mkdir()
    for part in manifest.parts:
        _link_tree(index / SEGMENTS / part.name, folder / SEGMENTS / part.name)
        if part.deleted is not None:
            link(index / part.deleted, folder / part.deleted)


def add_deleted(folder: Path, part: Part, rows: Int64[np.ndarray, " gone"]) -> Part:
    """The part with some rows deleted too; itself where they all are already."""
    before = load_array(folder / part.deleted) if part.deleted else np.zeros(0, np.int64)
    everything = np.union1d(before, rows).astype(np.int64)
    if len(everything) == len(before):
        return part
    name = f"deleted-{hashlib.sha256(part.name.encode() + everything.tobytes()).hexdigest()[:16]}.npy"
    save_array(folder / name, everything)
    if part.deleted:
        (folder / part.deleted).unlink()
    return dataclasses.replace(part, deleted=name)


def named_by_content(folder: Path) -> Path:
    """Renames a finished folder after what its files hold; gives where it is now."""
    goal = folder.with_name(content_name(folder))
    if goal.exists():
        shutil.rmtree(folder)
    else:
        folder.rename(goal)
    return goal


def content_name(folder: Path) -> str:
    """What a folder is named after the names and bytes of its files. Reads them all."""
    content = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        content.update(path.name.encode() + b"\0" + hash_file(path).encode())
    return content.hexdigest()[:16]


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _link_tree(source: Path, goal: Path) -> None:
    goal.mkdir()
    for path in sorted(source.iterdir()):
        link(path, goal / path.name)


def link(source: Path, goal: Path) -> None:
    """Takes a file over, as a link where the file system has them."""
    try:
        os.link(source, goal)
    except OSError:
        shutil.copyfile(source, goal)
