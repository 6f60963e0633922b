"""What turns words, and the regions of a photo, into one vector each?

The two towers side by side: a packed BERT encoder each, over words with their positions, or over
projected regions without any. Parameter names are BERT's, so that any BERT-family checkpoint can
initialise a tower. Knows no batch, loss or file.

Source: Devlin et al. 2018, "BERT"; the photo tower is the winning solution's of KDD Cup 2020
"Multimodalities Recall": Linear, LayerNorm, four BERT layers, the pooler on the first region.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from shopwindow.data.regions import Regions
from shopwindow.model.packing import Layout, Lengths, attend, positions
from shopwindow.model.recipe import Readout

GEOMETRY = 6
"""Numbers that say where a box is (`Regions.geometry`)."""
NORM_EPSILON = 1e-12
JOINED_FROM = 256
"""Tokens from which on the projections of attention are one product."""
INITIAL_SPREAD = 0.02
"""Standard deviation of random initial weights, as BERT's."""
_MOST_LAYERS = 1000
"""A card may name any number; to build layers takes time and memory before their weights are looked at."""


@dataclass(frozen=True)
class EncoderSize:
    """Width, depth and dropout of one tower. `hidden` is also the size of its embeddings.

    Raises: ValueError where the heads do not divide the width, or a number makes no sense.
    """

    hidden: int = 768
    layers: int = 4
    heads: int = 12
    inner: int = 3072
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if min(self.hidden, self.layers, self.heads, self.inner) < 1:
            raise ValueError(f"hidden, layers, heads and inner must be positive: {self}")
        if self.layers > _MOST_LAYERS:
            raise ValueError(f"layers: {self.layers}, at most {_MOST_LAYERS} are built")
        if self.hidden % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide hidden ({self.hidden})")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to below 1: {self.dropout}")


class SelfAttention(nn.Module):
    """BERT's `attention.self`: the three projections and the attention over each sequence."""

    def __init__(self, size: EncoderSize) -> None:
        super().__init__()
        self.heads = size.heads
        self.dropout = size.dropout
        self.query = nn.Linear(size.hidden, size.hidden)
        self.key = nn.Linear(size.hidden, size.hidden)
        self.value = nn.Linear(size.hidden, size.hidden)

    def forward(
        self, asking: Float[Tensor, "asking hidden"], hidden: Float[Tensor, "tokens hidden"], layout: Layout
    ) -> Float[Tensor, "asking hidden"]:
        if asking is hidden:
            q, k, v = _joined(hidden, self.query, self.key, self.value)
        else:
            q = self.query(asking)
            k, v = _joined(hidden, self.key, self.value)
        q, k, v = (part.view(len(part), self.heads, -1) for part in (q, k, v))
        return attend(q, k, v, layout, dropout=self.dropout if self.training else 0.0).flatten(1)


def _joined(hidden: Float[Tensor, "tokens hidden"], *maps: nn.Linear) -> tuple[Tensor, ...]:
    """What several linear maps of one width make of the same tokens: one wide product instead of narrow ones.

    Of few tokens, as one query's, they stay apart: joining the weights would take longer than the products.
    """
    if len(hidden) < JOINED_FROM:
        return tuple(own(hidden) for own in maps)
    weight = torch.cat([own.weight for own in maps])
    bias = torch.cat([own.bias for own in maps])
    return functional.linear(hidden, weight, bias).chunk(len(maps), dim=-1)


