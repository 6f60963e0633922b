"""How do competition files become a dataset, in one pass and in little memory?

Lines are split, checked, cleaned and handed to the writer; what is malformed goes to `rejected.jsonl`. The
dataset appears whole or not at all, and equal input gives equal bytes. Knows no model.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np

from shopwindow.data import writer
from shopwindow.data.cleaning import RULES, Report, Rule
from shopwindow.data.competition import MalformedRow, Reason, Row, columns_of
from shopwindow.data.dataset import FORMAT, MANIFEST, REJECTED, WEIGHTS, Dataset
from shopwindow.data.line_shards import (
    LEAST_LINKED_BYTES,
    LineWork,
    ShardReader,
    products_bytes,
    rows_of_products,
)
from shopwindow.data.reading import MOST_PROCESSES, CheckedLine, RowReader
from shopwindow.data.weights import WeightTable
from shopwindow.data.writer import DatasetWriter
from shopwindow.files import DataError, is_plain_file, whole_directory, whole_file
from shopwindow.ids import Spellings, other_spelling_problem

ALLOWED_MALFORMED: Final = 0.01
FROM_THE_TABLE: Final = "pairs that have one"
NOT_IN_THE_TABLE: Final = "pairs without one, 1 each"
OF_NO_ROW: Final = "of pairs that no good row has"
TORCH_PAYS_BYTES: Final = 4 * 10**9
"""Text of one process from which on loading torch takes less time than it saves: two seconds, some 0.7 ns a byte."""
_HOPELESS_ROWS: Final = 1000
_ROWS_BETWEEN_PROGRESS: Final = 250

Progress = Callable[[int, int, int], None]
"""Called with rows read, bytes read, bytes in all (0 when unknown)."""


def prepare(
    sources: Iterable[str | Path],
    out: str | Path,
    *,
    feature_size: int | None = None,
    rules: tuple[Rule, ...] = RULES,
    allow_malformed: bool = False,
    processes: int = 1,
    weights: str | Path | None = None,
    shards: Sequence[Path] = (),
    progress: Progress | None = None,
) -> Report:
    """Cleans competition files into one dataset at `out`; gives the report that the dataset keeps.

    Ids are any text. A feature has `feature_size` values; where that is not given, as most of the first rows have.
    With more than one process that many read and check plain files together, and this one stores (`reading.py`). With
    `shards`, folders of a finished `LineWork` of the same files, no file is read here. The dataset is the same to the
    byte; of large shards its products files are others, with the same content.

    The same product in many rows is stored once. A row whose product id or query id was seen before
    with other content is a conflict: the first stays, the row is rejected and counted as malformed. Among integers an
    id such as `100.0` is an error: a program changed its spelling.

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
    if feature_size is not None and feature_size < 1:
        raise ValueError(f"feature size {feature_size}: at least 1 is wanted")
    if not 1 <= processes <= MOST_PROCESSES:
        raise ValueError(f"processes: {processes}, from 1 to {MOST_PROCESSES} are wanted")
    out = Path(out).absolute()
    large = sum(_sizes(paths)) >= TORCH_PAYS_BYTES * processes
    try:
        with whole_directory(out, marker=MANIFEST) as folder:
            with contextlib.ExitStack() as stack:
                table = None if weights is None else stack.enter_context(WeightTable(weights, folder))
                rejected = stack.enter_context((folder / REJECTED).open("w", encoding="utf-8"))
                writer = stack.enter_context(DatasetWriter(folder, weighted=table is not None))
                intake = _Intake(writer, rejected, rules, table)
                reader: RowReader | ShardReader
                if shards:
                    size = LineWork(tuple(map(str, paths)), feature_size).size()
                    reader = ShardReader(shards, size, at_end=intake.take_products)
                else:
                    reader = stack.enter_context(
                        RowReader(folder, feature_size=feature_size, processes=processes, with_torch=large)
                    )
                _feed(intake, reader, paths, progress, stop_when_hopeless=not allow_malformed)
                intake.flush()
                unmet = _count_unmet(intake)
            _check(intake, paths[0], folder, out, allow_malformed=allow_malformed)
            _check_spellings(intake)
            if unmet is not None:
                raise unmet
            _write_manifest(folder, intake, [path.name for path in paths], reader.feature_size or 1)
    except sqlite3.Error as error:
        raise DataError(f"cannot be written: {error}", path=out) from error
    _beside(out).unlink(missing_ok=True)
    return intake.report


