"""How many of the texts that a training mined as hard negatives are true after all, and not known to be?

After each mining one text of every product that has several is hidden, and it is asked how often mining without it
brings it back. Asked of a sample of texts, with the vectors that the mining has made: it costs a share of the mining
that shrinks as the data grow. Knows no training.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float32, Int64

from shopwindow.model.mining import (
    MARGIN,
    centres,
    contamination,
    hide_texts,
    known_share,
    mine,
    nearest_texts,
    same_thing,
)

TEXTS_ASKED: Final = 2_000
"""At most: of 2,000 texts a share of 1 % has a standard error of some 0.2 %."""
CANNOT_BE_SAID: Final = (
    "no product has texts of two meanings that nothing else tells to be one thing, and that others have too"
)


@dataclass(frozen=True)
class Contamination:
    """What one mined table holds. `share` is the estimated share that is true and not known to be, if each text has one
    true text of which nobody knows (`mining.contamination`); None where `why` says that it cannot be said.

    `known` is the share that would be known to be true, were it not left out. `relations` were hidden, of `texts`
    texts; `seconds` is what finding out took.
    """

    epoch: int
    share: float | None
    known: float | None
    relations: int
    texts: int
    seconds: float
    why: str = ""


def estimate(
    vectors: Float32[np.ndarray, "texts hidden"],
    products: Float32[np.ndarray, "products hidden"],
    pair_texts: Int64[np.ndarray, " pairs"],
    pair_products: Int64[np.ndarray, " pairs"],
    meanings: Int64[np.ndarray, " texts"],
    *,
    epoch: int,
    seed: int,
    count: int,
    margin: float | None = MARGIN,
    at_most: int = TEXTS_ASKED,
    device: torch.device | str = "cpu",
) -> Contamination:
    """The contamination of the table that `mine` makes of these, from at most `at_most` of its texts.

    What is hidden, and who is asked, follows from (seed, epoch). Cost: two minings of the texts asked.
    """
    start = time.monotonic()
    rng = np.random.default_rng([seed, epoch])
    hidden, relations = hide_texts(pair_texts, pair_products, meanings, rng)
    # A text of which no pair is left cannot be mined; one whose truth is not known still has pairs of its own.
    mineable = np.bincount(pair_texts[~hidden], minlength=len(meanings)) > 0
    relations = relations[mineable[relations[:, 1]]]
    if not len(relations):
        return Contamination(epoch, None, None, 0, 0, round(time.monotonic() - start, 3), CANNOT_BE_SAID)
    asked = np.unique(relations[:, 0])
    if len(asked) > at_most:
        asked = np.sort(rng.choice(asked, at_most, replace=False))
        relations = relations[np.isin(relations[:, 0], asked)]
    found = mine(
        vectors,
        products,
        pair_texts[~hidden],
        pair_products[~hidden],
        meanings,
        count=count,
        margin=margin,
        asked=asked,
        device=device,
    )
    own = centres(products, pair_texts, pair_products, texts=len(vectors))
    everything = nearest_texts(vectors, own, count, asked=asked, device=device)
    rows = np.searchsorted(asked, relations[:, 0])
    return Contamination(
        epoch,
        contamination(found, np.stack([rows, relations[:, 1]], axis=1)),
        known_share(everything, same_thing(pair_texts, pair_products, meanings, of=asked)),
        len(relations),
        len(asked),
        round(time.monotonic() - start, 3),
    )


def told(found: Sequence[Contamination]) -> str:
    """One line about the tables of a training; empty where none was mined."""
    if not found:
        return ""
    last, shares = found[-1], [one.share for one in found if one.share is not None]
    if last.share is None or last.known is None:
        return f"mined negatives: how many are true cannot be said, {last.why}"
    return (
        f"mined negatives: an estimated {last.share:.1%} are true and not known to be (the last of {len(found)} tables;"
        f" {min(shares):.1%} to {max(shares):.1%}), if one such text of each query is missing; {last.known:.1%} would"
        f" be known ones, were they not left out ({last.relations:,} hidden relations of {last.texts:,} texts,"
        f" {sum(one.seconds for one in found):.1f} s in all)"
    )