class Output(nn.Module):
    """BERT's `output`: a linear map, dropout, and the LayerNorm of its sum with what came before."""

    def __init__(self, wide: int, size: EncoderSize) -> None:
        super().__init__()
        self.dense = nn.Linear(wide, size.hidden)
        self.LayerNorm = nn.LayerNorm(size.hidden, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(size.dropout)

    def forward(
        self, new: Float[Tensor, "tokens wide"], before: Float[Tensor, "tokens hidden"]
    ) -> Float[Tensor, "tokens hidden"]:
        normed: Tensor = self.LayerNorm(before + self.dropout(self.dense(new)))
        return normed


class Attention(nn.Module):
    """BERT's `attention`: self-attention and its output."""

    def __init__(self, size: EncoderSize) -> None:
        super().__init__()
        self.self = SelfAttention(size)
        self.output = Output(size.hidden, size)

    def forward(
        self, asking: Float[Tensor, "asking hidden"], hidden: Float[Tensor, "tokens hidden"], layout: Layout
    ) -> Float[Tensor, "asking hidden"]:
        mixed: Tensor = self.output(self.self(asking, hidden, layout), asking)
        return mixed


class Intermediate(nn.Module):
    """BERT's `intermediate`: the widening linear map and GELU (the exact one)."""

    def __init__(self, size: EncoderSize) -> None:
        super().__init__()
        self.dense = nn.Linear(size.hidden, size.inner)

    def forward(self, hidden: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens inner"]:
        return functional.gelu(self.dense(hidden))


class Layer(nn.Module):
    """One BERT layer, post-LayerNorm: for all tokens, or only for those that ask."""

    def __init__(self, size: EncoderSize) -> None:
        super().__init__()
        self.attention = Attention(size)
        self.intermediate = Intermediate(size)
        self.output = Output(size.inner, size)

    def forward(
        self, asking: Float[Tensor, "asking hidden"], hidden: Float[Tensor, "tokens hidden"], layout: Layout
    ) -> Float[Tensor, "asking hidden"]:
        attended = self.attention(asking, hidden, layout)
        out: Tensor = self.output(self.intermediate(attended), attended)
        return out


class Layers(nn.Module):
    """BERT's `encoder`: the layers, over packed tokens in the order of the layout."""

    def __init__(self, size: EncoderSize) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(size) for _ in range(size.layers))

    def forward(
        self, hidden: Float[Tensor, "tokens hidden"], layout: Layout
    ) -> Float[Tensor, "tokens hidden"]:
        for layer in self.layer:
            hidden = layer(hidden, hidden, layout)
        return hidden

    def first(
        self, hidden: Float[Tensor, "tokens hidden"], layout: Layout
    ) -> Float[Tensor, "sequences hidden"]:
        """The first token of every sequence, in the caller's order, as `forward` would give it.

        The last layer is computed for these tokens alone; of the others it needs only keys and values.
        """
        *lower, last = self.layer
        for layer in lower:
            hidden = layer(hidden, hidden, layout)
        out: Tensor = last(hidden[layout.starts], hidden, layout)
        return out[layout.place]


class Pooler(nn.Module):
    """BERT's `pooler`: tanh of a linear map of each sequence's first token."""

    def __init__(self, size: EncoderSize) -> None:
        super().__init__()
        self.dense = nn.Linear(size.hidden, size.hidden)

    def forward(self, first: Float[Tensor, "sequences hidden"]) -> Float[Tensor, "sequences hidden"]:
        return torch.tanh(self.dense(first))


class WordEmbeddings(nn.Module):
    """BERT's `embeddings`: word + position + token type (0 where none is given), LayerNorm, dropout."""

    def __init__(self, size: EncoderSize, *, vocabulary: int, longest: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, size.hidden)
        self.position_embeddings = nn.Embedding(longest, size.hidden)
        self.token_type_embeddings = nn.Embedding(2, size.hidden)
        self.LayerNorm = nn.LayerNorm(size.hidden, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(size.dropout)

    def forward(
        self,
        tokens: Int64[Tensor, " tokens"],
        places: Int64[Tensor, " tokens"],
        types: Int64[Tensor, " tokens"] | None = None,
    ) -> Float[Tensor, "tokens hidden"]:
        typed = self.token_type_embeddings.weight[0] if types is None else self.token_type_embeddings(types)
        total = self.word_embeddings(tokens) + self.position_embeddings(places) + typed
        out: Tensor = self.dropout(self.LayerNorm(total))
        return out


class RegionEmbeddings(nn.Module):
    """The LayerNorm of BERT's `embeddings`; regions have neither position nor type."""

    def __init__(self, size: EncoderSize) -> None:
        super().__init__()
        self.LayerNorm = nn.LayerNorm(size.hidden, eps=NORM_EPSILON)

    def forward(self, regions: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens hidden"]:
        out: Tensor = self.LayerNorm(regions)
        return out


class TextTower(nn.Module):
    """Words of a query to its vector."""

    def __init__(self, size: EncoderSize, *, vocabulary: int, longest: int) -> None:
        super().__init__()
        self.size = size
        self.longest = longest
        self.vocabulary = vocabulary
        self.embeddings = WordEmbeddings(size, vocabulary=vocabulary, longest=longest)
        self.encoder = Layers(size)
        self.pooler = Pooler(size)
        self.apply(initialise)

    def forward(
        self, tokens: Int64[Tensor, " tokens"], lengths: Lengths
    ) -> Float[Tensor, "sequences hidden"]:
        layout = Layout.of(lengths, tokens.device)
        places = positions(lengths).to(tokens.device)
        hidden = self.embeddings(tokens[layout.order], places[layout.order])
        out: Tensor = self.pooler(self.encoder.first(hidden, layout))
        return out


class PhotoTower(nn.Module):
    """Regions of a product to its vector.

    `readout`: what gives the vector of a set without order. `first`: the first region, as the seed has it. `attention`:
    the mean of all regions, weighted by a softmax of their dot products with a learned query. `labels`: how many labels
    there are; then each region also carries its box and its label, both maps of zeros at first; None: neither. A label
    that is no number below `labels` adds nothing.

    Source of the boxes: the position features of Faster R-CNN based encoders, as LXMERT (Tan and Bansal 2019).
    """

    def __init__(
        self, size: EncoderSize, *, feature_size: int, readout: Readout = "first", labels: int | None = None
    ) -> None:
        super().__init__()
        self.size = size
        self.feature_size = feature_size
        self.readout: Readout = readout
        self.label_count = labels
        self.projection = nn.Linear(feature_size, size.hidden)
        self.embeddings = RegionEmbeddings(size)
        self.encoder = Layers(size)
        self.pooler = Pooler(size)
        for part in (self.embeddings, self.encoder, self.pooler):
            part.apply(initialise)
        if labels is not None:
            self.geometry = nn.Linear(GEOMETRY, size.hidden)
            self.labels = nn.Embedding(labels, size.hidden)
            for tensor in (self.geometry.weight, self.geometry.bias, self.labels.weight):
                nn.init.zeros_(tensor)
        if readout == "attention":
            self.asking = nn.Parameter(torch.empty(size.hidden).normal_(std=INITIAL_SPREAD))

    def forward(self, regions: Regions) -> Float[Tensor, "products hidden"]:
        """Raises: ValueError where the tower takes boxes and none are given."""
        hidden = self.projection(regions.features.to(self.projection.weight.dtype))
        if self.label_count is not None:
            hidden = hidden + self._described(regions, self.label_count)
        layout = Layout.of(regions.counts, hidden.device)
        hidden = self.embeddings(hidden[layout.order])
        if self.readout == "attention":
            first = self._attended(self.encoder(hidden, layout), layout, regions.counts)
        else:
            first = self.encoder.first(hidden, layout)
        out: Tensor = self.pooler(first)
        return out

    def _described(self, regions: Regions, labels: int) -> Float[Tensor, "regions hidden"]:
        """What the boxes and labels add."""
        if regions.geometry is None or regions.labels is None:
            raise ValueError("this tower takes boxes and labels with the regions")
        known = (regions.labels >= 0) & (regions.labels < labels)
        named: Tensor = self.labels(regions.labels.where(known, 0)) * known[:, None]
        placed: Tensor = self.geometry(regions.geometry)
        return placed + named

    def _attended(
        self, hidden: Float[Tensor, "tokens hidden"], layout: Layout, lengths: Lengths
    ) -> Float[Tensor, "sequences hidden"]:
        owners = torch.repeat_interleave(torch.arange(len(lengths)), lengths).to(hidden.device)[layout.order]
        asked = hidden @ self.asking
        highest = asked.new_full((len(lengths),), -torch.inf).scatter_reduce(0, owners, asked, "amax")
        weights = (asked - highest.index_select(0, owners)).exp()
        total = weights.new_zeros(len(lengths)).index_add(0, owners, weights)
        shares = (weights / total.index_select(0, owners))[:, None]
        return hidden.new_zeros(len(lengths), hidden.shape[1]).index_add(0, owners, shares * hidden)


def compile_parts(model: nn.Module, *, backend: str = "inductor") -> None:
    """Fuses what follows each matrix product of the encoders (GELU; dropout, sum and LayerNorm), in place.

    Weights and their names stay as they are. It takes a compiler, and half a minute at the first step.
    """
    for module in model.modules():
        if isinstance(module, Output | Intermediate):
            module.compile(dynamic=True, fullgraph=True, backend=backend)


def initialise(module: nn.Module) -> None:
    """BERT's random initial weights, from torch's generator (seed it, or fork it, around the construction)."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_SPREAD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
