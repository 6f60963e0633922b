"""How many processors are there for this process, and how many threads may libraries take inside one search?"""

from __future__ import annotations

import os

import torch
from threadpoolctl import threadpool_info, threadpool_limits


def processors() -> int:
    """How many processors this process may run on: in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hold_libraries(most: int) -> None:
    """Lets torch, BLAS and OpenMP take at most `most` threads for what the calling thread asks of them, and never more
    than they take now. Called by each thread that searches: OpenMP keeps the number thread by thread.
    """
    torch.set_num_threads(min(most, torch.get_num_threads()))
    threadpool_limits({one["prefix"]: min(most, one["num_threads"]) for one in threadpool_info()})
