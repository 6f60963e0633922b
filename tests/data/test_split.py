"""Clicks are held out by date or by query, whole, and the same every time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopwindow.data.clicks import Clicks, Pairs
from shopwindow.data.split import TEST, TRAIN, VALID, split, strata


def clicks(queries: list[int], days: list[int] | None = None) -> Clicks:
    count = len(queries)
    texts = [f"query {one:03}" for one in range(max(queries) + 1)]
    products, ones = np.arange(count), np.ones(count)
    when = None if days is None else np.array(days)
    return Clicks(texts, np.array(queries), products, ones, when, None, None, {}, "clicks.csv", {})


def test_the_last_days_are_held_out_whole() -> None:
    days = [day for day in range(10) for _ in range(10)]
    result = split(clicks([0] * 100, days), share=0.15)
    assert result.way == "date"
    assert result.says == "by date: the last 2 of 10 days for the test, the 2 days before for validation"
    assert result.parts.tolist() == [TRAIN] * 60 + [VALID] * 20 + [TEST] * 20


def test_one_day_of_many_clicks_leaves_training_a_day() -> None:
    result = split(clicks([0] * 12, [0, 1, *[2] * 10]))
    assert result.parts.tolist() == [TRAIN, VALID, *[TEST] * 10]
    result = split(clicks([0] * 12, [0, *[1] * 10, 2]))
    assert result.parts.tolist() == [TRAIN, *[VALID] * 10, TEST]


def test_without_dates_queries_are_held_out_whole() -> None:
    queries = [one for one in range(50) for _ in range(3)]
    result = split(clicks(queries))
    assert result.way == "query"
    assert result.says == "by query: 5 of 50 queries for validation, as many for the test"
    per_query = result.parts.reshape(50, 3)
    assert (per_query == per_query[:, :1]).all()
    assert np.bincount(per_query[:, 0]).tolist() == [40, 5, 5]
    assert split(clicks(queries, [1, 2, 1] * 50)).way == "query"  # two days are too few
    assert (split(clicks(queries, [1, 2, 3] * 50), way="query").parts == result.parts).all()


def test_of_two_queries_nothing_is_held_out() -> None:
    result = split(clicks([0, 1]))
    assert (result.parts.tolist(), result.says) == ([TRAIN, TRAIN], "nothing is held out of 2 queries")


def test_wrong_wishes_are_errors() -> None:
    with pytest.raises(ValueError, match="no dates"):
        split(clicks([0]), way="date")
    with pytest.raises(ValueError, match="share held out"):
        split(clicks([0]), share=0.5)


@given(
    rows=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 8)), min_size=1, max_size=60),
    dated=st.booleans(),
    seed=st.integers(0, 9),
)
def test_the_order_of_the_rows_does_not_matter(rows: list[tuple[int, int]], dated: bool, seed: int) -> None:
    queries, days = map(list, zip(*rows, strict=True))
    order = np.random.default_rng(seed).permutation(len(rows))
    one = clicks(queries, days if dated else None)
    columns = {"queries": one.queries[order], "days": None if one.days is None else one.days[order]}
    mixed = replace(one, **columns)  # type: ignore[arg-type] # the fields of these names
    first = split(one).parts
    assert (first[order] == split(mixed).parts).all()
    assert (first == TRAIN).any()


def test_strata_count_what_training_has_seen() -> None:
    def pairs(queries: list[int], products: list[int]) -> Pairs:
        ones = np.ones(len(queries))
        return Pairs(np.array(queries), np.array(products), ones, ones)

    found = strata(pairs([0, 0, 2, 3], [5, 6, 5, 9]), pairs([0, 1, 0], [5, 6, 7]))
    assert (found.pairs, found.query_seen, found.product_seen, found.pair_seen) == (4, 2, 3, 1)
    assert found.says == (
        "of its 4 pairs, 2 (50%) have a query that training has too, 3 (75%) such a product, "
        "1 (25%) are pairs of training"
    )
