"""How are competition files read in shards? Each takes a stretch of bytes, and stores what its lines say.

A shard is a dataset of its own: its products named by content, its queries by id and text, so that none is stored twice
and none is refused. `prepare` joins shards: it takes their lines in the order of the files, as if it read them.

```
lines/                  a dataset: products, queries, and a pair for each good line; none where no line is good
lines/malformed.jsonl   of each other line: its place, reason, field, detail
lines/counts.json       how many lines are of each file
```
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from shopwindow.data import writer
from shopwindow.data.competition import MalformedRow, Reason, Row, columns_of
from shopwindow.data.dataset import FORMAT, MANIFEST, Dataset
from shopwindow.data.reading import RANGE_BYTES, CheckedLine, RowReader, read_range, row_start
from shopwindow.data.writer import DatasetWriter
from shopwindow.files import (
    DataError,
    check_fields,
    is_plain_file,
    is_unpacked,
    open_bytes,
    parse_json,
    read_text,
    reading,
    text_lines,
)
from shopwindow.ids import id_from_text
from shopwindow.shards import Shard, emptied

_SHARD_BYTES: Final = 2**28
_SAMPLES: Final = 16
_SAMPLE_BYTES: Final = 2**16
_LINES_AT_ONCE: Final = 4096
_PRODUCTS_AT_ONCE: Final = 512
LEAST_LINKED_BYTES: Final = 2**26
"""Of a shard's products, from which on its file becomes a file of the dataset, not its rows rows of a larger one."""
_MALFORMED: Final = "malformed.jsonl"
_COUNTS: Final = "counts.json"


