"""Which word of a query looks at which box of a photo?

By occlusion, so for any model whose scores can be taken without a word or a region:
weight[w, r] = s(all) - s(without w) - s(without r) + s(without both): how much of the score word w and region r
give together beyond what each gives alone. A photo with a single region has none left without it; there the
word's whole contribution, s(all) - s(without w), goes to that region. One forward pass of each tower.

Source: the second difference is the pairwise interaction of Grabisch and Roubens 1999, and occlusion that of
Zeiler and Fergus 2013.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import torch
from jaxtyping import Float16, Float64

from shopwindow.model.bundle import Bundle
from shopwindow.model.dual import encode_regions
from shopwindow.search.hits import Explanation

_IDEOGRAPH: Final = "\u2e80-\u9fff\uf900-\ufaff"
# Words are parted by spaces; of scripts without spaces every sign is a word, as in BERT's tokens.
_WORD: Final = re.compile(rf"[{_IDEOGRAPH}]|[^\s{_IDEOGRAPH}]+")
MOST_WORDS: Final = 64


def explain(bundle: Bundle, words: str, regions: Float16[np.ndarray, "regions features"]) -> Explanation:
    """The weights of the query's first MOST_WORDS words with the regions of a photo.

    Raises: ValueError for no words.
    """
    spans = [match.span() for match in _WORD.finditer(words)][:MOST_WORDS]
    if not spans:
        raise ValueError("no words to explain")
    texts = [words, *(words[:start] + " " + words[end:] for start, end in spans)]
    scores = bundle.encode_queries(texts).astype(np.float64) @ _without_each(bundle, regions).T
    weights = interactions(scores)
    return Explanation(
        words=tuple(words[start:end] for start, end in spans),
        weights=tuple(tuple(row) for row in weights.tolist()),
        score=float(scores[0, 0]),
    )


def interactions(scores: Float64[np.ndarray, "words_1 photos"]) -> Float64[np.ndarray, "words regions"]:
    """The weights from scores whose first row and column are of the whole query and photo, the others each without
    one word or region; a single column is that of a photo with one region."""
    if scores.shape[1] == 1:
        alone: np.ndarray = scores[:1] - scores[1:]
        return alone
    together: np.ndarray = scores[:1, :1] - scores[1:, :1] - scores[:1, 1:] + scores[1:, 1:]
    return together


def _without_each(bundle: Bundle, regions: Float16[np.ndarray, "regions features"]) -> np.ndarray:
    """The vector of the photo, and those of it without each region; only the first for a single region."""
    count = len(regions)
    sets = [np.arange(count)]
    if count > 1:
        sets += [np.delete(np.arange(count), region) for region in range(count)]
    lengths = torch.tensor([len(one) for one in sets])
    return encode_regions(bundle.model, torch.from_numpy(regions[np.concatenate(sets)]), lengths)
