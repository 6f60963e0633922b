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

from shopwindow.files import DataError, read_text
from shopwindow.ids import (
    Pairs,
    RowError,
    as_ids,
    codes_of,
    first_repeated_pair,
    group,
    ids_from_text,
    offsets_of,
)
from shopwindow.ranking.tables import Layout, read_table, shown_name

_QRELS: Final = Layout(
    "TREC qrels: query 0 product grade", 4, (("query_id", 0), ("product_id", 2), ("grade", 3))
)


@dataclass(frozen=True, eq=False)
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
    """Answers from the competition's JSON `{query_id: [product_id, ...]}` or from TREC qrels.

    A file that begins with `{` or `[` is JSON. Grades of qrels may be any finite number (also click weights); above 0
    is an answer.

    Raises: DataError naming file and line (qrels) or file and query (JSON): another shape than these two, a query or
        a product that occurs twice, an id that is neither integer nor string.
    """
    text = read_text(path)
    name = shown_name(path)
    if text.lstrip()[:1] in ("{", "["):
        return _from_json(text, name)
    lines = enumerate(text.split("\n"), start=1)
    table = read_table(path, (_QRELS,), numbers=frozenset({"grade"}), lines=lines)
    try:
        return Answers.from_arrays(table.ids["query_id"], table.ids["product_id"], table.numbers["grade"])
    except RowError as wrong:
        raise table.error(wrong) from wrong


def _from_json(text: str, path: str) -> Answers:
    def distinct(items: list[tuple[str, object]]) -> dict[str, object]:
        lists: dict[str, object] = {}
        for key, value in items:
            if key in lists:
                raise DataError("occurs twice", path=path, field=f"query {key}")
            lists[key] = value
        return lists

    try:
        content = json.loads(text, object_pairs_hook=distinct)
    except json.JSONDecodeError as error:
        raise DataError(f"broken JSON: {error.msg}", path=path, line=error.lineno) from error
    except ValueError as error:
        raise DataError(f"broken JSON: {error}", path=path) from error
    except RecursionError as error:
        raise DataError("broken JSON: nested too deep", path=path) from error
    if not isinstance(content, dict):
        raise DataError("a list, {query_id: [product_id, ...]} was wanted", path=path)
    if not content:
        raise DataError("holds no query", path=path)
    lists = {query: _products(query, products, path) for query, products in content.items()}
    try:
        return Answers.from_lists(lists)
    except RowError as wrong:
        raise DataError(wrong.problem, path=path, field=wrong.field) from wrong


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
