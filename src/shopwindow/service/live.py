"""How is the engine asked by many requests at once, and kept at the newest state of its index?

Searches run on a few threads, so that the event loop stays free. Each asks a snapshot of the engine (`at_rest`): its
result is of one state throughout, also when a newer one is opened meanwhile. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from shopwindow.model.explanation import Explanation
from shopwindow.model.rerankers import Reranker
from shopwindow.search.hits import ColumnView, Hit, PhotoQuery, ProductId, ProductView, SearchRequest
from shopwindow.search.stores.protocol import StoreMovedError, StoreUnavailableError

Result = TypeVar("Result")
MOST_TOGETHER: Final = 16
"""Searches answered in one go."""
MOST_SCORED: Final = 800
"""Products scored anew in one go: as many as MOST_TOGETHER searches score that ask for no other number."""
LOG = logging.getLogger("shopwindow.serve")


@runtime_checkable
class Engine(Protocol):
    """What the service asks of an engine; `shopwindow.search.engine.SearchEngine` is one."""

    def search_many(self, requests: Sequence[SearchRequest], /) -> list[list[Hit]]:
        """The best products for each of several requests."""

    def with_views(self, hits: Sequence[Hit]) -> list[Hit]:
        """Hits with what a list shows of them; one that was deleted since the search is left out."""

    def unknown_words(self, words: str) -> tuple[str, ...]:
        """The words that the model knows nothing of."""

    def correct(self, words: str) -> str | None:
        """The words with mistyped ones replaced; None where none is mistyped."""

    def suggest(self, typed: str, *, k: int = 8) -> list[str]:
        """Known texts that go on what somebody is typing."""

    def encode_photo(self, content: bytes, /) -> PhotoQuery:
        """A picture's bytes, as a search asks with it."""

    def product(self, product_id: ProductId) -> ProductView:
        """What is known of a product."""

    def explain(self, words: str, product_id: ProductId) -> Explanation:
        """Which word looks at which region."""

    def stats(self) -> dict[str, Any]:
        """Numbers about the index."""

    def at_rest(self) -> Engine:
        """An engine that stays in the state that is open now."""

    @property
    def version(self) -> str:
        """Names the state of the index that is open."""

    @property
    def label_names(self) -> dict[int, str]:
        """Names of labels."""

    @property
    def label_counts(self) -> dict[int, int]:
        """How many products have a region of each label."""

    @property
    def columns(self) -> tuple[ColumnView, ...]:
        """What can be filtered by besides labels."""

    def reload(self) -> bool:
        """Opens a newer state of the index where there is one."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found, which of its words the model does not know, and what was meant where some are mistyped."""

    hits: list[Hit]
    unknown_words: tuple[str, ...] = ()
    meant: str | None = None


@dataclass(frozen=True)
class _Waiting:
    """A search that waits for its result."""

    request: SearchRequest
    result: asyncio.Future[SearchResult]


def without_words(request: SearchRequest) -> SearchRequest:
    """The settings of a request. Requests of equal settings can be searched together."""
    return replace(request, words="*")


