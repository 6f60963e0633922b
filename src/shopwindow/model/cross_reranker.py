"""What do the first products score when a cross-encoder reads each together with the query?

A `Reranker` (`rerankers.py`) made of a trained cross-encoder. Its scores stand for themselves: it was learned apart
from the vectors, by any tokenizer. Knows no index.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float64

from shopwindow.data.regions import Regions
from shopwindow.model.cross_bundle import CrossBundle
from shopwindow.model.cross_inputs import BOX_VALUES, LABEL_VALUES, pack_regions, repeated, unpack_regions
from shopwindow.model.rerankers import Pool, Query

AT_A_TIME: Final = 16
"""Candidates scored between two looks at the clock."""


@dataclass(frozen=True, eq=False)
class CrossReranker:
    """Scores a pool pair by pair. Keeps of a product its regions in float16, with boxes, and labels where it has tags.

    `budget_seconds`: how long a pool may take; None: no limit. The candidates that are left keep their order, below
    those that were scored. At least the first AT_A_TIME are scored. `clock` gives seconds.
    """

    bundle: CrossBundle
    budget_seconds: float | None = None
    clock: Callable[[], float] = time.perf_counter

    @property
    def name(self) -> str:
        """The kind of model: what an index keeps for it is the same for all of a kind."""
        return self.bundle.model.kind

    @property
    def kept_values(self) -> int:
        """Features, four sides of the box, and two numbers of the label where it has tags."""
        return self.bundle.model.feature_size + BOX_VALUES + (LABEL_VALUES if self._labels else 0)

    @property
    def _labels(self) -> bool:
        return self.bundle.tags is not None

    def keep(self, regions: Regions) -> Regions | None:
        """The regions with their boxes in one row each, float16. Raises: ValueError for regions without boxes."""
        return pack_regions(regions, labels=self._labels)

    def score(self, query: Query, pool: Pool) -> Float64[np.ndarray, " candidates"]:
        """The scores of the pool's candidates.

        Raises: ValueError for a pool without `kept`.
        """
        if pool.kept is None:
            raise ValueError(f"re-ranking {self.name} needs what `keep` made of the pool's regions")
        tokens, _ = self.bundle.tokenise([query.text])
        count = len(pool.ids)
        step = count if self.budget_seconds is None else AT_A_TIME
        started, scores, done = self.clock(), np.empty(count), 0
        while done < count and (not done or self._in_time(started)):
            rows = torch.arange(done, min(done + step, count))
            regions = unpack_regions(
                pool.kept.take(rows), self.bundle.model.feature_size, labels=self._labels
            )
            scores[rows.numpy()] = self.bundle.score(*repeated(tokens, len(rows)), regions)
            done += len(rows)
        if done < count:
            scores[done:] = scores[:done].min() - 1 - np.arange(count - done)
        return scores

    def _in_time(self, started: float) -> bool:
        return self.budget_seconds is None or self.clock() - started < self.budget_seconds
