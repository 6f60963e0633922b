"""What does a cross-encoder learn from right pairs, and how wrong is it with a group of pairs?

The tasks of the pre-trainings of UNITER and Oscar, over packed pairs; each draws from the generator that it is given.
UNITER takes one task a step, Oscar both of its own. Knows no files and no step.

Source: as `cross_losses.py`; shares of hidden tokens that become [MASK], another token, or stay: BERT.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from shopwindow.data.regions import Regions
from shopwindow.model.cross import CrossPairs
from shopwindow.model.cross_heads import CrossModel
from shopwindow.model.cross_inputs import TagTable, join_pairs
from shopwindow.model.cross_losses import (
    alignment_loss,
    choice_loss,
    class_loss,
    feature_loss,
    margin_loss,
    transport,
)
from shopwindow.model.cross_recipe import PretrainRecipe, RankLoss
from shopwindow.model.packing import Lengths

UNITER_TASKS: Final = ("words", "features", "classes", "match")
_AS_MASK: Final = 0.8
_AS_OTHER: Final = 0.9
WRONG_TAGS: Final = 1
WRONG_WORDS: Final = 2


@dataclass(frozen=True)
class Spelling:
    """The tokens that are no words: [MASK], and the `special` ones that are never hidden. `vocabulary`: how many."""

    mask: int
    special: tuple[int, ...]
    vocabulary: int


@dataclass(frozen=True)
class PairsAtHand:
    """A batch: tokens of the queries end to end, their products, and for each pair one that surely does not fit.

    `others` names a pair of the batch; a pair for which there is none names itself.
    """

    tokens: Int64[Tensor, " tokens"]
    lengths: Lengths
    regions: Regions
    others: Int64[Tensor, " pairs"]


def pretraining_loss(
    model: CrossModel,
    batch: PairsAtHand,
    rng: np.random.Generator,
    *,
    recipe: PretrainRecipe,
    spelling: Spelling,
    tags: TagTable | None,
) -> Float[Tensor, ""]:
    """The loss of one step of pre-training."""
    longest = model.body.longest
    if model.kind == "oscar":
        return _oscar_loss(model, *_contrasted(batch, rng, tags, longest), rng, recipe, spelling)
    task = UNITER_TASKS[int(rng.integers(len(UNITER_TASKS)))]
    if task == "match":
        return _matching_loss(model, batch, rng, recipe.alignment)
    pairs = join_pairs(batch.tokens, batch.lengths, batch.regions)
    if task == "words":
        return _word_loss(model, *hide_words(pairs, rng, share=recipe.hidden_words, spelling=spelling))
    masked = hide(batch.regions.counts, rng, share=recipe.hidden_regions).to(model.device)
    hidden = model.body(replace(pairs, masked=masked)).regions[masked]
    if task == "features":
        return feature_loss(model.feature_values(hidden), batch.regions.features[masked].float()).mean()
    logits = model.heads["classes"](hidden)
    assert batch.regions.labels is not None
    known = batch.regions.labels[masked].clamp(max=logits.shape[1] - 2) + 1
    return class_loss(logits, functional.one_hot(known, logits.shape[1]).float()).mean()


def _matching_loss(
    model: CrossModel, batch: PairsAtHand, rng: np.random.Generator, alignment: float
) -> Float[Tensor, ""]:
    """Half of the texts get another's photo; words of right pairs are to lie near their regions."""
    photos, right = _exchanged(batch.others, rng.random(len(batch.lengths)) < 0.5)
    pairs = join_pairs(batch.tokens, batch.lengths, batch.regions.take(photos))
    out = model.body(pairs)
    match = right.long().to(model.device)
    loss = choice_loss(model.heads["match"](out.pooled).float(), match).mean()
    if not alignment:
        return loss
    carried = transport(out.words.float(), out.regions.float(), pairs.lengths, pairs.regions.counts)
    return loss + alignment * alignment_loss(carried.distances, match)


def _exchanged(
    others: Int64[Tensor, " pairs"], chosen: np.ndarray
) -> tuple[Int64[Tensor, " pairs"], Bool[Tensor, " pairs"]]:
    """Which pair each one takes something of: another where it is chosen; and whether it is still its own."""
    own = torch.arange(len(others))
    taken = torch.where(torch.from_numpy(chosen), others, own)
    return taken, taken == own


