"""Which questions does the service answer? One short function per endpoint; bounds are said in the signatures.

Annotations are evaluated here (no `from __future__ import annotations`): the bounds are values of this service's
`Limits`, and FastAPI reads them from the signatures. Doors, logs and shutdown are elsewhere.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Annotated, Final, TypeVar

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from shopwindow.files import DataError
from shopwindow.search.hits import RERANKED, Hit, SearchRequest, UnknownProduct
from shopwindow.service.answers import (
    LARGEST_ID,
    BatchAnswer,
    ColumnAnswer,
    ExplanationAnswer,
    IndexAnswer,
    LabelAnswer,
    ProductAnswer,
    SearchAnswer,
    SimilarAnswer,
    WaysAnswer,
    explanation_answer,
    found,
    product_answer,
    search_answer,
)
from shopwindow.service.limits import Limits
from shopwindow.service.live import LOG, Engine, LiveEngine
from shopwindow.service.metrics import Metrics
from shopwindow.service.photos import photo_response
from shopwindow.service.problems import Problem, busy, documented, unknown_product
from shopwindow.service.questions import Narrowed, Ways, WaysInAddress, no_truth_value, one_line

Answer = TypeVar("Answer")
HITS: Final = 24
"""How many hits an answer has when nobody says."""
_SEEN: Final = r"[^\s\x00-\x1f\x7f-\x9f]"
_PUBLIC_STATS: Final = ("products", "dimensions", "precision", "approximate", "measured")
"""The engine's numbers without what is nobody's business, such as where files lie."""


ProductId = Annotated[int, Path(ge=0, le=LARGEST_ID, examples=[10_042])]


def search_routes(live: LiveEngine, limits: Limits, metrics: Metrics) -> APIRouter:
    """The endpoints that search."""
    routes = APIRouter(tags=["search"])
    Words = Annotated[  # noqa: N806 - a type
        str,
        Field(
            min_length=1,
            max_length=limits.query_characters,
            pattern=_SEEN,
            description="what the shopper typed",
            examples=["red striped dress"],
        ),
        AfterValidator(one_line),
    ]
    HowMany = Annotated[  # noqa: N806 - a type
        int,
        Field(ge=1, le=limits.hits, description="how many hits", examples=[5]),
        BeforeValidator(no_truth_value),
    ]

    Candidates = Annotated[  # noqa: N806 - a type
        int,
        Field(ge=1, le=limits.candidates, description="how many first products are scored anew, with rerank"),
        BeforeValidator(no_truth_value),
    ]
    scored_anew = min(RERANKED, limits.candidates)

    class SearchQuestion(WaysInAddress):
        """The parameters of a search."""

        q: Words
        k: HowMany = HITS
        candidates: Candidates = scored_anew

    class BatchQuestion(Ways):
        """Several queries with the same settings."""

        queries: Annotated[
            list[Words],
            Field(min_length=1, max_length=limits.batch, examples=[["red dress", "leather bag"]]),
        ]
        k: HowMany = HITS
        candidates: Candidates = scored_anew

    @routes.get("/search", responses=documented(401, 422, 503))
    async def search(request: Request, asked: Annotated[SearchQuestion, Query()]) -> SearchAnswer:
        """The products that answer a query, best first."""
        request.state.words = asked.q
        metrics.queries += 1
        with told_as_problems():
            answer = await live.search(asked.request(asked.q, k=asked.k, candidates=asked.candidates))
        return search_answer(asked.q, answer.hits, answer.unknown_words)

    @routes.post("/search", responses=documented(400, 401, 413, 422, 503))
    async def search_batch(request: Request, asked: BatchQuestion) -> BatchAnswer:
        """The products that answer each of several queries: cheaper than asking for one after the other."""
        request.state.words = " | ".join(asked.queries)
        metrics.queries += len(asked.queries)
        requests = [asked.request(words, k=asked.k, candidates=asked.candidates) for words in asked.queries]
        with told_as_problems():
            many = await live.search_batch(requests)
        rows = zip(asked.queries, many, strict=True)
        return BatchAnswer(
            answers=[search_answer(query, answer.hits, answer.unknown_words) for query, answer in rows]
        )

    class ExplainQuestion(BaseModel):
        """The parameter of an explanation."""

        model_config = ConfigDict(extra="forbid")
        q: Words

    @routes.get("/products/{product_id}/explain", responses=documented(401, 404, 422, 503))
    async def explain(
        request: Request, product_id: ProductId, asked: Annotated[ExplainQuestion, Query()]
    ) -> ExplanationAnswer:
        """Which word of a query looks at which region of a product's photo."""
        request.state.words = asked.q
        explanation = await live.ask(_told(lambda engine: engine.explain(asked.q, product_id)))
        return explanation_answer(product_id, asked.q, explanation)

    class SimilarQuestion(Narrowed):
        """The parameters of a search by photo."""

        region: Annotated[
            int | None, Field(ge=0, le=10_000, description="compare one region instead of the whole photo")
        ] = None
        k: HowMany = HITS

    @routes.get("/products/{product_id}/similar", responses=documented(401, 404, 422, 503))
    async def similar(product_id: ProductId, asked: Annotated[SimilarQuestion, Query()]) -> SimilarAnswer:
        """The products most like a product, or like one region of its photo."""
        request = SearchRequest(product=product_id, region=asked.region, k=asked.k, where=asked.filter())

        def answer(engine: Engine) -> list[Hit]:
            regions = len(engine.product(product_id).boxes)
            if asked.region is not None and asked.region >= regions:
                raise Problem(404, "unknown-region", f"product {product_id} has {regions} regions")
            (hits,) = engine.search_many([request])
            return engine.with_views(hits)

        hits = await live.ask(_told(answer))
        return SimilarAnswer(product_id=product_id, region=asked.region, hits=found(hits))

    return routes


