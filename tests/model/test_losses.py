"""The losses against their formulas written as loops, and against torch's own where they are one."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from shopwindow.model.losses import (
    focal_loss,
    margin_softmax_loss,
    multi_similarity_loss,
    siglip_loss,
    sigmoid_loss,
    softmax_loss,
)
from shopwindow.model.negatives import Cells

Loss = Callable[[Tensor, Cells], Tensor]
LOSSES: dict[str, Loss] = {
    "sigmoid": sigmoid_loss,
    "siglip": siglip_loss,
    "softmax": softmax_loss,
    "margin": margin_softmax_loss,
    "multi-similarity": multi_similarity_loss,
    "focal": focal_loss,
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())

# Rows and columns with several right cells, cells left out, whole-number weights; row 3 has no right cell, row 4 no
# wrong one, row 5 neither; column 3 has no right cell, column 4 no wrong one.
RIGHT = [
    [1, 0, 2, 0, 0],
    [0, 3, 0, 0, 1],
    [1, 0, 1, 0, 0],
    [0, 0, 0, 0, 0],
    [0, 2, 1, 0, 1],
    [0, 0, 0, 0, 0],
]
WRONG = [
    [0, 1, 0, 1, 0],
    [1, 0, 1, 1, 0],
    [0, 1, 0, 1, 0],
    [1, 1, 1, 0, 0],
    [0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0],
]
MIXED = Cells(torch.tensor(RIGHT, dtype=torch.float64), torch.tensor(WRONG, dtype=torch.bool))
Matrix = list[list[float]]
Counts = list[list[int]]


def scores_like(cells: Cells, *, seed: int = 0, largest: float = 4.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = cells.right.shape
    return largest * (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1)


def both_ways(loop: Callable[[Matrix, Counts, Counts], float], scores: Tensor) -> float:
    """Half the loop's value of the rows, half that of the columns, of MIXED's cells."""
    right, wrong = MIXED.right.int(), MIXED.wrong.int()
    rows = loop(scores.tolist(), right.tolist(), wrong.tolist())
    return (rows + loop(scores.T.tolist(), right.T.tolist(), wrong.T.tolist())) / 2


def listed(right: Counts, wrong: Counts) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The right cells, each as often as its weight says, and the wrong ones."""
    places = [(i, j) for i in range(len(right)) for j in range(len(right[0]))]
    return [(i, j) for i, j in places for _ in range(right[i][j])], [(i, j) for i, j in places if wrong[i][j]]


def sigma(score: float) -> float:
    return 1 / (1 + math.exp(-score))


def softmax_of_rows(scores: Matrix, right: Counts, wrong: Counts) -> float:
    total = count = 0.0
    for row, weights, negatives in zip(scores, right, wrong, strict=True):
        others = sum(math.exp(score) for score, negative in zip(row, negatives, strict=True) if negative)
        several = sum(weight > 0 for weight in weights)
        for score, weight in zip(row, weights, strict=True):
            for _ in range(weight):
                total -= math.log(math.exp(score) / (math.exp(score) + others)) / several
                count += 1 / several
    return total / count


def multi_similarity_of_rows(cosines: Matrix, right: Counts, wrong: Counts) -> float:
    total = 0.0
    for row, weights, negatives in zip(cosines, right, wrong, strict=True):
        positive = [c for c, weight in zip(row, weights, strict=True) for _ in range(weight)]
        negative = [c for c, is_negative in zip(row, negatives, strict=True) if is_negative]
        if positive and negative:
            pulled = [c for c in positive if c - 0.1 < max(negative)]
            pushed = [c for c in negative if c + 0.1 > min(positive)]
            total += math.log(1 + sum(math.exp(-2 * (c - 0.5)) for c in pulled)) / 2
            total += math.log(1 + sum(math.exp(50 * (c - 0.5)) for c in pushed)) / 50
    return total / len(cosines)


def diagonal(count: int) -> Cells:
    eye = torch.eye(count)
    return Cells(eye, eye == 0)


def test_sigmoid_loss_is_the_mean_over_all_cells() -> None:
    scores = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    right = -math.log(sigma(1)) - math.log(sigma(3))
    wrong = -math.log(1 - sigma(-2)) - math.log(1 - sigma(0.5))
    assert float(sigmoid_loss(scores, diagonal(2))) == pytest.approx((right + wrong) / 4, rel=1e-6)


@pytest.mark.parametrize("count", [1, 2, 7, 64, 200])
def test_sigmoid_loss_of_the_seed_is_torchs_cross_entropy_against_the_identity_to_the_bit(count: int) -> None:
    scores = 5 * torch.randn(count, count, generator=torch.Generator().manual_seed(count))
    wanted = functional.binary_cross_entropy_with_logits(scores, torch.eye(count))
    assert torch.equal(sigmoid_loss(scores, diagonal(count)), wanted)


