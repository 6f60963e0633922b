"""How many threads do the libraries take, and how do these wait for each other?

Said by environment variables, which OpenMP reads once: before torch, faiss or BLAS are imported. What the user's
environment says stays.
"""

from __future__ import annotations

import os
import sys

from shopwindow.cli.arguments import at_least
from shopwindow.processors import processors


def wait_passively() -> None:
    """Lets threads that wait sleep. GNU's OpenMP, torch's on Linux, spins by default, which costs those of others.

    `KMP_BLOCKTIME` says the same to LLVM's, torch's on macOS and Windows.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("KMP_BLOCKTIME", "0")


def take_threads(threads: int | None) -> None:
    """Sets how many threads the libraries take: `threads`, else what the environment says, else one a processor.

    Raises: DataError for a number below 1.
    """
    at_least(1, threads=threads)
    if threads is None:
        os.environ.setdefault("OMP_NUM_THREADS", str(processors()))
        return
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)
