"""Submissions: written only when right, and every wrong one named by line and field."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shopwindow.files import DataError
from shopwindow.ranking.pools import Pools
from shopwindow.ranking.runs import Run
from shopwindow.ranking.submission import check_submission, write_submission

HEADER = "query-id,product1,product2,product3,product4,product5\n"
POOLS = Pools.from_arrays(np.repeat([3, 20], 6), np.array([1, 2, 3, 4, 5, 6, 2, 4, 6, 8, 10, 12]))
RIGHT = HEADER + "3,6,5,4,3,2\n20,12,10,8,6,4\n"


def run_of(pools: Pools) -> Run:
    return Run.from_arrays(pools.query_ids, pools.product_ids, pools.product_ids.astype(float), name="mine")


def without(run: Run, kept: np.ndarray) -> Run:
    return Run.from_arrays(run.query_ids[kept], run.product_ids[kept], run.scores[kept], name="mine")


def test_submission_holds_the_five_best_of_each_query(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    write_submission(run_of(POOLS), POOLS, path)
    assert path.read_text() == RIGHT
    assert check_submission(path, POOLS) == 2
    assert check_submission(path) == 2


def test_queries_without_a_pool_are_left_out(tmp_path: Path) -> None:
    run = run_of(Pools.from_arrays(np.append(POOLS.query_ids, 99), np.append(POOLS.product_ids, 1)))
    write_submission(run, POOLS, tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_text() == RIGHT


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (slice(0, 6), "mine, query 20: the run does not rank it"),
        (slice(0, 10), "mine, query 20: the run ranks 4 products, 5 were wanted"),
    ],
)
def test_incomplete_run_writes_nothing(tmp_path: Path, kept: slice, message: str) -> None:
    with pytest.raises(DataError) as caught:
        write_submission(without(run_of(POOLS), np.arange(12)[kept]), POOLS, tmp_path / "s.csv")
    assert str(caught.value) == message
    assert not list(tmp_path.iterdir())


def test_product_outside_its_pool_is_named(tmp_path: Path) -> None:
    larger = Pools.from_arrays(np.append(POOLS.query_ids, 3), np.append(POOLS.product_ids, 77))
    with pytest.raises(DataError, match="query 3: product 77 is not in its pool"):
        write_submission(run_of(larger), POOLS, tmp_path / "s.csv")


def test_pool_of_four_candidates_is_named(tmp_path: Path) -> None:
    small = Pools.from_arrays(np.array([7, 7, 7, 7]), np.array([1, 2, 3, 4]))
    with pytest.raises(DataError, match="query 7: 4 candidates in the pool, a submission needs 5"):
        write_submission(run_of(small), small, tmp_path / "s.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: '', the header query-id,product1"),
        ("3,6,5,4,3,2\n", "line 1: '3,6,5,4,3,2', the header"),
        (HEADER, "has a header and no queries"),
        (HEADER + "3,6,5,4,3\n", "line 2: 5 fields, 6 were wanted"),
        (HEADER + "3,6,5,4,3,2,1\n", "line 2: 7 fields, 6 were wanted"),
        (HEADER + "3,6,5,4,3,2\n\n", "line 3: 1 fields, 6 were wanted"),
        (HEADER + "3,6,,4,3,2\n", "line 2, product2: '' is not an id"),
        (HEADER + "3,6, 5,4,3,2\n", "line 2, product2: ' 5' is not an id"),
        (HEADER + "3,6,5,4,6,2\n", "line 2, product4: product 6 also stands in product1"),
        (HEADER + "3,6,5,4,3,2\n3,6,5,4,3,1\n", "line 3, query-id: query 3 already stands in line 2"),
        (HEADER + "3,6,5,4,3,2\n", "query-id: 1 of 2 queries of the pools have no line, the first is 20"),
        (HEADER + "3,6,5,4,3,2\n21,12,10,8,6,4\n", "line 3, query-id: query 21 is not in the pools"),
        (
            HEADER + "3,6,5,4,3,2\n20,12,10,8,7,4\n",
            "line 3, product4: product 7 is not in the pool of query 20",
        ),
        (
            HEADER + "3,6,5,4,3,2\n20,12,10,8,x,4\n",
            "line 3, product4: product x is not in the pool of query 20",
        ),
    ],
)
def test_wrong_submission_is_named_by_line_and_field(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        check_submission(path, POOLS)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
