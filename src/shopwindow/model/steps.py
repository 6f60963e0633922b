"""What does one step of a training compute, and how do the weights follow it?

The batch of a step and its dropout follow from (seed, step) alone. Knows no files and no validation.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import lightning
import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from shopwindow.data.batches import PairBatch, PairBatches
from shopwindow.data.dataset import Dataset
from shopwindow.data.queries import augment, numbers_of
from shopwindow.data.regions import Regions
from shopwindow.model.bags import WordBag, names_of
from shopwindow.model.blockwise import blockwise_loss
from shopwindow.model.dual import DualEncoder
from shopwindow.model.losses import (
    focal_loss,
    margin_softmax_loss,
    multi_similarity_loss,
    siglip_loss,
    sigmoid_loss,
    softmax_loss,
)
from shopwindow.model.negatives import Cells, KnownPairs, choose_cells, count_false_negatives
from shopwindow.model.pairs import Pairs, encode_pairs
from shopwindow.model.processes import gathered
from shopwindow.model.recipe import Recipe, Weighting
from shopwindow.model.state import TrainingState
from shopwindow.model.tokens import tokenize
from shopwindow.model.towers import compile_parts

_STEP_SEEDS: Final = 1_000_003
_WORDING: Final = 5
NAMED_AT_ONCE: Final = 1 << 22
"""Pairs x names of the loss of names that are in memory at once where a recipe says chunk: some 100 MB."""
LARGEST_SCALE: Final = 100.0
"""Of the learned scale: after each step it is set back to this, as CLIP does."""


class TokenTable:
    """All queries of a dataset tokenised once, as the model spells them; texts then equal have equal numbers."""

    def __init__(self, tokenizer: Tokenizer, texts: list[str], *, longest: int) -> None:
        self.texts = texts
        self._tokenizer = tokenizer
        self._longest = longest
        self._tokens, self._lengths = tokenize(tokenizer, texts, longest=longest)
        self._starts = self._lengths.cumsum(0) - self._lengths
        self.numbers = torch.from_numpy(numbers_of(texts))
        self._first = torch.from_numpy(np.unique(self.numbers.numpy(), return_index=True)[1])

    def rows(
        self, queries: Int64[Tensor, " queries"]
    ) -> tuple[Int64[Tensor, " tokens"], Int64[Tensor, " queries"]]:
        """The tokens of some queries end to end, and how many each has."""
        lengths = self._lengths[queries]
        before = lengths.cumsum(0) - lengths
        shift = torch.repeat_interleave(self._starts[queries] - before, lengths)
        return self._tokens[torch.arange(int(lengths.sum())) + shift], lengths

    def rows_of_numbers(
        self, numbers: Int64[Tensor, " texts"]
    ) -> tuple[Int64[Tensor, " tokens"], Int64[Tensor, " texts"]]:
        """The tokens of texts by their numbers."""
        return self.rows(self._first[numbers.cpu()])

    def reworded(
        self, queries: Int64[Tensor, " queries"], rng: np.random.Generator, *, dropout: float, shuffle: float
    ) -> tuple[Int64[Tensor, " tokens"], Int64[Tensor, " queries"]]:
        """The same with words left out or in another order (`data.queries.augment`)."""
        texts = [self.texts[query] for query in queries.tolist()]
        changed = [" ".join(augment(text.split(), rng, dropout=dropout, shuffle=shuffle)) for text in texts]
        return tokenize(self._tokenizer, changed, longest=self._longest)


class Steps(lightning.LightningModule):
    """What one step computes and how weights follow it.

    `average` holds the exponential mean of the weights where the recipe has one. A step gives its loss and how many
    cells of the batch plain in-batch training would call negatives although they are known pairs.
    """

    def __init__(
        self,
        model: DualEncoder,
        recipe: Recipe,
        table: TokenTable,
        batches: PairBatches,
        state: TrainingState | None,
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.table = table
        self.first_step = batches.start
        self.steps = batches.steps
        self.steps_per_epoch = batches.steps_per_epoch
        self.average = WeightAverage(model, recipe.average) if recipe.average else None
        if self.average is not None and state is not None:
            self.average.weights = state.average()
        self._state = state
        self._known = known_pairs(batches.dataset, table, recipe.weighting)
        model.log_scale.requires_grad_(recipe.loss not in ("sigmoid", "focal", "multi-similarity"))
        model.score_bias.requires_grad_(recipe.loss == "siglip")
        at_once = NAMED_AT_ONCE if recipe.chunk else 0
        self._names = NamesLoss(table, self._known, at_once=at_once) if recipe.naming_loss else None
        if recipe.compiled:
            compile_parts(model)

    def transfer_batch_to_device(
        self, batch: PairBatch, device: torch.device, dataloader_idx: int
    ) -> tuple[Any, ...]:
        """Rows of queries, their numbers, rows of products, weights, this process's share and its photos, and how many
        false negatives there are."""
        queries, products = torch.from_numpy(batch.queries), torch.from_numpy(batch.products)
        numbers = self.table.numbers[queries]
        false_negatives = count_false_negatives(numbers, products, self._known)
        weights = torch.from_numpy(weighted(batch.weights, self.recipe.weighting))
        return queries, numbers, products, weights, batch.share, batch.regions.to(device), false_negatives

    def training_step(self, batch: tuple[Any, ...], index: int) -> dict[str, Any]:
        """The loss of a batch. Dropout and wording are seeded by the step: they are part of what a step is."""
        step, recipe = self.first_step + index, self.recipe
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = learning_rate(step, self.steps, recipe)
        queries, numbers, products, weights, share, photos, false_negatives = batch
        pairs = self._pairs(step, queries, numbers, products, share, photos)
        count = len(pairs.lengths)
        parts = math.ceil(count / recipe.chunk) if recipe.chunk else 1
        own_text, own_photo = encode_pairs(
            self.model,
            pairs,
            seed=recipe.seed * _STEP_SEEDS + step,
            first_part=share.start // count * parts,
            chunk=recipe.chunk,
            share_masks=recipe.share_masks,
        )
        known = self._known
        if recipe.chunk and recipe.masking == "known":
            known = known.among(numbers.cpu().numpy(), products.cpu().numpy())
        late = None
        if self.model.late is not None:
            late = self.model.late_scores(pairs.tokens, pairs.lengths, photos)

        def cells_of(rows: slice, columns: slice) -> Cells:
            return choose_cells(
                numbers,
                products,
                masking=recipe.masking,
                positives=recipe.positives,
                known=known,
                weights=weights,
                rows=rows,
                columns=columns,
            ).to(own_photo.device)

        if recipe.chunk:
            loss = blockwise_loss(self.model, recipe, own_text, own_photo, cells_of)
        else:
            text, photo = gathered(own_text), gathered(own_photo)
            loss = batch_loss(self.model, recipe, text, photo, cells_of(slice(None), slice(None)), late)
        if self._names is not None:
            loss = loss + recipe.naming_loss * self._names(self.model, gathered(own_photo), numbers, products)
        return {"loss": loss, "false_negatives": false_negatives}

    def _pairs(
        self, step: int, queries: Tensor, numbers: Tensor, products: Tensor, share: slice, photos: Regions
    ) -> Pairs:
        """What this process encodes of a step. Where queries are worded anew, none counts as another's equal."""
        tokens, lengths = self._worded(queries, step)
        first, last = int(lengths[: share.start].sum()), int(lengths[: share.stop].sum())
        worded = self.recipe.word_dropout or self.recipe.word_shuffle
        return Pairs(
            tokens[first:last].to(photos.features.device),
            lengths[share],
            photos,
            torch.arange(len(lengths))[share] if worded else numbers[share],
            products[share],
        )

    def _worded(
        self, queries: Int64[Tensor, " pairs"], step: int
    ) -> tuple[Int64[Tensor, " tokens"], Int64[Tensor, " pairs"]]:
        recipe = self.recipe
        if not (recipe.word_dropout or recipe.word_shuffle):
            return self.table.rows(queries)
        rng = np.random.default_rng([recipe.seed, step, _WORDING])
        return self.table.reworded(queries, rng, dropout=recipe.word_dropout, shuffle=recipe.word_shuffle)

    @property
    def _fused(self) -> bool:
        """Whether one kernel steps all weights; Lightning does not clip gradients of mixed precision before one."""
        return not (self.recipe.gradient_clip and self.trainer.precision != "32-true")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, or AdamW where the recipe decays weights (matrices only), with a resumed training's moments."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        matrices = [parameter for parameter in trained if parameter.ndim > 1]
        others = [parameter for parameter in trained if parameter.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": self.recipe.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=self.recipe.learning_rate,
            eps=self.recipe.adam_epsilon,
            fused=self._fused,
        )
        if self._state is not None:
            self._state.load_optimizer(optimizer)
        return optimizer


