"""How is the loss of a very large batch found without its score matrix?

A loss is sums over rows, of some losses over columns too (`losses.ROW_LOSSES`): so scores are made for some rows at a
time, added up, and forgotten; the backward pass makes them again. Memory is rows x pairs, never pairs x pairs. Knows no
tower.

Source: recomputing instead of keeping: Chen et al. 2016, "Training deep nets with sublinear memory cost".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from shopwindow.model.dual import DualEncoder
from shopwindow.model.losses import ROW_LOSSES, lessened, total_of_means
from shopwindow.model.negatives import Cells
from shopwindow.model.recipe import Recipe

CellsOf = Callable[[slice, slice], Cells]
"""What the cells of some rows and some columns are."""
_ALL = slice(None)


def blockwise_loss(
    model: DualEncoder,
    recipe: Recipe,
    text: Float[Tensor, "pairs hidden"],
    photo: Float[Tensor, "pairs hidden"],
    cells_of: CellsOf,
    *,
    rows_at_once: int,
) -> Float[Tensor, ""]:
    """What `steps.batch_loss` gives, with `rows_at_once` rows (or columns) of scores in memory.

    Cost: scores of the rows twice, and, of losses that go both ways, those of the columns twice.
    """
    loss, pairs = ROW_LOSSES[recipe.loss], len(text)
    blocks = [slice(start, start + rows_at_once) for start in range(0, pairs, rows_at_once)]
    with torch.autocast(text.device.type, enabled=False):
        values = []
        for own_text, own_photo in zip(
            model.by_view(text.float()), model.by_view(photo.float()), strict=True
        ):
            part = partial(_sums, model, recipe, cells_of)
            values.append(
                total_of_means(_added(part, own_text, own_photo, [(block, _ALL) for block in blocks]))
            )
            if loss.both_ways:
                columns = _added(part, own_text, own_photo, [(_ALL, block) for block in blocks])
                values[-1] = (values[-1] + total_of_means(columns)) / 2
        return torch.stack(values).mean()


def _added(
    part: Callable[..., Tensor], text: Tensor, photo: Tensor, places: list[tuple[slice, slice]]
) -> Float[Tensor, "means 2"]:
    parts = [
        checkpoint(part, text, photo, rows, columns, use_reentrant=False, preserve_rng_state=False)
        for rows, columns in places
    ]
    return torch.stack(parts).sum(0)


def _sums(
    model: DualEncoder,
    recipe: Recipe,
    cells_of: CellsOf,
    text: Float[Tensor, "pairs width"],
    photo: Float[Tensor, "pairs width"],
    rows: slice,
    columns: slice,
) -> Float[Tensor, "means 2"]:
    """The sums of a loss over some whole rows, or, where all rows and some columns are named, over these columns."""
    cells = cells_of(rows, columns)
    scores = text[rows] @ photo[columns].T
    if recipe.loss != "multi-similarity":
        scale = model.log_scale.exp()
        scores = scale * scores + model.score_bias
        if recipe.loss == "margin":
            scores = lessened(scores, cells, scale * recipe.margin)
    if columns != _ALL:
        scores, cells = scores.T, cells.turned()
    return ROW_LOSSES[recipe.loss].sums(scores, cells)
