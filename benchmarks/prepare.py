"""How fast and how small is `prepare`, against the pandas way of the competition's winning notebooks?

1 GB of competition-like rows; each way in fresh processes, in turn, so that both see the same machine.
Memory is anonymous memory, watched from outside: pages of mapped files are not counted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from record import Cost, Figures, record, run_measured
from rows import write_rows

OURS = "import sys; from shopwindow.data.prepare import prepare; prepare([sys.argv[1]], sys.argv[2])"
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
    record("prepare: 1 GB of competition rows into a dataset, process start included", figures)


if __name__ == "__main__":
    main()
