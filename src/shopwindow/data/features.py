"""How do the regions of a shop's photos lie on disk, and how are they read?

FEATURES is a directory that `shopwindow extract` writes, a photo at a time: photos in shards, the catalogue beside
them, and `features.json`, written last. Reading maps the shards into memory. Knows no picture and no backbone.

```
features.json        format, backbone, detector, feature_size, label_count, shards, counts, content hash
photos-00000.arrow   key, height, width, and of the photo's regions features, boxes, labels; the whole photo first
catalogue.arrow      id, title, photos (where they came from), keys, then the shop's own columns
```
The key of a photo is the SHA-256 of its file: equal files are encoded once.

Legend of axes: products = the catalogue's; asked = of them; regions = of a photo, or of all photos asked for.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float16, Float32, Int64, Shaped

from shopwindow.files import DataError, check_fields, check_ordinary, check_whole, parse_json, read_text
from shopwindow.ids import ids_from_text

if TYPE_CHECKING:
    from shopwindow.data.regions import Regions

MANIFEST: Final = "features.json"
FORMAT: Final = "shopwindow features 1"
UNFINISHED: Final = f"{FORMAT}, unfinished"
"""The format while `extract` works for the first time; the manifest then names backbone and detector alone."""
CATALOGUE: Final = "catalogue.arrow"
SHARD_NAME: Final = re.compile(r"photos-\d+\.arrow")
_MANIFEST_FIELDS: Final = {
    "backbone": dict,
    "detector": dict | None,
    "content_hash": str,
    "shards": list,
    "counts": dict,
}
CATALOGUE_FIELDS: Final = [
    ("id", pa.string()),
    ("title", pa.string()),
    ("photos", pa.list_(pa.string())),
    ("keys", pa.list_(pa.string())),
]
"""The first columns of the catalogue; the shop's own follow and may have the same names."""


def photo_schema(feature_size: int) -> pa.Schema:
    """The columns of a shard; a feature has `feature_size` values."""
    return pa.schema(
        [
            ("key", pa.string()),
            ("height", pa.int64()),
            ("width", pa.int64()),
            ("features", pa.list_(pa.list_(pa.float16(), feature_size))),
            ("boxes", pa.list_(pa.list_(pa.float32(), 4))),
            ("labels", pa.list_(pa.int64())),
        ]
    )


@dataclass(frozen=True)
class Shard:
    """A shard that is mapped: its photos in order, their regions end to end."""

    keys: pa.Array
    bounds: Int64[np.ndarray, " bounds"]
    """Where the regions of each photo begin, and the end."""
    sizes: Int64[np.ndarray, "photos 2"]
    """(height, width) in px."""
    features: Float16[np.ndarray, "regions values"]
    boxes: Float32[np.ndarray, "regions 4"]
    labels: Int64[np.ndarray, " regions"]

    @classmethod
    def open(cls, path: Path) -> Shard:
        """Raises: DataError for a file that is broken, or holds no photos."""
        batch = _whole_batch(path)
        features = batch.column("features")
        size = features.type.value_type.list_size
        if any(not batch.column(name).offsets.equals(features.offsets) for name in ("boxes", "labels")):
            raise DataError("the columns of a photo differ in their number of regions", path=path)
        return cls(
            batch.column("key"),
            features.offsets.to_numpy().astype(np.int64),
            np.column_stack([batch.column(side).to_numpy() for side in ("height", "width")]),
            features.values.values.to_numpy().reshape(-1, size),
            batch.column("boxes").values.values.to_numpy().reshape(-1, 4),
            batch.column("labels").values.to_numpy(),
        )


