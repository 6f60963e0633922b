"""How long are the sequences of the competition? Lengths drawn like its queries and photos.

Words of a query: mean 3.9, here 2 + Poisson(1.9); tokens are two more ([CLS] and [SEP]), pieces of words not counted.
Regions of a photo: mean 3.8, at most 91; a third of the photos has one. Here one photo in ten is drawn from a longer
geometric distribution than the others. Source: counts of the competition's files by its participants.
"""

from __future__ import annotations

from typing import Final

import numpy as np

LONGEST_QUERY: Final = 30
"""Tokens to which the seed pads a query; its longest has 29."""
MOST_REGIONS: Final = 40
"""Regions to which the seed pads a photo; it drops training photos with more."""
_MOST: Final = 91


def query_lengths(count: int, rng: np.random.Generator) -> np.ndarray:
    """Tokens of `count` queries."""
    return np.minimum(2 + rng.poisson(1.9, count), LONGEST_QUERY - 3) + 2


def photo_lengths(count: int, rng: np.random.Generator, *, most: int = MOST_REGIONS) -> np.ndarray:
    """Regions of `count` photos, none with more than `most`: a longer one is drawn again, as the seed drops it."""
    out = np.empty(0, np.int64)
    while len(out) < count:
        crowded = rng.random(count) < 0.1
        drawn = rng.geometric(np.where(crowded, 1 / 11.0, 1 / 3.0))
        out = np.concatenate([out, drawn[drawn <= min(most, _MOST)]])
    return out[:count]
