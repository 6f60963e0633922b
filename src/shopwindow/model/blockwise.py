"""How is the loss of a very large batch found without its score matrix, and by several processes together?

A loss is figures of rows, of some losses of columns too, found by sweeps over the matrix (`losses.Sweep`): so scores
are made for a block of rows and columns at a time, looked at, and forgotten. Each sweep is then made again for its
gradients, which are ready before the backward pass asks. Memory is that of a block and some vectors a pair, never
pairs x pairs. Of several processes each sweeps its own rows by all columns; what they find is joined. Knows no tower.

Source: sums of powers joined part by part: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax".
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from shopwindow.model.encoder import PartsEncoder
from shopwindow.model.losses import MARGIN, ROW_LOSSES, Join, Sweep, lessened, total_of_means
from shopwindow.model.negatives import Cells
from shopwindow.model.processes import gathered, joined, place, summed
from shopwindow.model.recipe import LossName

CellsOf = Callable[[slice, slice], Cells]
"""What the cells of some rows and some columns of the whole matrix are."""
Block = tuple[slice, slice]
"""Rows of this process, counted from its first, by columns."""
Ways = list[Tensor]
"""Figures of all rows [figures, rows] and, of a loss that goes both ways, of all columns [figures, columns]."""
SCORES_AT_ONCE: Final = {"cpu": 1 << 18, "cuda": 1 << 24}
"""Scores of a block. A processor's caches hold them and what is made of them; a GPU must have enough to do."""
_JOINS: Final[dict[Join, tuple[float, Callable[[Tensor, Tensor], Tensor]]]] = {
    "sum": (0.0, torch.add),
    "logsumexp": (-torch.inf, torch.logaddexp),
    "amax": (-torch.inf, torch.maximum),
}
"""What nothing is, and how two become one."""


def blockwise_loss(
    model: PartsEncoder,
    name: LossName,
    text: Float[Tensor, "share values"],
    photo: Float[Tensor, "share values"],
    cells_of: CellsOf,
    *,
    scores_at_once: int = 0,
) -> Float[Tensor, ""]:
    """What `steps.batch_loss` gives, with at most `scores_at_once` scores in memory (0: `SCORES_AT_ONCE`).

    Of several processes each gives the vectors of its own share of the batch, as many as the others; all get the loss
    of the whole batch. The gradient is that of the own share times the number of processes: the mean over processes,
    as DistributedDataParallel makes it, is then that of the batch.
    Cost: each score is found twice (of multi-similarity three times) and its two gradients once, both ways together;
    those of right cells twice as often.
    """
    side = int((scores_at_once or SCORES_AT_ONCE.get(text.device.type, SCORES_AT_ONCE["cuda"])) ** 0.5)
    with torch.autocast(text.device.type, enabled=False):
        bias = lead = model.score_bias.new_zeros(())
        text, photo = text.float(), photo.float()
        if name != "multi-similarity":
            scale, bias = model.log_scale.exp(), model.score_bias
            text = scale * text
            lead = scale * (MARGIN if name == "margin" else 0)
        total = text.new_zeros(())
        for (weight, own_text), (_, own_photo) in zip(model.by_part(text), model.by_part(photo), strict=True):
            value = _Loss.apply(name, cells_of, side, own_text, own_photo, bias, lead)  # type: ignore[no-untyped-call] # torch's
            total = total + weight * value
        return total


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: LossName, cells_of: CellsOf, side: int, *inputs: Tensor) -> Tensor:
        text, photo, *others = inputs
        matrix = _Matrix(loss, cells_of, side, [text, gathered(photo), *others])
        value, adjoints = matrix.value()
        wanted = ctx.needs_input_grad[3:]
        if any(wanted):
            of_text, of_photo, *of_others = matrix.gradients(adjoints, wanted)
            number, world = place()
            of_photo = summed(of_photo).chunk(world)[number]
            ctx.save_for_backward(*(gradient.mul_(world) for gradient in (of_text, of_photo, *of_others)))
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, *(gradient * own for own in ctx.saved_tensors)


