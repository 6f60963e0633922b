"""How fast do a shop's photos become features, and what does that cost over decoding and encoding alone?

`lite0`: `extract` beside bare decoding and bare onnxruntime, each on as many threads, in turns. `clip`: `extract` with
a ViT-B/32 of random weights beside `encode` of sentence-transformers with the same weights, photos and threads, in
turns; ours writes ten regions of each photo, theirs gives the whole one. What it comes to depends on the size of the
photos: without `--photos` they are drawn, 1,200 x 900 px. `clip` is skipped where sentence-transformers is not
installed.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from record import Figures, counted_threads, record
from rivals import timed
from shopwindow.data.features import Features
from shopwindow.vision.backbone import Backbone, open_backbone
from shopwindow.vision.extract import extract
from shopwindow.vision.lite0 import graph_of, weights_file
from shopwindow.vision.pictures import read_picture
from shopwindow.vision.sessions import open_session
from shopwindow.vision.sources import find_photos

SIZE: Final = (1_200, 900)
PARTS: Final = ("lite0", "clip")
LEAST_COSINE: Final = 0.95
"""Of one photo's vectors: ours are of photos decoded smaller, so large ones differ a little."""


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="a folder of JPEGs")
    parser.add_argument("--count", type=int, default=400, help="photos; for clip a quarter of them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="shopwindow-") as name:
        folder = Path(name)
        for part, count in (("lite0", options.count), ("clip", options.count // 4)):
            if part in options.parts:
                photos = take_photos(folder / f"{part}-photos", options.photos, count)
                measure = lite0 if part == "lite0" else clip
                measure(folder, photos, options.rounds, options.threads)


def take_photos(folder: Path, source: Path | None, count: int) -> list[Path]:
    """A folder with so many photos: evenly chosen ones of the source, or drawn ones."""
    folder.mkdir()
    if source is not None:
        found = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
        chosen = [found[place * len(found) // count] for place in range(min(count, len(found)))]
        for place, path in enumerate(chosen):
            (folder / f"{place}.jpg").symlink_to(path.resolve())
    else:
        rng = np.random.default_rng(0)
        for place in range(count):
            grain = Image.fromarray(rng.integers(0, 256, (SIZE[1] // 8, SIZE[0] // 8, 3), np.uint8))
            grain.resize(SIZE).save(folder / f"{place}.jpg", quality=85)
    return sorted(folder.iterdir())


def lite0(folder: Path, photos: list[Path], rounds: int, threads: int) -> None:
    """`extract` by EfficientNet-Lite0 against its two limits."""
    backbone = open_backbone("lite0")
    session = open_session(graph_of(weights_file()))
    picture = np.asarray(read_picture(photos[0].read_bytes(), wanted=backbone.side).resize((224, 224)))
    pixels = {session.get_inputs()[0].name: picture[None]}

    def decode(path: Path) -> None:
        read_picture(path.read_bytes(), wanted=backbone.side)

    def run(_path: Path) -> None:
        session.run(None, pixels)

    ways: dict[str, Callable[[], object]] = {
        "extract": lambda: extracted(folder, photos, backbone, threads),
        "bare decoding": lambda: on_threads(decode, photos, threads),
        "bare onnxruntime": lambda: on_threads(run, photos, threads),
    }
    turns = in_turns(ways, rounds)
    figures = speeds(turns, len(photos))
    limits = zip(turns["bare decoding"], turns["bare onnxruntime"], strict=True)
    slower = [max(cost.seconds for cost in pair) for pair in limits]
    figures["share of the slower limit"] = [
        limit / own.seconds for limit, own in zip(slower, turns["extract"], strict=True)
    ]
    finish(f"extract: lite0, {described(photos)}, {counted_threads(threads)}", figures)


def clip(folder: Path, photos: list[Path], rounds: int, threads: int) -> None:
    """`extract` by a CLIP against sentence-transformers; raises AssertionError where their vectors differ."""
    if importlib.util.find_spec("sentence_transformers") is None:
        print("clip: sentence-transformers is not installed, skipped")
        return
    save_clip(folder / "clip")
    backbone = open_backbone(str(folder / "clip"))
    rival = importlib.import_module("sentence_transformers").SentenceTransformer(
        str(folder / "clip"), device="cpu", local_files_only=True
    )

    def encode() -> Any:
        pictures = [Image.open(path) for path in photos]
        vectors = rival.encode(pictures, show_progress_bar=False)
        for picture in pictures:
            picture.close()
        return vectors

    check_alike(extracted(folder, photos, backbone, threads), encode(), photos)
    turns = in_turns(
        {"extract": lambda: extracted(folder, photos, backbone, threads), "sentence-transformers": encode},
        rounds,
    )
    figures = speeds(turns, len(photos))
    pairs = list(zip(turns["sentence-transformers"], turns["extract"], strict=True))
    figures["times faster"] = [theirs.seconds / own.seconds for theirs, own in pairs]
    figures["times less processor time"] = [
        theirs.processor_seconds / own.processor_seconds for theirs, own in pairs
    ]
    finish(f"extract: CLIP ViT-B/32, {described(photos)}, {counted_threads(threads)}", figures)


def extracted(folder: Path, photos: list[Path], backbone: Backbone, threads: int) -> Features:
    """The features of photos that are new to it."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        shop = find_photos(photos[0].parent)
        extract(shop.products, Path(out) / "features", backbone=backbone, threads=threads)
        features = Features(Path(out) / "features")
        features.regions(np.arange(1))
        return features


def on_threads(work: Callable[[Path], None], photos: list[Path], threads: int) -> None:
    """The work on each photo."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, photos))


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock and of the processor, all threads of this process together."""

    seconds: float
    processor_seconds: float


def in_turns(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[Spent]]:
    """What each way spends, once a round."""
    turns: dict[str, list[Spent]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            before = time.process_time()
            turns[way].append(Spent(timed(work), time.process_time() - before))
    return turns


def speeds(turns: dict[str, list[Spent]], count: int) -> Figures:
    """Photos a second, and processor time of a photo, of each way."""
    figures: Figures = {}
    for way, some in turns.items():
        figures[f"{way}: photos/s"] = [count / spent.seconds for spent in some]
        figures[f"{way}: processor ms a photo"] = [1000 * spent.processor_seconds / count for spent in some]
    return figures


def check_alike(features: Features, vectors: np.ndarray, photos: list[Path]) -> None:
    """Raises AssertionError where a photo's two vectors point apart."""
    regions = features.regions(np.arange(len(photos)))
    wholes = regions.features[regions.starts].float().numpy()
    rows = [[path.stem for path in photos].index(identity) for identity in features.ids.astype(str)]
    theirs = vectors[rows]
    lengths = np.linalg.norm(wholes, axis=1) * np.linalg.norm(theirs, axis=1)
    cosines = (wholes * theirs).sum(axis=1) / lengths
    assert cosines.min() > LEAST_COSINE, cosines.min()


def save_clip(folder: Path) -> None:
    """A CLIP of the usual size (ViT-B/32), random, with its processor and a tokenizer."""
    transformers = importlib.import_module("transformers")
    torch.manual_seed(0)
    transformers.CLIPModel(transformers.CLIPConfig()).save_pretrained(folder)
    transformers.CLIPImageProcessorPil().save_pretrained(folder)
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2}
    transformers.CLIPTokenizer(vocab=words, merges=[]).save_pretrained(folder)


@functools.cache
def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def described(photos: list[Path]) -> str:
    """How many, and their median size."""
    width, height = (int(np.median([_size(path)[axis] for path in photos])) for axis in (0, 1))
    return f"{len(photos):,} photos of {width:,} x {height:,} px"


def finish(question: str, figures: Figures) -> None:
    """Records with the load."""
    record(question, {**figures, "load of the machine": os.getloadavg()[0]})


if __name__ == "__main__":
    main()
