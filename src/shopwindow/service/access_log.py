"""What is kept of a request? One line of JSON and its metrics; never what was typed, unless that is asked for.

The outermost layer: sees every request and every response, gives each an id, and puts the security headers on.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from datetime import UTC, datetime
from typing import Any, Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shopwindow.service.live import LOG
from shopwindow.service.metrics import Metrics
from shopwindow.service.problems import Problem
from shopwindow.service.requests import routable

_CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data: https: http:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": _CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class AccessLog:
    """Counts and logs every request, and sends the Problem that auth or limits raise. `log_queries`: also logs what was
    typed."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, log_queries: bool = False) -> None:
        self._app = app
        self._metrics = metrics
        self._log_queries = log_queries

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request and notes it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        request_id, method, status = secrets.token_hex(8), scope["method"], 0
        scope.setdefault("state", {})
        scope = routable(scope)

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update({**SECURITY_HEADERS, "X-Request-ID": request_id})
                headers.setdefault("Cache-Control", "no-cache" if "etag" in headers else "no-store")
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Problem as problem:
            self._metrics.refused.labels(problem.kind).inc()
            await problem.response()(scope, receive, send_with_headers)
        except Exception:  # any fault: the framework has answered 500, and raises it on to be logged
            LOG.exception("a fault of the service", extra={"fields": {"request": request_id}})
        finally:
            self._note(scope, request_id, method, status, time.perf_counter() - start)

    def _note(self, scope: Scope, request_id: str, method: str, status: int, seconds: float) -> None:
        route = str(getattr(scope.get("route"), "path", "other"))
        method = method if method in _METHODS else "other"
        self._metrics.requests.labels(method, route, status).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        fields = {
            "request": request_id,
            "method": method,
            "route": route,
            "status": status,
            "milliseconds": round(seconds * 1000, 2),
        }
        if "key_name" in scope["state"]:
            fields["key"] = scope["state"]["key_name"]
        if self._log_queries and "words" in scope["state"]:
            fields["query"] = scope["state"]["words"]
        LOG.info("request", extra={"fields": fields})


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, event, and the fields that the caller added."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as one line."""
        content: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            content["trace"] = self.formatException(record.exc_info)
        return json.dumps(content)


def log_lines_to(handler: logging.Handler) -> None:
    """Sends the service's log, and its server's, to a handler, as JSON lines."""
    handler.setFormatter(JsonLines())
    for name, level in (("shopwindow.serve", logging.INFO), ("uvicorn.error", logging.WARNING)):
        log = logging.getLogger(name)
        log.handlers = [handler]
        log.setLevel(level)
        log.propagate = False