class _Matrix:
    """This process's rows of the matrix by all columns, and what is found of them.

    Inputs are text, photo, the bias of all scores, the lead that right cells must have. The figures of the rows are
    this process's own; those of the columns are joined over processes.
    """

    def __init__(self, loss: LossName, cells_of: CellsOf, side: int, inputs: list[Tensor]) -> None:
        text, photo = inputs[:2]
        self._loss = ROW_LOSSES[loss]
        self._leading = loss == "margin"
        self._cells_of = cells_of
        self._inputs = inputs
        self._first_row = place()[0] * len(text)
        self._blocks: list[Block] = list(itertools.product(_parts(len(text), side), _parts(len(photo), side)))
        self._with_right: list[Block] = []
        ways = (text, photo) if self._loss.both_ways else (text,)
        self._so_far: Ways = [text.new_empty(0, len(way)) for way in ways]

    def value(self) -> tuple[Float[Tensor, ""], Ways]:
        """The loss, and its gradients with respect to the figures of each way."""
        for sweep in self._loss.sweeps:
            self._find(sweep)
        value, adjoints = self._inputs[0].new_zeros(()), list[Tensor]()
        for way, so_far in enumerate(self._so_far):
            with torch.enable_grad():
                figures = so_far.detach().requires_grad_()
                sums = self._loss.means(figures)
                whole = (sums.detach().clone() if way else summed(sums.detach())).requires_grad_()
                part = total_of_means(whole) / len(self._so_far)
            value += part.detach()
            adjoints += torch.autograd.grad(sums, figures, torch.autograd.grad(part, whole))
        return value, adjoints

    def gradients(self, adjoints: Ways, wanted: tuple[bool, ...]) -> list[Tensor]:
        """Those of the inputs, as far as they come from this process's rows. The last sweep is the first: it tells what
        depends on what the sweeps before it found."""
        out = [torch.zeros_like(tensor) for tensor in self._inputs]
        for sweep in reversed(self._loss.sweeps):
            before = len(adjoints[0]) - sweep.count
            earlier = [adjoint.new_zeros(before, adjoint.shape[1]) for adjoint in adjoints]
            if sweep.join != "amax":
                for block in self._blocks_of(sweep):
                    self._add_gradients(sweep, block, adjoints, out, earlier, wanted)
            earlier[1:] = [summed(own) for own in earlier[1:]]
            adjoints = [own[:before] + more for own, more in zip(adjoints, earlier, strict=True)]
        return out

    def _find(self, sweep: Sweep) -> None:
        nothing, join = _JOINS[sweep.join]
        new = [so_far.new_full((sweep.count, so_far.shape[1]), nothing) for so_far in self._so_far]
        for block in self._blocks_of(sweep):
            cells = self._cells(block)
            if sweep is self._loss.sweeps[0] and bool(cells.right.any()):
                self._with_right.append(block)
            figures = self._figures(
                sweep, cells, _of_places(self._inputs, block), _of_ways(self._so_far, block)
            )
            for own, part in zip(_of_ways(new, block), figures, strict=True):
                own.copy_(join(own, part))
        new[1:] = [joined(own, join) for own in new[1:]]
        self._so_far = [torch.cat(both) for both in zip(self._so_far, new, strict=True)]

    def _add_gradients(
        self,
        sweep: Sweep,
        block: Block,
        adjoints: Ways,
        out: list[Tensor],
        earlier: Ways,
        wanted: tuple[bool, ...],
    ) -> None:
        """Adds those of the inputs to `out`, those of what earlier sweeps found to `earlier`."""
        before = len(earlier[0])
        so_far = _of_ways(self._so_far, block)
        leaves = [*_of_places(self._inputs, block), *(own[:before] for own in so_far)]
        sums = [*_of_places(out, block), *_of_ways(earlier, block)]
        needed = [*wanted, *(before > 0 for _ in so_far)]
        leaves = [leaf.detach().requires_grad_(need) for leaf, need in zip(leaves, needed, strict=True)]
        with torch.enable_grad():
            figures = self._figures(sweep, self._cells(block), leaves[: len(wanted)], leaves[len(wanted) :])
        weights = []
        for part, whole, adjoint in zip(figures, so_far, _of_ways(adjoints, block), strict=True):
            share = (
                _share(part.detach(), whole[before : before + sweep.count])
                if sweep.join == "logsumexp"
                else 1
            )
            weights.append(adjoint[before:] * share)
        asked = [(leaf, own) for leaf, own in zip(leaves, sums, strict=True) if leaf.requires_grad]
        gradients = torch.autograd.grad(figures, [leaf for leaf, _ in asked], weights, allow_unused=True)
        for (_, own), gradient in zip(asked, gradients, strict=True):
            if gradient is not None:
                own += gradient

    def _figures(self, sweep: Sweep, cells: Cells, inputs: list[Tensor], so_far: Ways) -> Ways:
        """What a sweep finds in a block, of each way."""
        text, photo, bias, lead = inputs
        scores = torch.addmm(bias, text, photo.T)
        if self._leading:
            scores = lessened(scores, cells, lead)
        figures = [sweep.figures(scores, cells, so_far[0])]
        if self._loss.both_ways:
            figures.append(sweep.figures(scores.T, cells.turned(), so_far[1]))
        return figures

    def _cells(self, block: Block) -> Cells:
        rows, columns = block
        return self._cells_of(slice(self._first_row + rows.start, self._first_row + rows.stop), columns)

    def _blocks_of(self, sweep: Sweep) -> list[Block]:
        return self._with_right if sweep.of_right else self._blocks


def _parts(count: int, side: int) -> list[slice]:
    return [slice(start, min(start + side, count)) for start in range(0, count, side)]


def _of_places(inputs: list[Tensor], block: Block) -> list[Tensor]:
    """What a block takes of text, photo and the others: views."""
    text, photo, *others = inputs
    return [text[block[0]], photo[block[1]], *others]


def _of_ways(so_far: Ways, block: Block) -> Ways:
    """What a block takes of the figures of each way: views."""
    return [own[:, places] for own, places in zip(so_far, block, strict=False)]


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """Which share of a sum of powers is that of a part, of their logarithms; 0 of nothing."""
    return (part - whole).exp().masked_fill(part == -torch.inf, 0)
