"""The losses against their formulas written as loops."""

from __future__ import annotations

import math

import pytest
import torch

from shopwindow.model.losses import same_query_or_product, sigmoid_loss, softmax_loss


def test_sigmoid_loss_is_the_mean_over_all_cells() -> None:
    scores = torch.tensor([[1.0, -2.0], [0.5, 3.0]])

    def cell(score: float, right: bool) -> float:
        return -math.log(1 / (1 + math.exp(-score))) if right else -math.log(1 - 1 / (1 + math.exp(-score)))

    wanted = (cell(1, True) + cell(-2, False) + cell(0.5, False) + cell(3, True)) / 4
    assert float(sigmoid_loss(scores)) == pytest.approx(wanted, rel=1e-6)


def test_softmax_loss_leaves_masked_cells_out_of_both_sums() -> None:
    scores = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 1.0, 1.0]])
    same = torch.eye(3, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    rows = columns = 0.0
    for i in range(3):
        kept = [j for j in range(3) if j == i or not same[i, j]]
        rows -= math.log(math.exp(scores[i, i]) / sum(math.exp(scores[i, j]) for j in kept))
        columns -= math.log(math.exp(scores[i, i]) / sum(math.exp(scores[j, i]) for j in kept))
    assert float(softmax_loss(scores, same)) == pytest.approx((rows + columns) / 6, rel=1e-6)


def test_softmax_loss_of_a_batch_of_one_query_is_zero_and_finite() -> None:
    everything = torch.ones(4, 4, dtype=torch.bool)
    assert float(softmax_loss(torch.randn(4, 4), everything)) == 0.0


def test_equal_queries_and_equal_products_are_the_same_by_hand() -> None:
    same = same_query_or_product(torch.tensor([1, 1, 2, 3]), torch.tensor([7, 8, 7, 9]))
    wanted = [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]
    assert same.int().tolist() == wanted
