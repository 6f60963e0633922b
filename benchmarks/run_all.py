"""Runs the benchmarks of a CPU one after the other, at sizes that fit into 15 minutes on two free cores.

The time of each script is recorded too. The quality grid (`ablation.py`, hours) and `step_gpu.py` are run by hand.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from record import Figures, record

FOLDER: Final = Path(__file__).parent
BENCHMARKS: Final = {
    "batches.py": ("--products", "20000", "--seconds", "1"),
    "encode.py": ("--products", "100", "--pools", "200"),
    "large_batch.py": ("--sizes", "512", "8192"),
    "photos.py": ("--count", "100"),
    "prepare.py": ("--rows", "8000"),
    "search.py": ("--products", "100000"),
    "service.py": ("--products", "100000", "--seconds", "3"),
    "shards.py": ("--pairs", "20000", "--products", "10000"),
    "smoothing.py": ("--products", "10000"),
    "step.py": ("--pairs", "128", "--steps", "1"),
}


def main() -> None:
    """Runs them; a failing one does not stop the others, but the exit status tells."""
    failed, seconds = [], dict[str, float]()
    for name, options in BENCHMARKS.items():
        print(f"== {name}", flush=True)
        start = time.monotonic()
        if subprocess.run([sys.executable, str(FOLDER / name), *options], check=False).returncode != 0:
            failed.append(name)
        seconds[Path(name).stem] = time.monotonic() - start
        print(f"   {seconds[Path(name).stem]:.0f} s", flush=True)
    if failed:
        sys.exit(f"failed, so the times are not recorded: {', '.join(failed)}")
    figures: Figures = {**seconds, "all": sum(seconds.values())}
    record("make bench: seconds of each script", figures)


if __name__ == "__main__":
    main()
