"""A run teaches: its cells against a loop, its losses against torch, and a model that learns another's order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from shopwindow.files import DataError
from shopwindow.model.pools import training_pools
from shopwindow.model.rank import rank_pools
from shopwindow.model.recipe import load_recipe
from shopwindow.model.teacher import Teacher, teacher_loss
from shopwindow.model.training import train
from shopwindow.model.validation import Validation
from shopwindow.ranking.answers import read_answers
from shopwindow.ranking.runs import Run
from tests.model.conftest import TinyShop
from tests.model.test_training import tiny_recipe

TAUGHT = {"teacher": {"share": 0.5}, "optimiser.epochs": 2}


def test_cells_are_the_run_s_standardised_scores(tiny_shop: TinyShop) -> None:
    dataset, rng = tiny_shop.train, np.random.default_rng(0)
    queries, products = dataset.query_ids[[0, 0, 0, 3, 3]], dataset.product_ids[[2, 5, 7, 5, 8]]
    scores = rng.normal(size=5)
    teacher = Teacher.of([Run.from_arrays(queries, products, scores)], dataset)
    rows, columns = torch.tensor([3, 0, 1]), torch.tensor([5, 2, 5, 9])
    cells = teacher.cells(rows, columns)
    first = (scores[:3] - scores[:3].mean()) / scores[:3].std()
    second = (scores[3:] - scores[3:].mean()) / scores[3:].std()
    nan = float("nan")
    # The second column of product 5 is left out, so that it does not count twice.
    wanted = [[second[0], nan, nan, nan], [first[1], first[0], nan, nan], [nan] * 4]
    np.testing.assert_allclose(cells.numpy(), wanted, rtol=1e-5)


def test_two_runs_count_alike_and_text_ids_fit(tiny_shop: TinyShop) -> None:
    dataset = tiny_shop.train
    queries, products = dataset.query_ids[[0, 0, 0]], dataset.product_ids[[2, 5, 7]]
    one = Run.from_arrays(queries, products, np.array([0.0, 1.0, 2.0]))
    other = Run.from_arrays(queries.astype(str), products.astype(str), np.array([2e6, 1e6, 0.0]))
    both = Teacher.of([one, other], dataset)
    assert both.scores == pytest.approx(0, abs=1e-6)
    assert both.digest != Teacher.of([one], dataset).digest
    stranger = Run.from_arrays(np.array([987654321]), products[:1], np.array([1.0]))
    with pytest.raises(DataError, match="no row of the teacher's run"):
        Teacher.of([stranger], dataset)


def test_losses_are_those_of_a_loop_over_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, taught = torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator)
    taught[0, 1:] = torch.nan  # one known cell teaches no order
    taught[1, ::2] = torch.nan
    divergences, squares = [], []
    for own, theirs in zip(scores[1:], taught[1:], strict=True):
        known = ~theirs.isnan()
        own, theirs = own[known], theirs[known] / 0.5
        divergences.append(
            functional.kl_div(own.log_softmax(0), theirs.softmax(0), reduction="sum", log_target=False)
        )
        best = int(theirs.argmax())
        leads = [
            ((own[best] - own[i]) - (theirs[best] - theirs[i])) ** 2 for i in range(len(own)) if i != best
        ]
        squares.append(torch.stack(leads).mean())
    kl = teacher_loss(scores, taught, name="kl", temperature=0.5)
    margin = teacher_loss(scores, taught, name="margin-mse", temperature=0.5)
    assert kl.item() == pytest.approx(torch.stack(divergences).mean().item(), rel=1e-5)
    assert margin.item() == pytest.approx(torch.stack(squares).mean().item(), rel=1e-5)
    assert teacher_loss(scores[:1], taught[:1], name="kl", temperature=0.5).item() == 0
    scores.requires_grad_()
    for name in ("kl", "margin-mse"):
        (slope,) = torch.autograd.grad(teacher_loss(scores, taught, name=name, temperature=0.5), scores)
        assert torch.isfinite(slope).all()
        assert not slope[taught.isnan()].any()


def test_a_model_learns_the_order_of_a_teacher_alone(tiny_shop: TinyShop, tmp_path: Path) -> None:
    validation = Validation(tiny_shop.valid, read_answers(tiny_shop.answers))
    changes = {"optimiser.epochs": 24}
    master = train(tiny_shop.train, tiny_recipe(changes), tmp_path / "master", validation=validation)
    pairs = training_pools(master, tiny_shop.train, first=20, others=20)
    teacher = Teacher.of([rank_pools(master, tiny_shop.train, pairs=pairs)], tiny_shop.train)
    recipe = tiny_recipe({**changes, "teacher": {"share": 1.0}, "loss.scale": 10.0})
    pupil = train(tiny_shop.train, recipe, tmp_path / "pupil", validation=validation, teacher=teacher)
    assert pupil.scores["nDCG@5"] > 0.6  # random order scores about 0.25; no pair was learned from
    assert pupil.provenance["teacher"] == teacher.digest


def test_pools_hold_the_nearest_some_others_and_the_query_s_own(tiny_shop: TinyShop, tmp_path: Path) -> None:
    validation = Validation(tiny_shop.valid, read_answers(tiny_shop.answers))
    bundle = train(
        tiny_shop.train, tiny_recipe(TAUGHT | {"teacher": None}), tmp_path / "b", validation=validation
    )
    dataset = tiny_shop.train
    queries, products = training_pools(bundle, dataset, first=5, others=3)
    trained = dataset.pair_training
    assert set(queries.tolist()) == set(dataset.pair_queries[trained].tolist())
    own = set(
        zip(dataset.pair_queries[trained].tolist(), dataset.pair_products[trained].tolist(), strict=True)
    )
    pools = set(zip(queries.tolist(), products.tolist(), strict=True))
    assert own <= pools
    row = int(queries[0])
    scores = bundle.encode_texts([dataset.query_texts[row]]) @ bundle.encode_dataset(dataset).T
    assert set(np.argsort(-scores[0], kind="stable")[:5].tolist()) <= set(products[queries == row].tolist())
    assert 8 <= (queries == row).sum() <= 8 + (dataset.pair_queries == row).sum()
    whole, _ = training_pools(bundle, dataset, first=10**6, others=10)
    assert len(whole) == len(np.unique(dataset.pair_queries[trained])) * len(dataset.product_ids)


def test_a_teacher_and_its_group_go_together(tiny_shop: TinyShop, tmp_path: Path) -> None:
    validation = Validation(tiny_shop.valid, read_answers(tiny_shop.answers))
    with pytest.raises(DataError, match="go together"):
        train(tiny_shop.train, tiny_recipe(TAUGHT), tmp_path / "b", validation=validation)
    with pytest.raises(DataError, match=r"teacher\.share: 0"):
        load_recipe("bow", {"teacher": {"share": 0}})
    with pytest.raises(DataError, match="a teacher looks at a whole batch"):
        load_recipe("bow", {"teacher": {}, "batches.chunk": 8})
