"""The parts of `step_gpu.py` that train: the project's own trainer on the card, and several processes (NCCL).

The first losses on the card must be those of a CPU in float32; gathered vectors and averaged gradients those of one
process that has every pair.
"""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from stand_ins import missing, stand_in

if names := missing():
    stand_in(names)

from lightning.pytorch.callbacks import Callback
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from gpu_parts import OURS, Found, Scale, Step, made_dataset, several
from made import write_dataset
from record import Figures
from rivals import Batch, PackedPair, sigmoid_in_batch, timed
from shopwindow.data.batches import PairBatches
from shopwindow.data.dataset import Dataset
from shopwindow.model.bundle import Bundle
from shopwindow.model.initial import initial_model
from shopwindow.model.processes import Place, gathered, run_together
from shopwindow.model.recipe import Recipe, load_recipe
from shopwindow.model.steps import Steps, TokenTable
from shopwindow.model.trainer import Device, Loader, interruptible, on_gpu, quietly, trainer
from shopwindow.model.training import train
from shopwindow.model.validation import Validation
from shopwindow.ranking.answers import Answers

LOSS_TOLERANCE: Final = 0.02
"""Relative, of a loss in bf16 against float32: some ten roundings of 2^-9."""
GRADIENT_TOLERANCE: Final = 1e-3
"""Relative, in float32, products summed in another order."""
COMPARED_STEPS: Final = 3
COMPARED_PAIRS: Final = 64
POOL: Final = 10
PATIENCE: Final = datetime.timedelta(seconds=40)


class Clock(Callback):
    """Seconds and losses of the steps after the first `warm` ones."""

    def __init__(self, warm: int, steps: int) -> None:
        self._warm, self._steps = warm, steps
        self._losses: list[Tensor] = []
        self._started = self.seconds = math.nan

    @property
    def losses(self) -> list[float]:
        """Of every step."""
        return [float(loss) for loss in self._losses]

    def on_train_batch_end(self, *given: Any, **_: Any) -> None:
        """Reads the clock when the warm steps are done, and at the end; the card is waited for only then."""
        loss = given[2]["loss"].detach()
        self._losses.append(loss)
        if len(self._losses) not in (self._warm, self._steps):
            return
        if loss.device.type == "cuda":
            torch.cuda.synchronize()
        if len(self._losses) == self._warm:
            self._started = time.perf_counter()
        else:
            self.seconds = time.perf_counter() - self._started


def fitted(
    dataset: Dataset, recipe: Recipe, device: Device, *, steps: int, warm: int
) -> tuple[float, list[float]]:
    """Pairs a second of a training as `train` runs one, from the memory map to the weights; and the losses."""
    tokenizer, model = initial_model(dataset, recipe)
    per_epoch = PairBatches(dataset, batch_size=recipe.batch_size, epochs=1, seed=0).steps
    epochs = math.ceil(steps / per_epoch)
    batches = PairBatches(dataset, batch_size=recipe.batch_size, epochs=epochs, seed=recipe.seed)
    table = TokenTable(tokenizer, dataset.query_texts, longest=model.longest)
    clock = Clock(warm, batches.steps)
    with quietly(), interruptible():
        trainer(recipe, clock, device, Place()).fit(
            Steps(model, recipe, table, batches, None),
            train_dataloaders=Loader(batches, to_gpu=on_gpu(device)),
        )
    return recipe.batch_size * (batches.steps - warm) / clock.seconds, clock.losses


def recipe_of(scale: Scale, **changes: object) -> Recipe:
    """The seed's recipe, of the scale's size."""
    size = scale.size
    sizes = {"hidden": size.hidden, "layers": size.layers, "heads": size.heads, "inner": size.inner}
    return load_recipe("seed", {**sizes, "vocabulary": scale.vocabulary, "epochs": 1, **changes})


def training(scale: Scale) -> Found:
    """The project's trainer at every batch size; one that fails does not cost the others."""
    figures: Figures = {}
    wrong: list[str] = []
    with made_dataset(scale.products) as (_, dataset):
        for pairs in scale.batches:
            try:
                figures |= trained(scale, dataset, pairs)
            except Exception as error:
                wrong.append(f"{pairs:,} pairs: {type(error).__name__}: {str(error)[:300]}")
    return figures, wrong


