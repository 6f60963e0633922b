"""Which requests come in at all, and how long may they take?

Stands before the framework: checks host, key, number of requests inside and size of the body before anything is parsed,
and puts a time limit on the rest. Every refusal is a problem. Knows no endpoint but which paths are open to everybody.
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shopwindow.service.keys import KeyRing
from shopwindow.service.limits import Limits
from shopwindow.service.metrics import Metrics
from shopwindow.service.problems import Problem, busy
from shopwindow.service.site import PAGE_PATHS

OPEN_TO_ALL: Final = PAGE_PATHS | {"/healthz", "/readyz", "/favicon.ico"}
"""Paths that need no key and no place inside: the page without its contents, and the probes."""
_LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})


class Door:
    """Lets requests in, or refuses them with a problem.

    `keys`: whose keys are accepted; None lets everybody in who speaks to this machine by a loopback name (a foreign
    name that was made to point here could carry a web page's requests past the browser's rules).
    """

    def __init__(self, app: ASGIApp, *, limits: Limits, metrics: Metrics, keys: KeyRing | None) -> None:
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check_caller(scope)
            if scope["path"] in OPEN_TO_ALL:
                await self._timed(scope, receive, send)
                return
            await self._inside(scope, receive, send)
        except Problem as problem:
            self._metrics.refused[problem.kind] += 1
            await problem.response()(scope, receive, send)

    def _check_caller(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if self._keys is None:
            host = headers.get("host", "")
            name = host if host.endswith("]") else host.rsplit(":", 1)[0]
            if name.lower() not in _LOOPBACK_NAMES:
                raise Problem(421, "misdirected-request", "this service answers to loopback names only")
        elif scope["path"] not in OPEN_TO_ALL:
            kind, _, key = headers.get("authorization", "").partition(" ")
            name_or_none = self._keys.name_of(key.strip()) if kind.lower() == "bearer" else None
            if name_or_none is None:
                detail = "an API key is needed: Authorization: Bearer KEY"
                raise Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
            scope["state"]["key_name"] = name_or_none

    async def _inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        limits, metrics = self._limits, self._metrics
        if metrics.inside >= limits.requests_at_once:
            detail = f"{metrics.inside} requests are being answered"
            raise busy("busy", detail, retry_after_seconds=limits.retry_after_seconds)
        metrics.inside += 1
        try:
            await self._timed(scope, receive, send)
        finally:
            metrics.inside -= 1

    async def _timed(self, scope: Scope, receive: Receive, send: Send) -> None:
        limits = self._limits
        body: bytes | None = None
        started = False
        loop = asyncio.get_running_loop()

        async def send_on(message: Message) -> None:
            nonlocal started
            if not started:
                started = True
                limit.reschedule(loop.time() + limits.send_seconds)
            await send(message)

        try:
            async with asyncio.timeout(limits.seconds) as limit:
                body = await _body(scope, receive, most_bytes=limits.body_bytes)
                if body is not None:
                    await self._app(scope, _replay(body, receive), send_on)
        except TimeoutError:
            if started or not limit.expired():
                raise
            if body is None:
                raise Problem(408, "request-timeout", "the request's body did not come in time") from None
            detail = f"no answer within {limits.seconds:g} s"
            raise busy("too-slow", detail, retry_after_seconds=limits.retry_after_seconds) from None


async def _body(scope: Scope, receive: Receive, *, most_bytes: int) -> bytes | None:
    """The whole body of a request; None when the asker went away. Raises: Problem when it is too large."""
    too_large = Problem(413, "body-too-large", f"a body may have {most_bytes} bytes")
    length = Headers(scope=scope).get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > most_bytes:
        raise too_large
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > most_bytes:
            raise too_large
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read already, then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
