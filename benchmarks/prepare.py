"""How fast and how small is `prepare`, against pandas as the competition's winning notebooks use it, and its limits?

1 GB of competition-like rows; each way in fresh processes, in turn, so that all see the same machine.
Memory is anonymous memory, watched from outside: pages of mapped files are not counted; of several processes it is
resident memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from batches import drop
from record import Cost, Figures, record, run_measured
from rows import write_rows

COMPETITION_MB: Final = 123e3
"""The competition's training file."""
READ: Final = "reading limit: rows/s"
WRITE: Final = "writing limit: rows/s"
OURS = "import sys; from shopwindow.data.prepare import prepare; prepare([sys.argv[1]], sys.argv[2])"
TOGETHER = """
import os, resource, sys, time
from shopwindow.data import prepare as stage
start = time.perf_counter()
marks = [(0, start)]
told = lambda rows, done, total: marks.append((rows, time.perf_counter()))
report = stage.prepare([sys.argv[1]], sys.argv[2], processes=int(sys.argv[3]), progress=told)
for name in os.listdir(sys.argv[2]):
    with open(os.path.join(sys.argv[2], name), "rb") as file:
        os.fsync(file.fileno())
end = time.perf_counter()
before, since = max(mark for mark in marks if mark[0] <= report.rows / 5)
usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(report.rows / (end - start), (report.rows - before) / (end - since), max(one.ru_maxrss for one in usage) / 1000)
"""
DECODING = """
import itertools, sys, time
import pybase64, numpy as np, torch
torch.set_num_threads(1)
with open(sys.argv[1], "rb") as file:
    texts = [line.split(b"\\t")[5] for line in itertools.islice(file, 1, 501)]
start = time.perf_counter()
done = 0
while time.perf_counter() - start < 1:
    for text in texts:
        values = np.frombuffer(pybase64.b64decode_as_bytearray(text, validate=True), np.float32)
        torch.from_numpy(values).half()
    done += len(texts)
print(done / (time.perf_counter() - start))
"""
PANDAS = """
import base64, sys
import numpy as np, pandas as pd
frame = pd.read_csv(sys.argv[1], sep="\\t", quoting=3)
def decode(text, kind, width):
    return np.frombuffer(base64.b64decode(text), kind).reshape(-1, width)
frame["boxes"] = frame.apply(lambda row: decode(row["boxes"], np.float32, 4).astype(np.float16), axis=1)
frame["features"] = frame.apply(lambda row: decode(row["features"], np.float32, 2048).astype(np.float16), axis=1)
frame["class_labels"] = frame.apply(lambda row: decode(row["class_labels"], np.int64, 1)[:, 0], axis=1)
frame = frame[~frame["query"].str.startswith("'s")]
frame = frame[frame["num_boxes"] <= 40]
frame.to_pickle(sys.argv[2])
"""


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=13_000, help="rows of 76 KB")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    measured: dict[str, list[Cost]] = {OURS: [], PANDAS: []}
    with tempfile.TemporaryDirectory(prefix="shopwindow-") as name:
        folder = Path(name)
        source = folder / "rows.tsv"
        megabytes = write_rows(source, options.rows) / 1e6
        for _ in range(options.rounds):
            for code, out in ((OURS, "dataset"), (PANDAS, "frame.pickle")):
                measured[code].append(
                    run_measured([sys.executable, "-c", code, str(source), str(folder / out)])
                )
        measure_together(source, folder, options.rows, options.rounds)
    ours, pandas = measured[OURS], measured[PANDAS]
    pairs = list(zip(ours, pandas, strict=True))
    figures: Figures = {
        "TSV, MB": megabytes,
        "seconds": [cost.seconds for cost in ours],
        "processor seconds": [cost.processor_seconds for cost in ours],
        "rows/s": [options.rows / cost.seconds for cost in ours],
        "rows per processor second": [options.rows / cost.processor_seconds for cost in ours],
        "MB/s": [megabytes / cost.seconds for cost in ours],
        "private memory, MB": [cost.private_mb for cost in ours],
        "pandas: seconds": [cost.seconds for cost in pandas],
        "pandas: processor seconds": [cost.processor_seconds for cost in pandas],
        "pandas: private memory, MB": [cost.private_mb for cost in pandas],
        "times faster than pandas": [theirs.seconds / our.seconds for our, theirs in pairs],
        "times fewer processor seconds": [
            theirs.processor_seconds / our.processor_seconds for our, theirs in pairs
        ],
        "share of pandas' memory": [our.private_mb / theirs.private_mb for our, theirs in pairs],
    }
    record(f"prepare: {options.rows:,} rows of 76 KB into a dataset, process start included", figures)


