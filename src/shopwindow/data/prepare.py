"""How do competition files become a dataset, in one pass and in little memory?

Lines are split, checked, cleaned and handed to the writer; what is malformed goes to `rejected.jsonl`. The
dataset appears whole or not at all, and equal input gives equal bytes. Knows no model.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np

from shopwindow.data.checking import GoodRow, LineCheck, check_line
from shopwindow.data.cleaning import RULES, Report, Rule
from shopwindow.data.competition import (
    FEATURE_SIZE,
    HEADER,
    LABEL_COUNT,
    LONGEST_LINE,
    MalformedRow,
    Reason,
)
from shopwindow.data.dataset import FORMAT, MANIFEST, REJECTED, WEIGHTS
from shopwindow.data.float16 import load_torch
from shopwindow.data.lines import LineReader
from shopwindow.data.once import read_once
from shopwindow.data.ranges import MOST_PROCESSES, Checked, RangeReaders
from shopwindow.data.weights import WeightTable
from shopwindow.data.writer import DatasetWriter
from shopwindow.files import DataError, is_plain_file, open_bytes, reading, whole_directory, whole_file

ALLOWED_MALFORMED: Final = 0.01
FROM_THE_TABLE: Final = "pairs that have one"
NOT_IN_THE_TABLE: Final = "pairs without one, 1 each"
OF_NO_ROW: Final = "of pairs that no good row has"
_HOPELESS_ROWS: Final = 1000
_ROWS_BETWEEN_PROGRESS: Final = 250
_LONGEST_HEADER: Final = 4096
TORCH_PAYS_BYTES: Final = 4 * 10**9
"""Text of one process from which on loading torch takes less time than it saves: two seconds, some 0.7 ns a byte."""

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
    processes: int = 1,
    weights: str | Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Cleans competition files into one dataset at `out`; gives the report that the dataset keeps.

    With more than one process that many read and check plain files together, and this one stores (`ranges.py`); what
    is gzipped or comes through a pipe is read here. The dataset is the same to the byte. They are fresh
    interpreters: a script that asks for them needs `if __name__ == "__main__":`.

    The same product in many rows is stored once. A row whose product id or query id was seen before
    with other content is a conflict: the first stays, the row is rejected and counted as malformed.

    `weights` is a table of product_id, query_id, weight (`weights.py`). A pair that stands in several rows has its
    weight in each; one that the table lacks weighs 1. The table may name pairs whose rows a rule drops, and as many
    others as there are malformed rows, whose pairs are not known; more are an error.

    Raises: DataError for a file that is missing or has another header; when more than 1 % of the rows
    are malformed and `allow_malformed` is not set, or no row is left (then `OUT.rejected.jsonl` lists the
    malformed ones); for weights that are wrong; when the disk is full. ValueError for no file, a feature size below 1,
    or other than 1 to MOST_PROCESSES processes.
    """
    paths = [Path(source) for source in sources]
    if not paths:
        raise ValueError("no file to prepare")
    if feature_size < 1:
        raise ValueError(f"feature size {feature_size}: at least 1 is wanted")
    if not 1 <= processes <= MOST_PROCESSES:
        raise ValueError(f"processes: {processes}, from 1 to {MOST_PROCESSES} are wanted")
    how = LineCheck(feature_size, label_count, rules)
    out = Path(out).absolute()
    beside = out.parent / f"{out.name}.rejected.jsonl"
    try:
        with whole_directory(out, marker=MANIFEST) as folder:
            with contextlib.ExitStack() as stack:
                fast = _plain_bytes(paths) >= TORCH_PAYS_BYTES * processes
                readers = None
                if processes > 1:
                    readers = stack.enter_context(RangeReaders(folder, how, processes, fast=fast))
                elif fast:
                    load_torch()
                table = None if weights is None else stack.enter_context(WeightTable(weights, folder))
                writer = stack.enter_context(DatasetWriter(folder, feature_size, weighted=table is not None))
                rejected = stack.enter_context((folder / REJECTED).open("w", encoding="utf-8"))
                intake = _Intake(writer, rejected, how, table)
                _feed(intake, paths, progress, readers, stop_when_hopeless=not allow_malformed)
                strangers = _count_unmet(intake)
            problem = _problem(intake, allow_malformed=allow_malformed)
            if problem is not None:
                if intake.first_malformed is None:
                    raise DataError(problem, path=paths[0])
                _keep_beside(folder / REJECTED, beside)
                file, line = intake.first_malformed
                raise DataError(f"{problem}; all are listed in {beside}", path=file, line=line)
            if strangers is not None:
                raise strangers
            _write_manifest(folder, intake, [path.name for path in paths])
    except sqlite3.Error as error:
        raise DataError(f"cannot be written: {error}", path=out) from error
    beside.unlink(missing_ok=True)
    return intake.report


