"""Which cells of a batch's score matrix are right, which are negatives, which neither?

Row i and column i of a batch are a pair. Every other cell is taken for a negative unless something says that its
query may fit its product too: the batch itself, the other training pairs, the words of the texts. Such a cell is
left out, or is one more right cell. The losses (`model/losses.py`) take what comes out; knows no score and no tower.

Texts are numbers, equal for equal texts; products are rows of the dataset.

Legend of axes: pairs = of a batch, or of all of the training; queries and products = rows and columns of a matrix.
"""

from __future__ import annotations

import copy
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from scipy.sparse import csr_array
from torch import Tensor

Masking = Literal["none", "same", "known", "words"]
"""Which cells off the diagonal are no negatives; each holds what the one before it does.

none: every one is a negative. same: those of an equal text or product. known: those that are a training pair
anywhere. words: those whose text's words are all in one text known to match the product.
"""
Positives = Literal["diagonal", "all"]
"""Which cells are right: the batch's pairs alone, or all cells left out that are pairs (never those of `words`)."""

TEXTS_AT_ONCE: Final = 4096
"""Known texts whose words are compared with a batch's in one product of matrices."""
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
    """All training pairs, to look up a block of texts by products in.

    A pair has 8 bytes, and 4 more where there are weights; the words of a text 4 bytes each, and 8 a text.
    """

    def __init__(
        self,
        queries: Int64[np.ndarray, " pairs"],
        products: Int64[np.ndarray, " pairs"],
        *,
        weights: Float[np.ndarray, " pairs"] | None = None,
        texts: Sequence[str] = (),
    ) -> None:
        """The i-th of `texts` is that of number i, with its words between spaces; only `inclusions` needs them.

        A pair that is there more than once has the largest of its weights; without weights each has 1.
        Raises: ValueError for a number outside 0 to 2^31 - 1, a text without a number, a weight that is not above 0.
        """
        for name, numbers in (("queries", queries), ("products", products)):
            if len(numbers) and not (numbers.min() >= 0 and numbers.max() < _END):
                raise ValueError(f"{name}: {numbers.min()} to {numbers.max()}, wanted 0 to 2^31 - 1")
        if texts and len(queries) and queries.max() >= len(texts):
            raise ValueError(f"queries: up to {queries.max()}, texts: {len(texts)}")
        keys = products << _BITS | queries
        self._weights: Float32[np.ndarray, " known"] | None = None
        if weights is None:
            self._keys = np.unique(keys)
        else:
            if not (weights > 0).all():
                raise ValueError(f"weights: {weights.min()}, more than 0 is needed")
            self._keys, places = np.unique(keys, return_inverse=True)
            self._weights = np.zeros(len(self._keys), np.float32)
            np.maximum.at(self._weights, places, weights.astype(np.float32))
        self._words, self._word_ends = _words_of(texts)

    def __len__(self) -> int:
        """How many distinct pairs are known."""
        return len(self._keys)

    def among(
        self, queries: Int64[np.ndarray, " queries"], products: Int64[np.ndarray, " products"]
    ) -> KnownPairs:
        """Those alone whose text and product are among these, without words: quicker to look blocks of them up in."""
        places, _ = self._known_to_match(np.unique(products))
        kept = places[np.isin(self._keys[places] & _TEXT, queries)]
        fewer = copy.copy(self)
        fewer._keys = self._keys[kept]
        fewer._weights = None if self._weights is None else self._weights[kept]
        fewer._words, fewer._word_ends = _words_of(())
        return fewer

    def weights(
        self, queries: Int64[np.ndarray, " queries"], products: Int64[np.ndarray, " products"]
    ) -> Float32[np.ndarray, "queries products"]:
        """The weight of every cell that is a known pair, 0 elsewhere.

        Cost: that of `cells`, and the block once.
        """
        out = np.zeros((len(queries), len(products)), np.float32)
        cells, weights = self.cells(queries, products)
        out.reshape(-1)[cells] = weights
        return out

    def cells(
        self, queries: Int64[np.ndarray, " queries"], products: Int64[np.ndarray, " products"]
    ) -> tuple[Int64[np.ndarray, " cells"], Float32[np.ndarray, " cells"]]:
        """The places of the cells that are known pairs, in a matrix of queries and products whose rows lie end to end,
        in no order; and their weights.

        Cost: reads the texts known to match these products.
        """
        places, columns = self._known_to_match(products)
        order = np.argsort(queries, kind="stable")
        texts, ordered = self._keys[places] & _TEXT, queries[order]
        rows, entries = _spread(
            np.searchsorted(ordered, texts, side="left"), np.searchsorted(ordered, texts, side="right")
        )
        weights = np.ones(len(rows), np.float32) if self._weights is None else self._weights[places[entries]]
        return order[rows] * len(products) + columns[entries], weights

    def inclusions(
        self, queries: Int64[np.ndarray, " queries"], products: Int64[np.ndarray, " products"]
    ) -> Bool[np.ndarray, "queries products"]:
        """Which cells have a query all of whose words are in one text that is known to match the product.

        The words of one text: of a photo known as "red lamp" and as "white shade", "red shade" is not said. A query
        without words is included in nothing. Cost: one sparse product of the queries' words with those of the texts
        known to match the products, `TEXTS_AT_ONCE` at a time.
        Raises: ValueError where there are no texts, or none of a query's number.
        """
        if len(queries) and queries.max() >= len(self._word_ends) - 1:
            raise ValueError(f"queries: up to {queries.max()}, texts: {len(self._word_ends) - 1}")
        out = np.zeros((len(queries), len(products)), bool)
        asked = self._incidence(queries)
        lengths = np.diff(asked.indptr)
        places, columns = self._known_to_match(products)
        for start in range(0, len(places), TEXTS_AT_ONCE):
            part = slice(start, start + TEXTS_AT_ONCE)
            shared = (asked @ self._incidence(self._keys[places[part]] & _TEXT).T).tocoo()
            whole = shared.data == lengths[shared.row]
            out[shared.row[whole], columns[part][shared.col[whole]]] = True
        return out

    def texts_of(
        self, products: Int64[np.ndarray, " products"]
    ) -> tuple[Int64[np.ndarray, " entries"], Int64[np.ndarray, " entries"]]:
        """The texts known to match each of some products, end to end, and which of the products each is of."""
        places, columns = self._known_to_match(products)
        return self._keys[places] & _TEXT, columns

    def _known_to_match(
        self, products: Int64[np.ndarray, " products"]
    ) -> tuple[Int64[np.ndarray, " entries"], Int64[np.ndarray, " entries"]]:
        """The places of the pairs of each product, and which of the products it is."""
        first = products << _BITS
        return _spread(np.searchsorted(self._keys, first), np.searchsorted(self._keys, first | _TEXT))

    def _incidence(self, texts: Int64[np.ndarray, " texts"]) -> csr_array:
        """Texts by words, 1 where a text has the word."""
        starts, ends = self._word_ends[texts], self._word_ends[texts + 1]
        places, _ = _spread(starts, ends)
        words = self._words[places]
        vocabulary = int(self._words.max(initial=-1)) + 1
        indptr = np.concatenate([[0], np.cumsum(ends - starts)])
        return csr_array((np.ones(len(words), np.int32), words, indptr), shape=(len(texts), vocabulary))


