"""How much may be asked at once? The bounds of requests, and the middleware that keeps requests within them.

Those of connections are in `connections.py`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shopwindow.service.auth import is_public
from shopwindow.service.metrics import Metrics
from shopwindow.service.problems import Problem, unavailable

BODY_BYTES: Final = 256 * 1024
PHOTO_SEARCH: Final = "/search/photo"
"""The path whose body is a picture."""
SEND_SECONDS: Final = 30.0
"""For a client to take the response."""
RETRY_AFTER_SECONDS: Final = 1


@dataclass(frozen=True)
class Limits:
    """The bounds that an operator sets. Beyond them is a 4xx or a 503, never a wait without end.

    Raises: ValueError for a bound that is not above 0.
    """

    photo_bytes: int = 20 * 2**20
    """Of a product's photo."""
    upload_bytes: int = 10 * 2**20
    """Of a photo that is asked with."""
    requests_at_once: int = 64
    """Requests being answered or waiting for the engine."""
    engine_threads: int = 2
    seconds: float = 5.0
    """From a request's first byte to the response's first byte."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} must be above 0, not {value}")


class LimitMiddleware:
    """Bounds the number of requests inside, the size of a body, and the time. Raises a Problem beyond them."""

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics) -> None:
        self._app = app
        self._limits = limits
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on. Raises: Problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if is_public(scope["path"]):
            await self._in_time(scope, receive, send)
            return
        coding = Headers(scope=scope).get("content-encoding", "identity")
        if coding.lower() != "identity":
            detail = f"Content-Encoding is {coding[:40]!a}, a body is taken as it is only"
            raise Problem(415, "unsupported-media-type", detail)
        metrics = self._metrics
        if metrics.inside >= self._limits.requests_at_once:
            detail = f"{metrics.inside} requests are being answered"
            raise unavailable("busy", detail, retry_after_seconds=RETRY_AFTER_SECONDS)
        metrics.inside += 1
        try:
            await self._in_time(scope, receive, send)
        finally:
            metrics.inside -= 1

    async def _in_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        size, is_reading, has_started = 0, False, False
        most = self._limits.upload_bytes if scope["path"] == PHOTO_SEARCH else BODY_BYTES

        async def receive_part() -> Message:
            nonlocal size, is_reading
            is_reading = True
            message = await receive()
            is_reading = False
            size += len(message.get("body", b""))
            if size > most:
                self._metrics.refused.labels("body-too-large").inc()
                raise Problem(413, "body-too-large", f"a body may have {most} bytes")
            return message

        async def send_part(message: Message) -> None:
            nonlocal has_started
            if not has_started:
                has_started = True
                timeout.reschedule(asyncio.get_running_loop().time() + SEND_SECONDS)
            await send(message)

        try:
            async with asyncio.timeout(self._limits.seconds) as timeout:
                await self._app(scope, receive_part, send_part)
        except TimeoutError:
            if has_started or not timeout.expired():
                raise
            if is_reading:
                raise Problem(408, "request-timeout", "the request's body did not come in time") from None
            detail = f"no answer within {self._limits.seconds:g} s"
            raise unavailable("too-slow", detail, retry_after_seconds=RETRY_AFTER_SECONDS) from None
