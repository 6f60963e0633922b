"""How are the towers learned from pairs, so that a kill at any moment costs minutes and changes nothing?

Lightning runs the steps (precision, devices); this module says what a step is, validates, and keeps two
directories beside the bundle: the last state, from which a training goes on, and the best weights so far.
Batch and dropout of a step follow from (seed, step) alone, so a resumed training takes exactly the steps
that an undisturbed one takes. Knows no command line.
"""

from __future__ import annotations

import contextlib
import logging
import math
import platform
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import lightning
import numpy as np
import torch
from jaxtyping import Float, Int64
from lightning.pytorch.callbacks import Callback
from tokenizers import Tokenizer
from torch import Tensor

import shopwindow
from shopwindow.data.batches import PairBatch, PairBatches
from shopwindow.data.dataset import Dataset
from shopwindow.files import DataError, alone, check_replaceable, whole_directory
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.model.curves import CurveRow, write_curves
from shopwindow.model.dual import DualEncoder
from shopwindow.model.initial import initial_model
from shopwindow.model.losses import same_query_or_product, sigmoid_loss, softmax_loss
from shopwindow.model.recipe import Recipe
from shopwindow.model.state import BEST, LAST, TrainingState, read_best, save_best
from shopwindow.model.tokens import numbers_of, tokenize
from shopwindow.model.validation import Validation

CURVE_POINTS: Final = 200
_STEP_SEEDS: Final = 1_000_003
LARGEST_SCALE: Final = 100.0
"""Of the learned scale: after each step it is set back to this, as CLIP does."""


@dataclass(frozen=True)
class Moment:
    """Where a training stands, for whoever shows progress. `loss` is the mean since the last moment shown."""

    step: int
    steps: int
    pairs_per_second: float
    loss: float
    best: float | None


Progress = Callable[[Moment], None]
Device = Literal["auto", "cpu", "cuda"]
_ACCELERATORS: Final = {"auto": "auto", "cpu": "cpu", "cuda": "gpu"}


def train(
    dataset: Dataset,
    recipe: Recipe,
    out: str | Path,
    *,
    validation: Validation,
    resume: bool = False,
    device: Device = "auto",
    seconds_between_saves: float = 60.0,
    progress: Progress | None = None,
) -> Bundle:
    """Trains by a recipe, validates, and writes the bundle of the best weights to `out`; gives that bundle.

    What has to outlast a kill lies in `OUT.training` until the bundle is written. A training of the same recipe
    and data found there goes on, which gives the same bytes as beginning anew; one of another is dropped, or,
    with `resume`, refused. With `resume` a finished bundle of the same recipe and data is given as it is.
    The last validation is after the last step.

    Raises: DataError when `out` may not be written, another process trains it, or `resume` finds a training
    of another recipe or other data; when the training pairs do not fill a batch.
    """
    out = Path(out)
    check_replaceable(out, marker=MARKER)
    folder = out.with_name(out.name + ".training")
    with alone(folder):
        return _train(
            dataset, recipe, out, folder, validation, resume, device, seconds_between_saves, progress
        )