def test_softmax_loss_of_one_right_cell_a_row_is_torchs_cross_entropy_of_rows_and_columns() -> None:
    generator = torch.Generator().manual_seed(3)
    scores, target = 5 * torch.randn(9, 9, generator=generator), torch.arange(9)
    left_out = (torch.rand(9, 9, generator=generator) < 0.3) & ~torch.eye(9, dtype=torch.bool)
    kept = scores.masked_fill(left_out, -torch.inf)
    wanted = (functional.cross_entropy(kept, target) + functional.cross_entropy(kept.T, target)) / 2
    cells = Cells(torch.eye(9), ~left_out & (torch.eye(9) == 0))
    torch.testing.assert_close(softmax_loss(scores, cells), wanted)


def test_softmax_loss_of_a_batch_of_one_query_is_zero() -> None:
    cells = Cells(torch.eye(4), torch.zeros(4, 4, dtype=torch.bool))
    assert float(softmax_loss(torch.randn(4, 4), cells)) == 0.0


def test_sigmoid_loss_is_its_loop_over_listed_cells() -> None:
    scores = scores_like(MIXED)
    right, wrong = listed(RIGHT, WRONG)
    terms = [-math.log(sigma(float(scores[cell]))) for cell in right]
    terms += [-math.log(sigma(-float(scores[cell]))) for cell in wrong]
    assert float(sigmoid_loss(scores, MIXED)) == pytest.approx(sum(terms) / len(terms), rel=1e-12)


def test_siglip_loss_is_the_same_sum_over_the_number_of_queries() -> None:
    scores = scores_like(MIXED)
    right, wrong = listed(RIGHT, WRONG)
    total = sum(-math.log(sigma(float(scores[cell]))) for cell in right)
    total += sum(-math.log(sigma(-float(scores[cell]))) for cell in wrong)
    assert float(siglip_loss(scores, MIXED)) == pytest.approx(total / 6, rel=1e-12)


def test_softmax_loss_is_its_loop_over_rows_and_columns() -> None:
    scores = scores_like(MIXED)
    assert float(softmax_loss(scores, MIXED)) == pytest.approx(both_ways(softmax_of_rows, scores), rel=1e-12)


@pytest.mark.parametrize("scale", [14.0, torch.tensor(14.0, dtype=torch.float64)], ids=["number", "tensor"])
def test_margin_softmax_loss_lessens_the_cosines_of_right_cells_alone(scale: float | Tensor) -> None:
    cosines = scores_like(MIXED, largest=1.0)
    lessened = cosines.clone()
    for cell in listed(RIGHT, WRONG)[0]:
        lessened[cell] = cosines[cell] - 0.05
    wanted = both_ways(softmax_of_rows, 14 * lessened)
    got = margin_softmax_loss(14 * cosines, MIXED, scale=scale, margin=0.05)
    assert float(got) == pytest.approx(wanted, rel=1e-12)


def test_margin_softmax_loss_without_margin_is_the_softmax_loss() -> None:
    scores = scores_like(MIXED)
    assert torch.equal(margin_softmax_loss(scores, MIXED, margin=0.0), softmax_loss(scores, MIXED))


@pytest.mark.parametrize("seed", range(5))
def test_multi_similarity_loss_is_its_loop_over_mined_cells_of_rows_and_columns(seed: int) -> None:
    cosines = scores_like(MIXED, seed=seed, largest=1.0)
    wanted = both_ways(multi_similarity_of_rows, cosines)
    assert float(multi_similarity_loss(cosines, MIXED)) == pytest.approx(wanted, rel=1e-12)


def test_multi_similarity_loss_of_pairs_far_ahead_is_zero() -> None:
    assert float(multi_similarity_loss(torch.eye(3), diagonal(3))) == 0.0
    assert float(multi_similarity_loss(torch.eye(3), diagonal(3), epsilon=math.inf)) > 0.0


def test_multi_similarity_mining_keeps_what_lies_within_epsilon() -> None:
    cells = Cells(torch.tensor([[1.0, 0.0]]), torch.tensor([[False, True]]))

    def rows_and_columns(right: float, wrong: float) -> float:
        return 2 * float(multi_similarity_loss(torch.tensor([[right, wrong]]), cells))

    wanted = math.log(1 + math.exp(-2 * 0.05)) / 2 + math.log(1 + math.exp(50 * -0.04)) / 50
    assert rows_and_columns(0.55, 0.46) == pytest.approx(wanted, rel=1e-5)  # of columns none has both kinds
    assert rows_and_columns(0.55, 0.44) == 0.0


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_is_its_loop_a_mean_of_right_cells_and_one_of_wrong(gamma: float) -> None:
    scores = scores_like(MIXED)
    right, wrong = listed(RIGHT, WRONG)

    def term(p: float) -> float:
        return -math.pow(1 - p, gamma) * math.log(p)

    wanted = sum(term(sigma(float(scores[cell]))) for cell in right) / len(right)
    wanted += sum(term(sigma(-float(scores[cell]))) for cell in wrong) / len(wrong)
    assert float(focal_loss(scores, MIXED, gamma=gamma)) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("name", ["softmax", "margin", "focal"])
