"""How is a dataset written in one pass and in little memory?

Regions and pairs are appended to Arrow files a chunk at a time. Ids, texts and what each product holds wait in a
database on disk, so that memory grows neither with the rows nor with the products. Takes what is checked and cleaned
already; knows no TSV, no rule, no report.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from shopwindow.data.dataset import (
    PAIR_SCHEMA,
    PAIRS,
    PRODUCT_IDS,
    QUERIES,
    WEIGHT_SCHEMA,
    WEIGHTS,
    product_id_schema,
    query_schema,
    region_schema,
)
from shopwindow.files import open_once
from shopwindow.shards import link_or_copy

SHARD_BYTES: Final = 2**30
CHUNK_BYTES: Final = 16 * 2**20
CHUNK_ROWS: Final = 65_536
_KNOWN: Final = "known.sqlite"
_MARKS: Final = 16_777_213
"""Bytes, one for all ids whose hash is equal modulo this prime: of three million ids one in six shares its mark."""
_IN_MEMORY: Final = 8_192
"""Ids that wait to be stored."""


class DatasetWriter:
    """Appends to the Arrow files of a dataset in `folder`; leaving the block finishes them.

    With `weighted` every pair has a weight, and a file of them. Ids are stored as integers where all of a kind are,
    else as text.

    Raises: OSError or sqlite3.Error where the disk is full or the folder may not be written.
    """

    def __init__(self, folder: Path, *, weighted: bool = False) -> None:
        self.label_count = 0
        self._folder = folder
        self._weights_hash = hashlib.sha256()
        with contextlib.ExitStack() as stack:
            stack.callback((folder / _KNOWN).unlink, missing_ok=True)
            self._shards = stack.enter_context(_Shards(folder))
            self._pairs = stack.enter_context(_Columns(folder / PAIRS, PAIR_SCHEMA))
            self._weights = (
                stack.enter_context(_Columns(folder / WEIGHTS, WEIGHT_SCHEMA)) if weighted else None
            )
            database = stack.enter_context(contextlib.closing(sqlite3.connect(folder / _KNOWN)))
            database.executescript(
                "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;"
            )
            self.products = Known(database, "product")
            self.queries = Known(database, "query")
            stack.push(self._finish)
            self._open = stack.pop_all()

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    @property
    def shards(self) -> list[dict[str, Any]]:
        """File name and number of products of every shard."""
        return self._shards.written

    @property
    def weights_sha256(self) -> str:
        """Of the weights so far, as little-endian float32."""
        return self._weights_hash.hexdigest()

    def add_regions(self, columns: Mapping[str, np.ndarray]) -> None:
        """Stores the regions of the next products, as many as were added to `products` since the last call.

        `columns` are the fields of `Regions`, all of them. They are one chunk of a file: 16 MB are read well.
        """
        self.label_count = max(self.label_count, int(columns["labels"].max(initial=-1)) + 1)
        self._shards.append(columns)

    def add_file(self, path: Path, products: int, label_count: int) -> None:
        """Stores the regions of the next products as `add_regions`, by linking a products file that another writer
        finished."""
        self.label_count = max(self.label_count, label_count)
        self._shards.add_file(path, products)

    def add_pair(self, product: int, query: int, *, training: bool, weight: float = 1.0) -> None:
        """Stores a pair of a product row and a query row; its weight (rounded to float32) where pairs have some."""
        self._pairs.append(product, query, training)
        if self._weights is not None:
            self._weights.append(weight)
            self._weights_hash.update(np.float32(weight).astype("<f4").tobytes())

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        """Writes what waits in the database, before it goes."""
        if kind is not None:
            return
        with _Columns(self._folder / PRODUCT_IDS, product_id_schema(self.products.id_type)) as file:
            for product_id, _ in self.products.rows():
                file.append(product_id)
        with _Columns(self._folder / QUERIES, query_schema(self.queries.id_type)) as file:
            for query_id, text in self.queries.rows():
                file.append(query_id, text)


class Entry(NamedTuple):
    """The row of an id, and what it was met with."""

    row: int
    content: Any


class Known:
    """A table on disk of the ids met so far, each in the next row, counted from 0.

    The disk is asked little: most new ids are known as new by a table of marks, and the last ones added are in memory.
    """

    def __init__(self, database: sqlite3.Connection, name: str) -> None:
        self._database = database
        # No type: an integer and its text are two ids, and each is compared with its like.
        database.execute(f"CREATE TABLE {name}(row INTEGER PRIMARY KEY, id UNIQUE, content)")
        self._select = f"SELECT row, content FROM {name} WHERE id = ?"
        self._insert = f"INSERT INTO {name} VALUES (?, ?, ?)"
        self._all = f"SELECT id, content FROM {name} ORDER BY row"
        self._marks = bytearray(_MARKS)
        self._added: dict[int | str, Entry] = {}
        self._added_bytes = 0
        self._count = 0
        self.id_type: pa.DataType = pa.int64()

    def __len__(self) -> int:
        return self._count

    def get(self, identity: int | str) -> Entry | None:
        """Row and content of an id; None for one that was not added."""
        if not self._marks[hash(identity) % _MARKS]:
            return None
        if identity in self._added:
            return self._added[identity]
        entry = self._database.execute(self._select, (identity,)).fetchone()
        return None if entry is None else Entry(*entry)

    def add(self, identity: int | str, content: bytes | str) -> int:
        """The row of an id that was not added before."""
        row = self._count
        self._count += 1
        self._marks[hash(identity) % _MARKS] = 1
        self._added[identity] = Entry(row, content)
        self._added_bytes += len(content)
        if isinstance(identity, str):
            self.id_type = pa.string()
        if len(self._added) >= _IN_MEMORY or self._added_bytes >= CHUNK_BYTES:
            self._store()
        return row

    def _store(self) -> None:
        entries = ((entry.row, identity, entry.content) for identity, entry in self._added.items())
        self._database.executemany(self._insert, entries)
        self._added, self._added_bytes = {}, 0

    def rows(self) -> Iterator[tuple[int | str, Any]]:
        """(id, content) of every row, in order."""
        self._store()
        yield from self._database.execute(self._all)


class _Shards:
    """The growing products files: a record batch for every chunk of products, a new file every SHARD_BYTES."""

    def __init__(self, folder: Path) -> None:
        self.written: list[dict[str, Any]] = []
        self._folder = folder
        self._file: Any = None
        self._open = contextlib.ExitStack()
        self._bytes = 0

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add_file(self, path: Path, products: int) -> None:
        self.__exit__()
        self._file = None
        name = f"products-{len(self.written):05d}.arrow"
        link_or_copy(path, self._folder / name)
        self.written.append({"file": name, "products": products})

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        schema = region_schema(columns["features"].shape[1])
        if self._file is None or self._bytes >= SHARD_BYTES:
            self.__exit__()
            name = f"products-{len(self.written):05d}.arrow"
            self.written.append({"file": name, "products": 0})
            raw = pa.PythonFile(self._open.enter_context(open_once(self._folder / name, "wb")), "w")
            self._file, self._bytes = self._open.enter_context(pa.ipc.new_file(raw, schema)), 0
        self._file.write_batch(_batch_of(columns, schema))
        self.written[-1]["products"] += len(columns["counts"])
        self._bytes += columns["features"].nbytes


class _Columns:
    """A growing Arrow file of plain columns, written CHUNK_ROWS at a time, or fewer of long texts."""

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
        if isinstance(values[-1], str):
            self._text_bytes += len(values[-1])
        if len(self._rows) >= CHUNK_ROWS or self._text_bytes >= CHUNK_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [_arrow(column, kind) for column, kind in zip(columns, self._schema.types, strict=True)]
            self._file.write_batch(pa.record_batch(arrays, schema=self._schema))
            self._rows, self._text_bytes = [], 0


def _batch_of(columns: Mapping[str, np.ndarray], schema: pa.Schema) -> pa.RecordBatch:
    """The regions as Arrow lays them out: a list a product in every column."""
    offsets = _arrow(np.cumsum([0, *columns["counts"].tolist()]), pa.int32())
    lists = []
    for field in schema:
        values, inner_type = columns[field.name], field.type.value_type
        if pa.types.is_fixed_size_list(inner_type):
            flat = _arrow(values.reshape(-1), inner_type.value_type)
            inner = pa.FixedSizeListArray.from_arrays(flat, type=inner_type)
        else:
            inner = _arrow(values, inner_type)
        lists.append(pa.ListArray.from_arrays(offsets, inner, type=field.type))
    return pa.record_batch(lists, schema=schema)


def _arrow(values: Sequence[Any] | np.ndarray, kind: pa.DataType) -> pa.Array:
    """The values as Arrow lays them out; of texts, integers are written as theirs. `pa.array` would import pandas."""
    buffers: list[np.ndarray | bytes]
    if kind == pa.string():
        texts = [str(value).encode() for value in values]
        buffers = [np.cumsum([0, *map(len, texts)]).astype(np.int32), b"".join(texts)]
    elif kind == pa.bool_():
        buffers = [np.packbits(np.array(values, bool), bitorder="little")]
    else:
        buffers = [np.ascontiguousarray(values, kind.to_pandas_dtype())]
    return pa.Array.from_buffers(kind, len(values), [None, *map(pa.py_buffer, buffers)])
