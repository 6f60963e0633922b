"""Which query, which product? Identifiers as arrays, rows grouped by query, and rows found in another set of rows.

The ground under runs, answers and pools. Ids are int64 when every id of a column is an integer written
plainly, otherwise numpy strings; integers order by value, strings by character. It knows no score.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped

LONGEST_ID = 256
_LARGEST_INTEGER = 2**63 - 1
_OTHER_SPELLING = re.compile(r"[0-9]+\.0*|[0-9]+(\.[0-9]*)?[eE]\+[0-9]+")
_MOST_INTEGERS = 0.9
_HALF = re.compile("[\ud800-\udfff]")
"""Half of a character, as JSON can have and UTF-8 cannot."""
_POWERS_OF_TEN = 10 ** np.arange(1, 19, dtype=np.int64)


class RowError(ValueError):
    """A wrong value in one row of columns; `row` counts from 0, so that a reader can name the line."""

    def __init__(self, problem: str, *, row: int, field: str) -> None:
        self.problem = problem
        self.row = row
        self.field = field
        super().__init__(f"row {row}, {field}: {problem}")


def ids_from_text(words: Sequence[str]) -> Shaped[np.ndarray, "rows"]:
    """The words as int64 when every one is a plain non-negative integer (`007` and `+7` are not), else as strings.

    Raises: RowError for a word that is empty, longer than 256 characters, or no Unicode text.

    >>> ids_from_text(["7", "10"]), ids_from_text(["7", "d10"])
    (array([ 7, 10]), array(['7', 'd10'], dtype='<U3'))
    """
    joined = "".join(words)
    if joined.isascii() and joined.isdecimal() and all(words):
        try:
            numbers = np.array(list(map(int, words)), dtype=np.int64)
        except (OverflowError, ValueError):  # beyond 64 bits, or beyond the digits that Python reads
            pass
        else:
            digits = np.searchsorted(_POWERS_OF_TEN, numbers, side="right") + 1
            if int(digits.sum()) == len(joined):
                return numbers
    stripped = [word.strip() for word in words]
    if stripped != list(words):
        return ids_from_text(stripped)
    lengths = np.array([len(word) for word in words], dtype=np.int64)
    if words and lengths.min() == 0:
        raise RowError("is empty", row=int(lengths.argmin()), field="id")
    if words and lengths.max() > LONGEST_ID:
        row = int(lengths.argmax())
        raise RowError(f"{lengths[row]} characters long, at most {LONGEST_ID} are taken", row=row, field="id")
    if _HALF.search(joined):
        row = next(row for row, word in enumerate(words) if _HALF.search(word))
        raise RowError("is no Unicode text", row=row, field="id")
    return np.array(words, dtype=np.str_)


def id_from_text(word: str) -> int | str:
    """The id that a word names: an integer where the word is one written plainly, else the word without blanks around.

    Ids that are read one by one and columns of `ids_from_text` name the same things.

    Raises: ValueError for an empty word, one longer than 256 characters, or one with a NUL.

    >>> id_from_text("42"), id_from_text("042"), id_from_text(" SKU-42 ")
    (42, '042', 'SKU-42')
    """
    if word.isascii() and word.isdecimal() and len(word) <= 19 and (word[0] != "0" or word == "0"):
        number = int(word)
        return number if number <= _LARGEST_INTEGER else word
    stripped = word.strip()
    if stripped != word:
        return id_from_text(stripped)
    if not word:
        raise ValueError("is empty")
    if len(word) > LONGEST_ID:
        raise ValueError(f"{len(word)} characters long, at most {LONGEST_ID} are taken")
    if "\0" in word:
        raise ValueError("holds a NUL character")
    return word


def first_other_spelling(ids: Shaped[np.ndarray, "rows"]) -> int | None:
    """The first row whose id is an integer spelled as another number, in a column of integers; else None.

    So a spreadsheet or a column of floats changes ids: `100.0`, `1E+08`. Text ids beside them, or no integer at all,
    make it a column of text.

    >>> first_other_spelling(np.array(["100", "101.0"])), first_other_spelling(np.array(["v1", "1.0", "7"]))
    (1, None)
    """
    if ids.dtype.kind != "U" or len(ids) == 0:
        return None
    words = ids.tolist()
    plain = sum(word.isascii() and word.isdecimal() for word in words)
    if plain == 0:
        return None
    others = [row for row, word in enumerate(words) if _OTHER_SPELLING.fullmatch(word)]
    if not others or plain + len(others) < _MOST_INTEGERS * len(words):
        return None
    return others[0]


class Spellings:
    """How the ids of a column are spelled that come one by one: `first_other_spelling` without the column.

    `first` is the first integer that is spelled as another number, and where it stands.
    """

    def __init__(self) -> None:
        self._plain = self._others = self._all = 0
        self._first: tuple[str, Any] | None = None

    def take(self, word: int | str, place: Any) -> None:
        """Counts one id."""
        self._all += 1
        if isinstance(word, int) or (word.isascii() and word.isdecimal()):
            self._plain += 1
        elif _OTHER_SPELLING.fullmatch(word):
            self._others += 1
            self._first = self._first or (word, place)

    @property
    def first(self) -> tuple[str, Any] | None:
        """The id and its place; None where the column is one of text, or all is well."""
        is_of_integers = self._plain > 0 and self._plain + self._others >= _MOST_INTEGERS * self._all
        return self._first if is_of_integers else None


def other_spelling_problem(word: str) -> str:
    """What is wrong with an id that `first_other_spelling` found."""
    return (
        f"{str(word)!r} among integers: an id that was changed to another number's spelling; write it plainly"
    )


def as_ids(values: Shaped[np.ndarray, "rows"], *, field: str = "id") -> Shaped[np.ndarray, "rows"]:
    """The values as ids: any integer dtype becomes int64, strings stay strings.

    Raises: ValueError for another dtype, or an unsigned id beyond int64.
    """
    if values.dtype.kind == "u" and values.size and int(values.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"{field}: {int(values.max())} does not fit in 64 bits")
    if values.dtype.kind in "iu":
        return values.astype(np.int64, copy=False)
    if values.dtype.kind == "U":
        return values
    if values.dtype.kind == "O" and all(isinstance(value, str) for value in values):
        return values.astype(np.str_)
    if values.size == 0:
        return values.astype(np.int64)
    raise ValueError(f"{field}: ids are integers or strings, got {values.dtype}")


def joined_ids(parts: Sequence[Shaped[np.ndarray, " _"]]) -> Shaped[np.ndarray, " all"]:
    """Ids end to end; all as text where some are."""
    if any(part.dtype.kind == "U" for part in parts):
        parts = [part.astype(np.str_) for part in parts]
    return np.concatenate(parts)


def in_one_kind(
    one: Shaped[np.ndarray, "ones"], other: Shaped[np.ndarray, "others"]
) -> tuple[Shaped[np.ndarray, "ones"], Shaped[np.ndarray, "others"]]:
    """Both columns as integers, or both as strings where one of them already is."""
    if one.dtype.kind == other.dtype.kind:
        return one, other
    return one.astype(np.str_), other.astype(np.str_)


@dataclass(frozen=True, eq=False)
class Groups:
    """Rows grouped by query: `order` puts the rows of query 0 first, then of query 1, ...; the order inside stays.

    `queries` ascend; the rows of `queries[i]` are `order[offsets[i]:offsets[i + 1]]`, and `codes[row]` is i.
    """

    queries: Shaped[np.ndarray, "queries"]
    offsets: Int64[np.ndarray, "bounds"]
    codes: Int64[np.ndarray, "rows"]

    @property
    def order(self) -> Int64[np.ndarray, "rows"]:
        return stable_order(self.codes, len(self.queries))


def group(query_ids: Shaped[np.ndarray, "rows"]) -> Groups:
    """The rows grouped by their query. Cheap where equal ids stand together, as in most files."""
    if query_ids.size == 0:
        empty = np.zeros(0, np.int64)
        return Groups(queries=query_ids, offsets=np.zeros(1, np.int64), codes=empty)
    starts = np.flatnonzero(np.concatenate([[True], query_ids[1:] != query_ids[:-1]]))
    queries, code_of_stretch = np.unique(query_ids[starts], return_inverse=True)
    lengths = np.diff(np.append(starts, len(query_ids)))
    codes = np.repeat(code_of_stretch.astype(np.int64), lengths)
    counts = np.bincount(codes, minlength=len(queries))
    return Groups(queries=queries, offsets=offsets_of(counts), codes=codes)


def offsets_of(counts: Shaped[np.ndarray, "queries"]) -> Int64[np.ndarray, "queries+1"]:
    """Where each group begins, and the end: 0 and the running sum of the counts."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def codes_of(offsets: Int64[np.ndarray, "bounds"]) -> Int64[np.ndarray, "rows"]:
    """The group number of every row."""
    return np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets))