@dataclass
class _Intake:
    """Takes one checked line after the other: cleans it, hands it to the writer, counts it."""

    writer: DatasetWriter
    rejected: TextIO
    how: LineCheck
    weights: WeightTable | None = None
    report: Report = field(default_factory=Report)
    first_malformed: tuple[str, int] | None = None
    content: Any = field(default_factory=hashlib.sha256)

    @property
    def looks_hopeless(self) -> bool:
        """Whether most of a fair number of rows is malformed: then the rest need not be read."""
        return self.report.rows >= _HOPELESS_ROWS and 2 * self.report.malformed_rows > self.report.rows

    def take(self, row: GoodRow | MalformedRow, source: str, number: int) -> None:
        self.report.rows += 1
        try:
            if isinstance(row, MalformedRow):
                raise row
            self._store(row)
        except MalformedRow as malformed:
            self.report.malformed[malformed.reason] += 1
            self.first_malformed = self.first_malformed or (source, number)
            entry = {
                "file": source,
                "line": number,
                "reason": malformed.reason,
                "field": malformed.field,
                "detail": malformed.detail,
            }
            self.rejected.write(json.dumps(entry) + "\n")

    def _store(self, row: GoodRow) -> None:
        known_product = self.writer.seen_product(row.product_id)
        known_query = self.writer.seen_query(row.query_id)
        if known_product is not None and known_product[1] != row.digest:
            raise MalformedRow(Reason.PRODUCT_CONFLICT, "product_id", str(row.product_id))
        if known_query is not None and known_query[1] != row.query:
            raise MalformedRow(
                Reason.QUERY_CONFLICT,
                "query_id",
                f"{row.query_id}: {known_query[1][:60]!r}, now {row.query[:60]!r}",
            )
        weight = None if self.weights is None else self.weights.of(row.product_id, row.query_id)
        broken = [self.how.rules[place] for place in row.broken]
        for rule in broken:
            self.report.rules[rule.name] += 1
        if any(rule.drops_row for rule in broken):
            return
        if known_product is None:
            product_row = self.writer.add_product(row)
            self.report.products += 1
            self.report.regions += len(row.regions)
        else:
            product_row = known_product[0]
        if known_query is None:
            query_row = self.writer.add_query(row.query_id, row.query)
            self.report.queries += 1
        else:
            query_row = known_query[0]
        training = not broken
        self.writer.add_pair(product_row, query_row, training=training, weight=weight or 1.0)
        self.report.pairs += 1
        self.report.training_pairs += training
        self.content.update(row.digest + row.query.encode() + b"\t%d\t%d\n" % (row.query_id, training))
        if self.weights is not None:
            self.report.weights[FROM_THE_TABLE if weight else NOT_IN_THE_TABLE] += 1
            self.content.update(b"%r" % float(np.float32(weight or 1.0)))


def _plain_bytes(paths: list[Path]) -> int:
    """Of the files whose size is known; packed ones are longer."""
    return sum(path.stat().st_size for path in paths if is_plain_file(path))


def _count_unmet(intake: _Intake) -> DataError | None:
    """Counts the weights of pairs that were not read; the error, where more are unknown than rows are malformed."""
    if intake.weights is None:
        return None
    count, error = intake.weights.unmet()
    intake.report.weights[OF_NO_ROW] += count
    return error if count > intake.report.malformed_rows else None


