"""Runs every benchmark, one after the other, and renews the tables of `docs/results.md`.

Under 15 minutes on two free cores: the longest take smaller sizes than alone, which their questions say. What each
script took is recorded too.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from record import Figures, record

FOLDER: Final = Path(__file__).parent
NO_BENCHMARKS: Final = {
    "ablation.py",
    "explanation.py",
    "gpu_kernels.py",
    "gpu_parts.py",
    "gpu_training.py",
    "large_index.py",
    "made.py",
    "real_sets.py",
    "record.py",
    "lengths.py",
    "rivals.py",
    "rows.py",
    "run_all.py",
    "vector_rivals.py",
    "make_results.py",
    "pool_operators.py",
    "stability.py",
    "stand_ins.py",
    "step_gpu.py",
    "weighting.py",
}
SMALLER: Final = {
    "batches.py": ("--products", "20000", "--seconds", "1"),
    "catalogue_smoothing.py": ("--products", "10000"),
    "encode.py": ("--products", "100"),
    "filters.py": ("--products", "200000"),
    "large_batch.py": ("--sizes", "512", "8192"),
    "prepare.py": ("--rows", "8000"),
    "rank.py": ("--pools", "200", "--seed-pools", "10"),
    "search.py": ("--products", "100000"),
    "service.py": ("--products", "200000", "--seconds", "3"),
    "step.py": ("--pairs", "128", "--steps", "1"),
}


def main() -> None:
    """Runs them; a failing one does not stop the others, but the exit status tells."""
    failed, seconds = [], dict[str, float]()
    for script in benchmarks():
        print(f"== {script.stem}", flush=True)
        start = time.monotonic()
        command = [sys.executable, str(script), *SMALLER.get(script.name, ())]
        if subprocess.run(command, check=False).returncode != 0:
            failed.append(script.name)
        seconds[script.stem] = time.monotonic() - start
        print(f"   {seconds[script.stem]:.0f} s", flush=True)
    if failed:
        print(f"failed, so what all took is not recorded: {', '.join(failed)}", file=sys.stderr)
    else:
        record("make bench: seconds of each script", in_all(seconds))
    print(f"all: {sum(seconds.values()):.0f} s", flush=True)
    subprocess.run([sys.executable, str(FOLDER / "make_results.py")], check=True)
    if failed:
        sys.exit(1)


def benchmarks() -> list[Path]:
    """The scripts, in the order in which they run."""
    return [script for script in sorted(FOLDER.glob("*.py")) if script.name not in NO_BENCHMARKS]


def in_all(seconds: dict[str, float]) -> Figures:
    """The same, and their sum."""
    figures: Figures = {**seconds}
    figures["all"] = sum(seconds.values())
    return figures


if __name__ == "__main__":
    main()
