"""How does what somebody types go on, and which word was meant by a mistyped one?

Known texts are titles and queries of an index (`texts.py`). Knows no model and no vector.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from jaxtyping import Bool

from shopwindow.search.texts import Texts, words_of

_READ: Final = 3000
"""Products of a segment that are read for one suggestion."""
_SHORTEST_SLIP: Final = 4
"""Letters of the shortest word that is taken for mistyped."""


def complete(
    typed: str, parts: Iterable[tuple[Texts, Bool[np.ndarray, " products"] | None]], k: int
) -> list[str]:
    """At most `k` known texts that hold all words of `typed`, the last one perhaps as the beginning of a word.

    Those that begin as `typed` come first, then those of more products, then shorter ones. `parts`: texts of a
    segment, and which of its products count (None: all). Raises: DataError where a file is broken.
    """
    words = [plain(word) for word in words_of(typed)]
    if not words:
        return []
    counts: Counter[str] = Counter()
    for texts, living in parts:
        for some in texts.going_on(words, _READ, living):
            counts.update(text for text in some if _holds(text, words))
    begun, same = plain(typed.strip()), {text: plain(text) for text in counts}
    ranked = sorted(
        (text for text in counts if same[text] != begun),
        key=lambda text: (not same[text].startswith(begun), -counts[text], len(text), text),
    )
    spelt = {same[text]: text for text in reversed(ranked)}
    return [text for text in ranked if spelt[same[text]] == text][:k]


def _holds(text: str, words: Sequence[str]) -> bool:
    known = [plain(word) for word in words_of(text)]
    return all(word in known for word in words[:-1]) and any(word.startswith(words[-1]) for word in known)


def plain(text: str) -> str:
    """A text without capitals and marks on letters, as the full text compares words.

    >>> plain("Crêpe")
    'crepe'
    """
    split = unicodedata.normalize("NFD", text.lower())
    return "".join(letter for letter in split if not unicodedata.combining(letter))


class Lexicon:
    """The words of an index's titles and queries, and how many products have each.

    >>> Lexicon({"lamp": 3, "lamb": 1}).correct("round lanp")
    'round lamp'
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts
        self._letters = sorted({letter for word in counts for letter in word})

    def correct(self, typed: str) -> str | None:
        """The text with its mistyped words replaced, None where none is.

        A word is mistyped where it is no known word, begins with none, and a known word is one letter away: one
        changed, added or left out, or two neighbours swapped. The word of most products is taken. Source: Norvig, How
        to Write a Spelling Corrector (2007).
        """
        words = typed.split()
        better = [self._meant(word) or word for word in words]
        return None if better == words else " ".join(better)

    def _meant(self, word: str) -> str | None:
        asked = plain(word)
        if len(asked) < _SHORTEST_SLIP or not asked.isalpha() or asked in self._counts:
            return None
        near = [one for one in set(self._changed(asked)) & self._counts.keys() if not asked.startswith(one)]
        return max(near, key=lambda one: (self._counts[one], one), default=None)

    def _changed(self, word: str) -> Iterator[str]:
        for place in range(len(word) + 1):
            head, tail = word[:place], word[place:]
            if tail:
                yield head + tail[1:]
                yield from (head + letter + tail[1:] for letter in self._letters)
            if len(tail) > 1:
                yield head + tail[1] + tail[0] + tail[2:]
            yield from (head + letter + tail for letter in self._letters)