def most_together(request: SearchRequest) -> int:
    """How many requests like this one are searched in one go; what waits then gets its turn."""
    if request.rerank is None:
        return MOST_TOGETHER
    return max(1, min(MOST_TOGETHER, MOST_SCORED // request.wanted))


def search_together(engine: Engine, requests: Sequence[SearchRequest]) -> list[SearchResult]:
    """The results of several searches for words or photos, in their order."""
    return [
        SearchResult(
            engine.with_views(hits), engine.unknown_words(request.words), engine.correct(request.words)
        )
        for request, hits in zip(requests, engine.search_many(requests), strict=True)
    ]


@dataclass(frozen=True, eq=False)
class Reranking:
    """What scores the first products of each search by words anew that does not ask for something else."""

    how: str | Reranker
    candidates: int

    def of(self, request: SearchRequest) -> SearchRequest:
        """The request, re-ranked where it is one by words alone that names no reranker."""
        if request.rerank is not None or not request.by_words_alone:
            return request
        return replace(request, rerank=self.how, candidates=self.candidates)


class LiveEngine:
    """The engine of a running service, asked from `threads` threads. Each calls `prepare` before it is asked.

    `reranking`: what all searches by words get.

    `on_swap` is told "done" or "failed" whenever a newer state of the index is opened.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        threads: int = 2,
        prepare: Callable[[], None] | None = None,
        reranking: Reranking | None = None,
        on_swap: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.engine = engine
        self._on_swap = on_swap
        self._reranking = reranking
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="engine", initializer=prepare)
        self._most_running = threads
        self._running = 0
        self._waiting: dict[SearchRequest, list[_Waiting]] = {}
        self._tasks: set[asyncio.Future[None]] = set()
        self._last_fault = ""

    async def ask(self, question: Callable[[Engine], Result]) -> Result:
        """What a function of the engine gives: all of it of one state of the index.

        Where that state was replaced in a database meanwhile, the newest is asked.
        """

        def asked() -> Result:
            try:
                return question(self.engine.at_rest())
            except StoreMovedError:
                self.engine.reload()
                return question(self.engine.at_rest())

        return await self._run(asked)

    async def search_batch(self, requests: Sequence[SearchRequest]) -> list[SearchResult]:
        """The results of several searches of equal settings, in their order and all of one state of the index.

        Searched piece by piece: others get their turn in between, and it ends when nobody waits any more. Begun anew
        where that state was replaced in a database meanwhile.
        """
        try:
            return await self._search_batch(self.engine.at_rest(), requests)
        except StoreMovedError:
            await asyncio.to_thread(self.engine.reload)
            return await self._search_batch(self.engine.at_rest(), requests)

    async def _search_batch(self, engine: Engine, requests: Sequence[SearchRequest]) -> list[SearchResult]:
        results = list[SearchResult]()
        if self._reranking is not None:
            requests = list(map(self._reranking.of, requests))
        most = most_together(requests[0])
        for start in range(0, len(requests), most):
            results += await self._run(partial(search_together, engine, requests[start : start + most]))
        return results

    async def _run(self, question: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, question)

    async def search(self, request: SearchRequest) -> SearchResult:
        """The best products for words. Searches of equal settings that wait are done together.

        A text tower reads all its weights for one query or for sixteen; nobody waits for company, though.
        """
        if self._reranking is not None:
            request = self._reranking.of(request)
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(without_words(request), []).append(waiting)
        self._start_waiting()
        return await waiting.result

    def _start_waiting(self) -> None:
        while self._waiting and self._running < self._most_running:
            settings, waiting = next(iter(self._waiting.items()))
            del self._waiting[settings]
            most = most_together(settings)
            if waiting[most:]:
                self._waiting[settings] = waiting[most:]
            now = [search for search in waiting[:most] if not search.result.done()]
            if now:
                self._running += 1
                task = asyncio.ensure_future(self._search_waiting(now))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _search_waiting(self, waiting: list[_Waiting]) -> None:
        requests = [search.request for search in waiting]
        try:
            results = await self.ask(lambda engine: search_together(engine, requests))
        except Exception as error:
            for search in waiting:
                if not search.result.done():
                    search.result.set_exception(error)
        else:
            for search, result in zip(waiting, results, strict=True):
                if not search.result.done():
                    search.result.set_result(result)
        finally:
            self._running -= 1
            self._start_waiting()

    async def renew(self) -> bool:
        """Whether a newer state of the index was opened. When it cannot be opened the old one goes on answering.

        The same fault is logged once, however often it is met.
        """
        try:
            changed = await asyncio.to_thread(self.engine.reload)
        except Exception as error:
            if not isinstance(error, StoreUnavailableError):  # a database that is away has no newer state
                self._on_swap("failed")
            if str(error) != self._last_fault:
                LOG.error("the new index cannot be opened, the old one stays: %s", error)
            self._last_fault = str(error)
            return False
        self._last_fault = ""
        if changed:
            self._on_swap("done")
            LOG.info("a newer index is open: %s", self.engine.version)
        return changed

    async def keep_fresh(self, wake: asyncio.Event, *, every_seconds: float) -> None:
        """Looks for a newer index every so often, and at once when woken; until cancelled."""
        while True:
            try:
                async with asyncio.timeout(every_seconds):
                    await wake.wait()
            except TimeoutError:
                pass
            wake.clear()
            await self.renew()

    def close(self) -> None:
        """Takes no more questions; running ones end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
