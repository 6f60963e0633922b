"""What is a query once its spelling does not matter, and which thing does it ask for?

Named rules of normalisation, and the head noun of a phrase.
Pure functions of text; knows no dataset, no tokenizer and no model. English by rule; what is written in
another script passes through unharmed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from jaxtyping import Int64


@dataclass(frozen=True)
class QueryRule:
    """A rule of normalisation: `apply(text)` gives the text with one difference of spelling gone."""

    name: str
    says: str
    apply: Callable[[str], str]


def normalise(text: str, rules: Sequence[QueryRule]) -> str:
    """The text after the rules, in their order; a text of which they leave nothing stays as it was.

    >>> normalise("Women's  RED Dresses, 20cm", choose_query_rules(("lower", "punctuation", "spaces")))
    'womens red dresses 20cm'
    >>> normalise("Women's  RED Dresses, 20cm", QUERY_RULES)
    'woman red dress 20 cm'
    >>> normalise("?!", QUERY_RULES)
    '?!'
    """
    changed = text
    for rule in rules:
        changed = rule.apply(changed)
    return changed if changed.strip() else text


def composed(text: str) -> str:
    """The text in Unicode's form NFC: a letter and its marks are one letter where there is one, as most people type it.

    >>> composed("cre\u0302pe") == "cr\u00eape"
    True
    """
    return unicodedata.normalize("NFC", text)


def head_noun(text: str) -> str:
    """The thing that an English phrase asks for, in the singular, normalised; empty only where the text is.

    The last word before the first preposition that begins what the thing has, is in or is for (with, without,
    w, for, in, on, from), without the numbers, units, sizes, amounts, colours and people that trail behind it.
    Such a preposition counts only after a word that can be a thing, and not before "the" or people: shoppers'
    words, translated by machine, put whole clauses before the noun (`for men and women running shoes`).

    "of", "and" and "to" end nothing: what follows "of" is what one buys (`pair of shoes`, and all kinds of
    `chest of drawers` meet at "drawer"), what follows "and" carries the noun of both (`hand and foot cream`).
    Of a text in another script the last word is given.

    >>> [head_noun(text) for text in ("white wall lamp with shade", "women's red dress 2019 size xl")]
    ['lamp', 'dress']
    >>> [head_noun(text) for text in ("chest of 2 drawers", "box set of 3", "for men running shoes")]
    ['drawer', 'box', 'shoe']
    """
    words = phrase_words(text)
    return head_of(words) if words else text


def phrase_words(text: str) -> list[str]:
    """The words of a text after all rules; a preposition after a hyphen belongs to its word (`plugin lamp`).

    Empty only where the text is empty or blank.
    """
    return normalise(_HYPHENED.sub("", text), QUERY_RULES).split()


def head_of(words: Sequence[str]) -> str:
    """The head noun of a phrase given as the words of `phrase_words` (at least one)."""
    place = head_place(words)
    if words[place] == "shirt" and place and words[place - 1] == "t":
        return "t shirt"
    return words[place]


def head_place(words: Sequence[str]) -> int:
    """Where the head noun stands among normalised words (at least one), counted from 0."""
    end = next((place for place in range(1, len(words)) if _ends_before(words, place)), len(words))
    last = end
    while last > 1 and _trails(words, last - 1):
        last -= 1
    if _cannot_head(words[last - 1]):
        last = end
    return last - 1


def numbers_of(texts: Sequence[str]) -> Int64[np.ndarray, " texts"]:
    """A number for every text, equal for equal texts, counted from 0 in the order of first appearance.

    >>> numbers_of(["red", "blue", "red"]).tolist()
    [0, 1, 0]
    """
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int64)


def _ends_before(words: Sequence[str], place: int) -> bool:
    """Whether the word at `place` is a preposition that ends the phrase before it."""
    if words[place] not in _STOPS or place + 1 == len(words) or _cannot_head(words[place - 1]):
        return False
    return words[place + 1] != "the" and words[place + 1] not in _PEOPLE


def _trails(words: Sequence[str], place: int) -> bool:
    """Whether the last word of the phrase, at `place`, says how much, how large, whose or what colour."""
    word = words[place]
    return (
        word in _TRAILING
        or word in _PEOPLE
        or word in _JOINING
        or word in _STOPS
        or len(word) == 1
        or (word[0].isdigit() and not word.isalpha())
    )


def _cannot_head(word: str) -> bool:
    """Whether a word is no thing: a number, a person, a colour, a participle."""
    participle = len(word) > 4 and word.endswith("ed") and not word.endswith(("eed", "bed", "shed", "sled"))
    return (
        participle
        or word in _PEOPLE
        or word in _JOINING
        or word in _STOPS
        or word in _LINKING
        or word in _COLOURS
        or not word[0].isalpha()
        or len(word) == 1
    )


def _unaccent(text: str) -> str:
    """Compatibility forms made plain, accents of Latin letters dropped (other scripts keep their marks)."""
    if text.isascii():
        return text
    out: list[str] = []
    latin = False
    for letter in unicodedata.normalize("NFKD", text):
        accent = "\u0300" <= letter <= "\u036f"
        if not accent:
            latin = unicodedata.name(letter, "").startswith("LATIN")
        if not (accent and latin):
            out.append(letter)
    return unicodedata.normalize("NFC", "".join(out))


def _unpunctuated(text: str) -> str:
    """Signs as spaces; those inside a number and the marks of letters stay, apostrophes and joiners vanish."""
    return _SIGN.sub(_space_or_sign, _APOSTROPHE.sub("", text))


def _space_or_sign(match: re.Match[str]) -> str:
    kind = unicodedata.category(match[0])
    if kind.startswith("M"):
        return match[0]
    return "" if kind == "Cf" else " "


def _singulars(text: str) -> str:
    return _WORD.sub(lambda match: singular(match[0]), text)


@lru_cache(maxsize=100_000)
def singular(word: str) -> str:
    """The singular of an English word in lower case; what is no plural by rule stays.

    >>> [singular(word) for word in ("dresses", "shoes", "glass", "batteries", "shelves", "canvas", "tomatoes")]
    ['dress', 'shoe', 'glass', 'battery', 'shelf', 'canvas', 'tomato']
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")) or word in _NO_PLURALS:
        return word
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 or word in _IE_PLURALS else word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zzes")):
        return word[:-2]
    if word.endswith("oes") and not word.endswith(("shoes", "toes", "canoes")):
        return word[:-2]
    return word[:-1]


