"""How is a dataset written in one pass and in little memory?

Products, queries and pairs are appended to Arrow files a chunk at a time; the ids seen before are looked up
in a database on disk, so that memory grows neither with the rows nor with the products. Takes what is
checked and cleaned already; knows no TSV, no rule, no report.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
import pyarrow as pa
from jaxtyping import Float16

from shopwindow.data.checking import GoodRow
from shopwindow.data.dataset import (
    PAIR_SCHEMA,
    PAIRS,
    QUERIES,
    QUERY_SCHEMA,
    WEIGHT_SCHEMA,
    WEIGHTS,
    product_schema,
)
from shopwindow.data.once import WrittenOnce
from shopwindow.data.seen import Seen

SHARD_BYTES: Final = 2**30
CHUNK_BYTES: Final = 16 * 2**20
CHUNK_ROWS: Final = 65_536
_SEEN: Final = "seen.sqlite"


class DatasetWriter:
    """Appends to the Arrow files of a dataset in `folder`; leaving the block finishes them.

    With `weighted` every pair has a weight, and a file of them.

    Raises: OSError or sqlite3.Error where the disk is full or the folder may not be written.
    """

    def __init__(self, folder: Path, feature_size: int, *, weighted: bool = False) -> None:
        self.products = self.queries = 0
        self._weights_hash = hashlib.sha256()
        with contextlib.ExitStack() as stack:
            stack.callback((folder / _SEEN).unlink, missing_ok=True)
            self._shards = stack.enter_context(_Shards(folder, feature_size))
            self._query_file = stack.enter_context(_Columns(folder / QUERIES, QUERY_SCHEMA))
            self._pair_file = stack.enter_context(_Columns(folder / PAIRS, PAIR_SCHEMA))
            self._weight_file = (
                stack.enter_context(_Columns(folder / WEIGHTS, WEIGHT_SCHEMA)) if weighted else None
            )
            seen = stack.enter_context(contextlib.closing(sqlite3.connect(folder / _SEEN)))
            seen.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-32768;")
            self._seen_products = Seen[bytes](seen, "product")
            self._seen_queries = Seen[str](seen, "query")
            self._open = stack.pop_all()

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, trace)

    @property
    def shards(self) -> list[dict[str, Any]]:
        """File name and number of products of every shard."""
        return self._shards.written

    def seen_product(self, product_id: int) -> tuple[int, bytes] | None:
        """Row and digest of a product that was added before."""
        return self._seen_products.get(product_id)

    def seen_query(self, query_id: int) -> tuple[int, str] | None:
        """Row and text of a query that was added before."""
        return self._seen_queries.get(query_id)

    def add_product(self, product: GoodRow) -> int:
        """Stores a new product, that of a row; gives its own row among the products. The regions are copied."""
        row = self.products
        self._seen_products.add(product.product_id, row, product.digest)
        self.products += 1
        self._shards.append(product)
        return row

    def add_query(self, query_id: int, text: str) -> int:
        """Stores a new query; gives its row."""
        row = self.queries
        self._seen_queries.add(query_id, row, text)
        self.queries += 1
        self._query_file.append(query_id, text.encode())
        return row

    def add_pair(self, product: int, query: int, *, training: bool, weight: float = 1.0) -> None:
        """Stores a pair of a product row and a query row; its weight (rounded to float32) where pairs have some."""
        self._pair_file.append(product, query, training)
        if self._weight_file is not None:
            self._weight_file.append(weight)
            self._weights_hash.update(np.float32(weight).astype("<f4").tobytes())

    @property
    def weights_sha256(self) -> str:
        """Of the weights so far, as little-endian float32."""
        return self._weights_hash.hexdigest()


class _Shards:
    """The growing products files: a record batch every CHUNK_BYTES, a new file every SHARD_BYTES.

    A thread lays out and writes one chunk while the next one is collected, in the memory of the last but one.
    """

    def __init__(self, folder: Path, feature_size: int) -> None:
        self.written: list[dict[str, Any]] = []
        self._folder = folder
        self._schema = product_schema(feature_size)
        self._chunk: list[tuple[object, ...]] = []
        self._regions, self._spare = np.empty((2, CHUNK_BYTES // 2), np.float16)
        self._used = self._shard_bytes = 0
        self._file: WrittenOnce | None = None
        self._shard: Any = None
        self._hand = ThreadPoolExecutor(max_workers=1)
        self._writing: Future[None] | None = None

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._flush()
                self._wait()
        finally:
            self._hand.shutdown()
            self._close()

    def append(self, product: GoodRow) -> None:
        self._chunk.append(
            (product.product_id, product.image_h, product.image_w, product.boxes, product.labels)
        )
        end = self._used + product.regions.size
        if end > len(self._regions):
            longer = np.empty(2 * end, np.float16)
            longer[: self._used] = self._regions[: self._used]
            self._regions = longer
        self._regions[self._used : end] = product.regions.reshape(-1)
        self._used = end
        if 2 * self._used >= CHUNK_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._wait()
        if not self._chunk:
            return
        if self._shard is None:
            name = f"products-{len(self.written):05d}.arrow"
            self.written.append({"file": name, "products": 0})
            self._file = WrittenOnce(self._folder / name)
            self._shard = pa.ipc.new_file(self._file, self._schema)
        self._writing = self._hand.submit(self._write, self._shard, self._chunk, self._regions[: self._used])
        self.written[-1]["products"] += len(self._chunk)
        self._shard_bytes += 2 * self._used
        self._chunk, self._used = [], 0
        self._regions, self._spare = self._spare, self._regions
        if self._shard_bytes >= SHARD_BYTES:
            self._wait()
            self._close()

    def _write(self, shard: Any, chunk: list[tuple[Any, ...]], regions: np.ndarray) -> None:
        shard.write_batch(_product_batch(chunk, regions, self._schema))

    def _wait(self) -> None:
        """Until the chunk in hand is written. Raises: what writing it raised."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _close(self) -> None:
        shard, file = self._shard, self._file
        self._shard, self._file, self._shard_bytes = None, None, 0
        if file is not None:
            with contextlib.closing(file):
                shard.close()


