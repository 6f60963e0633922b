"""Which few of a million products need be looked at for a query?

Products are parted into cells of like direction (spherical k-means); a query looks into the cells whose mean
has the highest scores with it. Products of a cell lie side by side, so a cell is one slice of a mapped file.
Knows no file and no code; the exact scan is its oracle.

Source: the inverted file of Sivic and Zisserman 2003, "Video Google"; spherical k-means, Dhillon and Modha 2001.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from shopwindow.search.arrays import bounds_of

_SAMPLE_PER_CELL: Final = 32
_ROUNDS: Final = 6
_ROWS_AT_ONCE: Final = 8192


@dataclass(frozen=True)
class Cells:
    """`means` of the vectors of each cell; the rows of cell c are `offsets[c]` to `offsets[c + 1]`."""

    means: Float32[np.ndarray, "cells hidden"]
    offsets: Int64[np.ndarray, " bounds"]

    def nearest(self, query: Float32[np.ndarray, " hidden"], probes: int) -> Int64[np.ndarray, "chosen 2"]:
        """First row and end of the `probes` cells whose means score highest with the query; none empty."""
        scores = self.means @ query
        chosen = np.argpartition(-scores, min(probes, len(scores)) - 1)[:probes]
        bounds = np.stack([self.offsets[chosen], self.offsets[chosen + 1]], axis=1)
        return bounds[bounds[:, 1] > bounds[:, 0]]


def cell_count(products: int) -> int:
    """How many cells: 4 times the root of the number of products, as is usual."""
    return min(products, round(4 * math.sqrt(products)))


def part_into_cells(
    vectors: Float32[np.ndarray, "products hidden"], *, cells: int, rng: np.random.Generator
) -> tuple[Cells, Int64[np.ndarray, " products"]]:
    """The cells, and the order of rows in which the products of each lie side by side.

    Cost: 2 x products x cells x hidden operations, and 6 rounds of the same over a sample of 32 a cell.
    Raises: ValueError for no products, or more cells than products.
    """
    if not 1 <= cells <= len(vectors):
        raise ValueError(f"{cells} cells for {len(vectors)} products")
    sample = np.sort(rng.choice(len(vectors), min(len(vectors), cells * _SAMPLE_PER_CELL), replace=False))
    directions = _directions(vectors[sample])
    centres = directions[torch.from_numpy(rng.choice(len(sample), cells, replace=False))]
    for _ in range(_ROUNDS):
        centres = _renewed(directions, centres, _nearest_centres(directions, centres), rng)
    pieces = [
        _nearest_centres(_directions(vectors[start : start + _ROWS_AT_ONCE]), centres).numpy()
        for start in range(0, len(vectors), _ROWS_AT_ONCE)
    ]
    cell_of = np.concatenate(pieces)
    order = np.argsort(cell_of, kind="stable")
    counts = np.bincount(cell_of, minlength=cells)
    offsets = bounds_of(counts)
    means = np.zeros((cells, vectors.shape[1]), np.float32)
    for cell in np.flatnonzero(counts):
        means[cell] = vectors[np.sort(order[offsets[cell] : offsets[cell + 1]])].mean(0)
    return Cells(means, offsets), order


def _directions(vectors: Float32[np.ndarray, "rows hidden"]) -> Float32[Tensor, "rows hidden"]:
    return torch.nn.functional.normalize(torch.from_numpy(np.array(vectors, np.float32)), dim=1)


def _nearest_centres(
    directions: Float32[Tensor, "rows hidden"], centres: Float32[Tensor, "cells hidden"]
) -> Int64[Tensor, " rows"]:
    return torch.cat([(piece @ centres.T).argmax(1) for piece in torch.split(directions, _ROWS_AT_ONCE)])


def _renewed(
    directions: Float32[Tensor, "rows hidden"],
    centres: Float32[Tensor, "cells hidden"],
    nearest: Int64[Tensor, " rows"],
    rng: np.random.Generator,
) -> Float32[Tensor, "cells hidden"]:
    """The mean directions of the cells; an empty cell begins anew at some sample."""
    sums = torch.zeros_like(centres).index_add_(0, nearest, directions)
    empty = torch.bincount(nearest, minlength=len(centres)) == 0
    fresh = torch.from_numpy(rng.choice(len(directions), int(empty.sum())))
    sums[empty] = directions[fresh]
    return torch.nn.functional.normalize(sums, dim=1)
