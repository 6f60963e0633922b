"""How fast and how small is `prepare`, against pandas as the competition's winning notebooks use it, and its limits?

Rows of 76 KB like the competition's, by default 1 GB of them; every method in fresh processes, in turn. Then by one
process and by as many as cores, from a cold file to the disk, beside three limits: reading, writing and decoding
alone. They overlap, so the slowest of them is the limit. Memory is private memory, watched from outside: pages of
mapped files are not counted; of several processes it is the resident memory of the largest.
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
from made import write_rows
from record import Cost, Figures, record, run_measured

REGIONS: Final = 7
COMPETITION_MB: Final = 123e3
"""The competition's training file."""
READ: Final = "reading limit: rows/s"
WRITE: Final = "writing limit: rows/s"
BLOCK_BYTES: Final = 2**22
OURS: Final = """
import sys
from shopwindow.data.prepare import prepare
prepare([sys.argv[1]], sys.argv[2])
"""
TOGETHER: Final = """
import os, resource, sys, time
from shopwindow.data.prepare import prepare
start = time.perf_counter()
marks = [(0, start)]
progress = lambda rows, done, total: marks.append((rows, time.perf_counter()))
report = prepare([sys.argv[1]], sys.argv[2], processes=int(sys.argv[3]), progress=progress)
for name in os.listdir(sys.argv[2]):
    with open(os.path.join(sys.argv[2], name), "rb") as file:
        os.fsync(file.fileno())
end = time.perf_counter()
before, since = max(mark for mark in marks if mark[0] <= report.rows / 5)
usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(report.rows / (end - start), (report.rows - before) / (end - since), max(one.ru_maxrss for one in usage) / 1000)
"""
DECODING: Final = """
import itertools, sys, time
import numpy, pybase64, torch
torch.set_num_threads(1)
with open(sys.argv[1], "rb") as file:
    texts = [line.split(b"\\t")[5] for line in itertools.islice(file, 1, 501)]
start = time.perf_counter()
done = 0
while time.perf_counter() - start < 1:
    for text in texts:
        torch.from_numpy(numpy.frombuffer(pybase64.b64decode_as_bytearray(text, validate=True), "f4")).half()
    done += len(texts)
print(done / (time.perf_counter() - start))
"""
PANDAS: Final = """
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
    with tempfile.TemporaryDirectory(prefix="shopwindow-") as name:
        folder = Path(name)
        source = folder / "rows.tsv"
        write_rows(source, options.rows, regions=REGIONS, rows_per_query=3)
        measure_alone(source, folder, options.rows, options.rounds)
        measure_together(source, folder, options.rows, options.rounds)


def measure_alone(source: Path, folder: Path, rows: int, rounds: int) -> None:
    """One process against pandas, and records."""
    measured: dict[str, list[Cost]] = {OURS: [], PANDAS: []}
    for _ in range(rounds):
        for code, out in ((OURS, "dataset"), (PANDAS, "frame.pickle")):
            command = [sys.executable, "-c", code, str(source), str(folder / out)]
            measured[code].append(run_measured(command))
    ours, pandas = measured[OURS], measured[PANDAS]
    pairs = list(zip(ours, pandas, strict=True))
    megabytes = source.stat().st_size / 1e6
    figures: Figures = {
        "TSV, MB": megabytes,
        "seconds": [cost.seconds for cost in ours],
        "rows/s": [rows / cost.seconds for cost in ours],
        "rows per processor second": [rows / cost.processor_seconds for cost in ours],
        "MB/s": [megabytes / cost.seconds for cost in ours],
        "private memory, MB": [cost.private_mb for cost in ours],
        "pandas: seconds": [cost.seconds for cost in pandas],
        "pandas: private memory, MB": [cost.private_mb for cost in pandas],
        "times faster than pandas": [theirs.seconds / our.seconds for our, theirs in pairs],
        "share of pandas' memory": [our.private_mb / theirs.private_mb for our, theirs in pairs],
    }
    record(f"prepare: {rows:,} rows of 76 KB into a dataset, process start included", figures)


def measure_together(source: Path, folder: Path, rows: int, rounds: int) -> None:
    """As many processes as cores, and one, beside the limits, all in turn in each round; and records.

    Speeds are compared from the fifth part of the rows on: of a file of many gigabytes the start is nothing.
    """
    counts = tuple(dict.fromkeys((os.cpu_count() or 1, 1)))
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    for _ in range(rounds):
        note(READ, rows / seconds_to_read(source))
        for processes in counts:
            drop(source)
            printed = output_of(started(TOGETHER, source, folder / "together", processes)).split()
            whole, running, resident = map(float, printed)
            note(f"{counted(processes)}: rows/s, start of the processes included", whole)
            note(speed_of(processes), running)
            note(f"{counted(processes)}: largest resident memory of one, MB", resident)
            readers = [started(DECODING, source) for _ in range(processes)]
            note(decoding_of(processes), sum(float(output_of(reader)) for reader in readers))
        written = sum(file.stat().st_size for file in (folder / "together").iterdir())
        note(WRITE, rows / seconds_to_write(folder / "zeros", written))
    figures: Figures = {"load of the machine": os.getloadavg()[0], **found}
    for processes in counts:
        figures |= against_limits(found, processes, source.stat().st_size / 1e6 / rows)
    record(f"prepare: {rows:,} rows of 76 KB by several processes, from a cold file to the disk", figures)


def against_limits(found: dict[str, list[float]], processes: int, megabytes_a_row: float) -> Figures:
    """The share of the slowest limit of each round, and the minutes for the competition's file."""
    speeds = found[speed_of(processes)]
    limits = zip(found[READ], found[WRITE], found[decoding_of(processes)], strict=True)
    name = counted(processes)
    return {
        f"{name}: share of the slowest limit (reading, writing, decoding)": [
            speed / min(limit) for speed, limit in zip(speeds, limits, strict=True)
        ],
        f"{name}: projection for 123 GB, minutes": [
            COMPETITION_MB / (speed * megabytes_a_row) / 60 for speed in speeds
        ],
    }


def speed_of(processes: int) -> str:
    """The name of the speed of so many processes once they run."""
    return f"{counted(processes)}: rows/s once running"


def decoding_of(processes: int) -> str:
    """The name of the speed of decoding alone by so many processes."""
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


def output_of(process: subprocess.Popen[str]) -> str:
    """The output of a process, once it ended."""
    printed = process.communicate()[0]
    if process.returncode != 0:
        raise RuntimeError(f"exit {process.returncode}")
    return printed


def seconds_to_read(path: Path) -> float:
    """Seconds of reading a file from cold, block by block."""
    drop(path)
    block = bytearray(BLOCK_BYTES)
    start = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.readinto(block):
            pass
    return time.perf_counter() - start


def seconds_to_write(path: Path, size: int) -> float:
    """Seconds of writing so many bytes until they are on the disk."""
    block = os.urandom(BLOCK_BYTES)
    start = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for place in range(0, size, len(block)):
            file.write(block[: size - place])
        os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    path.unlink()
    return seconds


if __name__ == "__main__":
    main()
