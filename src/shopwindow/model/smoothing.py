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
OTHERS_AT_ONCE = 8192
"""A block of distances has at most REGIONS_AT_ONCE x OTHERS_AT_ONCE numbers: 32 MB."""


def smooth_regions(
    regions: Float[Tensor, "regions features"], weights: tuple[float, ...] = SEED_WEIGHTS
) -> Float[Tensor, "regions features"]:
    """Each region becomes weights[0] of itself + weights[1] of its nearest other + weights[2] of its second ...

    Nearest by Euclidean distance, never the region itself, even where another is its exact copy; of equally
    near ones the earlier. Where the set has fewer others than weights, the weights left over go to the region
    itself, so that they always sum to the same. float32 from any float type. Cost: regions^2 x features
    operations; memory the result and a few blocks of REGIONS_AT_ONCE x OTHERS_AT_ONCE numbers.

    Catalogue form: `search/smoothing.py`, over all regions of a dataset; a photo then has the same regions in
    every pool. `ranking/operators.py` has the same for one vector per product.

    >>> smooth_regions(torch.tensor([[0.0], [1.0], [10.0]]))[:, 0].tolist()
    [1.2..., 1.7..., 7.1...]

    Raises: ValueError for no weights.
    """
    if not weights:
        raise ValueError("smoothing needs at least the weight of the region itself")
    neighbours = min(len(weights), len(regions)) - 1
    mixed = regions.float() * (weights[0] + sum(weights[1 + neighbours :]))
    if neighbours > 0:
        mean = regions.mean(0, dtype=torch.float32)
        for start in range(0, len(regions), REGIONS_AT_ONCE):
            nearest = _nearest(regions, mean, start, neighbours)
            some = mixed[start : start + REGIONS_AT_ONCE]
            for rank in range(neighbours):
                some.add_(regions[nearest[:, rank]].float(), alpha=weights[1 + rank])
    return mixed


def nearest_regions(regions: Float[Tensor, "regions features"], count: int) -> Int64[Tensor, "regions count"]:
    """The `count` nearest others of every region, nearest first, as `smooth_regions` takes them.

    Raises: ValueError for fewer than `count` others.
    """
    if not 0 < count < len(regions):
        raise ValueError(f"{count} neighbours of {len(regions)} regions")
    mean = regions.mean(0, dtype=torch.float32)
    return torch.cat(
        [_nearest(regions, mean, start, count) for start in range(0, len(regions), REGIONS_AT_ONCE)]
    )


def _nearest(
    regions: Float[Tensor, "regions features"], mean: Float[Tensor, " features"], start: int, count: int
) -> Int64[Tensor, "some count"]:
    """The `count` nearest others of the REGIONS_AT_ONCE regions from `start` on, nearest first, then the earlier.

    From the mean of all: differences of large numbers lose digits, and distances do not change by it.
    """
    some = regions[start : start + REGIONS_AT_ONCE].float() - mean
    rows = torch.arange(len(some), device=regions.device)
    found, how_far = [], []
    for first in range(0, len(regions), OTHERS_AT_ONCE):
        same = len(some) == len(regions) <= OTHERS_AT_ONCE  # of few regions: centred once
        others = some if same else regions[first : first + OTHERS_AT_ONCE].float() - mean
        distances = torch.addmm(torch.linalg.vector_norm(others, dim=1).square(), some, others.T, alpha=-2)
        here = rows[(rows + start >= first) & (rows + start < first + len(others))]
        distances[here, here + start - first] = torch.inf
        for _ in range(min(count, len(others))):
            nearest = distances.argmin(1)
            found.append(nearest + first)
            how_far.append(distances[rows, nearest])
            distances[rows, nearest] = torch.inf
    # Earlier blocks hold earlier regions, so a stable order keeps the earlier of equally near ones.
    order = torch.stack(how_far, 1).argsort(dim=1, stable=True)[:, :count]
    return torch.stack(found, 1).gather(1, order)
