"""Which products are known to match texts with these words?

A full-text index over texts that shoppers typed for products they took: SQLite's FTS5 with BM25, one file per
segment. Knows no vector.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import unicodedata
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Bool, Shaped

from shopwindow.data.queries import composed
from shopwindow.files import DataError
from shopwindow.search.hits import ProductId

TEXTS_FILE: Final = "texts.sqlite"
MOST_TEXTS: Final = 32
"""Texts kept of a product."""
_MOST_WORDS: Final = 64
_READ_AT_ONCE: Final = 1000
_TOKENIZE: Final = "unicode61 categories 'L* N* M* Co'"
"""Words are letters, digits and the marks on them, without which words of many scripts would be cut."""


def write_texts(path: Path, texts: Iterable[list[str]]) -> int:
    """Writes the texts of the products of a segment, in the order of their ids; gives how many products have any.

    Raises: DataError where the disk is full.
    """
    rows = ((place, composed("\n".join(some[:MOST_TEXTS]))) for place, some in enumerate(texts) if some)
    try:
        with contextlib.closing(sqlite3.connect(path)) as base:
            base.executescript(
                "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
                f'CREATE VIRTUAL TABLE product USING fts5(words, tokenize="{_TOKENIZE}");'
            )
            base.executemany("INSERT INTO product(rowid, words) VALUES (?, ?)", rows)
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
    texts.
    """

    def __init__(self, path: Path, rising: Shaped[np.ndarray, " products"]) -> None:
        self.path = path
        self._rising = rising
        self._lock = threading.Lock()
        with _as_data_error(path):
            uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
            self._base = sqlite3.connect(uri, uri=True, check_same_thread=False)
            weakref.finalize(self, self._base.close)
            self.products: int = self._base.execute("SELECT count(*) FROM product").fetchone()[0]

    def ids(self) -> Shaped[np.ndarray, " with_texts"]:
        """The products that have texts, rising."""
        with self._lock, _as_data_error(self.path):
            rows = self._base.execute("SELECT rowid FROM product ORDER BY rowid").fetchall()
        return self._rising[np.array(rows, np.int64).reshape(-1)]

    def find(
        self, words: str, limit: int, allowed: Bool[np.ndarray, " products"] | None = None
    ) -> list[tuple[ProductId, float]]:
        """(product id, BM25 score, higher is better) of the first `limit` products with any of the words, best first.

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

    def of(self, product_id: ProductId) -> tuple[str, ...]:
        """The texts of one product of the segment, none where there are none."""
        place = int(np.searchsorted(self._rising, product_id))
        with self._lock, _as_data_error(self.path):
            row = self._base.execute("SELECT words FROM product WHERE rowid = ?", (place,)).fetchone()
        return tuple(row[0].split("\n")) if row else ()


@contextlib.contextmanager
def _as_data_error(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise DataError(f"broken full-text index: {error}", path=path) from error
