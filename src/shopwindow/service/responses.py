"""What do the service's responses look like? Their JSON with its OpenAPI schema, and photos.

Built from the engine's records; knows neither the engine nor an endpoint.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ConfigDict, Field

from shopwindow.search.conditions import Kind
from shopwindow.search.hits import ColumnView, Hit, ProductView, View
from shopwindow.service.problems import Problem
from shopwindow.vision.fetch import fetch
from shopwindow.vision.pictures import UnreadablePicture

_PHOTO_CACHE: Final = "private, max-age=300"
_NO_GOODS: Final = {"whole photo", "part", "others", "face", "human face", "arm", "hair", "hand"}
"""Names of labels that nobody shops for."""
IMAGE_TYPES: Final = (
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"),
    (b"GIF8", 0, "image/gif"),
    (b"WEBP", 8, "image/webp"),
)
Id = Annotated[str, Field(description="as the shop writes it", examples=["SKU-0042"])]
PhotoPath = Annotated[
    str | None,
    Field(
        description="a path of this service, or the address of a photo on the web; null where there is none",
        examples=["/photos/SKU-0042"],
    ),
]
Title = Annotated[
    str | None, Field(description="null where the index knows none", examples=["Organic tomatoes"])
]
Values = Annotated[
    dict[str, float | str],
    Field(
        description="by column, where the product has a value", examples=[{"price": 12.5, "colour": "red"}]
    ),
]


Link = Annotated[
    str | None,
    Field(
        description="where the shop sells it; null where the index knows no link",
        examples=["https://shop.example/p/42"],
    ),
]
Price = Annotated[
    float | str | None,
    Field(description="as the shop's column has it; null where it has none", examples=[12.5]),
]
Currency = Annotated[
    str | None, Field(description="of the price; null where nobody said it", examples=["EUR"])
]


class _Json(BaseModel):
    model_config = ConfigDict(frozen=True)


class ProductHit(_Json):
    """One product found. `href` is a path of this service."""

    product_id: Id
    title: Title
    rank: int = Field(ge=1, description="counted from 1", examples=[1])
    score: float = Field(description="higher is better; comparable within one response", examples=[0.731])
    image_h: int = Field(description="height of the photo in px", examples=[320])
    image_w: int = Field(description="width of the photo in px", examples=[300])
    href: str = Field(examples=["/products/SKU-0042"])
    photo: PhotoPath
    link: Link
    price: Price
    currency: Currency
    values: Values


class SearchResponse(_Json):
    """The products found for one query, best first."""

    query: str = Field(examples=["red striped dress"])
    hits: list[ProductHit]
    unknown_words: list[str] = Field(
        description="the words that the model does not know: they do not count in the search", examples=[[]]
    )
    did_you_mean: str | None = Field(
        description="the query with mistyped words replaced by known ones; null where none is mistyped",
        examples=["red dress"],
    )


class BatchResponse(_Json):
    """One response per query, in their order."""

    answers: list[SearchResponse]


class SimilarResponse(_Json):
    """The products most like one product, or like one region of it, best first."""

    product_id: Id
    region: int | None = Field(description="the region that was compared; null: the whole photo")
    hits: list[ProductHit]


class SuggestResponse(_Json):
    """Titles and known texts that go on what somebody has typed, best first."""

    query: str = Field(examples=["red str"])
    suggestions: list[str] = Field(examples=[["red striped dress"]])


class BoxJson(_Json):
    """Where a region lies in its photo, in px."""

    top: float
    left: float
    bottom: float
    right: float


class RegionJson(_Json):
    """One detected part of a photo."""

    region: int = Field(description="counted from 0", examples=[0])
    box: BoxJson
    label: int = Field(description="the detector's class", examples=[3])
    label_name: str = Field(examples=["handbag"])


class ProductResponse(_Json):
    """A product, its photo's regions, texts known to match it, and its values in the shop's own columns."""

    product_id: Id
    title: Title
    image_h: int
    image_w: int
    href: str
    photo: PhotoPath
    link: Link
    price: Price
    currency: Currency
    regions: list[RegionJson]
    texts: list[str]
    values: Values


class ExplanationResponse(_Json):
    """How much each word owes each region: `weights[word][region]`, in units of the score; may be negative."""

    product_id: Id
    query: str
    words: list[str]
    weights: list[list[float]]
    score: float


class LabelJson(_Json):
    """A label that products can be filtered by, and how many products have it."""

    label: int
    name: str
    count: int


class ColumnJson(_Json):
    """A column that products can be filtered by: numbers with their range, or words with the most frequent."""

    name: str = Field(examples=["price"])
    kind: Kind
    minimum: float | None
    maximum: float | None
    words: list[str]
    counts: list[int] = Field(description="how many products have each of the words")
    count: int | None = Field(description="how many different words there are; null for numbers")
    role: str | None = Field(
        description="title, link, price or currency, where the column says that", examples=["price"]
    )


class WaysJson(_Json):
    """Which ways of search this index has besides the plain one."""

    texts: bool = Field(description="hybrid can be asked for")
    photo: bool = Field(description="POST /search/photo can be asked")
    rerankers: list[str] = Field(description="the model's own, which rerank can ask for", examples=[["late"]])


class IndexResponse(_Json):
    """What is searched: the index's own numbers, its state, what to filter by, and queries to begin with."""

    version: str
    labels: list[LabelJson]
    columns: list[ColumnJson]
    ways: WaysJson
    suggestions: list[str]
    stats: dict[str, Any]


