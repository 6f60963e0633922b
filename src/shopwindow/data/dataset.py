"""How does a cleaned dataset lie on disk, and how is it read without filling the memory?

A dataset is a directory: products, queries and pairs as Arrow IPC files, products in shards, and
`manifest.json`, written last. Reading maps the files into memory; what is not touched costs nothing.
Knows nothing of TSV files or models.

```
manifest.json             format, counts, the report of prepare, content hash, shards
product_ids.arrow         product_id (int64 where all are integers, else text), one row a product
products-00000.arrow ...  features (float16), boxes, photo_sizes, labels, photos: a list for each product, by regions
queries.arrow             query_id (as product_id), text
pairs.arrow               product, query (rows of the above, not ids), training
weights.arrow             weight of every pair; only where prepare was given some
catalogue.arrow           of a shop: title, photos (where they came from), its other columns; one row a product
valid.csv, test.csv ...   of a shop: query, id, relevant (a grade) of pairs that are held out, over the whole catalogue
rejected.jsonl            file, line, reason, field, detail of every malformed row
```

Legend of axes: regions = the regions of the asked-for products, end to end.
"""

from __future__ import annotations

import hashlib
import os
import re
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float16, Float32, Int32, Int64, Integer, Shaped, UInt8

from shopwindow.files import DataError, check_fields, check_whole, read_card

if TYPE_CHECKING:
    from shopwindow.data.regions import Regions

MANIFEST: Final = "manifest.json"
FORMAT: Final = "shopwindow dataset 2"
PRODUCT_IDS: Final = "product_ids.arrow"
QUERIES: Final = "queries.arrow"
PAIRS: Final = "pairs.arrow"
WEIGHTS: Final = "weights.arrow"
REJECTED: Final = "rejected.jsonl"
CATALOGUE: Final = "catalogue.arrow"
_MANIFEST_FIELDS: Final = {
    "content_hash": str,
    "shards": list,
    "report": dict,
}
_READERS: Final = 8
_READ_AT_ONCE: Final = 64
"""Products that one thread reads before it takes others."""
_REPLACED: Final = "was replaced since it was opened; open it again"
_LARGE_ROW_BYTES: Final = 256
"""Rows from this length on are copied run by run, shorter ones in one step."""
_SHARD_NAME: Final = re.compile(r"products-\d+\.arrow")

ID_TYPES: Final = (pa.int64(), pa.string())
PAIR_SCHEMA: Final = pa.schema([("product", pa.int64()), ("query", pa.int64()), ("training", pa.bool_())])
CATALOGUE_TYPES: Final = [pa.string(), pa.list_(pa.string())]
"""Of the first two columns, title and photos."""
WEIGHT_SCHEMA: Final = pa.schema([("weight", pa.float32())])


def product_id_schema(id_type: pa.DataType) -> pa.Schema:
    """The column of the ids of products."""
    return pa.schema([("product_id", id_type)])


def query_schema(id_type: pa.DataType) -> pa.Schema:
    """The columns of the queries."""
    return pa.schema([("query_id", id_type), ("text", pa.string())])


def region_schema(feature_size: int) -> pa.Schema:
    """The columns of a products file, named as the fields of `Regions`; a feature has `feature_size` values."""
    return pa.schema(
        [
            ("features", pa.list_(pa.list_(pa.float16(), feature_size))),
            ("boxes", pa.list_(pa.list_(pa.float32(), 4))),
            ("photo_sizes", pa.list_(pa.list_(pa.int64(), 2))),
            ("labels", pa.list_(pa.int64())),
            ("photos", pa.list_(pa.int64())),
        ]
    )


@dataclass(frozen=True)
class _Chunk:
    """One record batch of a products file."""

    offsets: Integer[np.ndarray, " bounds"]
    places: dict[str, int]
    """Where the values of each column begin in the file, bytes."""


