"""Answers and pools: the two shapes of each, and what is wrong with others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shopwindow.files import DataError
from shopwindow.ids import Pairs, positions
from shopwindow.ranking.answers import Answers, read_answers
from shopwindow.ranking.pools import Pools, grades_of, oracle_run, random_run, read_pools

COMPETITION = "product_id\timage_h\timage_w\tnum_boxes\tboxes\tfeatures\tclass_labels\tquery\tquery_id\n"
ROWS, LONG, QUERY = [(5, 9), (5, 3), (4, 9), (5, 1)], "A" * 9999, 'a "red, bag'


def made(tmp_path: Path, content: str, name: str = "a") -> Path:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", newline="")
    return path


def as_lists(answers: Answers) -> dict[object, list[object]]:
    return {
        query: answers.product_ids[answers.offsets[i] : answers.offsets[i + 1]].tolist()
        for i, query in enumerate(answers.queries.tolist())
    }


def test_competition_answers_are_read_with_empty_lists(tmp_path: Path) -> None:
    answers = read_answers(made(tmp_path, '\ufeff{"10": [7, 5], "9": [], "2": ["6"]}\r\n'))
    assert as_lists(answers) == {2: [6], 9: [], 10: [5, 7]}
    assert answers.counts.tolist() == [1, 0, 2]
    assert answers.grades.tolist() == [1, 1, 1]


def test_qrels_keep_grades_and_click_weights(tmp_path: Path) -> None:
    answers = read_answers(made(tmp_path, "q2 0 b 3\nq2 0 a 0\nq1 0 a -1\nq2 0 c 2.5\n"))
    assert as_lists(answers) == {"q1": ["a"], "q2": ["a", "b", "c"]}
    assert answers.grades.tolist() == [-1, 0, 3, 2.5]
    assert answers.counts.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("{}", "holds no query"),
        ("[1]", "a list, {query_id: [product_id, ...]} was wanted"),
        ('{"1": [2],\n "2": [3}', "line 2: broken JSON"),
        ('{"1": [2], "1": [3]}', "query 1: occurs twice"),
        ('{"1": [2], " 1": [3]}', "query 1: occurs twice"),
        ('{"1": [2, 3, 2]}', "query 1: product 2 occurs twice"),
        ('{"1": [2, "2"]}', "query 1: product 2 occurs twice"),
        ('{"1": 2}', "query 1: a list of products was wanted, got 2"),
        ('{"1": {"2": 1}, "3": 4}', "query 3: {product: score} was wanted, got 4"),
        ('{"1": [2.5]}', "query 1: 2.5 is not a product id"),
        ('{"1": [true]}', "query 1: true is not a product id"),
        ('{"1": [null]}', "query 1: null is not a product id"),
        ('{"1": [""]}', "is empty"),
        ("[" * 100_000, "nested too deep"),
        ("1 0 2\n", "line 1: wanted 4 (TREC qrels"),
        ("1 0 2 x\n", "line 1, grade: 'x' is not a number"),
        ("1 0 2 1\n\n1 0 3 nan\n", "line 3, grade: a finite number was wanted"),
        ("1 0 2 1\n1 0 2 0\n", "line 2, product_id: query 1, product 2 occurs twice in the answers"),
    ],
)
def test_wrong_answers_are_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_answers(made(tmp_path, content))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "5\t9\n5\t3\n4\t9\n5\t1\n",
        "query_id,product_id\n5,9\n5,3\n4,9\n5,1\n",
        "5 Q0 9 1 0.1 x\n5 Q0 3 1 0.2 x\n4 Q0 9 1 0.1 x\n5 Q0 1 1 0.1 x\n",
        COMPETITION + "".join(f"{p}\t1\t1\t1\tA=\t{LONG}\tA=\t{QUERY}\t{q}\n" for q, p in ROWS),
    ],
)
def test_pools_keep_the_order_of_their_file(tmp_path: Path, content: str) -> None:
    pools = read_pools(made(tmp_path, content))
    assert pools.queries.tolist() == [4, 5]
    assert pools.query_ids.tolist() == [4, 5, 5, 5]
    assert pools.product_ids.tolist() == [9, 9, 3, 1]
    assert pools.sizes.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "ask,thing\n1,2\n3,4\n",
            "line 1: looks like a header: only this line holds no numbers; name its columns",
        ),
        ("1\t2\n3\t4\n1\t2\n", "line 3, product_id: query 1, product 2 occurs twice in the pools"),
        (COMPETITION + "1\t1\t1\t1\tA\tA\tA\tbag\n", "line 2: 8 fields parted by tabs, the first line has 9"),
        ("1\t2\n1 3\n", "line 2: fields are parted by spaces, in the first line by tabs"),
    ],
)
def test_wrong_pools_are_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_pools(made(tmp_path, content))
    assert message in str(caught.value)


POOLS = Pools.from_arrays(np.array([1, 1, 1, 2, 2]), np.array([5, 6, 7, 5, 8]))


def test_oracle_puts_the_answers_of_the_pool_first() -> None:
    answers = Answers.from_arrays(np.array([1, 1, 2]), np.array([7, 6, 99]), np.array([1.0, 3.0, 1.0]))
    assert grades_of(POOLS, answers).tolist() == [0, 3, 1, 0, 0]
    assert oracle_run(POOLS, answers).product_ids.tolist() == [6, 7, 5, 5, 8]


def test_random_order_depends_on_the_generator_only() -> None:
    first, again, other = (random_run(POOLS, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.scores.tolist() == again.scores.tolist()
    assert first.scores.tolist() != other.scores.tolist()
    assert sorted(first.product_ids[:3].tolist()) == [5, 6, 7]


def test_pairs_are_found_across_kinds_of_ids() -> None:
    queries, offsets, products = np.array([2, 10]), np.array([0, 1, 3]), np.array([5, 5, 7])
    pairs = Pairs.of(queries, offsets, products)
    text = (np.array(["10", "2", "x"]), np.array([0, 2, 3, 4]), np.array(["7", "6", "5", "5"]))
    assert pairs.find(*text).tolist() == [2, -1, 0, -1]
    nothing = Pairs.of(np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0, np.int64))
    assert nothing.find(queries, offsets, products).tolist() == [-1, -1, -1]
    assert positions(np.array(["9", "10"]), np.array([9, 10])).tolist() == [0, 1]