@dataclass(frozen=True)
class LineWork:
    """Competition files, plain ones, and how many values a feature has; None: as many as most of the first rows."""

    tsv: tuple[str, ...]
    feature_size: int | None = None
    things: str = "lines"

    def usual_count(self) -> int:
        """One shard for every 256 MB."""
        return -(-sum(self._sizes()) // _SHARD_BYTES)

    def settings(self) -> dict[str, Any]:
        """The files by size and 16 samples of their bytes, and how many values a feature has."""
        files = [_sampled(Path(name), size) for name, size in zip(self.tsv, self._sizes(), strict=True)]
        return {"verb": "prepare", "files": files, "feature_size": self.size()}

    def size(self) -> int:
        """Values of a feature."""
        if self.feature_size is not None:
            return self.feature_size
        reader = RowReader(Path())
        next(reader.rows(Path(self.tsv[0])), None)
        return reader.feature_size or 1

    def do(self, shard: Shard) -> int:
        """Reads the lines that begin in the shard's stretch of all files' bytes."""
        folder = emptied(lines_of(shard.path))
        size = self.size()
        counts = []
        with _ShardWriter(folder) as store:
            for name, begin, end in self._ranges(shard):
                path, before = Path(name), store.lines
                start = row_start(path)
                for at in range(max(begin, start), end, RANGE_BYTES):
                    for line in read_range(path, at, min(at + RANGE_BYTES, end), start, size):
                        store.take(line)
                counts.append(store.lines - before)
        store.write_manifest(size, counts)
        return store.lines

    def _ranges(self, shard: Shard) -> list[tuple[str, int, int]]:
        """(file, first byte, end) of every file, laid end to end; nothing of those that are not the shard's."""
        sizes = self._sizes()
        rows = shard.rows(sum(sizes))
        starts = np.cumsum([0, *sizes]).tolist()
        return [
            (name, min(max(rows.start - start, 0), size), min(max(rows.stop - start, 0), size))
            for name, start, size in zip(self.tsv, starts, sizes, strict=False)
        ]

    def _sizes(self) -> list[int]:
        """Bytes of every file. Raises: DataError for one that has no stretches."""
        for name in self.tsv:
            if not is_plain_file(name):
                raise DataError("no such plain file; a pipe cannot be read in shards", path=name)
            with open_bytes(name) as file:
                if is_unpacked(file):
                    raise DataError("is gzipped and cannot be read in shards; unpack it first", path=name)
        return [Path(name).stat().st_size for name in self.tsv]


class _ShardWriter:
    """Stores checked lines in a folder."""

    def __init__(self, folder: Path) -> None:
        self.lines = 0
        self._folder = folder
        self._new: list[Row] = []
        self._new_bytes = 0
        with contextlib.ExitStack() as stack:
            self._malformed = stack.enter_context((folder / _MALFORMED).open("w", encoding="utf-8"))
            self._store = stack.enter_context(DatasetWriter(folder))
            stack.callback(self._flush)
            self._open = stack.pop_all()

    def __enter__(self) -> _ShardWriter:
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def take(self, line: CheckedLine) -> None:
        """Stores a line."""
        row = line.row
        if isinstance(row, MalformedRow):
            entry = {"at": self.lines, "reason": row.reason, "field": row.field, "detail": row.detail}
            self._malformed.write(json.dumps(entry) + "\n")
        else:
            self._store.add_pair(self._product(row, line.digest), self._query(row), training=True)
        self.lines += 1

    def write_manifest(self, feature_size: int, counts: list[int]) -> None:
        """What makes a dataset of the folder, where it holds products; and the lines of each file."""
        (self._folder / _COUNTS).write_text(json.dumps(counts) + "\n", encoding="utf-8")
        if not self._store.shards:
            return
        manifest = {
            "format": FORMAT,
            "feature_size": feature_size,
            "label_count": self._store.label_count,
            "content_hash": "",
            "sources": [],
            "rules": [],
            "shards": self._store.shards,
            "report": {},
        }
        (self._folder / MANIFEST).write_text(json.dumps(manifest) + "\n", encoding="utf-8")

    def _product(self, row: Row, digest: bytes) -> int:
        name = f"{digest.hex()} {row.product_id}"
        known = self._store.products.get(name)
        if known is not None:
            return known.row
        self._new.append(row)
        self._new_bytes += row.features.nbytes
        if self._new_bytes >= writer.CHUNK_BYTES:
            self._flush()
        return self._store.products.add(name, b"")

    def _query(self, row: Row) -> int:
        text = f"{row.query_id}\t{row.query}"
        name = hashlib.sha256(text.encode()).hexdigest()
        known = self._store.queries.get(name)
        return self._store.queries.add(name, text) if known is None else known.row

    def _flush(self) -> None:
        if self._new:
            self._store.add_regions(columns_of(self._new))
            self._new, self._new_bytes = [], 0


class ShardReader:
    """Reads the lines of competition files from their shards, as `RowReader` does from the files. `at_end` is called
    with the dataset of a shard, where it has one, after its lines of a file.

    Raises: DataError where files of a shard do not belong together.
    """

    def __init__(
        self, shards: Sequence[Path], feature_size: int, *, at_end: Callable[[Dataset], None]
    ) -> None:
        self.feature_size = feature_size
        self._shards = [lines_of(path) for path in shards]
        self._at_end = at_end
        self._file = 0

    def rows(self, path: Path) -> Iterator[CheckedLine]:  # noqa: ARG002 - files come in the order of the shards
        """Every line of the next file, in order; rows without features."""
        number, self._file = self._file, self._file + 1
        for folder in self._shards:
            counts = parse_json(read_text(folder / _COUNTS), folder / _COUNTS)
            dataset = Dataset(folder) if (folder / MANIFEST).is_file() else None
            begin = sum(counts[:number])
            yield from _lines_in(folder, dataset, begin, begin + counts[number])
            if dataset is not None:
                self._at_end(dataset)


def lines_of(shard: Path) -> Path:
    """Where the lines of a shard lie."""
    return shard / "lines"


def products_bytes(shard: Dataset) -> int:
    """Bytes of the products files of a shard."""
    return sum((shard.path / entry["file"]).stat().st_size for entry in shard.manifest["shards"])


def rows_of_products(shard: Dataset, products: Sequence[int]) -> Iterator[Row]:
    """Some products of a shard with their features; their queries are empty. A few hundred are in memory."""
    for start in range(0, len(products), _PRODUCTS_AT_ONCE):
        some = np.array(products[start : start + _PRODUCTS_AT_ONCE])
        features = _parts(shard.regions(some).features.numpy(), shard.region_counts[some])
        for photo, values in zip(_photos(shard, some), features, strict=True):
            yield Row(photo.product_id, 0, "", photo.size, photo.boxes, values, photo.labels)


def _lines_in(folder: Path, dataset: Dataset | None, begin: int, end: int) -> Iterator[CheckedLine]:
    """Some lines of a shard, counted from 0."""
    malformed = dict(_malformed(folder / _MALFORMED))
    good = begin - sum(at < begin for at in malformed)
    count = end - begin - sum(begin <= at < end for at in malformed)
    rows = iter(()) if dataset is None else _good_lines(dataset, good, good + count)
    for at in range(begin, end):
        yield CheckedLine(malformed[at], 0) if at in malformed else next(rows)


def _good_lines(dataset: Dataset, begin: int, end: int) -> Iterator[CheckedLine]:
    """The rows of some pairs of a shard; a few thousand are in memory."""
    parts = (one.partition("\t") for one in dataset.query_texts)
    queries = [(id_from_text(name), text) for name, _, text in parts]
    for start in range(begin, end, _LINES_AT_ONCE):
        here = slice(start, min(start + _LINES_AT_ONCE, end))
        products, places = np.unique(dataset.pair_products[here], return_inverse=True)
        photos, numbers = _photos(dataset, products), products.tolist()
        for place, query in zip(places.tolist(), dataset.pair_queries[here].tolist(), strict=True):
            photo, (query_id, text) = photos[place], queries[query]
            none = np.empty((len(photo.labels), 0), np.float16)
            row = Row(photo.product_id, query_id, text, photo.size, photo.boxes, none, photo.labels)
            yield CheckedLine(row, 0, photo.digest, numbers[place])


class _Photo(NamedTuple):
    """What a shard knows of a product but its features."""

    product_id: int | str
    digest: bytes
    size: tuple[int, int]
    boxes: Float32[np.ndarray, "regions 4"]
    labels: Int64[np.ndarray, " regions"]


def _photos(dataset: Dataset, products: Int64[np.ndarray, " asked"]) -> list[_Photo]:
    counts = dataset.region_counts[products]
    names = [name.partition(" ") for name in dataset.product_ids[products].tolist()]
    return list(
        map(
            _Photo,
            [id_from_text(name) for _, _, name in names],
            [bytes.fromhex(digest) for digest, _, _ in names],
            [(height, width) for height, width in dataset.image_sizes(products).tolist()],
            _parts(dataset.boxes(products), counts),
            _parts(dataset.labels(products), counts),
        )
    )


def _parts(values: np.ndarray, counts: Int64[np.ndarray, " parts"]) -> list[np.ndarray]:
    """Views of stretches that lie end to end; `np.split` takes five times as long."""
    ends = np.cumsum(counts).tolist()
    return [values[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _malformed(path: Path) -> Iterator[tuple[int, MalformedRow]]:
    for number, line in text_lines(path):
        entry = parse_json(line, path)
        check_fields(entry, {"at": int, "reason": str, "field": str, "detail": str}, f"{path} line {number}")
        yield entry["at"], MalformedRow(Reason(entry["reason"]), entry["field"], entry["detail"])


def _sampled(path: Path, size: int) -> list[Any]:
    """Name, bytes and a hash of samples of a file: to read terabytes for their hash would take longer than the work."""
    digest = hashlib.sha256()
    with reading(path), path.open("rb") as file:
        for number in range(_SAMPLES):
            file.seek(max(size - _SAMPLE_BYTES, 0) * number // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return [path.name, size, digest.hexdigest()]
