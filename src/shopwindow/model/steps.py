"""What does one step of a training compute, and how do the weights follow it?

The batch of a step and its dropout follow from (seed, step) alone. Knows no files and no validation.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import lightning
import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from tokenizers import Tokenizer
from torch import Tensor, nn

from shopwindow.data.batches import PairBatch, PairBatches
from shopwindow.data.dataset import Dataset
from shopwindow.data.queries import numbers_of
from shopwindow.data.regions import Regions, TitleTokens, places_of
from shopwindow.model.blockwise import CellsOf, blockwise_loss
from shopwindow.model.encoder import PartsEncoder
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
from shopwindow.model.recipe import LossName, LossRecipe, OptimiserRecipe, Schedule, TeacherRecipe, Weighting
from shopwindow.model.state import TrainingState
from shopwindow.model.teacher import Guide, Teacher
from shopwindow.model.tokens import tokenize
from shopwindow.model.towers import compile_parts

_STEP_SEEDS: Final = 1_000_003
LARGEST_SCALE: Final = 100.0
"""Of the learned scale: after each step it is set back to this, as CLIP does."""


class TokenTable:
    """All queries of a dataset tokenised once, as the model spells them; texts then equal have equal numbers."""

    def __init__(self, tokenizer: Tokenizer, texts: list[str], *, longest: int) -> None:
        self._tokens, self._lengths = tokenize(tokenizer, texts, longest=longest)
        self.numbers = torch.from_numpy(numbers_of(texts))

    def rows(
        self, queries: Int64[Tensor, " queries"]
    ) -> tuple[Int64[Tensor, " tokens"], Int64[Tensor, " queries"]]:
        """The tokens of some queries end to end, and how many each has."""
        return self._tokens[places_of(self._lengths, queries)], self._lengths[queries]


@dataclass(frozen=True)
class StepBatch:
    """A batch on its device. All but regions are of the whole batch and stay on the host; `share` is this process's."""

    queries: Int64[Tensor, " pairs"]
    numbers: Int64[Tensor, " pairs"]
    products: Int64[Tensor, " pairs"]
    weights: Float[Tensor, " pairs"]
    share: slice
    regions: Regions
    false_negatives: int


