"""Which products are right? The answers (qrels) of each judged query, with grades.

A judged query without any answer is kept: it counts 0 in every measure (`measures.py` says so).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from shopwindow.cells import column_names
from shopwindow.files import DataError, parse_json, read_text
from shopwindow.ids import (
    Pairs,
    RowError,
    as_ids,
    codes_of,
    first_other_spelling,
    first_repeated_pair,
    group,
    ids_from_text,
    offsets_of,
    other_spelling_problem,
)
from shopwindow.ranking.score_files import distinct_keys, rows_of_json
from shopwindow.ranking.tables import Layout, read_table, shown_name

_QRELS: Final = Layout(
    "TREC qrels: query 0 product grade", 4, (("query_id", 0), ("product_id", 2), ("grade", 3))
)
_GRADES: Final = ("grade", "relevance", "label")


@dataclass(frozen=True, eq=False, repr=False)
class Answers:
    """Grades of (query, product); a product is an answer where its grade is above 0 (1 for yes/no answers).

    `queries` are the judged ones, ascending; those of `queries[i]` are rows `offsets[i]` to `offsets[i + 1]`,
    products ascending; a query may have none.
    """

    queries: Shaped[np.ndarray, "queries"]
    offsets: Int64[np.ndarray, "bounds"]
    product_ids: Shaped[np.ndarray, "rows"]
    grades: Float64[np.ndarray, "rows"]

    @classmethod
    def from_arrays(
        cls,
        query_ids: Shaped[np.ndarray, "rows"],
        product_ids: Shaped[np.ndarray, "rows"],
        grades: Shaped[np.ndarray, "rows"] | None = None,
    ) -> Answers:
        """Answers of rows in any order; without grades every row is an answer of grade 1.

        Raises: ValueError (RowError) for a grade that is not finite, or a pair that occurs twice.
        """
        query_ids = as_ids(query_ids, field="query_id")
        product_ids = as_ids(product_ids, field="product_id")
        grades = np.ones(len(query_ids)) if grades is None else np.asarray(grades, dtype=np.float64)
        finite = np.isfinite(grades)
        if not finite.all():
            raise RowError("a finite number was wanted", row=int(np.argmin(finite)), field="grade")
        groups = group(query_ids)
        repeated = first_repeated_pair(groups.codes, product_ids)
        if repeated is not None:
            pair = f"query {query_ids[repeated]}, product {product_ids[repeated]}"
            raise RowError(f"{pair} occurs twice in the answers", row=repeated, field="product_id")
        order = np.lexsort((product_ids, groups.codes))
        return cls(
            queries=groups.queries,
            offsets=groups.offsets,
            product_ids=product_ids[order],
            grades=grades[order],
        )

    @classmethod
    def from_lists(cls, lists: Mapping[int, Sequence[int]] | Mapping[str, Sequence[str]]) -> Answers:
        """Answers of grade 1 from `{query: [product, ...]}`; an empty list is a judged query without answer.

        Raises: ValueError for a product that stands twice in a list.
        """
        names = [str(query) for query in lists]
        queries = ids_from_text(names) if names else np.zeros(0, np.int64)
        products = [str(product) for products in lists.values() for product in products]
        product_ids = ids_from_text(products) if products else np.zeros(0, np.int64)
        counts = np.array([len(products) for products in lists.values()], dtype=np.int64)
        order = np.argsort(queries, kind="stable")
        same = np.flatnonzero(queries[order][1:] == queries[order][:-1])
        if same.size:
            raise RowError(
                "occurs twice", row=int(order[same[0] + 1]), field=f"query {queries[order][same[0]]}"
            )
        grouped = cls.from_arrays(np.repeat(queries, counts), product_ids)
        return cls(
            queries=queries[order],
            offsets=offsets_of(counts[order]),
            product_ids=grouped.product_ids,
            grades=grouped.grades,
        )

    def __repr__(self) -> str:
        return f"Answers({len(self.queries):,} queries, {int(self.counts.sum()):,} answers)"

    def __len__(self) -> int:
        return len(self.product_ids)

    @property
    def query_ids(self) -> Shaped[np.ndarray, "rows"]:
        """The query of every row."""
        return np.repeat(self.queries, np.diff(self.offsets))

    @property
    def counts(self) -> Int64[np.ndarray, "queries"]:
        """How many answers (grade above 0) each query has."""
        return np.bincount(codes_of(self.offsets)[self.grades > 0], minlength=len(self.queries))

    @property
    def pairs(self) -> Pairs:
        """The rows, ready to be looked up."""
        return Pairs.of(self.queries, self.offsets, self.product_ids)


def read_answers(path: str | os.PathLike[str]) -> Answers:
    """Answers from a file, known by its first letters.

    - The competition's JSON `{query_id: [product_id, ...]}`, or `{query_id: {product_id: grade}}`.
    - TREC qrels: `query 0 product grade`.
    - BEIR's qrels, a table with the header `query-id corpus-id score`, or one that names the third column grade,
      relevance or label.

    Grades may be any finite number (also click weights); above 0 is an answer.

    Raises: DataError naming file and line (qrels) or file and query (JSON): another shape than these, a query or
    a product that occurs twice, an id that is neither integer nor string.
    """
    text = read_text(path)
    name = shown_name(path)
    if text.lstrip()[:1] in ("{", "["):
        return _from_json(text, name)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    grade = _grade_column(lines[0][1]) if lines else None
    if grade is not None:
        qrels = Layout("qrels", -1, (("query_id", 0), ("product_id", 1), (grade, 2)))
    else:
        qrels, grade = _QRELS, "grade"
    table = read_table(path, (qrels,), numbers=frozenset({grade}), lines=lines)
    try:
        return Answers.from_arrays(table.ids["query_id"], table.ids["product_id"], table.numbers[grade])
    except RowError as wrong:
        raise table.error(wrong) from wrong


def _grade_column(first: str) -> str | None:
    """The name of the grades in a header of qrels; None where the line is none. `score` alone would be a run's."""
    names = column_names(first.replace(",", " ").replace(";", " ").split())
    if "corpus_id" in names and "score" in names:
        return "score"
    return next((name for name in _GRADES if name in names), None)