def _contrasted(
    batch: PairsAtHand, rng: np.random.Generator, tags: TagTable | None, longest: int
) -> tuple[CrossPairs, Int64[Tensor, " pairs"]]:
    """Oscar's pairs: half right, a quarter with another's tags, a quarter with another's words; and which is which."""
    draw = rng.random(len(batch.lengths))
    tagged, own_tags = _exchanged(batch.others, (draw >= 0.5) & (draw < 0.75))
    worded, own_words = _exchanged(batch.others, draw >= 0.75)
    kinds = WRONG_TAGS * (~own_tags).long() + WRONG_WORDS * (~own_words).long()
    texts = torch.split(batch.tokens, batch.lengths.tolist())
    pairs = join_pairs(
        torch.cat([texts[row] for row in worded.tolist()]),
        batch.lengths[worded],
        batch.regions,
        tags=tags,
        tagged=batch.regions.take(tagged),
        longest=longest,
    )
    return pairs, kinds


def _oscar_loss(
    model: CrossModel,
    pairs: CrossPairs,
    kinds: Int64[Tensor, " pairs"],
    rng: np.random.Generator,
    recipe: PretrainRecipe,
    spelling: Spelling,
) -> Float[Tensor, ""]:
    hidden, targets = hide_words(pairs, rng, share=recipe.hidden_words, spelling=spelling)
    out = model.body(hidden)
    logits = model.heads["contrast"](out.pooled).float()
    of_pairs = choice_loss(logits, kinds.to(model.device).clamp(max=logits.shape[1] - 1)).mean()
    places = targets >= 0
    return of_pairs + choice_loss(model.word_scores(out.words[places]).float(), targets[places]).mean()


def _word_loss(model: CrossModel, pairs: CrossPairs, targets: Int64[Tensor, " tokens"]) -> Float[Tensor, ""]:
    places = targets >= 0
    words = model.body(pairs).words[places]
    return choice_loss(model.word_scores(words).float(), targets[places]).mean()


def hide_words(
    pairs: CrossPairs, rng: np.random.Generator, *, share: float, spelling: Spelling
) -> tuple[CrossPairs, Int64[Tensor, " tokens"]]:
    """The pairs with some tokens hidden, and what stood there; -1 where nothing is hidden.

    Of those hidden 80 % are [MASK], 10 % any other token, 10 % stay as they are.
    """
    tokens = pairs.tokens.cpu()
    words = ~torch.isin(tokens, torch.tensor(spelling.special))
    hidden = hide(pairs.lengths, rng, share=share, of=words)
    draw = torch.from_numpy(rng.random(len(tokens)))
    drawn = torch.from_numpy(rng.integers(0, spelling.vocabulary, len(tokens)))
    shown = torch.where(draw < _AS_MASK, spelling.mask, torch.where(draw < _AS_OTHER, drawn, tokens))
    device = pairs.tokens.device
    changed = replace(pairs, tokens=torch.where(hidden, shown, tokens).to(device))
    return changed, torch.where(hidden, tokens, -1).to(device)


def hide(
    lengths: Lengths, rng: np.random.Generator, *, share: float, of: Bool[Tensor, " members"] | None = None
) -> Bool[Tensor, " members"]:
    """Which members of sequences are hidden: a share of those that may be (`of`), one of each sequence at least."""
    draw = torch.from_numpy(rng.random(int(lengths.sum())))
    if of is not None:
        draw[~of] = 2.0
    owners = torch.arange(len(lengths)).repeat_interleave(lengths)
    least = torch.full((len(lengths),), 2.0, dtype=draw.dtype).scatter_reduce(0, owners, draw, "amin")
    return (draw < 2) & ((draw < share) | (draw == least[owners]))


def ranking_loss(
    scores: Float[Tensor, "groups candidates"], *, name: RankLoss, margin: float
) -> Float[Tensor, ""]:
    """The mean loss of groups whose first pair is the right one."""
    scores = scores.float()
    right = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
    if name == "margin":
        return margin_loss(scores, margin=margin).mean()
    if name == "softmax":
        return choice_loss(scores, right).mean()
    wanted = functional.one_hot(right, scores.shape[1]).float()
    return functional.binary_cross_entropy_with_logits(scores, wanted)