def test_a_pair_of_weight_two_counts_as_that_pair_twice_in_the_mean_over_pairs(name: str) -> None:
    loss, scores = LOSSES[name], scores_like(MIXED)[:3, :3]
    right = torch.eye(3, dtype=torch.float64)
    alone = [loss(scores, Cells(torch.diag(pair), right == 0)) for pair in right]
    doubled = loss(scores, Cells(torch.diag(right.sum(0) + right[1]), right == 0))
    torch.testing.assert_close(doubled, (alone[0] + 2 * alone[1] + alone[2]) / 4)


@each_loss
def test_a_pairs_weight_changes_the_loss_and_its_pull(loss: Loss) -> None:
    def pull(weight: float) -> tuple[float, float]:
        scores = torch.full((3, 3), 0.5, dtype=torch.float64, requires_grad=True)
        right = torch.diag(torch.tensor([weight, 1.0, 1.0], dtype=torch.float64))
        value = loss(
            scores * torch.linspace(0.8, 1.2, 9, dtype=torch.float64).reshape(3, 3), Cells(right, right == 0)
        )
        value.backward()  # type: ignore[no-untyped-call]
        assert scores.grad is not None
        return float(value.detach()), -float(scores.grad[0, 0])

    assert pull(2.0)[0] != pytest.approx(pull(1.0)[0], rel=1e-3)
    assert pull(2.0)[1] > pull(1.0)[1] > 0


@each_loss
def test_what_is_left_out_changes_neither_the_loss_nor_a_gradient(loss: Loss) -> None:
    left_out = (MIXED.right == 0) & ~MIXED.wrong
    results = []
    for other in (0.0, 1e4, -1e4, math.nan):
        scores = scores_like(MIXED).masked_fill(left_out, other).requires_grad_()
        value = loss(scores, MIXED)
        value.backward()  # type: ignore[no-untyped-call]
        assert scores.grad is not None
        assert not scores.grad[left_out].any()
        results.append((value.detach(), scores.grad))
    for value, gradient in results[1:]:
        assert torch.equal(value, results[0][0])
        assert torch.equal(gradient, results[0][1])


@each_loss
def test_the_order_of_a_batch_changes_nothing(loss: Loss) -> None:
    scores, rows, columns = scores_like(MIXED), [3, 1, 0, 5, 4, 2], [4, 2, 0, 1, 3]
    shuffled = Cells(MIXED.right[rows][:, columns], MIXED.wrong[rows][:, columns])
    torch.testing.assert_close(loss(scores[rows][:, columns], shuffled), loss(scores, MIXED))


@each_loss
@pytest.mark.parametrize("largest", [1.0, 1e4])
@pytest.mark.parametrize("lacking", ["nothing", "wrong", "right", "both"])
def test_loss_and_gradient_are_finite_whatever_a_matrix_lacks(
    loss: Loss, largest: float, lacking: str
) -> None:
    right, wrong = MIXED.right.float(), MIXED.wrong
    if lacking in ("right", "both"):
        right = torch.zeros_like(right)
    if lacking in ("wrong", "both"):
        wrong = torch.zeros_like(wrong)
    scores = scores_like(MIXED, largest=largest).float().requires_grad_()
    value = loss(scores, Cells(right, wrong))
    value.backward()  # type: ignore[no-untyped-call]
    assert value.isfinite()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert lacking != "both" or float(value.detach()) == 0.0


def test_focal_gradient_is_finite_where_a_probability_rounds_to_one() -> None:
    scores = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    focal_loss(scores, diagonal(2), gamma=0.5).backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


@each_loss
def test_a_step_down_the_gradient_lessens_the_loss_and_widens_the_lead_of_right_cells(loss: Loss) -> None:
    scores = scores_like(MIXED, largest=0.5).requires_grad_()
    value = loss(scores, MIXED)
    value.backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert float(loss(scores.detach() - 1e-3 * scores.grad, MIXED)) < float(value.detach())
    assert (scores.grad[MIXED.right > 0] <= 0).all()
    assert (scores.grad[MIXED.wrong] >= 0).all()
