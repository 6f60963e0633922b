"""Vectors that were made elsewhere become features: Parquet, npz or Lance, no photo read.

```
Parquet, Lance   id; vector (a list), or vectors (a list of lists); optional boxes: (top, left, bottom, right) px each
npz              ids; vectors [regions, values]; optional counts [ids], regions of each, and boxes [regions, 4]
```
The first vector of a product stands for its whole photo. Without boxes every region is the whole photo.

Legend of axes: regions = of the products of a part of the file, end to end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float16, Float32, Int64

from shopwindow.bounded import read_npz
from shopwindow.data.products import ID_NAMES, Products
from shopwindow.files import DataError, check_ordinary, reading
from shopwindow.ids import RowError, ids_from_text
from shopwindow.vision.backbone import FIRST_CLASS, WHOLE_PHOTO, fingerprint_of
from shopwindow.vision.extract import Extracted, check_share
from shopwindow.vision.shards import UNREADABLE, Encoded, FeaturesWriter, Row, Unreadable, open_writer

ENDINGS: Final = (".parquet", ".npz", ".lance")
_VECTOR_NAMES: Final = ("vector", "vectors", "embedding", "embeddings", "features")
_UNIT_BOX: Final = np.array([0, 0, 1, 1], np.float32)
_ROWS: Final = 2048
"""Products that are read at once."""


@dataclass(frozen=True)
class _Part:
    """Some products of a file of vectors."""

    ids: list[str]
    counts: Int64[np.ndarray, " products"]
    features: Float16[np.ndarray, "regions values"]
    boxes: Float32[np.ndarray, "regions 4"] | None


def take_vectors(
    vectors: str | Path,
    out: str | Path,
    *,
    products: Products | None = None,
    allow_unreadable: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Extracted:
    """Writes the vectors of a file as features: of these products, else of all ids of the file, in its order.

    A product without a vector is left out. Vectors without a product are passed over.

    Raises: DataError for a file that is not as wanted, or more than 1 % of the products without a vector unless
    `allow_unreadable`.
    """
    path = Path(vectors)
    parts = _parts(path)
    first = next(parts, None)
    if first is None:
        raise DataError("holds no vector", path=path)
    size = first.features.shape[1]
    if not size:  # pyarrow ends the process
        raise DataError("vectors of no values", path=path)
    spec = {"name": "precomputed", "values": size, "probe": []}
    spec["fingerprint"] = fingerprint_of(spec)
    keys: dict[str, str] = {}
    with open_writer(out, backbone=spec, detector=None) as writer:
        part: _Part | None = first
        while part is not None:
            if part.features.shape[1] != size:
                raise DataError(f"vectors of {part.features.shape[1]} and of {size} values", path=path)
            _store(writer, part, keys, path)
            if progress is not None:
                progress(len(keys), len(products) if products is not None else 0)
            part = next(parts, None)
        if products is None:
            none = pa.table({"": pa.nulls(len(keys))}).select([])
            products = Products(ids_from_text(list(keys)), None, None, none, {}, str(path))
        return _finish(writer, products, keys, allow_unreadable)


def _store(writer: FeaturesWriter, part: _Part, keys: dict[str, str], path: Path) -> None:
    ends = part.counts.cumsum().tolist()
    for identity, start, end in zip(part.ids, [0, *ends], ends, strict=False):
        if identity in keys:
            raise DataError(f"the id {identity} stands there twice", path=path)
        if start == end:
            raise DataError(f"{identity} has no vector", path=path)
        features = part.features[start:end]
        boxes = np.tile(_UNIT_BOX, (end - start, 1))
        if part.boxes is not None:
            boxes = part.boxes[start:end]
        height, width = (max(1, int(np.ceil(boxes[:, side].max()))) for side in (2, 3))
        labels = np.full(end - start, FIRST_CLASS, np.int64)
        labels[0] = WHOLE_PHOTO
        keys[identity] = hashlib.sha256(features.tobytes() + boxes.tobytes()).hexdigest()
        writer.add(Encoded(keys[identity], height, width, features, boxes, labels))


def _finish(
    writer: FeaturesWriter, products: Products, keys: dict[str, str], allow_unreadable: bool
) -> Extracted:
    ids = products.ids.astype(str).tolist()
    lost = [
        Unreadable(identity, None, "the product has no vector") for identity in ids if identity not in keys
    ]
    writer.write_unreadable(lost)
    if not allow_unreadable:
        check_share(writer.folder / UNREADABLE, lost, len(lost), len(ids))
    photos = products.photos or [()] * len(ids)
    rows = [Row(row, list(photos[row]), [keys[name]]) for row, name in enumerate(ids) if name in keys]
    counts = Extracted(len(rows), len(rows), len(rows), 0, len(lost))
    writer.finish(products, rows, counts.lasting())
    return counts


def _parts(path: Path) -> Iterator[_Part]:
    if path.suffix == ".npz":
        yield _of_npz(path)
        return
    batches = _lance_batches(path) if path.suffix == ".lance" else _parquet_batches(path)
    for batch in batches:
        if batch.num_rows:
            yield _of_batch(batch, path)


def _parquet_batches(path: Path) -> Iterator[pa.RecordBatch]:
    from pyarrow import parquet

    check_ordinary(path)
    with reading(path):
        try:
            with parquet.ParquetFile(path) as file:
                yield from file.iter_batches(_ROWS)
        except pa.ArrowException as error:
            raise DataError(f"no Parquet that can be read: {error}", path=path) from error


def _lance_batches(path: Path) -> Iterator[pa.RecordBatch]:
    try:
        import lance
    except ImportError as error:
        raise DataError("Lance needs the package pylance: pip install pylance", path=path) from error
    try:
        yield from lance.dataset(str(path)).to_batches(batch_size=_ROWS)
    except (ValueError, OSError) as error:
        raise DataError(f"no Lance data that can be read: {error}", path=path) from error


def _of_batch(batch: pa.RecordBatch, path: Path) -> _Part:
    ids = _named(batch, ID_NAMES, path)
    counts, features = _matrix(_named(batch, _VECTOR_NAMES, path), path)
    boxes = None
    if "boxes" in batch.schema.names:
        box_counts, boxes = _matrix(batch.column("boxes"), path)
        if boxes.shape[1] != 4 or (box_counts != counts).any():
            raise DataError("a box of 4 px values is wanted for each vector", path=path, field="boxes")
    return _Part(_ids_of(ids.to_pylist(), path), counts, _halves(features, path), boxes)


def _named(batch: pa.RecordBatch, names: tuple[str, ...], path: Path) -> pa.Array:
    """The column that has one of these names, the first that is there.

    Raises: DataError where there is none, or it holds nulls.
    """
    name = next((name for name in names if name in batch.schema.names), None)
    if name is None:
        raise DataError(f"has no column named {names[0]}; it has {', '.join(batch.schema.names)}", path=path)
    if batch.column(name).null_count:
        raise DataError("holds nulls", path=path, field=name)
    return batch.column(name)


def _matrix(
    column: pa.Array, path: Path
) -> tuple[Int64[np.ndarray, " products"], Float32[np.ndarray, "regions values"]]:
    """How many rows each list holds, and the rows; a plain list of numbers is one row."""
    try:
        counts = np.ones(len(column), np.int64)
        if hasattr(column.type.value_type, "value_type"):
            counts = pc.list_value_length(column).to_numpy().astype(np.int64)
            column = column.flatten()
        lengths = pc.unique(pc.list_value_length(column)).to_pylist()
        values = column.flatten()
    except (AttributeError, pa.ArrowException) as error:
        raise DataError(f"lists of numbers are wanted, it holds {column.type}", path=path) from error
    if len(lengths) != 1 or not lengths[0] or values.null_count or not _is_number(values.type):
        raise DataError(f"lists of equal length are wanted, of numbers; it holds {column.type}", path=path)
    return counts, values.to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, lengths[0])


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _of_npz(path: Path) -> _Part:
    arrays = read_npz(path)
    ids, vectors = (_array(arrays, names, path) for names in (("ids", *ID_NAMES), _VECTOR_NAMES))
    if ids.ndim != 1 or vectors.dtype.kind not in "fiu":
        problem = f"a row of ids and numbers are wanted; ids {ids.shape}, vectors of {vectors.dtype}"
        raise DataError(problem, path=path)
    counts = arrays.get("counts", np.ones(len(ids), np.int64))
    if counts.ndim != 1 or counts.dtype.kind not in "iu":
        raise DataError(f"counts of {counts.dtype} {counts.shape}, whole numbers are wanted", path=path)
    boxes = arrays.get("boxes")
    if (
        vectors.ndim != 2
        or len(counts) != len(ids)
        or counts.sum() != len(vectors)
        or counts.min(initial=1) < 1
    ):
        raise DataError(
            f"{len(ids)} ids, {len(counts)} counts that sum to {counts.sum()}, vectors {vectors.shape}",
            path=path,
        )
    if boxes is not None and (boxes.shape != (len(vectors), 4) or boxes.dtype.kind not in "fiu"):
        raise DataError(
            f"boxes of {boxes.dtype} {boxes.shape}, numbers {(len(vectors), 4)} wanted", path=path
        )
    float_boxes = None if boxes is None else boxes.astype(np.float32)
    return _Part(_ids_of(ids.tolist(), path), counts.astype(np.int64), _halves(vectors, path), float_boxes)


def _ids_of(values: list[Any], path: Path) -> list[str]:
    """Raises: DataError for an id that is neither text nor a whole number, or that nobody can have."""
    for value in values:
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise DataError(f"the id {str(value)[:40]!r}: text or a whole number was wanted", path=path)
    words = [str(value) for value in values]
    try:
        ids_from_text(words)
    except RowError as error:
        raise DataError(f"the id {words[error.row][:40]!r} {error.problem}", path=path) from error
    return words


def _array(arrays: dict[str, Any], names: tuple[str, ...], path: Path) -> np.ndarray:
    name = next((name for name in names if name in arrays), None)
    if name is None:
        raise DataError(f"has no array named {names[0]}; it has {', '.join(arrays)}", path=path)
    array: np.ndarray = arrays[name]
    return array


def _halves(values: np.ndarray, path: Path) -> Float16[np.ndarray, "regions values"]:
    """Raises: DataError for a value that is no number, or beyond float16."""
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    if not np.isfinite(halves).all():
        raise DataError("holds NaN, infinity, or a value beyond float16 (65,504)", path=path)
    return halves
