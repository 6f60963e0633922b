"""What do the regions of a pool look like when each leans on its nearest neighbours?

A pool operator of the seed: at inference all regions of all candidates of a query are one set, and each
becomes a weighted mean of itself and its nearest others. One matrix product; no tree. Pure function.

Source: the winning solution of KDD Cup 2020 "Multimodalities Recall" (weights 0.7, 0.2, 0.1).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

SEED_WEIGHTS = (0.7, 0.2, 0.1)


REGIONS_AT_ONCE = 1024


def smooth_regions(
    regions: Float[Tensor, "regions features"], weights: tuple[float, ...] = SEED_WEIGHTS
) -> Float[Tensor, "regions features"]:
    """Each region becomes weights[0] of itself + weights[1] of its nearest other + weights[2] of its second ...

    Nearest by Euclidean distance, never the region itself, even where another is its exact copy. Where
    the set has fewer others than weights, the weights left over go to the region itself, so that they
    always sum to the same. Cost: regions^2 x features operations; memory REGIONS_AT_ONCE x regions numbers.

    >>> smooth_regions(torch.tensor([[0.0], [1.0], [10.0]]))[:, 0].tolist()
    [1.2..., 1.7..., 7.1...]

    Raises: ValueError for no weights.
    """
    if not weights:
        raise ValueError("smoothing needs at least the weight of the region itself")
    values = regions.float()
    neighbours = min(len(weights) - 1, len(values) - 1)
    own = weights[0] + sum(weights[1 + neighbours :])
    if neighbours == 0:
        return values * own
    nearest = torch.cat(
        [_nearest(values, start, neighbours) for start in range(0, len(values), REGIONS_AT_ONCE)]
    )
    mixed = values * own
    for rank in range(neighbours):
        mixed.add_(values[nearest[:, rank]], alpha=weights[1 + rank])
    return mixed


def _nearest(
    values: Float[Tensor, "regions features"], start: int, count: int
) -> Int64[Tensor, "some count"]:
    """The `count` nearest others of the REGIONS_AT_ONCE regions from `start` on.

    From the mean of all: differences of large numbers lose digits, and distances do not change by it.
    """
    centred = values - values.mean(0)
    some = centred[start : start + REGIONS_AT_ONCE]
    squares = centred.square().sum(1)
    distances = squares[None, :] - 2 * some @ centred.T
    rows = torch.arange(len(some), device=values.device)
    distances[rows, rows + start] = torch.inf
    return distances.topk(count, largest=False).indices
