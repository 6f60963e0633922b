"""How is a model learned from pairs, so that a kill at any moment costs minutes and changes nothing?

Lightning runs the steps (precision, devices); this module says what a training is, and keeps two directories beside
the bundle: the last state, from which a training goes on, and the weights chosen so far. Batch and dropout of a step
follow from (seed, step) alone, so a resumed training takes exactly the steps that an undisturbed one takes. Knows no
command line.
"""

from __future__ import annotations

import dataclasses
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

import shopwindow
from shopwindow.data.batches import Neighbours, PairBatches
from shopwindow.data.dataset import Dataset
from shopwindow.data.grouping import GROUP
from shopwindow.data.queries import numbers_of, phrase_words
from shopwindow.files import DataError, alone, check_replaceable, whole_directory
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.model.choice import Choice
from shopwindow.model.encoder import (
    PartsEncoder,
    encode_products,
    encode_texts,
    named_backbone,
    normalised,
    read_titles,
    same_backbone,
)
from shopwindow.model.given import check_devices, check_given, hash_given
from shopwindow.model.initial import initial_model
from shopwindow.model.mining import Contamination, Mined, Table, estimate, mine
from shopwindow.model.pretrained import TextEncoder
from shopwindow.model.processes import Place, run_together
from shopwindow.model.recipe import Recipe
from shopwindow.model.state import BEST, LAST, TrainingState, read_best, write_curves
from shopwindow.model.steps import Steps, TokenTable
from shopwindow.model.teacher import Teacher
from shopwindow.model.trainer import Device, Loader, interruptible, on_gpu, quietly, trainer
from shopwindow.model.validation import Validation
from shopwindow.model.watch import Moment, Progress, Watch


def train(
    dataset: Dataset,
    recipe: Recipe,
    out: str | Path,
    *,
    validation: Validation | None = None,
    resume: bool = False,
    device: Device = "auto",
    devices: int = 1,
    seconds_between_saves: float = 60.0,
    progress: Progress | None = None,
    text_tower: TextEncoder | None = None,
    teacher: Teacher | None = None,
) -> Bundle:
    """Trains by a recipe, validates, and writes the bundle of the chosen weights to `out`; gives that bundle.

    The recipe's `optimiser.keep` says which weights are chosen (`choice.py`): on held-out pairs of the training, on the
    `validation`, or the last. A shop's held-out clicks, or, where the recipe asks for them, a tenth of the products,
    validate a training without a `validation`.
    What has to outlast a kill lies in `OUT.training` until the bundle is written. A training of the same recipe
    and data found there goes on, which gives the same weights as beginning anew; one of another is dropped, or,
    with `resume`, refused. With `resume` a finished bundle of the same recipe and data is given as it is.
    `text_tower`: what a pretrained part reads texts with; None is that of the dataset's backbone. `teacher`: another
    system's opinion, from which the model learns as the recipe's group `teacher` says.
    The last validation is after the last step; a training that held-out pairs choose stops when they gain no more.
    Of several `devices` each has a process of its own and an equal share of every batch; the weights are those of one
    device, but for rounding and, unless `chunk` divides the share, dropout.

    Raises: DataError when `out` may not be written, another process trains it, or `resume` finds a training of another
    recipe or other data; when the training pairs do not fill a batch, or have no weights where the recipe's weighting
    wants some; when `check_given` or `check_devices` refuses the recipe.
    """
    choice = Choice.of(recipe.optimiser.keep, dataset, validation)
    job = _Job(recipe, Path(out), choice, device, devices, seconds_between_saves, text_tower, teacher)
    job.check()
    with alone(job.folder):
        if resume and (bundle := job.finished()) is not None:
            _drop(job.folder)
            return bundle
        try:
            started = TrainingState.read(job.folder, job.identity) is not None
        except DataError:
            if resume:
                raise
            started = False
        if not started:
            _drop(job.folder)
        if devices == 1:
            bundle = _fit(Place(), progress, job)
        else:
            run_together(devices, _fit, job, tell=progress or _silent)
            bundle = Bundle.load(job.out, text_tower=text_tower)
        _drop(job.folder)
    return bundle


