"""Which region does each word of a query look at, and how well do they fit: a second score beside the vectors' product.

Late interaction: every word has a vector, every region has one, and a word looks at the region that fits it best. Too
dear to search a catalogue with, cheap enough to re-rank a pool of a thousand. Knows no tower, no loss.

Source: MaxSim of ColBERT (Khattab and Zaharia 2020), words weighted by a learned factor instead of equally.

Legend of axes: tokens = the words of all queries, regions = those of all photos, both end to end.
"""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from shopwindow.data.regions import Regions
from shopwindow.model.packing import Lengths

_INITIAL_SPREAD: Final = 0.05


class LateInteraction(nn.Module):
    """score(query, photo) = sum over words of weight(word) x the highest cosine of the word with a region.

    A query's weights sum to 1, so the score is at most 1. `words` says which tokens count ([CLS], [SEP], [UNK] do not);
    a query of none of them scores 0 with every product. Regions enter as signed square roots of length 1, minus
    `centre`.
    """

    centre: Tensor
    words: Tensor

    def __init__(self, vocabulary: int, feature_size: int, *, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.width = width
        self.word = nn.Embedding(vocabulary, width)
        self.region = nn.Linear(feature_size, width, bias=False)
        self.importance = nn.Embedding(vocabulary, 1)
        self.share = nn.Parameter(torch.tensor(0.5))
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("centre", torch.zeros(feature_size))
        self.register_buffer("words", torch.ones(vocabulary, dtype=torch.bool))
        nn.init.normal_(self.word.weight, std=_INITIAL_SPREAD)
        nn.init.zeros_(self.importance.weight)

    def forward(
        self,
        tokens: Int64[Tensor, " tokens"],
        lengths: Lengths,
        photos: Regions,
        *,
        projected: bool = False,
    ) -> Float[Tensor, "queries photos"]:
        """The score of every query with every photo. Memory: tokens x regions numbers.

        `projected` photos have for regions what `project` made of them.
        """
        owners = torch.repeat_interleave(torch.arange(len(lengths)), lengths).to(tokens.device)
        counted = torch.nonzero(self.words[tokens])[:, 0]
        fits = self._compared(tokens[counted], photos.features if projected else self.project(photos))
        lowest = fits.new_full((len(counted), len(photos.counts)), -1.0)
        best = lowest.scatter_reduce(1, photos.owners.expand_as(fits), fits, "amax", include_self=False)
        weights = self.weights(tokens[counted], owners[counted], len(lengths))
        scores = best.new_zeros(len(lengths), len(photos.counts))
        return scores.index_add(0, owners[counted], best * weights[:, None])

    def fits(self, tokens: Int64[Tensor, " words"], photos: Regions) -> Float[Tensor, "words regions"]:
        """The cosine of each word with each region."""
        return self._compared(tokens, self.project(photos))

    def project(self, photos: Regions) -> Float[Tensor, "regions width"]:
        """The vector of each region, of length 1: all that a score needs of it, and much smaller than its features."""
        regions = functional.normalize(photos.rooted().features, dim=-1) - self.centre
        projected: Tensor = functional.normalize(self.region(self.dropout(regions)), dim=-1)
        return projected

    def _compared(
        self, tokens: Int64[Tensor, " words"], projected: Float[Tensor, "regions width"]
    ) -> Float[Tensor, "words regions"]:
        words: Tensor = functional.normalize(self.word(tokens), dim=-1)
        return words @ projected.T

    def weights(
        self, tokens: Int64[Tensor, " words"], owners: Int64[Tensor, " words"], queries: int
    ) -> Float[Tensor, " words"]:
        """The weight of each word in its query: the softmax of its learned importance."""
        importance: Tensor = self.importance(tokens)[:, 0].exp()
        total = importance.new_zeros(queries).index_add(0, owners, importance)
        return importance / total.index_select(0, owners)