class Features:
    """FEATURES opened for reading. Products are counted from 0 in the catalogue's order; each has a photo.

    Raises: DataError where the directory is no FEATURES, is not finished, or a file of it is broken.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest = read_manifest(self.path)
        self.backbone: dict[str, Any] = self.manifest["backbone"]
        self.feature_size = int(self.manifest["feature_size"])
        self.label_count = int(self.manifest["label_count"])

    @property
    def content_hash(self) -> str:
        """Names the content: equal for equal photos, products, backbone and detector."""
        return str(self.manifest["content_hash"])

    @cached_property
    def ids(self) -> Shaped[np.ndarray, " products"]:
        """The id of every product: int64 where all are integers, else strings."""
        return ids_from_text(self._catalogue.column(0).to_pylist())

    @cached_property
    def titles(self) -> list[str] | None:
        """The title of every product, "" where it has none; None where no product has one."""
        titles: list[str] = self._catalogue.column(1).to_pylist()
        return titles if any(titles) else None

    @cached_property
    def photos(self) -> list[tuple[str, ...]]:
        """Where the photos of every product came from: absolute paths and URLs."""
        return [tuple(photos) for photos in self._catalogue.column(2).to_pylist()]

    @property
    def columns(self) -> pa.Table:
        """The shop's own columns, a row a product."""
        catalogue = self._catalogue
        return catalogue.select(range(len(CATALOGUE_FIELDS), catalogue.num_columns))

    def regions(self, rows: Int64[np.ndarray, " asked"]) -> Regions:
        """The regions of some products, all fields, float16: all photos of a product end to end, in its order."""
        # Imported here, with torch: what reads columns alone does without.
        import torch

        from shopwindow.data.regions import Regions

        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self.ids)):
            raise IndexError(f"product rows go from 0 to {len(self.ids) - 1}")
        bounds, places = self._photo_bounds, self._photo_places
        features, boxes, labels = (
            [_none((self.feature_size,), np.float16)],
            [_none((4,), np.float32)],
            [_none()],
        )
        sizes, photos, counts = [_none((2,))], [_none()], []
        for row in rows.tolist():
            total = 0
            for photo, place in enumerate(places[bounds[row] : bounds[row + 1]].tolist()):
                shard = self._shards[self._shard_of[place]]
                inside = place - self._shard_starts[self._shard_of[place]]
                here = slice(shard.bounds[inside], shard.bounds[inside + 1])
                count = here.stop - here.start
                features.append(shard.features[here])
                boxes.append(shard.boxes[here])
                labels.append(shard.labels[here])
                sizes.append(np.repeat(shard.sizes[inside : inside + 1], count, axis=0))
                photos.append(np.full(count, photo))
                total += count
            counts.append(total)
        columns = {
            "features": features,
            "boxes": boxes,
            "photo_sizes": sizes,
            "labels": labels,
            "photos": photos,
        }
        joined = {name: torch.from_numpy(np.concatenate(parts)) for name, parts in columns.items()}
        counted = torch.tensor(counts, dtype=torch.int64)
        return Regions(counts=counted, **joined)  # type: ignore[arg-type] # none of them is the titles

    @cached_property
    def _catalogue(self) -> pa.Table:
        path = self.path / CATALOGUE
        table = _table(path)
        if [
            (field.name, field.type) for field in list(table.schema)[: len(CATALOGUE_FIELDS)]
        ] != CATALOGUE_FIELDS:
            raise DataError("other columns than a catalogue has", path=path)
        if any(column.null_count for column in table.columns[: len(CATALOGUE_FIELDS)]):
            raise DataError("holds nulls", path=path)
        if content_hash(path, self.backbone, self.manifest.get("detector")) != self.content_hash:
            raise DataError(
                f"is not the one that {MANIFEST} names; run `shopwindow extract` again", path=path
            )
        return table

    @cached_property
    def _shards(self) -> list[Shard]:
        shards = [Shard.open(self.path / name) for name in self.manifest["shards"]]
        for name, shard in zip(self.manifest["shards"], shards, strict=True):
            if shard.features.shape[1] != self.feature_size:
                raise DataError(
                    f"features of {shard.features.shape[1]} values, {MANIFEST} says {self.feature_size}",
                    path=self.path / name,
                )
        return shards

    @cached_property
    def _shard_starts(self) -> Int64[np.ndarray, " bounds"]:
        """The number of each shard's first photo, and of all photos."""
        return np.cumsum([0, *(len(shard.keys) for shard in self._shards)])

    @cached_property
    def _shard_of(self) -> Int64[np.ndarray, " photos"]:
        return np.repeat(np.arange(len(self._shards)), np.diff(self._shard_starts))

    @cached_property
    def _photo_bounds(self) -> Int64[np.ndarray, " bounds"]:
        """Where the photos of each product begin in `_photo_places`, and the end."""
        counts = [len(keys) for keys in self._catalogue.column(3)]
        if not all(counts):
            raise DataError("holds a product without a photo", path=self.path / CATALOGUE)
        return np.cumsum([0, *counts])

    @cached_property
    def _photo_places(self) -> Int64[np.ndarray, " places"]:
        """The number of every product's every photo, counted through all shards."""
        known = pa.chunked_array([shard.keys for shard in self._shards], pa.string())
        places = pc.index_in(pc.list_flatten(self._catalogue.column(3)), value_set=known)
        if places.null_count:
            raise DataError("names a photo that no shard holds", path=self.path / CATALOGUE)
        numbers: np.ndarray = places.to_numpy()
        return numbers.astype(np.int64)


