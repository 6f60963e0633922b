"""How do competition files become a dataset, in one pass and in little memory?

Lines are split, checked, cleaned and appended to Arrow files; ids seen before are looked up in a
database on disk, so that memory grows neither with the rows nor with the products. The dataset appears
whole or not at all, and equal input gives equal bytes. Knows no model.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, TextIO

import numpy as np
import pyarrow as pa
import torch

from shopwindow.data.cleaning import RULES, Report, Rule
from shopwindow.data.competition import (
    FEATURE_SIZE,
    HEADER,
    LABEL_COUNT,
    MalformedRow,
    Product,
    Reason,
    Row,
    bounded_lines,
    split_row,
)
from shopwindow.data.dataset import (
    FORMAT,
    MANIFEST,
    PAIR_SCHEMA,
    PAIRS,
    QUERIES,
    QUERY_SCHEMA,
    REJECTED,
    product_schema,
)
from shopwindow.files import DataError, open_bytes, whole_directory, whole_file

ALLOWED_MALFORMED: Final = 0.01
SHARD_BYTES: Final = 2**30
CHUNK_BYTES: Final = 16 * 2**20
CHUNK_ROWS: Final = 65_536
_HOPELESS_ROWS: Final = 1000

Progress = Callable[[int, int, int], None]
"""Called with rows read, bytes read, bytes in all (0 when unknown)."""


def prepare(
    sources: Iterable[str | Path],
    out: str | Path,
    *,
    feature_size: int = FEATURE_SIZE,
    label_count: int = LABEL_COUNT,
    rules: tuple[Rule, ...] = RULES,
    allow_malformed: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Cleans competition files into one dataset at `out`; gives the report that the dataset keeps.

    The same product in many rows is stored once. A row whose product id or query id was seen before
    with other content is a conflict: the first stays, the row is rejected and counted as malformed.

    Raises: DataError for a file that is missing or has another header; when more than 1 % of the rows
    are malformed and `allow_malformed` is not set (then `OUT.rejected.jsonl` says which); when no row is left.
    """
    paths = [Path(source) for source in sources]
    if not paths:
        raise ValueError("no file to prepare")
    out = Path(out)
    with whole_directory(out, marker=MANIFEST) as folder:
        with (
            _Writer(folder, feature_size) as writer,
            (folder / REJECTED).open("w", encoding="utf-8") as rejected,
        ):
            intake = _Intake(writer, rejected, rules, feature_size, label_count)
            bytes_before, total_bytes = 0, sum(map(_size, paths))
            for path in paths:
                for position in _take_file(path, intake):
                    if progress is not None:
                        progress(intake.report.rows, bytes_before + position, total_bytes)
                    if intake.looks_hopeless and not allow_malformed:
                        break
                bytes_before += _size(path)
        report = intake.finish()
        if report.malformed_rows > ALLOWED_MALFORMED * report.rows and not allow_malformed:
            kept = out.with_name(out.name + ".rejected.jsonl")
            with whole_file(kept) as beside:
                beside.write_bytes((folder / REJECTED).read_bytes())
            file, line = intake.first_malformed
            raise DataError(_too_many_malformed(report, kept), path=file, line=line)
        if report.pairs == 0:
            raise DataError("no row is left to store", path=paths[0])
        _write_manifest(folder, writer, intake, [path.name for path in paths])
    out.with_name(out.name + ".rejected.jsonl").unlink(missing_ok=True)
    return report


