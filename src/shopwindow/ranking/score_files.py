"""How do other systems write scores? JSON of pytrec_eval and ranx, lists in a line, the competition's submission.

Each becomes the three columns of a run, or of answers with grades. Tables and TREC files are in `tables.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from shopwindow.cells import column_names
from shopwindow.files import DataError, parse_json
from shopwindow.ids import RowError, first_other_spelling, ids_from_text, other_spelling_problem

_NUMBER: Final = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_ID: Final = r"""'[^']*'|"[^"]*"|[^\s'"\[\](),]+"""
_PAIR: Final = re.compile(rf"\s*[\[(]\s*(?P<score>{_NUMBER})\s*,\s*(?P<product>{_ID})\s*[\])]\s*(?:,|$)")
_LIST_LINE: Final = re.compile(
    r"""\s*"?(?P<query>[^\s,;"]+)"?\s*[,;\t]\s*"?\[\s*(?P<pairs>[\[(].*[\])])\s*\]"?\s*"""
)


@dataclass
class ScoreRows:
    """Scores, or grades, of (query, product), and where each stands: a line, or in JSON a query."""

    path: str
    queries: list[str] = field(default_factory=list)
    products: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def columns(self) -> dict[str, np.ndarray]:
        """The columns `query_id`, `product_id` and `score`. Raises: DataError for what is no id."""
        found: dict[str, np.ndarray] = {"score": np.array(self.scores, np.float64)}
        for name, words in (("query_id", self.queries), ("product_id", self.products)):
            try:
                found[name] = ids = ids_from_text(words) if words else np.zeros(0, np.int64)
            except RowError as wrong:
                raise self.error(RowError(wrong.problem, row=wrong.row, field=name)) from wrong
            if (row := first_other_spelling(ids)) is not None:
                raise self.error(RowError(other_spelling_problem(words[row]), row=row, field=name))
        return found

    def error(self, wrong: RowError) -> DataError:
        """The error of a row, as one of this file."""
        line = self.lines[wrong.row] if self.lines else None
        where = wrong.field if line is not None else f"query {self.queries[wrong.row][:40]}, {wrong.field}"
        return DataError(wrong.problem, path=self.path, line=line, field=where)

    def add(self, query: str, product: str, score: float, line: int | None = None) -> None:
        """Takes one row."""
        self.queries.append(query)
        self.products.append(product)
        self.scores.append(score)
        if line is not None:
            self.lines.append(line)


def distinct_keys(path: str, what: str = "query") -> Any:
    """What `parse_json` makes objects with. It raises DataError for a key that stands twice."""

    def made(items: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, value in items:
            if key in content:
                raise DataError("occurs twice", path=path, field=f"{what} {key[:40]}")
            content[key] = value
        return content

    return made


def rows_of_json(content: Mapping[str, Any], path: str) -> ScoreRows:
    """The rows of `{query: {product: score}}`. Raises: DataError naming the query of another shape."""
    rows = ScoreRows(path)
    for query, scores in content.items():
        where = f"query {query[:40]}"
        if not isinstance(scores, dict):
            problem = f"{{product: score}} was wanted, got {json.dumps(scores)[:40]}"
            raise DataError(problem, path=path, field=where)
        for product, score in scores.items():
            if isinstance(score, bool) or not isinstance(score, int | float):
                problem = f"product {product[:40]}: {json.dumps(score)[:40]} is no score"
                raise DataError(problem, path=path, field=where)
            try:
                rows.add(query, product, float(score))
            except OverflowError as error:
                raise DataError(
                    f"product {product[:40]}: the score is too large", path=path, field=where
                ) from error
    return rows


def rows_of_run_json(text: str, path: str) -> ScoreRows:
    """The rows of a JSON text `{query: {product: score}}`."""
    content = parse_json(text, path, pairs=distinct_keys(path))
    if not isinstance(content, dict) or not content:
        raise DataError("{query: {product: score}} was wanted", path=path)
    return rows_of_json(content, path)


def is_submission(first: str) -> bool:
    """Whether a line is the header of the competition's submission."""
    names = column_names(first.split(","))
    return len(names) > 1 and names == ["query_id", *(f"product{place}" for place in range(1, len(names)))]


def rows_of_submission(lines: Iterable[tuple[int, str]], first: str, path: str) -> ScoreRows:
    """The rows of a submission after its header. The score is 1 over the place."""
    places, rows = len(first.split(",")) - 1, ScoreRows(path)
    for number, line in lines:
        query, *products = line.split(",")
        if len(products) != places:
            raise DataError(f"{len(products)} products, the header has {places}", path=path, line=number)
        for place, product in enumerate(products, start=1):
            rows.add(query, product, 1 / place, number)
    if not rows.lines:
        raise DataError("has a header and no queries", path=path)
    return rows


def is_list_line(line: str) -> bool:
    """Whether a line is `query,[[score,'product'],...]`."""
    return _LIST_LINE.fullmatch(line) is not None


def rows_of_lists(lines: Iterable[tuple[int, str]], path: str) -> ScoreRows:
    """The rows of lines `query,[[score,'product'],...]`; a product without quotes is one too."""
    rows = ScoreRows(path)
    for number, line in lines:
        match = _LIST_LINE.fullmatch(line)
        if match is None:
            raise DataError(
                "query,[[score,'product'],...] was wanted, as in the first line", path=path, line=number
            )
        pairs, place = match["pairs"].replace('""', '"'), 0
        while place < len(pairs):
            pair = _PAIR.match(pairs, place)
            if pair is None:
                problem = f"[score,'product'] was wanted, got {pairs[place : place + 40]!r}"
                raise DataError(problem, path=path, line=number)
            rows.add(match["query"], pair["product"].strip("'\""), float(pair["score"]), number)
            place = pair.end()
    return rows
