"""What does a search give back, and what may it be asked to leave out?

Plain records between the engine and those who show its answers: command line, service, page. They know
neither files nor models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shopwindow.search.conditions import Condition, Kind

Box = tuple[float, float, float, float]
"""(top, left, bottom, right) in px of the photo."""
Value = float | str
"""What a column says of a product: a number or a word."""


class UnknownProduct(KeyError):  # noqa: N818 - reads as what it says where it is caught
    """The index holds no product of this id."""

    def __init__(self, product_id: int | str) -> None:
        self.product_id = product_id
        super().__init__(product_id)

    def __str__(self) -> str:
        return f"no product {self.product_id} in the index"


@dataclass(frozen=True)
class Hit:
    """One product found. `rank` counts from 1; higher scores are better; ties stand by smaller product id."""

    product_id: Any  # an integer or text: whoever asks knows which of the two the shop has
    score: float
    rank: int


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
class ProductView:
    """A product as it can be shown. Boxes, labels and label names are one per region, in the same order.

    `photo` is the file of its photo, None where the index knows no folder or the folder has no such file;
    `texts` are texts known to match, at most a few. `values` are those of the columns in which it has one.
    """

    product_id: Any  # an integer or text: whoever asks knows which of the two the shop has
    image_h: int
    image_w: int
    boxes: tuple[Box, ...]
    labels: tuple[int, ...]
    label_names: tuple[str, ...]
    photo: Path | None
    texts: tuple[str, ...]
    values: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class ShownHit:
    """A hit as a list shows it: the size of its photo in px, whether there is a photo file, and its values."""

    hit: Hit
    image_h: int
    image_w: int
    photo: bool
    values: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class ColumnView:
    """A column that products can be filtered by: of numbers with the least and the greatest (None where no product has
    one), or of words: the most frequent, and how many different ones there are."""

    name: str
    kind: Kind
    minimum: float | None = None
    maximum: float | None = None
    words: tuple[str, ...] = ()
    count: int = 0
