"""How does Lightning run the steps: quietly, so that Ctrl-C works, in the precision that the device has?

Knows no model, no validation and no file.
"""

from __future__ import annotations

import contextlib
import dataclasses
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

from shopwindow.data.batches import PairBatch, PairBatches, read_ahead
from shopwindow.model.processes import Place
from shopwindow.model.recipe import Precision

Device = Literal["auto", "cpu", "cuda"]
_PATIENCE: Final = datetime.timedelta(hours=12)
_ACCELERATORS: Final = {"auto": "auto", "cpu": "cpu", "cuda": "gpu"}


class Loader(Iterable[PairBatch]):
    """The batches as Lightning wants them: sized, iterable; on the way to a GPU a thread puts the next one into pinned
    memory, from where it is sent while the card computes. Not batches of neighbours: no thread may ask the model."""

    def __init__(self, batches: PairBatches, *, to_gpu: bool = False) -> None:
        self._batches = batches
        self._pinned = to_gpu and batches.order != "neighbours"

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[PairBatch]:
        return read_ahead(map(_pinned, self._batches)) if self._pinned else iter(self._batches)


def _pinned(batch: PairBatch) -> PairBatch:
    return dataclasses.replace(
        batch, regions=batch.regions.with_features(batch.regions.features.pin_memory())
    )


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


def trainer(
    watch: Callback, device: Device, place: Place, *, precision: Precision, gradient_clip: float
) -> lightning.Trainer:
    """Runs the steps of a training once through, without files or output of its own."""
    return lightning.Trainer(
        max_epochs=1,
        accelerator=_ACCELERATORS[device],
        devices=place.of,
        strategy="auto" if place.of == 1 else _together(device),
        precision=_precision(precision, device),
        gradient_clip_val=gradient_clip or None,
        callbacks=[watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def on_gpu(device: Device) -> bool:
    """Whether a training on this device runs on a GPU."""
    return device != "cpu" and torch.cuda.is_available()


def _together(device: Device) -> DDPStrategy:
    """The processes that `processes.run_together` started. They wait for the one that validates."""
    return DDPStrategy(
        cluster_environment=TorchElasticEnvironment(),
        process_group_backend="nccl" if on_gpu(device) else "gloo",
        timeout=_PATIENCE,
    )


def _precision(wanted: Precision, device: Device) -> Any:
    if wanted != "auto":
        return wanted
    if device == "cpu" or not torch.cuda.is_available():
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
