"""Two processes that share a batch find the loss, the gradients and the weights of one that has it all."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import distributed

from shopwindow.data.batches import PairBatches
from shopwindow.data.regions import Regions
from shopwindow.files import DataError
from shopwindow.model.processes import Place, _end_with_parent, gathered, run_together
from shopwindow.model.recipe import Recipe, load_recipe
from shopwindow.model.training import train
from shopwindow.model.validation import Validation
from shopwindow.model.watch import Moment
from shopwindow.ranking.answers import read_answers
from tests.model.conftest import TinyShop
from tests.model.parts import WORDS, linear, part, transformer
from tests.model.test_training import TINY, KillError


def recipe_of(**changes: Any) -> Recipe:
    return load_recipe("small", {**TINY, "optimiser.epochs": 2, **changes})


@pytest.fixture
def validation(tiny_shop: TinyShop) -> Validation:
    return Validation(tiny_shop.valid, read_answers(tiny_shop.answers))


def gather_in_a_process(place: Place, say: Callable[[Any], None]) -> None:
    """Two of four rows each, a weight each that all share."""
    distributed.init_process_group("gloo")
    rows = torch.arange(8.0).view(4, 2)
    weight = torch.ones(2, requires_grad=True)
    whole = gathered((rows * weight)[2 * place.number : 2 * place.number + 2])
    torch.autograd.backward((whole @ whole.T).square().sum())
    assert weight.grad is not None
    distributed.all_reduce(weight.grad)
    if place.leads:
        say((whole.tolist(), (weight.grad / place.of).tolist()))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_gathered_rows_have_the_gradient_of_all_rows() -> None:
    found: list[Any] = []
    run_together(2, gather_in_a_process, tell=found.append)
    rows, weight = torch.arange(8.0).view(4, 2), torch.ones(2, requires_grad=True)
    whole = rows * weight
    torch.autograd.backward((whole @ whole.T).square().sum())
    assert weight.grad is not None
    assert found == [(rows.tolist(), weight.grad.tolist())]


def fail(place: Place, _: Callable[[Any], None], *, error: str = "wrong") -> None:
    raise DataError(error, path="a.tsv") if place.number else ValueError("other")


def sit(*_: object) -> None:
    raise SystemExit(3)


@pytest.mark.slow
def test_a_process_that_fails_ends_all() -> None:
    with pytest.raises((DataError, RuntimeError), match=r"a\.tsv: wrong|other"):
        run_together(2, fail, tell=print)
    with pytest.raises(RuntimeError, match="ended with 3"):
        run_together(1, sit, tell=print)


def test_processes_share_each_batch_and_repeat_or_drop_nothing(tiny_shop: TinyShop) -> None:
    whole = PairBatches(tiny_shop.train, batch_size=30, epochs=2, seed=1, start=3)
    shares = [
        PairBatches(tiny_shop.train, batch_size=30, epochs=2, seed=1, start=3, process=n, processes=3)
        for n in range(3)
    ]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert all(np.array_equal(part.products, batch.products) for part in parts)
        assert [part.share for part in parts] == [slice(0, 10), slice(10, 20), slice(20, 30)]
        joined = Regions.join([part.regions for part in parts])
        assert torch.equal(joined.features, batch.regions.features)
        assert torch.equal(joined.counts, batch.regions.counts)
    with pytest.raises(ValueError, match="4 processes do not divide it"):
        PairBatches(tiny_shop.train, batch_size=30, epochs=2, seed=1, processes=4)


@pytest.mark.slow
def test_two_processes_train_to_the_weights_of_one_and_resume(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path
) -> None:
    """With dropout, of chunks that divide a share; killed once, and gone on with. Bags beside towers, a common part and
    a mean of the weights: what each process finds for itself must be the same."""
    both = part(WORDS | transformer(dropout=0.2), linear() | transformer(dropout=0.2))
    common = part(WORDS, linear(), 8, share="learned")
    changes = {"loss.name": "siglip", "batches.chunk": 5, "optimiser.average": 0.9}
    recipe = recipe_of(parts=[both, common], **changes)
    train(tiny_shop.train, recipe, tmp_path / "one", validation=validation)

    def killed(moment: Moment) -> None:
        if moment.step == 5:
            raise KillError

    def together(progress: Callable[[Moment], None]) -> None:
        train(
            tiny_shop.train,
            recipe,
            tmp_path / "two",
            validation=validation,
            devices=2,
            seconds_between_saves=0.0,
            progress=progress,
        )

    with pytest.raises(KillError):
        together(killed)
    steps: list[int] = []
    together(lambda moment: steps.append(moment.step))
    assert steps[0] > 1
    assert steps[-1] == 12
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, atol=1e-5, rtol=1e-4, msg=name)


def test_what_several_devices_cannot_do_is_named_before_the_training(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path
) -> None:
    for recipe, devices, says in (
        (recipe_of(), 4, "devices: 4, they do not divide"),
        (recipe_of(late={"width": 8}), 2, "late interaction"),
        (recipe_of(), 0, "at least 1"),
    ):
        with pytest.raises(DataError, match=says):
            train(tiny_shop.train, recipe, tmp_path / "b", validation=validation, devices=devices)


def _begin_another(said: Any) -> None:
    """Starts a process that would run for long, tells its number, and waits."""
    other = multiprocessing.get_context("fork").Process(target=_wait_for_parent)
    other.start()
    said.send(other.pid)
    time.sleep(60)


def _wait_for_parent() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    time.sleep(60)


def test_a_process_ends_when_the_one_that_began_it_was_killed() -> None:
    context = multiprocessing.get_context("spawn")
    hears, says = context.Pipe(duplex=False)
    first = context.Process(target=_begin_another, args=(says,))
    first.start()
    number = hears.recv()
    os.kill(number, 0)
    first.kill()
    first.join()
    assert ends_within(number, seconds=20)


def ends_within(number: int, *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
