"""How are the towers learned from pairs, so that a kill at any moment costs minutes and changes nothing?

Lightning runs the steps (precision, devices); this module says what a step is, validates, and keeps two
directories beside the bundle: the last state, from which a training goes on, and the best weights so far.
Batch and dropout of a step follow from (seed, step) alone, so a resumed training takes exactly the steps
that an undisturbed one takes. Knows no command line.
"""

from __future__ import annotations

import contextlib
import math
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from tokenizers import Tokenizer
from torch import Tensor

import shopwindow
from shopwindow.data.batches import PairBatches
from shopwindow.data.dataset import Dataset
from shopwindow.data.queries import numbers_of, phrase_words
from shopwindow.files import DataError, alone, check_replaceable, whole_directory
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.model.curves import CurveRow, write_curves
from shopwindow.model.dual import DualEncoder, encode_products, encode_texts, normalised
from shopwindow.model.initial import initial_model
from shopwindow.model.mining import Mined, Table, mine
from shopwindow.model.negatives import choose_cells
from shopwindow.model.recipe import Recipe
from shopwindow.model.state import BEST, LAST, TrainingState, read_best, save_best
from shopwindow.model.steps import LARGEST_SCALE, Steps, TokenTable, batch_loss, learning_rate
from shopwindow.model.trainer import Device, Loader, interruptible, quietly, trainer
from shopwindow.model.validation import Validation

CURVE_POINTS: Final = 200


@dataclass(frozen=True)
class Moment:
    """Where a training stands, for whoever shows progress. `loss` is the mean since the last moment shown."""

    step: int
    steps: int
    pairs_per_second: float
    loss: float
    best: float | None


