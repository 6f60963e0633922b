"""What do the service's questions and answers look like as JSON? Their OpenAPI schema, with examples.

Built from the engine's records; knows neither the engine nor HTTP.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from shopwindow.model.explanation import Explanation
from shopwindow.search.conditions import Kind
from shopwindow.search.hits import ColumnView, Hit, ProductId, ProductView, View

LARGEST_ID: Final = 2**63 - 1
Id = Annotated[int, Field(ge=0, le=LARGEST_ID, examples=[10_042])]
Values = Annotated[
    dict[str, float | str],
    Field(
        description="by column, where the product has a value", examples=[{"price": 12.5, "colour": "red"}]
    ),
]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class FoundProduct(_Record):
    """One product found. `href` and `photo` are paths of this service; ids may be too large for JavaScript."""

    product_id: Id
    rank: int = Field(ge=1, description="counted from 1", examples=[1])
    score: float = Field(description="higher is better; comparable within one answer", examples=[0.731])
    image_h: int = Field(description="height of the photo in px", examples=[320])
    image_w: int = Field(description="width of the photo in px", examples=[300])
    href: str = Field(examples=["/products/10042"])
    photo: str | None = Field(description="absent where there is no photo file", examples=["/photos/10042"])
    values: Values


class SearchAnswer(_Record):
    """The products found for one query, best first."""

    query: str = Field(examples=["red striped dress"])
    hits: list[FoundProduct]
    unknown_words: list[str] = Field(
        description="where nothing was found: the words that the model does not know", examples=[[]]
    )


class BatchAnswer(_Record):
    """One answer per query, in their order."""

    answers: list[SearchAnswer]


class SimilarAnswer(_Record):
    """The products most like one product, or like one region of it, best first."""

    product_id: Id
    region: int | None = Field(description="the region that was compared; null: the whole photo")
    hits: list[FoundProduct]


class BoxAnswer(_Record):
    """Where a region lies in its photo, in px."""

    top: float
    left: float
    bottom: float
    right: float


class RegionAnswer(_Record):
    """One detected part of a photo."""

    region: int = Field(description="counted from 0", examples=[0])
    box: BoxAnswer
    label: int = Field(description="the detector's class", examples=[3])
    label_name: str = Field(examples=["handbag"])


class ProductAnswer(_Record):
    """A product, its photo's regions, texts known to match it, and its values in the shop's own columns."""

    product_id: Id
    image_h: int
    image_w: int
    href: str
    photo: str | None
    regions: list[RegionAnswer]
    texts: list[str]
    values: Values


class ExplanationAnswer(_Record):
    """How much each word owes each region: `weights[word][region]`, in units of the score; may be negative."""

    product_id: Id
    query: str
    words: list[str]
    weights: list[list[float]]
    score: float


class LabelAnswer(_Record):
    """A label that products can be filtered by."""

    label: int
    name: str


class ColumnAnswer(_Record):
    """A column that products can be filtered by: numbers with their range, or words with the most frequent."""

    name: str = Field(examples=["price"])
    kind: Kind
    minimum: float | None
    maximum: float | None
    words: list[str]
    count: int | None = Field(description="how many different words there are; null for numbers")

    @classmethod
    def of(cls, column: ColumnView) -> ColumnAnswer:
        """As JSON."""
        return cls(
            name=column.name,
            kind=column.kind,
            minimum=column.minimum,
            maximum=column.maximum,
            words=list(column.words),
            count=column.count if column.kind == "word" else None,
        )


class WaysAnswer(_Record):
    """Which ways of search this index has besides the plain one."""

    texts: bool = Field(description="hybrid can be asked for")
    rerankers: list[str] = Field(description="the model's own, which rerank can ask for", examples=[["late"]])


class IndexAnswer(_Record):
    """What is searched: the index's own numbers, its state, what to filter by, and queries to begin with."""

    version: str
    labels: list[LabelAnswer]
    columns: list[ColumnAnswer]
    ways: WaysAnswer
    suggestions: list[str]
    stats: dict[str, Any]


class StateAnswer(_Record):
    """Whether the service is well."""

    status: str = Field(examples=["ready"])


def found(hits: list[Hit]) -> list[FoundProduct]:
    """Hits as JSON, those that have a view."""
    return [
        FoundProduct(
            product_id=hit.product_id,
            rank=hit.rank,
            score=hit.score,
            image_h=hit.view.image_h,
            image_w=hit.view.image_w,
            href=f"/products/{hit.product_id}",
            photo=_photo(hit.product_id, hit.view),
            values=dict(hit.view.values),
        )
        for hit in hits
        if hit.view is not None
    ]


def search_answer(query: str, hits: list[Hit], unknown_words: tuple[str, ...]) -> SearchAnswer:
    """The answer to one query as JSON."""
    return SearchAnswer(query=query, hits=found(hits), unknown_words=list(unknown_words))


def product_answer(view: ProductView) -> ProductAnswer:
    """A product as JSON."""
    rows = enumerate(zip(view.boxes, view.labels, view.label_names, strict=True))
    return ProductAnswer(
        product_id=view.product_id,
        image_h=view.image_h,
        image_w=view.image_w,
        href=f"/products/{view.product_id}",
        photo=_photo(view.product_id, view),
        regions=[
            RegionAnswer(
                region=region,
                box=BoxAnswer(top=box[0], left=box[1], bottom=box[2], right=box[3]),
                label=label,
                label_name=name,
            )
            for region, (box, label, name) in rows
        ],
        texts=list(view.texts),
        values=dict(view.values),
    )


def explanation_answer(product_id: int, query: str, explanation: Explanation) -> ExplanationAnswer:
    """An explanation as JSON."""
    return ExplanationAnswer(
        product_id=product_id,
        query=query,
        words=list(explanation.words),
        weights=[list(row) for row in explanation.weights],
        score=explanation.score,
    )


def _photo(product_id: ProductId, view: View) -> str | None:
    return None if view.photo is None else f"/photos/{product_id}"
