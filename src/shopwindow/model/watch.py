"""What happens after each step of a training: it is counted, drawn, validated, saved, and shown?

Of several processes only the leading one does more than look at the loss. Knows no batch.
"""

from __future__ import annotations

import contextlib
import math
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

from shopwindow.files import DataError
from shopwindow.model.choice import Choice, Measured
from shopwindow.model.mining import Mined
from shopwindow.model.negatives import choose_cells
from shopwindow.model.state import CurveRow, TrainingState, save_best
from shopwindow.model.steps import LARGEST_SCALE, Steps, batch_loss

CURVE_POINTS: Final = 200
STEPS_UNREAD: Final = 20
"""Of a GPU, whose losses are read together."""


@dataclass(frozen=True)
class Moment:
    """Where a training stands, for whoever shows progress. `loss` is the mean since the last moment shown;
    `contamination` is the estimated share of mined negatives that are true (`contamination.py`), where it is known."""

    step: int
    steps: int
    pairs_per_second: float
    loss: float
    best: float | None
    contamination: float | None = None


Progress = Callable[[Moment], None]


class Watch(Callback):
    """After each step: moves the mean of the weights, counts, draws the curve, validates, saves, and tells."""

    def __init__(
        self,
        folder: Path,
        module: Steps,
        choice: Choice,
        tokenizer: Tokenizer,
        *,
        identity: dict[str, str],
        state: TrainingState | None,
        mined: Mined | None,
        leads: bool,
        seconds_between_saves: float,
        progress: Progress | None,
    ) -> None:
        self.rows: list[CurveRow] = list(state.rows) if state else []
        self._folder = folder
        self._choice = choice
        self._tokenizer = tokenizer
        self._identity = identity
        self._mined = mined
        self._leads = leads
        self._best = state.best if state else None
        self._seconds_before = state.seconds if state else 0.0
        self._started = self._last_shown = self._last_saved = time.monotonic()
        self._seconds_between_saves = seconds_between_saves
        self._progress = progress
        self._unread: list[tuple[int, Tensor]] = []
        self._losses = list(state.losses) if state else []
        self._false_negatives = list(state.false_negatives) if state else []
        self._validate_at = frozenset(
            validation_steps(module.optimiser.validations, module.steps, module.steps_per_epoch)
        )
        self._point_every = max(1, module.steps // CURVE_POINTS)

    @property
    def seconds(self) -> float:
        """Spent on this training so far, those before a resume counted."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def false_negatives_a_batch(self) -> float | None:
        """The mean over the points of the curve; None where no step was taken."""
        counts = [row.false_negatives for row in self.rows if row.false_negatives is not None]
        return round(float(np.mean(counts)), 2) if counts else None

    @property
    def _contamination(self) -> float | None:
        """Of the mined table in use; None without one, or where it cannot be said."""
        return (
            self._mined.contaminations[-1].share
            if self._mined is not None and self._mined.contaminations
            else None
        )

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
        self._unread.append((step, outputs["loss"].detach()))
        if outputs["loss"].device.type == "cpu" or len(self._unread) >= STEPS_UNREAD:
            self._read_losses()
        self._false_negatives.append(outputs["false_negatives"])
        if module.model.log_scale.requires_grad:
            with torch.no_grad():
                module.model.log_scale.clamp_(max=math.log(LARGEST_SCALE))
        # Not in the module's own hook: Lightning calls that after this one, and what is saved would lack the step.
        if module.average is not None:
            module.average.follow(step)
        if self._leads:
            self._keep_and_tell(trainer, module, step)
        else:
            self._losses, self._false_negatives = [], []
        if step in self._validate_at:  # the leading process has measured; all stop together
            trainer.should_stop = bool(trainer.strategy.broadcast(self.stops))

    def _keep_and_tell(self, trainer: lightning.Trainer, module: Steps, step: int) -> None:
        measured = None
        if step in self._validate_at:
            with contextlib.nullcontext() if module.average is None else module.average.in_place():
                measured = self._validate(module, step)
        if measured is not None or step % self._point_every == 0:
            self._add_row(module, step, measured)
        if measured is not None or time.monotonic() - self._last_saved > self._seconds_between_saves:
            self._save(trainer, module, step)
        self._show(module, step)

    def _read_losses(self) -> None:
        """Waits for a GPU; so not after each step."""
        for step, tensor in self._unread:
            loss = float(tensor)
            if not math.isfinite(loss):
                raise DataError(
                    f"the loss is {loss} after step {step}; lower optimiser.learning_rate", path=self._folder
                )
            self._losses.append(loss)
        self._unread = []

    @property
    def stops(self) -> bool:
        """Whether the training ends here, though steps are left."""
        scores = [row.held_out_score for row in self.rows if row.held_out_score is not None]
        return self._choice.stops(scores)

    def _validate(self, module: Steps, step: int) -> Measured:
        model = module.model

        def loss(text: Tensor, photo: Tensor, queries: Tensor, products: Tensor) -> float:
            with torch.inference_mode():
                unmasked = module.loss.masking == "none"
                cells = choose_cells(queries, products, masking="none" if unmasked else "same")
                return float(batch_loss(model, module.loss.name, text, photo, cells))

        measured = self._choice.measure(model, self._tokenizer, loss, batch_size=module.batch_size)
        score = self._choice.score(measured)
        if self._choice.keeps(score, self._best):
            self._best = score
            shown = measured.valid or measured.held_out
            scores = {} if shown is None else dict(shown.scores)
            own = {"step": float(step)} | ({} if score is None else {"chosen by": score})
            save_best(self._folder, model, scores | own)
        return measured

    def _add_row(self, module: Steps, step: int, measured: Measured | None) -> None:
        self._read_losses()
        valid, held_out = (None, None) if measured is None else (measured.valid, measured.held_out)
        self.rows.append(
            CurveRow(
                step=step,
                epoch=step / module.steps_per_epoch,
                seconds=round(self.seconds, 2),
                learning_rate=module.learning_rate(max(step - 1, 0)),
                train_loss=float(np.mean(self._losses)) if self._losses else None,
                false_negatives=float(np.mean(self._false_negatives)) if self._false_negatives else None,
                valid_loss=None if valid is None else valid.loss,
                valid_score=None if valid is None else valid.score,
                contamination=self._contamination,
                held_out_loss=None if held_out is None else held_out.loss,
                held_out_score=None if held_out is None else held_out.score,
            )
        )
        self._losses = []
        self._false_negatives = []

    def _save(self, trainer: lightning.Trainer, module: Steps, step: int) -> None:
        self._read_losses()
        state = TrainingState(
            step,
            self.seconds,
            self._best,
            tuple(self.rows),
            tuple(self._losses),
            self._folder,
            tuple(self._false_negatives),
            None if self._mined is None else self._mined.epoch,
            () if self._mined is None else tuple(self._mined.contaminations),
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
        speed = done * module.batch_size / max(now - self._started, 1e-9)
        loss = float(np.mean(self._losses)) if self._losses else self.rows[-1].train_loss or math.nan
        self._progress(Moment(step, module.steps, speed, loss, self._best, self._contamination))


def validation_steps(validations: float, steps: int, steps_per_epoch: int) -> list[int]:
    """After how many steps a training validates: `validations` times an epoch, evenly, and at the end.

    >>> validation_steps(2.0, steps=8, steps_per_epoch=4)
    [2, 4, 6, 8]
    >>> validation_steps(0.5, steps=12, steps_per_epoch=4)
    [8, 12]
    """
    every = max(1.0, steps_per_epoch / validations)
    count = math.ceil(steps / every)
    return sorted({min(steps, round(every * (i + 1))) for i in range(count)} | {steps})
