"""How wrong is a cross-encoder: of pairs, of hidden words and regions, of which word belongs to which region?

Pure functions of scores and targets. Those of rows give a loss for each; the caller takes the mean. Knows no encoder.

Source: Chen et al. 2020, "UNITER", section 3; Li et al. 2020, "Oscar", section 4. Transport: Xie et al. 2018, "A Fast
Proximal Point Method for Computing Exact Wasserstein Distance", algorithm 1 with one inner step.

Legend of axes: groups = a right pair and its negatives; cells = every (token, region) of every pair, token by token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from shopwindow.model.packing import Lengths

MARGIN: Final = 0.2
PROXIMAL: Final = 0.5
"""Weight of the proximal term of transport."""
ROUNDS: Final = 50
_LEAST_LENGTH: Final = 1e-12


def margin_loss(
    scores: Float[Tensor, "groups candidates"], *, margin: float = MARGIN
) -> Float[Tensor, "groups negatives"]:
    """What each negative lacks to be `margin` below the right pair, which is the first; of logistic scores."""
    likely = torch.sigmoid(scores)
    return torch.clamp(margin + likely[:, 1:] - likely[:, :1], min=0)


def hardest(scores: Float[Tensor, " candidates"], count: int) -> Int64[Tensor, " chosen"]:
    """The places of the right pair, which is the first, and of the `count` negatives that score highest, best first.

    Of equal scores the earlier is harder.
    """
    order = torch.argsort(scores[1:], descending=True, stable=True)[:count] + 1
    return torch.cat([order.new_zeros(1), order])


def choice_loss(
    logits: Float[Tensor, "rows choices"], right: Int64[Tensor, " rows"]
) -> Float[Tensor, " rows"]:
    """Cross-entropy of each row: of match or not, of a hidden word, of the kind of a wrong pair."""
    return functional.cross_entropy(logits, right, reduction="none")


def feature_loss(
    values: Float[Tensor, "rows values"], wanted: Float[Tensor, "rows values"]
) -> Float[Tensor, "rows values"]:
    """Squared errors of the features of hidden regions."""
    return torch.square(values - wanted)


def class_loss(
    logits: Float[Tensor, "rows classes"], detected: Float[Tensor, "rows classes"]
) -> Float[Tensor, " rows"]:
    """Cross-entropy of hidden regions with their likeliest class; the background, class 0, is never wanted."""
    return choice_loss(logits, detected[:, 1:].argmax(dim=1) + 1)


def class_divergence(
    logits: Float[Tensor, "rows classes"], detected: Float[Tensor, "rows classes"]
) -> Float[Tensor, "rows classes"]:
    """The terms of the KL divergence of the model's classes from the detector's, of all classes. Their sum over a row
    is its divergence; UNITER takes the mean over all terms."""
    return functional.kl_div(logits.log_softmax(dim=1), detected, reduction="none")


@dataclass(frozen=True)
class Transport:
    """How the words of each pair are carried to its regions: the distance of a pair, and of each cell cost and plan."""

    distances: Float[Tensor, " pairs"]
    costs: Float[Tensor, " cells"]
    plan: Float[Tensor, " cells"]


def transport(
    words: Float[Tensor, "tokens hidden"],
    regions: Float[Tensor, "regions hidden"],
    lengths: Lengths,
    counts: Lengths,
    *,
    proximal: float = PROXIMAL,
    rounds: int = ROUNDS,
) -> Transport:
    """The least cost of carrying each pair's words, of equal mass, to its regions, of equal mass.

    A cell costs 1 - cosine. All pairs are solved at once, cell by cell, without padding. The plan is a constant of the
    gradient.
    """
    owners, token, region = _cells(lengths, counts, words.device)
    looks, sees = (functional.normalize(vectors, dim=1, eps=_LEAST_LENGTH) for vectors in (words, regions))
    costs = 1 - (looks[token] * sees[region]).sum(dim=1)
    word_mass, region_mass = (
        (1 / sizes).to(words).repeat_interleave(sizes.to(words.device)) for sizes in (lengths, counts)
    )
    with torch.no_grad():
        plan = _plan(costs / proximal, token, region, word_mass, region_mass, rounds)
    distances = costs.new_zeros(len(lengths)).index_add(0, owners, costs * plan)
    return Transport(distances, costs, plan)


def _plan(
    costs: Float[Tensor, " cells"],
    token: Int64[Tensor, " cells"],
    region: Int64[Tensor, " cells"],
    word_mass: Float[Tensor, " tokens"],
    region_mass: Float[Tensor, " regions"],
    rounds: int,
) -> Float[Tensor, " cells"]:
    """The plan after some rounds: each scales the last plan's rows and columns to their masses, one after the other."""
    kernel, plan, words = torch.exp(-costs), torch.ones_like(costs), word_mass
    for _ in range(rounds):
        plan = kernel * plan
        regions = region_mass / torch.zeros_like(region_mass).index_add(0, region, plan * words[token])
        words = word_mass / torch.zeros_like(word_mass).index_add(0, token, plan * regions[region])
        plan = regions[region] * plan * words[token]
    return plan


def _cells(
    lengths: Lengths, counts: Lengths, device: torch.device
) -> tuple[Int64[Tensor, " cells"], Int64[Tensor, " cells"], Int64[Tensor, " cells"]]:
    """The pair, the token and the region of every cell."""
    sizes = lengths * counts
    owners = torch.arange(len(lengths)).repeat_interleave(sizes)
    place = torch.arange(len(owners)) - (sizes.cumsum(0) - sizes)[owners]
    width = counts[owners]
    token = (lengths.cumsum(0) - lengths)[owners] + place // width
    region = (counts.cumsum(0) - counts)[owners] + place % width
    return owners.to(device), token.to(device), region.to(device)


def alignment_loss(distances: Float[Tensor, " pairs"], match: Int64[Tensor, " pairs"]) -> Float[Tensor, ""]:
    """The distances of right pairs minus those of wrong ones, a pair's mean. `match`: 1 right, 0 wrong."""
    return (distances * (2 * match - 1)).mean()