@dataclass
class _Intake:
    """Takes one line after the other: checks it, cleans it, hands it to the writer, counts it."""

    writer: _Writer
    rejected: TextIO
    rules: tuple[Rule, ...]
    feature_size: int
    label_count: int
    report: Report = field(default_factory=Report)
    first_malformed: tuple[str, int] = ("", 0)
    content: Any = field(default_factory=hashlib.sha256)

    @property
    def looks_hopeless(self) -> bool:
        """Whether most of a fair number of rows is malformed: then the rest need not be read."""
        return self.report.rows >= _HOPELESS_ROWS and 2 * self.report.malformed_rows > self.report.rows

    def take(self, line: bytes, source: str, number: int) -> None:
        self.report.rows += 1
        try:
            self._store(split_row(line))
        except MalformedRow as malformed:
            self.report.malformed[malformed.reason] += 1
            if self.report.malformed_rows == 1:
                self.first_malformed = (source, number)
            entry = {
                "file": source,
                "line": number,
                "reason": malformed.reason,
                "field": malformed.field,
                "detail": malformed.detail,
            }
            self.rejected.write(json.dumps(entry) + "\n")

    def _store(self, row: Row) -> None:
        digest = hashlib.sha256(b"\t".join(row.product_columns)).digest()
        product = self.writer.seen_product(row.product_id)
        query = self.writer.seen_query(row.query_id)
        decoded = None
        if product is None:
            decoded = row.decode(feature_size=self.feature_size, label_count=self.label_count)
            regions = _as_float16(decoded)
        elif product[1] != digest:
            raise MalformedRow(Reason.PRODUCT_CONFLICT, "product_id", str(row.product_id))
        if query is not None and query[1] != row.query:
            raise MalformedRow(
                Reason.QUERY_CONFLICT,
                "query_id",
                f"{row.query_id}: {query[1][:60]!r}, now {row.query[:60]!r}",
            )
        broken = [rule for rule in self.rules if rule.breaks(row)]
        for rule in broken:
            self.report.rules[rule.name] += 1
        if any(rule.drops_row for rule in broken):
            return
        if decoded is not None:
            product_row = self.writer.add_product(decoded, regions, digest)
            self.report.regions += len(regions)
        elif product is not None:
            product_row = product[0]
        query_row = self.writer.add_query(row.query_id, row.query) if query is None else query[0]
        self.writer.add_pair(product_row, query_row, training=not broken)
        self.report.pairs += 1
        self.report.training_pairs += not broken
        self.content.update(digest + row.query.encode() + b"\t%d\n" % row.query_id)

    def finish(self) -> Report:
        self.report.products = self.writer.products
        self.report.queries = self.writer.queries
        return self.report


class _Writer:
    """Appends products, queries and pairs to the Arrow files of a dataset, a chunk at a time."""

    def __init__(self, folder: Path, feature_size: int) -> None:
        self.products = self.queries = 0
        self.shards: list[dict[str, Any]] = []
        self._folder = folder
        self._feature_size = feature_size
        self._chunk: list[tuple[Product, np.ndarray]] = []
        self._chunk_bytes = 0
        self._shard: Any = None
        self._shard_bytes = 0
        self._open = contextlib.ExitStack()

    def __enter__(self) -> _Writer:
        self._seen_path = self._folder / "seen.sqlite"
        self._seen = self._open.enter_context(contextlib.closing(sqlite3.connect(self._seen_path)))
        self._seen.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;"
            "CREATE TABLE product(id INTEGER PRIMARY KEY, row INTEGER, digest BLOB);"
            "CREATE TABLE query(id INTEGER PRIMARY KEY, row INTEGER, text TEXT);"
        )
        self._query_file = _Columns(self._open, self._folder / QUERIES, QUERY_SCHEMA)
        self._pair_file = _Columns(self._open, self._folder / PAIRS, PAIR_SCHEMA)
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._flush_products()
            self._close_shard()
            self._query_file.flush()
            self._pair_file.flush()
        elif self._shard is not None:
            self._shard.close()
        self._open.close()
        self._seen_path.unlink()

    def seen_product(self, product_id: int) -> tuple[int, bytes] | None:
        found: tuple[int, bytes] | None = self._seen.execute(
            "SELECT row, digest FROM product WHERE id = ?", (product_id,)
        ).fetchone()
        return found

    def seen_query(self, query_id: int) -> tuple[int, str] | None:
        found: tuple[int, str] | None = self._seen.execute(
            "SELECT row, text FROM query WHERE id = ?", (query_id,)
        ).fetchone()
        return found

    def add_product(self, product: Product, regions: np.ndarray, digest: bytes) -> int:
        row = self.products
        self._seen.execute("INSERT INTO product VALUES (?, ?, ?)", (product.product_id, row, digest))
        self.products += 1
        self._chunk.append((product, regions))
        self._chunk_bytes += regions.nbytes
        if self._chunk_bytes >= CHUNK_BYTES:
            self._flush_products()
        return row

    def add_query(self, query_id: int, text: str) -> int:
        row = self.queries
        self._seen.execute("INSERT INTO query VALUES (?, ?, ?)", (query_id, row, text))
        self.queries += 1
        self._query_file.append(query_id, text)
        return row

    def add_pair(self, product: int, query: int, *, training: bool) -> None:
        self._pair_file.append(product, query, training)

    def _flush_products(self) -> None:
        if not self._chunk:
            return
        schema = product_schema(self._feature_size)
        batch = _product_batch(self._chunk, schema)
        if self._shard is None:
            name = f"products-{len(self.shards):05d}.arrow"
            self.shards.append({"file": name, "products": 0})
            self._shard = pa.ipc.new_file(str(self._folder / name), schema)
        self._shard.write_batch(batch)
        self.shards[-1]["products"] += len(self._chunk)
        self._shard_bytes += self._chunk_bytes
        self._chunk, self._chunk_bytes = [], 0
        if self._shard_bytes >= SHARD_BYTES:
            self._close_shard()

    def _close_shard(self) -> None:
        if self._shard is not None:
            self._shard.close()
            self._shard, self._shard_bytes = None, 0


