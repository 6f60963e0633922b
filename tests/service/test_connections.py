"""Unfinished requests, silent clients, a log that nobody reads: the service goes on, and ends when it is told to."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from shopwindow.service import connections
from shopwindow.service.app import Service
from shopwindow.service.connections import Room
from shopwindow.service.log_writer import LogWriter
from shopwindow.service.run import open_socket, server_config
from tests.service.conftest import ROOT
from tests.service.running import problem, running, until
from tests.service.toy import ToyEngine


@pytest.fixture(scope="module")
def client(drawn_shop: Path) -> Iterator[httpx.Client]:
    with running(Service(ToyEngine.of_shop(drawn_shop))) as client:
        yield client


def connected(client: httpx.Client) -> socket.socket:
    assert client.base_url.port is not None
    return socket.create_connection(("127.0.0.1", client.base_url.port), timeout=20)


def told(one: socket.socket) -> bytes:
    """All that a connection says until it ends."""
    text = b""
    try:
        while part := one.recv(65536):
            text += part
    except ConnectionResetError:
        pass
    return text


def ends_while_sent(one: socket.socket, part: bytes) -> bool:
    """Whether the other side ends a connection to which something is sent again and again, for 4 s."""
    try:
        for _ in range(200):
            one.sendall(part)
            time.sleep(0.02)
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: " + b"a" * 70_000,
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X-A: aaaaaaaaaaaaaaaa\r\n" * 4000 + b"\r\n",
        b"GET /?" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ],
    ids=["one header", "many headers", "address"],
)
def test_a_head_beyond_64_kb_is_431(client: httpx.Client, head: bytes) -> None:
    with connected(client) as one:
        one.sendall(head)
        answer = told(one)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"connection: close" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"].endswith(":head-too-large")


def test_a_head_of_60_kb_is_taken(client: httpx.Client) -> None:
    assert client.get("/healthz", headers={"X-A": "a" * 60_000}).status_code == 200


def test_headers_behind_a_body_are_bounded_too(client: httpx.Client) -> None:
    head = b"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    with connected(client) as one:
        one.sendall(head)
        try:
            for _ in range(64):
                one.sendall(b"X-A: " + b"a" * 8_000 + b"\r\n")
                time.sleep(0.005)
        except (BrokenPipeError, ConnectionResetError):
            return
        assert told(one).startswith(b"HTTP/1.1 431 ")


def test_a_slow_head_is_408_and_a_silent_connection_ends(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    begin = time.monotonic()
    with connected(client) as slow, connected(client) as silent:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: 1")
        assert told(silent) == b""
        assert told(slow).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - begin < 5


def test_a_head_byte_by_byte_is_not_waited_for(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    with connected(client) as one:
        assert ends_while_sent(one, b"G")


def test_a_body_that_goes_on_behind_its_answer_is_not_waited_for(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    with connected(client) as one:
        one.sendall(b"POST /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n")
        assert ends_while_sent(one, b"x")


def test_the_next_request_of_a_connection_has_its_time_anew(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with connected(client) as one:
        for _ in range(3):
            one.sendall(request)
            assert one.recv(65536).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.3)
        one.sendall(request * 3)
        until(lambda: one.recv(65536).count(b"HTTP/1.1 200 ") > 0)


def test_connections_without_a_request_make_room_for_others(
    drawn_shop: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shopwindow.service.connections.LOG.propagate", True)
    service = Service(ToyEngine.of_shop(drawn_shop))
    with open_socket("127.0.0.1", 0) as listener:
        server = uvicorn.Server(server_config(service, Room(connections=5)))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        until(lambda: server.started)
        address = listener.getsockname()
        held = [socket.create_connection(address) for _ in range(20)]
        try:
            url = f"http://127.0.0.1:{address[1]}/readyz"
            assert {httpx.get(url, trust_env=False).status_code for _ in range(10)} == {200}
            assert len(server.server_state.connections) <= 6
        finally:
            for one in held:
                one.close()
            server.should_exit = True
            thread.join(20)
    lines = [record.getMessage() for record in caplog.records if "ran out" in record.getMessage()]
    assert len(lines) == 1


@pytest.mark.slow
def test_few_descriptors_do_not_shut_the_service_out(drawn_shop: Path) -> None:
    command = f"ulimit -n 64; exec {sys.executable} -m tests.service.toy {drawn_shop} 0"
    process = subprocess.Popen(
        ["bash", "-c", command], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        port = int(process.stdout.readline())
        with contextlib.ExitStack() as held:
            for _ in range(100):
                held.enter_context(socket.create_connection(("127.0.0.1", port)))
            time.sleep(1)
            for _ in range(20):
                answer = httpx.get(f"http://127.0.0.1:{port}/search?q=red", trust_env=False)
                assert answer.status_code == 200
        process.terminate()
        assert process.wait(20) == 0
        assert "ran out" in process.stderr.read()
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()
        process.stderr.close()


@pytest.mark.slow
def test_a_log_that_nobody_reads_costs_lines_and_no_answer(drawn_shop: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.service.toy", str(drawn_shop), "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        with httpx.Client(base_url=url, trust_env=False, timeout=20) as client:
            assert {client.get("/healthz").status_code for _ in range(1500)} == {200}
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()
        process.stderr.close()


def test_dropped_lines_are_counted_and_told() -> None:
    reading, writing = os.pipe()
    writer = LogWriter(writing, lines_waiting=2)
    line = "x" * 40_000
    for _ in range(10):
        writer.handle(_record(line))
        time.sleep(0.01)
    dropped = writer.dropped
    assert dropped >= 5
    with os.fdopen(reading, "rb") as file:
        got = list[bytes]()
        while not got or not got[-1].startswith(b'{"event": "log lines dropped"'):
            got.append(file.readline())
    assert json.loads(got[-1])["lines"] == dropped
    assert len(got) - 1 <= 10 - dropped
    writer.wait()
    os.close(writing)


def _record(text: str) -> logging.LogRecord:
    return logging.LogRecord("a", logging.INFO, "", 0, text, None, None)


def test_a_body_of_another_kind_is_told_which_header_is_wrong(client: httpx.Client) -> None:
    body = json.dumps({"queries": ["red"]}).encode()
    for headers, says in (
        ({}, "Content-Type is missing"),
        ({"Content-Type": "text/plain"}, "Content-Type is 'text/plain'"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, "Content-Encoding is 'gzip'"),
    ):
        answer = client.post("/search", content=body, headers=headers)
        assert says in problem(answer, 415, "unsupported-media-type")["detail"]
    for kind in ("application/json", "application/json; charset=utf-8"):
        assert client.post("/search", content=body, headers={"Content-Type": kind}).status_code == 200


@pytest.mark.parametrize("path", ["/search/?q=red", "/page", "/index/"])
def test_no_address_comes_from_the_host_of_a_request(client: httpx.Client, path: str) -> None:
    answer = client.get(path, headers={"Host": "localhost:1"})
    assert answer.status_code == 404
    assert "location" not in answer.headers
