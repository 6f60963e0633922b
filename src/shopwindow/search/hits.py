"""What may a search be asked, and what does it give back?

Plain records between the engine and those who ask it: command line, service, page. They know neither files nor models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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


@dataclass(frozen=True)
class SearchRequest:
    """What is looked for, and how: products for words, or those most like a product, or like one region (box) of it.

    `k`: how many. `where`: only products that pass. `exact`: every vector is read, whatever the index is set to.
    `hybrid`: fused with full text. `rerank`: gives the first `candidates`, or k where that is more, new scores. It is
    a name, an operator, or a function of words and product ids (`model/rerankers.py`). The last two go with words.

    Raises: ValueError for neither words nor a product, or both; for settings that do not go together; for a number
    below 1.
    """

    words: str = ""
    product: ProductId | None = None
    region: int | None = None
    k: int = 10
    where: Filter = EVERYTHING
    exact: bool = False
    hybrid: bool = False
    rerank: str | Operator | Reranker | ScoreFunction | None = None
    candidates: int = RERANKED

    def __post_init__(self) -> None:
        has_words = bool(self.words.strip())
        if not has_words and self.product is None:
            raise ValueError("no words to search for")
        if has_words and self.product is not None:
            raise ValueError("words and a product: one of them is wanted")
        if self.product is not None and (self.hybrid or self.rerank is not None):
            raise ValueError("hybrid and rerank go with words, not with a product")
        if self.product is None and self.region is not None:
            raise ValueError(f"region {self.region}: of which product?")
        for name, number in (("k", self.k), ("candidates", self.candidates)):
            if number < 1:
                raise ValueError(f"{name} {number}: at least 1 is wanted")

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
    """A product as a list shows it: the size of its photo in px, the photo's file, its values.

    `photo` is None where the index knows no folder or the folder has no such file. `values` are those of the columns in
    which the product has one.
    """

    image_h: int
    image_w: int
    photo: Path | None
    values: Mapping[str, Value]


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

    Of numbers: the least and the greatest, None where no product has one. Of words: the most frequent, and how many
    different ones there are."""

    name: str
    kind: Kind
    minimum: float | None = None
    maximum: float | None = None
    words: tuple[str, ...] = ()
    count: int = 0
