"""The service says the right things, and says in clear words what it does not take."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from shopwindow.service.access_log import SECURITY_HEADERS, log_lines_to
from shopwindow.service.app import Service
from shopwindow.service.auth import KeyRing, hash_of
from shopwindow.service.limits import Limits
from tests.service.running import PROBLEM, problem, product_path, running, until
from tests.service.toy import ToyEngine


@pytest.fixture
def engine(drawn_shop: Path) -> ToyEngine:
    return ToyEngine.of_shop(drawn_shop)


@pytest.fixture(scope="module")
def client(drawn_shop: Path) -> Iterator[httpx.Client]:
    with running(Service(ToyEngine.of_shop(drawn_shop))) as client:
        yield client


def test_search_gives_the_engines_hits_with_what_is_known_of_them(
    client: httpx.Client, engine: ToyEngine
) -> None:
    answer = client.get("/search", params={"q": "red dress", "k": 4}).json()
    hits = engine.search("red dress", k=4)
    assert answer["query"] == "red dress"
    assert [hit["product_id"] for hit in answer["hits"]] == [hit.product_id for hit in hits]
    first, view = answer["hits"][0], engine.product(hits[0].product_id)
    assert first == {
        "product_id": view.product_id,
        "title": view.title,
        "rank": 1,
        "score": hits[0].score,
        "image_h": view.image_h,
        "image_w": view.image_w,
        "href": product_path(view.product_id),
        "photo": product_path(view.product_id, "photos"),
        "link": view.link,
        "price": view.price,
        "currency": view.currency,
        "values": dict(view.values),
    }


def test_words_that_nothing_is_known_of_are_always_told(client: httpx.Client) -> None:
    assert client.get("/search", params={"q": "zzzz red"}).json()["unknown_words"] == ["zzzz"]
    answer = client.get("/search", params={"q": "zzzz yyyy"}).json()
    assert (answer["hits"], answer["unknown_words"]) == ([], ["zzzz", "yyyy"])
    batch = client.post("/search", json={"queries": ["zzzz", "red"]}).json()["answers"]
    assert [one["unknown_words"] for one in batch] == [["zzzz"], []]


def test_what_was_meant_by_a_mistyped_word_is_told(client: httpx.Client) -> None:
    assert client.get("/search", params={"q": "erd bag"}).json()["did_you_mean"] == "red bag"
    assert client.get("/search", params={"q": "red bag"}).json()["did_you_mean"] is None


def test_suggestions_go_on_what_is_typed(client: httpx.Client, engine: ToyEngine) -> None:
    typed = next(iter(engine.products.values())).texts[0][:-2]
    told = client.get("/suggest", params={"q": typed, "k": 3}).json()
    assert told == {"query": typed, "suggestions": engine.suggest(typed, k=3)}
    assert told["suggestions"]
    problem(client.get("/suggest", params={"q": "red", "k": 21}), 422, "invalid-request")


def test_batch_gives_what_single_queries_give(client: httpx.Client) -> None:
    queries = ["red dress", "blue bag", "chair"]
    batch = client.post("/search", json={"queries": queries, "k": 3}).json()["answers"]
    assert batch == [client.get("/search", params={"q": query, "k": 3}).json() for query in queries]


def test_labels_filter(client: httpx.Client, engine: ToyEngine) -> None:
    hits = client.get("/search", params={"q": "red blue green", "label": [4, 9]}).json()["hits"]
    assert hits
    assert all({4, 9} & set(engine.product(hit["product_id"]).labels) for hit in hits)


def test_as_many_labels_may_be_asked_for_as_a_detector_has(client: httpx.Client) -> None:
    some = client.get("/search", params={"q": "red", "label": [4, 9]}).json()
    many = client.get("/search", params={"q": "red", "label": [4, 9, *range(1_000, 2_000)]}).json()
    assert many["hits"] == some["hits"]


def test_product_similar_explain_and_photo(client: httpx.Client, engine: ToyEngine) -> None:
    product_id = engine.search("red", k=1)[0].product_id
    view = engine.product(product_id)
    product = client.get(product_path(product_id)).json()
    assert [
        tuple(one["box"][side] for side in ("top", "left", "bottom", "right")) for one in product["regions"]
    ]
    assert [
        tuple(one["box"][side] for side in ("top", "left", "bottom", "right")) for one in product["regions"]
    ] == list(view.boxes)
    similar = client.get(f"{product_path(product_id)}/similar", params={"k": 3}).json()
    assert [hit["product_id"] for hit in similar["hits"]] == [
        hit.product_id for hit in engine.similar(product_id, k=3)
    ]
    region = client.get(f"{product_path(product_id)}/similar", params={"k": 3, "region": 0}).json()
    assert region["region"] == 0
    told = client.get(f"{product_path(product_id)}/explain", params={"q": "red thing"}).json()
    assert told["words"] == ["red", "thing"]
    assert len(told["weights"][0]) == len(view.boxes)
    photo = client.get(product_path(product_id, "photos"))
    assert photo.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(photo.content)).size == (view.image_w, view.image_h)
    again = client.get(product_path(product_id, "photos"), headers={"If-None-Match": photo.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "product_id",
    [
        "SKU-0042",
        "7",
        "007",
        "a/b",
        "a%2Fb",
        "50%",
        "similar",
        "x/similar",
        "\u00e9 \u7ea2",
        "a?b#c;d",
        '"<b>\n',
    ],
)
def test_any_text_is_the_id_of_a_product(drawn_shop: Path, product_id: str) -> None:
    engine = ToyEngine.of_shop(drawn_shop)
    old = next(iter(engine.products))
    view = replace(engine.products.pop(old), product_id=product_id)
    engine.products[product_id], engine.truths[product_id] = view, engine.truths.pop(old)
    with running(Service(engine)) as client:
        path = product_path(product_id)
        product = client.get(path).json()
        assert (product["product_id"], product["href"]) == (product_id, path)
        assert client.get(product["photo"]).headers["content-type"] == "image/jpeg"
        asked = client.get(f"{path}/explain", params={"q": "red"}).json()
        assert asked["product_id"] == product_id
        assert client.get(f"{path}/similar", params={"k": 1}).json()["product_id"] == product_id
        problem(client.get(product_path(product_id + "?")), 404, "unknown-product")
        assert 'route="/products/{product_id}/similar"' in client.get("/metrics").text


@pytest.mark.parametrize("path", ["", "/similar", "/explain?q=red"])
def test_unknown_product_is_a_problem(client: httpx.Client, path: str) -> None:
    told = problem(client.get(f"/products/77{path}"), 404, "unknown-product")
    assert "77" in told["detail"]


def test_unknown_region_is_a_problem(client: httpx.Client, engine: ToyEngine) -> None:
    product_id = next(iter(engine.products))
    path = f"{product_path(product_id)}/similar"
    problem(client.get(path, params={"region": 999}), 404, "unknown-region")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"q": ""}, "query.q"),
        ({"q": " \t\n"}, "holds nothing that can be seen"),
        ({"q": "\x00\x1b"}, "holds nothing that can be seen"),
        ({}, "query.q"),
        ({"q": "x" * 10_000}, "at most 500"),
        ({"q": "red", "k": 0}, "greater than or equal to 1"),
        ({"q": "red", "k": -5}, "greater than or equal to 1"),
        ({"q": "red", "k": 10**9}, "less than or equal to 200"),
        ({"q": "red", "k": "many"}, "integer"),
        ({"q": "red", "label": -1}, "query.label.0"),
        ({"q": "red", "lable": 1}, "query.lable is no parameter here"),
    ],
)
def test_wrong_values_are_named(client: httpx.Client, query: dict[str, Any], says: str) -> None:
    told = problem(client.get("/search", params=query), 422, "invalid-request")
    assert says in told["detail"]
    assert told["wrong"]


@pytest.mark.parametrize(
    "words",
    [
        "红色 连衣裙",
        "👗👗",
        "'; DROP TABLE products; --",
        "<script>alert(1)</script>",
        "../../etc/passwd",
        "${jndi:ldap://x}",
        "a\x00b\x1bc",
        "\u202eevil",
        "é" * 500,
        "%s%n{0}",
    ],
)
def test_strange_words_are_words(client: httpx.Client, words: str) -> None:
    assert client.get("/search", params={"q": words}).status_code == 200
    assert client.post("/search", json={"queries": [words]}).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"[" * 100_000, 400),
        (b'{"queries": "red"}', 422),
        (b'{"queries": []}', 422),
        (b'{"queries": ["red", ""]}', 422),
        (b'{"queries": ["\\ud800"]}', 422),
        (b'{"queries": ["red"], "k": 1e400}', 422),
        (b'{"queries": ["red"], "deep": 1}', 422),
        (json.dumps({"queries": ["red"] * 65}).encode(), 422),
        (b"\xff\xfe", 422),
        (b"x" * 300_000, 413),
    ],
)
def test_wrong_bodies_are_problems(client: httpx.Client, body: bytes, status: int) -> None:
    answer = client.post("/search", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {status, 400} if status == 422 else answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM


def test_a_body_without_a_length_is_limited_too(client: httpx.Client) -> None:
    answer = client.post("/search", content=(b"x" * 1000 for _ in range(400)))
    problem(answer, 413, "body-too-large")


@pytest.mark.parametrize(
    "path",
    ["/page/../app.py", "/page/%2e%2e/app.py", "/photos/../../etc/passwd", "/photos/..%2f..%2fetc%2fpasswd",
     "/photos/1.jpg", "/products/1e3", "//etc/passwd"],
)  # fmt: skip
def test_no_path_reaches_the_file_system(client: httpx.Client, path: str) -> None:
    answer = client.send(client.build_request("GET", httpx.URL(str(client.base_url).rstrip("/") + path)))
    assert answer.status_code in {404, 422}
    assert answer.headers["content-type"] == PROBLEM


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        (b"", "no image"),
        (b"<svg/>", "no image"),
        (b"\xff\xd8\xff" + b"x" * 99, "bytes"),
    ],
)
def test_a_missing_or_corrupt_photo_is_a_problem(
    engine: ToyEngine, tmp_path: Path, content: bytes | None, says: str
) -> None:
    product_id = next(iter(engine.products))
    photo = tmp_path / "photo.jpg"
    if content is not None:
        photo.write_bytes(content)
    engine.products[product_id] = replace(engine.products[product_id], photo=photo)
    with running(Service(engine, limits=Limits(photo_bytes=50))) as client:
        told = problem(client.get(product_path(product_id, "photos")), 404, "no-photo")
        assert says in told["detail"]
        assert str(tmp_path) not in told["detail"]


def test_every_answer_has_the_security_headers(client: httpx.Client) -> None:
    for path in ("/", "/page/app.js", "/search?q=red", "/nowhere", "/healthz"):
        headers = client.get(path).headers
        for name, value in SECURITY_HEADERS.items():
            assert headers[name] == value
        assert "server" not in headers
        assert not [name for name in headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    "path",
    ["/", "/page/app.js", "/search?q=red", "/search?q=", "/products/77", "/photos/77", "/index", "/healthz", "/readyz",
     "/metrics", "/openapi.json", "/docs", "/page/docs.css", "/suggest?q=red", "/nowhere"],
)  # fmt: skip
def test_head_gives_the_headers_of_get(client: httpx.Client, path: str) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    if path != "/metrics":
        assert head.headers["content-length"] == get.headers["content-length"]


def test_the_page_is_sent_again_only_when_it_changed(client: httpx.Client) -> None:
    for path in ("/", "/page/app.js", "/page/style.css"):
        page = client.get(path)
        assert page.headers["cache-control"] == "no-cache"
        again = client.get(path, headers={"If-None-Match": page.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert client.get("/index").headers["cache-control"] == "no-store"


def test_a_foreign_host_name_is_refused_without_keys(client: httpx.Client) -> None:
    answer = client.get("/search?q=red", headers={"Host": "shop.example"})
    problem(answer, 421, "misdirected-request")


def test_keys_are_needed_where_there_are_any(engine: ToyEngine) -> None:
    ring = KeyRing((("one", hash_of("first")), ("two", hash_of("second"))))
    with running(Service(engine, keys=ring)) as client:
        for headers in (
            {},
            {"Authorization": "Bearer third"},
            {"Authorization": "Basic first"},
            {"Authorization": "Bearer"},
        ):
            answer = client.get("/search?q=red", headers=headers)
            problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
        for key in ("first", "second"):
            answer = client.get(
                "/search?q=red", headers={"Authorization": f"Bearer {key}", "Host": "a.example"}
            )
            assert answer.status_code == 200
        for path in ("/", "/healthz", "/readyz", "/page/app.js"):
            assert client.get(path).status_code == 200
        for path in ("/metrics", "/openapi.json", "/photos/1", "/products/1", "/index"):
            assert client.get(path).status_code == 401


def test_too_many_at_once_are_told_to_come_again(engine: ToyEngine) -> None:
    engine.gate = threading.Event()
    service = Service(engine, limits=Limits(requests_at_once=3))
    with running(service) as client, ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(client.get, "/search?q=red") for _ in range(3)]
        until(lambda: service.metrics.inside == 3)
        answer = client.get("/search?q=red")
        problem(answer, 503, "busy")
        assert answer.headers["retry-after"] == "1"
        assert client.get("/healthz").status_code == 200
        engine.gate.set()
        assert [one.result().status_code for one in waiting] == [200] * 3
        assert client.get("/search?q=red").status_code == 200


def test_searches_that_come_together_are_answered_as_if_alone(engine: ToyEngine) -> None:
    queries = ["red bag", "blue", "chair", "green dress", "wooden", "shoes"] * 3
    engine.gate = threading.Event()
    service = Service(engine, limits=Limits(engine_threads=1))
    with running(service) as client, ThreadPoolExecutor(len(queries)) as pool:
        answers = [pool.submit(client.get, "/search", params={"q": one, "k": 5}) for one in queries]
        until(lambda: service.metrics.inside == len(queries))
        engine.gate.set()
        for query, answer in zip(queries, answers, strict=True):
            found = [hit["product_id"] for hit in answer.result().json()["hits"]]
            assert found == [hit.product_id for hit in engine.search(query, k=5)]


def test_a_search_without_end_is_answered_in_time(engine: ToyEngine) -> None:
    engine.gate = threading.Event()
    with running(Service(engine, limits=Limits(seconds=0.3))) as client:
        start = time.monotonic()
        answer = client.get("/search?q=red")
        problem(answer, 503, "too-slow")
        assert answer.headers["retry-after"] == "1"
        assert time.monotonic() - start < 3
        engine.gate.set()
        assert client.get("/search?q=red").status_code == 200


def test_a_body_that_does_not_come_is_answered_in_time(engine: ToyEngine) -> None:
    stop = threading.Event()

    def trickle() -> Iterator[bytes]:
        yield b'{"queries":'
        stop.wait(5)

    with running(Service(engine, limits=Limits(seconds=0.3))) as client:
        try:
            problem(client.post("/search", content=trickle()), 408, "request-timeout")
        except httpx.WriteError:
            pass
        finally:
            stop.set()
        assert client.get("/search?q=red").status_code == 200


def test_a_fault_of_the_engine_is_a_problem_and_the_service_stays_up(engine: ToyEngine) -> None:
    engine.truths = None  # type: ignore[assignment]
    stream = io.StringIO()
    log_lines_to(logging.StreamHandler(stream))
    with running(Service(engine)) as client:
        told = problem(client.get("/search?q=red"), 500, "internal-error")
        assert "NoneType" not in told["detail"]
        assert client.get("/healthz").status_code == 200
    assert "AttributeError" in stream.getvalue()


def test_the_log_holds_no_query_unless_asked(engine: ToyEngine) -> None:
    for log_queries in (False, True):
        stream = io.StringIO()
        log_lines_to(logging.StreamHandler(stream))
        with running(Service(engine, log_queries=log_queries)) as client:
            answer = client.get("/search?q=secret+wish")
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        line = next(line for line in lines if line["event"] == "request")
        assert (line["route"], line["status"], line["method"]) == ("/search", 200, "GET")
        assert line["request"] == answer.headers["x-request-id"]
        assert ("secret wish" in stream.getvalue()) == log_queries


def test_figures_count_what_happened(engine: ToyEngine) -> None:
    with running(Service(engine)) as client:
        for _ in range(3):
            client.get("/search?q=red")
        client.post("/search", json={"queries": ["a", "b"]})
        client.get("/products/77")
        text = client.get("/metrics").text
    assert 'shopwindow_requests_total{method="GET",route="/search",status="200"} 3' in text
    assert 'shopwindow_requests_total{method="GET",route="/products/{product_id}",status="404"} 1' in text
    assert 'shopwindow_request_seconds_count{route="/search"} 4' in text
    assert "shopwindow_queries_total 5" in text
    assert "shopwindow_index_products 120" in text


def test_a_newer_index_is_taken_over_without_losing_a_request(engine: ToyEngine, drawn_shop: Path) -> None:
    smaller = ToyEngine.of_shop(drawn_shop)
    keep = set(list(smaller.products)[:60])
    smaller.products = {one: view for one, view in smaller.products.items() if one in keep}
    smaller.truths = {one: truth for one, truth in smaller.truths.items() if one in keep}
    smaller.version = "2"
    service = Service(engine, look_every_seconds=0.05)
    with running(service) as client, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(client.get, "/search?q=red+blue&k=200") for _ in range(100)]
        engine.pending.append(smaller)
        asked += [pool.submit(client.get, "/search?q=red+blue&k=200") for _ in range(100)]
        assert {one.result().status_code for one in asked} == {200}
        until(lambda: client.get("/index").json()["version"] == "2")
        assert client.get("/index").json()["stats"]["products"] == 60
        assert 'index_swaps_total{outcome="done"} 1' in client.get("/metrics").text


def test_a_broken_new_index_leaves_the_old_one(engine: ToyEngine) -> None:
    engine.pending.append(None)  # type: ignore[arg-type]
    with running(Service(engine, look_every_seconds=0.05)) as client:
        until(lambda: 'index_swaps_total{outcome="failed"} 1' in client.get("/metrics").text)
        assert client.get("/search?q=red").json()["hits"]
        assert client.get("/readyz").status_code == 200