def read_manifest(path: Path) -> dict[str, Any]:
    """What `features.json` says.

    Raises: DataError where there is none, it is of another format, or a field of it is wrong.
    """
    if not path.is_dir():
        raise DataError("no such features (a directory that `shopwindow extract` writes)", path=path)
    if not (path / MANIFEST).is_file():
        raise DataError(f"no features: it holds no {MANIFEST}", path=path)
    check_ordinary(*path.iterdir())
    manifest = parse_json(read_text(path / MANIFEST), path / MANIFEST)
    if isinstance(manifest, dict) and manifest.get("format") == UNFINISHED:
        raise DataError("is not finished; run the same `shopwindow extract` again", path=path)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"not of the format {FORMAT!r}", path=path / MANIFEST)
    check_fields(manifest, _MANIFEST_FIELDS, path / MANIFEST)
    check_whole(manifest, ("feature_size", "label_count"), path / MANIFEST)
    if not all(isinstance(name, str) and SHARD_NAME.fullmatch(name) for name in manifest["shards"]):
        raise DataError("names no photos file", path=path / MANIFEST, field="shards")
    return manifest


def content_hash(catalogue: Path, backbone: dict[str, Any], detector: dict[str, Any] | None) -> str:
    """SHA-256 over the catalogue's bytes and what encoded its photos."""
    made_by = [backbone.get("fingerprint"), detector and detector.get("fingerprint")]
    digest = hashlib.sha256(json.dumps(made_by).encode())
    digest.update(catalogue.read_bytes())
    return digest.hexdigest()


def _table(path: Path) -> pa.Table:
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"broken or missing: {error}", path=path) from error
    return table


def _whole_batch(path: Path) -> pa.RecordBatch:
    """The one batch of a shard."""
    batches = _table(path).to_batches()
    wanted = photo_schema(1)
    schema = batches[0].schema if batches else pa.schema([])
    if len(batches) != 1 or schema.names != wanted.names:
        raise DataError("no shard of photos", path=path)
    kind = schema.field("features").type
    size = getattr(getattr(kind, "value_type", None), "list_size", 0)
    if not size > 0 or not schema.equals(photo_schema(size)):
        raise DataError("other columns than a shard of photos has", path=path)
    if any(column.null_count for column in batches[0].columns):
        raise DataError("holds nulls", path=path)
    return batches[0]


def _none(shape: Sequence[int] = (), kind: type[np.generic] = np.int64) -> np.ndarray:
    return np.empty((0, *shape), kind)
