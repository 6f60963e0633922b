"""What may be asked of a product's columns? Conditions such as `price<=20` and `colour=red|blue`.

A condition is written in one way, read here, and holds for some of a column's values. Knows no index; attributes.py
asks it of a segment.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import reduce
from heapq import nlargest
from typing import Any, Final, Literal, cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool

from shopwindow.data.tables import Kind as Kind
from shopwindow.data.tables import parse_number as parse_number
from shopwindow.data.tables import shortened as shortened

Relation = Literal["<=", ">=", "<", ">", "="]
PHOTO_COLUMNS: Final = ("image_h", "image_w")
"""Columns that every index has: height and width of the photo in px."""
COLUMN_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
MOST_CHOICES: Final = 100
_WRITTEN: Final = re.compile(rf"\s*({COLUMN_NAME.pattern})\s*(<=|>=|<|>|=)(?!=)(.*)", re.DOTALL)
_COMPARE: Final[dict[str, Any]] = {
    "<=": pc.less_equal,
    ">=": pc.greater_equal,
    "<": pc.less,
    ">": pc.greater,
    "=": pc.equal,
}
_COMPARED: Final = 50
_EXAMPLES: Final = "price<=20, price>5, colour=red or colour=red|blue"


@dataclass(frozen=True)
class Condition:
    """What a column's value must be: below or above a number or that number, or one of some values.

    `values` as they were written, in Unicode's form NFC: one unless the relation is `=`. A product without a value
    passes no condition.

    Raises: ValueError for another relation, no values, or values that do not go with the relation.

    >>> str(Condition.parse(" colour = red | blue "))
    'colour=red|blue'
    """

    column: str
    relation: Relation
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        problem = f"condition {shortened(str(self))}"
        if self.relation not in get_args(Relation):
            raise ValueError(f"{problem}: {self.relation!r} is none of {', '.join(get_args(Relation))}")
        if not (isinstance(cast(object, self.values), tuple) and self.values):
            raise ValueError(f"{problem}: wanted a tuple of values")
        object.__setattr__(
            self, "values", tuple(unicodedata.normalize("NFC", value) for value in self.values)
        )
        if self.relation != "=":
            if len(self.values) > 1:
                raise ValueError(f"{problem}: {self.relation} takes one number")
            self.check("number")

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
        return cls(column, cast(Relation, relation), values)

    def __str__(self) -> str:
        return f"{self.column}{self.relation}{'|'.join(self.values)}"

    def check(self, kind: Kind) -> None:
        """Raises: ValueError where the condition does not fit a column of this kind."""
        if kind == "number":
            for value in self.values:
                try:
                    parse_number(value)
                except ValueError as error:
                    meant = f"{self.column}{value[0]}={value[1:]}"
                    says = f"; did you mean {shortened(meant)}?" if value[0] in "<>" else ""
                    raise ValueError(f"condition {shortened(str(self))}: {error}{says}") from error
        elif self.relation != "=":
            raise ValueError(
                f"condition {shortened(str(self))}: {self.column} holds words, ask with {self.column}=WORD"
            )

    def holds(self, column: pa.Array) -> Bool[np.ndarray, " products"]:
        """Of which values of a column, numbers or words, it is true; of no value it is not.

        Raises: ValueError as `check`.
        """
        if column.type == pa.string():
            self.check("word")
            true = pc.is_in(column, value_set=pa.array(self.values, pa.string()))
        else:
            self.check("number")
            wanted = [parse_number(value) for value in self.values]
            compared = _COMPARE[self.relation]
            true = reduce(pc.or_, (compared(column, number) for number in wanted))
        mask: Bool[np.ndarray, " products"] = true.fill_null(False).to_numpy(zero_copy_only=False)
        return mask


def parse_conditions(texts: Sequence[str]) -> tuple[Condition, ...]:
    """The conditions so written, each once. Raises: ValueError as `Condition.parse`."""
    return tuple(dict.fromkeys(map(Condition.parse, texts)))


def fit_conditions(conditions: Sequence[Condition], kinds: Mapping[str, Kind]) -> tuple[Condition, ...]:
    """The conditions with the names of columns as an index with columns of these kinds spells them: in the case given
    where there is such a column, else in any.

    Raises: ValueError for a column that it does not have, or a condition that does not fit its column.
    """
    known: dict[str, Kind] = {**kinds, **dict.fromkeys(PHOTO_COLUMNS, "number")}
    folded = {name.casefold(): name for name in known}
    fitting = []
    for condition in conditions:
        given = condition.column
        name = given if given in known else folded.get(given.casefold())
        if name is None:
            columns = ", ".join(f"{name} ({kind}s)" for name, kind in known.items())
            raise ValueError(f"condition {shortened(str(condition))}: no column {given}; there are {columns}")
        condition.check(known[name])
        fitting.append(replace(condition, column=name))
    return tuple(fitting)


def nearest_words(asked: Sequence[str], words: Iterable[str], count: int = 5) -> list[str]:
    """The words that are written most like one of the asked ones, whatever the case.

    Most alike first, of equally like ones the smaller.

    >>> nearest_words(["RED"], ["blue", "dark red", "red"], 2)
    ['red', 'dark red']
    """
    alike = [SequenceMatcher(b=one.casefold()) for one in asked]

    def likeness(word: str, *, roughly: bool) -> float:
        best = 0.0
        for matcher in alike:
            matcher.set_seq1(word.casefold())
            best = max(best, matcher.quick_ratio() if roughly else matcher.ratio())
        return best

    some = nlargest(_COMPARED, sorted(words), key=lambda word: likeness(word, roughly=True))
    return nlargest(count, sorted(some), key=lambda word: likeness(word, roughly=False))
