"""What may a search be asked, and what does it give back?

Plain records between the engine and those who ask it: command line, service, page. They know neither files nor models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float32

from shopwindow.search.conditions import Condition, Kind

if TYPE_CHECKING:
    from shopwindow.model.rerankers import Reranker, ScoreFunction
    from shopwindow.ranking.operators import Operator

RERANKED: Final = 50
"""First products that are scored anew, where nothing else is asked for."""
FUSED: Final = 100
"""A hybrid search fuses at least so many products of either ranking."""
ProductId = int | str
"""An integer, or the text of an id where not all of a shop's ids are integers."""
Box = tuple[float, float, float, float]
"""(top, left, bottom, right) in px of the photo."""
Value = float | str
"""What a column says of a product: a number or a word."""


class UnknownProduct(KeyError):  # noqa: N818 - reads as what it says where it is caught
    """The index holds no product of this id."""

    def __init__(self, product_id: ProductId) -> None:
        self.product_id: Any = product_id
        super().__init__(product_id)

    def __str__(self) -> str:
        return f"no product {self.product_id} in the index"


@dataclass(frozen=True)
class Filter:
    """Which products may be found: one of whose regions has one of these labels, and that pass all conditions.

    No labels means any label. Any set and any sequence are taken, and kept unchangeable.
    """

    labels: AbstractSet[int] = frozenset()
    conditions: Sequence[Condition] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", frozenset(self.labels))
        object.__setattr__(self, "conditions", tuple(self.conditions))

    def __bool__(self) -> bool:
        return bool(self.labels) or bool(self.conditions)


EVERYTHING = Filter()


@dataclass(frozen=True, eq=False)
class PhotoQuery:
    """A picture that somebody asks with, as an engine encoded it (`SearchEngine.encode_photo`): the vector that a
    product with that photo would have."""

    vector: Float32[np.ndarray, " hidden"]


@dataclass(frozen=True)
class SearchRequest:
    """What is looked for, and how: products for words, for a photo, for both together; or those most like a product, or
    like one region (box) of it.

    `share`: how much the words count beside a photo, 0 to 1. `k`: how many. `where`: only products that pass. `exact`:
    every vector is read, whatever the index is set to.
    `hybrid`: fused with full text. `rerank`: gives the first `candidates`, or k where that is more, new scores. It is
    a name, an operator, or a function of words and product ids (`model/rerankers.py`). The last two go with words
    alone.

    Raises: ValueError for neither words, nor a photo, nor a product; for a product and one of the others; for settings
    that do not go together; for a number below 1, a share outside 0 to 1.
    """

    words: str = ""
    product: ProductId | None = None
    region: int | None = None
    photo: PhotoQuery | None = None
    share: float = 0.5
    k: int = 10
    where: Filter = EVERYTHING
    exact: bool = False
    hybrid: bool = False
    rerank: str | Operator | Reranker | ScoreFunction | None = None
    candidates: int = RERANKED

    def __post_init__(self) -> None:
        asked = self.has_words or self.photo is not None
        if not asked and self.product is None:
            raise ValueError("no words to search for")
        if asked and self.product is not None:
            raise ValueError(
                f"{'words' if self.has_words else 'a photo'} and a product: one of them is wanted"
            )
        if not self.by_words_alone and (self.hybrid or self.rerank is not None):
            other = "a photo" if self.product is None else "a product"
            raise ValueError(f"hybrid and rerank go with words, not with {other}")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share {self.share}: 0 to 1 is wanted")
        if self.product is None and self.region is not None:
            raise ValueError(f"region {self.region}: of which product?")
        for name, number in (("k", self.k), ("candidates", self.candidates)):
            if number < 1:
                raise ValueError(f"{name} {number}: at least 1 is wanted")

    @property
    def has_words(self) -> bool:
        """Whether there are words."""
        return bool(self.words.strip())

    @property
    def by_words_alone(self) -> bool:
        """Whether neither a photo nor a product is given."""
        return self.product is None and self.photo is None

    @property
    def wanted(self) -> int:
        """How many products are found before some are left out: k, or those that are scored anew."""
        return self.k if self.rerank is None else max(self.k, self.candidates)

    @property
    def depth(self) -> int:
        """How many products are looked up: of either ranking, where two are fused."""
        if self.product is not None:
            return self.wanted + 1  # the product itself is left out
        return max(self.wanted, FUSED) if self.hybrid else self.wanted


@dataclass(frozen=True)
class View:
    """A product as a list shows it: the size of its photo in px, the photo's file, its values, its title.

    `photo` is text where the file lies in a tar or a store: a source that `vision.fetch` reads. It is None where the
    index knows no file, or there is none now; `photo_url` is its address where it lies on the web. `values` are those
    of the columns in which the product has one. Title, link, price and currency are None where nothing is known of
    them.
    """

    image_h: int
    image_w: int
    photo: Path | str | None
    values: Mapping[str, Value]
    photo_url: str | None = field(default=None, kw_only=True)
    title: str | None = field(default=None, kw_only=True)
    link: str | None = field(default=None, kw_only=True)
    price: Value | None = field(default=None, kw_only=True)
    currency: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class ProductView(View):
    """A product as its own page shows it. Boxes, labels and label names are one per region, in the same order; `texts`
    are texts known to match, at most a few."""

    product_id: Any  # a ProductId: whoever asks knows which of the two his shop has
    boxes: tuple[Box, ...]
    labels: tuple[int, ...]
    label_names: tuple[str, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Hit:
    """One product found. `rank` counts from 1; higher scores are better; ties stand by smaller product id.

    `view`: how a list shows it, where that was asked for.
    """

    product_id: Any  # a ProductId
    score: float
    rank: int
    view: View | None = None


@dataclass(frozen=True)
class ColumnView:
    """A column that products can be filtered by.

    Of numbers: the least and the greatest, None where no product has one. Of words: the most frequent, how many
    products have each, and how many different ones there are. `role`: title, link, price or currency, where it says
    that."""

    name: str
    kind: Kind
    minimum: float | None = None
    maximum: float | None = None
    words: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    count: int = 0
    role: str | None = None
