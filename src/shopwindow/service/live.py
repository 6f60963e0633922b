"""How is the engine asked by many requests at once, and kept at the newest state of its index?

Questions run on a few threads, so that the event loop stays free. A question is asked of the engine at rest: its
answer is of one state throughout, also while here the engine is told to look for a newer one. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from shopwindow.model.explanation import Explanation
from shopwindow.search.hits import ColumnView, Filter, Hit, ProductId, ProductView, SearchRequest

Answer = TypeVar("Answer")
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
    def columns(self) -> tuple[ColumnView, ...]:
        """What can be filtered by besides labels."""

    def reload(self) -> bool:
        """Opens a newer state of the index where there is one."""


Way = tuple[int, Filter, bool, bool, object, int]


def way_of(request: SearchRequest) -> Way:
    """How a search is done, its words left out. Searches of one way can be answered together."""
    return request.k, request.where, request.exact, request.hybrid, request.rerank, request.candidates


def together(request: SearchRequest) -> int:
    """So many searches like this one are answered in one go; what waits then gets its turn."""
    return (
        MOST_TOGETHER if request.rerank is None else max(1, min(MOST_TOGETHER, MOST_SCORED // request.wanted))
    )


@dataclass(frozen=True)
class Answered:
    """What a search found; where that is nothing, which of its words the model does not know."""

    hits: list[Hit]
    unknown_words: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Asked:
    """A search that waits for its answer."""

    request: SearchRequest
    answer: asyncio.Future[Answered]


def answered(engine: Engine, requests: Sequence[SearchRequest]) -> list[Answered]:
    """The answers to several searches for words, in their order."""
    many = zip(requests, engine.search_many(requests), strict=True)
    return [
        Answered(engine.with_views(hits)) if hits else Answered([], engine.unknown_words(request.words))
        for request, hits in many
    ]


class LiveEngine:
    """The engine of a running service, asked from `threads` threads. Each calls `prepare` before it is asked.

    `on_swap` is told "done" or "failed" whenever a newer state of the index is opened.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        threads: int = 2,
        prepare: Callable[[], None] | None = None,
        on_swap: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.engine = engine
        self._on_swap = on_swap
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="engine", initializer=prepare)
        self._most_running = threads
        self._running = 0
        self._waiting: dict[Way, list[_Asked]] = {}
        self._tasks: set[asyncio.Future[None]] = set()
        self._last_fault = ""

    async def ask(self, question: Callable[[Engine], Answer]) -> Answer:
        """The engine's answer to a question: all of it of one state of the index."""
        return await self._run(lambda: question(self.engine.at_rest()))

    async def search_batch(self, requests: Sequence[SearchRequest]) -> list[Answered]:
        """The answers to several searches of one way, in their order and all of one state. Searched piece by piece:
        other questions get their turn in between, and nothing goes on when nobody waits any more."""
        engine, answers = self.engine.at_rest(), list[Answered]()
        most = together(requests[0])
        for start in range(0, len(requests), most):
            answers += await self._run(partial(answered, engine, requests[start : start + most]))
        return answers

    async def _run(self, question: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, question)

    async def search(self, request: SearchRequest) -> Answered:
        """The best products for words. Searches of one way that come while all threads are busy are answered together.

        A text tower reads all its weights for one query or for sixteen; nobody waits for company, though.
        """
        asked = _Asked(request, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(way_of(request), []).append(asked)
        self._start_waiting()
        return await asked.answer

    def _start_waiting(self) -> None:
        while self._waiting and self._running < self._most_running:
            way, waiting = next(iter(self._waiting.items()))
            del self._waiting[way]
            most = together(waiting[0].request)
            if waiting[most:]:
                self._waiting[way] = waiting[most:]
            now = [one for one in waiting[:most] if not one.answer.done()]
            if now:
                self._running += 1
                task = asyncio.ensure_future(self._search_together(now))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _search_together(self, asked: list[_Asked]) -> None:
        def answer(engine: Engine) -> list[Answered]:
            return answered(engine, [one.request for one in asked])

        try:
            answers = await self.ask(answer)
        except Exception as error:
            for one in asked:
                if not one.answer.done():
                    one.answer.set_exception(error)
        else:
            for one, found in zip(asked, answers, strict=True):
                if not one.answer.done():
                    one.answer.set_result(found)
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
