"""How does Lightning run the steps: quietly, so that Ctrl-C works, in the precision that the device has?

Knows what a trainer is told; knows no model, no validation and no file.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

import lightning
import torch
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy

from shopwindow.data.batches import PairBatch, PairBatches
from shopwindow.model.processes import Place
from shopwindow.model.recipe import Recipe

Device = Literal["auto", "cpu", "cuda"]
_PATIENCE: Final = datetime.timedelta(hours=12)
_ACCELERATORS: Final = {"auto": "auto", "cpu": "cpu", "cuda": "gpu"}


class Loader(Iterable[PairBatch]):
    """The batches as Lightning wants them: sized, iterable, nothing more."""

    def __init__(self, batches: PairBatches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[PairBatch]:
        return iter(self._batches)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
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
def interruptible() -> Iterator[None]:
    """Lets Ctrl-C through as KeyboardInterrupt: Lightning turns it into the end of the process."""
    try:
        yield
    except SystemExit as ended:
        raise KeyboardInterrupt from ended


def trainer(recipe: Recipe, watch: Callback, device: Device, place: Place) -> lightning.Trainer:
    return lightning.Trainer(
        max_epochs=1,
        accelerator=_ACCELERATORS[device],
        devices=place.of,
        strategy="auto" if place.of == 1 else _together(device),
        precision=_precision(recipe, device),
        gradient_clip_val=recipe.gradient_clip or None,
        callbacks=[watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _together(device: Device) -> DDPStrategy:
    """The processes that `processes.run_together` started. They wait for the one that validates."""
    on_gpu = device != "cpu" and torch.cuda.is_available()
    return DDPStrategy(
        cluster_environment=TorchElasticEnvironment(),
        process_group_backend="nccl" if on_gpu else "gloo",
        timeout=_PATIENCE,
    )


def _precision(recipe: Recipe, device: Device) -> Any:
    if recipe.precision != "auto":
        return recipe.precision
    if device == "cpu" or not torch.cuda.is_available():
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