def catalogue_routes(live: LiveEngine, limits: Limits, suggestions: list[str]) -> APIRouter:
    """The endpoints that show what there is."""
    routes = APIRouter(tags=["catalogue"])

    @routes.get("/products/{product_id}", responses=documented(401, 404, 422, 503))
    async def product(product_id: ProductId) -> ProductAnswer:
        """A product, its photo's regions, and texts known to match it."""
        return product_answer(await live.ask(_told(lambda engine: engine.product(product_id))))

    @routes.get(
        "/photos/{product_id}",
        response_class=Response,
        responses={
            200: {
                "description": "the photo file as it is",
                "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
            },
            304: {"description": "the photo is the one that the asker has"},
            **documented(401, 404, 422, 503),
        },
    )
    async def photo(request: Request, product_id: ProductId) -> Response:
        """A product's photo. Its place comes from the index, never from the request."""
        known = request.headers.get("if-none-match")
        return await live.ask(
            _told(
                lambda engine: photo_response(
                    engine.product(product_id), known=known, most_bytes=limits.photo_bytes
                )
            )
        )

    @routes.get("/index", responses=documented(401, 503))
    async def index() -> IndexAnswer:
        """What is searched: the index's numbers, its state, what to filter by, and which ways of search it has."""

        def answer(engine: Engine) -> IndexAnswer:
            stats = engine.stats()
            return IndexAnswer(
                version=engine.version,
                labels=[
                    LabelAnswer(label=label, name=name) for label, name in sorted(engine.label_names.items())
                ],
                columns=[ColumnAnswer.of(column) for column in engine.columns],
                ways=WaysAnswer(texts=bool(stats.get("texts")), rerankers=stats.get("rerankers", [])),
                suggestions=suggestions,
                stats={name: stats[name] for name in _PUBLIC_STATS if name in stats},
            )

        return await live.ask(answer)

    return routes


@contextlib.contextmanager
def told_as_problems() -> Iterator[None]:
    """Tells the engine's errors as problems. Where a file lies is for the log only."""
    try:
        yield
    except UnknownProduct as error:
        raise unknown_product(error.product_id) from error
    except DataError as error:
        LOG.error("the index cannot answer: %s", error)
        detail = "the index cannot answer this: a part of it is gone or broken"
        raise busy("index-broken", detail, retry_after_seconds=60) from error
    except ValueError as error:
        raise Problem(422, "invalid-request", str(error)) from error


def _told(question: Callable[[Engine], Answer]) -> Callable[[Engine], Answer]:
    """The question, with the engine's errors told as problems."""

    def ask(engine: Engine) -> Answer:
        with told_as_problems():
            return question(engine)

    return ask
