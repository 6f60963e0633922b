"""Which requests does the service answer? One short function per endpoint.

Parameters and their bounds are in `requests.py`, JSON in `responses.py`; auth, limits, log and shutdown are elsewhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Query, Request, Response
from starlette.staticfiles import StaticFiles

from shopwindow.files import DataError
from shopwindow.search.hits import Hit, SearchRequest, UnknownProduct
from shopwindow.search.stores.protocol import StoreUnavailableError
from shopwindow.service.limits import PHOTO_SEARCH
from shopwindow.service.live import LOG, Engine, LiveEngine, SearchResult, search_together
from shopwindow.service.metrics import MEDIA_TYPE, Metrics
from shopwindow.service.problems import Problem, documented, unavailable
from shopwindow.service.requests import (
    BatchBody,
    ExplainParameters,
    PhotoParameters,
    ProductId,
    SearchParameters,
    SimilarParameters,
    SuggestParameters,
)
from shopwindow.service.responses import (
    IMAGE_TYPES,
    BatchResponse,
    ExplanationResponse,
    IndexResponse,
    ProductResponse,
    SearchResponse,
    SimilarResponse,
    StateResponse,
    SuggestResponse,
    WaysJson,
    column_json,
    image_type,
    label_json,
    photo_response,
    product_hits,
    product_response,
    search_response,
)
from shopwindow.vision.pictures import UnreadablePicture

Result = TypeVar("Result")
PAGE: Final = StaticFiles(packages=[("shopwindow.service", "page")])
_PUBLIC_STATS: Final = ("products", "dimensions", "approximate", "measured")
"""The engine's numbers without what is nobody's business, such as where files lie."""
_TEXT_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
    **documented(401, 503),
}
_PHOTO_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "the photo file as it is",
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    },
    307: {"description": "the photo lies on the web, at the address that Location names"},
    304: {"description": "the photo is the one that the client has"},
    **documented(401, 404, 422, 503),
}
_PICTURE_TYPES: Final = tuple(kind for _, _, kind in IMAGE_TYPES)
_PICTURE_BODY: Final = {
    "required": True,
    "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in _PICTURE_TYPES},
}


def search_routes(live: LiveEngine, metrics: Metrics) -> APIRouter:
    """The endpoints that search by words or by a photo."""
    routes = APIRouter(tags=["search"])

    @routes.get("/search", responses=documented(401, 422, 503))
    async def search(request: Request, asked: Annotated[SearchParameters, Query()]) -> SearchResponse:
        """The products that answer a query, best first."""
        request.state.words = asked.q
        metrics.queries.inc()
        with errors_as_problems():
            results = await live.search(asked.search_for(asked.q))
        return search_response(asked.q, results.hits, results.unknown_words, results.meant)

    @routes.post("/search", responses=documented(400, 401, 413, 415, 422, 503))
    async def search_batch(request: Request, asked: BatchBody) -> BatchResponse:
        """The products that answer each of several queries: cheaper than asking for one after the other."""
        request.state.words = " | ".join(asked.queries)
        metrics.queries.inc(len(asked.queries))
        with errors_as_problems():
            many = await live.search_batch([asked.search_for(words) for words in asked.queries])
        pairs = zip(asked.queries, many, strict=True)
        return BatchResponse(
            answers=[
                search_response(words, found.hits, found.unknown_words, found.meant) for words, found in pairs
            ]
        )

    @routes.post(
        PHOTO_SEARCH,
        responses=documented(401, 413, 415, 422, 503),
        openapi_extra={"requestBody": _PICTURE_BODY},
    )
    async def search_by_photo(request: Request, asked: Annotated[PhotoParameters, Query()]) -> SearchResponse:
        """The products most like a photo, the body; with words, those that are like it and answer them."""
        if asked.q is not None:
            request.state.words = asked.q
        content = await _picture(request)
        metrics.queries.inc()

        def find(engine: Engine) -> SearchResult:
            return search_together(engine, [asked.search_for(engine.encode_photo(content))])[0]

        results = await _ask(live, find)
        return search_response(asked.q or "", results.hits, results.unknown_words, results.meant)

    @routes.get("/suggest", responses=documented(401, 422, 503))
    async def suggest(request: Request, asked: Annotated[SuggestParameters, Query()]) -> SuggestResponse:
        """Titles and known texts that go on what somebody is typing."""
        request.state.words = asked.q
        known = await _ask(live, lambda engine: engine.suggest(asked.q, k=asked.k))
        return SuggestResponse(query=asked.q, suggestions=known)

    return routes


def product_routes(live: LiveEngine, *, photo_bytes: int) -> APIRouter:
    """The endpoints about one product. Its photo may have `photo_bytes`."""
    routes = APIRouter(tags=["product"])
    problems = documented(401, 404, 422, 503)

    @routes.get("/products/{product_id}", responses=problems)
    async def product(product_id: ProductId) -> ProductResponse:
        """A product, the regions of its photo, and texts known to match it."""
        return product_response(await _ask(live, lambda engine: engine.product(product_id)))

    @routes.get("/products/{product_id}/explain", responses=problems)
    async def explain(
        request: Request, product_id: ProductId, asked: Annotated[ExplainParameters, Query()]
    ) -> ExplanationResponse:
        """Which word of a query looks at which region of a product's photo."""
        request.state.words = asked.q
        explanation = await _ask(live, lambda engine: engine.explain(asked.q, product_id))
        return ExplanationResponse(product_id=product_id, query=asked.q, **vars(explanation))

    @routes.get("/products/{product_id}/similar", responses=problems)
    async def similar(product_id: ProductId, asked: Annotated[SimilarParameters, Query()]) -> SimilarResponse:
        """The products most like a product, or like one region of its photo."""
        request = SearchRequest(product=product_id, region=asked.region, k=asked.k, where=asked.filter())

        def find(engine: Engine) -> list[Hit]:
            regions = len(engine.product(product_id).boxes)
            if asked.region is not None and asked.region >= regions:
                raise Problem(404, "unknown-region", f"product {product_id} has {regions} regions")
            (hits,) = engine.search_many([request])
            return engine.with_views(hits)

        hits = product_hits(await _ask(live, find))
        return SimilarResponse(product_id=product_id, region=asked.region, hits=hits)

    @routes.get("/photos/{product_id}", response_class=Response, responses=_PHOTO_RESPONSES)
    async def photo(request: Request, product_id: ProductId) -> Response:
        """A product's photo. Its place comes from the index, never from the request."""
        known = request.headers.get("if-none-match")

        def read(engine: Engine) -> Response:
            return photo_response(engine.product(product_id), known=known, most_bytes=photo_bytes)

        return await _ask(live, read)

    return routes


