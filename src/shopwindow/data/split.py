"""Which clicks are learned from, and which are kept to validate and to test on?

By date where the log has dates: the last days are the test's, those before them validation's, as a model will be used
on days that it has not seen. Else by query, at random but the same every time. Knows rows of clicks, no file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Int64

from shopwindow.data.clicks import Clicks, Pairs

TRAIN, VALID, TEST = 0, 1, 2
Way = Literal["date", "query"]
HELD_OUT: Final = 0.1
"""Share of the clicks, or queries, of validation; and of the test."""


@dataclass(frozen=True)
class Split:
    """Of every row of the clicks whether it is TRAIN, VALID or TEST, and in words how that was decided."""

    way: Way
    parts: Int64[np.ndarray, " rows"]
    says: str


@dataclass(frozen=True)
class Strata:
    """How many held-out pairs have a query, a product, and both together that training has seen."""

    pairs: int
    query_seen: int
    product_seen: int
    pair_seen: int

    @property
    def says(self) -> str:
        """In one line."""
        seen = (self.query_seen, self.product_seen, self.pair_seen)
        shares = (f"{count:,} ({count / max(self.pairs, 1):.0%})" for count in seen)
        query, product, pair = shares
        return (
            f"of its {self.pairs:,} pairs, {query} have a query that training has too, {product} such a product, "
            f"{pair} are pairs of training"
        )


def split(clicks: Clicks, *, way: Way | None = None, share: float = HELD_OUT) -> Split:
    """Parts of about `share` of the clicks for validation and as much for the test, by date where there are dates.

    Whole days, or all rows of a query, are together. Fewer than three days are split by query; of fewer than three
    queries nothing is held out. Equal rows are split alike, in any order.

    Raises: ValueError for a share that is not above 0 and below a half, or for dates that the clicks lack.
    """
    if not 0 < share < 0.5:
        raise ValueError(f"share held out {share}: above 0 and below 0.5 is wanted")
    if way == "date" and clicks.days is None:
        raise ValueError("the clicks have no dates to be split by")
    days = clicks.days
    if days is not None and way != "query" and len(np.unique(days)) > 2:
        return _by_date(days, clicks.clicks, share)
    return _by_query(clicks, share)


def _by_date(days: Int64[np.ndarray, " rows"], clicks: np.ndarray, share: float) -> Split:
    """From the last day back: days until the test has its share, then days until validation has. Training keeps one."""
    known, places = np.unique(days, return_inverse=True)
    after = np.cumsum(
        np.bincount(places.reshape(-1), weights=clicks)[::-1]
    )  # of the last day, the last two ...
    count = int(np.searchsorted(after, share * after[-1])) + 1
    test = min(count, len(known) - 2)
    count = int(np.searchsorted(after, after[test - 1] + share * after[-1])) + 1
    both = min(max(count, test + 1), len(known) - 1)
    first_valid, first_test = known[-both], known[-test]
    parts = np.where(days >= first_test, TEST, np.where(days >= first_valid, VALID, TRAIN))
    last = f"the last {test:,} of {len(known):,} days for the test"
    says = f"by date: {last}, the {both - test:,} days before for validation"
    return Split("date", parts, says)


def _by_query(clicks: Clicks, share: float) -> Split:
    """The queries in the order of the SHA-256 of their texts: the first are the test's, the next validation's."""
    used = np.unique(clicks.queries)
    of_query = np.full(len(clicks.texts), TRAIN)
    if len(used) > 2:
        hashes = [hashlib.sha256(clicks.texts[one].encode()).digest() for one in used.tolist()]
        order = used[np.argsort(np.array(hashes, dtype="S32"), kind="stable")]
        count = max(1, round(share * len(used)))
        of_query[order[:count]] = TEST
        of_query[order[count : 2 * count]] = VALID
        says = f"by query: {count:,} of {len(used):,} queries for validation, as many for the test"
    else:
        says = f"nothing is held out of {len(used)} queries"
    return Split("query", of_query[clicks.queries], says)


def strata(held_out: Pairs, training: Pairs) -> Strata:
    """What training has seen of the held-out pairs."""
    keys = [one.queries * 2**32 + one.products for one in (held_out, training)]
    return Strata(
        len(held_out.queries),
        int(np.isin(held_out.queries, training.queries).sum()),
        int(np.isin(held_out.products, training.products).sum()),
        int(np.isin(*keys).sum()),
    )
