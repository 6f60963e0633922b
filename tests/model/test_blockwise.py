"""Blocks of scores, in one process and in two, give the loss and gradients of the whole matrix in less memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, distributed
from torch.utils._python_dispatch import TorchDispatchMode

from shopwindow.model.blockwise import blockwise_loss
from shopwindow.model.encoder import PartsEncoder
from shopwindow.model.negatives import Cells, KnownPairs, choose_cells
from shopwindow.model.processes import Place, run_together
from shopwindow.model.recipe import LossName
from shopwindow.model.steps import batch_loss
from tests.model.conftest import TinyShop
from tests.model.test_bundle_parts import made
from tests.model.test_pairs import towers

PAIRS, WIDTH = 14, 16
TEXTS, PRODUCTS = torch.arange(PAIRS) % 5, torch.arange(PAIRS) // 2
WEIGHTS = 1 + torch.arange(PAIRS) % 3 - (torch.arange(PAIRS) == 4).float()
KNOWN = KnownPairs(TEXTS.numpy()[:6], PRODUCTS.numpy()[6:12])
ALL = slice(None)


def cells_of(rows: slice, columns: slice) -> Cells:
    """Several right cells a row (one more for each known pair), of several weights; one pair weighs 0."""
    cells = choose_cells(
        TEXTS, PRODUCTS, masking="known", known=KNOWN, weights=WEIGHTS, rows=rows, columns=columns
    )
    left_out = ~cells.wrong & (cells.right == 0)
    also = (torch.arange(PAIRS)[rows, None] + torch.arange(PAIRS)[None, columns]) % 2 == 0
    return Cells(torch.where(left_out & also, 2.0, cells.right), cells.wrong)


def no_right_cells(rows: slice, columns: slice) -> Cells:
    return choose_cells(TEXTS, PRODUCTS, weights=0 * WEIGHTS, rows=rows, columns=columns)


def vectors() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(  # type: ignore[return-value] # they are two
        torch.nn.functional.normalize(torch.randn(PAIRS, WIDTH, generator=generator), dim=1) for _ in range(2)
    )


def outcome(
    model: PartsEncoder, loss_of: Callable[[Tensor, Tensor], Tensor], own: slice = ALL
) -> dict[str, Tensor]:
    """The loss of the vectors of some pairs, and its gradients."""
    model.zero_grad()
    text, photo = (one[own].clone().requires_grad_() for one in vectors())
    loss = loss_of(text, photo)
    torch.autograd.backward(loss)
    found = {"loss": loss.detach(), "text": text.grad, "photo": photo.grad}
    found |= {"scale": model.log_scale.grad, "bias": model.score_bias.grad}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def whole(model: PartsEncoder, loss: LossName, cells: Cells) -> dict[str, Tensor]:
    return outcome(model, lambda text, photo: batch_loss(model, loss, text, photo, cells))


def assert_equal(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert got.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(got[name], tensor, atol=2e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("chosen", [cells_of, no_right_cells])
@pytest.mark.parametrize("scores_at_once", [1, 26, 10_000])
@pytest.mark.parametrize("loss", get_args(LossName))
def test_blocks_give_the_loss_and_the_gradients_of_the_whole_matrix(
    loss: LossName, scores_at_once: int, chosen: Callable[[slice, slice], Cells]
) -> None:
    model = towers(0.0)

    def in_blocks(text: Tensor, photo: Tensor) -> Tensor:
        return blockwise_loss(model, loss, text, photo, chosen, scores_at_once=scores_at_once)

    assert_equal(outcome(model, in_blocks), whole(model, loss, chosen(ALL, ALL)))


@pytest.mark.parametrize("loss", get_args(LossName))
def test_blocks_do_so_of_several_views_with_a_common_part(loss: LossName, tiny_shop: TinyShop) -> None:
    model = made(tiny_shop, "two views and a common part").model
    assert len(model.by_part(vectors()[0])) == 2
    got = outcome(
        model,
        lambda text, photo: blockwise_loss(model, loss, text, photo, cells_of, scores_at_once=26),
    )
    assert_equal(got, whole(model, loss, cells_of(ALL, ALL)))


def test_without_gradients_the_loss_is_the_same() -> None:
    model, (text, photo) = towers(0.0), vectors()
    with torch.no_grad():
        got = blockwise_loss(model, "margin", text, photo, cells_of, scores_at_once=26)
    torch.testing.assert_close(got, whole(model, "margin", cells_of(ALL, ALL))["loss"])


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch's
    """Keeps how many values the largest tensor has that any operation makes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's
        self.values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(one, Tensor):
                self.values = max(self.values, one.untyped_storage().nbytes() // one.element_size())
        return out


@pytest.mark.parametrize("loss", get_args(LossName))
def test_no_tensor_is_larger_than_a_block_or_a_few_figures_a_pair(loss: LossName) -> None:
    pairs, at_once = 240, 400
    numbers = torch.arange(pairs)
    model, largest = towers(0.0), Largest()
    text, photo = (torch.randn(pairs, 2, requires_grad=True) for _ in range(2))

    def same(rows: slice, columns: slice) -> Cells:
        return choose_cells(numbers, numbers, masking="same", rows=rows, columns=columns)

    with largest:
        torch.autograd.backward(blockwise_loss(model, loss, text, photo, same, scores_at_once=at_once))
    assert at_once <= largest.values <= 4 * pairs  # rows of 20 by all pairs are 4,800, the matrix 57,600


def share_blocks(place: Place, say: Callable[[Any], None]) -> None:
    """The mean of the gradients over processes, each of its own half, for every loss."""
    distributed.init_process_group("gloo")
    model, results = towers(0.0), {}
    own = slice(place.number * PAIRS // 2, (place.number + 1) * PAIRS // 2)
    for loss in get_args(LossName):

        def in_blocks(text: Tensor, photo: Tensor, loss: LossName = loss) -> Tensor:
            return blockwise_loss(model, loss, text, photo, cells_of, scores_at_once=26)

        found = outcome(model, in_blocks, own)
        for name in ("text", "photo"):
            rows = torch.zeros(PAIRS, WIDTH)
            rows[own] = found[name]
            found[name] = rows
        for tensor in found.values():
            distributed.all_reduce(tensor)
            tensor /= place.of
        results[loss] = {name: tensor.tolist() for name, tensor in found.items()}
    if place.leads:
        say(results)
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_of_half_the_pairs_find_the_loss_and_the_gradients_of_one() -> None:
    said: list[Any] = []
    run_together(2, share_blocks, tell=said.append)
    model = towers(0.0)
    for loss in get_args(LossName):
        got = {name: torch.tensor(values) for name, values in said[0][loss].items()}
        assert_equal(got, whole(model, loss, cells_of(ALL, ALL)))
