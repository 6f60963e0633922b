"""Runs every benchmark, one after the other, and renews the tables of `docs/results.md`.

Under 15 minutes on two free cores: the longest take smaller sizes than alone, which their lines say.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
NO_BENCHMARKS: Final = {
    "ablation.py",
    "explanation.py",
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
    "step_gpu.py",
    "weighting.py",
}
SMALLER: Final = {
    "batches.py": ("--products", "20000", "--seconds", "2"),
    "catalogue_smoothing.py": ("--products", "20000"),
    "encode.py": ("--products", "100", "--queries", "30"),
    "filters.py": ("--products", "300000"),
    "large_batch.py": ("--sizes", "512", "2048", "8192"),
    "rank.py": ("--pools", "300", "--seed-pools", "10"),
    "search.py": ("--products", "100000"),
    "service.py": ("--products", "200000", "--seconds", "4"),
    "step.py": ("--pairs", "128", "--steps", "2"),
}


def main() -> None:
    """Runs them; a failing one does not stop the others, but the exit status tells."""
    failed = []
    for script in sorted(FOLDER.glob("*.py")):
        if script.name in NO_BENCHMARKS:
            continue
        print(f"== {script.stem}", flush=True)
        start = time.monotonic()
        command = [sys.executable, str(script), *SMALLER.get(script.name, ())]
        if subprocess.run(command, check=False).returncode != 0:
            failed.append(script.name)
        print(f"   {time.monotonic() - start:.0f} s", flush=True)
    subprocess.run([sys.executable, str(FOLDER / "make_results.py")], check=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
