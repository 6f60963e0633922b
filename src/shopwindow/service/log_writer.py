"""How do log lines leave the process when nobody reads them? Through a bounded queue and a thread of their own.

A full pipe then costs lines, which are counted, and never a response. Knows no HTTP.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from typing import Final

LINES_WAITING: Final = 10_000
_END_SECONDS: Final = 1.0


class LogWriter(logging.Handler):
    """Writes lines to a file descriptor from a thread; `emit` never waits.

    `dropped` counts the lines that found the queue full or could not be written. Once writing works again, a line
    says how many were dropped since the last such line.
    """

    def __init__(self, descriptor: int, *, lines_waiting: int = LINES_WAITING) -> None:
        super().__init__()
        self.dropped = 0
        self._told = 0
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes] = queue.Queue(lines_waiting)
        threading.Thread(target=self._write_lines, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Puts the record's line into the queue, or counts it as dropped."""
        try:
            self._lines.put_nowait(f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))
        except queue.Full:
            self.dropped += 1

    def wait(self, seconds: float = _END_SECONDS) -> None:
        """Waits until all lines are written, as long as these seconds."""
        end = time.monotonic() + seconds
        while self._lines.unfinished_tasks and time.monotonic() < end:
            time.sleep(0.01)

    def _write_lines(self) -> None:
        while True:
            self._write(self._lines.get())
            if self.dropped > self._told:
                count, self._told = self.dropped - self._told, self.dropped
                self._write(json.dumps({"event": "log lines dropped", "lines": count}).encode() + b"\n")
            self._lines.task_done()

    def _write(self, line: bytes) -> None:
        # Not through sys.stderr: a thread that waits inside it would keep the process from ending.
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
        except OSError:
            self.dropped += 1