Progress = Callable[[Moment], None]


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
    and data found there goes on, which gives the same weights as beginning anew; one of another is dropped, or,
    with `resume`, refused. With `resume` a finished bundle of the same recipe and data is given as it is.
    The last validation is after the last step.

    Raises: DataError when `out` may not be written, another process trains it, or `resume` finds a training
    of another recipe or other data; when the training pairs do not fill a batch.
    """
    out = Path(out)
    check_replaceable(out, marker=MARKER)
    if validation.dataset.feature_size != dataset.feature_size:
        raise DataError(
            f"features of {validation.dataset.feature_size} values, the training's have {dataset.feature_size}",
            path=validation.dataset.path,
        )
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
    tokenizer, model = initial_model(dataset, recipe)
    if state is not None:
        state.load_model(model)
    mined = _mined(dataset, recipe, model, tokenizer, state) if recipe.order == "neighbours" else None
    batches = _batches(dataset, recipe, start=state.step if state else 0, neighbours=mined)
    table = TokenTable(tokenizer, normalised(model, dataset.query_texts), longest=model.longest)
    module = Steps(model, recipe, table, batches, state)
    watch = _Watch(
        folder,
        module,
        validation,
        tokenizer,
        identity,
        state,
        mined,
        seconds_between_saves=seconds_between_saves,
        progress=progress,
    )
    if state is None and recipe.naming:
        watch.begin(module)
    if len(batches):
        with quietly(), interruptible():
            trainer(recipe, watch, device).fit(module, train_dataloaders=Loader(batches))
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
            "false_negatives_a_batch": watch.false_negatives_a_batch,
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


class _Watch(Callback):
    """After each step: counts, draws the curve, validates, saves, and tells of the progress."""

    def __init__(
        self,
        folder: Path,
        module: Steps,
        validation: Validation,
        tokenizer: Tokenizer,
        identity: dict[str, str],
        state: TrainingState | None,
        mined: Mined | None,
        *,
        seconds_between_saves: float,
        progress: Progress | None,
    ) -> None:
        self.rows: list[CurveRow] = list(state.rows) if state else []
        self._folder = folder
        self._validation = validation
        self._tokenizer = tokenizer
        self._identity = identity
        self._mined = mined
        self._best = state.best if state else None
        self._seconds_before = state.seconds if state else 0.0
        self._started = self._last_shown = self._last_saved = time.monotonic()
        self._seconds_between_saves = seconds_between_saves
        self._progress = progress
        self._losses = list(state.losses) if state else []
        self._false_negatives = list(state.false_negatives) if state else []
        self._validate_at = frozenset(validation_steps(module.recipe, module.steps, module.steps_per_epoch))
        self._point_every = max(1, module.steps // CURVE_POINTS)

    def begin(self, module: Steps) -> None:
        """Validates what a training begins with: the closed form may be the best there is."""
        self._add_row(module, 0, self._validate(module, 0))

    @property
    def seconds(self) -> float:
        """Spent on this training so far, those before a resume counted."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def false_negatives_a_batch(self) -> float | None:
        """The mean over the points of the curve; None where no step was taken."""
        found = [row.false_negatives for row in self.rows if row.false_negatives is not None]
        return round(float(np.mean(found)), 2) if found else None

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Steps are counted from 1 here: the number of steps done."""
        assert isinstance(module, Steps)
        step = module.first_step + batch_idx + 1
        loss = float(outputs["loss"])
        if not math.isfinite(loss):
            raise DataError(f"the loss is {loss} after step {step}; lower learning_rate", path=self._folder)
        self._losses.append(loss)
        self._false_negatives.append(outputs["false_negatives"])
        if module.model.log_scale.requires_grad:
            with torch.no_grad():
                module.model.log_scale.clamp_(max=math.log(LARGEST_SCALE))
        valid = None
        if step in self._validate_at:
            with contextlib.nullcontext() if module.average is None else module.average.in_place():
                valid = self._validate(module, step)
        if valid is not None or step % self._point_every == 0:
            self._add_row(module, step, valid)
        if valid is not None or time.monotonic() - self._last_saved > self._seconds_between_saves:
            self._save(trainer, module, step)
        self._show(module, step)

    def _validate(self, module: Steps, step: int) -> tuple[float, float]:
        model = module.model

        def loss(text: Tensor, photo: Tensor, queries: Tensor, products: Tensor) -> float:
            with torch.inference_mode():
                seed_masks = module.recipe.masking == "none"
                cells = choose_cells(queries, products, masking="none" if seed_masks else "same")
                return float(batch_loss(model, module.recipe, text, photo, cells))

        result = self._validation.measure(model, self._tokenizer, loss, batch_size=module.recipe.batch_size)
        if self._best is None or result.score > self._best:
            self._best = result.score
            save_best(self._folder, model, {**result.scores, "step": float(step)})
        return result.loss, result.score

    def _add_row(self, module: Steps, step: int, valid: tuple[float, float] | None) -> None:
        self.rows.append(
            CurveRow(
                step=step,
                epoch=step / module.steps_per_epoch,
                seconds=round(self.seconds, 2),
                learning_rate=learning_rate(max(step - 1, 0), module.steps, module.recipe),
                train_loss=float(np.mean(self._losses)) if self._losses else None,
                false_negatives=float(np.mean(self._false_negatives)) if self._false_negatives else None,
                valid_loss=valid[0] if valid else None,
                valid_score=valid[1] if valid else None,
            )
        )
        self._losses = []
        self._false_negatives = []

    def _save(self, trainer: lightning.Trainer, module: Steps, step: int) -> None:
        state = TrainingState(
            step,
            self.seconds,
            self._best,
            tuple(self.rows),
            tuple(self._losses),
            self._folder,
            tuple(self._false_negatives),
            None if self._mined is None else self._mined.epoch,
        )
        state.write(
            module.model,
            trainer.optimizers[0],
            self._identity,
            average=None if module.average is None else module.average.weights,
            mined=None if self._mined is None else self._mined.table,
        )
        self._last_saved = time.monotonic()

    def _show(self, module: Steps, step: int) -> None:
        if self._progress is None:
            return
        now = time.monotonic()
        done = step - module.first_step
        speed = done * module.recipe.batch_size / max(now - self._started, 1e-9)
        loss = float(np.mean(self._losses)) if self._losses else self.rows[-1].train_loss or math.nan
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


def _batches(dataset: Dataset, recipe: Recipe, *, start: int, neighbours: Mined | None) -> PairBatches:
    try:
        return PairBatches(
            dataset,
            batch_size=recipe.batch_size,
            epochs=recipe.epochs,
            seed=recipe.seed,
            start=start,
            order=recipe.order,
            group=recipe.group,
            hard=recipe.hard,
            temper=recipe.temper,
            neighbours=neighbours,
            shards_at_once=recipe.shards_at_once,
        )
    except ValueError as error:
        raise DataError(str(error), path=dataset.path) from error


def _mined(
    dataset: Dataset, recipe: Recipe, model: DualEncoder, tokenizer: Tokenizer, state: TrainingState | None
) -> Mined:
    """The tables of hard neighbours by epoch, mined with the model as it is when an epoch begins."""
    texts = list(dict.fromkeys(dataset.query_texts))
    training = dataset.pair_training
    pair_texts = numbers_of(dataset.query_texts)[dataset.pair_queries[training]]
    products, places = np.unique(dataset.pair_products[training], return_inverse=True)
    meanings = numbers_of([" ".join(phrase_words(text)) for text in texts])

    def mine_now() -> Table:
        return mine(
            encode_texts(model, tokenizer, texts),
            encode_products(model, dataset, products),
            pair_texts,
            places,
            meanings,
            count=recipe.group - 1,
            device=model.device,
        )

    if state is None:
        return Mined(mine_now)
    return Mined(mine_now, epoch=state.mined_at, table=state.mined())
