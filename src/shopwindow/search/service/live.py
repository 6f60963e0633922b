"""How is the engine asked by many requests at once, and kept at the newest state of its index?

Questions run on a few threads, so that the event loop stays free. The engine itself sees to it that a search in flight
ends in the state in which it began; here is who tells it to look for a newer one. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, runtime_checkable

from shopwindow.search.hits import EVERYTHING, Explanation, Filter, Hit, ProductView

Answer = TypeVar("Answer")
LOG = logging.getLogger("shopwindow.serve")


@runtime_checkable
class Engine(Protocol):
    """What the service asks of an engine; `shopwindow.search.engine.SearchEngine` is one."""

    def search(self, words: str, *, k: int, where: Filter = EVERYTHING) -> list[Hit]:
        """The best products for words."""

    def search_many(self, words: Sequence[str], *, k: int, where: Filter = EVERYTHING) -> list[list[Hit]]:
        """The best products for each of several queries."""

    def similar(self, product_id: int, *, k: int, where: Filter = EVERYTHING) -> list[Hit]:
        """The products most like one."""

    def similar_region(
        self, product_id: int, region: int, *, k: int, where: Filter = EVERYTHING
    ) -> list[Hit]:
        """The products most like one region of one."""

    def product(self, product_id: int) -> ProductView:
        """What is known of a product."""

    def explain(self, words: str, product_id: int) -> Explanation:
        """Which word looks at which region."""

    def stats(self) -> dict[str, Any]:
        """Numbers about the index."""

    @property
    def version(self) -> str:
        """Names the state of the index that is open."""

    @property
    def label_names(self) -> dict[int, str]:
        """Names of labels."""

    def reload(self) -> bool:
        """Opens a newer state of the index where there is one."""


class LiveEngine:
    """The engine of a running service, asked from `threads` threads."""

    def __init__(self, engine: Engine, *, threads: int = 2) -> None:
        self.engine = engine
        self.swaps = 0
        self.failed_swaps = 0
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="engine")
        self._last_fault = ""

    async def ask(self, question: Callable[[Engine], Answer]) -> Answer:
        """The engine's answer to a question."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, question, self.engine)

    async def renew(self) -> bool:
        """Whether a newer state of the index was opened. When it cannot be opened the old one goes on answering.

        The same fault is logged once, however often it is met.
        """
        try:
            changed = await asyncio.to_thread(self.engine.reload)
        except Exception as error:
            self.failed_swaps += 1
            if str(error) != self._last_fault:
                LOG.error("the new index cannot be opened, the old one stays: %s", error)
            self._last_fault = str(error)
            return False
        self._last_fault = ""
        if changed:
            self.swaps += 1
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
