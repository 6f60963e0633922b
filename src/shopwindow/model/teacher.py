"""What does another system think of a batch's cells? The scores of a run teach a model that has one vector.

A run of a cross-encoder, of several models fused, or of anybody, ranks pools of the training queries. Where a cell of
a batch is in a pool, the model learns the run's opinion of it. Knows no model: ranking takes a run, never a model.

Legend of axes: queries and products are the rows and columns of a batch's matrix.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, Shaped
from torch import Tensor
from torch.nn import functional

from shopwindow.data.dataset import Dataset
from shopwindow.files import DataError
from shopwindow.model.recipe import TeacherLoss, TeacherRecipe
from shopwindow.ranking.fusion import fuse
from shopwindow.ranking.runs import Run

_METHOD: Final = "zscore"


@dataclass(frozen=True, eq=False)
class Teacher:
    """Scores of (query, product) rows of a dataset, comparable inside each query: mean 0, standard deviation 1."""

    keys: Int64[np.ndarray, " pairs"]
    """query * products + product, rising."""
    scores: Float32[np.ndarray, " pairs"]
    products: int
    """Of the dataset."""

    @classmethod
    def of(cls, runs: Sequence[Run], dataset: Dataset) -> Teacher:
        """What some runs think, the mean of their standardised scores. Pairs that the dataset lacks are passed over.

        Raises: DataError where the runs rank no training query of the dataset.
        """
        run = fuse(runs, method=_METHOD)
        queries = _rows_of(run.query_ids, dataset.query_ids)
        products = _rows_of(run.product_ids, dataset.product_ids)
        known = (queries >= 0) & (products >= 0)
        trained = np.unique(dataset.pair_queries[dataset.pair_training])
        if not np.isin(queries[known], trained).any():
            raise DataError("is a query of no row of the teacher's run", path=dataset.path, field="query_id")
        count = len(dataset.product_ids)
        keys = queries[known] * count + products[known]
        order = np.argsort(keys)
        return cls(keys[order], run.scores[known][order].astype(np.float32), count)

    @property
    def digest(self) -> str:
        """What tells one teacher from another."""
        return hashlib.sha256(self.keys.tobytes() + self.scores.tobytes()).hexdigest()

    def cells(
        self, queries: Int64[Tensor, " queries"], products: Int64[Tensor, " products"]
    ) -> Float32[Tensor, "queries products"]:
        """The score of each cell of a batch; NaN where the pair is in no pool, and where a column is there twice."""
        rows, columns = queries.numpy(), products.numpy()
        wanted = rows[:, None] * self.products + columns[None]
        places = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        found = self.keys[places] == wanted
        _, first = np.unique(columns, return_index=True)
        found &= np.isin(np.arange(len(columns)), first)[None]
        return torch.from_numpy(np.where(found, self.scores[places], np.float32(np.nan)))


@dataclass(frozen=True)
class Guide:
    """What a teacher says of one batch, and how the model learns from it."""

    taught: Float32[Tensor, "queries products"]
    recipe: TeacherRecipe

    def mixed(self, scores: Float[Tensor, "queries products"], usual: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The usual loss of a batch's scores and the teacher's, by share."""
        own = self.recipe
        taught = self.taught.to(scores.device)
        theirs = teacher_loss(scores, taught, name=own.name, temperature=own.temperature)
        return (1 - own.share) * usual + own.share * theirs


def teacher_loss(
    scores: Float[Tensor, "queries products"],
    taught: Float[Tensor, "queries products"],
    *,
    name: TeacherLoss,
    temperature: float,
) -> Float[Tensor, ""]:
    """How far a batch's scores are from the teacher's, the mean over rows in which it knows two cells or more; 0 where
    there are none. NaN in `taught`: not known.

    kl: the divergence of the model's softmax over known cells from the teacher's, whose scores are divided by
    `temperature`. margin-mse: the mean square of the differences of leads: each known cell's over the row's first in
    the teacher's order.

    Source: Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network"; Hofstätter et al. 2020,
    "Improving efficient neural ranking models with cross-architecture knowledge distillation".
    """
    known = ~taught.isnan()
    rows = known.sum(1) >= 2
    if not rows.any():
        return scores.new_zeros(())
    known, scores, wanted = known[rows], scores[rows], taught[rows].nan_to_num() / temperature
    if name == "kl":
        theirs = functional.log_softmax(wanted.masked_fill(~known, -torch.inf), dim=1)
        own = functional.log_softmax(scores.masked_fill(~known, -torch.inf), dim=1)
        terms = theirs.exp() * (theirs - own).masked_fill(~known, 0)
        return terms.sum(1).mean()
    best = wanted.masked_fill(~known, -torch.inf).argmax(1, keepdim=True)
    lead, their_lead = scores.gather(1, best) - scores, wanted.gather(1, best) - wanted
    squares = (lead - their_lead).square().masked_fill(~known, 0)
    return (squares.sum(1) / (known.sum(1) - 1)).mean()


def _rows_of(
    asked: Shaped[np.ndarray, " asked"], ids: Shaped[np.ndarray, " ids"]
) -> Int64[np.ndarray, " asked"]:
    """The row of each id, -1 where there is none; ids of a run may be text where the dataset's are numbers."""
    rows = {str(own): row for row, own in enumerate(ids.tolist())}
    return np.array([rows.get(str(own), -1) for own in asked.tolist()], np.int64)
