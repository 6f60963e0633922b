"""A service in a thread with its client, and what the tests ask of answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx
import uvicorn

from shopwindow.service.app import Service
from shopwindow.service.run import open_socket, server_config

PROBLEM = "application/problem+json"


@contextmanager
def running(service: Service) -> Iterator[httpx.Client]:
    """A client of the service, which runs in a thread, on a real socket."""
    with open_socket("127.0.0.1", 0) as listener:
        server = uvicorn.Server(server_config(service))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        until(lambda: server.started)
        with httpx.Client(
            base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=20, trust_env=False
        ) as client:
            try:
                yield client
            finally:
                server.should_exit = True
                thread.join(20)


def product_path(product_id: str, folder: str = "products") -> str:
    """The path of a product, its id quoted."""
    return f"/{folder}/{quote(product_id, safe='')}"


def problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """The problem of an answer, which must be one of this kind."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    content: dict[str, Any] = answer.json()
    assert content["type"] == f"urn:shopwindow:problem:{kind}"
    assert content["status"] == status
    assert content["title"]
    assert content["detail"]
    return content


def until(true: Any, seconds: float = 10) -> None:
    """Waits until a function says so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
