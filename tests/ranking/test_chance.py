"""Random order and random ties by formula: against every order of small pools, one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from shopwindow.ranking.answers import Answers
from shopwindow.ranking.chance import expected_values, random_evaluation, random_values
from shopwindow.ranking.measures import Measure, evaluate
from shopwindow.ranking.pools import Pools, run_of

POOLS = Pools.from_arrays(np.array([1, 1, 1, 1, 1, 2, 2, 3]), np.array([5, 6, 7, 8, 9, 5, 6, 5]))
ANSWERS = Answers.from_arrays(
    np.array([1, 1, 1, 1, 2, 3, 4]),
    np.array([5, 7, 8, 99, 6, 98, 5]),
    np.array([1.0, 3.0, -1.0, 2.0, 1.0, 1.0, 1.0]),
)
KINDS = ["hit@1", "hit@3", "precision@4", "recall@2", "MRR", "MRR@2", "MAP", "MAP@3"]
KINDS += ["nDCG@2", "nDCG", "nDCG-ones@3", "nDCG-exp@3", "nDCG@9"]


@pytest.mark.parametrize("written", KINDS)
def test_expectation_is_the_mean_over_all_orders(written: str) -> None:
    measure = Measure.parse(written)
    orders = itertools.product(itertools.permutations(range(5)), itertools.permutations(range(2)))
    values = [
        evaluate(run_of(POOLS, np.array([*five, *two, 0.0]), name="x"), ANSWERS, [measure]).values[0]
        for five, two in orders
    ]
    assert random_values(POOLS, ANSWERS, measure) == pytest.approx(np.mean(values, axis=0), abs=1e-12)


TIED = [[0, 0, 0, 0, 0], [1, 0, 1, 0, 1], [2, 2, 1, 1, 0], [0, 1, 0, 0, 3], [5, 4, 3, 2, 1], [0, 1, 1, 0, 0]]


@pytest.mark.parametrize("scores", TIED)
def test_expectation_over_ties_is_the_mean_over_all_their_orders(scores: list[int]) -> None:
    measures = [Measure.parse(written) for written in KINDS]
    both = np.array([*scores, 1, 1, 0], float)
    orders = itertools.product(itertools.permutations(range(5)), itertools.permutations(range(2)))
    values = [
        evaluate(run_of(POOLS, both + np.array([*five, *two, 0]) / 9, name="x"), ANSWERS, measures).values
        for five, two in orders
    ]
    expected = np.stack([expected_values(POOLS, both, ANSWERS, measure) for measure in measures])
    np.testing.assert_allclose(expected, np.mean(values, axis=0), atol=1e-12)


def test_random_order_is_an_evaluation_of_all_judged_queries() -> None:
    found = random_evaluation(POOLS, ANSWERS, [Measure("hit", 1)])
    assert found.of("hit@1").tolist() == pytest.approx([0.4, 0.5, 0, 0])
    assert found.missing.tolist() == [4]
