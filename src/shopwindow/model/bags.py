"""What do a query and a product say without any order: the sum of its words, the mean of its regions?

The two simple components of a part: a bag of words, and a linear view of pooled regions. Alone they are a strong model;
beside transformers they carry what few pairs can teach. Knows no loss and no file.

Source: sums of word vectors as fastText's (Joulin et al. 2017, bigrams too); the rest is named where it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from shopwindow.data.dataset import Dataset
from shopwindow.data.regions import Regions
from shopwindow.model.packing import Lengths
from shopwindow.model.recipe import Look, Pool

INITIAL_SPREAD: Final = 0.05
FIRST_PAIR: Final = 1 << 24
"""More than any vocabulary: from here on a number is a pair of tokens (below 2^48)."""
MOST_NAMES: Final = 20_000
"""The most frequent ones are names."""
_PRODUCTS_AT_ONCE: Final = 1024


@dataclass(frozen=True)
class Named:
    """The known names of some queries: the row of each in a table of names, and the query that each belongs to."""

    rows: Int64[Tensor, " names"]
    owners: Int64[Tensor, " names"]
    queries: int


class Names(nn.Module):
    """Which names there are: tokens, and pairs of neighbouring tokens, as rising numbers (`names_of`)."""

    keys: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("keys", torch.arange(count))

    def forward(self, tokens: Int64[Tensor, " tokens"], lengths: Lengths, *, pairs: bool) -> Named:
        """The names of tokenised queries; what is no name is left out."""
        keys, owners = names_of(tokens, lengths, pairs=pairs)
        rows = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        known = torch.nonzero(self.keys[rows] == keys)[:, 0]
        return Named(rows[known], owners[known], len(lengths))

    @property
    def words(self) -> int:
        """How many of the names are single tokens. They come first."""
        return int((self.keys < FIRST_PAIR).sum())


class WordBag(nn.Module):
    """A query's vector: the sum of the vectors of its names. A query without a known name has the zero vector.

    It has a row for each of the first names: for all of them, or, without `pairs`, for the single tokens.
    """

    def __init__(self, vectors: Float[Tensor, "names width"], *, pairs: bool) -> None:
        super().__init__()
        self.pairs = pairs
        self.weight = nn.Parameter(vectors.clone())

    def forward(self, named: Named) -> Float[Tensor, "queries width"]:
        rows, owners = named.rows, named.owners
        if not self.pairs:
            own = rows < len(self.weight)
            rows, owners = rows[own], owners[own]
        out = self.weight.new_zeros(named.queries, self.weight.shape[1])
        # Not weight[rows]: with several threads its gradient is summed in another order each time.
        return out.index_add(0, owners, self.weight.index_select(0, rows))


class TitleWords(nn.Module):
    """A product's vector: the sum of the vectors of its title's names; zero for a product without a known one.

    The vectors are those of the text side's bag: equal words match before the first step. It has no weights of its own.
    """

    def __init__(self, bag: WordBag) -> None:
        super().__init__()
        self._tied = (bag,)  # in a tuple, torch does not count its weights twice

    def forward(self, named: Named) -> Float[Tensor, "products width"]:
        out: Tensor = self._tied[0](named)
        return out

    def reads_like(self, bag: nn.Module) -> bool:
        """Whether the weights are those of this bag."""
        return self._tied[0] is bag


def names_of(
    tokens: Int64[Tensor, " tokens"], lengths: Lengths, *, pairs: bool
) -> tuple[Int64[Tensor, " names"], Int64[Tensor, " names"]]:
    """The names in some queries as numbers, and the query that each belongs to.

    A token is its own number, a pair of neighbours a number from 2^24 on.

    >>> keys, owners = names_of(torch.tensor([2, 7, 8, 3]), torch.tensor([3, 1]), pairs=False)
    >>> keys.tolist(), owners.tolist()
    ([2, 7, 8, 3], [0, 0, 0, 1])
    """
    owners = torch.repeat_interleave(torch.arange(len(lengths)), lengths).to(tokens.device)
    if not pairs:
        return tokens, owners
    together = torch.nonzero(owners[1:] == owners[:-1])[:, 0]
    both = (tokens[together] + 1) * FIRST_PAIR + tokens[together + 1]
    return torch.cat([tokens, both]), torch.cat([owners, owners[together]])


def known_names(
    tokens: Int64[Tensor, " tokens"],
    lengths: Lengths,
    *,
    pairs: bool,
    ignored: frozenset[int],
    most: int = MOST_NAMES,
) -> Int64[Tensor, " names"]:
    """The names that occur in some queries, ascending: the `most` frequent (ties: the smaller number).

    `ignored` tokens ([CLS], [SEP] ...) are no names; a pair with one of them is (it says what a query begins with).
    Raises: ValueError where there is no name at all.
    """
    keys, _ = names_of(tokens, lengths, pairs=pairs)
    distinct, counts = torch.unique(keys, return_counts=True)
    kept = ~torch.isin(distinct, torch.tensor(sorted(ignored), dtype=torch.int64))
    distinct, counts = distinct[kept], counts[kept]
    if not len(distinct):
        raise ValueError("the training queries hold no word")
    most_frequent = torch.argsort(counts, descending=True, stable=True)[:most]
    names: Tensor = distinct[most_frequent].sort().values
    return names


class PooledRegions(nn.Module):
    """A product's vector in a linear view: a linear map of its pooled regions.

    The pools are joined end to end. The look `unit` takes signed square roots, so negative features keep their sign;
    it gives every region length 1 before and the pooled whole after. `standard` takes values as they are. Then `centre`
    is taken away and `spread` divided by; both come from training products (`pooled_statistics`).
    """

    centre: Tensor
    spread: Tensor

    def __init__(
        self, width: int, feature_size: int, *, look: Look, pools: tuple[Pool, ...], dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.feature_size = feature_size
        self.look: Look = look
        self.pools = pools
        self.dropout = nn.Dropout(dropout)
        size = feature_size * len(pools)
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("spread", torch.ones(size))
        self.dense = nn.Linear(size, width)

    def forward(self, regions: Regions) -> Float[Tensor, "products width"]:
        out: Tensor = self.dense(self.dropout((self.pooled(regions) - self.centre) / self.spread))
        return out

    def pooled(self, regions: Regions) -> Float[Tensor, "products pooled"]:
        """The pooled regions, before centring."""
        if self.look == "unit":
            return pool_regions(regions.rooted(), self.pools, unit=True)
        return pool_regions(regions, self.pools, unit=False)


def pool_regions(
    regions: Regions, pools: tuple[Pool, ...], *, unit: bool
) -> Float[Tensor, "products pooled"]:
    """The pools of each product's regions end to end, float32; with `unit` regions and the whole have length 1."""
    values = regions.features.float()
    if unit:
        values = functional.normalize(values, dim=-1)
    shape = (len(regions.counts), values.shape[1])
    owners = regions.owners
    pooled = []
    for pool in pools:
        if pool == "first":
            pooled.append(values[regions.starts])
        elif pool == "mean":
            counts = regions.counts.to(values.device)[:, None]
            pooled.append(values.new_zeros(shape).index_add(0, owners, values) / counts)
        else:
            lowest = values.new_full(shape, -torch.inf)
            pooled.append(lowest.scatter_reduce(0, owners[:, None].expand_as(values), values, "amax"))
    whole = torch.cat(pooled, dim=1)
    return functional.normalize(whole, dim=-1) if unit else whole


def pooled_statistics(
    view: PooledRegions, dataset: Dataset, products: Int64[np.ndarray, " products"]
) -> None:
    """Sets a view's centre to the mean of these products' pooled values, and its spread.

    The spread is each value's standard deviation. With the look `unit` it is one number for all values: the root of the
    mean squared length of the centred whole. So a product has length 1 on average.
    """
    total = torch.zeros_like(view.centre, dtype=torch.float64)
    squares = torch.zeros_like(total)
    for start in range(0, len(products), _PRODUCTS_AT_ONCE):
        values = view.pooled(dataset.regions(products[start : start + _PRODUCTS_AT_ONCE])).double()
        total += values.sum(0)
        squares += values.square().sum(0)
    centre = total / len(products)
    variance = (squares / len(products) - centre.square()).clamp(min=0)
    spread = variance.sqrt() if view.look == "standard" else variance.sum().sqrt().expand_as(variance)
    view.centre.copy_(centre)
    view.spread.copy_(spread.clamp(min=1e-3))
