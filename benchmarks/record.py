"""Where do benchmark figures go? One JSON line each in `results.jsonl`: date, commit, machine, command, figures.

A figure that was measured several times is kept as the list of its values, so that the spread stays known. A trial
sends its lines elsewhere: `SHOPWINDOW_RESULTS=/tmp/tried.jsonl python benchmarks/encode.py --products 20`. Run by
itself (`make results`), this file prints the latest figures of every question as Markdown tables.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results.jsonl"
ELSEWHERE: Final = "SHOPWINDOW_RESULTS"
"""Names the file that takes the lines instead of `RESULTS`."""

Figures = dict[str, float | list[float]]


def record(question: str, figures: Figures) -> None:
    """Appends the figures that answer a question, and prints them.

    The question names every size. Tables show the latest entry of a question, so a small run must not replace a
    large one.
    """
    entry = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "command": command(),
        "question": question,
        "figures": {name: _rounded(value) for name, value in figures.items()},
    }
    with Path(os.environ.get(ELSEWHERE) or RESULTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
    print(question)
    for name, value in figures.items():
        print(f"  {name}: {shown(value)}")


def command() -> str:
    """The command as typed; of a path from the root its last two names, since it is of this machine alone."""
    script = Path(sys.argv[0]).resolve().relative_to(ROOT).as_posix()
    words = [
        Path(*Path(word).parts[-2:]).as_posix() if word.startswith("/") else word for word in sys.argv[1:]
    ]
    return " ".join(["python", script, *words])


def latest_of(lines: list[str]) -> dict[str, dict[str, Any]]:
    """The latest entry of each question, in the order in which the questions were first asked.

    An entry with `off_page` is left out; its value says why: another method, or only a trial.
    """
    latest: dict[str, dict[str, Any]] = {}
    for line in lines:
        entry = json.loads(line)
        if "off_page" not in entry:
            latest[entry["question"]] = entry
    return latest


def table(entry: dict[str, Any]) -> str:
    """Markdown of one entry."""
    rows = "".join(f"| {name} | {shown(value)} |\n" for name, value in entry["figures"].items())
    return (
        f"\n## {entry['question'][0].upper()}{entry['question'][1:]}\n\n"
        f"`{entry['command']}`, commit {entry['commit']}, {entry['date'][:10]}, {entry['machine']}."
        f" Median (lowest to highest).\n\n| figure | value |\n|---|---|\n{rows}"
    )


def commit() -> str:
    """The measured commit; `+` where the sources differ from it; `unknown` without a repository."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "src") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine() -> str:
    """Processor, cores and memory; nothing that names the machine."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{_processor()}, {os.cpu_count()} cores, {memory_bytes / 2**30:.0f} GiB, Python {platform.python_version()}"


def shown(value: float | list[float]) -> str:
    """A figure for people: the median, and the lowest and highest of several.

    >>> shown([3.0, 1.0, 2.0])
    '2 (1 to 3)'
    """
    if isinstance(value, list):
        return f"{_short(statistics.median(value))} ({_short(min(value))} to {_short(max(value))})"
    return _short(value)


def counted_threads(count: int) -> str:
    """
    >>> counted_threads(1), counted_threads(2)
    ('1 thread', '2 threads')
    """
    return f"{count} thread{'s' if count > 1 else ''}"


@dataclass(frozen=True)
class Cost:
    """The cost of a process: seconds by the clock and of the processor, and peak private memory."""

    seconds: float
    processor_seconds: float
    private_mb: float


def verb(*words: object) -> list[str]:
    """The command line of a verb of shopwindow, for the Python that runs now."""
    return [sys.executable, "-m", "shopwindow", *map(str, words)]


def run_verb(*words: object) -> None:
    """Runs a verb; its output is shown only where it fails."""
    done = subprocess.run(verb(*words), check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"exit {done.returncode}: {' '.join(map(str, words))}\n{done.stderr[-2000:]}")


def run_measured(command: list[str]) -> Cost:
    """Runs a command with one thread and watches it. Private memory is its anonymous pages, in MB."""
    start = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    done = threading.Event()
    peak_kilobytes: list[int] = [0]
    watch = threading.Thread(target=_watch, args=(process.pid, done, peak_kilobytes))
    watch.start()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    done.set()
    watch.join()
    if process.returncode != 0:
        raise RuntimeError(f"exit {process.returncode}: {' '.join(command)}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, max(peak_kilobytes) / 1000)


def resident_kilobytes(kind: str) -> int:
    """Pages of this process in memory: private ones (RssAnon) or those of mapped files (RssFile)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:"))


def _watch(process: int, done: threading.Event, peak_kilobytes: list[int]) -> None:
    while not done.wait(0.02):
        try:
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
        except OSError:
            return
        peak_kilobytes.extend(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def _rounded(value: float | list[float]) -> float | list[float]:
    return [float(f"{one:.4g}") for one in value] if isinstance(value, list) else float(f"{value:.4g}")


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    for latest in latest_of(RESULTS.read_text(encoding="utf-8").splitlines()).values():
        print(table(latest), end="")
