"""How are the towers learned from pairs, so that a kill at any moment costs minutes and changes nothing?

Lightning runs the steps (precision, devices); this module says what a step is, validates, and keeps two
directories beside the bundle: the last state, from which a training goes on, and the best weights so far.
Batch and dropout of a step follow from (seed, step) alone, so a resumed training takes exactly the steps
that an undisturbed one takes. Knows no command line.
"""

from __future__ import annotations

import dataclasses
import platform
import shutil
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

import shopwindow
from shopwindow.data.batches import Neighbours, PairBatches
from shopwindow.data.dataset import Dataset
from shopwindow.data.queries import numbers_of, phrase_words
from shopwindow.files import DataError, alone, check_replaceable, whole_directory
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.model.contamination import Contamination, estimate
from shopwindow.model.curves import write_curves
from shopwindow.model.dual import DualEncoder, encode_products, encode_texts, normalised
from shopwindow.model.given import check_devices, check_given, hash_given
from shopwindow.model.initial import initial_model
from shopwindow.model.mining import Mined, Table, mine
from shopwindow.model.processes import Place, run_together
from shopwindow.model.recipe import Recipe
from shopwindow.model.state import BEST, LAST, TrainingState, read_best
from shopwindow.model.steps import Steps, TokenTable
from shopwindow.model.trainer import Device, Loader, interruptible, on_gpu, quietly, trainer
from shopwindow.model.validation import Validation
from shopwindow.model.watch import Moment, Progress, Watch
from shopwindow.ranking.answers import Answers


def train(
    dataset: Dataset,
    recipe: Recipe,
    out: str | Path,
    *,
    validation: Validation,
    resume: bool = False,
    device: Device = "auto",
    devices: int = 1,
    seconds_between_saves: float = 60.0,
    progress: Progress | None = None,
) -> Bundle:
    """Trains by a recipe, validates, and writes the bundle of the best weights to `out`; gives that bundle.

    What has to outlast a kill lies in `OUT.training` until the bundle is written. A training of the same recipe
    and data found there goes on, which gives the same weights as beginning anew; one of another is dropped, or,
    with `resume`, refused. With `resume` a finished bundle of the same recipe and data is given as it is.
    The last validation is after the last step. Of several `devices` each has a process of its own and an equal share of
    every batch; the weights are those of one device, but for rounding and, unless `chunk` divides the share, dropout.

    Raises: DataError when `out` may not be written, another process trains it, or `resume` finds a training of another
    recipe or other data; when the training pairs do not fill a batch, or have no weights where the recipe's weighting
    wants some; when `check_given` or `check_devices` refuses the recipe.
    """
    out = Path(out)
    check_devices(recipe, devices)
    check_given(recipe)
    check_replaceable(out, marker=MARKER)
    if validation.dataset.feature_size != dataset.feature_size:
        raise DataError(
            f"features of {validation.dataset.feature_size} values, the training's have {dataset.feature_size}",
            path=validation.dataset.path,
        )
    if recipe.weighting != "none" and not dataset.has_weights:
        raise DataError(
            f"{recipe.weighting}, but the pairs have no weights; prepare --weights stores them",
            path=dataset.path,
            field="weighting",
        )
    folder = out.with_name(out.name + ".training")
    with alone(folder):
        return _train(
            dataset, recipe, out, folder, validation, resume, device, devices, seconds_between_saves, progress
        )


def _train(
    dataset: Dataset,
    recipe: Recipe,
    out: Path,
    folder: Path,
    validation: Validation,
    resume: bool,
    device: Device,
    devices: int,
    seconds_between_saves: float,
    progress: Progress | None,
) -> Bundle:
    identity = _identity(dataset, recipe, validation)
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
    if devices == 1:
        bundle = _fit(
            dataset, recipe, out, folder, validation, device, seconds_between_saves, progress, Place()
        )
    else:
        _batches(
            dataset, recipe, start=0, neighbours=None, place=Place(0, devices)
        )  # refuses before any process starts
        valid, answers = validation.dataset.path, validation.answers
        data = (dataset.path, dataset.mapped)
        arguments = (data, recipe, out, folder, valid, answers, device, seconds_between_saves)
        run_together(devices, _fit_together, *arguments, tell=progress or _silent)
        bundle = Bundle.load(out)
    _drop(folder)
    return bundle


def _silent(moment: Moment) -> None:
    """Shows no progress."""


