"""What searches is held to its share of the processors, and nothing takes more than it was told to."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from shopwindow.processors import processors

WORKER = """
import asyncio, json, sys
from functools import partial
import numpy as np
import torch
from threadpoolctl import threadpool_info
from shopwindow.service.live import LiveEngine
from shopwindow.service.run import limit_library_threads

class Engine:
    def at_rest(self):
        return self

def threads(engine):
    taken = {one["prefix"]: one["num_threads"] for one in threadpool_info()}
    return {**taken, "torch": torch.get_num_threads()}

held = LiveEngine(Engine(), threads=1, prepare=partial(limit_library_threads, int(sys.argv[1])))
print(json.dumps(asyncio.run(held.ask(threads))))
held.close()
"""


@pytest.mark.parametrize(("most", "told"), [(1, 2), (8, 1)])
def test_a_thread_that_searches_takes_no_more_than_it_may_nor_than_it_would(most: int, told: int) -> None:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(most)],
        env={**os.environ, **dict.fromkeys(names, str(told))},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert len(found) >= 3
    assert set(found.values()) == {1}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_processors_are_those_that_the_process_may_use() -> None:
    may = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(may)})
        assert processors() == 1
    finally:
        os.sched_setaffinity(0, may)
    assert processors() == len(may)