@dataclass(frozen=True)
class _Job:
    """What is trained, by what recipe, and where to. Processes are handed one."""

    recipe: Recipe
    out: Path
    choice: Choice
    device: Device
    devices: int
    seconds_between_saves: float
    text_tower: TextEncoder | None
    teacher: Teacher | None

    @property
    def dataset(self) -> Dataset:
        """Without the pairs that are held out."""
        return self.choice.dataset

    def check(self) -> None:
        """Raises: DataError for what can be refused before any process starts."""
        dataset, recipe = self.dataset, self.recipe
        batches, weighting = recipe.batches, recipe.loss.weighting
        check_devices(self.devices, size=batches.size, order=batches.order, late=recipe.late is not None)
        check_given(recipe.text, recipe.parts)
        check_replaceable(self.out, marker=MARKER)
        if self.choice.valid is not None:
            _check_same_features(self.choice.valid.dataset, dataset)
        if (self.teacher is None) != (recipe.teacher is None):
            raise DataError(
                "the group teacher and a teacher's run go together: give --teacher RUN, or set teacher to null",
                field="teacher",
            )
        if weighting != "none" and not dataset.has_weights:
            raise DataError(
                f"{weighting}, but the pairs have no weights; prepare --weights stores them",
                path=dataset.path,
                field="loss.weighting",
            )

    @property
    def folder(self) -> Path:
        """Where the training's state lies."""
        return self.out.with_name(self.out.name + ".training")

    @cached_property
    def identity(self) -> dict[str, str]:
        """What another training differs in."""
        own = {
            "recipe": self.recipe.to_yaml(),
            "dataset": self.dataset.content_hash,
            **self.choice.digests,
        }
        given = hash_given(self.recipe.text, self.recipe.parts)
        own |= {"tokenizer or checkpoint": given} if given else {}
        return own | ({"teacher": self.teacher.digest} if self.teacher else {})

    def finished(self) -> Bundle | None:
        """The bundle of this training, where there is one."""
        if not (self.out / MARKER).is_file():
            return None
        bundle = Bundle.load(self.out, text_tower=self.text_tower)
        same = {key: bundle.provenance.get(key) for key in self.identity} == self.identity
        return bundle if same else None

    def batches(self, place: Place, *, start: int, neighbours: Neighbours | None) -> PairBatches:
        """The batches from a step on. Raises: DataError where the pairs do not fill one."""
        own, optimiser = self.recipe.batches, self.recipe.optimiser
        try:
            return PairBatches(
                self.dataset,
                batch_size=own.size,
                epochs=optimiser.epochs,
                seed=optimiser.seed,
                start=start,
                order=own.order,
                hard=own.hard,
                neighbours=neighbours,
                process=place.number,
                processes=place.of,
                shards_at_once=own.shards_at_once,
                boxes=self.recipe.needs_boxes,
            )
        except ValueError as error:
            raise DataError(str(error), path=self.dataset.path) from error

    def bundle(
        self, model: PartsEncoder, tokenizer: Tokenizer, scores: dict[str, float], took: dict[str, Any]
    ) -> Bundle:
        """The bundle of the trained model; `took` is what the training says of itself."""
        return Bundle(
            model=model.eval(),
            tokenizer=tokenizer,
            recipe=self.recipe.to_yaml(),
            provenance={
                **self.identity,
                "shopwindow": shopwindow.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
                "devices": self.devices,
                "left_out": sorted({part.reads for part in self.recipe.parts} - model.reads),
                "pairs": int(self.dataset.pair_training.sum()),
                "best_step": int(scores.pop("step")),
                "kept": self.choice.says(scores.pop("chosen by", None)),
                **took,
            },
            scores=scores,
            audit=self.choice.audit(),
        )


def _check_same_features(valid: Dataset, dataset: Dataset) -> None:
    """Raises: DataError for a validation set with other features than the training's."""
    if valid.feature_size != dataset.feature_size:
        raise DataError(
            f"features of {valid.feature_size} values, the training's have {dataset.feature_size}",
            path=valid.path,
        )
    if not same_backbone(valid.backbone, dataset.backbone):
        raise DataError(
            f"features of {named_backbone(valid.backbone)},"
            f" the training's are of {named_backbone(dataset.backbone)}",
            path=valid.path,
        )


