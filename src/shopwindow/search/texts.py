"""Which products have these words in their title, or in texts known to match them?

A full-text index over titles and over texts that shoppers typed for products they took: SQLite's FTS5 with BM25, one
file per segment. Knows no vector.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sqlite3
import threading
import unicodedata
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from shopwindow.data.queries import composed
from shopwindow.files import DataError
from shopwindow.search.hits import ProductId

TEXTS_FILE: Final = "texts.sqlite"
MOST_TEXTS: Final = 32
"""Texts kept of a product."""
_MOST_WORDS: Final = 64
_WORDS_KEPT: Final = 32
_K1: Final = 1.2
_B: Final = 0.75
_READ_AT_ONCE: Final = 1000
_WITH_TEXTS: Final = "FROM product WHERE words <> ''"
_TOKENIZE: Final = "unicode61 categories 'L* N* M* Co'"
"""Words are letters, digits and the marks on them, without which words of many scripts would be cut."""


def write_texts(path: Path, texts: Iterable[list[str]], titles: Iterable[str | None] | None = None) -> int:
    """Writes texts and titles of the products of a segment, in the order of their ids; gives how many products have
    any.

    Raises: DataError where the disk is full.
    """
    pairs = enumerate(zip(texts, repeat(None) if titles is None else titles, strict=titles is not None))
    rows = (
        (place, composed(title or ""), composed("\n".join(some[:MOST_TEXTS])))
        for place, (some, title) in pairs
        if some or title
    )
    try:
        with contextlib.closing(sqlite3.connect(path)) as base:
            base.executescript(
                "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
                f'CREATE VIRTUAL TABLE product USING fts5(title, words, tokenize="{_TOKENIZE}");'
            )
            base.executemany("INSERT INTO product(rowid, title, words) VALUES (?, ?, ?)", rows)
            base.execute("INSERT INTO product(product) VALUES ('optimize')")
            base.commit()
            count: int = base.execute("SELECT count(*) FROM product").fetchone()[0]
    except sqlite3.Error as error:
        raise DataError(f"cannot be written: {error}", path=path) from error
    return count


def words_of(text: str) -> list[str]:
    """The words of a text, in Unicode's form NFC: letters, digits, the marks on them, and `_`.

    >>> words_of("cre\u0302pe, T-shirt")
    ['cr\u00eape', 'T', 'shirt']
    """
    return "".join(
        letter if letter == "_" or unicodedata.category(letter)[0] in "LNM" else " "
        for letter in composed(text)
    ).split()


class Texts:
    """The texts of a segment, opened for reading by any thread. Stays readable when its file is removed.

    `rising`: the ids of the segment's products in their order; the file knows places in it. `products`: how many have
    texts besides a title.
    """

    def __init__(self, path: Path, rising: Shaped[np.ndarray, " products"]) -> None:
        self.path = path
        self._rising = rising
        self._lock = threading.Lock()
        with _as_data_error(path):
            uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
            self._base = sqlite3.connect(uri, uri=True, check_same_thread=False)
            weakref.finalize(self, self._base.close)
            self.products: int = self._base.execute(f"SELECT count(*) {_WITH_TEXTS}").fetchone()[0]

    def ids(self) -> Shaped[np.ndarray, " with_texts"]:
        """The products that have texts besides a title, rising."""
        with self._lock, _as_data_error(self.path):
            rows = self._base.execute(f"SELECT rowid {_WITH_TEXTS} ORDER BY rowid").fetchall()
        return self._rising[np.array(rows, np.int64).reshape(-1)]

    def find(
        self, words: str, limit: int, allowed: Bool[np.ndarray, " products"] | None = None
    ) -> list[tuple[ProductId, float]]:
        """(product id, BM25 score, higher is better) of the first `limit` products with any of the words, best first.
        Title and texts count as one text.

        Of equal scores the smaller id stands first. `allowed`: which products may be found, by row; None: all.
        No more matches are read than it takes.

        Raises: DataError where the file is broken.
        """
        # Quoted, a word is only a word: FTS5's own operators mean nothing here.
        asked = " OR ".join(f'"{word}"' for word in dict.fromkeys(words_of(words)[:_MOST_WORDS]))
        if not asked:
            return []
        question = "SELECT rowid, -rank FROM product WHERE product MATCH ? ORDER BY rank, rowid"
        best: list[tuple[ProductId, float]] = []
        with (
            self._lock,
            _as_data_error(self.path),
            contextlib.closing(self._base.execute(question, (asked,))) as ranked,
        ):
            while len(best) < limit and (some := ranked.fetchmany(_READ_AT_ONCE)):
                rows, scores = np.array([row for row, _ in some]), [score for _, score in some]
                passes = np.full(len(rows), True) if allowed is None else allowed[rows]
                matches = zip(self._rising[rows].tolist(), scores, passes.tolist(), strict=True)
                best += [(product, score) for product, score, is_allowed in matches if is_allowed]
        return best[:limit]

    @cached_property
    def sizes(self) -> Int64[np.ndarray, " products"]:
        """How many words title and texts of each product have, by row; -1 where it has neither."""
        with self._lock, _as_data_error(self.path):
            rows = self._base.execute("SELECT id, sz FROM product_docsize").fetchall()
        sizes = np.full(len(self._rising), -1, np.int64)
        for row, varints in rows:
            sizes[row] = _sum_of_varints(varints)
        return sizes

    @cached_property
    def occurrences(self) -> Callable[[str], Occurrences]:
        """Where a word occurs, and how often. Those of the words asked last are kept."""
        return functools.lru_cache(_WORDS_KEPT)(self._occurrences)

    def _occurrences(self, word: str) -> Occurrences:
        question = "SELECT rowid, -rank FROM product WHERE product MATCH ?"
        with self._lock, _as_data_error(self.path):
            found = self._base.execute(question, (f'"{word}"',)).fetchall()
        rows = np.array([row for row, _ in found], np.int64)
        scores = np.array([score for _, score in found], np.float64)
        # FTS5 says a score and not how often: of one word it can be solved for that.
        some = self.sizes[self.sizes >= 0]
        share = scores / _rarity(len(some), len(rows))
        length = _length(self.sizes[rows], some.sum() / max(len(some), 1))
        return Occurrences(rows, np.rint(share * length / (_K1 + 1.0 - share)))

    def going_on(
        self, words: Sequence[str], limit: int, allowed: Bool[np.ndarray, " products"] | None = None
    ) -> list[list[str]]:
        """Title and texts of each of the first `limit` products that have all the words, the last one perhaps as the
        beginning of a word. `allowed`: as in `find`. Raises: DataError where the file is broken."""
        asked = " AND ".join(f'"{word}"' for word in words[:_MOST_WORDS]) + "*"
        question = "SELECT rowid, title, words FROM product WHERE product MATCH ? LIMIT ?"
        with self._lock, _as_data_error(self.path):
            rows = self._base.execute(question, (asked, limit)).fetchall()
        return [
            [text for text in (title, *words.split("\n")) if text]
            for row, title, words in rows
            if allowed is None or allowed[row]
        ]

    def vocabulary(self) -> dict[str, int]:
        """The words of titles and texts, and how many products have each. Raises: DataError where it is broken."""
        table = "CREATE VIRTUAL TABLE IF NOT EXISTS temp.vocabulary USING fts5vocab('main', 'product', 'row')"
        with self._lock, _as_data_error(self.path):
            self._base.execute(table)
            return dict(self._base.execute("SELECT term, doc FROM temp.vocabulary").fetchall())

    def of(self, product_id: ProductId) -> tuple[str, ...]:
        """The texts of one product of the segment besides its title, none where there are none."""
        place = int(np.searchsorted(self._rising, product_id))
        with self._lock, _as_data_error(self.path):
            row = self._base.execute("SELECT words FROM product WHERE rowid = ?", (place,)).fetchone()
        return tuple(row[0].split("\n")) if row and row[0] else ()


@dataclass(frozen=True)
class Occurrences:
    """The rows of the products whose title or texts have a word, and how often they have it."""

    rows: Int64[np.ndarray, " matches"]
    times: Float64[np.ndarray, " matches"]


def scores_together(
    every: Sequence[Texts], living: Sequence[Bool[np.ndarray, " _"] | None], words: str
) -> list[Float64[np.ndarray, " _"]]:
    """The BM25 score of every product of several segments, by row; 0 where no word matches.

    Counted over the living products of all segments (`living`: None is all). So the scores are those that
    `Texts.find` gives once they are in one segment, to the last bit.
    """
    counts = [
        texts.sizes >= 0 if mask is None else (texts.sizes >= 0) & mask
        for texts, mask in zip(every, living, strict=True)
    ]
    products = sum(int(np.count_nonzero(counted)) for counted in counts)
    total = sum(int(texts.sizes[counted].sum()) for texts, counted in zip(every, counts, strict=True))
    scores = [np.zeros(len(counted)) for counted in counts]
    for word in dict.fromkeys(words_of(words)[:_MOST_WORDS]):
        found = [texts.occurrences(word) for texts in every]
        hits = sum(int(counted[one.rows].sum()) for one, counted in zip(found, counts, strict=True))
        rarity = _rarity(products, hits)
        for texts, one, score in zip(every, found, scores, strict=True):
            length = _length(texts.sizes[one.rows], total / max(products, 1))
            score[one.rows] += rarity * ((one.times * (_K1 + 1.0)) / (one.times + length))
    return scores


def _sum_of_varints(varints: bytes) -> int:
    """The sum of whole numbers in SQLite's form: seven bits a byte, the eighth set where the number goes on.

    FTS5 keeps the words of a row so, one number a column.
    """
    total = number = 0
    for byte in varints:
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            total, number = total + number, 0
    return total


def _rarity(products: int, hits: int) -> float:
    """The weight of a word. Source: bm25 of SQLite's fts5_aux.c, as the two constants and `_length`."""
    weight = math.log((products - hits + 0.5) / (hits + 0.5)) if hits <= products else 0.0
    return weight if weight > 0 else 1e-6


def _length(sizes: Int64[np.ndarray, " some"], average: float) -> Float64[np.ndarray, " some"]:
    return _K1 * (1 - _B + _B * sizes.astype(np.float64) / (average or 1.0))


@contextlib.contextmanager
def _as_data_error(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise DataError(f"broken full-text index: {error}", path=path) from error