def trained(scale: Scale, dataset: Dataset, pairs: int) -> Figures:
    """Pairs a second with batches of so many."""
    steps = max(6, 3 * scale.step_pairs // pairs)
    found = [
        fitted(dataset, recipe_of(scale, batch_size=pairs), device_of(scale), steps=steps, warm=steps // 3)[0]
        for _ in range(3)
    ]
    return {f"{pairs:,} pairs: pairs/s, reading and Lightning among it": found}


def first_losses(scale: Scale) -> Found:
    """How far the first losses are from those of a CPU in float32."""
    recipe = recipe_of(scale, batch_size=COMPARED_PAIRS, dropout=0.0)
    places: tuple[Device, Device] = (device_of(scale), "cpu")
    with made_dataset(COMPARED_STEPS * COMPARED_PAIRS) as (_, dataset):
        found = [fitted(dataset, recipe, where, steps=COMPARED_STEPS, warm=1)[1] for where in places]
    errors = [abs(card - host) / host for card, host in zip(*found, strict=True)]
    wrong = [
        f"a first loss is off by {e:.3g}, at most {LOSS_TOLERANCE}" for e in errors if not e <= LOSS_TOLERANCE
    ]
    return {"relative error": errors}, wrong


def bundles(scale: Scale) -> Found:
    """A whole training by one process, and by two where there are two cards."""
    figures: Figures = {}
    wrong: list[str] = []
    counts = (1, 2) if scale.device.type == "cuda" and torch.cuda.device_count() > 1 else (1,)
    with made_dataset(scale.products) as (folder, dataset):
        for devices in counts:
            try:
                figures |= to_a_bundle(scale, dataset, folder, devices=devices)
            except Exception as error:
                wrong.append(f"{devices} processes: {type(error).__name__}: {str(error)[:300]}")
    return figures, wrong


def device_of(scale: Scale) -> Device:
    """As the trainer names it."""
    return "cuda" if scale.device.type == "cuda" else "cpu"


def to_a_bundle(scale: Scale, dataset: Dataset, folder: Path, *, devices: int) -> Figures:
    """Seconds of a whole training of an epoch: steps, validation, saving, the bundle; which must rank its pools."""
    valid_path = folder / f"valid{devices}"
    write_dataset(valid_path, 20 * POOL, products_per_query=POOL, seed=1)
    valid = Dataset(valid_path)
    answers = Answers.from_arrays(valid.query_ids, valid.product_ids[::POOL])
    recipe = recipe_of(scale, batch_size=scale.batches[0], validations=1.0)
    out = folder / f"bundle{devices}"
    started = time.perf_counter()
    validation = Validation(valid, answers)
    train(dataset, recipe, out, validation=validation, device=device_of(scale), devices=devices)
    seconds = time.perf_counter() - started
    bundle = Bundle.load(out)
    if not all(map(math.isfinite, bundle.scores.values())) or len(bundle.rank(valid)) != 20 * POOL:
        raise AssertionError(f"the bundle does not rank: {bundle.scores}")
    return {f"{devices} process{'es' if devices > 1 else ''}: seconds": seconds}


def together(scale: Scale) -> Found:
    """As many processes as cards, two at most: gathered vectors, averaged gradients, speed."""
    count = min(2, torch.cuda.device_count()) if scale.device.type == "cuda" else 2
    said: list[dict[str, Any]] = []
    run_together(count, in_a_process, scale, tell=said.append)
    (told,) = said
    figures: Figures = {"processes": float(count), **told["figures"]}
    wrong: list[str] = told["wrong"]
    return figures, wrong


def in_a_process(place: Place, say: Callable[[Any], None], scale: Scale) -> None:
    """One process of several: every check in turn; the leading one tells."""
    on_card = scale.device.type == "cuda"
    device = torch.device("cuda", place.number) if on_card else scale.device
    if on_card:
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "nccl" if on_card else "gloo", timeout=PATIENCE, device_id=device if on_card else None
    )
    figures: Figures = {}
    wrong: list[str] = []
    ones = torch.ones(4, device=device)
    distributed.all_reduce(ones)
    if ones.tolist() != [place.of] * 4:
        wrong.append(f"a sum over {place.of} processes gave {ones.tolist()}")
    errors = gradient_errors(scale, place, device)
    figures |= {f"gradients against one process: {name}": value for name, value in errors.items()}
    wrong += [f"{name} is {value:.3g}" for name, value in errors.items() if not value <= GRADIENT_TOLERANCE]
    figures |= speed_together(scale, place, device)
    if place.leads:
        say({"figures": figures, "wrong": wrong})
    distributed.barrier()
    distributed.destroy_process_group()


class Gathering(nn.Module):
    """The loss of all processes' pairs, as `Steps` finds it."""

    def __init__(self, pair: nn.Module) -> None:
        super().__init__()
        self.pair = pair

    def forward(self, batch: Batch) -> Tensor:
        text, photo = self.pair(batch)
        return sigmoid_in_batch(gathered(text), gathered(photo))


def gradient_errors(scale: Scale, place: Place, device: torch.device) -> dict[str, float]:
    """Loss and gradients of the processes together against one that has all pairs, float32, without dropout."""
    share = 16
    whole = Batch.drawn(share * place.of, vocabulary=scale.vocabulary).to(device)
    part = part_of(whole, place.number * share, (place.number + 1) * share)
    torch.manual_seed(0)
    size = type(scale.size)(hidden=48, layers=2, heads=4, inner=64, dropout=0.0)
    alone = PackedPair(size, vocabulary=scale.vocabulary).to(device)
    copy = PackedPair(size, vocabulary=scale.vocabulary).to(device)
    copy.load_state_dict(alone.state_dict())
    several_ = DistributedDataParallel(
        Gathering(copy), device_ids=[device] if device.type == "cuda" else None
    )
    wanted = sigmoid_in_batch(*alone(whole))
    found = several_(part)
    torch.autograd.backward(wanted)
    torch.autograd.backward(found)
    differences = squares = 0.0
    for one, other in zip(alone.parameters(), copy.parameters(), strict=True):
        if one.grad is None or other.grad is None:
            raise AssertionError("a weight without a gradient")
        differences += float((one.grad - other.grad).square().sum())
        squares += float(one.grad.square().sum())
    return {
        "loss, relative error": float((found - wanted).detach().abs() / wanted.detach()),
        "all weights, relative error": math.sqrt(differences / squares),
    }


def part_of(batch: Batch, start: int, end: int) -> Batch:
    """The pairs from the `start`-th to before the `end`-th."""

    def cut(values: Tensor, lengths: Tensor) -> Tensor:
        first, last = int(lengths[:start].sum()), int(lengths[:end].sum())
        return values[first:last]

    return Batch(
        cut(batch.tokens, batch.token_lengths),
        batch.token_lengths[start:end],
        cut(batch.regions, batch.region_lengths),
        batch.region_lengths[start:end],
    )


def speed_together(scale: Scale, place: Place, device: torch.device) -> Figures:
    """The step of so many pairs in every process, with averaged gradients and without, in turn."""
    pairs = scale.batches[0]
    drawn: Sequence[Batch] = scale.batches_of(pairs)
    batches = [batch.to(device) for batch in drawn]
    plain, shared = (scale.pair_of(PackedPair).to(device) for _ in range(2))
    averaged = DistributedDataParallel(shared, device_ids=[device] if device.type == "cuda" else None)
    ways = [Step(model, batches, device, torch.bfloat16) for model in (plain, averaged)]
    count = max(2, scale.step_pairs // pairs)
    seconds: list[list[float]] = [[], []]
    for way in ways:
        several(way, len(batches))
    for _ in range(scale.rounds):
        for way, spent in zip(ways, seconds, strict=True):
            distributed.barrier()
            spent.append(timed(lambda way=way: several(way, count), device=device.type) / count)  # type: ignore[misc] # mypy cannot infer the type of a lambda with a default
    alone, all_ = (np.array(one) for one in seconds)
    return {
        f"{OURS}, {pairs:,} pairs a process: pairs/s of all": (pairs * place.of / all_).tolist(),
        f"{OURS}, {pairs:,} pairs a process: share of the speed without averaging": (alone / all_).tolist(),
    }
