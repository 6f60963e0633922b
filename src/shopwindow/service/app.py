"""How is the service put together? Endpoints inside, then limits, then auth, then the access log.

One process answers from one index; more processes or machines are a matter of starting more of them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

from shopwindow import __version__
from shopwindow.service.access_log import AccessLog
from shopwindow.service.auth import AuthMiddleware, KeyRing
from shopwindow.service.limits import LimitMiddleware, Limits
from shopwindow.service.live import Engine, LiveEngine, Reranking
from shopwindow.service.metrics import Metrics
from shopwindow.service.problems import send_problems
from shopwindow.service.routes import PAGE, index_routes, operation_routes, product_routes, search_routes

_ABOUT: Final = (
    "Finds products by what is in their photos. Errors are problem details as RFC 9457 has them; a 503 says in "
    "Retry-After when to come again."
)


class Service:
    """An engine as a web service: `app` is what a server runs, `api` its endpoints with their OpenAPI description.

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
        reranking: Reranking | None = None,
    ) -> None:
        limits = limits or Limits()
        self.metrics = Metrics(lambda: int(engine.stats().get("products", 0)))
        self.live = LiveEngine(
            engine,
            threads=limits.engine_threads,
            prepare=prepare,
            reranking=reranking,
            on_swap=lambda outcome: self.metrics.swaps.labels(outcome).inc(),
        )
        self.wake = asyncio.Event()
        self._is_draining = False
        self._look_every_seconds = look_every_seconds
        app = FastAPI(
            title="shopwindow",
            version=__version__,
            description=_ABOUT,
            lifespan=self._life,
            docs_url=None,  # its page loads scripts from other hosts
            redoc_url=None,
            redirect_slashes=False,  # the address would come from the request's Host
            # only described here: AuthMiddleware checks the key
            dependencies=[Depends(HTTPBearer(scheme_name="key", auto_error=False))] if keys else [],
        )
        app.include_router(search_routes(self.live, self.metrics))
        app.include_router(product_routes(self.live, photo_bytes=limits.photo_bytes))
        app.include_router(index_routes(self.live, suggestions or []))
        app.include_router(operation_routes(self.metrics, lambda: self._is_draining))
        app.mount("/page", PAGE)
        send_problems(app)
        self.api = app
        guarded = AuthMiddleware(LimitMiddleware(app, limits, self.metrics), keys)
        self.app = AccessLog(guarded, metrics=self.metrics, log_queries=log_queries)

    def drain(self) -> None:
        """Lets /readyz say that no more requests are wanted; they are still answered."""
        self._is_draining = True

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