def index_routes(live: LiveEngine, suggestions: list[str]) -> APIRouter:
    """The endpoint about the whole index, the page (index.html), and what all endpoints are (docs.html)."""
    routes = APIRouter(tags=["index"])

    @routes.get("/index", responses=documented(401, 503))
    async def index() -> IndexResponse:
        """What is searched: the index's numbers, its state, what to filter by, and which ways of search it has."""

        def describe(engine: Engine) -> IndexResponse:
            stats = engine.stats()
            return IndexResponse(
                version=engine.version,
                labels=label_json(engine.label_names, engine.label_counts),
                columns=[column_json(column) for column in engine.columns],
                ways=WaysJson(
                    texts=bool(stats.get("texts")),
                    photo=bool(stats.get("by_photo")),
                    rerankers=stats.get("rerankers", []),
                ),
                suggestions=suggestions,
                stats={name: stats[name] for name in _PUBLIC_STATS if name in stats},
            )

        return await _ask(live, describe)

    @routes.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return await PAGE.get_response("index.html", request.scope)

    @routes.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return await PAGE.get_response("docs.html", request.scope)

    return routes


def operation_routes(metrics: Metrics, is_draining: Callable[[], bool]) -> APIRouter:
    """Whether the service lives, whether it wants requests, and its metrics."""
    routes = APIRouter(tags=["operation"])

    @routes.get("/healthz")
    async def healthz() -> StateResponse:
        """Says that the process lives."""
        return StateResponse(status="alive")

    @routes.get("/readyz", responses=documented(503))
    async def readyz() -> StateResponse:
        """Says whether requests are welcome: an index is open and the service is not about to end."""
        if is_draining():
            raise unavailable("draining", "the service is about to end", retry_after_seconds=1)
        return StateResponse(status="ready")

    @routes.get("/metrics", response_class=Response, responses=_TEXT_RESPONSES)
    async def prometheus() -> Response:
        """The metrics of the service in Prometheus' text format."""
        return Response(metrics.text(), headers={"Content-Type": MEDIA_TYPE})

    return routes


@contextlib.contextmanager
def errors_as_problems() -> Iterator[None]:
    """Turns the engine's errors into problems. Where a file lies is for the log only."""
    try:
        yield
    except UnknownProduct as error:
        raise Problem(404, "unknown-product", f"the index holds no product {error.product_id}") from error
    except StoreUnavailableError as error:
        LOG.error("the store does not answer: %s", error)
        detail = "the database that holds the products does not answer"
        raise unavailable("store-unavailable", detail, retry_after_seconds=5) from error
    except DataError as error:
        LOG.error("the index cannot answer: %s", error)
        detail = "the index cannot answer this: a part of it is gone or broken"
        raise unavailable("index-broken", detail, retry_after_seconds=60) from error
    except UnreadablePicture as error:
        raise _unreadable(error.reason) from error
    except ValueError as error:
        raise Problem(422, "invalid-request", str(error)) from error


async def _picture(request: Request) -> bytes:
    """The body, if it may be a picture; what it holds is read later. Raises: Problem."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _PICTURE_TYPES:
        got = f"is {kind[:100]!a}" if kind else "is missing"
        detail = f"Content-Type {got}: one of {', '.join(_PICTURE_TYPES)} is wanted"
        raise Problem(415, "unsupported-media-type", detail)
    content = await request.body()
    if image_type(content) is None:
        raise _unreadable("it begins as no JPEG, PNG, GIF or WebP does" if content else "empty")
    return content


def _unreadable(reason: str) -> Problem:
    return Problem(422, "unreadable-photo", f"the photo cannot be read: {reason}")


async def _ask(live: LiveEngine, question: Callable[[Engine], Result]) -> Result:
    """What the engine says, its errors as problems."""
    with errors_as_problems():
        return await live.ask(question)
