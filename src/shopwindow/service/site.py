"""How does the page reach the browser? A few files out of the package, read once, and the small probes beside them.

What a request names is looked up in a table; no path from outside reaches the file system.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Final

from fastapi import APIRouter, Request, Response

from shopwindow.service.answers import StateAnswer
from shopwindow.service.live import LiveEngine
from shopwindow.service.metrics import MEDIA_TYPE, Metrics
from shopwindow.service.problems import busy, documented

_SCRIPTS: Final = ("address", "app", "detail", "elements", "filters", "results", "service")
_FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page/style.css": ("style.css", "text/css; charset=utf-8"),
    **{f"/page/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8") for name in _SCRIPTS},
}
PAGE_PATHS: Final = frozenset(_FILES)


@dataclass(frozen=True)
class _PageFile:
    content: bytes
    kind: str
    mark: str


def page_routes() -> APIRouter:
    """The page: index.html, its style and its scripts."""
    routes = APIRouter(include_in_schema=False)
    folder = resources.files("shopwindow.service") / "page"
    files = {path: _page_file((folder / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}

    async def page(request: Request) -> Response:
        file = files[request.url.path]
        headers = {"ETag": file.mark, "Cache-Control": "no-cache"}
        if file.mark in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.kind, headers=headers)

    for path in files:
        routes.add_api_route(path, page, methods=["GET", "HEAD"])
    return routes


def probe_routes(live: LiveEngine, metrics: Metrics, draining: list[bool]) -> APIRouter:
    """Whether the service lives, whether it wants requests, and its figures."""
    routes = APIRouter(tags=["operation"])

    @routes.get("/healthz")
    async def healthz() -> StateAnswer:
        """Says that the process lives."""
        return StateAnswer(status="alive")

    @routes.get("/readyz", responses=documented(503))
    async def readyz() -> StateAnswer:
        """Says whether requests are welcome: an index is open and the service is not about to end."""
        if draining:
            raise busy("draining", "the service is about to end", retry_after_seconds=1)
        return StateAnswer(status="ready")

    @routes.get(
        "/metrics",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            **documented(401, 503),
        },
    )
    async def figures() -> Response:
        """The figures of the service in Prometheus' text format."""
        metrics.products = int(live.engine.stats().get("products", 0))
        metrics.swaps.update(
            done=live.swaps - metrics.swaps["done"], failed=live.failed_swaps - metrics.swaps["failed"]
        )
        return Response(metrics.text(), headers={"Content-Type": MEDIA_TYPE})

    return routes


def _page_file(content: bytes, kind: str) -> _PageFile:
    return _PageFile(content, kind, f'"{hashlib.sha256(content).hexdigest()[:16]}"')