@dataclass(frozen=True)
class _Products:
    """Where the values of each product lie. Chunks are numbered through all files."""

    counts: Int64[np.ndarray, " products"]
    chunk_of: Int32[np.ndarray, " products"]
    first_region: Int64[np.ndarray, " products"]
    """In its chunk."""
    chunk_files: Int64[np.ndarray, " chunks"]
    places: dict[str, Int64[np.ndarray, " chunks"]]
    paths: list[Path]
    files: list[UInt8[np.ndarray, " _"]]


class Dataset:
    """A dataset opened for reading. Rows are counted from 0 in the order in which prepare met them.

    Cheap to open and to pickle to another process (it opens anew there). Arrays of regions come back as
    fresh copies; everything else of a product is small.

    `mapped` regions are read through the memory map: fast, and what was touched counts as resident memory of the
    process until the system wants it back. Else they are read by `preadv` in threads: resident is what was asked for.

    Raises: DataError when the directory is no dataset, is of another format, a file of it is broken, or another dataset
    lies there by the time a file is first read.
    """

    def __init__(self, path: str | Path, *, mapped: bool = True) -> None:
        self.path = Path(path)
        if not mapped and not hasattr(os, "preadv"):
            raise DataError("reading past the memory map needs Linux or macOS", path=path)
        self.mapped = mapped
        self.manifest = _read_manifest(self.path)
        self.feature_size = int(self.manifest["feature_size"])
        self.label_count = int(self.manifest["label_count"])
        self._not_trained: Int64[np.ndarray, " products"] | None = None

    def __reduce__(self) -> tuple[Callable[..., Dataset], tuple[Any, ...]]:
        return (_opened, (self.path, self.mapped, self.manifest, self._not_trained))

    def __repr__(self) -> str:
        pairs, products = len(self.pair_products), len(self.product_ids)
        return f"Dataset({str(self.path)!r}, {pairs:,} pairs, {products:,} products)"

    @property
    def content_hash(self) -> str:
        """Names the content: equal for equal rows, whatever the files were called."""
        return str(self.manifest["content_hash"])

    @cached_property
    def product_ids(self) -> Shaped[np.ndarray, " products"]:
        """The id of every product row: int64 where all are integers, else strings."""
        table = self._open(PRODUCT_IDS, *map(product_id_schema, ID_TYPES))[0]
        ids = _as_ids(table.column("product_id"))
        count = sum(shard["products"] for shard in self.manifest["shards"])
        if len(ids) != count:
            raise DataError(
                f"{len(ids)} ids, the manifest says {count} products", path=self.path / PRODUCT_IDS
            )
        return ids

    @cached_property
    def region_counts(self) -> Int64[np.ndarray, " products"]:
        """How many regions every product has."""
        return self._products.counts

    @cached_property
    def query_ids(self) -> Shaped[np.ndarray, " queries"]:
        """The id of every query row: int64 where all are integers, else strings."""
        return _as_ids(self._queries.column("query_id"))

    @cached_property
    def query_texts(self) -> list[str]:
        """The words of every query row."""
        texts: list[str] = self._queries.column("text").to_pylist()
        return texts

    @cached_property
    def pair_products(self) -> Int64[np.ndarray, " pairs"]:
        """The product row of every pair."""
        return self._pair_rows("product", len(self.product_ids))

    @cached_property
    def pair_queries(self) -> Int64[np.ndarray, " pairs"]:
        """The query row of every pair."""
        return self._pair_rows("query", len(self.query_ids))

    @cached_property
    def pair_training(self) -> Bool[np.ndarray, " pairs"]:
        """Whether a pair may be trained on."""
        flags: np.ndarray = self._pairs.column("training").to_numpy()
        flags = flags.astype(bool)
        return flags if self._not_trained is None else flags & ~np.isin(self.pair_products, self._not_trained)

    def without(self, products: Int64[np.ndarray, " some"]) -> Dataset:
        """The same dataset, but no pair of these product rows may be trained on either."""
        before = np.empty(0, np.int64) if self._not_trained is None else self._not_trained
        return _opened(self.path, self.mapped, self.manifest, np.union1d(before, products))

    @property
    def has_weights(self) -> bool:
        """Whether pairs have weights of their own (`prepare --weights`)."""
        return "weights" in self.manifest

    @cached_property
    def pair_weights(self) -> Float32[np.ndarray, " pairs"]:
        """The weight of every pair, finite and above 0: clicks, or a grade; 1 each where the dataset has none.

        Raises: DataError where the file is not the one that the manifest names.
        """
        path, count = self.path / WEIGHTS, len(self._pairs)
        if not self.has_weights:
            return np.ones(count, np.float32)
        weights = _column(self._open(WEIGHTS, WEIGHT_SCHEMA)[0], "weight")
        if len(weights) != count:
            raise DataError(f"{len(weights)} weights, there are {count} pairs", path=path)
        if (
            hashlib.sha256(weights.astype("<f4", copy=False).tobytes()).hexdigest()
            != self.manifest["weights"]["sha256"]
        ):
            raise DataError("other weights than the manifest names", path=path)
        return weights

    @cached_property
    def titles(self) -> list[str] | None:
        """The title of every product, "" where it has none; None where no product has one."""
        titles = None if self._catalogue is None else self._catalogue.column(0).to_pylist()
        return titles if titles and any(titles) else None

    @cached_property
    def photo_sources(self) -> list[tuple[str, ...]] | None:
        """Where the photos of every product came from, paths or URLs; None where the dataset is no shop's."""
        catalogue = self._catalogue
        return None if catalogue is None else [tuple(one) for one in catalogue.column(1).to_pylist()]

    @property
    def columns(self) -> pa.Table | None:
        """The shop's other columns, a row a product: numbers (float64) or text; None where the dataset is no shop's."""
        catalogue = self._catalogue
        return None if catalogue is None else catalogue.select(range(2, catalogue.num_columns))

    @property
    def backbone(self) -> dict[str, Any] | None:
        """What made the features of the photos, as `vision` opens it again; None where that is not known."""
        return self.manifest.get("backbone")

    def held_out(self, name: str) -> Path | None:
        """The file of the pairs that are held out as `valid`, `test` or `judgements`; None where there is none.

        Raises: DataError where the file is not the one that the manifest names.
        """
        entry = (self.manifest.get("held_out") or {}).get(name)
        if entry is None:
            return None
        path = self.path / f"{name}.csv"
        try:
            same = hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
        except (OSError, KeyError, TypeError) as error:
            raise DataError(f"broken or missing: {error}", path=path) from error
        if not same:
            raise DataError("is not the file that the manifest names", path=path)
        return path

    def regions(self, products: Int64[np.ndarray, " asked"], *, boxes: bool = False) -> Regions:
        """The regions of some products: features alone, or everything with `boxes`."""
        # Imported here, with torch: `prepare` does without.
        import torch

        from shopwindow.data.regions import Regions

        self._check_rows(products)
        columns = {"counts": self.region_counts[products], "features": self._features(products)}
        if boxes:
            columns |= {
                "boxes": self.boxes(products),
                "photo_sizes": self._gather(products, "photo_sizes", np.dtype(np.int64), (2,)),
                "labels": self.labels(products),
                "photos": self._gather(products, "photos", np.dtype(np.int64)),
            }
        tensors = {name: torch.from_numpy(values) for name, values in columns.items()}
        return Regions(**tensors, titles=None)

    def _features(self, products: Int64[np.ndarray, " asked"]) -> Float16[np.ndarray, "regions features"]:
        if not self.mapped:
            return self._read_regions(products)
        return self._gather(products, "features", np.dtype(np.float16), (self.feature_size,))

    def shards_of(self, products: Int64[np.ndarray, " asked"]) -> Int64[np.ndarray, " asked"]:
        """In which products file some products lie, counted from 0."""
        ends = np.cumsum([shard["products"] for shard in self.manifest["shards"]])
        return np.searchsorted(ends, products, side="right")

    def boxes(self, products: Int64[np.ndarray, " asked"]) -> Float32[np.ndarray, "regions 4"]:
        """(top, left, bottom, right) in px of the regions of some products, end to end."""
        return self._gather(products, "boxes", np.dtype(np.float32), (4,))

    def labels(self, products: Int64[np.ndarray, " asked"]) -> Int64[np.ndarray, " regions"]:
        """The detector's class of the regions of some products, end to end."""
        return self._gather(products, "labels", np.dtype(np.int64))

    def image_sizes(self, products: Int64[np.ndarray, " asked"]) -> Int64[np.ndarray, "asked 2"]:
        """(height, width) in px of the first photo of some products."""
        files, firsts = self._places(products, "photo_sizes", 16)
        once = np.ones(len(products), np.int64)
        return gather_rows(self._products.files, files, firsts, once, np.dtype(np.int64), (2,))

    def _gather(
        self, products: Int64[np.ndarray, " asked"], column: str, kind: np.dtype, shape: tuple[int, ...] = ()
    ) -> np.ndarray:
        files, firsts = self._places(products, column, int(np.prod(shape, dtype=np.int64)) * kind.itemsize)
        return gather_rows(self._products.files, files, firsts, self.region_counts[products], kind, shape)

    def _places(
        self, products: Int64[np.ndarray, " asked"], column: str, row_bytes: int
    ) -> tuple[Int64[np.ndarray, " asked"], Int64[np.ndarray, " asked"]]:
        """In which file, and at which byte of it, the first of each product's rows of a column lies."""
        self._check_rows(products)
        chunks = self._products.chunk_of[products]
        firsts = self._products.places[column][chunks] + row_bytes * self._products.first_region[products]
        return self._products.chunk_files[chunks], firsts

    def _read_regions(self, products: Int64[np.ndarray, " asked"]) -> Float16[np.ndarray, "regions features"]:
        """Past the memory map, by threads that each fill a part: reads from a disk overlap."""
        files, firsts = (
            places.tolist() for places in self._places(products, "features", 2 * self.feature_size)
        )
        lengths = self.region_counts[products]
        out = np.empty((int(lengths.sum()), self.feature_size), np.float16)
        ends = np.cumsum(lengths).tolist()
        starts = [0, *ends[:-1]]
        jobs = [
            (out[starts[place] : ends[place]], self._files[file], firsts[place], self._products.paths[file])
            for place, file in enumerate(files)
        ]
        parts = [jobs[first : first + _READ_AT_ONCE] for first in range(0, len(jobs), _READ_AT_ONCE)]
        for _ in self._hands.map(_read_all, parts):
            pass
        return out

    @cached_property
    def _files(self) -> list[int]:
        files: list[int] = []
        for path in self._products.paths:
            files.append(os.open(path, os.O_RDONLY))
            weakref.finalize(self, os.close, files[-1])
        self._check_same()
        return files

    @cached_property
    def _hands(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=_READERS)

    def _check_rows(self, products: np.ndarray) -> None:
        if len(products) and not (products.min() >= 0 and products.max() < len(self.region_counts)):
            raise IndexError(f"product rows go from 0 to {len(self.region_counts) - 1}")

    @cached_property
    def _products(self) -> _Products:
        chunks: list[_Chunk] = []
        chunk_files: list[int] = []
        paths, files = list[Path](), list[np.ndarray]()
        for shard in self.manifest["shards"]:
            path = self.path / shard["file"]
            table, file = self._open(shard["file"], region_schema(self.feature_size))
            if table.num_rows == 0 or table.num_rows != shard.get("products"):
                raise DataError(
                    f"{table.num_rows} products, the manifest says {shard.get('products')}", path=path
                )
            chunk_files += [len(files)] * table.column(0).num_chunks
            chunks += [_chunk(batch, path, file) for batch in table.to_batches()]
            paths.append(path)
            files.append(file)
        sizes = [len(chunk.offsets) - 1 for chunk in chunks]
        return _Products(
            np.concatenate([np.diff(chunk.offsets) for chunk in chunks]).astype(np.int64),
            np.repeat(np.arange(len(chunks), dtype=np.int32), sizes),
            np.concatenate([chunk.offsets[:-1] for chunk in chunks]).astype(np.int64),
            np.array(chunk_files),
            {name: np.array([chunk.places[name] for chunk in chunks]) for name in chunks[0].places},
            paths,
            files,
        )

    @cached_property
    def _queries(self) -> pa.Table:
        return self._open(QUERIES, *map(query_schema, ID_TYPES))[0]

    @cached_property
    def _pairs(self) -> pa.Table:
        return self._open(PAIRS, PAIR_SCHEMA)[0]

    @cached_property
    def _catalogue(self) -> pa.Table | None:
        if "catalogue" not in self.manifest:
            return None
        path = self.path / CATALOGUE
        try:
            with pa.memory_map(str(path)) as source:
                table = pa.ipc.open_file(source).read_all()
            table.validate(full=True)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"broken or missing: {error}", path=path) from error
        self._check_same()
        if table.num_rows != len(self.product_ids) or table.schema.types[:2] != CATALOGUE_TYPES:
            raise DataError("is not the catalogue of these products", path=path)
        return table

    def _open(self, name: str, *schemas: pa.Schema) -> tuple[pa.Table, UInt8[np.ndarray, " bytes"]]:
        """The table of a file that has one of these schemas, and its bytes."""
        try:
            return _open_mapped(self.path / name, schemas)
        finally:
            self._check_same()

    def _check_same(self) -> None:
        """To be asked after a file was opened: what lies here now may be another dataset.

        Raises: DataError where it is.
        """
        if _read_manifest(self.path) != self.manifest:
            raise DataError(_REPLACED, path=self.path)

    def _pair_rows(self, name: str, count: int) -> Int64[np.ndarray, " pairs"]:
        rows = _column(self._pairs, name)
        if len(rows) and not (rows.min() >= 0 and rows.max() < count):
            raise DataError(f"a row outside 0 to {count - 1}", path=self.path / PAIRS, field=name)
        return rows


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise DataError("no such dataset (a directory that `shopwindow prepare` writes)", path=path)
    if not (path / MANIFEST).is_file():
        raise DataError(f"no dataset: it holds no {MANIFEST}", path=path)
    manifest = read_card(path / MANIFEST, format=FORMAT, made_by="prepare")
    check_fields(manifest, _MANIFEST_FIELDS, path / MANIFEST)
    check_whole(manifest, ("feature_size", "label_count"), path / MANIFEST)
    if not manifest["shards"]:
        raise DataError("names no products file", path=path / MANIFEST, field="shards")
    weights = manifest.get("weights", {"sha256": ""})
    if not (isinstance(weights, dict) and isinstance(weights.get("sha256"), str)):
        raise DataError("names no SHA-256", path=path / MANIFEST, field="weights")
    for shard in manifest["shards"]:
        if not (isinstance(shard, dict) and _SHARD_NAME.fullmatch(str(shard.get("file")))):
            raise DataError("names no products file", path=path / MANIFEST, field="shards")
        if not isinstance(shard.get("products"), int):
            raise DataError("names no number of products", path=path / MANIFEST, field="shards")
    return manifest


