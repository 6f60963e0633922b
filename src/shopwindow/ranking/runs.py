"""How did a system rank? A run: scores of (query, product) from any system, read, kept in ranking order, written.

Measures, comparisons, fusion and submissions all start from a run. It knows no model and no answers.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from shopwindow.cells import column_names
from shopwindow.files import STANDARD_STREAM, DataError, open_whole, text_lines
from shopwindow.ids import RowError, as_ids, first_repeated_pair, group, stable_order
from shopwindow.ranking.score_files import (
    ScoreRows,
    is_list_line,
    is_submission,
    rows_of_lists,
    rows_of_run_json,
    rows_of_submission,
)
from shopwindow.ranking.tables import Layout, read_table, shown_name

_LAYOUTS: Final = (
    Layout("query_id product_id score", 3, (("query_id", 0), ("product_id", 1), ("score", 2))),
    Layout("TREC: query Q0 product rank score tag", 6, (("query_id", 0), ("product_id", 2), ("score", 4))),
)


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """Scores of (query, product), in ranking order: queries ascend; inside one the higher score comes first, and of
    equal scores the smaller product id (integers by value, strings by character).

    The rows of `queries[i]` are `offsets[i]` to `offsets[i + 1]`. Made by `from_arrays` or `read_run`.
    """

    name: str
    queries: Shaped[np.ndarray, "queries"]
    offsets: Int64[np.ndarray, "bounds"]
    product_ids: Shaped[np.ndarray, "rows"]
    scores: Float64[np.ndarray, "rows"]

    @classmethod
    def from_arrays(
        cls,
        query_ids: Shaped[np.ndarray, "rows"],
        product_ids: Shaped[np.ndarray, "rows"],
        scores: Shaped[np.ndarray, "rows"],
        *,
        name: str = "run",
    ) -> Run:
        """A run of rows in any order. Empty columns make a run without queries.

        Raises: ValueError (RowError, which knows the row) for a NaN or infinite score, a pair that occurs twice,
        ids that are neither integers nor strings.
        """
        if not len(query_ids) == len(product_ids) == len(scores):
            raise ValueError(
                f"columns of {len(query_ids)}, {len(product_ids)} and {len(scores)} rows; equal lengths were wanted"
            )
        query_ids = as_ids(query_ids, field="query_id")
        product_ids = as_ids(product_ids, field="product_id")
        scores = np.asarray(scores, dtype=np.float64)
        finite = np.isfinite(scores)
        if not finite.all():
            row = int(np.argmin(finite))
            raise RowError(
                f"{scores[row]} cannot be ranked, a finite number was wanted", row=row, field="score"
            )
        groups = group(query_ids)
        repeated = first_repeated_pair(groups.codes, product_ids)
        if repeated is not None:
            pair = f"query {query_ids[repeated]}, product {product_ids[repeated]}"
            raise RowError(f"{pair} occurs twice in the run", row=repeated, field="product_id")
        order = _ranking_order(groups.codes, len(groups.queries), scores, product_ids)
        return cls(
            name=name,
            queries=groups.queries,
            offsets=groups.offsets,
            product_ids=product_ids[order],
            scores=scores[order],
        )

    def __repr__(self) -> str:
        return f"Run({self.name!r}, {len(self.queries):,} queries, {len(self):,} candidates)"

    def __len__(self) -> int:
        return len(self.product_ids)

    @property
    def query_ids(self) -> Shaped[np.ndarray, "rows"]:
        """The query of every row."""
        return np.repeat(self.queries, np.diff(self.offsets))

    @property
    def ranks(self) -> Int64[np.ndarray, "rows"]:
        """The place of every row in its query, from 1."""
        before = np.repeat(self.offsets[:-1], np.diff(self.offsets))
        ranks: Int64[np.ndarray, "rows"] = np.arange(1, len(self) + 1) - before
        return ranks

    @property
    def depth(self) -> int:
        """How many products the longest ranking has; 0 without queries."""
        return int(np.diff(self.offsets).max(initial=0))

    def products_of(self, index: int) -> Shaped[np.ndarray, "candidates"]:
        """The products of `queries[index]`, best first."""
        products: Shaped[np.ndarray, "candidates"] = self.product_ids[
            self.offsets[index] : self.offsets[index + 1]
        ]
        return products

    def equals(self, other: Run) -> bool:
        """Whether both give the same scores to the same pairs."""
        columns = ("queries", "offsets", "product_ids", "scores")
        return all(np.array_equal(getattr(self, one), getattr(other, one)) for one in columns)


def _ranking_order(
    codes: Int64[np.ndarray, "rows"],
    queries: int,
    scores: Float64[np.ndarray, "rows"],
    product_ids: Shaped[np.ndarray, "rows"],
) -> Int64[np.ndarray, "rows"]:
    """Rows by query, then falling score, then rising product; ties are settled apart because they are few."""
    order: Int64[np.ndarray, "rows"] = np.argsort(-scores)
    order = order[stable_order(codes[order], queries)]
    sorted_codes, sorted_scores = codes[order], scores[order]
    tied = (sorted_codes[1:] == sorted_codes[:-1]) & (sorted_scores[1:] == sorted_scores[:-1])
    if tied.any():
        among = np.flatnonzero(np.append(tied, False) | np.append(False, tied))
        rows = order[among]
        order[among] = rows[np.lexsort((product_ids[rows], -scores[rows], codes[rows]))]
    return order


def read_run(
    path: str | os.PathLike[str], *, name: str | None = None, score_column: str | None = None
) -> Run:
    """A run from a file, known by its first line. The name is the file's, without its endings.

    - TREC: `query Q0 product rank score tag`. Only the score decides the order; the rank column is not read.
    - A table `query_id product_id score`, parted by tabs, commas, semicolons or spaces, one of them per file. With a
      header the third column may have any name, and there may be further columns: `score_column` says which one.
    - JSON `{query: {product: score}}`, as pytrec_eval and ranx have it.
    - Lines `query,[[score,'product'],...]`.
    - The competition's submission: the score is 1 over the place.

    BOM, CRLF, gzip and `-` (standard input) are read.

    Raises: DataError naming file, line and field.
    """
    shown = shown_name(path)
    lines = ((number, line) for number, line in text_lines(path) if line and not line.isspace())
    first = next(lines, None)
    table: ScoreRows
    if first is None:
        raise DataError("is empty, a run was wanted", path=shown)
    every = itertools.chain([first], lines)
    if first[1].lstrip().startswith("{"):
        table = rows_of_run_json("\n".join(line for _, line in every), shown)
    elif is_submission(first[1]):
        table = rows_of_submission(lines, first[1], shown)
    elif is_list_line(first[1]):
        table = rows_of_lists(every, shown)
    else:
        return _run_of_table(path, every, name, score_column)
    columns = table.columns()
    try:
        return Run.from_arrays(
            columns["query_id"], columns["product_id"], columns["score"], name=name or run_name(path)
        )
    except RowError as wrong:
        raise table.error(wrong) from wrong


def _run_of_table(
    path: str | os.PathLike[str],
    lines: Iterable[tuple[int, str]],
    name: str | None,
    score_column: str | None,
) -> Run:
    score = "score" if score_column is None else column_names([score_column])[0]
    layouts: tuple[Layout, ...] = _LAYOUTS
    if score_column is not None:
        layouts = (Layout("a header", -1, (("query_id", 0), ("product_id", 1), (score, 2))),)
    any_name = "score" if score_column is None else None
    table = read_table(path, layouts, numbers=frozenset({score}), lines=lines, any_name=any_name)
    try:
        return Run.from_arrays(
            table.ids["query_id"],
            table.ids["product_id"],
            table.numbers[score],
            name=name or run_name(path),
        )
    except RowError as wrong:
        raise table.error(wrong) from wrong


def run_name(path: str | os.PathLike[str]) -> str:
    """The name of a run's file without folder and endings; what is no UTF-8 becomes `?`.

    >>> run_name("runs/imagebert.csv.gz"), run_name("-")
    ('imagebert', 'stdin')
    """
    if os.fspath(path) == STANDARD_STREAM:
        return "stdin"
    name = Path(path).name.encode("utf-8", "replace").decode().removesuffix(".gz")
    for ending in (".csv", ".tsv", ".txt", ".run", ".trec", ".json"):
        name = name.removesuffix(ending)
    return name


def write_run(run: Run, path: str | os.PathLike[str]) -> None:
    """Writes a TREC run; read again it is the same run, bit by bit (scores by `repr`). `-` is standard output.

    Raises: ValueError where an id holds white space, which a TREC run cannot carry.
    """
    for ids in (run.queries, run.product_ids):
        if ids.dtype.kind == "U":
            bad = next((word for word in ids.tolist() if len(word.split()) != 1), None)
            if bad is not None:
                raise ValueError(f"id {bad!r} holds white space, which a TREC run cannot carry")
    tag = "_".join(run.name.split()) or "run"
    with open_whole(path) as file:
        for index, query in enumerate(run.queries.tolist()):
            rows = slice(run.offsets[index], run.offsets[index + 1])
            pairs = zip(run.product_ids[rows].tolist(), run.scores[rows].tolist(), strict=True)
            file.writelines(
                f"{query} Q0 {product} {rank} {score!r} {tag}\n"
                for rank, (product, score) in enumerate(pairs, start=1)
            )
