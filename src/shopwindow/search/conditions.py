"""What may be asked of a product's columns? Conditions such as `price<=20` and `colour=red|blue`.

A condition is written in one way, read here, and holds for some of a column's values. Knows no index; attributes.py
asks it of a segment.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

import numpy as np
from jaxtyping import Bool, Float64

Kind = Literal["number", "word"]
Relation = Literal["<=", ">=", "="]
PHOTO_COLUMNS: Final = ("image_h", "image_w")
"""Columns that every index has: height and width of the photo in px."""
COLUMN_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
MOST_CHOICES: Final = 100
_WRITTEN: Final = re.compile(rf"\s*({COLUMN_NAME.pattern})\s*(<=|>=|=)(?!=)(.*)", re.DOTALL)
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_SHOWN: Final = 40
_EXAMPLES: Final = "price<=20, price>=5, colour=red or colour=red|blue"


@dataclass(frozen=True)
class Condition:
    """What a column's value must be: at most or at least a number, or one of some values.

    `values` as they were written: one with `<=` and `>=`. A product without a value passes no condition.

    >>> str(Condition.parse(" colour = red | blue "))
    'colour=red|blue'
    """

    column: str
    relation: Relation
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Reads a column's name, a relation and a value; several values with `|` between them after `=`.

        Raises: ValueError saying what can be written.
        """
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(f"condition {shortened(text)}: is no Unicode text")
        read = _WRITTEN.fullmatch(text)
        if read is None:
            raise ValueError(f"condition {shortened(text)}: wanted one such as {_EXAMPLES}")
        column, relation, written = read.groups()
        values = tuple(part.strip() for part in written.split("|"))
        if not all(values):
            raise ValueError(
                f"condition {shortened(text)}: a value is missing; wanted one such as {_EXAMPLES}"
            )
        if len(values) > MOST_CHOICES:
            raise ValueError(
                f"condition {shortened(text)}: {len(values)} values, at most {MOST_CHOICES} can be asked for"
            )
        condition = cls(column, cast(Relation, relation), values)
        if relation != "=":
            if len(values) > 1:
                raise ValueError(f"condition {shortened(text)}: {relation} takes one number")
            condition.check("number")
        return condition

    def __str__(self) -> str:
        return f"{self.column}{self.relation}{'|'.join(self.values)}"

    def check(self, kind: Kind) -> None:
        """Raises: ValueError where the condition does not fit a column of this kind."""
        if kind == "number":
            for value in self.values:
                try:
                    parse_number(value)
                except ValueError as error:
                    raise ValueError(f"condition {shortened(str(self))}: {error}") from error
        elif self.relation != "=":
            raise ValueError(
                f"condition {shortened(str(self))}: {self.column} holds words, ask with {self.column}=WORD"
            )

    def holds(self, numbers: Float64[np.ndarray, " products"]) -> Bool[np.ndarray, " products"]:
        """Of which numbers it is true; NaN stands for no value. Raises: ValueError as `check`."""
        self.check("number")
        wanted = [parse_number(value) for value in self.values]
        if self.relation == "<=":
            return numbers <= wanted[0]
        if self.relation == ">=":
            return numbers >= wanted[0]
        return np.isin(numbers, wanted)


def parse_conditions(texts: Sequence[str]) -> tuple[Condition, ...]:
    """The conditions so written, each once. Raises: ValueError as `Condition.parse`."""
    return tuple(dict.fromkeys(map(Condition.parse, texts)))


def check_conditions(conditions: Sequence[Condition], kinds: Mapping[str, Kind]) -> None:
    """Raises: ValueError for a column that an index with columns of these kinds does not have, or a condition that
    does not fit its column."""
    known: dict[str, Kind] = {**kinds, **dict.fromkeys(PHOTO_COLUMNS, "number")}
    for condition in conditions:
        kind = known.get(condition.column)
        if kind is None:
            told = ", ".join(f"{name} ({one}s)" for name, one in known.items())
            raise ValueError(
                f"condition {shortened(str(condition))}: no column {condition.column}; there are {told}"
            )
        condition.check(kind)


def parse_number(text: str) -> float:
    """A decimal number, as in `12`, `-0.5` or `1e3`.

    Raises: ValueError for anything else, also for one that is not finite.

    >>> parse_number("12.50")
    12.5
    """
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise ValueError(f"{shortened(text)} is no finite number")
    return number


def shortened(text: str) -> str:
    """Text of anybody as part of a message: its beginning, quoted."""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")
