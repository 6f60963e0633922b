"""How are competition files read line by line, here or by several processes?

A file is cut into ranges of bytes; a line belongs to the range in which its first byte lies, so every range can be read
without the others. The rows come in the order of the file, whoever read them. Knows no id seen before and no dataset.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import multiprocessing
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from shopwindow.data.competition import HEADER, LONGEST_LINE, MalformedRow, Row, parse_row
from shopwindow.files import DataError, is_plain_file, is_unpacked, open_bytes, open_once, reading
from shopwindow.shards import check_main_guard, end_with_parent

MOST_PROCESSES: Final = 64
"""Many more than the one that stores keeps busy. Each takes 0.1 GB of memory, with torch 0.3."""
RANGE_BYTES: Final = 16 * 2**20
_RANGE_BUFFER_BYTES: Final = 2**20
"""What is read beyond the end of a range is read twice."""
_RANGES_AHEAD: Final = 2
"""Of each process: one is handed on while the next is read."""
_LONGEST_HEADER: Final = 4096
_FIRST_ROWS: Final = 32
"""So many lines, or as many as fill a range, say how many values a feature has."""


@dataclass(frozen=True)
class CheckedLine:
    """What one line is: a row as it is stored, and the name of its product's content; or why it is none.

    `end` counts the bytes of the file up to the end of the line; 0 where that is not known. A row of a shard has no
    features, but the number of its `product` there.
    """

    row: Row | MalformedRow
    end: int
    digest: bytes = b""
    product: int | None = None


class RowReader:
    """Reads competition files, one after the other, by this process or by several.

    `feature_size` is the number of values of a feature. Where none is given, the first rows of the first file say it.
    With `with_torch` whoever reads loads it, and rounds faster (`float16.py`).
    What is gzipped or comes through a pipe is read by this process. The others end with the block, or when this process
    is gone. They are fresh interpreters: a script that asks for them needs `if __name__ == "__main__":`. Features come
    back through files in `folder`, which last a moment: a pipe takes several times as long.
    """

    def __init__(
        self, folder: Path, *, feature_size: int | None = None, processes: int = 1, with_torch: bool = False
    ) -> None:
        self._folder = folder
        self.feature_size = feature_size
        self._processes = processes
        self._with_torch = with_torch
        self._open = contextlib.ExitStack()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> RowReader:
        if self._processes > 1:
            check_main_guard()
            # Spawned: a fork would copy the locks of this process's threads as they are at the moment.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self._processes, context, initializer=_start, initargs=(self._with_torch,)
            )
            self._open.callback(self._pool.shutdown, cancel_futures=True)
        elif self._with_torch:
            importlib.import_module("torch")
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def rows(self, path: Path) -> Iterator[CheckedLine]:
        """Every line after the header, in order.

        Raises: DataError where the file cannot be read, is no competition file, was changed meanwhile, or one of
        several processes was killed.
        """
        with open_bytes(path, once=True) as file:
            _check_header(file.readline(_LONGEST_HEADER), path)
            start, state = _place(file), _state(path)
            lines = _lines(file)
            first = [] if self.feature_size else _first(lines)
            if self.feature_size is None:
                self.feature_size = _common_feature_size(first)
            plain = state is not None and not is_unpacked(file)
            if self._pool is not None and plain:
                yield from self._by_ranges(self._pool, path, start, self.feature_size)
            else:
                for line in chain(first, lines):
                    yield _checked(line, _place(file), self.feature_size)
        with reading(path):
            if plain and _state(path) != state:
                raise DataError("was changed while it was read", path=path)

    def _by_ranges(
        self, pool: ProcessPoolExecutor, path: Path, start: int, feature_size: int
    ) -> Iterator[CheckedLine]:
        """The lines that begin at byte `start` or later, in order; no more than a few ranges are read ahead."""
        size = path.stat().st_size
        begins = iter(range(start, size, RANGE_BYTES))

        def ask(begin: int) -> tuple[Future[list[CheckedLine]], Path]:
            end, features = min(begin + RANGE_BYTES, size), self._folder / f"{begin}.features"
            return pool.submit(_read_to_file, features, path, begin, end, start, feature_size), features

        try:
            waiting = deque(map(ask, islice(begins, _RANGES_AHEAD * self._processes)))
            while waiting:
                lines, features = waiting.popleft()
                yield from _with_features(lines.result(), features, feature_size)
                waiting.extend(map(ask, islice(begins, 1)))
        except BrokenProcessPool as error:
            raise DataError("a process that read it ended early; is the memory full?", path=path) from error


def row_start(path: Path) -> int:
    """The byte at which the first row of a plain file begins. Raises: DataError where it is no competition file."""
    with open_bytes(path) as file:
        _check_header(file.readline(_LONGEST_HEADER), path)
        return _place(file)


def read_range(path: Path, begin: int, end: int, start: int, feature_size: int) -> list[CheckedLine]:
    """The lines whose first byte lies from `begin` to before `end`, in a file whose first row begins at `start`."""
    with reading(path), open_once(path, buffer_bytes=_RANGE_BUFFER_BYTES) as file:
        if begin > start:  # any byte, and not surely the first one of a line: the one before is looked at
            file.seek(begin - 1)
            _skip_line(file)
        else:
            file.seek(begin)
        lines = []
        place = file.tell()
        while place < end and (line := _line(file)):
            place = file.tell()
            lines.append(_checked(line, place, feature_size))
        return lines


def _read_to_file(
    file: Path, path: Path, begin: int, end: int, start: int, feature_size: int
) -> list[CheckedLine]:
    """As `read_range`, but the features of all rows lie in a new file, end to end; each row keeps none of them."""
    lines = read_range(path, begin, end, start, feature_size)
    with file.open("wb") as features:
        for place, line in enumerate(lines):
            if isinstance(line.row, Row):
                features.write(line.row.features.data)
                lines[place] = replace(line, row=replace(line.row, features=line.row.features[:, :0]))
    return lines


def _with_features(lines: list[CheckedLine], file: Path, feature_size: int) -> Iterator[CheckedLine]:
    """The lines with the features that lie in a file, which goes."""
    features = np.fromfile(file, np.float16).reshape(-1, feature_size)
    file.unlink()
    first = 0
    for line in lines:
        if isinstance(line.row, Row):
            last = first + len(line.row.labels)
            line = replace(line, row=replace(line.row, features=features[first:last]))
            first = last
        yield line


def _lines(file: io.BufferedIOBase) -> Iterator[bytes]:
    while line := _line(file):
        yield line


def _line(file: io.BufferedIOBase | BinaryIO) -> bytes:
    """The next line; empty at the end. Of one longer than LONGEST_LINE one byte more, and the rest is read past."""
    line = file.readline(LONGEST_LINE + 1)
    if len(line) > LONGEST_LINE and not line.endswith(b"\n"):
        _skip_line(file)
    return line


def _skip_line(file: io.BufferedIOBase | BinaryIO) -> None:
    while (part := file.readline(RANGE_BYTES)) and not part.endswith(b"\n"):
        pass


def _checked(line: bytes, end: int, feature_size: int) -> CheckedLine:
    try:
        row = parse_row(line, feature_size).rounded()
    except MalformedRow as malformed:
        return CheckedLine(malformed, end)
    return CheckedLine(row, end, row.digest())


def _first(lines: Iterator[bytes]) -> list[bytes]:
    """The first lines of a file, taken from it."""
    first: list[bytes] = []
    while len(first) < _FIRST_ROWS and sum(map(len, first)) < RANGE_BYTES and (line := next(lines, b"")):
        first.append(line)
    return first


def _common_feature_size(lines: list[bytes]) -> int:
    """Of how many values most features are; 1 where no line is a row."""
    sizes: Counter[int] = Counter()
    for line in lines:
        with contextlib.suppress(MalformedRow):
            sizes[parse_row(line).features.shape[1]] += 1
    return sizes.most_common(1)[0][0] if sizes else 1


def _place(file: io.BufferedIOBase) -> int:
    """How many bytes of the file on disk were read; 0 where it has no places."""
    on_disk: io.BufferedIOBase = getattr(getattr(file, "raw", None), "on_disk", file)
    return on_disk.tell() if on_disk.seekable() else 0


def _state(path: Path) -> tuple[int, int, int] | None:
    """Which file it is, how long, and when it was written last; None of a stream."""
    if not is_plain_file(path):
        return None
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _check_header(line: bytes, path: Path) -> None:
    header = line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    if header.split(b"\t") != [name.encode() for name in HEADER]:
        got = repr(header[:80].decode("utf-8", "replace")) if line else "the file is empty"
        raise DataError(
            f"no competition file: wanted the header {' '.join(HEADER)!r} with tabs, got: {got}",
            path=path,
            line=1,
        )


def _start(with_torch: bool) -> None:
    """What a reading process does first."""
    end_with_parent()
    if with_torch:
        importlib.import_module("torch").set_num_threads(1)