def _fit_together(
    place: Place,
    say: Progress,
    data: tuple[Path, bool],
    recipe: Recipe,
    out: Path,
    folder: Path,
    valid: Path,
    answers: Answers,
    device: Device,
    seconds_between_saves: float,
) -> None:
    """One process of several: opens the data anew."""
    validation = Validation(Dataset(valid), answers)
    dataset = Dataset(data[0], mapped=data[1])
    _fit(dataset, recipe, out, folder, validation, device, seconds_between_saves, say, place)


def _identity(dataset: Dataset, recipe: Recipe, validation: Validation) -> dict[str, str]:
    identity = {
        "recipe": recipe.to_yaml(),
        "dataset": dataset.content_hash,
        "valid": validation.dataset.content_hash,
        "answers": validation.answers_hash,
    }
    given = hash_given(recipe)
    return identity | ({"tokenizer or checkpoint": given} if given else {})


def _fit(
    dataset: Dataset,
    recipe: Recipe,
    out: Path,
    folder: Path,
    validation: Validation,
    device: Device,
    seconds_between_saves: float,
    progress: Progress | None,
    place: Place,
) -> Bundle:
    """Takes the steps that are left; the leading process writes the bundle."""
    identity = _identity(dataset, recipe, validation)
    state = TrainingState.read(folder, identity)
    tokenizer, model = initial_model(dataset, recipe)
    if state is not None:
        state.load_model(model)
    mined = _mined(dataset, recipe, model, tokenizer, state) if recipe.order == "neighbours" else None
    batches = _batches(dataset, recipe, start=state.step if state else 0, neighbours=mined, place=place)
    table = TokenTable(tokenizer, normalised(model, dataset.query_texts), longest=model.longest)
    module = Steps(model, recipe, table, batches, state)
    watch = Watch(
        folder,
        module,
        validation,
        tokenizer,
        identity,
        state,
        mined,
        leads=place.leads,
        seconds_between_saves=seconds_between_saves,
        progress=progress,
    )
    if state is None and recipe.naming and place.leads:
        watch.begin(module)
    if len(batches):
        with quietly(), interruptible():
            trainer(recipe, watch, device, place).fit(
                module, train_dataloaders=Loader(batches, to_gpu=on_gpu(device))
            )
    model.cpu()
    scores = read_best(folder, model) if place.leads else {"step": 0.0}
    bundle = Bundle(
        model=model.eval(),
        tokenizer=tokenizer,
        recipe=recipe.to_yaml(),
        provenance={
            **identity,
            "shopwindow": shopwindow.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "devices": place.of,
            "pairs": int(dataset.pair_training.sum()),
            "steps": batches.steps,
            "best_step": int(scores.pop("step")),
            "false_negatives_a_batch": watch.false_negatives_a_batch,
            "contamination": [dataclasses.asdict(one) for one in mined.found] if mined else [],
            "seconds": round(watch.seconds, 1),
        },
        scores=scores,
        audit=validation.audit(),
    )
    if place.leads:
        with whole_directory(out, marker=MARKER) as written:
            write_curves(watch.rows, written)
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


def _batches(
    dataset: Dataset, recipe: Recipe, *, start: int, neighbours: Neighbours | None, place: Place
) -> PairBatches:
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
            process=place.number,
            processes=place.of,
            shards_at_once=recipe.shards_at_once,
            boxes=recipe.boxes or recipe.selection != "all",
        )
    except ValueError as error:
        raise DataError(str(error), path=dataset.path) from error


def _mined(
    dataset: Dataset, recipe: Recipe, model: DualEncoder, tokenizer: Tokenizer, state: TrainingState | None
) -> Mined[Contamination]:
    """The tables of hard neighbours by epoch, mined with the model as it is when an epoch begins, each with what is
    estimated of how much of it is true."""
    texts = list(dict.fromkeys(dataset.query_texts))
    training = dataset.pair_training
    pair_texts = numbers_of(dataset.query_texts)[dataset.pair_queries[training]]
    products, places = np.unique(dataset.pair_products[training], return_inverse=True)
    meanings = numbers_of([" ".join(phrase_words(text)) for text in texts])

    def mine_now(epoch: int) -> tuple[Table, Contamination]:
        words, photos = encode_texts(model, tokenizer, texts), encode_products(model, dataset, products)
        pairs = (pair_texts, places, meanings)
        count = recipe.group - 1
        table = mine(words, photos, *pairs, count=count, device=model.device)
        return table, estimate(
            words, photos, *pairs, epoch=epoch, seed=recipe.seed, count=count, device=model.device
        )

    if state is None:
        return Mined(mine_now)
    return Mined(mine_now, epoch=state.mined_at, table=state.mined(), found=state.contaminations)
