"""In which order do the pairs of an epoch go into batches, so that a batch holds what is hard to tell apart?

Each order but "shuffled" gives every text an anchor, anew each epoch: texts with equal anchors are alike.
Pairs of one anchor are cut into chunks of a few, chunks are shuffled, and batches are cut from that. One
principle draws all anchors: priorities are drawn for the candidates (gaps, neighbours), the same for
all texts, and each text takes its candidate of the smallest. So texts that share much take the same one, no
pair of texts is ever compared, and the cost is near-linear. Pure functions of numbers and a Generator; knows
words as numbers, no dataset and no model.

Source of the principle: min-wise hashing, A. Broder, "On the resemblance and containment of documents", 1997.

Legend of axes: texts = distinct texts, by number; words = the words of all texts end to end;
meanings = distinct sets of words; levels = the first anchor, and finer ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Int64, UInt64

from shopwindow.data.queries import head_of, numbers_of, phrase_words

Order = Literal["shuffled", "nouns", "attributes", "neighbours"]
ALONE: Final = -1
"""The anchor of a text that is put beside no other, and what fills the row of a table that has fewer."""
GROUP: Final = 8
"""Pairs that lie side by side for being alike, at most."""
_KEY_SEED: Final = 20_101_997


@dataclass(frozen=True)
class TextWords:
    """What texts say, in numbers: the set of words of each, its head noun, its meaning.

    `words` are the texts' words end to end, each once a text, ascending; `lengths` how many each has (at least 1).
    `nouns` number the head nouns, `meanings` the texts so that equal sets of words, in any order and spelling, have
    one number: such texts are never put beside each other as different things.
    """

    words: Int64[np.ndarray, " words"]
    lengths: Int64[np.ndarray, " texts"]
    nouns: Int64[np.ndarray, " texts"]
    meanings: Int64[np.ndarray, " texts"]

    @property
    def vocabulary(self) -> int:
        """How many distinct words there are."""
        return int(self.words.max(initial=-1)) + 1


def read_words(texts: Sequence[str]) -> TextWords:
    """The words of texts after all rules of normalisation. Some 25 microseconds a text."""
    numbers: dict[str, int] = {}
    nouns: list[str] = []
    words: list[int] = []
    lengths = np.empty(len(texts), np.int64)
    for row, text in enumerate(texts):
        phrase = phrase_words(text) or [text]
        nouns.append(head_of(phrase) if phrase[0] else text)
        word_numbers = sorted({numbers.setdefault(word, len(numbers)) for word in phrase})
        words.extend(word_numbers)
        lengths[row] = len(word_numbers)
    flat = np.array(words, np.int64)
    meanings = _numbered(_sums(_keys(len(numbers))[flat], lengths))
    return TextWords(flat, lengths, numbers_of(nouns), meanings)


def attribute_anchors(words: TextWords, rng: np.random.Generator) -> Int64[np.ndarray, "levels texts"]:
    """An anchor of every text; equal ones have the same noun and the same words but for one attribute each.

    A text of n words fits n gaps (its noun, and its words without one); of those that another meaning fits too it
    takes one. A text that fits none stays alone. So `red dress` and `blue dress` may meet, `dress`
    and `red dress`, which are likely both true of a photo, never do.
    Cost: a sort of the words. Gaps are compared by 64-bit keys: two of n gaps collide with probability n^2 / 2^65.
    """
    representatives = np.unique(words.meanings, return_index=True)[1]
    owners = np.repeat(np.arange(len(words.lengths)), words.lengths)
    use = np.isin(owners, representatives)
    keys = _keys(words.vocabulary)
    nouns = _keys(int(words.nouns.max(initial=-1)) + 1, stream=1)
    whole = _sums(keys[words.words], words.lengths) + nouns[words.nouns]
    owners = owners[use]
    gaps = _numbered(whole[owners] - keys[words.words[use]])
    sizes = np.bincount(gaps)
    shared = sizes[gaps] > 1
    ranks = rng.permutation(len(sizes))
    anchors = np.full(len(words.lengths), len(sizes), np.int64)
    np.minimum.at(anchors, owners[shared], ranks[gaps[shared]])
    anchors[anchors == len(sizes)] = ALONE
    out: np.ndarray = anchors[representatives][words.meanings]
    return out[None]


def neighbour_anchors(
    neighbours: Int64[np.ndarray, "texts neighbours"], rng: np.random.Generator
) -> Int64[np.ndarray, "levels texts"]:
    """Two anchors of every text: of itself and its neighbours the one that comes first in an order drawn anew.

    So the texts of a group are neighbours of one text, or that text. `ALONE` fills the row of a text with fewer
    neighbours. Cost: linear in the table.
    """
    texts = len(neighbours)
    if neighbours.size and not (neighbours.min() >= ALONE and neighbours.max() < texts):
        raise ValueError(f"neighbours: {neighbours.min()} to {neighbours.max()}, wanted -1 to {texts - 1}")
    levels = []
    for _ in range(2):
        ranks = rng.permutation(texts)
        best = ranks.copy()
        for column in neighbours.T:
            best = np.where(column == ALONE, best, np.minimum(best, ranks[column]))
        levels.append(best)
    return np.stack(levels)


def grouped(
    texts: Int64[np.ndarray, " pairs"],
    anchors: Int64[np.ndarray, "levels texts"],
    meanings: Int64[np.ndarray, " texts"],
    rng: np.random.Generator,
    *,
    group: int,
    hard: float = 1.0,
) -> Int64[np.ndarray, " pairs"]:
    """An order of pairs (places in `texts`, each once) in which chunks of at most `group` alike ones lie together.

    The chunks are in random order. A share `hard` of the pairs, drawn anew, goes into chunks, the others stand
    each for itself between them. Cost: five sorts of the pairs.
    """
    shuffled = rng.permutation(len(texts))
    alone = (anchors[0][texts[shuffled]] == ALONE) | (rng.random(len(texts)) >= hard)
    pairs, chunks = chunked(shuffled[~alone], texts, anchors, meanings, group=group)
    count = int(chunks.max(initial=-1)) + 1
    lone = shuffled[alone]
    chunks = np.concatenate([chunks, count + np.arange(len(lone))])
    ranks = rng.permutation(count + len(lone))
    order: np.ndarray = np.concatenate([pairs, lone])[np.argsort(ranks[chunks], kind="stable")]
    return order


def chunked(
    pairs: Int64[np.ndarray, " pairs"],
    texts: Int64[np.ndarray, " all"],
    anchors: Int64[np.ndarray, "levels texts"],
    meanings: Int64[np.ndarray, " texts"],
    *,
    group: int,
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """The pairs (places in `texts`) ordered by chunks, and the chunk of each, counted from 0.

    A chunk has at most `group` pairs, all of one first anchor, no meaning twice: of a meaning with n pairs at an
    anchor, n turns take one each. Who shares a chunk follows from the finer anchors, then from the order given.
    """
    own = texts[pairs]
    first = anchors[0][own]
    turns = _occurrences(first * (int(meanings.max(initial=0)) + 1) + meanings[own])
    by = np.lexsort([*(level[own] for level in anchors[:0:-1]), turns, first])
    places = _places(first[by], turns[by])
    return pairs[by], np.cumsum(places % group == 0) - 1


def _occurrences(values: Int64[np.ndarray, " values"]) -> Int64[np.ndarray, " values"]:
    """How often the same value stands before each.

    >>> _occurrences(np.array([7, 3, 7, 7, 3])).tolist()
    [0, 0, 1, 2, 1]
    """
    by = np.argsort(values, kind="stable")
    out = np.empty(len(values), np.int64)
    out[by] = _places(values[by])
    return out


def _places(*columns: Int64[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"]:
    """The place of every row in its run of equal rows, counted from 0.

    >>> _places(np.array([5, 5, 5, 2]), np.array([0, 0, 1, 1])).tolist()
    [0, 1, 0, 0]
    """
    new = np.ones(len(columns[0]), bool)
    new[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    starts = np.flatnonzero(new)
    return np.arange(len(new)) - np.repeat(starts, np.diff(np.append(starts, len(new))))


def _keys(count: int, *, stream: int = 0) -> UInt64[np.ndarray, " keys"]:
    """A 64-bit number for each of `count` things, always the same ones."""
    return np.random.default_rng([_KEY_SEED, stream]).integers(0, 2**64, count, np.uint64)


def _sums(
    values: UInt64[np.ndarray, " words"], lengths: Int64[np.ndarray, " texts"]
) -> UInt64[np.ndarray, " texts"]:
    """The sum over each text's words, modulo 2^64."""
    return np.add.reduceat(values, np.cumsum(lengths) - lengths) if len(lengths) else values


def _numbered(keys: UInt64[np.ndarray, " keys"]) -> Int64[np.ndarray, " keys"]:
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)