def stable_order(codes: Int64[np.ndarray, "rows"], count: int) -> Int64[np.ndarray, "rows"]:
    """The rows sorted by code, equal codes in their old order. A radix sort where the codes fit 16 bits."""
    narrow = codes.astype(np.uint16) if count <= 2**16 else codes
    return np.argsort(narrow, kind="stable")


def positions(
    values: Shaped[np.ndarray, "values"], among: Shaped[np.ndarray, "sorted"]
) -> Int64[np.ndarray, "values"]:
    """Where each value stands in the ascending distinct `among`; -1 where it does not.

    >>> positions(np.array([7, 3, 8]), np.array([3, 7]))
    array([ 1, 0, -1])
    """
    values, among = in_one_kind(values, among)
    if among.dtype.kind == "U":
        # integers ascend otherwise than their texts
        order = np.argsort(among, kind="stable")
        found = _search(values, among[order])
        return np.where(found >= 0, order[found], -1) if len(among) else found
    return _search(values, among)


def _search(
    values: Shaped[np.ndarray, "values"], among: Shaped[np.ndarray, "sorted"]
) -> Int64[np.ndarray, "values"]:
    if len(among) == 0:
        return np.full(len(values), -1, np.int64)
    found = np.minimum(np.searchsorted(among, values), len(among) - 1)
    return np.where(among[found] == values, found, -1)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Distinct (query, product) rows that can be looked up: the row of a pair, or -1."""

    queries: Shaped[np.ndarray, "queries"]
    products: Shaped[np.ndarray, "products"]
    keys: Int64[np.ndarray, "rows"]
    rows: Int64[np.ndarray, "rows"]

    @classmethod
    def of(
        cls,
        queries: Shaped[np.ndarray, "queries"],
        offsets: Int64[np.ndarray, "bounds"],
        product_ids: Shaped[np.ndarray, "rows"],
    ) -> Pairs:
        """Prepares grouped rows for look-up."""
        products, product_codes = np.unique(product_ids, return_inverse=True)
        keys = codes_of(offsets) * max(len(products), 1) + product_codes
        rows = np.argsort(keys)
        return cls(queries=queries, products=products, keys=keys[rows], rows=rows)

    def find(
        self,
        queries: Shaped[np.ndarray, "others"],
        offsets: Int64[np.ndarray, "other_bounds"],
        product_ids: Shaped[np.ndarray, "pairs"],
    ) -> Int64[np.ndarray, "pairs"]:
        """For each of the other grouped rows, the row here with its query and product; -1 where there is none."""
        query_codes = np.repeat(positions(queries, self.queries), np.diff(offsets))
        keys = query_codes * max(len(self.products), 1)
        product_codes = positions(product_ids, self.products)
        keys += product_codes
        keys[(query_codes < 0) | (product_codes < 0)] = -1
        found = _search(keys, self.keys)
        return np.where(found >= 0, self.rows[found], -1) if len(self.rows) else found


def first_repeated_pair(
    codes: Int64[np.ndarray, "rows"], product_ids: Shaped[np.ndarray, "rows"]
) -> int | None:
    """The smallest row whose (query, product) already stood in an earlier row; None where all are distinct."""
    if len(codes) < 2:
        return None
    products = product_ids
    if products.dtype.kind != "U":
        low, high = int(products.min()), int(products.max())
        span = high - low + 1
    if products.dtype.kind == "U" or span * (int(codes.max()) + 1) > np.iinfo(np.int64).max:
        distinct, products = np.unique(products, return_inverse=True)
        low, span = 0, len(distinct)
    keys = codes * span + (products - low)
    ordered = np.sort(keys)
    if not (ordered[1:] == ordered[:-1]).any():
        return None
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    return int(order[1:][ordered[1:] == ordered[:-1]].min())
