"""Conditions and ways of search through the service: what they find, and what is not taken."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from shopwindow.search.conditions import parse_conditions
from shopwindow.search.engine import SearchEngine
from shopwindow.search.hits import Filter
from shopwindow.service.app import Service
from shopwindow.service.limits import Limits
from tests.service.running import problem, product_path, running, until
from tests.service.toy import MAKERS, ToyEngine


@pytest.fixture
def engine(drawn_shop: Path) -> ToyEngine:
    return ToyEngine.of_shop(drawn_shop)


@pytest.fixture(scope="module")
def client(drawn_shop: Path) -> Iterator[httpx.Client]:
    with running(Service(ToyEngine.of_shop(drawn_shop))) as client:
        yield client


def test_conditions_filter_every_search(client: httpx.Client, engine: ToyEngine) -> None:
    asked: dict[str, Any] = {"where": ["price<=20", "colour=red|blue"], "k": 100}
    passing = {
        one
        for one, view in engine.products.items()
        if float(view.values["price"]) <= 20 and view.values["colour"] in ("red", "blue")
    }
    hits = client.get("/search", params={"q": "red blue green", **asked}).json()["hits"]
    assert hits
    assert {hit["product_id"] for hit in hits} <= passing
    assert all(hit["values"] == engine.products[hit["product_id"]].values for hit in hits)
    (batch,) = client.post("/search", json={"queries": ["red blue green"], **asked}).json()["answers"]
    assert batch["hits"] == hits
    product_id = next(iter(engine.products))
    regions: tuple[dict[str, Any], ...] = ({}, {"region": 0})
    for region in regions:
        similar = client.get(f"{product_path(product_id)}/similar", params={**asked, **region}).json()
        assert similar["hits"]
        assert {hit["product_id"] for hit in similar["hits"]} <= passing
    assert client.get(product_path(product_id)).json()["values"] == engine.products[product_id].values


def test_ways_of_search_reach_the_engine(engine: ToyEngine) -> None:
    way: dict[str, Any] = {
        "k": 3,
        "exact": True,
        "hybrid": True,
        "rerank": "smooth:0.7,0.2,0.1",
        "candidates": 60,
    }
    wanted = {**way, "where": Filter(), "queries": 1}
    with running(Service(engine)) as client:
        address = {**way, "exact": "true", "hybrid": "true", "q": "red"}
        one = client.get("/search", params=address).json()
        many = client.post("/search", json={**way, "queries": ["red"]}).json()
        assert many["answers"] == [one]
        client.get("/search", params={"q": "red", "rerank": "late", "label": [4, 9], "where": "price<=3"})
        client.get("/search", params={"q": "red", "exact": "false"})
    assert engine.asked[:2] == [wanted, wanted]
    narrowed = Filter(frozenset({4, 9}), parse_conditions(["price<=3"]))
    usual = {"k": 24, "where": Filter(), "exact": False, "hybrid": False, "rerank": None, "candidates": 50}
    assert engine.asked[2] == {**usual, "where": narrowed, "rerank": "late", "queries": 1}
    assert engine.asked[3] == {**usual, "queries": 1}


def test_the_index_tells_what_to_filter_by_and_which_ways_it_has(
    client: httpx.Client, engine: ToyEngine
) -> None:
    told = client.get("/index").json()
    price, colour, maker = engine.columns
    nothing: dict[str, Any] = {"minimum": None, "maximum": None, "words": [], "counts": []}
    nothing |= {"count": None, "role": None}
    assert told["columns"] == [
        {
            **nothing,
            "name": "price",
            "kind": "number",
            "minimum": price.minimum,
            "maximum": price.maximum,
            "role": "price",
        },
        {
            **nothing,
            "name": "colour",
            "kind": "word",
            "words": list(colour.words),
            "counts": list(colour.counts),
            "count": len(colour.words),
        },
        {
            **nothing,
            "name": "maker",
            "kind": "word",
            "words": list(maker.words),
            "counts": list(maker.counts),
            "count": MAKERS,
        },
    ]
    labels = {one["label"]: one["count"] for one in told["labels"]}
    assert labels == {one: count for one, count in engine.label_counts.items() if one not in range(28, 33)}
    assert told["ways"] == {"texts": True, "photo": True, "rerankers": ["late"]}


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"where": "price!20"}, "query.where.0 condition 'price!20': wanted one such as"),
        ({"where": ["price<=2", ""]}, "query.where.1"),
        ({"where": "price<=cheap"}, "no finite number"),
        ({"where": "price' OR '1'='1"}, "query.where.0"),
        ({"where": "../../etc/passwd=1"}, "query.where.0"),
        ({"where": "colour=" + "x" * 10_000}, "at most 500"),
        ({"where": ["price<=2"] * 17}, "at most 16"),
        ({"rerank": "magic"}, "query.rerank operator 'magic'"),
        ({"rerank": ""}, "query.rerank"),
        ({"rerank": "smooth:a,b"}, "are no numbers"),
        ({"rerank": "smooth:nan"}, "finite"),
        ({"rerank": "expand:-1,3"}, "at least 1"),
        ({"rerank": "__import__('os')"}, "query.rerank"),
        ({"rerank": "x" * 10_000}, "at most 64"),
        ({"candidates": 0}, "greater than or equal to 1"),
        ({"candidates": -1}, "greater than or equal to 1"),
        ({"candidates": 10**9}, "less than or equal to 200"),
        ({"candidates": "all"}, "integer"),
        ({"hybrid": "1"}, "true or false is wanted"),
        ({"exact": "yes"}, "true or false is wanted"),
    ],
)
def test_wrong_ways_are_named(client: httpx.Client, query: dict[str, Any], says: str) -> None:
    told = problem(client.get("/search", params={"q": "red", **query}), 422, "invalid-request")
    assert says in told["detail"]
    assert told["wrong"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"queries": ["red"], "hybrid": 1}',
        b'{"queries": ["red"], "exact": "true"}',
        b'{"queries": ["red"], "candidates": true}',
        b'{"queries": ["red"], "candidates": 0}',
        b'{"queries": ["red"], "rerank": "magic"}',
        b'{"queries": ["red"], "rerank": {}}',
        b'{"queries": ["red"], "where": "price<=2"}',
        b'{"queries": ["red"], "where": [{"$gt": ""}]}',
        b'{"queries": ["red"], "where": ["\\ud800=1"]}',
    ],
)
def test_wrong_bodies_are_problems(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/search", content=body, headers={"Content-Type": "application/json"})
    problem(answer, 422, "invalid-request")


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (
            "weight<=2",
            "no column weight; there are price (numbers), colour (words), maker (words), image_h (numbers)",
        ),
        ("colour<=3", "colour holds words"),
        ("price=red", "'red' is no finite number"),
        ("__class__=1", "wanted one such as"),
    ],
)
def test_conditions_that_the_index_cannot_take_are_problems(
    client: httpx.Client, engine: ToyEngine, where: str, says: str
) -> None:
    product_id = next(iter(engine.products))
    for answer in (
        client.get("/search", params={"q": "red", "where": where}),
        client.post("/search", json={"queries": ["red"], "where": [where]}),
        client.get(f"{product_path(product_id)}/similar", params={"where": where}),
    ):
        assert says in problem(answer, 422, "invalid-request")["detail"]


@pytest.mark.parametrize(
    "where", ["colour='; DROP TABLE products; --", "colour=<script>", "colour=红色|👗", "colour=" + "é" * 490]
)
def test_strange_values_of_a_condition_are_values(client: httpx.Client, where: str) -> None:
    assert client.get("/search", params={"q": "red", "where": where}).json()["hits"] == []


def test_only_searches_of_one_way_are_answered_together(engine: ToyEngine) -> None:
    ways: list[dict[str, Any]] = [
        {},
        {"hybrid": "true"},
        {"where": "price<=20"},
        {"rerank": "late"},
        {"rerank": "late", "candidates": 9},
        {"exact": "true"},
        {"k": 3},
    ]
    engine.gate = threading.Event()
    service = Service(engine, limits=Limits(engine_threads=1))
    with running(service) as client, ThreadPoolExecutor(21) as pool:
        first = pool.submit(client.get, "/search?q=blue")
        until(lambda: len(engine.asked) == 1)
        answers = [
            (way, pool.submit(client.get, "/search", params={"q": query, **way}))
            for query in ("red bag", "green", "brown shoe")
            for way in ways
            if (query, way) != ("brown shoe", ways[-1])
        ]
        until(lambda: sum(map(len, service.live._waiting.values())) == len(answers))
        engine.gate.set()
        alone = Service(engine)
        found = [answer.result().json() for _, answer in answers]
        assert first.result().status_code == 200
    together = [asked["queries"] for asked in engine.asked[1:]]
    assert sorted(together) == [2, 3, 3, 3, 3, 3, 3]
    with running(alone) as client:
        for (way, _), answer in zip(answers, found, strict=True):
            assert client.get("/search", params={"q": answer["query"], **way}).json() == answer


def test_a_real_index_answers_every_way_that_it_has(drawn_index: Path) -> None:
    engine = SearchEngine.open(drawn_index)
    price, colour, _ = engine.columns
    assert price.minimum is not None
    assert price.maximum is not None
    conditions = [f"price<={(price.minimum + price.maximum) / 3:.2f}", f"colour={'|'.join(colour.words[:3])}"]
    how: dict[str, Any] = {"k": 7, "rerank": "expand:3,2", "candidates": 20}
    where = Filter(conditions=parse_conditions(conditions))
    wanted = engine.search("red dress", where=where, hybrid=True, exact=True, **how)
    assert wanted
    with running(Service(engine)) as client:
        asked = {**how, "rerank": "expand:3,2", "where": conditions}
        address = {**asked, "q": "red dress", "hybrid": "true", "exact": "true"}
        hits = client.get("/search", params=address).json()["hits"]
        assert [(hit["product_id"], hit["score"]) for hit in hits] == [
            (str(hit.product_id), pytest.approx(hit.score, abs=1e-6)) for hit in wanted
        ]
        assert all(hit["values"] == engine.product(int(hit["product_id"])).values for hit in hits)
        told = client.get("/index").json()
        assert told["ways"] == {"texts": True, "photo": False, "rerankers": []}
        assert [(one["name"], one["kind"]) for one in told["columns"]] == [
            ("price", "number"), ("colour", "word"), ("material", "word"),
        ]  # fmt: skip
        late = client.get("/search", params={"q": "red", "rerank": "late"})
        assert "no reranker of its own" in problem(late, 422, "invalid-request")["detail"]


def test_hybrid_of_an_index_without_texts_is_a_problem(drawn_index: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn_index, tmp_path / "index")
    for texts in tmp_path.rglob("texts.sqlite"):
        texts.unlink()
    with running(Service(SearchEngine.open(tmp_path / "index"))) as client:
        answer = client.post("/search", json={"queries": ["red"], "hybrid": True})
        assert "holds no texts" in problem(answer, 422, "invalid-request")["detail"]
        assert client.get("/index").json()["ways"]["texts"] is False
