"""How many searches a second does the service answer over HTTP, how late are the latest, and does its memory grow?

Closed loop on loopback: some clients in a process of their own (this one); each asks again when it is answered, and no
query is asked twice in a row. The index is made by the verbs from generated products, one region of 64 values each:
time depends on the number of products and on the vectors' size, not on the photos. `--index INDEX` keeps it there, or
measures one that is there. The processor time of service and clients is told apart.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

import numpy as np

from made import some_words, train_bundle, write_dataset
from record import Figures, record, run_verb, verb

ROUNDS: Final = 3
CLIENTS: Final = (1, 8)
HITS: Final = 24
FEATURES: Final = 64
EPOCHS: Final = 40
"""So that words lie near products: else a search looks into every cell."""
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measures one client alone, then eight at once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", type=Path)
    parser.add_argument("--products", type=int, default=1_000_000)
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--options", default="", help="more options of `shopwindow serve`, in quotes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index = given.index or Path(folder) / "index"
        if not index.exists():
            make_index(Path(folder), index, products=given.products, recipe=given.recipe)
        process, url = start(index, given.options.split())
        try:
            ask_for(url, process.pid, clients=1, seconds=1.0)  # warm
            for clients in CLIENTS:
                rounds = [
                    ask_for(url, process.pid, clients=clients, seconds=given.seconds) for _ in range(ROUNDS)
                ]
                record(question(clients, size_of(url), given.options), figures(rounds))
        finally:
            process.terminate()
            process.wait(20)


def make_index(folder: Path, goal: Path, products: int, recipe: str) -> None:
    """Writes an index of so many generated products."""
    write_dataset(folder / "products", products, regions=1, features=FEATURES)
    bundle = train_bundle(folder, recipe, features=FEATURES, epochs=EPOCHS)
    run_verb("index", bundle, folder / "products", "--out", goal)


def question(clients: int, size: str, options: str) -> str:
    """The question, in words."""
    asking = f"{clients} client{'s' if clients > 1 else ''} at once"
    return " ".join(f"service: {HITS} hits of {size} over HTTP, {asking} {options}".split())


def size_of(url: str) -> str:
    """How many products an index has, and the values of a vector, as the service tells."""
    with urllib.request.urlopen(f"{url.rstrip('/')}/index") as answer:
        stats = json.load(answer)["stats"]
    return f"{stats['products']:,} products of {stats['dimensions']} values"


def start(index: Path, options: list[str]) -> tuple[subprocess.Popen[str], str]:
    """The service as a process, and its address."""
    command = verb("serve", index, "--port", "0", *options)
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    return process, process.stdout.readline().split()[-1]


@dataclass
class Round:
    """One round of asking: seconds of each answer, processor seconds of either side, and the memory afterwards."""

    seconds: float
    answers_seconds: list[float] = field(default_factory=list)
    refused: int = 0
    memory_mb: float = 0.0
    asking_seconds: float = 0.0
    answering_seconds: float = 0.0


def ask_for(url: str, process: int, *, clients: int, seconds: float) -> Round:
    """Asks for so long, with so many clients; every query is another one."""
    found = Round(seconds)
    address = urlsplit(url).netloc
    threads = [threading.Thread(target=_ask, args=(address, seed, found)) for seed in range(clients)]
    mine, theirs = time.process_time(), processor_seconds(process)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.asking_seconds = time.process_time() - mine
    found.answering_seconds = processor_seconds(process) - theirs
    found.memory_mb = private_mb(process)
    return found


def family(process: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(one for child in children for one in family(int(child)))]


def processor_seconds(process: int) -> float:
    """What a process and its children took of the processors."""
    fields = [Path(f"/proc/{one}/stat").read_text().rsplit(") ", 1)[1].split() for one in family(process)]
    return sum(int(one[11]) + int(one[12]) for one in fields) / _TICKS_PER_SECOND


def private_mb(process: int) -> float:
    """The memory of a process and its children that is not a mapped file."""
    texts = [Path(f"/proc/{one}/status").read_text() for one in family(process)]
    lines = [line for text in texts for line in text.splitlines() if line.startswith("RssAnon:")]
    return sum(int(line.split()[1]) for line in lines) / 1000


def _ask(address: str, seed: int, found: Round) -> None:
    rng = np.random.default_rng([seed, time.monotonic_ns()])
    end = time.perf_counter() + found.seconds
    connection = http.client.HTTPConnection(address, timeout=20)
    while (start := time.perf_counter()) < end:
        connection.request("GET", "/search?" + urlencode({"q": some_words(rng), "k": HITS}))
        answer = connection.getresponse()
        answer.read()
        if answer.status == 200:
            found.answers_seconds.append(time.perf_counter() - start)
        else:
            found.refused += 1
    connection.close()


def figures(rounds: list[Round]) -> Figures:
    """The figures of some rounds."""

    def late(share: float) -> list[float]:
        return [float(np.percentile(one.answers_seconds, share)) * 1000 for one in rounds]

    return {
        "searches/s": [len(one.answers_seconds) / one.seconds for one in rounds],
        "p50, ms": late(50),
        "p99, ms": late(99),
        "refused": float(sum(one.refused for one in rounds)),
        "processor ms a search, service": [
            1000 * one.answering_seconds / len(one.answers_seconds) for one in rounds
        ],
        "processor ms a search, clients": [
            1000 * one.asking_seconds / len(one.answers_seconds) for one in rounds
        ],
        "private memory of the service after the first round, MB": rounds[0].memory_mb,
        "after the last, MB": rounds[-1].memory_mb,
        "load of the machine": os.getloadavg()[0],
    }


if __name__ == "__main__":
    main()
