"""A live engine: every answer is of one state of the index, and no request keeps the others from their turn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shopwindow.search.building import add_products, delete_products
from shopwindow.search.engine import SearchEngine
from shopwindow.search.hits import Hit, SearchRequest
from shopwindow.service.live import MOST_SCORED, MOST_TOGETHER, Engine, LiveEngine
from tests.search.catalogue import PRODUCTS, write_dataset
from tests.service.toy import ToyEngine


def requests(words: Sequence[str], **settings: Any) -> list[SearchRequest]:
    return [SearchRequest(one, **{"k": 5, **settings}) for one in words]


def test_a_question_sees_one_state_though_the_index_changes_meanwhile(own_index: Path) -> None:
    live = LiveEngine(SearchEngine.open(own_index))

    def question(engine: Engine) -> tuple[list[Hit], list[Hit], bool]:
        (hits,), version = engine.search_many(requests(["red shoe"])), engine.version
        delete_products(own_index, [hits[0].product_id])
        assert live.engine.reload()
        products = engine.stats()["products"]
        return hits, engine.with_views(hits), engine.version == version and products == PRODUCTS

    hits, shown, is_same = asyncio.run(live.ask(question))
    live.close()
    assert [replace(one, view=None) for one in shown] == hits
    assert is_same
    assert live.engine.stats()["products"] == PRODUCTS - 1
    assert live.engine.with_views(hits[:1]) == []


def test_searches_show_all_that_they_found_while_products_come_and_go(
    own_index: Path, tmp_path: Path
) -> None:
    outcomes = list[str]()
    live = LiveEngine(SearchEngine.open(own_index), on_swap=outcomes.append)
    more = write_dataset(tmp_path / "more", range(400, 460))
    asked = requests(["red"] * 40, k=400, exact=True)

    async def ask() -> list[tuple[int, int]]:
        changes = asyncio.get_running_loop().run_in_executor(None, change)
        counts = []
        while not changes.done():
            batch = await live.search_batch(asked)
            one = await live.search(asked[0])
            counts += [(len(batch[0].hits), len(batch[-1].hits)), (len(one.hits), len(one.hits))]
            await live.renew()
        await changes
        return counts

    def change() -> None:
        for _ in range(4):
            add_products(own_index, more)
            delete_products(own_index, list(range(400, 460)))

    counts = asyncio.run(ask())
    live.close()
    assert set(counts) <= {(PRODUCTS, PRODUCTS), (PRODUCTS + 60, PRODUCTS + 60)}
    assert set(outcomes) == {"done"}


@pytest.mark.parametrize(
    ("how", "pieces"),
    [
        ({}, [MOST_TOGETHER] * 3 + [2]),
        ({"rerank": "expand", "candidates": 200}, [4] * 12 + [2]),
        ({"rerank": "late", "candidates": MOST_SCORED + 1}, [1] * 50),
    ],
)
def test_a_batch_leaves_others_their_turn(drawn_shop: Path, how: dict[str, Any], pieces: list[int]) -> None:
    engine = ToyEngine.of_shop(drawn_shop)
    engine.gate = threading.Event()
    live, done = LiveEngine(engine, threads=1), list[str]()
    queries = requests([f"{colour} bag" for colour in ("red", "blue")] * 25, **how)

    async def finish(name: str, question: Any) -> Any:
        answer = await question
        done.append(name)
        return answer

    async def ask() -> tuple[Any, ...]:
        batch = asyncio.create_task(finish("batch", live.search_batch(queries)))
        await asyncio.sleep(0.05)
        single = asyncio.create_task(finish("single", live.search(*requests(["red bag"]))))
        await asyncio.sleep(0.05)
        assert engine.gate is not None
        engine.gate.set()
        return await batch, await single

    answers, single = asyncio.run(ask())
    live.close()
    assert done == ["single", "batch"]
    assert [asked["queries"] for asked in engine.asked] == [pieces[0], 1, *pieces[1:]]
    assert ids(answers[0].hits) == ids(answers[2].hits) != ids(answers[1].hits)
    if not how:
        assert answers[0] == single


def test_a_batch_that_nobody_waits_for_ends(drawn_shop: Path) -> None:
    engine = ToyEngine.of_shop(drawn_shop)
    engine.gate = threading.Event()
    live = LiveEngine(engine, threads=1)

    async def ask() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await live.search_batch(requests(["red"] * 60))
        assert engine.gate is not None
        engine.gate.set()
        await live.search(*requests(["red"]))

    asyncio.run(ask())
    live.close()
    assert [asked["queries"] for asked in engine.asked] == [MOST_TOGETHER, 1]


def ids(hits: Sequence[Hit]) -> list[object]:
    return [hit.product_id for hit in hits]
