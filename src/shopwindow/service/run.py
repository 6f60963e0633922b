"""How does the service start, take signals and end? How many threads may libraries take inside one search?

SIGHUP: look for a newer index. SIGTERM, SIGINT: finish what is being answered, then end. Refuses to listen where
others can reach it without keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Final

import torch
import uvicorn
from threadpoolctl import threadpool_info, threadpool_limits

from shopwindow.files import DataError
from shopwindow.service.access_log import log_lines_to
from shopwindow.service.app import Service
from shopwindow.service.auth import KeyRing, is_loopback

GRACE_SECONDS: Final = 10
_CONNECTIONS: Final = 1000


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it listens and tells the service when it ends."""

    def __init__(self, config: uvicorn.Config, service: Service, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._service = service
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen."""
        await super().startup(sockets)
        self._on_listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Takes signals; uvicorn's own raises them again after its end, here they have done their work."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._service.wake.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        yield

    def _end(self, number: int) -> None:
        self._service.drain()
        self.handle_exit(number, None)


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
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot listen there: {reason}", path=f"{host}:{port}") from error
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


def serve(service: Service, listener: socket.socket, *, on_listening: Callable[[], None]) -> None:
    """Answers requests until SIGTERM or SIGINT; calls `on_listening` when it is ready for the first."""
    log_lines_to(logging.StreamHandler(sys.stderr))
    _Server(server_config(service), service, on_listening).run(sockets=[listener])


def processors() -> int:
    """How many processors this process may run on: in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def limit_library_threads(most: int) -> None:
    """Lets torch, BLAS and OpenMP take at most `most` threads for the calling thread, and never more than now.

    Called by each thread that searches: OpenMP keeps the number thread by thread.
    """
    torch.set_num_threads(min(most, torch.get_num_threads()))
    threadpool_limits({pool["prefix"]: min(most, pool["num_threads"]) for pool in threadpool_info()})