def choose_cells(
    queries: Int64[Tensor, " pairs"],
    products: Int64[Tensor, " pairs"],
    *,
    masking: Masking = "none",
    positives: Positives = "diagonal",
    known: KnownPairs | None = None,
    weights: Float[Tensor, " pairs"] | None = None,
    rows: slice = slice(None),
    columns: slice = slice(None),
) -> Cells:
    """What each cell of a batch's score matrix is, on the device of `queries`; the defaults are the seed's.

    `weights` are those of the batch's pairs (1 where none are given); a pair of weight 0 is left out. A right cell off
    the diagonal is a pair too, and has that pair's weight: of an equal text the column's pair, of an equal product
    the row's pair, else what `known` says. Of a part of the matrix only, `rows` by `columns`, where they are given.
    Raises: ValueError where a masking needs `known`, or "none" leaves nothing out that could be right.
    """
    if masking in ("known", "words") and known is None:
        raise ValueError(f"masking {masking}: the known pairs are needed")
    if masking == "none" and positives == "all":
        raise ValueError("positives all: masking none calls them negatives, choose same, known or words")
    own = torch.ones(len(queries), device=queries.device) if weights is None else weights
    right, wrong = _diagonal(own, rows, columns)
    if masking == "none":
        return Cells(right, wrong)
    same_text = queries[rows, None] == queries[None, columns]
    left_out = same_text | (products[rows, None] == products[None, columns])
    if positives == "all":
        pairs = torch.where(same_text, own[None, columns], own[rows, None]) * left_out
        right = torch.where(wrong, pairs, right)
    if masking != "same" and known is not None:
        asked, seen = queries[rows].cpu().numpy(), products[columns].cpu().numpy()
        cells, elsewhere = known.cells(asked, seen)
        places = torch.from_numpy(cells).to(queries.device)
        if positives == "all":
            new = ~left_out.view(-1)[places]
            right.view(-1)[places[new]] = torch.from_numpy(elsewhere).to(right)[new]
        left_out.view(-1)[places] = True
        if masking == "words":
            left_out |= torch.from_numpy(known.inclusions(asked, seen)).to(queries.device)
    return Cells(right, ~left_out)


def count_false_negatives(
    queries: Int64[Tensor, " pairs"], products: Int64[Tensor, " pairs"], known: KnownPairs
) -> int:
    """How many cells off the diagonal are no negatives: of an equal text, an equal product, or a known pair.

    Counted by distinct texts and products, never cell by cell: n pairs of one text are n^2 cells of an equal text. Cost
    and memory are those of sorting the batch and of the texts known to match its products.
    """
    texts, text_counts = np.unique(queries.cpu().numpy(), return_counts=True)
    seen, product_counts = np.unique(products.cpu().numpy(), return_counts=True)
    pairs, pair_counts = np.unique((products << _BITS | queries).cpu().numpy(), return_counts=True)
    of_equals = (text_counts**2).sum() + (product_counts**2).sum() - (pair_counts**2).sum()
    cells, _ = known.cells(texts, seen)
    rows, columns = np.divmod(cells, max(1, len(seen)))
    in_batch = _occurrences(pairs, pair_counts, seen[columns] << _BITS | texts[rows])
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


def _words_of(texts: Sequence[str]) -> tuple[np.ndarray, Int64[np.ndarray, " ends"]]:
    """The words of all texts end to end as numbers, each once a text, and where each text ends, 0 in front."""
    numbers: dict[str, int] = {}
    words = array("i")
    ends = np.zeros(len(texts) + 1, np.int64)
    for row, text in enumerate(texts):
        words.extend(numbers.setdefault(word, len(numbers)) for word in dict.fromkeys(text.split()))
        ends[row + 1] = len(words)
    return np.array(words, np.int32), ends


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