def _silent(moment: Moment) -> None:
    """Shows no progress."""


def _fit(place: Place, progress: Progress | None, job: _Job) -> Bundle:
    """Takes the steps that are left; the leading process writes the bundle."""
    recipe, optimiser = job.recipe, job.recipe.optimiser
    state = TrainingState.read(job.folder, job.identity)
    tokenizer, model = initial_model(job.dataset, recipe, text_tower=job.text_tower)
    if state is not None:
        state.load_model(model)
    mined = None
    if recipe.batches.order == "neighbours":
        mined = _mined(_miner(job.dataset, model, tokenizer, optimiser.seed), state)
    batches = job.batches(place, start=state.step if state else 0, neighbours=mined)
    table = TokenTable(tokenizer, normalised(model, job.dataset.query_texts), longest=model.longest)
    module = Steps(
        model,
        table,
        batches,
        loss=recipe.loss,
        optimiser=optimiser,
        titles=read_titles(model, tokenizer, job.dataset),
        chunk=recipe.batches.chunk,
        teacher=(job.teacher, recipe.teacher) if job.teacher and recipe.teacher else None,
        state=state,
    )
    watch = Watch(
        job.folder,
        module,
        job.choice,
        tokenizer,
        identity=job.identity,
        state=state,
        mined=mined,
        leads=place.leads,
        seconds_between_saves=job.seconds_between_saves,
        progress=progress,
    )
    if len(batches) and not watch.stops:
        with quietly(), interruptible():
            trainer(
                watch,
                job.device,
                place,
                precision=optimiser.precision,
                gradient_clip=optimiser.gradient_clip,
            ).fit(module, train_dataloaders=Loader(batches, to_gpu=on_gpu(job.device)))
    model.cpu()
    scores = read_best(job.folder, model) if place.leads else {"step": 0.0}
    took = {
        "steps": batches.steps,
        "false_negatives_a_batch": watch.false_negatives_a_batch,
        "contamination": [dataclasses.asdict(table) for table in mined.contaminations] if mined else [],
        "seconds": round(watch.seconds, 1),
    }
    bundle = job.bundle(model, tokenizer, scores, took)
    if place.leads:
        with whole_directory(job.out, marker=MARKER) as written:
            write_curves(watch.rows, written, kept=bundle.provenance["best_step"])
            bundle.save_into(written)
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


def _mined(mine_now: Callable[[int], tuple[Table, Contamination]], state: TrainingState | None) -> Mined:
    if state is None:
        return Mined(mine_now)
    return Mined(mine_now, epoch=state.mined_at, table=state.mined(), contaminations=state.contaminations)


def _miner(
    dataset: Dataset, model: PartsEncoder, tokenizer: Tokenizer, seed: int
) -> Callable[[int], tuple[Table, Contamination]]:
    """A function of the epoch: its table of hard neighbours, and the estimated share of it that is true. It mines with
    the model as it is when the epoch begins."""
    texts = list(dict.fromkeys(dataset.query_texts))
    training = dataset.pair_training
    pair_texts = numbers_of(dataset.query_texts)[dataset.pair_queries[training]]
    products, places = np.unique(dataset.pair_products[training], return_inverse=True)
    meanings = numbers_of([" ".join(phrase_words(text)) for text in texts])
    titles = read_titles(model, tokenizer, dataset)

    def mine_now(epoch: int) -> tuple[Table, Contamination]:
        photos = encode_products(model, dataset, products, titles=titles)
        vectors = encode_texts(model, tokenizer, texts), photos
        pairs = (pair_texts, places, meanings)
        table = mine(*vectors, *pairs, count=GROUP - 1, device=model.device)
        share = estimate(*vectors, *pairs, epoch=epoch, seed=seed, count=GROUP - 1, device=model.device)
        return table, share

    return mine_now
