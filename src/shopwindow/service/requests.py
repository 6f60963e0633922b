"""Which values may a request have? The parameters of every endpoint, in an address or in a body, with their bounds."""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import unquote

from fastapi import Path
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool
from starlette.types import Scope

from shopwindow.ids import LONGEST_ID
from shopwindow.model.rerankers import full_name
from shopwindow.search.conditions import Condition, parse_conditions
from shopwindow.search.hits import RERANKED, Filter, PhotoQuery, SearchRequest

HITS: Final = 24
"""How many hits a response has when nobody says."""
MOST_HITS: Final = 200
SUGGESTED: Final = 8
MOST_SUGGESTED: Final = 20
MOST_CANDIDATES: Final = 200
MOST_QUERIES: Final = 64
"""Queries of one batch."""
LONGEST_QUERY: Final = 500
MOST_CONDITIONS: Final = 16
LONGEST_CONDITION: Final = 500
LONGEST_RERANKING: Final = 64
_LARGEST_LABEL: Final = 2**31 - 1
_VISIBLE: Final = r"[^\s\x00-\x1f\x7f-\x9f]"
_QUOTED_SLASH_OR_PERCENT: Final = re.compile(rb"%(?=2[Ff5])")


def routable(scope: Scope) -> Scope:
    """A request as the routes know it.

    HEAD is answered as GET; the server, which keeps its own scope, sends no body. `/` and `%` of an id stay quoted in
    the path, so that an id is one part of it; `ProductId` unquotes them.
    """
    raw_path = scope.get("raw_path") or scope["path"].encode()
    path = unquote(_QUOTED_SLASH_OR_PERCENT.sub(b"%25", raw_path).decode("ascii", "replace"))
    return {**scope, "path": path, "method": "GET" if scope["method"] == "HEAD" else scope["method"]}


def no_bool(value: object) -> object:
    """The value, if it is no bool: Python would take true as 1. Raises: ValueError."""
    if isinstance(value, bool):
        raise ValueError("a number is wanted")
    return value


def true_or_false(value: object) -> object:
    """The value, if it is `true` or `false`: 1, on and yes are no JSON. Raises: ValueError."""
    if value not in ("true", "false"):
        raise ValueError("true or false is wanted")
    return value


def one_line(words: str) -> str:
    """Words without control characters, which become spaces, nor spaces around them.

    >>> one_line("  red\\n\\tdress\\x00 ")
    'red  dress'
    """
    return "".join(" " if letter < " " or "\x7f" <= letter <= "\x9f" else letter for letter in words).strip()


def _parsable(condition: str) -> str:
    Condition.parse(condition)
    return condition


def _known_reranking(text: str | None) -> str | None:
    if text is not None:
        full_name(text)
    return text


ProductId = Annotated[
    str,
    BeforeValidator(unquote),
    Path(min_length=1, max_length=LONGEST_ID, description="any text, percent-encoded", examples=["SKU-0042"]),
]
Words = Annotated[
    str,
    Field(
        min_length=1,
        max_length=LONGEST_QUERY,
        pattern=_VISIBLE,
        description="what the shopper typed",
        examples=["red striped dress"],
    ),
    AfterValidator(one_line),
]
Queries = Annotated[
    list[Words], Field(min_length=1, max_length=MOST_QUERIES, examples=[["red dress", "leather bag"]])
]
Hits = Annotated[
    int, Field(ge=1, le=MOST_HITS, description="how many hits", examples=[5]), BeforeValidator(no_bool)
]
Candidates = Annotated[
    int,
    Field(ge=1, le=MOST_CANDIDATES, description="how many first products are scored anew, with rerank"),
    BeforeValidator(no_bool),
]
Labels = Annotated[
    list[Annotated[int, Field(ge=0, le=_LARGEST_LABEL), BeforeValidator(no_bool)]],
    Field(description="only products with a region of one of these labels"),
]
Conditions = Annotated[
    list[Annotated[str, Field(max_length=LONGEST_CONDITION), AfterValidator(_parsable)]],
    Field(
        max_length=MOST_CONDITIONS,
        description="only products that pass all of these: a column of the index (GET /index names them; image_h and "
        "image_w, in px, are always there), <= or >= with a number, or = with a value or several with | between; "
        "a product without a value passes none",
        examples=[["price<=20", "colour=red|blue"]],
    ),
]
Exact = Field(description="compare with every product, also where the index is set to look into a part only")
Hybrid = Field(description="also by texts known to match, fused; where GET /index says texts")
Reranking = Annotated[
    str | None,
    Field(
        max_length=LONGEST_RERANKING,
        description="score the first products anew: by a reranker that GET /index names (late: words against regions), "
        "or, where it names none, by each other: smooth:W0,W1,..., expand:TOP,ALPHA, reciprocal:K1,K2,WEIGHT",
        examples=["late", "smooth:0.7,0.2,0.1", "expand:5,3", "reciprocal:20,6,0.3"],
    ),
    AfterValidator(_known_reranking),
]
Share = Annotated[
    float, Field(ge=0, le=1, description="how much the words count: 0 the photo alone, 1 the words alone")
]
Region = Annotated[
    int | None, Field(ge=0, le=10_000, description="compare one region instead of the whole photo")
]


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Narrowed(_Parameters):
    label: Labels = []
    where: Conditions = []
    k: Hits = HITS

    def filter(self) -> Filter:
        """Which products may be found."""
        return Filter(frozenset(self.label), parse_conditions(self.where))


class _Settings(_Narrowed):
    exact: Annotated[StrictBool, Exact] = False
    hybrid: Annotated[StrictBool, Hybrid] = False
    rerank: Reranking = None
    candidates: Candidates = RERANKED

    def search_for(self, words: str) -> SearchRequest:
        """A search for words, as the engine takes it."""
        return SearchRequest(
            words,
            k=self.k,
            where=self.filter(),
            exact=self.exact,
            hybrid=self.hybrid,
            rerank=None if self.rerank is None else full_name(self.rerank),
            candidates=self.candidates,
        )


class SearchParameters(_Settings):
    """A search by words, as an address says it."""

    q: Words
    exact: Annotated[bool, Exact, BeforeValidator(true_or_false)] = False
    hybrid: Annotated[bool, Hybrid, BeforeValidator(true_or_false)] = False


class PhotoParameters(_Narrowed):
    """A search by a photo, with words or without, as an address says it; the photo is the body."""

    q: Words | None = None
    share: Share = 0.5
    exact: Annotated[bool, Exact, BeforeValidator(true_or_false)] = False

    def search_for(self, photo: PhotoQuery) -> SearchRequest:
        """A search for the photo, as the engine takes it."""
        return SearchRequest(
            self.q or "", photo=photo, share=self.share, k=self.k, where=self.filter(), exact=self.exact
        )


class BatchBody(_Settings):
    """Several queries with the same settings, as a body says it."""

    queries: Queries


class SimilarParameters(_Narrowed):
    """A search by the photo of a product, or by a region of it."""

    region: Region = None


class SuggestParameters(_Parameters):
    """What somebody has typed so far."""

    q: Words
    k: Annotated[int, Field(ge=1, le=MOST_SUGGESTED, description="how many texts at most")] = SUGGESTED


class ExplainParameters(_Parameters):
    """The query that is explained."""

    q: Words
