"""What do a query and a photo say without any order: the sum of its words, the mean of its regions?

Two branches side by side, one linear map each, over names (words, pairs of neighbouring words, the whole query) and
over pooled regions. Alone they are a strong simple model; beside the BERT towers they carry what few pairs can teach.
`naming.py` finds their weights in closed form. Knows no loss and no file.

Source: sums of word vectors as fastText's (Joulin et al. 2017, bigrams too); the rest is named where it stands.
"""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from shopwindow.data.regions import Regions
from shopwindow.model.packing import Lengths
from shopwindow.model.recipe import Pool, View

INITIAL_SPREAD: Final = 0.05
_PRIME: Final = 1_099_511_628_211
FIRST_PAIR: Final = 1 << 24
"""More than any vocabulary: from here on a number is a pair of tokens (below 2^48)."""


class WordBag(nn.Module):
    """A query's vector: the sum of the vectors of its names.

    A name is a token, a pair of neighbouring tokens, or the whole query. Which names there are is kept as sorted
    numbers (`keys`); a name that is none of them adds nothing, and a query of such names alone has the zero vector. To
    the last `common` values tokens alone add.
    """

    keys: Tensor

    def __init__(self, dimensions: int, names: int, *, pairs: bool, texts: bool, common: int = 0) -> None:
        super().__init__()
        self.pairs = pairs
        self.texts = texts
        self.common = common
        self.register_buffer("keys", torch.arange(names))
        self.weight = nn.Parameter(torch.empty(names, dimensions).normal_(std=INITIAL_SPREAD))

    def forward(
        self, tokens: Int64[Tensor, " tokens"], lengths: Lengths
    ) -> Float[Tensor, "sequences dimensions"]:
        keys, owners = names_of(tokens, lengths, pairs=self.pairs, texts=self.texts)
        rows, found = self.rows_of(keys)
        out = self.weight.new_zeros(len(lengths), self.weight.shape[1])
        return out.index_add(0, owners[found], self.table()[rows[found]])

    def table(self) -> Float[Tensor, "names dimensions"]:
        """What each name adds."""
        if not self.common:
            return self.weight
        words = (self.keys >= 0) & (self.keys < FIRST_PAIR)
        own, common = self.weight[:, : -self.common], self.weight[:, -self.common :]
        return torch.cat([own, common * words[:, None]], dim=1)

    def rows_of(
        self, keys: Int64[Tensor, " names"]
    ) -> tuple[Int64[Tensor, " names"], Int64[Tensor, " known"]]:
        """The row of each name in the table, and which places hold a name that has one."""
        rows = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        return rows, torch.nonzero(self.keys[rows] == keys)[:, 0]


def names_of(
    tokens: Int64[Tensor, " tokens"], lengths: Lengths, *, pairs: bool, texts: bool
) -> tuple[Int64[Tensor, " names"], Int64[Tensor, " names"]]:
    """The names in some queries as numbers, and to which query each belongs.

    A token is its own number, a pair of neighbours a number from 2^24 on, a whole query a negative number made of all
    its tokens (two queries share one by chance once in 2^62).

    >>> keys, owners = names_of(torch.tensor([2, 7, 8, 3]), torch.tensor([4]), pairs=False, texts=False)
    >>> keys.tolist(), owners.tolist()
    ([2, 7, 8, 3], [0, 0, 0, 0])
    """
    owners = torch.repeat_interleave(torch.arange(len(lengths)), lengths).to(tokens.device)
    keys, belongs = [tokens], [owners]
    if pairs:
        together = torch.nonzero(owners[1:] == owners[:-1])[:, 0]
        keys.append((tokens[together] + 1) * FIRST_PAIR + tokens[together + 1])
        belongs.append(owners[together])
    if texts:
        starts = (lengths.cumsum(0) - lengths).to(tokens.device)
        place = torch.arange(len(tokens), device=tokens.device) - starts[owners]
        mixed = (tokens + 1) * _PRIME * (2 * place + 1)
        mixed = (mixed ^ (mixed >> 29)) * (place + 0x9E3779B97F4A7C1) * _PRIME
        total = torch.zeros(len(lengths), dtype=torch.int64, device=tokens.device)
        total.index_add_(0, owners, mixed ^ (mixed >> 32))
        keys.append(-(total.abs() >> 1) - 1)
        belongs.append(torch.arange(len(lengths), device=tokens.device))
    return torch.cat(keys), torch.cat(belongs)


class PooledRegions(nn.Module):
    """A photo's vector in one view: a linear map of its pooled regions.

    The pools are joined end to end: the first region, the mean and the maximum of all. The look `unit` takes square
    roots, gives every region length 1 before and the pooled whole after; `standard` takes values as they are. Then
    `centre` is taken away and `spread` divided by; both are found from training photos (`naming.pooled_statistics`).
    `dropout` of the pooled values, while training.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, dimensions: int, feature_size: int, view: View, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.feature_size = feature_size
        self.view = view
        self.dropout_share = dropout
        self.dropout = nn.Dropout(dropout)
        size = feature_size * len(view.pools)
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("spread", torch.ones(size))
        self.dense = nn.Linear(size, dimensions)

    def forward(self, photos: Regions) -> Float[Tensor, "photos dimensions"]:
        out: Tensor = self.dense(self.dropout((self.pooled(photos) - self.centre) / self.spread))
        return out

    def pooled(self, photos: Regions) -> Float[Tensor, "photos pooled"]:
        """The pooled regions, before centring."""
        unit = self.view.look == "unit"
        return pool_regions(photos.scaled("sqrt" if unit else "raw"), self.view.pools, unit=unit)


def pool_regions(photos: Regions, pools: tuple[Pool, ...], *, unit: bool) -> Float[Tensor, "photos pooled"]:
    """The pools of each photo's regions end to end, float32; with `unit` regions and the whole have length 1."""
    regions = functional.normalize(photos.features.float(), dim=-1) if unit else photos.features.float()
    shape = (len(photos.counts), regions.shape[1])
    owners = photos.owners
    parts = []
    for pool in pools:
        if pool == "first":
            parts.append(regions[photos.starts])
        elif pool == "mean":
            counts = photos.counts.to(regions.device)[:, None]
            parts.append(regions.new_zeros(shape).index_add(0, owners, regions) / counts)
        else:
            lowest = regions.new_full(shape, -torch.inf)
            parts.append(lowest.scatter_reduce(0, owners[:, None].expand_as(regions), regions, "amax"))
    whole = torch.cat(parts, dim=1)
    return functional.normalize(whole, dim=-1) if unit else whole
