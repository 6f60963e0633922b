"""Which values may the parameters of a search have, whoever asks: in an address or in a body?

Bounds that are the same for every service; those of its `Limits` are put in where the endpoints are (`routes.py`).
Annotations are evaluated here (no `from __future__ import annotations`): pydantic reads them.
"""

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool

from shopwindow.model.rerankers import full_name
from shopwindow.search.conditions import Condition, parse_conditions
from shopwindow.search.hits import Filter, SearchRequest

MOST_CONDITIONS: Final = 16
LONGEST_CONDITION: Final = 500
LONGEST_RERANKING: Final = 64
_MOST_LABELS: Final = 33
_LARGEST_LABEL: Final = 2**31 - 1


def no_truth_value(value: object) -> object:
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


def _readable(text: str) -> str:
    Condition.parse(text)
    return text


def _known_reranking(text: str | None) -> str | None:
    if text is not None:
        full_name(text)
    return text


Labels = Annotated[
    list[Annotated[int, Field(ge=0, le=_LARGEST_LABEL), BeforeValidator(no_truth_value)]],
    Field(max_length=_MOST_LABELS, description="only products with a region of one of these labels"),
]
Conditions = Annotated[
    list[Annotated[str, Field(max_length=LONGEST_CONDITION), AfterValidator(_readable)]],
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


class Narrowed(BaseModel):
    """Which products may be found."""

    model_config = ConfigDict(extra="forbid")
    label: Labels = []
    where: Conditions = []

    def filter(self) -> Filter:
        """As the engine takes it."""
        return Filter(frozenset(self.label), parse_conditions(self.where))


class Ways(Narrowed):
    """How a search is done, as a body says it."""

    exact: Annotated[StrictBool, Exact] = False
    hybrid: Annotated[StrictBool, Hybrid] = False
    rerank: Reranking = None

    def request(self, words: str, *, k: int, candidates: int) -> SearchRequest:
        """A search for words, as the engine takes it."""
        return SearchRequest(
            words,
            k=k,
            where=self.filter(),
            exact=self.exact,
            hybrid=self.hybrid,
            rerank=None if self.rerank is None else full_name(self.rerank),
            candidates=candidates,
        )


class WaysInAddress(Ways):
    """How a search is done, as an address says it."""

    exact: Annotated[bool, Exact, BeforeValidator(true_or_false)] = False
    hybrid: Annotated[bool, Hybrid, BeforeValidator(true_or_false)] = False
