"""What does one step of a training compute, and how do the weights follow it?

The batch of a step and its dropout follow from (seed, step) alone. Knows no files and no validation.
"""

from __future__ import annotations

import math
from typing import Final

import lightning
import torch
from jaxtyping import Float, Int64
from tokenizers import Tokenizer
from torch import Tensor

from shopwindow.data.batches import PairBatch, PairBatches
from shopwindow.model.dual import DualEncoder
from shopwindow.model.losses import same_query_or_product, sigmoid_loss, softmax_loss
from shopwindow.model.recipe import Recipe
from shopwindow.model.state import TrainingState
from shopwindow.model.tokens import numbers_of, tokenize

_STEP_SEEDS: Final = 1_000_003
LARGEST_SCALE: Final = 100.0
"""Of the learned scale: after each step it is set back to this, as CLIP does."""


class TokenTable:
    """All queries of a dataset tokenised once; equal texts have equal numbers."""

    def __init__(self, tokenizer: Tokenizer, texts: list[str], *, longest: int) -> None:
        self._tokens, self._lengths = tokenize(tokenizer, texts, longest=longest)
        self._starts = self._lengths.cumsum(0) - self._lengths
        self.numbers = torch.from_numpy(numbers_of(texts))

    def rows(
        self, queries: Int64[Tensor, " queries"]
    ) -> tuple[Int64[Tensor, " tokens"], Int64[Tensor, " queries"]]:
        """The tokens of some queries end to end, and how many each has."""
        lengths = self._lengths[queries]
        before = lengths.cumsum(0) - lengths
        shift = torch.repeat_interleave(self._starts[queries] - before, lengths)
        return self._tokens[torch.arange(int(lengths.sum())) + shift], lengths


class Steps(lightning.LightningModule):
    """What one step computes and how weights follow it."""

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
        self._state = state
        if recipe.loss == "sigmoid":
            model.log_scale.requires_grad_(False)

    def transfer_batch_to_device(
        self, batch: PairBatch, device: torch.device, dataloader_idx: int
    ) -> tuple[Tensor, ...]:
        """Tokens, their lengths, regions, their lengths, query numbers, product rows; lengths stay on the host."""
        queries = torch.from_numpy(batch.queries)
        tokens, token_counts = self.table.rows(queries)
        return (
            tokens.to(device, non_blocking=True),
            token_counts,
            torch.from_numpy(batch.regions).to(device, non_blocking=True),
            torch.from_numpy(batch.lengths),
            self.table.numbers[queries].to(device),
            torch.from_numpy(batch.products).to(device),
        )

    def training_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor:
        """The loss of a batch. Dropout is seeded by the step: it is part of what a step is."""
        step = self.first_step + index
        torch.manual_seed(self.recipe.seed * _STEP_SEEDS + step)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = learning_rate(step, self.steps, self.recipe)
        tokens, token_counts, regions, region_counts, queries, products = batch
        text = self.model.encode_text(tokens, token_counts)
        photo = self.model.encode_photo(regions, region_counts)
        return batch_loss(self.model, self.recipe, text, photo, queries, products)

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
        )
        if self._state is not None:
            self._state.load_optimizer(optimizer)
        return optimizer


def batch_loss(
    model: DualEncoder,
    recipe: Recipe,
    text: Float[Tensor, "pairs hidden"],
    photo: Float[Tensor, "pairs hidden"],
    queries: Int64[Tensor, " pairs"],
    products: Int64[Tensor, " pairs"],
) -> Float[Tensor, ""]:
    """The recipe's loss of a batch of pairs, in float32. `queries` are equal for equal texts."""
    with torch.autocast(text.device.type, enabled=False):
        scores = model.log_scale.exp() * (text @ photo.T)
        if recipe.loss == "sigmoid":
            return sigmoid_loss(scores)
        return softmax_loss(scores, same_query_or_product(queries, products))


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """The learning rate of a step: linear warm-up, then constant or a half cosine to 0."""
    warmup = recipe.warmup * steps
    if step < warmup:
        return recipe.learning_rate * (step + 1) / (warmup + 1)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    share = (step - warmup) / max(1.0, steps - warmup)
    return recipe.learning_rate * (1 + math.cos(math.pi * share)) / 2
