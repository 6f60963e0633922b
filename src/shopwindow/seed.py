"""What is the published system? Both towers, the score and the loss, whole and in plain padded torch.

The first file to read. It is slow: every row is padded, and every place goes through every layer. The rest of
the package gives the same numbers without padding, and the tests measure it by this page. It imports torch only.

Source: the solution that ranked first among solo teams in KDD Cup 2020 "Multimodalities Recall", written anew from its
description; the layers and their initial weights are those of Devlin et al. 2018, "BERT".

Legend of axes: a batch has `pairs` rows, matching query and photo in the same row. `tokens` and `regions` are
the places of a padded row; a mask is true at places that are not padding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Size(NamedTuple):
    """Size of a tower; by default the published one."""

    hidden: int = 768
    layers: int = 4
    heads: int = 12
    inner: int = 3072
    dropout: float = 0.1


class Words(nn.Module):
    """BERT's sum of vectors for each token: its word, its position, and token type 0."""

    def __init__(self, vocabulary: int, longest: int, hidden: int) -> None:
        super().__init__()
        self.words = nn.Parameter(0.02 * torch.randn(vocabulary, hidden))
        self.positions = nn.Parameter(0.02 * torch.randn(longest, hidden))
        self.token_types = nn.Parameter(0.02 * torch.randn(2, hidden))

    def forward(self, token_ids: Tensor) -> Tensor:
        """[pairs, tokens] to [pairs, tokens, hidden]."""
        return self.words[token_ids] + self.positions[: token_ids.shape[1]] + self.token_types[0]


class Tower(nn.Module):
    """An embedding, BERT's layers with random initial weights, and BERT's pooler on the first place."""

    def __init__(self, embedding: nn.Module, size: Size) -> None:
        super().__init__()
        hidden, layers, heads, inner, dropout = size
        layer = nn.TransformerEncoderLayer(hidden, heads, inner, dropout, "gelu", 1e-12, batch_first=True)
        layer.dropout.p = 0.0  # torch also drops between the two linear maps; BERT does not
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.pooler = nn.Linear(hidden, hidden)
        for name, parameter in self.named_parameters():
            if "norm" not in name:
                nn.init.normal_(parameter, std=0.0 if name.endswith("bias") else 0.02)
        self.embedding = embedding  # last: it has initial weights of its own

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """[pairs, places, ...] and its mask [pairs, places] to one vector a row, [pairs, hidden]."""
        hidden = self.layers(self.embedding(inputs), src_key_padding_mask=~mask)
        return torch.tanh(self.pooler(hidden[:, 0]))


class Seed(nn.Module):
    """The siamese model: a tower over the words of queries, and one over the regions of photos."""

    def __init__(self, size: Size, vocabulary: int = 28996, longest: int = 512, features: int = 2048) -> None:
        super().__init__()
        words, regions = Words(vocabulary, longest, size.hidden), nn.Linear(features, size.hidden)
        norms = [nn.LayerNorm(size.hidden, eps=1e-12) for _ in range(2)]
        self.text = Tower(nn.Sequential(words, norms[0], nn.Dropout(size.dropout)), size)
        self.photo = Tower(nn.Sequential(regions, norms[1]), size)

    def forward(self, token_ids: Tensor, token_mask: Tensor, regions: Tensor, region_mask: Tensor) -> Tensor:
        """The score of every query (row) with every photo (column): the dot product of their vectors."""
        return torch.mm(self.text(token_ids, token_mask), self.photo(regions, region_mask).T)


def loss(scores: Tensor) -> Tensor:
    """Binary cross-entropy of all cells of a batch's scores; only those on the diagonal match."""
    return functional.binary_cross_entropy_with_logits(scores, torch.eye(len(scores), device=scores.device))