class Steps(lightning.LightningModule):
    """What one step computes and how weights follow it.

    `average` holds the exponential mean of the weights where there is one. A step gives its loss and how many cells of
    the batch plain in-batch training would call negatives although they are known pairs.
    """

    def __init__(
        self,
        model: PartsEncoder,
        table: TokenTable,
        batches: PairBatches,
        *,
        loss: LossRecipe,
        optimiser: OptimiserRecipe,
        titles: TitleTokens | None = None,
        chunk: int = 0,
        teacher: tuple[Teacher, TeacherRecipe] | None = None,
        state: TrainingState | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.optimiser = optimiser
        self.first_step = batches.start
        self.steps = batches.steps
        self.steps_per_epoch = batches.steps_per_epoch
        self.batch_size = batches.batch_size
        self.average = WeightAverage(model, optimiser.average) if optimiser.average else None
        if self.average is not None and state is not None:
            self.average.weights = state.average()
        self._table = table
        self._titles = titles
        self._words = batches.dataset.query_texts if model.pretrained_texts else None
        self._chunk = chunk
        self._teacher = teacher
        self._state = state
        self._known = known_pairs(batches.dataset, table)
        model.log_scale.requires_grad_(loss.name not in ("sigmoid", "focal", "multi-similarity"))
        model.score_bias.requires_grad_(loss.name == "siglip")
        if optimiser.compiled:
            compile_parts(model)

    def transfer_batch_to_device(
        self, batch: PairBatch, device: torch.device, dataloader_idx: int
    ) -> StepBatch:
        """The batch with its regions, and titles where the model reads them, on the device."""
        regions = batch.regions
        if self._titles is not None:
            own = self._titles.take(torch.from_numpy(batch.products[batch.share]))
            regions = replace(regions, titles=own)
        queries, products = torch.from_numpy(batch.queries), torch.from_numpy(batch.products)
        numbers = self._table.numbers[queries]
        return StepBatch(
            queries,
            numbers,
            products,
            torch.from_numpy(weighted(batch.weights, self.loss.weighting)),
            batch.share,
            regions.to(device),
            count_false_negatives(numbers, products, self._known),
        )

    def training_step(self, batch: StepBatch, index: int) -> dict[str, Any]:
        """The loss of a batch. Dropout is seeded by the step: it is part of what a step is."""
        step = self.first_step + index
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.learning_rate(step)
        pairs = self._pairs(batch)
        count, chunk = len(pairs.lengths), self._chunk
        chunks = math.ceil(count / chunk) if chunk else 1
        text, photo = encode_pairs(
            self.model,
            pairs,
            seed=self.optimiser.seed * _STEP_SEEDS + step,
            first_part=batch.share.start // count * chunks,
            chunk=chunk,
        )
        late = None
        if self.model.late is not None:
            late = self.model.late_scores(pairs.tokens, pairs.lengths, batch.regions)
        cells_of = self._cells_of(batch, photo.device)
        if chunk:
            loss = blockwise_loss(self.model, self.loss.name, text, photo, cells_of)
        else:
            cells = cells_of(slice(None), slice(None))
            vectors = gathered(text), gathered(photo)
            loss = batch_loss(self.model, self.loss.name, *vectors, cells, late, self._guide(batch))
        return {"loss": loss, "false_negatives": batch.false_negatives}

    def _guide(self, batch: StepBatch) -> Guide | None:
        """What the teacher says of the batch."""
        if self._teacher is None:
            return None
        teacher, recipe = self._teacher
        return Guide(teacher.cells(batch.queries.cpu(), batch.products.cpu()), recipe)

    def _pairs(self, batch: StepBatch) -> Pairs:
        """What this process encodes of a step."""
        tokens, lengths = self._table.rows(batch.queries)
        share = batch.share
        first, last = int(lengths[: share.start].sum()), int(lengths[: share.stop].sum())
        on_device = tokens[first:last].to(batch.regions.features.device)
        words = self._words and [self._words[row] for row in batch.queries[share].tolist()]
        return Pairs(
            on_device, lengths[share], batch.regions, batch.numbers[share], batch.products[share], words
        )

    def _cells_of(self, batch: StepBatch, device: torch.device) -> CellsOf:
        """Gives the cells of some rows and columns of the batch's matrix."""
        known = self._known
        if self._chunk and self.loss.masking == "known":
            known = known.among(batch.numbers.cpu().numpy(), batch.products.cpu().numpy())

        def cells_of(rows: slice, columns: slice) -> Cells:
            return choose_cells(
                batch.numbers,
                batch.products,
                masking=self.loss.masking,
                known=known,
                weights=batch.weights,
                rows=rows,
                columns=columns,
            ).to(device)

        return cells_of

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step."""
        own = self.optimiser
        return learning_rate(
            step, self.steps, highest=own.learning_rate, warmup=own.warmup, schedule=own.schedule
        )

    @property
    def _fused(self) -> bool:
        """Whether one kernel steps all weights; Lightning does not clip gradients of mixed precision before one."""
        return not (self.optimiser.gradient_clip and self.trainer.precision != "32-true")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, or AdamW where weights decay (matrices only), with a resumed training's moments."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        matrices = [parameter for parameter in trained if parameter.ndim > 1]
        others = [parameter for parameter in trained if parameter.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": self.optimiser.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=self.optimiser.learning_rate,
            eps=1e-8,
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


def weighted(weights: Float32[np.ndarray, " pairs"], weighting: Weighting) -> Float32[np.ndarray, " pairs"]:
    """How often pairs of some weights count in the loss; a weight of 1 counts once whatever the weighting."""
    if weighting == "none":
        return np.ones_like(weights)
    if weighting == "linear":
        return weights
    # Not log2(1 + w) in float32, which is 0 of a small weight.
    counted: np.ndarray = np.log1p(weights, dtype=np.float64) / np.log(2)
    return counted.astype(np.float32)


def known_pairs(dataset: Dataset, table: TokenTable) -> KnownPairs:
    """All training pairs of a dataset, texts by their numbers."""
    training = dataset.pair_training
    queries = table.numbers.numpy()[dataset.pair_queries[training]]
    return KnownPairs(queries, dataset.pair_products[training])


def batch_loss(
    model: PartsEncoder,
    name: LossName,
    text: Float[Tensor, "pairs values"],
    photo: Float[Tensor, "pairs values"],
    cells: Cells,
    late: Float[Tensor, "pairs pairs"] | None = None,
    guide: Guide | None = None,
) -> Float[Tensor, ""]:
    """The loss of a batch of pairs, in float32; `late` scores are added to the vectors'. `guide`: a teacher's loss is
    mixed into each part's.

    The mean, by share, of the losses of the parts with a fixed share: they learn side by side, each from its own
    mistakes, as the members of an ensemble do. A learned part learns what all of them leave.
    """
    with torch.autocast(text.device.type, enabled=False):
        total = text.new_zeros(())
        for (weight, own_text), (_, own_photo) in zip(model.by_part(text), model.by_part(photo), strict=True):
            plain = own_text @ own_photo.T
            scores = plain if late is None else plain + late.float()
            loss = _loss(model, name, scores, cells)
            if guide is not None:
                loss = guide.mixed(model.log_scale.exp() * scores, loss)
            total = total + weight * loss
        return total


def _loss(
    model: PartsEncoder, name: LossName, plain: Float[Tensor, "pairs pairs"], cells: Cells
) -> Float[Tensor, ""]:
    if name == "multi-similarity":
        return multi_similarity_loss(plain, cells)
    scale = model.log_scale.exp()
    scores = scale * plain + model.score_bias
    if name == "margin":
        return margin_softmax_loss(scores, cells, scale=scale)
    plain_losses = {
        "sigmoid": sigmoid_loss,
        "siglip": siglip_loss,
        "focal": focal_loss,
        "softmax": softmax_loss,
    }
    return plain_losses[name](scores, cells)


def learning_rate(step: int, steps: int, *, highest: float, warmup: float, schedule: Schedule) -> float:
    """The learning rate of a step: a linear warm-up to the highest, then constant or a half cosine to 0."""
    rising = warmup * steps
    if step < rising:
        return highest * (step + 1) / (rising + 1)
    if schedule == "constant":
        return highest
    share = (step - rising) / max(1.0, steps - rising)
    return highest * (1 + math.cos(math.pi * share)) / 2