class StateResponse(_Json):
    """Whether the service is well."""

    status: str = Field(examples=["ready"])


def product_hits(hits: list[Hit]) -> list[ProductHit]:
    """Hits as JSON, those that have a view."""
    return [
        ProductHit(
            product_id=str(hit.product_id),
            title=hit.view.title,
            rank=hit.rank,
            score=hit.score,
            image_h=hit.view.image_h,
            image_w=hit.view.image_w,
            href=_path("products", hit.product_id),
            photo=_photo_link(hit.view, hit.product_id),
            link=hit.view.link,
            price=hit.view.price,
            currency=hit.view.currency,
            values=dict(hit.view.values),
        )
        for hit in hits
        if hit.view is not None
    ]


def search_response(
    query: str, hits: list[Hit], unknown_words: tuple[str, ...], meant: str | None
) -> SearchResponse:
    """What was found for one query as JSON."""
    return SearchResponse(
        query=query, hits=product_hits(hits), unknown_words=list(unknown_words), did_you_mean=meant
    )


def label_json(names: Mapping[int, str], counts: Mapping[int, int]) -> list[LabelJson]:
    """The labels to filter by: those that some products have, but neither parts of people nor places in a photo."""
    named = [(label, names.get(label, ""), count) for label, count in counts.items()]
    return [
        LabelJson(label=label, name=name, count=count)
        for label, name, count in named
        if name and name.partition(" (")[0].lower() not in _NO_GOODS
    ]


def product_response(view: ProductView) -> ProductResponse:
    """A product as JSON."""
    regions = enumerate(zip(view.boxes, view.labels, view.label_names, strict=True))
    return ProductResponse(
        product_id=str(view.product_id),
        title=view.title,
        image_h=view.image_h,
        image_w=view.image_w,
        href=_path("products", view.product_id),
        photo=_photo_link(view, view.product_id),
        link=view.link,
        price=view.price,
        currency=view.currency,
        regions=[
            RegionJson(
                region=region,
                box=BoxJson(top=box[0], left=box[1], bottom=box[2], right=box[3]),
                label=label,
                label_name=name,
            )
            for region, (box, label, name) in regions
        ],
        texts=list(view.texts),
        values=dict(view.values),
    )


def column_json(column: ColumnView) -> ColumnJson:
    """A column as JSON."""
    return ColumnJson(**{**vars(column), "count": column.count if column.kind == "word" else None})


def photo_response(view: ProductView, *, known: str | None, most_bytes: int) -> Response:
    """A product's photo; status 304 without its bytes where the client's ETags, `known`, hold that of the file; status
    307 to its address where it lies on the web.

    Raises: Problem for a photo that is missing, unreadable, no image, or larger than `most_bytes`.
    """
    if view.photo_url is not None:
        return RedirectResponse(view.photo_url, 307)
    if view.photo is None:
        raise _no_photo(view, "the index knows no photo of it")
    try:
        content, etag = _read(view.photo, most_bytes)
    except (OSError, UnreadablePicture) as error:
        raise _no_photo(view, "its file cannot be read") from error
    if len(content) > most_bytes:
        raise _no_photo(view, f"its file has more than {most_bytes} bytes")
    kind = image_type(content)
    if kind is None:
        raise _no_photo(view, "its file is no image")
    headers = {"ETag": etag, "Cache-Control": _PHOTO_CACHE}
    if known is not None and etag in known:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)


def image_type(content: bytes) -> str | None:
    """The media type of an image by its first bytes: a file's name says nothing of what is in it.

    >>> image_type(b"GIF89a"), image_type(b"<svg onload=...>")
    ('image/gif', None)
    """
    return next((kind for magic, at, kind in IMAGE_TYPES if content[at : at + len(magic)] == magic), None)


def _read(photo: Path | str, most_bytes: int) -> tuple[bytes, str]:
    """The photo's bytes, more than `most_bytes` of a file at most by one, and its ETag."""
    if isinstance(photo, str):
        fetched = fetch(photo)
        assert fetched.data is not None
        return fetched.data, f'"{hashlib.sha256(fetched.data).hexdigest()[:32]}"'
    with photo.open("rb") as file:
        status = os.fstat(file.fileno())
        return file.read(most_bytes + 1), f'"{status.st_mtime_ns:x}-{status.st_size:x}"'


def _no_photo(view: ProductView, reason: str) -> Problem:
    return Problem(404, "no-photo", f"product {view.product_id} has no photo: {reason}")


def _photo_link(view: View, product_id: object) -> str | None:
    """Where a browser gets the photo."""
    return view.photo_url if view.photo is None else _path("photos", product_id)


def _path(folder: str, product_id: object) -> str:
    return f"/{folder}/{quote(str(product_id), safe='')}"
