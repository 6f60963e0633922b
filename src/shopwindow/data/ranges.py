"""How do several processes read one competition file, so that its rows come as if one had read it?

The file is cut into ranges of bytes. A line belongs to the range in which its first byte lies, so that every range can
be read without the others; processes take ranges in turn and check their lines, and the rows are handed on in the
order of the file. Regions come back through a mapped file beside the dataset, the rest through pipes.
Knows no id seen before and no writer.
"""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import numpy as np

from shopwindow.data.checking import GoodRow, LineCheck, check_line
from shopwindow.data.competition import LONGEST_LINE, MalformedRow, Reason
from shopwindow.data.float16 import load_torch
from shopwindow.data.lines import LineReader
from shopwindow.data.once import read_once
from shopwindow.files import DataError, reading

RANGE_BYTES: Final = 4 * 2**20
MOST_PROCESSES: Final = 64
"""Many more than the one that stores keeps busy; each takes two ranges of disk and 80 MB, with torch 260, of memory."""
_SLOTS: Final = 2
"""Ranges a process may be ahead: one is handed on while the next is read."""
_SPOOL: Final = "regions.spool"

Checked = tuple[int, GoodRow | MalformedRow, int]
"""Line number, what the line is, bytes of the file up to its end."""
_Told = tuple[int, tuple[Any, ...]]
"""End of a line, and of a good row all that is no array, with the count of its regions; of another why it is none."""


@dataclass(frozen=True)
class _Task:
    """Lines of `path` that begin at `start` or later and before `end`; their regions go to `slot`."""

    path: str
    start: int
    end: int
    slot: int


@dataclass(frozen=True)
class _Found:
    """The lines of a range. `regions` is None where they lie in the slot, end to end."""

    lines: list[_Told]
    boxes: np.ndarray
    labels: np.ndarray
    regions: np.ndarray | None