def _opened(
    path: Path, mapped: bool, manifest: dict[str, Any], not_trained: Int64[np.ndarray, " products"] | None
) -> Dataset:
    dataset = Dataset(path, mapped=mapped)
    if dataset.manifest != manifest:
        raise DataError(_REPLACED, path=path)
    dataset._not_trained = not_trained
    return dataset


def _read_all(jobs: list[tuple[np.ndarray, int, int, Path]]) -> None:
    """Fills each array from its file, place and path."""
    for job in jobs:
        _read_into(*job)


def _read_into(out: np.ndarray, file: int, place: int, path: Path) -> None:
    """Fills an array from a place of an open file."""
    left = out.reshape(-1).view(np.uint8).data
    while len(left):
        done = os.preadv(file, [left], place)
        if done == 0:
            raise DataError("shorter than when it was opened", path=path)
        left, place = left[done:], place + done


def _open_mapped(path: Path, schemas: Sequence[pa.Schema]) -> tuple[pa.Table, UInt8[np.ndarray, " bytes"]]:
    """The table, and the bytes of the file that it is a view of."""
    try:
        with pa.memory_map(str(path)) as source:
            file = np.frombuffer(source.read_buffer(), np.uint8)
            source.seek(0)
            table = pa.ipc.open_file(source).read_all()
        if table.schema not in schemas:
            raise DataError("other columns than a dataset of this format has", path=path)
        table.validate(full=True)  # reads the offsets, not the values they point to
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"broken or missing: {error}", path=path) from error
    if any(column.null_count for column in table.columns):
        raise DataError("holds nulls", path=path)
    return table, file