class WeightAverage:
    """The exponential moving mean of a model's weights: after step t it keeps min(decay, (1 + t) / (10 + t)) of itself.

    Source: Polyak and Juditsky 1992; the warm-up of the decay as in TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._model = model
        self.weights = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Moves the mean towards the weights after a step, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, tensor in self._model.named_parameters():
            mean = self.weights[name].to(tensor.device)
            self.weights[name] = mean.lerp_(tensor, 1 - decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The model with the mean as its weights while the block lasts."""
        own = {name: tensor.detach().clone() for name, tensor in self._model.named_parameters()}
        self._fill(self.weights)
        try:
            yield
        finally:
            self._fill(own)

    @torch.no_grad()
    def _fill(self, weights: dict[str, Tensor]) -> None:
        for name, tensor in self._model.named_parameters():
            tensor.copy_(weights[name])


class NamesLoss:
    """Multi-label: a photo's vector must name the tokens and pairs of its query, and no others of the bag. Left out are
    those of other texts known to match its product: they are true of it, and have their turn with their own pair.

    Binary cross-entropy of the photo's vector times the bag's vectors (both as they are, less the logarithm of how many
    names there are), summed over names, mean over photos. It has no weights of its own.
    Source: joint training to name words, as Joulin et al. 2016, "Learning visual features from large weakly supervised
    data".
    """

    def __init__(self, table: TokenTable, known: KnownPairs, *, at_once: int = 0) -> None:
        """`at_once`: so many pairs x names are in memory at most (one pair's at least), in the backward pass too, which
        makes them again; 0: all of them."""
        self._table = table
        self._known = known
        self._at_once = at_once

    def __call__(
        self,
        model: DualEncoder,
        photo: Float[Tensor, "pairs hidden"],
        numbers: Int64[Tensor, " pairs"],
        products: Int64[Tensor, " pairs"],
    ) -> Float[Tensor, ""]:
        bag = model.bag
        assert bag is not None
        names = functional.normalize(bag.table(), dim=-1) if model.normalise else bag.table()
        scale = model.log_scale.exp()
        if not self._at_once:
            return self._of_pairs(bag, names, scale, photo, numbers, products).mean()
        at_once = max(1, self._at_once // len(names))
        parts = []
        for start in range(0, len(photo), at_once):
            some = (whole[start : start + at_once] for whole in (photo, numbers, products))
            work = partial(self._of_pairs, bag, names, scale, *some)
            parts.append(checkpoint(work, use_reentrant=False, preserve_rng_state=False))
        return torch.cat(parts).mean()

    def _of_pairs(
        self,
        bag: WordBag,
        names: Float[Tensor, "names hidden"],
        scale: Float[Tensor, ""],
        photo: Float[Tensor, "pairs hidden"],
        numbers: Int64[Tensor, " pairs"],
        products: Int64[Tensor, " pairs"],
    ) -> Float[Tensor, " pairs"]:
        texts, matched = map(torch.from_numpy, self._known.texts_of(products.cpu().numpy()))
        target = self._named(bag, numbers, torch.arange(len(photo)), photo)
        left_out = self._named(bag, texts, matched, photo) * (1 - target)
        scores = scale * photo @ names.T - math.log(len(bag.keys))
        losses = functional.binary_cross_entropy_with_logits(scores, target, reduction="none")
        return losses.masked_fill(left_out > 0, 0).sum(1)

    def _named(
        self, bag: WordBag, numbers: Int64[Tensor, " texts"], photos: Int64[Tensor, " texts"], like: Tensor
    ) -> Float[Tensor, "pairs names"]:
        """1 where a name of the bag stands in a text, in the row of the text's photo."""
        named = like.new_zeros(len(like), len(bag.keys))
        tokens, lengths = self._table.rows_of_numbers(numbers)
        keys, owners = names_of(tokens, lengths, pairs=bag.pairs, texts=bag.texts)
        rows, found = bag.rows_of(keys.to(like.device))
        named[photos[owners].to(like.device)[found], rows[found]] = 1
        return named


def weighted(weights: Float32[np.ndarray, " pairs"], weighting: Weighting) -> Float32[np.ndarray, " pairs"]:
    """How often pairs of some weights count in the loss; a weight of 1 counts once whatever the weighting."""
    if weighting == "none":
        return np.ones_like(weights)
    if weighting == "linear":
        return weights
    # Not log2(1 + w) in float32, which is 0 of a small weight.
    counted: np.ndarray = np.log1p(weights, dtype=np.float64) / np.log(2)
    return counted.astype(np.float32)


def known_pairs(dataset: Dataset, table: TokenTable, weighting: Weighting = "none") -> KnownPairs:
    """All training pairs of a dataset, texts by their numbers, with what they weigh where that is asked for."""
    training = dataset.pair_training
    numbers = table.numbers.numpy()
    texts = [""] * (int(numbers.max()) + 1)
    for number, text in zip(numbers.tolist(), table.texts, strict=True):
        texts[number] = text
    queries = numbers[dataset.pair_queries[training]]
    weights = None if weighting == "none" else weighted(dataset.pair_weights[training], weighting)
    return KnownPairs(queries, dataset.pair_products[training], weights=weights, texts=texts)


def batch_loss(
    model: DualEncoder,
    recipe: Recipe,
    text: Float[Tensor, "pairs hidden"],
    photo: Float[Tensor, "pairs hidden"],
    cells: Cells,
    late: Float[Tensor, "pairs pairs"] | None = None,
) -> Float[Tensor, ""]:
    """The recipe's loss of a batch of pairs, in float32; `late` scores are added to the vectors'.

    Of vectors that several views make, the mean of each view's own loss: they learn side by side, each from its own
    mistakes, as the members of an ensemble do. A common part learns what all of them leave.
    """
    with torch.autocast(text.device.type, enabled=False):
        losses = []
        for own_text, own_photo in zip(model.by_view(text), model.by_view(photo), strict=True):
            plain = own_text @ own_photo.T
            losses.append(_loss(model, recipe, plain if late is None else plain + late.float(), cells))
        return torch.stack(losses).mean()


def _loss(
    model: DualEncoder, recipe: Recipe, plain: Float[Tensor, "pairs pairs"], cells: Cells
) -> Float[Tensor, ""]:
    if recipe.loss == "multi-similarity":
        return multi_similarity_loss(plain, cells)
    scores = model.log_scale.exp() * plain + model.score_bias
    if recipe.loss == "sigmoid":
        return sigmoid_loss(scores, cells)
    if recipe.loss == "siglip":
        return siglip_loss(scores, cells)
    if recipe.loss == "focal":
        return focal_loss(scores, cells)
    if recipe.loss == "margin":
        return margin_softmax_loss(scores, cells, scale=model.log_scale.exp(), margin=recipe.margin)
    return softmax_loss(scores, cells)


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """The learning rate of a step: linear warm-up, then constant or a half cosine to 0."""
    warmup = recipe.warmup * steps
    if step < warmup:
        return recipe.learning_rate * (step + 1) / (warmup + 1)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    share = (step - warmup) / max(1.0, steps - warmup)
    return recipe.learning_rate * (1 + math.cos(math.pi * share)) / 2