_APOSTROPHE: Final = re.compile(r"(?<=\w)['\u2019](?=\w)")
_POSSESSIVE: Final = re.compile(r"(?<=\w)(?:['\u2019]s|(?<=s)['\u2019])(?!\w)", re.IGNORECASE)
_HYPHENED: Final = re.compile(r"(?<=\w)-(?=(?:in|on|for|from|with)\b)", re.IGNORECASE)
_SIGN: Final = re.compile(r"(?<!\d)[^\w\s]|[^\w\s.,]|[.,](?!\d)|_")
_WORD: Final = re.compile(r"[a-z]+")
_UNITS: Final = "mm cm m km in inch ft mg g kg oz lb ml cl dl l v w kw mah hz ghz gb tb mp pc pcs x pack pair"
_UNIT: Final = re.compile(rf"(?<![\w.,])(\d+(?:[.,]\d+)?)({'|'.join(_UNITS.split())})(?!\w)", re.IGNORECASE)

QUERY_RULES: Final = (
    QueryRule("lower", "capitals as small letters", str.lower),
    QueryRule("unaccent", "accents of Latin letters dropped, compatibility forms plain", _unaccent),
    QueryRule("possessive", "'s at the end of a word dropped", lambda text: _POSSESSIVE.sub("", text)),
    QueryRule("punctuation", "signs and hyphens as spaces, but not within a number", _unpunctuated),
    QueryRule("units", "a space between a number and its unit", lambda text: _UNIT.sub(r"\1 \2", text)),
    QueryRule("plural", "English plurals of small letters as singulars", _singulars),
    QueryRule("spaces", "one space between words, none around", lambda text: " ".join(text.split())),
)
"""In the order in which they are applied, whatever the order in which they are named."""


def choose_query_rules(names: Sequence[str]) -> tuple[QueryRule, ...]:
    """The rules of these names, in the order of `QUERY_RULES`.

    Raises: ValueError naming an unknown rule.
    """
    known = [rule.name for rule in QUERY_RULES]
    for name in names:
        if name not in known:
            raise ValueError(f"no query rule {name!r}; there are: {', '.join(known)}")
    return tuple(rule for rule in QUERY_RULES if rule.name in names)


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_STOPS: Final = _set("with without w for in on from")
_JOINING: Final = _set("of and or to by at the a an no not")
_LINKING: Final = _set(
    "come comes suitable resistant fit fits ideal perfect good make made put available professional minimalist "
    "thick thin fine high warm wild double korean european american japanese chinese"
)
_PEOPLE: Final = _set(
    "ms mr mrs man woman men women male female lady gentleman boy girl baby child kid infant toddler unisex adult "
    "elderly student teen junior couple"
)
_COLOURS: Final = _set(
    "black white red blue green yellow pink purple brown grey gray beige turquoise multicolour multicolor"
)
"""Those that are no fruit, flower or metal as well."""
_TRAILING: Final = _COLOURS | _set(
    f"{_UNITS} xxs xs s m l xl xxl xxxl size small medium large mini big new outdoor indoor set pack pair piece pc "
    "pcs litre liter gram"
)
_IRREGULAR: Final = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "mice": "mouse",
    "geese": "goose",
    "knives": "knife",
    "shelves": "shelf",
    "bookshelves": "bookshelf",
    "scarves": "scarf",
    "leaves": "leaf",
    "loaves": "loaf",
    "halves": "half",
    "wives": "wife",
    "wolves": "wolf",
    "calves": "calf",
    "buses": "bus",
    "lenses": "lens",
    "gases": "gas",
    "viruses": "virus",
    "octopuses": "octopus",
    "cactuses": "cactus",
    "cacti": "cactus",
    "canvases": "canvas",
    "irises": "iris",
    "menus": "menu",
    "bikinis": "bikini",
    "kiwis": "kiwi",
    "taxis": "taxi",
    "skis": "ski",
    "zucchinis": "zucchini",
    "quizzes": "quiz",
    "headaches": "headache",
    "mustaches": "mustache",
    "potatoes": "potato",
    "tomatoes": "tomato",
}
_IE_PLURALS: Final = _set(
    "cookies movies hoodies beanies brownies smoothies selfies onesies neckties bowties magpies zombies genies "
    "calories rookies foodies eyeties prairies"
)
_NO_PLURALS: Final = _set(
    "pants jeans trousers shorts scissors glasses sunglasses tights leggings pajamas pyjamas clothes binoculars "
    "pliers lens series species news canvas christmas atlas bias thermos chaos asbestos adidas hermes mercedes "
    "mathematics physics electronics gymnastics aerobics athletics economics politics ethics cosmetics "
    "overseas always perhaps besides sometimes towards does goes asparagus"
)
