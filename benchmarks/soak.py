"""Does the service stay whole under load and faults for half an hour? `make soak` (`MINUTES=3` for less).

Serves a drawn shop's index in a process of its own whose log nobody reads. Clients search; others leave requests
unfinished, send what is no HTTP, and take no answers; products are deleted and the index compacted meanwhile.
Exits 1 where something was lost.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from record import record
from shopwindow.search.building import compact_index, delete_products
from shopwindow.search.engine import SearchEngine

PRODUCTS = 200
CLIENTS = 4
FAULTS = (
    b"GET /search?q=red HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ",
    b"GET /" + b"a" * 100_000,
    b"\x16\x03\x01\x00\xff\xff nonsense\r\n\r\n",
    b"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{",
    b"GET /search?q=red&k=200 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 50,
    b"",
)
WORDS = ("red bag", "blue dress", "wooden chair", "x" * 400, "zzz", "striped shirt")
GONE_SECONDS = 20
"""After a delete the service must have taken over the new state within these."""
WARM_SECONDS = 60
"""Of load, before memory counts as that of a service that runs."""
REST_SECONDS = 25


@dataclass
class Soak:
    """What clients met: statuses, and answers that show a product which is gone."""

    url: str
    statuses: collections.Counter[str] = field(default_factory=collections.Counter)
    lost: collections.Counter[str] = field(default_factory=collections.Counter)
    milliseconds: list[float] = field(default_factory=list)
    mixed: int = 0
    faults: int = 0
    changes: int = 0
    gone: set[str] = field(default_factory=set)
    end: threading.Event = field(default_factory=threading.Event)

    def search(self, number: int) -> None:
        """Asks without a pause."""
        chance = random.Random(number)
        with httpx.Client(base_url=self.url, timeout=30, trust_env=False) as client:
            while not self.end.is_set():
                gone = set(self.gone)
                begin = time.perf_counter()
                asked: dict[str, str | int] = {
                    "q": chance.choice(WORDS),
                    "k": 50,
                    "hybrid": chance.choice(("true", "false")),
                    "exact": chance.choice(("true", "false")),
                }
                try:
                    answer = client.get("/search", params=asked)
                except httpx.TransportError as error:
                    self.lost[type(error).__name__] += 1
                    continue
                self.milliseconds.append(1000 * (time.perf_counter() - begin))
                told = " told" if answer.status_code == 503 and "retry-after" in answer.headers else ""
                self.statuses[f"{answer.status_code}{told}"] += 1
                if answer.status_code == 200:
                    self.mixed += bool({hit["product_id"] for hit in answer.json()["hits"]} & gone)

    def fault(self, number: int) -> None:
        """Opens connections that ask for nothing whole, and keeps up to 100 of them."""
        chance = random.Random(number)
        with contextlib.ExitStack() as held:
            kept = 0
            while not self.end.wait(0.05):
                with contextlib.suppress(OSError):
                    address = ("127.0.0.1", int(self.url.rsplit(":", 1)[1]))
                    one = held.enter_context(socket.create_connection(address, timeout=5))
                    one.sendall(chance.choice(FAULTS))
                    self.faults += 1
                    kept += 1
                if kept >= 100:
                    held.close()
                    kept = 0

    def change(self, index: Path) -> None:
        """Deletes a product that is found, again and again, and compacts now and then."""
        while not self.end.wait(5):
            hits = SearchEngine.open(index).search("red bag", k=3)
            delete_products(index, [hits[0].product_id])
            self.changes += 1
            if self.changes % 5 == 0:
                compact_index(index)
            if not self.end.wait(GONE_SECONDS):
                self.gone.add(str(hits[0].product_id))


@dataclass(frozen=True)
class State:
    """What a process holds."""

    resident_mb: float
    descriptors: int

    @classmethod
    def of(cls, process: int) -> State:
        """Reads it from /proc."""
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        descriptors = len(list(Path(f"/proc/{process}/fd").iterdir()))
        return cls(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, descriptors)


def make_index(folder: Path) -> Path:
    """An index of a drawn shop. The model is hardly trained: what it finds does not count here."""
    for words in (
        f"draw shop --products {PRODUCTS}",
        "prepare shop/train.tsv --out train",
        "prepare shop/valid.tsv --out valid",
        "train train --valid valid --answers shop/valid_answer.json --recipe bow --out bundle --set optimiser.epochs=1",
        "index make bundle train --out index --texts train",
    ):
        subprocess.run([sys.executable, "-m", "shopwindow", *words.split()], cwd=folder, check=True)
    return folder / "index"


def load(run: Soak, index: Path, process: int, minutes: float) -> list[State]:
    """Runs clients, faults and changes; gives what the service held before, early, late, and after a rest."""
    states = [State.of(process)]
    threads = [threading.Thread(target=run.search, args=(number,)) for number in range(CLIENTS)]
    threads += [threading.Thread(target=run.fault, args=(number,)) for number in range(CLIENTS)]
    threads.append(threading.Thread(target=run.change, args=(index,)))
    for thread in threads:
        thread.start()
    begin = time.monotonic()
    for until in (min(WARM_SECONDS, 30 * minutes), 60 * minutes):
        time.sleep(max(0, begin + until - time.monotonic()))
        states.append(State.of(process))
    run.end.set()
    for thread in threads:
        thread.join()
    time.sleep(REST_SECONDS)
    return [*states, State.of(process)]


def soak(folder: Path, minutes: float) -> list[str]:
    """Records the figures; gives what was lost."""
    index = make_index(folder)
    command = [sys.executable, "-m", "shopwindow", "serve", str(index), "--port", "0"]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            run = Soak(server.stdout.readline().split()[-1].rstrip("/"))
            httpx.get(f"{run.url}/search", params={"q": "red bag"}, timeout=60, trust_env=False)
            states = load(run, index, server.pid, minutes)
            begin = time.monotonic()
            server.terminate()
            status = server.wait(30)
        finally:
            server.kill()
    end_seconds = time.monotonic() - begin
    before, early, late, rested = states
    times = sorted(run.milliseconds)
    record(
        f"soak: {CLIENTS} clients, {CLIENTS} that send faults, changes of the index, {minutes:g} minutes",
        {
            "searches": len(times),
            **{f"status {code}": count for code, count in sorted(run.statuses.items())},
            "connections with faults": run.faults,
            "changes of the index": run.changes,
            "answers lost": sum(run.lost.values()),
            "mixed answers": run.mixed,
            "ms, median": times[len(times) // 2],
            "ms, 99 of 100 within": times[int(len(times) * 0.99)],
            "ms, the slowest": times[-1],
            "resident MB: idle, early, late, rested": [state.resident_mb for state in states],
            "descriptors: idle, early, late, rested": [float(state.descriptors) for state in states],
            "seconds to end": end_seconds,
            "exit status": status,
        },
    )
    wrong = {
        code: count for code, count in run.statuses.items() if code.startswith("5") and "told" not in code
    }
    checks = {
        f"answers of {wrong}": bool(wrong),
        f"{run.mixed} mixed answers": bool(run.mixed),
        f"{dict(run.lost)} lost": bool(run.lost),
        f"exit status {status}": bool(status),
        f"descriptors {before.descriptors} to {rested.descriptors}": rested.descriptors
        > before.descriptors + 3,
        f"memory {early.resident_mb:.0f} to {late.resident_mb:.0f} MB": late.resident_mb
        > 1.1 * early.resident_mb,
    }
    return [problem for problem, is_so in checks.items() if is_so]


def main() -> None:
    """Runs the soak; exits 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        problems = soak(Path(folder), minutes)
    sys.exit("; ".join(problems) or 0)


if __name__ == "__main__":
    main()