def measure_together(source: Path, folder: Path, rows: int, rounds: int) -> None:
    """As many reading processes as cores, and one, from a cold file, written through to the disk; beside the limits:
    reading, writing, decoding, each as prepare does it. They overlap, so the slowest of the three is the limit. All in
    turn, round by round. Torch is loaded as for a file of many gigabytes, and the clock of what is compared runs from
    the fifth part of the rows on: of such a file the seconds in which processes start are nothing."""
    counts = tuple(dict.fromkeys((os.cpu_count() or 1, 1)))
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    for _ in range(rounds):
        note(READ, rows / seconds_to_read(source))
        for processes in counts:
            drop(source)
            whole, running, resident = said(started(TOGETHER, source, folder / "together", processes)).split()
            note(f"{counted(processes)}: rows/s, start of the processes included", float(whole))
            note(speed_of(processes), float(running))
            note(f"{counted(processes)}: largest resident memory of one, MB", float(resident))
            readers = [started(DECODING, source) for _ in range(processes)]
            note(decoding_of(processes), sum(float(said(reader)) for reader in readers))
        written = sum(file.stat().st_size for file in (folder / "together").iterdir())
        note(WRITE, rows / seconds_to_write(folder / "zeros", written))
    figures: Figures = {"load of the machine": os.getloadavg()[0], **found}
    for processes in counts:
        figures |= against_limits(found, processes, source.stat().st_size / 1e6 / rows)
    record(f"prepare: {rows:,} rows of 76 KB by several processes, from a cold file to the disk", figures)


def against_limits(found: dict[str, list[float]], processes: int, megabytes_a_row: float) -> Figures:
    """Which share of the slowest limit of its round was reached, and what the competition's file would take."""
    speeds = found[speed_of(processes)]
    limits = zip(found[READ], found[WRITE], found[decoding_of(processes)], strict=True)
    return {
        f"{counted(processes)}: share of the slowest limit (reading, writing, decoding)": [
            speed / min(limit) for speed, limit in zip(speeds, limits, strict=True)
        ],
        f"{counted(processes)}: MB/s": [speed * megabytes_a_row for speed in speeds],
        f"{counted(processes)}: projection for 123 GB, minutes": [
            COMPETITION_MB / (speed * megabytes_a_row) / 60 for speed in speeds
        ],
    }


def speed_of(processes: int) -> str:
    """The figure of prepare by so many processes, once they run."""
    return f"{counted(processes)}: rows/s once running"


def decoding_of(processes: int) -> str:
    """The figure of decoding alone by so many processes."""
    return f"decoding limit, {counted(processes)}: rows/s"


def counted(processes: int) -> str:
    """
    >>> counted(1), counted(2)
    ('1 process', '2 processes')
    """
    return f"{processes} process{'es' if processes > 1 else ''}"


def started(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that runs `code`."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    """What it printed, once it ended."""
    printed = process.communicate()[0]
    if process.returncode != 0:
        raise RuntimeError(f"exit {process.returncode}")
    return printed


def seconds_to_read(path: Path) -> float:
    """From cold, sequentially."""
    drop(path)
    memory = memoryview(bytearray(2**22))
    start = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.readinto(memory):
            pass
    return time.perf_counter() - start


def seconds_to_write(path: Path, size: int) -> float:
    """Sequentially, until it is on the disk."""
    block = os.urandom(2**24)
    start = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for place in range(0, size, len(block)):
            file.write(block[: size - place])
    with path.open("rb") as written:
        os.fsync(written.fileno())
    took = time.perf_counter() - start
    path.unlink()
    return took


if __name__ == "__main__":
    main()
