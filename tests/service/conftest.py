"""A small drawn shop for the service and its page, and servers that run in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from shopwindow.data.dataset import Dataset
from shopwindow.data.prepare import prepare
from shopwindow.drawn.writing import draw_shop
from shopwindow.files import whole_directory
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.model.tokens import train_tokenizer
from shopwindow.model.towers import EncoderSize
from shopwindow.search.building import build_index
from tests.model.parts import two_towers
from tests.search.conftest import own_index as own_index
from tests.search.conftest import photo_index as photo_index
from tests.search.conftest import photo_shop as photo_shop
from tests.search.conftest import shop as shop
from tests.service.browser import Page, open_browser
from tests.service.toy import ToyEngine

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def drawn_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn shop of 120 products."""
    folder = tmp_path_factory.mktemp("drawn") / "shop"
    draw_shop(folder, products=120, seed=3)
    return folder


@dataclass
class ServerProcess:
    """A service in a process of its own."""

    process: subprocess.Popen[str]
    url: str
    log: list[str]

    def end(self) -> int:
        """Ends it as an operator would; gives the exit status."""
        self.process.terminate()
        return self.close()

    def close(self) -> int:
        """Waits for its end, and kills it when that takes long; gives the exit status."""
        try:
            status = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


def start_server(*command: str) -> ServerProcess:
    """Runs a Python module that prints its address, or its port, as the last word of its first line."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    log: list[str] = []

    def read_log() -> None:
        assert process.stderr is not None
        with process.stderr as lines:
            log.extend(lines)

    threading.Thread(target=read_log, daemon=True).start()
    assert process.stdout is not None
    word = (process.stdout.readline().split() or [""])[-1]
    if not word:
        raise AssertionError(f"no server: exit {process.wait(10)}, {''.join(log)}")
    return ServerProcess(process, word.rstrip("/") if "/" in word else f"http://127.0.0.1:{word}", log)


@pytest.fixture(scope="module")
def toy_server(drawn_shop: Path) -> Iterator[ServerProcess]:
    """The toy engine, served."""
    server = start_server("tests.service.toy", str(drawn_shop), "0")
    yield server
    server.process.kill()
    server.close()


@pytest.fixture(scope="module")
def driven() -> Iterator[Page]:
    """A browser for the tests of one module."""
    driver = open_browser()
    yield Page(driver)
    driver.quit()


@pytest.fixture
def page(driven: Page, toy_server: ServerProcess) -> Iterator[Page]:
    """The page of the toy engine, opened anew; the test fails where the browser's console complains."""
    driven.open(toy_server.url)
    yield driven
    assert driven.complaints() == []


@pytest.fixture(scope="module")
def engine(drawn_shop: Path) -> ToyEngine:
    """What the toy server answers with, in this process."""
    return ToyEngine.of_shop(drawn_shop)


@pytest.fixture(scope="session")
def drawn_index(drawn_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real index of the drawn shop, by a small bundle that learned nothing."""
    folder = tmp_path_factory.mktemp("drawn-index")
    prepare([drawn_shop / "train.tsv"], folder / "dataset")
    size = EncoderSize(hidden=32, layers=1, heads=2, inner=32, dropout=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = train_tokenizer(Dataset(folder / "dataset").query_texts, vocabulary=400)
        vocabulary = tokenizer.get_vocab_size()
        model = two_towers(size, feature_size=2048, vocabulary=vocabulary, longest=32)
    with whole_directory(folder / "bundle", marker=MARKER) as bundle:
        Bundle(model, tokenizer).save_into(bundle)
    build_index(
        folder / "bundle",
        folder / "dataset",
        folder / "index",
        photos=drawn_shop / "photos",
        texts=folder / "dataset",
        labels=drawn_shop / "multimodal_labels.txt",
        columns=drawn_shop / "columns.csv",
    )
    return folder / "index"