class _Columns:
    """A growing Arrow file of plain columns, texts as UTF-8; written CHUNK_ROWS at a time, or fewer of long texts."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._file = pa.ipc.new_file(str(path), schema)
        self._rows: list[tuple[object, ...]] = []
        self._text_bytes = 0

    def __enter__(self) -> _Columns:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._flush()
        finally:
            self._file.close()

    def append(self, *values: object) -> None:
        self._rows.append(values)
        self._text_bytes += sum(len(value) for value in values if isinstance(value, bytes))
        if len(self._rows) >= CHUNK_ROWS or self._text_bytes >= CHUNK_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [_arrow(column, kind) for column, kind in zip(columns, self._schema.types, strict=True)]
            self._file.write_batch(pa.record_batch(arrays, schema=self._schema))
            self._rows, self._text_bytes = [], 0


def _product_batch(
    chunk: list[tuple[Any, ...]], regions: Float16[np.ndarray, " values"], schema: pa.Schema
) -> pa.RecordBatch:
    ids, heights, widths, boxes, labels = zip(*chunk, strict=True)
    offsets = _arrow(np.cumsum([0, *map(len, labels)]), pa.int32())

    def ragged(values: np.ndarray, name: str) -> pa.ListArray:
        kind = schema.field(name).type
        if name == "labels":
            inner = _arrow(values, kind.value_type)
        else:
            flat = _arrow(values.reshape(-1), kind.value_type.value_type)
            inner = pa.FixedSizeListArray.from_arrays(flat, type=kind.value_type)
        return pa.ListArray.from_arrays(offsets, inner, type=kind)

    return pa.record_batch(
        [
            _arrow(ids, pa.int64()),
            _arrow(heights, pa.int32()),
            _arrow(widths, pa.int32()),
            ragged(np.concatenate(boxes), "boxes"),
            ragged(np.concatenate(labels), "labels"),
            ragged(regions, "regions"),
        ],
        schema=schema,
    )


def _arrow(values: Sequence[Any] | np.ndarray, kind: pa.DataType) -> pa.Array:
    """The values (texts: UTF-8) as Arrow lays them out. Not by `pa.array`, which imports pandas where that is."""
    buffers: list[np.ndarray | bytes]
    if kind == pa.string():
        buffers = [np.cumsum([0, *map(len, values)]).astype(np.int32), b"".join(values)]
    elif kind == pa.bool_():
        buffers = [np.packbits(np.array(values, bool), bitorder="little")]
    else:
        buffers = [np.ascontiguousarray(values, kind.to_pandas_dtype())]
    return pa.Array.from_buffers(kind, len(values), [None, *map(pa.py_buffer, buffers)])
