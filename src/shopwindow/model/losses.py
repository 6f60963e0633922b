"""How wrong is a batch's matrix of scores, when row i and column i belong together?

Every other cell of the matrix is taken for a negative, or, where told, left out. Pure functions of
tensors; knows no tower.

Legend of axes: queries and products of a batch, equally many, i-th with i-th a pair.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional


def sigmoid_loss(scores: Float[Tensor, "pairs pairs"]) -> Float[Tensor, ""]:
    """Binary cross-entropy of every cell against the identity, mean over all cells.

    Source: the winning solution of KDD Cup 2020 "Multimodalities Recall"; SigLIP's loss (Zhai et al. 2023)
    without temperature, bias or normalisation.
    """
    return functional.binary_cross_entropy_with_logits(scores, torch.eye(len(scores), device=scores.device))


def softmax_loss(
    scores: Float[Tensor, "pairs pairs"], same: Bool[Tensor, "pairs pairs"]
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE: cross-entropy of each row and each column towards its diagonal cell.

    Cells where `same` holds (off the diagonal) are no negatives and are left out of the sums.
    Source: Radford et al. 2021, "CLIP"; masking of equal queries and products: van den Oord et al. 2018 has
    none, without it half a batch of head queries would be its own negatives.
    """
    diagonal = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    kept = scores.masked_fill(same & ~diagonal, -torch.inf)
    target = torch.arange(len(scores), device=scores.device)
    return (functional.cross_entropy(kept, target) + functional.cross_entropy(kept.T, target)) / 2


def same_query_or_product(
    queries: Int64[Tensor, " pairs"], products: Int64[Tensor, " pairs"]
) -> Bool[Tensor, "pairs pairs"]:
    """Which cells pair a query with a product of an equal query, or the same product again.

    `queries` are numbers that are equal for equal texts.
    """
    return (queries[:, None] == queries[None, :]) | (products[:, None] == products[None, :])