class _Columns:
    """A growing Arrow file of plain columns, written a chunk of rows at a time."""

    def __init__(self, stack: contextlib.ExitStack, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._file = stack.enter_context(pa.ipc.new_file(str(path), schema))
        self._rows: list[tuple[object, ...]] = []

    def append(self, *values: object) -> None:
        self._rows.append(values)
        if len(self._rows) >= CHUNK_ROWS:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [
                pa.array(column, kind) for column, kind in zip(columns, self._schema.types, strict=True)
            ]
            self._file.write_batch(pa.record_batch(arrays, schema=self._schema))
            self._rows = []


def _product_batch(chunk: list[tuple[Product, np.ndarray]], schema: pa.Schema) -> pa.RecordBatch:
    products = [product for product, _ in chunk]
    offsets = pa.array(np.cumsum([0, *(len(product.labels) for product in products)]), pa.int32())

    def ragged(rows: list[np.ndarray], name: str) -> pa.ListArray:
        values = np.concatenate(rows)
        flat = pa.array(values.reshape(-1))
        inner = flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        return pa.ListArray.from_arrays(offsets, inner).cast(schema.field(name).type)

    return pa.record_batch(
        [
            pa.array([product.product_id for product in products], pa.int64()),
            pa.array([product.image_h for product in products], pa.int32()),
            pa.array([product.image_w for product in products], pa.int32()),
            ragged([product.boxes for product in products], "boxes"),
            ragged([product.labels for product in products], "labels"),
            ragged([regions for _, regions in chunk], "regions"),
        ],
        schema=schema,
    )


def _as_float16(product: Product) -> np.ndarray:
    """The features rounded to float16, by torch (15 times faster here than numpy's cast).

    Raises: MalformedRow for a value that is NaN, infinite, or too large for float16.
    """
    writable = product.features if product.features.flags.writeable else product.features.copy()
    regions: np.ndarray = torch.from_numpy(writable).half().numpy()
    exponents = regions.view(np.uint16) & 0x7C00
    if (exponents == 0x7C00).any():
        region, place = np.argwhere(exponents == 0x7C00)[0]
        value = product.features[region, place]
        raise MalformedRow(
            Reason.FEATURE_NOT_FINITE,
            "features",
            f"value {place} of region {region} is {value} (float16 ends at 65504)",
        )
    return regions


def _take_file(source: Path, intake: _Intake) -> Iterator[int]:
    """Feeds a file to the intake; yields how many of its bytes are read, now and then."""
    with open_bytes(source) as file:
        lines = bounded_lines(file)
        header = next(lines, b"").removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
        if header.split(b"\t") != [name.encode() for name in HEADER]:
            shown = header[:80].decode("utf-8", "replace")
            raise DataError(
                f"no competition file: its header is {shown!r}, wanted {' '.join(HEADER)!r} with tabs",
                path=source,
                line=1,
            )
        for number, line in enumerate(lines, start=2):
            intake.take(line, str(source), number)
            if number % 250 == 1:
                yield _position(file)
        yield _size(source)


def _position(file: BinaryIO) -> int:
    """How far into the file on disk we are, in bytes; of a gzipped file, its packed bytes."""
    raw = getattr(file, "fileobj", file)
    return int(raw.tell()) if raw.seekable() else 0


def _size(source: Path) -> int:
    return source.stat().st_size if source.is_file() else 0


def _too_many_malformed(report: Report, kept: Path) -> str:
    share = report.malformed_rows / report.rows
    reasons = ", ".join(f"{count} {reason}" for reason, count in report.malformed.most_common(4))
    return (
        f"{report.malformed_rows} of {report.rows} rows are malformed ({share:.1%}; at most"
        f" {ALLOWED_MALFORMED:.0%} is accepted): {reasons}. The rows are listed in {kept};"
        " --allow-malformed prepares the others"
    )


def _write_manifest(folder: Path, writer: _Writer, intake: _Intake, names: list[str]) -> None:
    manifest = {
        "format": FORMAT,
        "feature_size": intake.feature_size,
        "content_hash": intake.content.hexdigest(),
        "sources": names,
        "rules": [rule.name for rule in intake.rules],
        "shards": writer.shards,
        "report": intake.report.to_json(),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