def _train(
    dataset: Dataset,
    recipe: Recipe,
    out: Path,
    folder: Path,
    validation: Validation,
    resume: bool,
    device: Device,
    seconds_between_saves: float,
    progress: Progress | None,
) -> Bundle:
    identity = {
        "recipe": recipe.to_yaml(),
        "dataset": dataset.content_hash,
        "valid": validation.dataset.content_hash,
        "answers": validation.answers_hash,
    }
    if resume and (out / MARKER).is_file():
        bundle = Bundle.load(out)
        if {key: bundle.provenance.get(key) for key in identity} == identity:
            _drop(folder)
            return bundle
    try:
        state = TrainingState.read(folder, identity)
    except DataError:
        if resume:
            raise
        state = None
    if state is None:
        _drop(folder)
    for split in (dataset, validation.dataset):
        if split.feature_size != dataset.feature_size:
            raise DataError(
                f"features of {split.feature_size} values, the training's have {dataset.feature_size}",
                path=split.path,
            )
    batches = _batches(dataset, recipe, start=state.step if state else 0)
    tokenizer, model = initial_model(dataset, recipe)
    if state is not None:
        state.load_model(model)
    table = _TokenTable(tokenizer, dataset.query_texts, longest=model.text.longest)
    module = _Steps(model, recipe, table, batches, state)
    watch = _Watch(
        folder,
        module,
        validation,
        tokenizer,
        identity,
        state,
        seconds_between_saves=seconds_between_saves,
        progress=progress,
    )
    if len(batches):
        with _quietly(), _interruptible():
            _trainer(recipe, watch, device).fit(module, train_dataloaders=_Loader(batches))
    model.cpu()
    scores = read_best(folder, model)
    bundle = Bundle(
        model=model.eval(),
        tokenizer=tokenizer,
        recipe=recipe.to_yaml(),
        provenance={
            **identity,
            "shopwindow": shopwindow.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "pairs": int(dataset.pair_training.sum()),
            "steps": batches.steps,
            "best_step": int(scores.pop("step")),
            "seconds": round(watch.seconds, 1),
        },
        scores=scores,
        audit=validation.audit(),
    )
    with whole_directory(out, marker=MARKER) as written:
        write_curves(watch.rows, written)
        bundle.save_into(written)
    _drop(folder)
    return bundle


def _drop(folder: Path) -> None:
    """Removes a training's folder: first its name, in one step, so that no half of it is ever found.

    Raises: DataError when it holds anything but what a training writes.
    """
    aside = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if not folder.exists():
        return
    foreign = [
        path.name for path in folder.iterdir() if path.name.lstrip(".").split(".")[0] not in (LAST, BEST)
    ]
    if foreign:
        raise DataError(f"holds {foreign[0]}, which no training wrote; move it away", path=folder)
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


class _TokenTable:
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


