"""How wrong is a batch's matrix of scores, when some cells are right, some wrong, some neither?

Every loss takes the scores and what each cell is (`model/negatives.py`). A cell that is neither changes nothing. A
right cell's weight is how often it counts: weight 2 is what the cell listed twice would be. Lower is better.
A row or a column that lacks right or wrong cells gives what is left of the formula, never infinity. Each loss is
figures of rows (`ROW_LOSSES`), so that a matrix may come in blocks (`model/blockwise.py`). Pure functions of tensors;
knows no tower.

Legend of axes: queries and products are the rows and columns of the matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from shopwindow.model.negatives import Cells

MARGIN: Final = 0.05
"""Of the cosine, by which a right cell must lead in the loss `margin`."""


def sigmoid_loss(scores: Float[Tensor, "queries products"], cells: Cells) -> Float[Tensor, ""]:
    """Binary cross-entropy, the mean over right and wrong cells: -log sigma(s) of right ones, -log sigma(-s) of wrong.

    Source: the winning solution of KDD Cup 2020 "Multimodalities Recall", where all cells off the diagonal are wrong.
    """
    return ROW_LOSSES["sigmoid"].of(scores, cells)


def siglip_loss(scores: Float[Tensor, "queries products"], cells: Cells) -> Float[Tensor, ""]:
    """Binary cross-entropy summed over right and wrong cells, divided by the number of queries.

    `scores` are scaled and biased already. It is `sigmoid_loss` times the cells a query has.
    Source: Zhai et al. 2023, "Sigmoid loss for language image pre-training".
    """
    return ROW_LOSSES["siglip"].of(scores, cells)


def softmax_loss(scores: Float[Tensor, "queries products"], cells: Cells) -> Float[Tensor, ""]:
    """Symmetric InfoNCE: half the rows' loss and half the columns'.

    Of a right cell: -log(e^s / (e^s + sum of e^n over the row's wrong cells n)); other right cells are not in the sum.
    It is the mean over right cells, each counted its weight divided by the number of right cells in its row. So a row
    with many counts no more than a row with one. With one right cell a row it is cross-entropy.
    Source: van den Oord et al. 2018, "Representation learning with contrastive predictive coding"; both directions:
    Radford et al. 2021, "CLIP"; several right cells averaged outside the logarithm: Khosla et al. 2020, "Supervised
    contrastive learning", where the other right cells stay in the sum.
    """
    return ROW_LOSSES["softmax"].of(scores, cells)


def margin_softmax_loss(
    scores: Float[Tensor, "queries products"],
    cells: Cells,
    *,
    scale: float | Float[Tensor, ""] = 14.0,
    margin: float = MARGIN,
) -> Float[Tensor, ""]:
    """`softmax_loss` where a right cell's cosine is lessened by `margin`: its score s becomes s - scale * margin.

    `scores` are scale * cosine. So a right product must lead by `margin` before its loss is that of a lead.
    Source: Wang et al. 2018, "CosFace: large margin cosine loss for deep face recognition"; scale and margin: a team
    of KDD Cup 2020 "Multimodalities Recall".
    """
    return softmax_loss(lessened(scores, cells, scale * margin), cells)


def lessened(
    scores: Float[Tensor, "queries products"], cells: Cells, by: float | Float[Tensor, ""]
) -> Float[Tensor, "queries products"]:
    """The scores, those of right cells less `by`."""
    return torch.where(cells.right > 0, scores - by, scores)


def multi_similarity_loss(
    cosines: Float[Tensor, "queries products"],
    cells: Cells,
    *,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    epsilon: float = 0.1,
) -> Float[Tensor, ""]:
    """Multi-similarity loss of cosines, half over rows and half over columns, the mean over all of them.

    Of a row: log(1 + sum of e^(-alpha (c - base)) over right cells) / alpha
    + log(1 + sum of e^(beta (c - base)) over wrong cells) / beta. Only what is hard takes part: right cells below the
    row's largest wrong cosine + `epsilon`, wrong ones above its smallest right cosine - `epsilon`. So a row without
    right or without wrong cells counts 0. A weight multiplies the power of a right cell.
    Source: Wang et al. 2019, "Multi-similarity loss with general pair weighting for deep metric learning"; base 0.5
    is that of the authors' code, the paper says 1.
    """
    return _multi_similarity(alpha, beta, base, epsilon).of(cosines, cells)


def focal_loss(
    scores: Float[Tensor, "queries products"], cells: Cells, *, gamma: float = 2.0
) -> Float[Tensor, ""]:
    """Focal loss: the mean over right cells plus the mean over wrong cells of -(1 - p)^gamma log p.

    p = sigma(s) of a right cell, sigma(-s) of a wrong one: what is easy counts little. The two means stand for the
    paper's alpha, a fixed share for right cells: theirs are one in a batch's size, and no fixed share suits all sizes.
    Source: Lin et al. 2017, "Focal loss for dense object detection".
    """
    return RowLoss((Sweep(partial(_focal, gamma=gamma), 4),), _two_means).of(scores, cells)


Join = Literal["sum", "logsumexp", "amax"]
"""How figures of parts of a row become that of the whole row."""


@dataclass(frozen=True)
class Sweep:
    """What one look over the cells finds of each row, so that a row may come in parts.

    `figures` takes scores, cells, and what earlier sweeps found of the rows, and gives `count` figures of each row;
    `join` is how those of its parts become its own. Those of "amax" carry no gradient. `of_right`: where no cell is
    right they are 0.
    """

    figures: Callable[
        [Float[Tensor, "rows columns"], Cells, Float[Tensor, "earlier rows"]], Float[Tensor, "figures rows"]
    ]
    count: int
    join: Join = "sum"
    of_right: bool = False


@dataclass(frozen=True)
class RowLoss:
    """A loss as sweeps over a matrix. `means` gives each mean's (total, weight) of some rows; they add up over rows.

    The loss is the sum of the means; of a loss `both_ways` half that of the rows and half that of the columns.
    """

    sweeps: tuple[Sweep, ...]
    means: Callable[[Float[Tensor, "earlier rows"]], Float[Tensor, "means 2"]]
    both_ways: bool = False

    def of(self, scores: Float[Tensor, "queries products"], cells: Cells) -> Float[Tensor, ""]:
        """The loss of a whole matrix."""
        rows = self._of_rows(scores, cells)
        if not self.both_ways:
            return rows
        return (rows + self._of_rows(scores.T, cells.turned())) / 2

    def _of_rows(self, scores: Float[Tensor, "rows columns"], cells: Cells) -> Float[Tensor, ""]:
        so_far = scores.new_zeros(0, len(scores))
        for sweep in self.sweeps:
            so_far = torch.cat([so_far, sweep.figures(scores, cells, so_far)])
        return total_of_means(self.means(so_far))


def total_of_means(sums: Float[Tensor, "means 2"]) -> Float[Tensor, ""]:
    """The sum of the means, each total / weight; 0 where nothing has a weight."""
    totals, weights = sums.unbind(1)
    return (totals / weights.where(weights > 0, 1)).sum()


def _mean(so_far: Float[Tensor, "2 rows"]) -> Float[Tensor, "1 2"]:
    """The mean of which each row has a total and a weight."""
    return so_far.sum(1)[None]


def _mean_of_rows(so_far: Float[Tensor, "1 rows"]) -> Float[Tensor, "1 2"]:
    return torch.stack([so_far.sum(), so_far.new_tensor(so_far.shape[1])])[None]


def _sigmoid(scores: Tensor, cells: Cells, _: Tensor) -> Float[Tensor, "2 rows"]:
    weights = _weights(cells)
    return torch.stack([(_cross_entropies(scores, cells) * weights).sum(1), weights.sum(1)])


def _siglip(scores: Tensor, cells: Cells, _: Tensor) -> Float[Tensor, "1 rows"]:
    return (_cross_entropies(scores, cells) * _weights(cells)).sum(1)[None]


def _focal(scores: Tensor, cells: Cells, _: Tensor, gamma: float = 2.0) -> Float[Tensor, "4 rows"]:
    right, wrong = cells.right, cells.wrong.to(scores.dtype)
    entropies = _cross_entropies(scores, cells)
    signed = torch.where(cells.wrong, scores, -scores).masked_fill(_weights(cells) == 0, 0)
    # log(1 - p) * gamma, not (1 - p) ** gamma: its gradient is finite where 1 - p rounds to 0
    values = (gamma * functional.logsigmoid(signed)).exp() * entropies
    return torch.stack([(values * right).sum(1), right.sum(1), (values * wrong).sum(1), wrong.sum(1)])


def _two_means(so_far: Float[Tensor, "4 rows"]) -> Float[Tensor, "2 2"]:
    return so_far.sum(1).view(2, 2)


def _weights(cells: Cells) -> Float[Tensor, "queries products"]:
    """How often each cell counts: a right one its weight, a wrong one once, others not at all."""
    return torch.where(cells.wrong, 1.0, cells.right)


def _cross_entropies(
    scores: Float[Tensor, "queries products"], cells: Cells
) -> Float[Tensor, "queries products"]:
    """Binary cross-entropy of each cell, unweighted; a constant where it is left out, whatever its score."""
    kept = scores.masked_fill(_weights(cells) == 0, 0)
    target = (cells.right > 0).to(scores.dtype)
    return functional.binary_cross_entropy_with_logits(kept, target, reduction="none")


def _against(scores: Tensor, cells: Cells, _: Tensor) -> Float[Tensor, "1 rows"]:
    """The logarithm of the sum of a row's wrong cells' powers."""
    return torch.where(cells.wrong, scores, -torch.inf).logsumexp(1)[None]


def _softmax(scores: Tensor, cells: Cells, so_far: Float[Tensor, "1 rows"]) -> Float[Tensor, "3 rows"]:
    """Of a row's right cells the loss, the weight, and how many there are."""
    kept = scores.masked_fill(cells.right == 0, 0)
    losses = functional.softplus(so_far[0, :, None] - kept) * cells.right
    return torch.stack([losses.sum(1), cells.right.sum(1), (cells.right > 0).sum(1).to(scores)])


def _mean_of_right(so_far: Float[Tensor, "4 rows"]) -> Float[Tensor, "1 2"]:
    _, losses, weights, counts = so_far
    return _mean(torch.stack([losses, weights]) / counts.clamp(min=1))


def _extremes(cosines: Tensor, cells: Cells, _: Tensor) -> Float[Tensor, "2 rows"]:
    """A row's smallest right cosine, negative, and its largest wrong one."""
    cosines = cosines.detach()
    smallest = (-cosines).masked_fill(cells.right == 0, -torch.inf).amax(1)
    return torch.stack([smallest, cosines.masked_fill(~cells.wrong, -torch.inf).amax(1)])


def _powers(
    cosines: Tensor,
    cells: Cells,
    so_far: Float[Tensor, "2 rows"],
    alpha: float,
    beta: float,
    base: float,
    epsilon: float,
) -> Float[Tensor, "2 rows"]:
    """The logarithms of the sums of powers of a row's hard right cells and of its hard wrong ones."""
    right, wrong = cells.right, cells.wrong
    smallest, largest = -so_far[0, :, None], so_far[1, :, None]
    hard_right = (right > 0) & (cosines - epsilon < largest)
    hard_wrong = wrong & (cosines + epsilon > smallest)
    shifted = cosines - base
    pull = (right.clamp(min=1e-30).log() - alpha * shifted).masked_fill(~hard_right, -torch.inf)
    push = (beta * shifted).masked_fill(~hard_wrong, -torch.inf)
    return torch.stack([pull.logsumexp(1), push.logsumexp(1)])


def _multi_similarity(alpha: float, beta: float, base: float, epsilon: float) -> RowLoss:
    def means(so_far: Float[Tensor, "4 rows"]) -> Float[Tensor, "1 2"]:
        # log(1 + sum of powers) = softplus of the logarithm of the sum
        return _mean_of_rows(
            (functional.softplus(so_far[2]) / alpha + functional.softplus(so_far[3]) / beta)[None]
        )

    powers = partial(_powers, alpha=alpha, beta=beta, base=base, epsilon=epsilon)
    return RowLoss((Sweep(_extremes, 2, "amax"), Sweep(powers, 2, "logsumexp")), means, both_ways=True)


_RIGHT_AGAINST_WRONG: Final = RowLoss(
    (Sweep(_against, 1, "logsumexp"), Sweep(_softmax, 3, of_right=True)), _mean_of_right, both_ways=True
)
ROW_LOSSES: Final = {
    "sigmoid": RowLoss((Sweep(_sigmoid, 2),), _mean),
    "siglip": RowLoss((Sweep(_siglip, 1),), _mean_of_rows),
    "focal": RowLoss((Sweep(_focal, 4),), _two_means),
    "softmax": _RIGHT_AGAINST_WRONG,
    "margin": _RIGHT_AGAINST_WRONG,
    "multi-similarity": _multi_similarity(alpha=2.0, beta=50.0, base=0.5, epsilon=0.1),
}
"""By name, with their usual constants; of `margin` the scores come `lessened`."""