@dataclass
class _Intake:
    """Takes one checked line after the other: cleans it, hands it to the writer, counts it."""

    writer: DatasetWriter
    rejected: TextIO
    rules: tuple[Rule, ...]
    weights: WeightTable | None = None
    report: Report = field(default_factory=Report)
    first_malformed: tuple[str, int] | None = None
    content: Any = field(default_factory=hashlib.sha256)
    new: list[Row] = field(default_factory=list)
    new_bytes: int = 0
    new_of_shard: list[int] = field(default_factory=list)
    """Numbers of new products in the shard that is read."""
    place: tuple[str, int] = ("", 0)
    """File and line of the row that is taken."""
    spellings: dict[str, Spellings] = field(
        default_factory=lambda: {"product_id": Spellings(), "query_id": Spellings()}
    )

    @property
    def looks_hopeless(self) -> bool:
        """Whether most of a fair number of rows is malformed: then the rest need not be read."""
        return self.report.rows >= _HOPELESS_ROWS and 2 * self.report.malformed_rows > self.report.rows

    def take(self, line: CheckedLine, source: str, number: int) -> None:
        self.report.rows += 1
        self.place = source, number
        try:
            if isinstance(line.row, MalformedRow):
                raise line.row
            self._store(line.row, line)
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

    def flush(self) -> None:
        """Stores the products that wait."""
        if self.new:
            self.writer.add_regions(columns_of(self.new))
            self.new, self.new_bytes = [], 0

    def take_products(self, shard: Dataset) -> None:
        """Stores the new products of a shard: its file as it is, where all are new and it is large, else one by one."""
        new, self.new_of_shard = self.new_of_shard, []
        if new == list(range(len(shard.product_ids))) and products_bytes(shard) >= LEAST_LINKED_BYTES:
            self.flush()
            for entry in shard.manifest["shards"]:
                self.writer.add_file(shard.path / entry["file"], entry["products"], shard.label_count)
            return
        for row in rows_of_products(shard, new):
            self._keep(row)

    def _store(self, row: Row, line: CheckedLine) -> None:
        products, queries, digest = self.writer.products, self.writer.queries, line.digest
        product, query = products.get(row.product_id), queries.get(row.query_id)
        if product is not None and product.content != digest:
            raise MalformedRow(Reason.PRODUCT_CONFLICT, "product_id", str(row.product_id))
        if query is not None and query.content != row.query:
            known = f"{row.query_id}: {query.content[:60]!r}, now {row.query[:60]!r}"
            raise MalformedRow(Reason.QUERY_CONFLICT, "query_id", known)
        weight = None if self.weights is None else self.weights.of(row.product_id, row.query_id)
        broken = [rule for rule in self.rules if rule.breaks(row)]
        self.report.rules.update(rule.name for rule in broken)
        if any(rule.drops_row for rule in broken):
            return
        if product is None:
            self.spellings["product_id"].take(row.product_id, self.place)
        if query is None:
            self.spellings["query_id"].take(row.query_id, self.place)
        product_row = self._add_product(row, line) if product is None else product.row
        query_row = queries.add(row.query_id, row.query) if query is None else query.row
        self.report.queries += query is None
        training = not broken
        self.writer.add_pair(product_row, query_row, training=training, weight=weight or 1.0)
        self.report.pairs += 1
        self.report.training_pairs += training
        self.content.update(digest + f"{row.query}\t{row.query_id}\t{training:d}\n".encode())
        if self.weights is not None:
            self.report.weights[FROM_THE_TABLE if weight else NOT_IN_THE_TABLE] += 1
            self.content.update(b"%r" % float(np.float32(weight or 1.0)))

    def _add_product(self, row: Row, line: CheckedLine) -> int:
        self.report.products += 1
        self.report.regions += len(row.labels)
        if line.product is None:
            self._keep(row)
        else:
            self.new_of_shard.append(line.product)
        return self.writer.products.add(row.product_id, line.digest)

    def _keep(self, row: Row) -> None:
        self.new.append(row)
        self.new_bytes += row.features.nbytes
        if self.new_bytes >= writer.CHUNK_BYTES:
            self.flush()


def _count_unmet(intake: _Intake) -> DataError | None:
    """Counts the weights of pairs that were not read; the error, where more are unknown than rows are malformed."""
    if intake.weights is None:
        return None
    count, error = intake.weights.unmet()
    intake.report.weights[OF_NO_ROW] += count
    return error if count > intake.report.malformed_rows else None


def _feed(
    intake: _Intake,
    reader: RowReader | ShardReader,
    paths: list[Path],
    progress: Progress | None,
    *,
    stop_when_hopeless: bool,
) -> None:
    sizes = _sizes(paths)
    total = sum(sizes) if all(sizes) else 0
    for path, before in zip(paths, np.cumsum([0, *sizes]).tolist(), strict=False):
        for number, line in enumerate(reader.rows(path), start=2):
            intake.take(line, str(path), number)
            if intake.report.rows % _ROWS_BETWEEN_PROGRESS:
                continue
            if progress is not None:
                progress(intake.report.rows, before + line.end, total)
            if stop_when_hopeless and intake.looks_hopeless:
                return
    if progress is not None:
        progress(intake.report.rows, sum(sizes), total)


def _sizes(paths: list[Path]) -> list[int]:
    """Bytes of every file; 0 of a stream."""
    return [path.stat().st_size if is_plain_file(path) else 0 for path in paths]


def _check(intake: _Intake, path: Path, folder: Path, out: Path, *, allow_malformed: bool) -> None:
    """Raises: DataError where too many rows are malformed, or none is left; the list of them is kept beside `out`."""
    problem = _problem(intake, allow_malformed=allow_malformed)
    if problem is None:
        return
    if intake.first_malformed is None:
        raise DataError(problem, path=path)
    with whole_file(_beside(out)) as copy:
        shutil.copyfile(folder / REJECTED, copy)
    file, line = intake.first_malformed
    raise DataError(f"{problem}; all are listed in {_beside(out)}", path=file, line=line)


def _check_spellings(intake: _Intake) -> None:
    """Raises: DataError for an id that another program changed to another number's spelling."""
    for name, spellings in intake.spellings.items():
        if spellings.first is not None:
            word, (path, line) = spellings.first
            raise DataError(other_spelling_problem(word), path=path, line=line, field=name)


def _beside(out: Path) -> Path:
    return out.parent / f"{out.name}.rejected.jsonl"


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


def _write_manifest(folder: Path, intake: _Intake, names: list[str], feature_size: int) -> None:
    manifest = {
        "format": FORMAT,
        "feature_size": feature_size,
        "label_count": intake.writer.label_count,
        "content_hash": intake.content.hexdigest(),
        "sources": names,
        "rules": [rule.name for rule in intake.rules],
        "shards": intake.writer.shards,
        "report": intake.report.to_json(),
    }
    if intake.weights is not None:
        manifest["weights"] = {"file": WEIGHTS, "sha256": intake.writer.weights_sha256}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
