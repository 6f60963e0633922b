"""How do a photo's region vectors become Regions? The same places in every photo, in its own px."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32

from shopwindow.data.regions import Regions
from shopwindow.vision.backbone import GRID_CELL, WHOLE_PHOTO


def cell_shares(grid: int, cell: int, step: int) -> Float32[np.ndarray, "places 4"]:
    """The whole of a grid, then its cells row by row: (top, left, bottom, right) as shares of the photo.

    >>> cell_shares(4, 2, 2)[1:3]
    array([[0. , 0. , 0.5, 0.5],
           [0. , 0.5, 0.5, 1. ]], dtype=float32)
    """
    starts = range(0, grid - cell + 1, step)
    cells = [[y, x, y + cell, x + cell] for y in starts for x in starts]
    return (np.array([[0, 0, grid, grid], *cells]) / grid).astype(np.float32)


def regions_of(
    features: Sequence[Float[np.ndarray, "places values"]],
    sizes: Sequence[tuple[int, int]],
    shares: Float32[np.ndarray, "places 4"] | Sequence[Float32[np.ndarray, "_ 4"]],
) -> Regions:
    """A product a photo; `sizes` are (height, width) in px, `shares` where its regions lie in it, the whole first.

    Shares are the same for all photos, or one array a photo. At least one photo."""
    places = [shares] * len(sizes) if isinstance(shares, np.ndarray) else shares
    counts = [len(own) for own in places]
    photo_sizes = np.repeat(np.array(sizes, np.int64).reshape(-1, 2), counts, axis=0)
    boxes = np.concatenate(places) * photo_sizes[:, [0, 1, 0, 1]]
    labels = np.full(len(boxes), GRID_CELL, np.int64)
    labels[np.cumsum(counts) - counts] = WHOLE_PHOTO
    return Regions(
        features=torch.from_numpy(np.concatenate(features).astype(np.float32, copy=False)),
        counts=torch.tensor(counts),
        boxes=torch.from_numpy(boxes.astype(np.float32)),
        photo_sizes=torch.from_numpy(photo_sizes),
        labels=torch.from_numpy(labels),
        photos=torch.zeros(len(photo_sizes), dtype=torch.int64),
    )