def _feed(
    intake: _Intake,
    paths: list[Path],
    progress: Progress | None,
    readers: RangeReaders | None,
    *,
    stop_when_hopeless: bool,
) -> None:
    sizes = [path.stat().st_size if is_plain_file(path) else 0 for path in paths]
    total = sum(sizes) if all(sizes) else 0
    for path, before in zip(paths, np.cumsum([0, *sizes]).tolist(), strict=False):
        for number, row, position in _rows(path, intake.how, readers):
            intake.take(row, str(path), number)
            if intake.report.rows % _ROWS_BETWEEN_PROGRESS:
                continue
            if progress is not None:
                progress(intake.report.rows, before + position, total)
            if stop_when_hopeless and intake.looks_hopeless:
                return
    if progress is not None:
        progress(intake.report.rows, sum(sizes), total)


def _rows(source: Path, how: LineCheck, readers: RangeReaders | None) -> Iterator[Checked]:
    """Every line after the header, checked, in order: read by the readers where there are any and the file is plain."""
    with open_bytes(source) as file:
        _check_header(file.readline(_LONGEST_HEADER), source)
        if not is_plain_file(source) or isinstance(file, gzip.GzipFile):
            yield from _streamed(file, how)
            return
        start, found = file.tell(), _state(os.fstat(file.fileno()))
        if readers is None:

            def read(memory: memoryview, place: int) -> int:
                return read_once(file.fileno(), memory, place)

            lines = LineReader(LONGEST_LINE).lines(read, start)
            for number, (line, end) in enumerate(lines, start=2):
                yield number, check_line(line, how), end
    if readers is not None:
        yield from readers.rows(source, start)
    with reading(source):
        if _state(source.stat()) != found:
            raise DataError("was changed while it was read", path=source)


def _state(file: os.stat_result) -> tuple[int, int, int]:
    """Which file it is, how long, and when it was written last."""
    return file.st_ino, file.st_size, file.st_mtime_ns


def _streamed(file: io.BufferedIOBase, how: LineCheck) -> Iterator[Checked]:
    """The lines of what can only be read on: gzip, a pipe."""
    on_disk = getattr(file, "fileobj", file)
    seekable = on_disk.seekable()
    lines = LineReader(LONGEST_LINE).lines(lambda memory, _: file.readinto1(memory))
    for number, (line, _) in enumerate(lines, start=2):
        yield number, check_line(line, how), on_disk.tell() if seekable else 0


def _check_header(line: bytes, source: Path) -> None:
    header = line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    if header.split(b"\t") != [name.encode() for name in HEADER]:
        got = repr(header[:80].decode("utf-8", "replace")) if line else "the file is empty"
        raise DataError(
            f"no competition file: wanted the header {' '.join(HEADER)!r} with tabs, got: {got}",
            path=source,
            line=1,
        )


def _problem(intake: _Intake, *, allow_malformed: bool) -> str | None:
    report = intake.report
    reasons = ", ".join(f"{count} {reason}" for reason, count in report.malformed.most_common(4))
    if report.malformed_rows > ALLOWED_MALFORMED * report.rows and not allow_malformed:
        share = report.malformed_rows / report.rows
        return (
            f"{report.malformed_rows} of {report.rows} rows read are malformed ({share:.1%}; at most"
            f" {ALLOWED_MALFORMED:.0%} is accepted; --allow-malformed stores the others): {reasons}"
        )
    if report.pairs == 0:
        dropped = ", ".join(f"{count} by rule {name}" for name, count in report.rules.items())
        return f"no row is left to store of {report.rows}: {reasons or dropped or 'there were none'}"
    return None


def _keep_beside(rejected: Path, beside: Path) -> None:
    with whole_file(beside) as copy:
        shutil.copyfile(rejected, copy)


def _write_manifest(folder: Path, intake: _Intake, names: list[str]) -> None:
    manifest = {
        "format": FORMAT,
        "feature_size": intake.how.feature_size,
        "content_hash": intake.content.hexdigest(),
        "sources": names,
        "rules": [rule.name for rule in intake.how.rules],
        "shards": intake.writer.shards,
        "report": intake.report.to_json(),
    }
    if intake.weights is not None:
        manifest["weights"] = {"file": WEIGHTS, "sha256": intake.writer.weights_sha256}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
