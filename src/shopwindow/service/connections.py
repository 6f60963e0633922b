"""How long may a connection leave a request unfinished, and how many connections may there be?

uvicorn's protocol, bounded before any key is looked at: a head within HEAD_BYTES and HEAD_SECONDS, and a client that
takes its response. Where connections or descriptors run out, those that wait longest without a request make room.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from shopwindow.service.limits import SEND_SECONDS
from shopwindow.service.live import LOG
from shopwindow.service.problems import Problem

HEAD_BYTES: Final = 64 * 1024
"""Of a request line and its headers; also of what a body has besides its contents, as chunk sizes and trailers."""
HEAD_SECONDS: Final = 5.0
"""From a connection's first moment, or a request's first byte, to the end of the head."""
_LINGER_SECONDS: Final = 1.0
_SAY_EVERY_SECONDS: Final = 10.0


@dataclass
class Room:
    """How many connections there may be."""

    connections: int = 1000
    _said: float = -_SAY_EVERY_SECONDS

    def say_full(self, connections: int) -> None:
        """Logs that connections are closed to make room, at most every ten seconds."""
        if time.monotonic() - self._said >= _SAY_EVERY_SECONDS:
            LOG.warning("connections ran out: %d are open; who waits longest makes room", connections)
            self._said = time.monotonic()


class BoundedProtocol(HttpToolsProtocol):
    """One connection. A head that is too long or too slow is answered with 431 or 408."""

    room: Room

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.since = time.monotonic()
        self._in_head = True
        self._head_has_begun = False
        self._is_too_large = False
        self._is_refused = False
        self._bytes_without_end = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it is open and no request of it is being answered."""
        return not self._is_over() and not self._is_answering

    def _is_over(self) -> bool:
        return self._is_refused or self.transport.is_closing()

    @property
    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        """Begins to wait for a head, once there is room."""
        super().connection_made(transport)
        self._make_room()
        self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends."""
        self._cancel_deadline()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads on. The bytes since the last piece of a request that ended must stay within HEAD_BYTES."""
        if self._is_over():
            return
        self._bytes_without_end += len(data)
        super().data_received(data)
        if self._is_over():
            return
        if self._bytes_without_end > HEAD_BYTES:
            self._is_too_large = True
            self.send_400_response("")
        elif self.is_waiting:
            self._start_deadline()

    def on_message_begin(self) -> None:
        """A request has begun."""
        self.since, self._head_has_begun = time.monotonic(), True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header; one behind the body is dropped."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Starts the request. Raises: ValueError for a head that is too long, which ends the parser."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > HEAD_BYTES:
            self._is_too_large = True
            raise ValueError
        self._bytes_without_end = 0
        self._in_head = self._head_has_begun = False
        self._cancel_deadline()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Takes a part of the body."""
        self._bytes_without_end = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The next head may come."""
        self._bytes_without_end, self._in_head = 0, True
        self._cancel_deadline()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Waits for the rest of a request that was answered before its end, or that has begun behind it."""
        self.since = time.monotonic()
        super().on_response_complete()
        if self.is_waiting and (self._head_has_begun or not self._in_head):
            self._start_deadline()

    def pause_writing(self) -> None:
        """The client takes no more: it has SEND_SECONDS to go on."""
        super().pause_writing()
        self._stalled = self._stalled or self.loop.call_later(SEND_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client takes again."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def timeout_keep_alive_handler(self) -> None:
        """Ends an idle connection, also one whose client has not taken all of its response."""
        self.end()

    def end(self) -> None:
        """Closes the connection; what the client has not taken by now is lost."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answers a head that is no HTTP, or is too long, and closes the connection."""
        if self._is_too_large:
            detail = f"a request line and its headers may have {HEAD_BYTES} bytes"
            self._refuse(Problem(431, "head-too-large", detail))
        else:
            self._refuse(Problem(400, "bad-request", msg))

    def _refuse(self, problem: Problem) -> None:
        response = problem.response()
        headers = [*self.server_state.default_headers, *response.raw_headers, (b"connection", b"close")]
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(STATUS_LINE[problem.status_code] + lines + b"\r\n" + bytes(response.body))
        # What the client still sends is thrown away for a moment: closed at once, it might not see the response.
        self._is_refused = True
        self.transport.write_eof()
        self._cancel_deadline()
        self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def _start_deadline(self) -> None:
        if self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._time_out)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _time_out(self) -> None:
        self._deadline = None
        if not self.is_waiting:
            return
        if self._head_has_begun:
            self._refuse(Problem(408, "request-timeout", f"the head did not come within {HEAD_SECONDS:g} s"))
        else:
            self.end()

    def _make_room(self) -> None:
        """Closes the connection that waits longest where there are too many; this one where all are answering."""
        if len(self.connections) <= self.room.connections:
            return
        held = [one for one in self.connections if isinstance(one, BoundedProtocol)]
        if sum(not one.transport.is_closing() for one in held) <= self.room.connections:
            return
        waiting = [one for one in held if one.is_waiting and one is not self]
        (min(waiting, key=lambda one: one.since) if waiting else self).transport.abort()
        self.room.say_full(len(held))