def _column(table: pa.Table, name: str) -> np.ndarray:
    values: np.ndarray = table.column(name).to_numpy()
    return values


def _as_ids(column: pa.ChunkedArray) -> Shaped[np.ndarray, " ids"]:
    ids: np.ndarray = column.to_numpy()
    return ids if column.type == pa.int64() else ids.astype(np.str_)


def _chunk(batch: pa.RecordBatch, path: Path, file: UInt8[np.ndarray, " bytes"]) -> _Chunk:
    """A record batch of a file that is mapped.

    Raises: DataError where a product has values of other numbers, or values lie elsewhere, which compressed ones do.
    """
    offsets = batch.column("features").offsets
    places = {}
    for name in batch.schema.names:
        lists = batch.column(name)
        if not lists.offsets.equals(offsets):
            raise DataError("the columns of a product differ in their number of regions", path=path)
        values = lists.values.values if pa.types.is_fixed_size_list(lists.type.value_type) else lists.values
        array = values.to_numpy()
        places[name] = array.ctypes.data - file.ctypes.data
        if not 0 <= places[name] <= len(file) - array.nbytes:
            raise DataError("compressed; plain Arrow is wanted", path=path)
    return _Chunk(offsets.to_numpy(), places)


def gather_rows(
    files: Sequence[UInt8[np.ndarray, " _"]],
    file_of: Integer[np.ndarray, " asked"],
    firsts: Int64[np.ndarray, " asked"],
    counts: Int64[np.ndarray, " asked"],
    kind: np.dtype,
    shape: tuple[int, ...] = (),
) -> np.ndarray:
    """Fresh [rows, *shape] of `kind`: of each one asked `counts` rows, from byte `firsts` of its file on.

    Raises: IndexError for a row that is not whole in its file.
    """
    row = np.dtype((np.void, int(np.prod(shape, dtype=np.int64)) * kind.itemsize))
    total = int(counts.sum())
    rows = np.empty(0 if len(files) == 1 and row.itemsize < _LARGE_ROW_BYTES else total, row)
    if row.itemsize >= _LARGE_ROW_BYTES:
        _copy_runs(files, file_of, firsts, counts * row.itemsize, rows.view(np.uint8).data)
    else:
        # Where each row begins: the rows of one asked follow each other.
        within = np.arange(total) - np.repeat(counts.cumsum() - counts, counts)
        places, owners = np.repeat(firsts, counts) + within * row.itemsize, np.repeat(file_of, counts)
        for file in np.unique(file_of).tolist():
            here = slice(None) if len(files) == 1 else np.flatnonzero(owners == file)
            # The row that begins at each byte is a view; any rows of it are one fancy read.
            bounds = (max(len(files[file]) - row.itemsize + 1, 0),)
            chosen = np.ndarray(bounds, row, files[file], 0, (1,))[places[here]]
            if len(files) == 1:
                rows = chosen  # fresh already: no second copy
            else:
                rows[here] = chosen
    return rows.view(kind).reshape(-1, *shape)


def _copy_runs(
    files: Sequence[UInt8[np.ndarray, " _"]],
    file_of: Integer[np.ndarray, " asked"],
    firsts: Int64[np.ndarray, " asked"],
    sizes: Int64[np.ndarray, " asked"],
    out: memoryview,
) -> None:
    """Fills `out` with runs of bytes of the files, one after the other."""
    views = [file.data for file in files]
    end = 0
    for file, first, size in zip(file_of.tolist(), firsts.tolist(), sizes.tolist(), strict=True):
        if first + size > len(views[file]):
            raise IndexError(f"byte {first + size} of {len(views[file])}")
        out[end : end + size] = views[file][first : first + size]
        end += size
