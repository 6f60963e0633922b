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

from shopwindow.data.regions import Regions
from shopwindow.model.dual import DualEncoder
from shopwindow.model.packing import Lengths, places_of


@dataclass(frozen=True)
class Pairs:
    """Pairs ready to be encoded. Numbers, equal for equal queries and for equal products, stay on the host."""

    tokens: Int64[Tensor, " tokens"]
    lengths: Lengths
    photos: Regions
    texts: Int64[Tensor, " pairs"]
    products: Int64[Tensor, " pairs"]

    def part(self, start: int, end: int) -> Pairs:
        """The pairs from the `start`-th to before the `end`-th: views, no copies."""
        first, last = int(self.lengths[:start].sum()), int(self.lengths[:end].sum())
        return Pairs(
            self.tokens[first:last],
            self.lengths[start:end],
            self.photos.part(start, end),
            self.texts[start:end],
            self.products[start:end],
        )


def encode_pairs(
    model: DualEncoder,
    pairs: Pairs,
    *,
    seed: int,
    first_part: int = 0,
    chunk: int = 0,
    share_masks: bool = False,
) -> tuple[Float[Tensor, "pairs hidden"], Float[Tensor, "pairs hidden"]]:
    """The vectors of queries and of photos. `chunk`: pairs encoded at a time, 0 for all at once.

    Equal queries, and equal products, of a chunk are encoded once where that changes nothing: on a side without
    dropout, or, with `share_masks`, on both; then equal ones share a mask. The p-th part of a batch is seeded by
    (`seed`, p), counted from `first_part`; the generator is left where the last part left it.
    """
    if not chunk:
        return _encoded(model, pairs, part_seed(seed, first_part), share_masks)
    texts, photos = [], []
    for number, start in enumerate(range(0, len(pairs.lengths), chunk)):
        work = partial(
            _encoded,
            model,
            pairs.part(start, min(start + chunk, len(pairs.lengths))),
            part_seed(seed, first_part + number),
            share_masks,
        )
        text, photo = checkpoint(work, use_reentrant=False, preserve_rng_state=False)
        texts.append(text)
        photos.append(photo)
    return torch.cat(texts), torch.cat(photos)


def part_seed(seed: int, part: int) -> int:
    """The seed of a part of a step; that of the first is the step's own.

    Mixed into 32 bits: of a larger number torch's generator of a CPU keeps the lower 32, so that parts whose seeds
    differ above them alone would drop the same values.
    """
    return int(np.random.SeedSequence([seed, part]).generate_state(1)[0]) if part else seed


def _encoded(model: DualEncoder, pairs: Pairs, seed: int, share_masks: bool) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    calm_text, calm_photo = without_chance(model)
    text = _texts_once(model, pairs) if calm_text or share_masks else None
    if text is None:
        text = model.encode_text(pairs.tokens, pairs.lengths)
    photo = _photos_once(model, pairs) if calm_photo or share_masks else None
    if photo is None:
        photo = model.encode_photo(pairs.photos)
    return text, photo


def without_chance(model: DualEncoder) -> tuple[bool, bool]:
    """Whether the text side, and the photo side, give equal inputs equal vectors while training: nothing is dropped."""
    text = model.text is None or model.text.size.dropout == 0
    photo = model.photo is None or model.photo.size.dropout == 0
    return text, photo and all(view.dropout_share == 0 for view in model.views)


def _texts_once(model: DualEncoder, pairs: Pairs) -> Tensor | None:
    distinct = _distinct(pairs.texts)
    if distinct is None:
        return None
    rows, places = distinct
    tokens = pairs.tokens[places_of(pairs.lengths, rows).to(pairs.tokens.device)]
    vectors: Tensor = model.encode_text(tokens, pairs.lengths[rows])
    return vectors[places.to(vectors.device)]


def _photos_once(model: DualEncoder, pairs: Pairs) -> Tensor | None:
    distinct = _distinct(pairs.products)
    if distinct is None:
        return None
    rows, places = distinct
    vectors: Tensor = model.encode_photo(pairs.photos.take(rows))
    return vectors[places.to(vectors.device)]


def _distinct(
    numbers: Int64[Tensor, " pairs"],
) -> tuple[Int64[Tensor, " distinct"], Int64[Tensor, " pairs"]] | None:
    """The first place of each distinct number, and for each number which of these is its; None where all differ."""
    _, rows, places = np.unique(numbers.cpu().numpy(), return_index=True, return_inverse=True)
    if len(rows) == len(numbers):
        return None
    return torch.from_numpy(rows), torch.from_numpy(places)
