"""How does the service start, take signals and end? How many threads may libraries take inside one search?

SIGHUP: look for a newer index. SIGTERM, SIGINT: finish what is being answered, then end; what does not finish is left.
Refuses to listen where others can reach it without keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import torch
import uvicorn
from threadpoolctl import threadpool_info, threadpool_limits

from shopwindow.files import DataError
from shopwindow.service.access_log import log_lines_to
from shopwindow.service.app import Service
from shopwindow.service.auth import KeyRing, is_loopback
from shopwindow.service.connections import BoundedProtocol, Room
from shopwindow.service.live import LOG
from shopwindow.service.log_writer import LogWriter

GRACE_SECONDS: Final = 10
_END_SECONDS: Final = 4
"""After the grace, for the process to end by itself."""
_CONNECTIONS: Final = 1000
_OWN_DESCRIPTORS: Final = 24
"""Kept free for files of the index."""


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
        timer = threading.Timer(GRACE_SECONDS + _END_SECONDS, _leave)
        timer.daemon = True
        timer.start()
        self.handle_exit(number, None)


def _leave() -> None:
    """Ends the process whatever its threads do."""
    LOG.warning("a search or a response does not end; the process does")
    os._exit(1)


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


def server_config(service: Service, room: Room | None = None) -> uvicorn.Config:
    """How the server treats connections: no forwarded headers believed, no name told, bounded in number and time."""
    room = room or Room()
    return uvicorn.Config(
        service.app,
        http=type("Connection", (BoundedProtocol,), {"room": room}),
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=2 * room.connections,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=GRACE_SECONDS,
        lifespan="on",
    )


def serve(service: Service, listener: socket.socket, *, on_listening: Callable[[], None]) -> None:
    """Answers requests until SIGTERM or SIGINT; calls `on_listening` when it is ready for the first."""
    log = LogWriter(sys.stderr.fileno())
    log_lines_to(log)
    service.metrics.dropped_log_lines = lambda: log.dropped
    gc.freeze()  # a search for garbage among what the start left would hold every thread for a tenth of a second
    try:
        _Server(server_config(service, room_of_process()), service, on_listening).run(sockets=[listener])
    finally:
        log.wait()


def room_of_process() -> Room:
    """As many connections as the system's limit of open files allows, which is raised as far as it may be."""
    try:
        import resource
    except ImportError:  # Windows
        return Room(_CONNECTIONS)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * _CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Room(_CONNECTIONS)
    return Room(max(1, min(_CONNECTIONS, soft - _open_descriptors() - _OWN_DESCRIPTORS)))


def _open_descriptors() -> int:
    folder = Path("/dev/fd")
    return sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0


def limit_library_threads(most: int) -> None:
    """Lets torch, BLAS and OpenMP take at most `most` threads for the calling thread, and never more than now.

    Called by each thread that searches: OpenMP keeps the number thread by thread.
    """
    torch.set_num_threads(min(most, torch.get_num_threads()))
    threadpool_limits({pool["prefix"]: min(most, pool["num_threads"]) for pool in threadpool_info()})
