"""How well do a text and a photo fit, when one transformer reads both at once?

A cross-encoder: words, perhaps tags, and regions of a pair are one packed sequence through the encoder that the towers
have. Two published ones: UNITER and Oscar. They differ in what a region is, and in whether tags (the labels' names)
stand between words and regions. Dearer than two towers: every pair is computed anew. Knows no loss and no file.

Source: Chen et al. 2020, "UNITER: UNiversal Image-TExt Representation Learning"; Li et al. 2020, "Oscar:
Object-Semantics Aligned Pre-training for Vision-Language Tasks". Written from their descriptions.

Legend of axes: tokens = the words and tags of all texts, regions = those of all photos, both end to end; pairs; slots =
tokens and regions together, as the encoder takes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from shopwindow.data.regions import Regions, places_of
from shopwindow.model.packing import Layout, Lengths, positions, to_device
from shopwindow.model.towers import NORM_EPSILON, EncoderSize, Layers, Pooler, WordEmbeddings, initialise

Kind = Literal["uniter", "oscar"]
UNITER_GEOMETRY: Final = 7
OSCAR_GEOMETRY: Final = 6
REGION_TYPE: Final = 1
"""UNITER's regions have the second of the token types; so have Oscar's tags."""


@dataclass(frozen=True)
class CrossPairs:
    """Texts and photos, a pair of each.

    `tokens` are each text's words, [CLS] first and [SEP] last, then its tags and their [SEP], where it has some.
    `lengths` counts them and stays on the host. `types`: 0 for words, 1 for tags; None: no tags. `regions` has a
    product a pair; one of no region leaves its text alone. `masked`: regions whose features are hidden.
    """

    tokens: Int64[Tensor, " tokens"]
    lengths: Lengths
    regions: Regions
    types: Int64[Tensor, " tokens"] | None = None
    masked: Bool[Tensor, " regions"] | None = None

    def take(self, rows: Int64[Tensor, " chosen"]) -> CrossPairs:
        """Some of the pairs, in the order named; none of their regions is hidden."""
        places = to_device(places_of(self.lengths, rows), self.tokens.device)
        types = None if self.types is None else self.types[places]
        return CrossPairs(self.tokens[places], self.lengths[rows], self.regions.take(rows), types)


@dataclass(frozen=True)
class CrossOutput:
    """What the encoder makes of pairs: a vector of each token, of each region, and of each pair as a whole."""

    words: Float[Tensor, "tokens hidden"]
    regions: Float[Tensor, "regions hidden"]
    pooled: Float[Tensor, "pairs hidden"]


class UniterRegions(nn.Module):
    """UNITER's regions: the LayerNorm of three terms, each of a LayerNorm of its own but the last.

    They are a linear map of the features, a linear map of the box, and the token type of regions. A hidden region has
    features of zeros plus the learned `mask`.
    """

    def __init__(self, size: EncoderSize, *, feature_size: int) -> None:
        super().__init__()
        self.features = nn.Linear(feature_size, size.hidden)
        self.features_norm = nn.LayerNorm(size.hidden, eps=NORM_EPSILON)
        self.geometry = nn.Linear(UNITER_GEOMETRY, size.hidden)
        self.geometry_norm = nn.LayerNorm(size.hidden, eps=NORM_EPSILON)
        self.mask = nn.Parameter(torch.zeros(feature_size))
        self.LayerNorm = nn.LayerNorm(size.hidden, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(size.dropout)

    def forward(
        self,
        regions: Regions,
        of_regions: Float[Tensor, " hidden"],
        masked: Bool[Tensor, " regions"] | None = None,
    ) -> Float[Tensor, "regions hidden"]:
        features = regions.features.to(self.mask.dtype)
        if masked is not None:
            features = torch.where(masked[:, None], self.mask, features)
        looks = self.features_norm(self.features(features))
        lies = self.geometry_norm(self.geometry(box_shares(regions).to(features.dtype)))
        out: Tensor = self.dropout(self.LayerNorm(looks + lies + of_regions))
        return out


class OscarRegions(nn.Module):
    """Oscar's regions: a linear map of features and box in one, with a LayerNorm or without. No position, no type."""

    def __init__(self, size: EncoderSize, *, feature_size: int, norm: bool = True) -> None:
        super().__init__()
        self.features = nn.Linear(feature_size + OSCAR_GEOMETRY, size.hidden)
        self.LayerNorm = nn.LayerNorm(size.hidden, eps=NORM_EPSILON) if norm else None
        self.dropout = nn.Dropout(size.dropout)

    def forward(self, regions: Regions) -> Float[Tensor, "regions hidden"]:
        features = regions.features.to(self.features.weight.dtype)
        joined = torch.cat([features, box_shares(regions)[:, :OSCAR_GEOMETRY].to(features.dtype)], dim=1)
        out: Tensor = self.features(joined)
        if self.LayerNorm is not None:
            out = self.LayerNorm(out)
        dropped: Tensor = self.dropout(out)
        return dropped


