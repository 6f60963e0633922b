"""Which cells of a batch's score matrix are right, which are negatives, which neither?

Row i and column i of a batch are a pair. Every other cell is a negative unless the batch or the other training pairs
say that its query fits its product too; then it is left out. The losses (`model/losses.py`) take what comes out.
Knows no score and no tower.

Texts are numbers, equal for equal texts; products are rows of the dataset.

Legend of axes: pairs = of a batch, or of all of the training; queries and products = rows and columns of a matrix.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from shopwindow.model.recipe import Masking

_BITS: Final = 32
_TEXT: Final = (1 << _BITS) - 1
_END: Final = 1 << 31


@dataclass(frozen=True)
class Cells:
    """What each cell of a score matrix is: right, wrong, or, where neither holds, left out."""

    right: Float[Tensor, "queries products"]
    """The weight of a right cell, 0 elsewhere."""
    wrong: Bool[Tensor, "queries products"]
    """Whether a cell is a negative; nowhere a right one."""

    def to(self, device: torch.device) -> Cells:
        """The same on a device."""
        return Cells(self.right.to(device, non_blocking=True), self.wrong.to(device, non_blocking=True))

    def turned(self) -> Cells:
        """The same with rows and columns exchanged."""
        return Cells(self.right.T, self.wrong.T)


@final
class KnownPairs:
    """All training pairs, to look up a block of texts by products in. A pair has 8 bytes."""

    def __init__(self, queries: Int64[np.ndarray, " pairs"], products: Int64[np.ndarray, " pairs"]) -> None:
        """Raises: ValueError for a number outside 0 to 2^31 - 1."""
        for name, numbers in (("queries", queries), ("products", products)):
            if len(numbers) and not (numbers.min() >= 0 and numbers.max() < _END):
                raise ValueError(f"{name}: {numbers.min()} to {numbers.max()}, wanted 0 to 2^31 - 1")
        self._keys = np.unique(products << _BITS | queries)

    def __len__(self) -> int:
        """How many distinct pairs are known."""
        return len(self._keys)

    def among(
        self, queries: Int64[np.ndarray, " queries"], products: Int64[np.ndarray, " products"]
    ) -> KnownPairs:
        """Those alone whose text and product are among these: quicker to look blocks of them up in."""
        places, _ = self._known_to_match(np.unique(products))
        fewer = copy.copy(self)
        fewer._keys = self._keys[places[np.isin(self._keys[places] & _TEXT, queries)]]
        return fewer

    def cells(
        self, queries: Int64[np.ndarray, " queries"], products: Int64[np.ndarray, " products"]
    ) -> Int64[np.ndarray, " cells"]:
        """The places of the known pairs in a matrix of queries and products whose rows lie end to end, in no order.

        Cost: reads the texts known to match these products.
        """
        places, columns = self._known_to_match(products)
        order = np.argsort(queries, kind="stable")
        texts, ordered = self._keys[places] & _TEXT, queries[order]
        rows, entries = _spread(
            np.searchsorted(ordered, texts, side="left"), np.searchsorted(ordered, texts, side="right")
        )
        cells: np.ndarray = order[rows] * len(products) + columns[entries]
        return cells

    def _known_to_match(
        self, products: Int64[np.ndarray, " products"]
    ) -> tuple[Int64[np.ndarray, " entries"], Int64[np.ndarray, " entries"]]:
        """The places of the pairs of each product, and which of the products it is."""
        first = products << _BITS
        return _spread(np.searchsorted(self._keys, first), np.searchsorted(self._keys, first | _TEXT))


def choose_cells(
    queries: Int64[Tensor, " pairs"],
    products: Int64[Tensor, " pairs"],
    *,
    masking: Masking = "none",
    known: KnownPairs | None = None,
    weights: Float[Tensor, " pairs"] | None = None,
    rows: slice = slice(None),
    columns: slice = slice(None),
) -> Cells:
    """What each cell of a batch's score matrix is, on the device of `queries`; the defaults are the seed's.

    Right are the pairs of the batch, by their `weights` (1 where none are given); a pair of weight 0 is left out. With
    `masking` same, cells of an equal text or product are left out; with known, known pairs too. Of a part of the
    matrix only, `rows` by `columns`, where they are given.
    Raises: ValueError where masking known lacks `known`.
    """
    own = torch.ones(len(queries), device=queries.device) if weights is None else weights
    right, wrong = _diagonal(own, rows, columns)
    if masking == "none":
        return Cells(right, wrong)
    left_out = queries[rows, None] == queries[None, columns]
    left_out |= products[rows, None] == products[None, columns]
    if masking == "known":
        if known is None:
            raise ValueError("masking known: the known pairs are needed")
        cells = known.cells(queries[rows].cpu().numpy(), products[columns].cpu().numpy())
        left_out.view(-1)[torch.from_numpy(cells).to(queries.device)] = True
    return Cells(right, wrong & ~left_out)


def count_false_negatives(
    queries: Int64[Tensor, " pairs"], products: Int64[Tensor, " pairs"], known: KnownPairs
) -> int:
    """How many cells off the diagonal are no negatives: of an equal text, an equal product, or a known pair.

    Counted by distinct texts and products, never cell by cell: n pairs of one text are n^2 cells of an equal text. Cost
    and memory are those of sorting the batch and of the texts known to match its products.
    """
    texts, text_counts = np.unique(queries.cpu().numpy(), return_counts=True)
    distinct, product_counts = np.unique(products.cpu().numpy(), return_counts=True)
    pairs, pair_counts = np.unique((products << _BITS | queries).cpu().numpy(), return_counts=True)
    of_equals = (text_counts**2).sum() + (product_counts**2).sum() - (pair_counts**2).sum()
    rows, columns = np.divmod(known.cells(texts, distinct), max(1, len(distinct)))
    in_batch = _occurrences(pairs, pair_counts, distinct[columns] << _BITS | texts[rows])
    # Every row of a known pair's text meets every column of its product. Where the row's own product is the pair's,
    # or the column's own text, the cell is one of equals.
    of_known = ((text_counts[rows] - in_batch) * (product_counts[columns] - in_batch)).sum()
    diagonal = len(queries)
    return int(of_equals + of_known) - diagonal


def _occurrences(
    distinct: Int64[np.ndarray, " numbers"],
    counts: Int64[np.ndarray, " numbers"],
    asked: Int64[np.ndarray, " asked"],
) -> Int64[np.ndarray, " asked"]:
    """How often each asked-for number occurs, of rising distinct numbers and their counts; 0 where it is none of them.

    >>> _occurrences(np.array([3, 5]), np.array([1, 2]), np.array([5, 4, 9])).tolist()
    [2, 0, 0]
    """
    places = np.searchsorted(distinct, asked).clip(max=len(distinct) - 1)
    return np.where(distinct[places] == asked, counts[places], 0)


def _diagonal(own: Float[Tensor, " pairs"], rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
    """The weights of the pairs where a part of the matrix meets its diagonal, 0 elsewhere; which cells lie off it."""
    first, ends, _ = rows.indices(len(own))
    left, right, _ = columns.indices(len(own))
    shape = max(0, ends - first), max(0, right - left)
    weights, off = own.new_zeros(shape), torch.ones(shape, dtype=torch.bool, device=own.device)
    places = torch.arange(max(first, left), max(first, left, min(ends, right)), device=own.device)
    weights[places - first, places - left] = own[places]
    off[places - first, places - left] = False
    return weights, off


def _spread(
    starts: Int64[np.ndarray, " ranges"], ends: Int64[np.ndarray, " ranges"]
) -> tuple[Int64[np.ndarray, " entries"], Int64[np.ndarray, " entries"]]:
    """All numbers of some ranges end to end, and the range of each.

    >>> [values.tolist() for values in _spread(np.array([4, 0, 9]), np.array([6, 0, 10]))]
    [[4, 5, 9], [0, 0, 2]]
    """
    lengths = ends - starts
    owners = np.repeat(np.arange(len(starts)), lengths)
    return np.arange(len(owners)) + (starts - np.cumsum(lengths) + lengths)[owners], owners
