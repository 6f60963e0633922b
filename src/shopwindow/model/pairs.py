"""How do the pairs of a step become vectors: at once, or chunk by chunk; each one, or equal ones once?

A chunk is encoded, its activations are forgotten, and the backward pass encodes it again: memory is that of one chunk,
whatever the batch. The dropout of a chunk is seeded by its number in the batch, so the second time is as the first, on
whichever process. Knows no loss.

Source: Gao et al. 2021, "Scaling deep contrastive learning batch size under memory limited setup" (GradCache): the
gradients of the loss with respect to all vectors first, then each chunk again with its own. Here torch's checkpoints
do the second pass.

Legend of axes: pairs = of a batch, tokens = of their queries, end to end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from shopwindow.data.regions import Regions, places_of
from shopwindow.model.encoder import PartsEncoder
from shopwindow.model.packing import Lengths


@dataclass(frozen=True)
class Pairs:
    """Pairs ready to be encoded. Numbers, equal for equal queries and for equal products, stay on the host. `words`
    are the queries as typed, for a model with a pretrained part."""

    tokens: Int64[Tensor, " tokens"]
    lengths: Lengths
    photos: Regions
    texts: Int64[Tensor, " pairs"]
    products: Int64[Tensor, " pairs"]
    words: list[str] | None = None

    def part(self, start: int, end: int) -> Pairs:
        """The pairs from the `start`-th to before the `end`-th: views, no copies."""
        first, last = int(self.lengths[:start].sum()), int(self.lengths[:end].sum())
        return Pairs(
            self.tokens[first:last],
            self.lengths[start:end],
            self.photos.part(start, end),
            self.texts[start:end],
            self.products[start:end],
            self.words and self.words[start:end],
        )


def encode_pairs(
    model: PartsEncoder, pairs: Pairs, *, seed: int, first_part: int = 0, chunk: int = 0
) -> tuple[Float[Tensor, "pairs values"], Float[Tensor, "pairs values"]]:
    """The vectors of queries and of products. `chunk`: pairs encoded at a time, 0 for all at once.

    Equal queries, and equal products, of a chunk are encoded once where that side drops nothing. The p-th chunk of a
    batch is seeded by (`seed`, p), counted from `first_part`; the generator is left where the last chunk left it.
    """
    if not chunk:
        return _encoded(model, pairs, part_seed(seed, first_part))
    texts, photos = [], []
    for number, start in enumerate(range(0, len(pairs.lengths), chunk)):
        own = pairs.part(start, min(start + chunk, len(pairs.lengths)))
        work = partial(_encoded, model, own, part_seed(seed, first_part + number))
        text, photo = checkpoint(work, use_reentrant=False, preserve_rng_state=False)
        texts.append(text)
        photos.append(photo)
    return torch.cat(texts), torch.cat(photos)


def part_seed(seed: int, part: int) -> int:
    """The seed of a chunk of a step; that of the first is the step's own.

    It is mixed into 32 bits, because torch's generator of a CPU keeps the lower 32 alone. Chunks whose seeds differ
    only above them would drop the same values.
    """
    return int(np.random.SeedSequence([seed, part]).generate_state(1)[0]) if part else seed


def _encoded(model: PartsEncoder, pairs: Pairs, seed: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    text_drops, photo_drops = drops(model)
    tokens, lengths, regions, words = pairs.tokens, pairs.lengths, pairs.photos, pairs.words
    text_distinct = None if text_drops else _distinct(pairs.texts)
    if text_distinct is not None:
        rows, text_places = text_distinct
        tokens, lengths = tokens[places_of(lengths, rows).to(tokens.device)], lengths[rows]
        words = words and [words[row] for row in rows.tolist()]
    text = model.encode_text(tokens, lengths, words)
    photo_distinct = None if photo_drops else _distinct(pairs.products)
    if photo_distinct is not None:
        regions = regions.take(photo_distinct[0])
    photo = model.encode_photo(regions)
    if text_distinct is not None:
        text = text[text_places.to(text.device)]
    if photo_distinct is not None:
        photo = photo[photo_distinct[1].to(photo.device)]
    return text, photo


def drops(model: PartsEncoder) -> tuple[bool, bool]:
    """Whether the text side, and the photo side, drop anything while training: equal inputs then differ."""
    text = any(tower.size.dropout > 0 for tower in model.text_towers)
    photo = any(tower.size.dropout > 0 for tower in model.photo_towers)
    return text, photo or any(view.dropout.p > 0 for view in model.linear_views)


def _distinct(
    numbers: Int64[Tensor, " pairs"],
) -> tuple[Int64[Tensor, " distinct"], Int64[Tensor, " pairs"]] | None:
    """The first place of each distinct number, and for each number which of these is its; None where all differ."""
    _, rows, places = np.unique(numbers.cpu().numpy(), return_index=True, return_inverse=True)
    if len(rows) == len(numbers):
        return None
    return torch.from_numpy(rows), torch.from_numpy(places)
