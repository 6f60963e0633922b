"""How does the service start, take signals and end?

SIGHUP: look for a newer index. SIGTERM, SIGINT: answer what is being answered, then end. Refuses to listen where
others can reach it without keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

import uvicorn

from shopwindow.files import DataError
from shopwindow.service.app import Service
from shopwindow.service.journal import log_lines_to
from shopwindow.service.keys import KeyRing, is_loopback

GRACE_SECONDS: Final = 10
_CONNECTIONS: Final = 1000


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it listens and tells the service when it ends."""

    def __init__(self, config: uvicorn.Config, service: Service, listens: Callable[[], None]) -> None:
        super().__init__(config)
        self._service = service
        self._listens = listens

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen."""
        await super().startup(sockets)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._service.wake.set)
        self._listens()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Notes that the service is to end."""
        self._service.drain()
        super().handle_exit(sig, frame)


def check_reach(host: str, keys: KeyRing | None) -> None:
    """Raises: ValueError for a host that others can reach, without keys."""
    if keys is None and not is_loopback(host):
        raise ValueError(
            f"--host {host} can be reached from outside: give --keys FILE (`shopwindow key NAME --keys FILE` makes one)"
        )


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that will listen at an address; port 0 takes a free one. Raises: DataError when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        said = getattr(error, "strerror", None) or error
        raise DataError(f"cannot listen there: {said}", path=f"{host}:{port}") from error
    return listener


def server_config(service: Service) -> uvicorn.Config:
    """How the server treats connections: no forwarded headers believed, no name told, bounded in number and time."""
    return uvicorn.Config(
        service.app,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=GRACE_SECONDS,
        lifespan="on",
    )


def serve(service: Service, listener: socket.socket, *, listens: Callable[[], None]) -> None:
    """Answers requests until SIGTERM or SIGINT; calls `listens` when it is ready for the first."""
    log_lines_to(logging.StreamHandler(sys.stderr))
    with _signals_end_quietly():
        _Server(server_config(service), service, listens).run(sockets=[listener])


@contextlib.contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """After its own end uvicorn raises the signals again that ended it; here they have done their work."""

    def nothing(number: int, frame: FrameType | None) -> None:
        del number, frame

    before = {number: signal.signal(number, nothing) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
