"""What do shoppers type for a product, and which products does a query mean?

A query is a noun phrase made from some of a good's attributes, with synonyms and the empty words of real queries
("new", "for women"). Relevance is a rule: a good is relevant when its kind and every attribute named are the query's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np

from shopwindow.drawn.figures import ROWS_BY_WORDS, draw_count
from shopwindow.drawn.goods import ALSO_CALLED, BY_NAME, Good, shape_of

ATTRIBUTES: Final = ("shape", "colour", "pattern", "material")  # in the order in which they are said
# Words for an attribute's value, the commonest first; a value that is not here is its own word.
_SYNONYMS: Final = MappingProxyType(
    {
        "grey": ("grey", "gray"),
        "beige": ("beige", "cream"),
        "plain": ("plain", "solid color"),
        "striped": ("striped", "stripe"),
        "dotted": ("dotted", "polka dot"),
        "checked": ("checked", "plaid"),
        "floral": ("floral", "flower"),
        "zigzag": ("zigzag", "wave"),
        "starry": ("star", "starry"),
        "cotton": ("cotton", "pure cotton"),
        "knitted": ("knitted", "knit"),
        "wooden": ("wooden", "solid wood"),
        "metal": ("metal", "stainless steel"),
        "nylon": ("nylon", "waterproof"),
        "leather": ("leather", "genuine leather"),
    }
)
_EMPTY_WORDS: Final = (
    "new", "fashion", "2019", "genuine", "quality", "original", "classic", "portable", "korean", "cute", "retro",
    "creative", "hot", "simple", "luxury", "popular", "home", "gift",
)  # fmt: skip
_EMPTY_TAILS: Final = ("2 pieces", "free shipping", "for gift", "korean version")
_SAID: Final = {"colour": 0.42, "pattern": 0.30, "shape": 0.20, "material": 0.22}
_AGAIN: Final = 0.7  # how often a shopper types what another typed before


@dataclass(frozen=True)
class Query:
    """A query's text and what it asks for: a kind and values of some attributes."""

    text: str
    kind: str
    noun: str
    wanted: tuple[tuple[str, str], ...]  # (attribute, value)

    def means(self, good: Good) -> bool:
        """Whether the good is relevant: its kind, and every attribute that is named."""
        return good.kind == self.kind and self._fits(good)

    def might_mean(self, good: Good) -> bool:
        """Whether a shopper could be content: also another kind that goes by the same noun. Never an irrelevant one."""
        if good.kind == self.kind:
            return self._fits(good)
        return ALSO_CALLED.get(self.noun) == good.kind and self._fits(good, without="shape")

    def _fits(self, good: Good, without: str = "") -> bool:
        return all(getattr(good, name) == value for name, value in self.wanted if name != without)


@dataclass
class Shoppers:
    """Types queries. What was typed often is typed more often: texts become head-heavy, as in real logs."""

    rng: np.random.Generator
    _typed: dict[tuple[str, int], list[Query]] = field(default_factory=lambda: defaultdict(list))

    def type_query(self, good: Good, sayable: Collection[str] = ATTRIBUTES) -> Query:
        """A query that means the good, naming at most the `sayable` attributes."""
        words = draw_count(ROWS_BY_WORDS, self.rng)
        before = self._typed[good.kind, words]
        if before and self.rng.random() < _AGAIN:
            for _ in range(4):
                query = before[int(self.rng.integers(len(before)))]
                if query.means(good) and all(name in sayable for name, _ in query.wanted):
                    before.append(query)
                    return query
        query = phrase(good, words, self.rng, sayable)
        before.append(query)
        return query


def phrase(good: Good, words: int, rng: np.random.Generator, sayable: Collection[str] = ATTRIBUTES) -> Query:
    """A noun phrase of exactly `words` words for a good; attributes first, then empty words.

    >>> bag = Good("handbag", "red", "striped", "canvas", "large")
    >>> len(phrase(bag, 4, np.random.default_rng(0)).text.split())
    4
    """
    kind = BY_NAME[good.kind]
    nouns = [noun for noun in kind.nouns if len(noun.split()) <= words]
    noun = nouns[_favour(len(nouns), rng)]
    left = words - len(noun.split())
    said: dict[str, str] = {}
    names = [
        name
        for name in ATTRIBUTES
        if name in sayable and (name != "pattern" or good.pattern != "plain" or rng.random() < 0.12)
    ]
    while left and names:
        weights = np.array([_SAID[name] for name in names])
        name = names.pop(int(rng.choice(len(names), p=weights / weights.sum())))
        choices = [word for word in _words_for(good, name) if len(word.split()) <= left]
        if choices and rng.random() < 0.86:
            said[name] = choices[_favour(len(choices), rng)]
            left -= len(said[name].split())
    tail = ""
    tails = kind.audience + _EMPTY_TAILS
    if left >= 2 and rng.random() < 0.6:
        tail = tails[int(rng.integers(len(tails)))]
        left -= len(tail.split())
    empty = [_EMPTY_WORDS[k] for k in rng.choice(len(_EMPTY_WORDS), size=left, replace=False)]
    front = [said[name] for name in ATTRIBUTES if name in said]
    if tail == "ms.":
        front, tail = ["ms.", *front], ""
    text = " ".join([*empty, *front, noun, *([tail] if tail else [])])
    wanted = tuple((name, getattr(good, name)) for name in ATTRIBUTES if name in said)
    return Query(text, good.kind, noun, wanted)


def _words_for(good: Good, attribute: str) -> tuple[str, ...]:
    if attribute == "shape":
        return shape_of(BY_NAME[good.kind], good.shape).words
    value: str = getattr(good, attribute)
    return _SYNONYMS.get(value, (value,))


def _favour(count: int, rng: np.random.Generator) -> int:
    """An index below `count`; the first is the commonest (Zipf)."""
    weights = 1 / np.arange(1, count + 1) ** 1.3
    return int(rng.choice(count, p=weights / weights.sum()))
