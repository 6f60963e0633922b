"""How do queries, labels and regions become the pairs that a cross-encoder reads, and what does an index keep for it?

Tags are the names of the regions' labels, in the order of the regions, repeats kept, as Oscar has them. An index keeps
one row of numbers a region: its features, its box as shares of the photo, its label. Knows no model.

Legend of axes: as `cross.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Int64
from tokenizers import Tokenizer
from torch import Tensor

from shopwindow.data.regions import Regions, places_of
from shopwindow.model.cross import CrossPairs, box_shares
from shopwindow.model.packing import Lengths, positions

BOX_VALUES: Final = 4
LABEL_VALUES: Final = 2
"""A label is kept as two numbers below 256, which float16 holds exactly."""
_BASE: Final = 256


@dataclass(frozen=True)
class TagTable:
    """The word pieces of each label's name, end to end; `separator` ends the tags of a pair."""

    tokens: Int64[Tensor, " tokens"]
    lengths: Int64[Tensor, " labels"]
    separator: int

    @classmethod
    def of(cls, tokenizer: Tokenizer, names: Mapping[int, str]) -> TagTable:
        """The pieces of the names by label. A label without a name has none."""
        pieces = [
            tokenizer.encode(names[label], add_special_tokens=False).ids if label in names else []
            for label in range(max(names, default=-1) + 1)
        ]
        separator = tokenizer.token_to_id("[SEP]")
        assert separator is not None  # every tokenizer that we open or train has it
        return cls(
            torch.tensor([piece for own in pieces for piece in own], dtype=torch.int64),
            torch.tensor([len(own) for own in pieces], dtype=torch.int64),
            separator,
        )

    def of_products(self, products: Regions, room: Lengths) -> tuple[Int64[Tensor, " tags"], Lengths]:
        """The tags of each product end to end, and how many; at most `room` of them.

        Raises: ValueError for regions without labels.
        """
        if products.labels is None:
            raise ValueError("tags need the labels of regions")
        labels = products.labels.cpu()
        named = (labels >= 0) & (labels < len(self.lengths))
        owners = products.owners.cpu()[named].repeat_interleave(self.lengths[labels[named]])
        tokens = self.tokens[places_of(self.lengths, labels[named])]
        counts = torch.bincount(owners, minlength=len(products.counts))
        fitting = positions(counts) < room[owners]
        return tokens[fitting], torch.minimum(counts, room.clamp(min=0))


def join_pairs(
    tokens: Int64[Tensor, " tokens"],
    lengths: Lengths,
    regions: Regions,
    *,
    tags: TagTable | None = None,
    tagged: Regions | None = None,
    longest: int = 512,
) -> CrossPairs:
    """Pairs of tokenised queries and products. With `tags` the labels' names and a [SEP] follow the words.

    `tagged`: the products whose labels are the tags, if they are not those of `regions`. Tags end where a pair would
    have more than `longest` tokens.
    """
    device = regions.features.device
    if tags is None:
        return CrossPairs(tokens.to(device), lengths, regions)
    names, counts = tags.of_products(regions if tagged is None else tagged, longest - 1 - lengths)
    pairs = torch.arange(len(lengths))
    owners = torch.cat([pairs.repeat_interleave(lengths), pairs.repeat_interleave(counts), pairs])
    order = torch.argsort(owners, stable=True)
    every = torch.cat([tokens.cpu(), names, torch.full_like(pairs, tags.separator)])[order]
    types = (order >= len(tokens)).long()
    return CrossPairs(every.to(device), lengths + counts + 1, regions, types.to(device))


def repeated(tokens: Int64[Tensor, " tokens"], pairs: int) -> tuple[Int64[Tensor, " every"], Lengths]:
    """One query's tokens for each of some pairs."""
    return tokens.repeat(pairs), torch.full((pairs,), len(tokens))


def pack_regions(regions: Regions, *, labels: bool) -> Regions:
    """Regions as an index keeps them, float16: features, the sides of the box as shares of the photo, the label.

    Raises: ValueError for regions without boxes, or without the labels asked for.
    """
    left, top, right, bottom, *_ = box_shares(regions).unbind(1)
    columns = [regions.features.half(), torch.stack([top, left, bottom, right], dim=1).half()]
    if labels:
        if regions.labels is None:
            raise ValueError("tags need the labels of regions")
        split = torch.stack([regions.labels // _BASE, regions.labels % _BASE], dim=1)
        columns.append(split.half())
    return Regions(torch.cat(columns, dim=1), regions.counts)


def unpack_regions(kept: Regions, feature_size: int, *, labels: bool) -> Regions:
    """What `pack_regions` packed, float32; photos are one pixel large."""
    values = kept.features.float()
    features, boxes, label = values.tensor_split([feature_size, feature_size + BOX_VALUES], dim=1)
    return Regions(
        features,
        kept.counts,
        boxes=boxes,
        photo_sizes=torch.ones(len(values), 2, dtype=torch.int64, device=values.device),
        labels=(label[:, 0] * _BASE + label[:, 1]).round().long() if labels else None,
    )
