"""How much memory does `train` take with a batch of many thousand pairs, chunk by chunk and all at once?

The verb itself on a made dataset, recipe `small` (towers of 256, 2 + 2 layers), one epoch of one batch, one thread;
`--recipe seed` takes towers of 768 and up to an hour. The figure is private memory of the whole process, imports
included: pages of mapped files are not counted. All at once runs only where it is expected to fit.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Final

from made import write_dataset
from record import Figures, record, run_measured, verb

CHUNK: Final = 512
MOST_AT_ONCE: Final = 2048


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 2048, 16_384])
    parser.add_argument("--recipe", default="small")
    options = parser.parse_args()
    out: Figures = {}
    with tempfile.TemporaryDirectory(prefix="shopwindow-") as name:
        folder = Path(name)
        write_dataset(folder / "pools", 40, rows_per_query=10, seed=1)
        (folder / "answers.json").write_text('{"0": [100000000]}')
        for pairs in options.sizes:
            # A few more than a batch: `prepare` keeps photos of more than 40 regions out of training, 1 in 450.
            write_dataset(folder / f"pairs{pairs}", pairs + pairs // 50)
            for chunk in (CHUNK, 0) if pairs <= MOST_AT_ONCE else (CHUNK,):
                cost = run_measured(training(folder, options.recipe, pairs, chunk))
                method = f"{pairs:,} pairs, {f'chunks of {chunk}' if chunk else 'all at once'}"
                out[f"{method}: private memory, MB"] = cost.private_mb
                out[f"{method}: seconds, process start included"] = cost.seconds
    sizes = ", ".join(f"{pairs:,}" for pairs in options.sizes)
    record(f"large batches: train on one batch of {sizes} pairs, recipe {options.recipe}, CPU, 1 thread", out)


def training(folder: Path, recipe: str, pairs: int, chunk: int) -> list[str]:
    """The command of one training, one step long."""
    given = ("--valid", folder / "pools", "--answers", folder / "answers.json", "--recipe", recipe)
    changes = (f"batches.size={pairs}", f"batches.chunk={chunk}", "optimiser.epochs=1")
    out = folder / f"bundle{pairs}-{chunk}"
    return verb("train", folder / f"pairs{pairs}", *given, "--out", out, "--set", *changes)


if __name__ == "__main__":
    main()
