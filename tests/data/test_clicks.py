"""Clicks become weighted pairs: every rule counted by hand, every weight by its formula."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopwindow.data import clicks as rules
from shopwindow.data.clicks import Clicks, read_clicks, read_judgements, smoothed_rates, weigh
from shopwindow.data.products import read_products
from shopwindow.files import DataError

IDS = np.array(["A", "B", "007"])


def log(tmp_path: Path, text: str, **how: Any) -> Clicks:
    (tmp_path / "clicks.csv").write_text(text)
    return read_clicks(tmp_path / "clicks.csv", IDS, **how)


def weights(clicks: Clicks, **how: Any) -> dict[tuple[str, str], float]:
    pairs = weigh(clicks, **how)
    names = zip(pairs.queries.tolist(), pairs.products.tolist(), pairs.weights.tolist(), strict=True)
    return {(clicks.texts[query], str(IDS[product])): round(weight, 6) for query, product, weight in names}


def test_rows_are_summed_to_pairs_and_every_rule_is_counted(tmp_path: Path) -> None:
    clicks = log(
        tmp_path,
        "id,Search Term,SKU,clicks\n1,Red  Mug,A,2\n2,red mug,A,1\n3, ,A,1\n"
        "4,mug,C,1\n5,mug,007,1\n6,mug,7,1\n7,mug,A,0\n",
    )
    assert weights(clicks) == {("red mug", "A"): 3, ("mug", "007"): 1}
    assert clicks.texts == ["mug", "red mug"]
    assert clicks.found == {"query": "Search Term", "id": "SKU", "clicks": "clicks"}
    assert clicks.report == {
        "rows read": 7,
        "rows without a query: dropped": 1,
        "rows of a product that the catalogue lacks: dropped": 2,
        "rows without a click: dropped": 1,
        "rows of a bot (one session or query has most clicks): dropped": 0,
        "rows kept": 3,
    }


def test_an_id_that_changed_its_spelling_is_told(tmp_path: Path) -> None:
    rows = "".join(f"mug,{row}\n" for row in range(9))
    (tmp_path / "clicks.csv").write_text(f"query,id\n{rows}mug,9.0\n")
    with pytest.raises(DataError, match=r"line 11, id: '9\.0' among integers"):
        read_clicks(tmp_path / "clicks.csv", np.arange(10))


def test_parquet_json_and_integer_ids_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"q": ["mug", "cup"], "item": [7, 8], "weight": [2.5, 1]}), tmp_path / "x")
    clicks = read_clicks(tmp_path / "x", np.array([8, 7]))
    assert (clicks.texts, clicks.queries.tolist(), clicks.products.tolist()) == (
        ["cup", "mug"],
        [1, 0],
        [1, 0],
    )
    assert clicks.clicks.tolist() == [2.5, 1]
    (tmp_path / "y").write_text('{"q": "mug", "item": 7}\n{"item": 8, "q": "cup"}\n')
    assert read_clicks(tmp_path / "y", np.array([8, 7])).products.tolist() == [1, 0]


def test_a_click_far_down_counts_as_often_as_it_was_looked_at_less(tmp_path: Path) -> None:
    clicks = log(tmp_path, "query,id,position\nmug,A,1\nmug,A,4\nmug,B,50\nmug,007,\n")
    assert weights(clicks) == {("mug", "A"): 5, ("mug", "B"): rules.MOST_LIFT, ("mug", "007"): 1}
    assert weights(clicks, eta=0.5) == {("mug", "A"): 3, ("mug", "B"): round(50**0.5, 6), ("mug", "007"): 1}
    assert weights(clicks, eta=0.0) == {("mug", "A"): 2, ("mug", "B"): 1, ("mug", "007"): 1}
    assert clicks.report["of these without a position: taken as the first"] == 1
    unused = log(tmp_path, "query,id,position\nmug,A,4\n", columns={"position": ""})
    assert (weights(unused), "position" in unused.found) == ({("mug", "A"): 1}, False)


def test_with_impressions_the_weight_is_a_rate_drawn_to_the_mean(tmp_path: Path) -> None:
    text = "query,id,clicks,impressions\nmug,A,20,100\nmug,A,10,0\nmug,B,10,110\nmug,007,0,110\n"
    found = weights(log(tmp_path, text))
    # looks 110, 110, 110 (never fewer than clicks); clicks 30, 10, 0; mean rate 40/330
    mean = 40 / 330
    variance = sum((c / 110 - mean) ** 2 for c in (30, 10, 0)) / 3 - mean / 110
    worth = mean**2 / variance
    assert found[("mug", "A")] == pytest.approx((30 + worth) / (110 * mean + worth), abs=1e-6)
    assert found[("mug", "B")] == pytest.approx((10 + worth) / (110 * mean + worth), abs=1e-6)
    assert ("mug", "007") not in found


def test_impressions_far_down_are_fewer_looks(tmp_path: Path) -> None:
    text = "query,id,clicks,impressions,position\nmug,A,30,100,1\nmug,B,30,200,2\nmug,007,1,100,1\n"
    found = weights(log(tmp_path, text))
    assert found[("mug", "A")] == found[("mug", "B")]


def test_rates_that_vary_by_chance_alone_are_all_the_mean() -> None:
    assert smoothed_rates(np.array([3.0, 2.0]), np.array([10.0, 10.0])).tolist() == [1, 1]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 200)), min_size=2, max_size=20))
def test_a_smoothed_rate_lies_between_the_rate_and_the_mean(some: list[tuple[int, int]]) -> None:
    clicked, looks = np.array([*some, (1, 10)], float).T
    rates = clicked / looks / (clicked.sum() / looks.sum())
    smoothed = smoothed_rates(clicked, looks)
    assert (smoothed >= np.minimum(rates, 1) - 1e-9).all()
    assert (smoothed <= np.maximum(rates, 1) + 1e-9).all()


def test_pairs_with_too_few_clicks_are_dropped_and_counted(tmp_path: Path) -> None:
    clicks = log(tmp_path, "query,id\nmug,A\nmug,A\nmug,B\n")
    pairs = weigh(clicks, least_clicks=2)
    assert (pairs.products.tolist(), pairs.clicks.tolist(), pairs.dropped) == ([0], [2], 1)


def test_a_bot_is_dropped_and_a_popular_query_is_not(tmp_path: Path) -> None:
    ordinary = [("mug", 9), ("cup", 6), ("lamp", 4), ("bed", 3), ("red mug", 1)]
    lines = [f"{query},A,{clicks}" for query, clicks in ordinary]
    clicks = log(tmp_path, "\n".join(["query,id,clicks", *lines, "mug,B,70"]))  # 79 of 93, next 6: a bot
    assert clicks.texts[clicks.queries[0]] == "cup"
    assert clicks.report["rows of a bot (one session or query has most clicks): dropped"] == 2
    assert clicks.report["rows kept"] == 4
    assert (
        len(log(tmp_path, "\n".join(["query,id,clicks", *lines, "mug,B,51"])).queries) == 6
    )  # ten times, not more
    assert len(log(tmp_path, "\n".join(["query,id,clicks", *lines, "mug,B,70"]), keep_bots=True).queries) == 6
    assert len(log(tmp_path, "query,id\n" + "mug,A\n" * 50).queries) == 50  # the only query there is


def test_a_session_with_most_clicks_is_dropped(tmp_path: Path) -> None:
    rows = [f"mug,A,{session}" for session in range(500)]
    clicks = log(tmp_path, "\n".join(["query,id,session", *rows, *["cup,B,bot"] * 101]))
    assert clicks.texts == ["cup", "mug"]
    assert set(clicks.queries.tolist()) == {1}
    clicks = log(tmp_path, "\n".join(["query,id,session", *rows, *["cup,B,keen"] * 100]))
    assert clicks.report["rows of a bot (one session or query has most clicks): dropped"] == 0


@pytest.mark.parametrize(
    ("cell", "iso"),
    [
        ("2026-06-01", "2026-06-01"),
        ("2026-06-01T23:59:59Z", "2026-06-01"),
        ("2026-06-01 12:00:00+02:00", "2026-06-01"),
        ("20260601", "2026-06-01"),
        ("1780272000", "2026-06-01"),
        ("1780272000000", "2026-06-01"),
    ],
)
def test_dates_are_days(tmp_path: Path, cell: str, iso: str) -> None:
    days = log(tmp_path, f"query,id,date\nmug,A,{cell}\n").days
    assert days is not None
    assert np.datetime64("0001-01-01") + (days[0] - 1) == np.datetime64(iso)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("id,price\n1,2\n", "line 1: no column of the queries: name it"),
        ("query,price\nmug,2\n", "line 1: no column of the products: name it"),
        ("query,id\nmug,A,3\n", "line 2: 3 fields"),
        ("query,id\n", "clicks.csv: has a header and no rows"),
        ("query,id\nmug,Z\n", "clicks.csv, id: none of its products is in the catalogue"),
        ("query,id,clicks\nmug,A,many\n", "line 2, clicks: 'many' is no finite number"),
        ("query,id,clicks\nmug,A,1\nmug,A,\n", "line 3, clicks: is empty"),
        ("query,id,clicks\nmug,A,-1\n", "line 2, clicks: '-1', 0 or more is wanted"),
        ("query,id,clicks\nmug,A,0\n", "no click is left after the rules"),
        ("query,id,position\nmug,A,0\n", "line 2, position: '0': positions count from 1"),
        ("query,id,date\nmug,A,01/06/2026\n", "line 2, date: '01/06/2026' is no date such as 2026-06-01"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError) as told:
        log(tmp_path, text)
    assert says in str(told.value)


def test_judgements_are_read_and_strangers_counted(tmp_path: Path) -> None:
    path = tmp_path / "j.csv"
    path.write_text("query,sku,grade\nMug,A,2\nmug,B,0\nmug,Z,1\ncup,A,1\n")
    graded = read_judgements(path, IDS)
    assert (graded.texts, graded.queries.tolist(), graded.products.tolist()) == (
        ["cup", "mug"],
        [1, 1, 0],
        [0, 1, 0],
    )
    assert (graded.grades.tolist(), graded.unknown) == ([2, 0, 1], 1)
    path.write_text("query,sku\nmug,A\n")
    assert read_judgements(path, IDS).grades.tolist() == [1]
    for text, says in [
        ("mug,A,1\nmug,B,1\nMUG,A,0\n", "j.csv line 4: query 'mug', product A is graded twice"),
        ("mug,A,good\n", "line 2, grade: 'good' is no finite number"),
    ]:
        path.write_text("query,sku,grade\n" + text)
        with pytest.raises(DataError) as told:
            read_judgements(path, IDS)
        assert says in str(told.value)


def test_a_real_shops_clicks_are_read(shops: Path) -> None:
    products = read_products(shops / "grocery/products.csv")
    clicks = read_clicks(shops / "grocery/clicks.csv", products.ids)
    pairs = weigh(clicks)
    assert clicks.report["rows kept"] == clicks.report["rows read"] == 8554
    assert (len(clicks.texts), len(pairs.queries), pairs.weights.sum()) == (98, 4841, 8554)
    graded = read_judgements(shops / "grocery/judgements.csv", products.ids)
    assert (len(graded.texts), len(graded.grades), graded.grades.sum(), graded.unknown) == (98, 2940, 588, 0)


@pytest.mark.parametrize("role", ["clicks", "position", "impressions"])
def test_numbers_whose_sums_overflow_are_refused(tmp_path: Path, role: str) -> None:
    with pytest.raises(DataError, match=rf"clicks.csv line 2, {role}: '1e308', at most"):
        log(tmp_path, f"query,id,{role}\nmug,A,1e308\nmug,B,1\n")


def test_dates_of_a_parquet_file_beyond_the_calendar_are_refused(tmp_path: Path) -> None:
    for days in (2**31 - 1, 4_000_000):
        table = {"query": ["mug"], "id": ["A"], "date": pa.array([days], pa.date32())}
        pq.write_table(pa.table(table), tmp_path / "clicks.parquet")
        with pytest.raises(DataError, match=r"clicks\.parquet: broken Parquet"):
            read_clicks(tmp_path / "clicks.parquet", IDS)


def test_a_query_of_a_book_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"clicks.csv line 3, query: 20,000 letters, at most 10,000"):
        log(tmp_path, f"query,id\nmug,A\n{'x' * 20_000},B\n")
