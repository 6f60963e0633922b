"""Extracts a shop in a process of its own and kills it, again and again at later moments, until a run ends.

python -m tests.vision.killed PRODUCTS OUT: prints how many runs were killed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from itertools import count

from PIL import Image

from shopwindow.data.regions import Regions
from shopwindow.vision import extract as extracting
from shopwindow.vision import shards
from shopwindow.vision.sources import find_photos
from tests.vision.photos import MeanColour


class Slow(MeanColour):
    """A hundredth of a second a photo."""

    def encode(self, pictures: Sequence[Image.Image]) -> Regions:
        time.sleep(0.01 * len(pictures))
        return super().encode(pictures)


def main(table: str, out: str) -> None:
    extracting.BATCH, shards._SHARD_PHOTOS = 4, 8  # type: ignore[misc] # many small steps to be killed between
    shop, backbone = find_photos(table), Slow()
    for killed in count():
        process = os.fork()
        if process == 0:
            extracting.extract(shop.products, out, backbone=backbone, threads=2)
            os._exit(0)
        end = time.monotonic() + 0.05 * 1.3**killed
        while time.monotonic() < end and os.waitpid(process, os.WNOHANG)[0] == 0:
            time.sleep(0.002)
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            print(killed)  # noqa: T201 - what the test reads
            return
        os.waitpid(process, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
