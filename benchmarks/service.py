"""How many searches a second does the service answer over HTTP, how late are the latest, and does its memory grow?

Closed loop on loopback: so many clients, each asks again as soon as it is answered. The text tower has the sizes of the
seed's recipe and random weights (time does not depend on them). `--index INDEX` measures another index;
`--seconds` is the length of one of the rounds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import numpy as np

from record import Figures, record
from shopwindow.data.dataset import Dataset
from shopwindow.data.prepare import prepare
from shopwindow.data.shop.writing import draw_shop
from shopwindow.files import whole_directory
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.model.dual import DualEncoder
from shopwindow.model.tokens import train_tokenizer
from shopwindow.model.towers import EncoderSize, PhotoTower, TextTower
from shopwindow.search.building import build_index

PRODUCTS: Final = 300
ROUNDS: Final = 3
CLIENTS: Final = (1, 8)
HITS: Final = 24
WORDS: Final = (
    "red",
    "blue",
    "green",
    "striped",
    "leather",
    "wooden",
    "new",
    "small",
    "dress",
    "bag",
    "chair",
    "shoes",
)


def main() -> None:
    """Measures one client alone, then eight at once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", type=Path)
    parser.add_argument("--seconds", type=float, default=6.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index = given.index or make_index(Path(folder))
        process, url = start(index)
        try:
            ask_for(url, clients=1, seconds=1.0)  # warm
            for clients in CLIENTS:
                rounds = [ask_for(url, clients=clients, seconds=given.seconds) for _ in range(ROUNDS)]
                record(question(clients, index, given.index is None), figures(rounds))
        finally:
            process.terminate()
            process.wait(20)


def question(clients: int, index: Path, own: bool) -> str:
    """The question, in words."""
    of = f"{PRODUCTS} drawn products" if own else index.name
    return f"searching over HTTP, {HITS} hits of {of}, {clients} client{'s' if clients > 1 else ''} at once"


def make_index(folder: Path) -> Path:
    """An index of a small drawn shop by a bundle of the seed's sizes."""
    draw_shop(folder / "shop", products=PRODUCTS)
    prepare([folder / "shop" / "train.tsv"], folder / "dataset")
    tokenizer = train_tokenizer(Dataset(folder / "dataset").query_texts, vocabulary=2000)
    size = EncoderSize()
    text = TextTower(size, vocabulary=tokenizer.get_vocab_size(), longest=32)
    model = DualEncoder(text, PhotoTower(size, feature_size=2048), normalise=True)
    with whole_directory(folder / "bundle", marker=MARKER) as bundle:
        Bundle(model.eval(), tokenizer).save_into(bundle)
    build_index(folder / "bundle", folder / "dataset", folder / "index", photos=folder / "shop" / "photos")
    return folder / "index"


def start(index: Path) -> tuple[subprocess.Popen[str], str]:
    """The service as a process, and its address."""
    command = [sys.executable, "-m", "shopwindow", "serve", str(index), "--port", "0"]
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    return process, process.stdout.readline().split()[-1]


@dataclass
class Round:
    """One round of asking: seconds of each answer, and the memory afterwards."""

    seconds: float
    answers_seconds: list[float] = field(default_factory=list)
    refused: int = 0
    memory_mb: float = 0.0


def ask_for(url: str, *, clients: int, seconds: float) -> Round:
    """Asks for so long, with so many clients; every query is another one."""
    found = Round(seconds)
    threads = [threading.Thread(target=_ask, args=(url, seed, found)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = httpx.get(f"{url}metrics", trust_env=False).text
    line = next(one for one in text.splitlines() if one.startswith("shopwindow_resident_memory_bytes"))
    found.memory_mb = float(line.split()[1]) / 1e6
    return found


def _ask(url: str, seed: int, found: Round) -> None:
    rng = np.random.default_rng([seed, time.monotonic_ns()])
    end = time.perf_counter() + found.seconds
    with httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
        while (start := time.perf_counter()) < end:
            words = " ".join(rng.choice(WORDS, int(rng.integers(1, 5)), replace=False).tolist())
            if client.get("/search", params={"q": words, "k": HITS}).status_code == 200:
                found.answers_seconds.append(time.perf_counter() - start)
            else:
                found.refused += 1


def figures(rounds: list[Round]) -> Figures:
    """The figures of some rounds."""

    def late(share: float) -> list[float]:
        return [float(np.percentile(one.answers_seconds, share)) * 1000 for one in rounds]

    return {
        "searches/s": [len(one.answers_seconds) / one.seconds for one in rounds],
        "p50, ms": late(50),
        "p99, ms": late(99),
        "refused": float(sum(one.refused for one in rounds)),
        "memory of the service after the first round, MB": rounds[0].memory_mb,
        "after the last, MB": rounds[-1].memory_mb,
    }


if __name__ == "__main__":
    main()
