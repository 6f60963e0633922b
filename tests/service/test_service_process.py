"""The service as an operator runs it: by its verb, on a real index, under load, killed and started again."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from shopwindow.files import DataError
from shopwindow.search.building import delete_products
from shopwindow.search.engine import SearchEngine
from shopwindow.service.auth import add_key, read_keys
from shopwindow.service.run import check_reach, open_socket
from tests.service.browser import Page, open_browser
from tests.service.conftest import ServerProcess, start_server

pytestmark = pytest.mark.slow
SERVE = ("shopwindow", "serve")


@pytest.fixture
def own_drawn_index(drawn_index: Path, tmp_path: Path) -> Path:
    """A copy of the drawn shop's index, to be changed."""
    shutil.copytree(drawn_index, tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture
def server(own_drawn_index: Path) -> Iterator[ServerProcess]:
    server = start_server(*SERVE, str(own_drawn_index), "--port", "0")
    yield server
    server.process.kill()
    server.close()


class Load:
    """Clients that ask without a pause until they are told to stop. `lost`: what was not answered."""

    def __init__(self, url: str, clients: int = 3) -> None:
        self.statuses: list[int] = []
        self.lost: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url,)) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, url: str) -> None:
        end = time.monotonic() + 60
        with httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
            while not self._stop.is_set() and time.monotonic() < end:
                try:
                    self.statuses.append(client.get("/search?q=red+bag&k=200").status_code)
                except httpx.TransportError as error:
                    self.lost.append(type(error).__name__)
                    time.sleep(0.05)

    def stop(self) -> None:
        """Lets the clients end."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


def test_the_verb_serves_what_the_engine_finds(server: ServerProcess, own_drawn_index: Path) -> None:
    engine = SearchEngine.open(own_drawn_index)
    with httpx.Client(base_url=server.url, timeout=20, trust_env=False) as client:
        hits = client.get("/search", params={"q": "red bag", "k": 10}).json()["hits"]
        expected = engine.search("red bag", k=10)
        assert [hit["product_id"] for hit in hits] == [str(hit.product_id) for hit in expected]
        product_id = hits[0]["product_id"]
        assert client.get(hits[0]["photo"]).headers["content-type"] == "image/jpeg"
        told = client.get(f"/products/{product_id}/explain", params={"q": "red bag"}).json()
        assert told["words"] == ["red", "bag"]
        assert len(told["weights"][0]) == len(client.get(f"/products/{product_id}").json()["regions"])
        like = client.get(f"/products/{product_id}/similar", params={"region": 0, "k": 3}).json()["hits"]
        assert product_id not in [hit["product_id"] for hit in like]
        assert str(own_drawn_index.parent) not in client.get("/index").text
        for words in ("😀" * 100, "x " * 250, "红色", "\u200b", "' OR 1=1 --"):
            assert client.get("/search", params={"q": words}).status_code == 200
    assert server.end() == 0


def test_the_page_works_on_a_real_index(server: ServerProcess, own_drawn_index: Path) -> None:
    driver = open_browser()
    try:
        page = Page(driver)
        page.open(server.url)
        expected = SearchEngine.open(own_drawn_index).search("red bag", k=48)
        assert page.search("red bag") == [str(hit.product_id) for hit in expected]
        page.one("#results a").click()
        page.until("return document.querySelectorAll('#why-words button').length === 2")
        assert page.all("#frame rect")
        assert page.complaints() == []
    finally:
        driver.quit()


def test_a_changed_index_is_taken_over_under_load_and_the_end_is_graceful(
    server: ServerProcess, own_drawn_index: Path
) -> None:
    load = Load(server.url)
    engine = SearchEngine.open(own_drawn_index)
    gone = [hit.product_id for hit in engine.search("red bag", k=5)]
    delete_products(own_drawn_index, gone)
    server.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        hits = httpx.get(f"{server.url}/search?q=red+bag&k=200", trust_env=False).json()["hits"]
        if not {hit["product_id"] for hit in hits} & set(map(str, gone)):
            break
        time.sleep(0.1)
    load.stop()
    assert not {hit["product_id"] for hit in hits} & set(map(str, gone))
    assert load.lost == []
    assert set(load.statuses) == {200}
    assert httpx.get(f"{server.url}/products/{gone[0]}", trust_env=False).status_code == 404
    assert server.end() == 0


def test_killed_under_load_and_started_again_it_answers_the_same(
    server: ServerProcess, own_drawn_index: Path
) -> None:
    before = httpx.get(f"{server.url}/search?q=red+bag&k=200", trust_env=False).json()
    files = {path: path.read_bytes() for path in own_drawn_index.rglob("*") if path.is_file()}
    load = Load(server.url)
    time.sleep(0.5)
    server.process.kill()
    server.close()
    again = start_server(*SERVE, str(own_drawn_index), "--port", server.url.rsplit(":", 1)[1])
    try:
        answered = len(load.statuses)
        after = httpx.get(f"{again.url}/search?q=red+bag&k=200", trust_env=False).json()
        time.sleep(0.5)
        load.stop()
        found = [[hit["product_id"] for hit in answer["hits"]] for answer in (before, after)]
        assert found[0] == found[1]
        assert load.lost
        assert set(load.statuses) == {200}
        assert len(load.statuses) > answered
        assert {path: path.read_bytes() for path in own_drawn_index.rglob("*") if path.is_file()} == files
    finally:
        load.stop()
        again.process.kill()
        again.close()


def test_a_truncated_new_index_leaves_the_old_one_serving(
    server: ServerProcess, own_drawn_index: Path
) -> None:
    manifest = own_drawn_index / "index.json"
    whole = manifest.read_text()
    manifest.write_text(whole[: len(whole) // 2])
    server.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 20
    while 'outcome="failed"} 0' in httpx.get(f"{server.url}/metrics", trust_env=False).text:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert httpx.get(f"{server.url}/search?q=red", trust_env=False).json()["hits"]
    assert any(json.loads(line)["level"] == "error" for line in server.log)


def _fails(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("shopwindow: ")
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def test_a_host_that_others_reach_needs_keys(own_drawn_index: Path) -> None:
    assert "--keys FILE" in _fails(*SERVE, str(own_drawn_index), "--host", "0.0.0.0")
    with pytest.raises(ValueError, match="--keys"):
        check_reach("shop.example", None)
    check_reach("127.0.0.1", None)


def test_wrong_indexes_and_taken_ports_end_with_one_line(own_drawn_index: Path, tmp_path: Path) -> None:
    assert "no index" in _fails(*SERVE, str(tmp_path / "nothing"))
    with open_socket("127.0.0.1", 0) as taken:
        taken.listen()
        port = str(taken.getsockname()[1])
        assert port in _fails(*SERVE, str(own_drawn_index), "--port", port)
    with pytest.raises(DataError, match=r"127\.0\.0\.1:99999: cannot listen there: .*0-65535"):
        open_socket("127.0.0.1", 99_999)


def test_a_made_key_opens_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    one, two = add_key(file, "one"), add_key(file, "two")
    ring = read_keys(file)
    assert (ring.name_of(one), ring.name_of(two), ring.name_of(one + "x")) == ("one", "two", None)
    assert one not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    with pytest.raises(ValueError, match="already"):
        add_key(file, "one")
    with pytest.raises(ValueError, match="letters"):
        add_key(file, "a b")
    file.write_text("one nohash\n")
    with pytest.raises(DataError, match="line 1"):
        read_keys(file)
    file.write_text("# nobody\n")
    with pytest.raises(DataError, match="no key"):
        read_keys(file)