class CrossEncoder(nn.Module):
    """Pairs of words and regions to their vectors, through BERT's encoder: attention over all of a pair."""

    def __init__(
        self, size: EncoderSize, regions: UniterRegions | OscarRegions, *, vocabulary: int, longest: int
    ) -> None:
        super().__init__()
        self.size = size
        self.longest = longest
        self.vocabulary = vocabulary
        self.embeddings = WordEmbeddings(size, vocabulary=vocabulary, longest=longest)
        self.regions = regions
        self.encoder = Layers(size)
        self.pooler = Pooler(size)
        self.apply(initialise)

    def forward(self, pairs: CrossPairs) -> CrossOutput:
        """The vectors of all tokens and regions, in the order of the pairs."""
        hidden, layout, places = self.embed(pairs)
        hidden = self.encoder(hidden, layout)
        words, regions = torch.split(hidden[places], [len(pairs.tokens), len(pairs.regions.features)])
        return CrossOutput(words, regions, self.pooler(hidden[layout.starts][layout.place]))

    def pooled(self, pairs: CrossPairs) -> Float[Tensor, "pairs hidden"]:
        """The vectors of the pairs alone, as `forward` gives them, for less: most of the last layer is left out."""
        hidden, layout, _ = self.embed(pairs)
        out: Tensor = self.pooler(self.encoder.first(hidden, layout))
        return out

    def embed(
        self, pairs: CrossPairs
    ) -> tuple[Float[Tensor, "slots hidden"], Layout, Int64[Tensor, " slots"]]:
        """What enters the encoder, in the order of its layout; and where tokens, then regions, lie in it.

        Raises: ValueError for regions without boxes, and for hidden regions of a model that knows none.
        """
        layout, order = slots_of(pairs.lengths, pairs.regions.counts, pairs.tokens.device)
        slots = torch.cat([self.embed_words(pairs), self.embed_regions(pairs)])
        return slots[order], layout, torch.argsort(order)

    def embed_words(self, pairs: CrossPairs) -> Float[Tensor, "tokens hidden"]:
        """Words and tags as they enter the encoder. Tags go on with the positions of their words."""
        places = to_device(positions(pairs.lengths), pairs.tokens.device)
        out: Tensor = self.embeddings(pairs.tokens, places, pairs.types)
        return out

    def embed_regions(self, pairs: CrossPairs) -> Float[Tensor, "regions hidden"]:
        """Regions as they enter the encoder."""
        given: tuple[object, ...] = ()
        if isinstance(self.regions, UniterRegions):
            given = self.embeddings.token_type_embeddings.weight[REGION_TYPE], pairs.masked
        elif pairs.masked is not None:
            raise ValueError("hidden regions need UNITER; Oscar has no mask for them")
        out: Tensor = self.regions(pairs.regions, *given)
        return out


def slots_of(
    lengths: Lengths, counts: Lengths, device: torch.device
) -> tuple[Layout, Int64[Tensor, " slots"]]:
    """The layout of pairs whose text has so many tokens, and photo so many regions; and its order.

    The order takes slots as all tokens, then all regions, end to end.
    """
    pairs = torch.arange(len(lengths))
    owners = torch.cat([pairs.repeat_interleave(lengths), pairs.repeat_interleave(counts)])
    by_pair = torch.argsort(owners, stable=True)  # so a pair's tokens come before its regions
    layout = Layout.of(lengths + counts, device)
    return layout, to_device(by_pair, device)[layout.order]


def box_shares(regions: Regions) -> Float[Tensor, "regions 7"]:
    """Each box as shares of its photo: left, top, right, bottom, width, height, area.

    Raises: ValueError for regions without boxes or sizes of photos.
    """
    if regions.boxes is None or regions.photo_sizes is None:
        raise ValueError("a cross-encoder takes regions with their boxes and the sizes of their photos")
    height, width = regions.photo_sizes.to(torch.float32).unbind(1)
    top, left, bottom, right = regions.boxes.to(torch.float32).unbind(1)
    wide, high = (right - left) / width, (bottom - top) / height
    return torch.stack(
        [left / width, top / height, right / width, bottom / height, wide, high, wide * high], 1
    )