def _from_json(text: str, path: str) -> Answers:
    content = parse_json(text, path, pairs=distinct_keys(path))
    if not isinstance(content, dict):
        raise DataError("a list, {query_id: [product_id, ...]} was wanted", path=path)
    if not content:
        raise DataError("holds no query", path=path)
    if any(isinstance(products, dict) for products in content.values()):
        return _from_grades(content, path)
    lists = {query: _products(query, products, path) for query, products in content.items()}
    try:
        answers = Answers.from_lists(lists)
    except RowError as wrong:
        raise DataError(wrong.problem, path=path, field=wrong.field) from wrong
    for ids in (answers.queries, answers.product_ids):
        if (row := first_other_spelling(ids)) is not None:
            raise DataError(other_spelling_problem(ids[row]), path=path)
    return answers


def _from_grades(content: dict[str, object], path: str) -> Answers:
    rows = rows_of_json(content, path)
    columns = rows.columns()
    try:
        graded = Answers.from_arrays(columns["query_id"], columns["product_id"], columns["score"])
    except RowError as wrong:
        raise rows.error(wrong) from wrong
    empty = [query for query, products in content.items() if not products]
    if empty:
        raise DataError("has no product; give it one of grade 0", path=path, field=f"query {empty[0][:40]}")
    return graded


def _products(query: str, products: object, path: str) -> list[str]:
    field = f"query {query}"
    if not isinstance(products, list):
        raise DataError(
            f"a list of products was wanted, got {json.dumps(products)[:40]}", path=path, field=field
        )
    for product in products:
        if isinstance(product, bool) or not isinstance(product, int | str):
            raise DataError(f"{json.dumps(product)[:40]} is not a product id", path=path, field=field)
    words = [str(product) for product in products]
    if len(set(words)) < len(words):
        twice = next(word for index, word in enumerate(words) if word in words[:index])
        raise DataError(f"product {twice} occurs twice", path=path, field=field)
    return words
