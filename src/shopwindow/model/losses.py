"""How wrong is a batch's matrix of scores, when some cells are right, some wrong, some neither?

Every loss takes the scores and what each cell is (`model/negatives.py`). A cell that is neither changes nothing. A
right cell's weight is how often it counts: weight 2 is what the cell listed twice would be. Lower is better.
A row or a column that lacks right or wrong cells gives what is left of the formula, never infinity. Pure functions of
tensors; knows no tower.

Legend of axes: queries and products are the rows and columns of the matrix.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from shopwindow.model.negatives import Cells


def sigmoid_loss(scores: Float[Tensor, "queries products"], cells: Cells) -> Float[Tensor, ""]:
    """Binary cross-entropy, the mean over right and wrong cells: -log sigma(s) of right ones, -log sigma(-s) of wrong.

    Source: the winning solution of KDD Cup 2020 "Multimodalities Recall", where all cells off the diagonal are wrong.
    """
    return _mean(_cross_entropies(scores, cells), _weights(cells))


def siglip_loss(scores: Float[Tensor, "queries products"], cells: Cells) -> Float[Tensor, ""]:
    """Binary cross-entropy summed over right and wrong cells, divided by the number of queries.

    `scores` are scaled and biased already. It is `sigmoid_loss` times the cells a query has.
    Source: Zhai et al. 2023, "Sigmoid loss for language image pre-training".
    """
    return (_cross_entropies(scores, cells) * _weights(cells)).sum() / len(scores)


def softmax_loss(scores: Float[Tensor, "queries products"], cells: Cells) -> Float[Tensor, ""]:
    """Symmetric InfoNCE: half the rows' loss and half the columns'.

    Of a right cell: -log(e^s / (e^s + sum of e^n over the row's wrong cells n)); other right cells are not in the sum.
    Mean over right cells, each counted its weight divided by how many are right in its row, so that a row with many
    counts no more than a row with one. With one right cell a row, cross-entropy.
    Source: van den Oord et al. 2018, "Representation learning with contrastive predictive coding"; both directions:
    Radford et al. 2021, "CLIP"; several right cells averaged outside the logarithm: Khosla et al. 2020, "Supervised
    contrastive learning", where the other right cells stay in the sum.
    """
    return (_softmax(scores, cells.right, cells.wrong) + _softmax(scores.T, cells.right.T, cells.wrong.T)) / 2


def margin_softmax_loss(
    scores: Float[Tensor, "queries products"],
    cells: Cells,
    *,
    scale: float | Float[Tensor, ""] = 14.0,
    margin: float = 0.05,
) -> Float[Tensor, ""]:
    """`softmax_loss` where a right cell's cosine is lessened by `margin`: its score s becomes s - scale * margin.

    `scores` are scale * cosine. So a right product must lead by `margin` before its loss is that of a lead.
    Source: Wang et al. 2018, "CosFace: large margin cosine loss for deep face recognition"; scale and margin: a team
    of KDD Cup 2020 "Multimodalities Recall".
    """
    return softmax_loss(torch.where(cells.right > 0, scores - scale * margin, scores), cells)


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
    rows = _multi_similarity(cosines, cells.right, cells.wrong, alpha, beta, base, epsilon)
    columns = _multi_similarity(cosines.T, cells.right.T, cells.wrong.T, alpha, beta, base, epsilon)
    return (rows + columns) / 2


def focal_loss(
    scores: Float[Tensor, "queries products"], cells: Cells, *, gamma: float = 2.0
) -> Float[Tensor, ""]:
    """Focal loss: the mean over right cells plus the mean over wrong cells of -(1 - p)^gamma log p.

    p = sigma(s) of a right cell, sigma(-s) of a wrong one: what is easy counts little. The two means stand for the
    paper's alpha, a fixed share for right cells: theirs are one in a batch's size, and no fixed share suits all sizes.
    Source: Lin et al. 2017, "Focal loss for dense object detection".
    """
    right, wrong = cells.right, cells.wrong.to(scores.dtype)
    entropies = _cross_entropies(scores, cells)
    signed = torch.where(cells.wrong, scores, -scores).masked_fill(_weights(cells) == 0, 0)
    # log(1 - p) * gamma, not (1 - p) ** gamma: its gradient is finite where 1 - p rounds to 0
    values = (gamma * functional.logsigmoid(signed)).exp() * entropies
    return _mean(values, right) + _mean(values, wrong)


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


def _softmax(
    scores: Float[Tensor, "queries products"],
    right: Float[Tensor, "queries products"],
    wrong: Bool[Tensor, "queries products"],
) -> Float[Tensor, ""]:
    """InfoNCE of the rows."""
    against = scores.masked_fill(~wrong, -torch.inf).logsumexp(1, keepdim=True)
    kept = scores.masked_fill(right == 0, 0)
    counts = (right > 0).sum(1, keepdim=True).clamp(min=1)
    return _mean(functional.softplus(against - kept), right / counts)


def _multi_similarity(
    cosines: Float[Tensor, "queries products"],
    right: Float[Tensor, "queries products"],
    wrong: Bool[Tensor, "queries products"],
    alpha: float,
    beta: float,
    base: float,
    epsilon: float,
) -> Float[Tensor, ""]:
    """Multi-similarity loss of the rows."""
    with torch.no_grad():
        smallest = cosines.masked_fill(right == 0, torch.inf).amin(1, keepdim=True)
        largest = cosines.masked_fill(~wrong, -torch.inf).amax(1, keepdim=True)
        hard_right = (right > 0) & (cosines - epsilon < largest)
        hard_wrong = wrong & (cosines + epsilon > smallest)
    shifted = cosines - base
    pull = (right.clamp(min=1e-30).log() - alpha * shifted).masked_fill(~hard_right, -torch.inf)
    push = (beta * shifted).masked_fill(~hard_wrong, -torch.inf)
    # log(1 + sum of powers) = softplus of the logarithm of the sum
    losses = functional.softplus(pull.logsumexp(1)) / alpha + functional.softplus(push.logsumexp(1)) / beta
    return losses.mean()


def _mean(
    values: Float[Tensor, "queries products"], weights: Float[Tensor, "queries products"]
) -> Float[Tensor, ""]:
    """The weighted mean; 0 where no cell has a weight."""
    total = weights.sum()
    return (values * weights).sum() / total.where(total > 0, 1)
