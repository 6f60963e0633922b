"""What do the first products of a search score when they are looked at together, or more closely?

The first candidates are a pool: late interaction scores their regions word by word, a pool operator their vectors with
each other. The scores are those of `rank` for the same pool. Knows no index; the engine hands it candidates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped

from shopwindow.data.regions import Regions
from shopwindow.model.bundle import Bundle
from shopwindow.model.rank import second_scores
from shopwindow.ranking.operators import Operator

LATE: Final = "late"
Reranking = Literal["late"] | Operator
"""`late`: the model's second score, words against regions, is added. An operator: scores of the vectors as a pool."""


@dataclass(frozen=True)
class Candidates:
    """The first products of a search by rising id, which settles an operator's ties, and their vectors."""

    ids: Shaped[np.ndarray, " candidates"]
    vectors: Float32[np.ndarray, "candidates hidden"]


def parse_reranking(text: str) -> Reranking:
    """`late`, or an operator as `Operator.parse` reads it: `smooth:0.7,0.2,0.1`, `expand:5,3`, `reciprocal:20,6,0.3`.

    Raises: ValueError saying what can be written.
    """
    if text.strip() == LATE:
        return LATE
    try:
        return Operator.parse(text)
    except ValueError as error:
        raise ValueError(f"{error}; or {LATE}, where the model has late interaction") from error


def check_reranking(how: Reranking, bundle: Bundle) -> None:
    """Raises: ValueError for `late` with a model that has none, or an operator with one that has: its two scores belong
    together."""
    has_late = bundle.model.late is not None
    if how == LATE and not has_late:
        raise ValueError("re-ranking late: this model has no late interaction; the recipe late has")
    if how != LATE and has_late:
        raise ValueError(f"re-ranking {how}: a model with late interaction takes no operator, only {LATE}")


def pool_scores(
    how: Reranking,
    bundle: Bundle,
    words: str,
    vector: Float32[np.ndarray, " hidden"],
    candidates: Candidates,
    photos: Iterable[tuple[Int64[np.ndarray, " some"], Regions]],
    *,
    projected: bool = False,
) -> Float64[np.ndarray, " candidates"]:
    """The new scores of the candidates. `photos`: the regions of them all, in any pieces, each with the places of its
    candidates; asked for by `late` only. `projected`: they are those of `project_regions` already.

    Cost of `late`: words x regions x width operations, and where they are not projected, regions x features x width.
    Raises: ValueError as `check_reranking`.
    """
    check_reranking(how, bundle)
    if isinstance(how, Operator):
        return how(vector, candidates.vectors)
    scores: Float64[np.ndarray, " candidates"] = np.einsum(
        "ch,h->c", candidates.vectors.astype(np.float64), vector.astype(np.float64)
    )
    for places, some in photos:
        scores[places] += second_scores(bundle.model, bundle.tokenizer, words, some, projected=projected)
    return scores
