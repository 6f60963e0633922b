"""Among which products is ranked? The pool of each query, its candidates in the order of their file.

Pools make the two runs that frame every score, random order and the oracle, and bound a submission.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Int64, Shaped

from shopwindow.ids import Pairs, RowError, as_ids, first_repeated_pair, group
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.runs import Run
from shopwindow.ranking.tables import Layout, read_table

_LAYOUTS: Final = (
    Layout("query_id product_id", 2, (("query_id", 0), ("product_id", 1))),
    Layout("query_id product_id score", 3, (("query_id", 0), ("product_id", 1))),
    Layout("TREC run", 6, (("query_id", 0), ("product_id", 2))),
)


@dataclass(frozen=True, eq=False)
class Pools:
    """The candidates of each query: queries ascend, candidates keep the order of their file.

    The rows of `queries[i]` are `offsets[i]` to `offsets[i + 1]`. `of_file`: whether the order is that of a file, and
    not of a ranking.
    """

    queries: Shaped[np.ndarray, "queries"]
    offsets: Int64[np.ndarray, "bounds"]
    product_ids: Shaped[np.ndarray, "rows"]
    of_file: bool = True

    @classmethod
    def from_arrays(
        cls, query_ids: Shaped[np.ndarray, "rows"], product_ids: Shaped[np.ndarray, "rows"]
    ) -> Pools:
        """Pools of rows in any order of queries.

        Raises: ValueError (RowError) for a product that stands twice in a pool.
        """
        query_ids = as_ids(query_ids, field="query_id")
        product_ids = as_ids(product_ids, field="product_id")
        groups = group(query_ids)
        repeated = first_repeated_pair(groups.codes, product_ids)
        if repeated is not None:
            pair = f"query {query_ids[repeated]}, product {product_ids[repeated]}"
            raise RowError(f"{pair} occurs twice in the pools", row=repeated, field="product_id")
        return cls(queries=groups.queries, offsets=groups.offsets, product_ids=product_ids[groups.order])

    @classmethod
    def of_run(cls, run: Run) -> Pools:
        """What a run scored, as pools."""
        return cls(queries=run.queries, offsets=run.offsets, product_ids=run.product_ids, of_file=False)

    def __len__(self) -> int:
        return len(self.product_ids)

    @property
    def query_ids(self) -> Shaped[np.ndarray, "rows"]:
        """The query of every row."""
        return np.repeat(self.queries, np.diff(self.offsets))

    @property
    def sizes(self) -> Int64[np.ndarray, "queries"]:
        """The number of candidates of each query."""
        return np.diff(self.offsets)


def read_pools(path: str | os.PathLike[str]) -> Pools:
    """Pools from a table `query_id product_id`, from the competition's nine-column TSV, or from a run's file.

    Raises: DataError naming file, line and field, also for a product that stands twice in a pool.
    """
    table = read_table(path, _LAYOUTS)
    try:
        return Pools.from_arrays(table.ids["query_id"], table.ids["product_id"])
    except RowError as wrong:
        raise table.error(wrong) from wrong


def run_of(pools: Pools, scores: Shaped[np.ndarray, "rows"], *, name: str) -> Run:
    """The run that gives these scores to the rows of the pools."""
    return Run.from_arrays(pools.query_ids, pools.product_ids, scores, name=name)


def random_run(pools: Pools, generator: np.random.Generator, *, name: str = "random") -> Run:
    """Every pool in random order."""
    return run_of(pools, generator.random(len(pools)), name=name)


def oracle_run(pools: Pools, answers: Answers, *, name: str = "oracle") -> Run:
    """The best order that the pools allow: candidates by their grade, what is no answer last."""
    return run_of(pools, grades_of(pools, answers), name=name)


def grades_of(pools: Pools, answers: Answers) -> Shaped[np.ndarray, "rows"]:
    """The grade of every candidate; 0 for one that is not judged."""
    rows = answers.pairs.find(pools.queries, pools.offsets, pools.product_ids)
    return np.where(rows >= 0, np.append(answers.grades, 0.0)[rows], 0.0)


@dataclass(frozen=True)
class Misfit:
    """Where a run and the pools do not fit: candidates that the run does not score, products that it scores outside."""

    unscored: int
    outside: int

    @property
    def notes(self) -> list[str]:
        """A line for each of the two that is not 0."""
        counts = (
            (self.unscored, "candidates of the pools that the run does not score"),
            (self.outside, "products that the run scores outside the pools, ranked all the same"),
        )
        return [f"{subject}: {count}" for count, subject in counts if count]


def misfit(run: Run, pools: Pools) -> Misfit:
    """How many rows of the run and of the pools are missing in the other."""
    scored, candidates = (Pairs.of(one.queries, one.offsets, one.product_ids) for one in (run, pools))
    unscored = scored.find(pools.queries, pools.offsets, pools.product_ids) < 0
    outside = candidates.find(run.queries, run.offsets, run.product_ids) < 0
    return Misfit(int(unscored.sum()), int(outside.sum()))
