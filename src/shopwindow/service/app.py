"""How is the service put together? Endpoints inside, then the door, then the journal.

One process answers from one index; more processes or machines are a matter of starting more of them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from importlib import metadata
from typing import Any, Final

from fastapi import FastAPI

from shopwindow.service.door import Door
from shopwindow.service.journal import Journal
from shopwindow.service.keys import KeyRing
from shopwindow.service.limits import Limits
from shopwindow.service.live import Engine, LiveEngine
from shopwindow.service.metrics import Metrics
from shopwindow.service.problems import answer_with_problems
from shopwindow.service.routes import catalogue_routes, search_routes
from shopwindow.service.site import page_routes, probe_routes

_ABOUT: Final = (
    "Finds products by what is in their photos. Problems are answered as RFC 9457 has it; a 503 says in Retry-After "
    "when to come again."
)


class Service:
    """An engine as a web service: `app` is what a server runs.

    `suggestions` are queries that the page offers to begin with; `prepare` is called by each thread that searches.
    `wake.set()` makes it look for a newer index at once; `drain()` makes /readyz say no.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        limits: Limits | None = None,
        keys: KeyRing | None = None,
        suggestions: list[str] | None = None,
        log_queries: bool = False,
        look_every_seconds: float = 2.0,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.live = LiveEngine(engine, threads=self.limits.engine_threads, prepare=prepare)
        self.metrics = Metrics()
        self.wake = asyncio.Event()
        self._draining: list[bool] = []
        self._look_every_seconds = look_every_seconds
        app = FastAPI(
            title="shopwindow",
            version=metadata.version("shopwindow"),
            description=_ABOUT,
            lifespan=self._life,
            docs_url=None,  # its page loads scripts from other hosts
            redoc_url=None,
        )
        app.include_router(search_routes(self.live, self.limits, self.metrics))
        app.include_router(catalogue_routes(self.live, self.limits, suggestions or []))
        app.include_router(probe_routes(self.live, self.metrics, self._draining))
        app.include_router(page_routes())
        answer_with_problems(app)
        _document(app, with_keys=keys is not None)
        app.add_middleware(Door, limits=self.limits, metrics=self.metrics, keys=keys)
        self.app = Journal(app, metrics=self.metrics, log_queries=log_queries)

    def drain(self) -> None:
        """Lets /readyz say that no more requests are wanted; they are still answered."""
        self._draining.append(True)

    @contextlib.asynccontextmanager
    async def _life(self, _: FastAPI) -> AsyncIterator[None]:
        fresh = asyncio.create_task(self.live.keep_fresh(self.wake, every_seconds=self._look_every_seconds))
        try:
            yield
        finally:
            fresh.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await fresh
            self.live.close()


def _document(app: FastAPI, *, with_keys: bool) -> None:
    """Tells OpenAPI of the keys, and leaves out the framework's own shape of errors."""
    framework = app.openapi

    def openapi() -> dict[str, Any]:
        schema = framework()
        schemas = schema["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        if with_keys:
            schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{"key": []}]
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