class RangeReaders:
    """Processes that read files together; they end with the block, or when the process that asks is gone.

    With `fast` each loads torch, which rounds quicker (`float16.load_torch`).
    """

    def __init__(self, folder: Path, how: LineCheck, processes: int, *, fast: bool = False) -> None:
        self._how = how
        self._fast = fast
        self._range_bytes = RANGE_BYTES
        # float16 takes 3/8 of its base64; a line that is longer than the range goes through the pipe.
        self._slot_bytes = -(-RANGE_BYTES // 2)
        self._connections: list[Connection] = []
        self._processes: list[BaseProcess] = []
        self._spool = folder / _SPOOL
        with contextlib.ExitStack() as stack:
            stack.callback(self._spool.unlink, missing_ok=True)
            # Written, not only sized: a full disk is an error here, and a crash when a page is first touched.
            with self._spool.open("wb") as spool:
                for _ in range(processes * _SLOTS):
                    spool.write(bytes(self._slot_bytes))
            self._slots = stack.enter_context(_mapped(self._spool))
            stack.callback(self._stop)
            for _ in range(processes):
                self._start()
            self._open = stack.pop_all()

    def __enter__(self) -> RangeReaders:
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def rows(self, path: Path, start: int) -> Iterator[Checked]:
        """The lines of a file that begin at byte `start` or later, in order; the first is line 2. The regions of a row
        hold until the next one is asked for: then they may be written over.

        Raises: DataError where the file cannot be read, or a process was killed.
        """
        tasks = self._tasks(path, start)
        everyone = len(self._connections)
        for place in range(min(len(tasks), _SLOTS * everyone)):
            self._ask(place % everyone, tasks[place])
        number = 1
        for place, task in enumerate(tasks):
            found = self._answer(place % everyone, path)
            for row, end in self._given(found, task.slot):
                number += 1
                yield number, row, end
            following = place + _SLOTS * everyone
            if following < len(tasks):
                self._ask(place % everyone, tasks[following])

    def _tasks(self, path: Path, start: int) -> list[_Task]:
        size = path.stat().st_size
        starts = [
            start,
            *range((start // self._range_bytes + 1) * self._range_bytes, size, self._range_bytes),
        ]
        everyone = len(self._connections)
        return [
            _Task(str(path), begin, end, place // everyone % _SLOTS + place % everyone * _SLOTS)
            for place, (begin, end) in enumerate(zip(starts, [*starts[1:], size], strict=True))
        ]

    def _given(self, found: _Found, slot: int) -> Iterator[tuple[GoodRow | MalformedRow, int]]:
        size = self._how.feature_size
        if found.regions is None:
            place = slot * self._slot_bytes
            regions = np.frombuffer(self._slots, np.float16, len(found.labels) * size, place).reshape(
                -1, size
            )
        else:
            regions = found.regions
        first = 0
        for end, told in found.lines:
            if isinstance(told[0], str):
                reason, field, detail = told
                yield MalformedRow(Reason(reason), field, detail), end
                continue
            product_id, image_h, image_w, query, query_id, digest, broken, count = told
            mine = slice(first, first + count)
            yield (
                GoodRow(
                    product_id,
                    image_h,
                    image_w,
                    query,
                    query_id,
                    digest,
                    broken,
                    found.boxes[mine],
                    found.labels[mine],
                    regions[mine],
                ),
                end,
            )
            first += count

    def _ask(self, reader: int, task: _Task) -> None:
        # A reader that is gone is told of when its answer is missing.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connections[reader].send(task)

    def _answer(self, reader: int, path: Path) -> _Found:
        try:
            found: _Found | str = self._connections[reader].recv()
        except (EOFError, OSError) as error:  # OSError: it ended inside its answer
            process = self._processes[reader]
            process.join(5)
            raise DataError(
                f"a process that read it ended early (exit code {process.exitcode}); is the memory full?",
                path=path,
            ) from error
        if isinstance(found, str):
            raise DataError(found, path=path)
        return found

    def _start(self) -> None:
        # A fresh interpreter: a fork would copy the locks of this process's threads as they are at the moment.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._connections.append(ours)
        process = context.Process(
            target=_serve,
            args=(theirs, self._spool, self._slot_bytes, self._how, self._fast),
            daemon=True,
        )
        process.start()
        theirs.close()
        self._processes.append(process)

    def _stop(self) -> None:
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("r+b") as file:
        # Not closed by hand: arrays may still look at it, and it goes with the last of them.
        yield mmap.mmap(file.fileno(), 0)


def _serve(connection: Connection, spool: Path, slot_bytes: int, how: LineCheck, fast: bool) -> None:
    """What a reading process does: a range after the other, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks is told, and ends this one
    if fast:
        load_torch(one_thread=True)
    reader = LineReader(LONGEST_LINE)
    with _mapped(spool) as slots, contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            task: _Task = connection.recv()
            slot = np.frombuffer(slots, np.float16, slot_bytes // 2, task.slot * slot_bytes)
            try:
                connection.send(_read_range(reader, task, slot, how))
            except DataError as error:
                connection.send(error.problem)


def _read_range(reader: LineReader, task: _Task, slot: np.ndarray, how: LineCheck) -> _Found:
    lines: list[_Told] = []
    boxes, labels = [np.empty((0, 4), np.float32)], [np.empty(0, np.int64)]
    regions: list[np.ndarray] = []
    used = 0
    for line, end in _lines_of_range(reader, task.path, task.start, task.end):
        row = check_line(line, how, slot[used:])
        if isinstance(row, MalformedRow):
            lines.append((end, (str(row.reason), row.field, row.detail)))
            continue
        boxes.append(row.boxes)
        labels.append(row.labels)
        regions.append(row.regions)
        used = min(used + row.regions.size, len(slot))
        lines.append(
            (
                end,
                (
                    row.product_id,
                    row.image_h,
                    row.image_w,
                    row.query,
                    row.query_id,
                    row.digest,
                    row.broken,
                    len(row.labels),
                ),
            )
        )
    fits = sum(array.size for array in regions) <= len(slot)
    return _Found(
        lines, np.concatenate(boxes), np.concatenate(labels), None if fits else np.concatenate(regions)
    )


def _lines_of_range(reader: LineReader, path: str, start: int, end: int) -> Iterator[tuple[memoryview, int]]:
    """(line, its end in the file) of the lines whose first byte lies from `start` to before `end`."""
    with reading(path), Path(path).open("rb", buffering=0) as file:

        def read(memory: memoryview, place: int) -> int:
            return read_once(file.fileno(), memory, place)

        yield from reader.lines(read, start, end, inside=True)
