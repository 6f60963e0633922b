"""Which products nearly fit a text, and which texts nearly a product, though no pair says so?

Tables of hard negatives, one row a text or a product: the best of a first stage that are not known to match. Without a
first stage they are drawn at random. A table is a function of data, first stage and seed, so a resumed training makes
the same one. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from shopwindow.model.negatives import KnownPairs

_ROWS_AT_ONCE: Final = 1024
NONE: Final = -1


@dataclass(frozen=True)
class Negatives:
    """For each text (by its number) places of products, for each product numbers of texts; NONE where there are fewer.

    Best first, where a first stage made them.
    """

    products: Int64[np.ndarray, "texts _"]
    texts: Int64[np.ndarray, "products _"]

    @classmethod
    def of(
        cls,
        words: Float32[np.ndarray, "texts values"] | None,
        photos: Float32[np.ndarray, "products values"] | None,
        known: KnownPairs,
        shape: tuple[int, int],
        *,
        depth: int,
        seed: int,
    ) -> Negatives:
        """The tables of so many texts and products (`shape`). Vectors of a first stage: both, or none."""
        rng = np.random.default_rng([seed, *shape])
        return cls(
            _table(words, photos, known, shape, depth, rng, turned=False),
            _table(photos, words, known, shape, depth, rng, turned=True),
        )


def _table(
    own: Float32[np.ndarray, "rows values"] | None,
    others: Float32[np.ndarray, "columns values"] | None,
    known: KnownPairs,
    shape: tuple[int, int],
    depth: int,
    rng: np.random.Generator,
    *,
    turned: bool,
) -> Int64[np.ndarray, "rows depth"]:
    """The best columns of each row. `turned`: rows are products, columns texts."""
    rows, columns = shape[::-1] if turned else shape
    depth = min(depth, columns)
    table = np.full((rows, depth), NONE, np.int64)
    every = np.arange(columns)
    for start in range(0, rows, _ROWS_AT_ONCE):
        some = np.arange(start, min(start + _ROWS_AT_ONCE, rows))
        if own is None or others is None:
            scores = torch.from_numpy(rng.random((len(some), columns), np.float32))
        else:
            scores = torch.from_numpy(own[some]) @ torch.from_numpy(others).T
        cells = known.cells(every, some) if turned else known.cells(some, every)
        if turned:  # counted in a matrix of texts by products
            text, product = np.divmod(cells, len(some))
            cells = product * columns + text
        scores.view(-1)[torch.from_numpy(cells)] = -torch.inf
        table[some] = _best(scores, depth)
    return table


def _best(scores: Tensor, depth: int) -> Int64[np.ndarray, "rows depth"]:
    values, places = torch.sort(scores, dim=1, descending=True, stable=True)
    best: np.ndarray = torch.where(values[:, :depth] > -torch.inf, places[:, :depth], NONE).numpy()
    return best


def draw(
    table: Int64[np.ndarray, "rows depth"],
    rows: Int64[np.ndarray, " pairs"],
    count: int,
    rng: np.random.Generator,
) -> Int64[np.ndarray, "pairs count"]:
    """For each of some rows `count` of its negatives, different ones where there are enough.

    Raises: ValueError where a row has none.
    """
    own = table[rows]
    if (own[:, 0] == NONE).any():
        raise ValueError("a text matches every product, or a product every text: it has no negative")
    order = np.argsort(rng.random(own.shape) + 2.0 * (own == NONE), axis=1)
    there = (own != NONE).sum(axis=1)
    places = np.arange(count)[None, :] % there[:, None]
    drawn: np.ndarray = np.take_along_axis(own, np.take_along_axis(order, places, axis=1), axis=1)
    return drawn