class _Steps(lightning.LightningModule):
    """What one step computes and how weights follow it."""

    def __init__(
        self,
        model: DualEncoder,
        recipe: Recipe,
        table: _TokenTable,
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


class _Watch(Callback):
    """After each step: counts, draws the curve, validates, saves, and tells of the progress."""

    def __init__(
        self,
        folder: Path,
        module: _Steps,
        validation: Validation,
        tokenizer: Tokenizer,
        identity: dict[str, str],
        state: TrainingState | None,
        *,
        seconds_between_saves: float,
        progress: Progress | None,
    ) -> None:
        self.rows: list[CurveRow] = list(state.rows) if state else []
        self._folder = folder
        self._validation = validation
        self._tokenizer = tokenizer
        self._identity = identity
        self._best = state.best if state else None
        self._seconds_before = state.seconds if state else 0.0
        self._started = self._last_shown = self._last_saved = time.monotonic()
        self._seconds_between_saves = seconds_between_saves
        self._progress = progress
        self._losses = list(state.losses) if state else []
        self._validate_at = frozenset(validation_steps(module.recipe, module.steps, module.steps_per_epoch))
        self._point_every = max(1, module.steps // CURVE_POINTS)

    @property
    def seconds(self) -> float:
        """Spent on this training so far, those before a resume counted."""
        return self._seconds_before + time.monotonic() - self._started

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Steps are counted from 1 here: the number of steps done."""
        assert isinstance(module, _Steps)
        step = module.first_step + batch_idx + 1
        loss = float(outputs["loss"])
        if not math.isfinite(loss):
            raise DataError(f"the loss is {loss} after step {step}; lower learning_rate", path=self._folder)
        self._losses.append(loss)
        if module.model.log_scale.requires_grad:
            with torch.no_grad():
                module.model.log_scale.clamp_(max=math.log(LARGEST_SCALE))
        valid = self._validate(module, step) if step in self._validate_at else None
        if valid is not None or step % self._point_every == 0:
            self._add_row(module, step, valid)
        if valid is not None or time.monotonic() - self._last_saved > self._seconds_between_saves:
            self._save(trainer, module, step)
        self._show(module, step)

    def _validate(self, module: _Steps, step: int) -> tuple[float, float]:
        model = module.model

        def loss(text: Tensor, photo: Tensor, queries: Tensor, products: Tensor) -> float:
            with torch.inference_mode():
                return float(batch_loss(model, module.recipe, text, photo, queries, products))

        result = self._validation.measure(model, self._tokenizer, loss, batch_size=module.recipe.batch_size)
        if self._best is None or result.score > self._best:
            self._best = result.score
            save_best(self._folder, model, {**result.scores, "step": float(step)})
        return result.loss, result.score

    def _add_row(self, module: _Steps, step: int, valid: tuple[float, float] | None) -> None:
        self.rows.append(
            CurveRow(
                step=step,
                epoch=step / module.steps_per_epoch,
                seconds=round(self.seconds, 2),
                learning_rate=learning_rate(step - 1, module.steps, module.recipe),
                train_loss=float(np.mean(self._losses)),
                valid_loss=valid[0] if valid else None,
                valid_score=valid[1] if valid else None,
            )
        )
        self._losses = []

    def _save(self, trainer: lightning.Trainer, module: _Steps, step: int) -> None:
        state = TrainingState(
            step, self.seconds, self._best, tuple(self.rows), tuple(self._losses), self._folder
        )
        state.write(module.model, trainer.optimizers[0], self._identity)
        self._last_saved = time.monotonic()

    def _show(self, module: _Steps, step: int) -> None:
        if self._progress is None:
            return
        now = time.monotonic()
        done = step - module.first_step
        speed = done * module.recipe.batch_size / max(now - self._started, 1e-9)
        loss = float(np.mean(self._losses)) if self._losses else self.rows[-1].train_loss
        self._progress(Moment(step, module.steps, speed, loss, self._best))


def validation_steps(recipe: Recipe, steps: int, steps_per_epoch: int) -> list[int]:
    """After how many steps a training validates: `validations` times an epoch, evenly, and at the end.

    >>> validation_steps(Recipe(validations=2.0), steps=8, steps_per_epoch=4)
    [2, 4, 6, 8]
    >>> validation_steps(Recipe(validations=0.5), steps=12, steps_per_epoch=4)
    [8, 12]
    """
    every = max(1.0, steps_per_epoch / recipe.validations)
    count = math.ceil(steps / every)
    return sorted({min(steps, round(every * (i + 1))) for i in range(count)} | {steps})


def _batches(dataset: Dataset, recipe: Recipe, *, start: int) -> PairBatches:
    try:
        return PairBatches(
            dataset, batch_size=recipe.batch_size, epochs=recipe.epochs, seed=recipe.seed, start=start
        )
    except ValueError as error:
        raise DataError(str(error), path=dataset.path) from error


class _Loader(Iterable[PairBatch]):
    """The batches as Lightning wants them: sized, iterable, nothing more."""

    def __init__(self, batches: PairBatches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[PairBatch]:
        return iter(self._batches)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without Lightning's notes on devices and tips, and its advice on loaders it does not know."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Lets Ctrl-C through as KeyboardInterrupt: Lightning turns it into the end of the process."""
    try:
        yield
    except SystemExit as ended:
        raise KeyboardInterrupt from ended


def _trainer(recipe: Recipe, watch: Callback, device: Device) -> lightning.Trainer:
    return lightning.Trainer(
        max_epochs=1,
        accelerator=_ACCELERATORS[device],
        devices=1,
        precision=_precision(recipe, device),
        gradient_clip_val=recipe.gradient_clip or None,
        callbacks=[watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _precision(recipe: Recipe, device: Device) -> Any:
    if recipe.precision != "auto":
        return recipe.precision
    if device == "cpu" or not torch.cuda.is_available():
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
