"""Does the service stay whole under load and faults for half an hour? `make soak` (`MINUTES=3` for less).

Serves a drawn shop's index in a process of its own whose log nobody reads. Clients search; others leave requests
unfinished, send what is no HTTP, and take no answers; products are deleted and the index compacted meanwhile.
Prints one line of JSON and exits 1 where something was lost.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

from shopwindow.search.building import compact_index, delete_products
from shopwindow.search.engine import SearchEngine

FAULTS = (
    b"GET /search?q=red HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ",
    b"GET /" + b"a" * 100_000,
    b"\x16\x03\x01\x00\xff\xff nonsense\r\n\r\n",
    b"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{",
    b"GET /search?q=red&k=200 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 50,
    b"",
)
WORDS = ("red bag", "blue dress", "wooden chair", "x" * 400, "zzz", "striped shirt")


class Soak:
    """What clients met: statuses, and answers that mix two states of the index."""

    def __init__(self, url: str, port: int) -> None:
        self.url, self.port = url, port
        self.statuses: collections.Counter[int] = collections.Counter()
        self.lost: collections.Counter[str] = collections.Counter()
        self.milliseconds: list[float] = []
        self.mixed = 0
        self.gone: set[str] = set()
        self.end = threading.Event()

    def search(self, number: int) -> None:
        """Asks without a pause. A product that was gone 10 s before must not come again."""
        chance = random.Random(number)
        with httpx.Client(base_url=self.url, timeout=30, trust_env=False) as client:
            while not self.end.is_set():
                gone = set(self.gone)
                begin = time.perf_counter()
                hybrid = chance.choice(("true", "false"))
                try:
                    answer = client.get(
                        "/search", params={"q": chance.choice(WORDS), "k": 50, "hybrid": hybrid}
                    )
                except httpx.TransportError as error:
                    self.lost[type(error).__name__] += 1
                    continue
                self.milliseconds.append(1000 * (time.perf_counter() - begin))
                self.statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    found = {hit["product_id"] for hit in answer.json()["hits"]}
                    self.mixed += bool(found & gone)

    def fault(self, number: int) -> None:
        """Opens connections that ask for nothing whole, and keeps some of them."""
        chance = random.Random(number)
        with contextlib.ExitStack() as held:
            kept = 0
            while not self.end.is_set():
                with contextlib.suppress(OSError):
                    one = held.enter_context(socket.create_connection(("127.0.0.1", self.port), timeout=5))
                    one.sendall(chance.choice(FAULTS))
                    kept += 1
                if kept >= 100:
                    held.close()
                    kept = 0
                time.sleep(0.05)

    def change(self, index: Path) -> None:
        """Deletes a product every few seconds, and compacts now and then."""
        step = 0
        while not self.end.wait(5):
            step += 1
            hits = SearchEngine.open(index).search("red bag", k=3)
            delete_products(index, [hits[0].product_id])
            if step % 5 == 0:
                compact_index(index)
            if not self.end.wait(10):
                self.gone.add(str(hits[0].product_id))


def main() -> None:
    """Runs the soak and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(soak(Path(folder), minutes))


def soak(folder: Path, minutes: float) -> int:
    """0 where nothing was lost."""
    command = [sys.executable, "-m", "shopwindow"]
    for words in (
        ["draw", "shop", "--products", "300"],
        ["prepare", "shop/train.tsv", "--out", "train"],
        ["prepare", "shop/valid.tsv", "--out", "valid"],
        [
            "train",
            "train",
            "--valid",
            "valid",
            "--answers",
            "shop/valid_answer.json",
            "--recipe",
            "bow",
            "--out",
            "bundle",
        ],
        ["index", "make", "bundle", "train", "--out", "index", "--texts", "train"],
    ):
        subprocess.run([*command, *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}  # nobody reads the log
    server = subprocess.Popen([*command, "serve", "index", "--port", "0"], cwd=folder, text=True, **pipes)  # type: ignore[call-overload] # pipes
    url = server.stdout.readline().split()[-1].rstrip("/")
    run = Soak(url, int(url.rsplit(":", 1)[1]))
    threads = [threading.Thread(target=run.search, args=(number,)) for number in range(4)]
    threads += [threading.Thread(target=run.fault, args=(number,)) for number in range(4)]
    threads.append(threading.Thread(target=run.change, args=(folder / "index",)))
    for thread in threads:
        thread.start()
    time.sleep(min(30, 12 * minutes))
    early = state_of(server.pid)
    time.sleep(max(0, 60 * minutes - 30))
    late = state_of(server.pid)
    run.end.set()
    for thread in threads:
        thread.join()
    time.sleep(8)
    rested = state_of(server.pid)
    begin = time.monotonic()
    server.terminate()
    status = server.wait(30)
    times = sorted(run.milliseconds)
    wrong = sum(count for code, count in run.statuses.items() if code >= 500 and code != 503)
    figures = {
        "minutes": minutes,
        "statuses": dict(run.statuses),
        "lost": dict(run.lost),
        "mixed": run.mixed,
        "p50_ms": round(times[len(times) // 2], 1),
        "p99_ms": round(times[int(len(times) * 0.99)], 1),
        "resident_mb_early_late_rested": [early[0], late[0], rested[0]],
        "descriptors_early_late_rested": [early[1], late[1], rested[1]],
        "end_seconds": round(time.monotonic() - begin, 1),
        "exit": status,
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return int(bool(wrong or run.mixed or run.lost or status))


def state_of(process: int) -> tuple[int, int]:
    """The resident memory of a process in MB, and how many descriptors it holds."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20, len(list(Path(f"/proc/{process}/fd").iterdir()))


if __name__ == "__main__":
    main()
