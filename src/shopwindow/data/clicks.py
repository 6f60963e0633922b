"""Who searched for what and clicked which product? A shop's click log, and human grades, as weighted pairs.

Rows are read strictly (`tables.py`), cleaned by rules that are counted, and summed to a weight a pair. Knows products
by their rows in the catalogue, and no photo.

Legend of axes: rows = rows of the log that are kept; pairs = different (query, product).
"""

from __future__ import annotations

import datetime
import math
import unicodedata
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from shopwindow.data.products import ID_NAMES
from shopwindow.data.tables import (
    Table,
    exact_number,
    find_columns,
    no_column,
    open_table,
    shortened,
)
from shopwindow.files import DataError
from shopwindow.ids import Spellings, other_spelling_problem

BIAS: Final = (
    "Clicks are no judgements: they follow what was shown and where it stood, favour products that are popular already,"
    " and say nothing against a product that nobody clicked."
)
QUERY_NAMES: Final = (
    "query", "q", "search_term", "search_query", "search", "term", "keywords", "keyword", "query_text", "text",
)  # fmt: skip
USUAL: Final[Mapping[str, Sequence[str]]] = {
    "query": QUERY_NAMES,
    "id": (*(name for name in ID_NAMES if name != "id"), "id"),
    "clicks": ("clicks", "click_count", "weight", "count", "n"),
    "date": ("date", "day", "timestamp", "datetime", "time", "event_time", "clicked_at", "created_at", "ts"),
    "position": ("position", "pos", "rank", "average_position"),
    "impressions": ("impressions", "impression_count", "views", "shown"),
    "session": ("session", "session_id", "visitor", "visitor_id", "user", "user_id", "client_id"),
}
"""`id` may be the number of the click itself, so it is the last to name the product."""
GRADE_NAMES: Final = ("relevant", "relevance", "grade", "label", "judgement", "judgment", "rating", "gain")
MOST_LIFT: Final = 10.0
"""At most as many clicks at the top is one far down worth; a rate is at most as many times the mean."""
BOT_QUERY_SHARE: Final = 0.25
BOT_QUERY_TIMES: Final = 10.0
BOT_SESSION_SHARE: Final = 0.01
BOT_SESSION_CLICKS: Final = 100
BOTS: Final = "bots"
_MOST: Final = 10**15
"""Of counts, positions and grades: sums of more overflow."""
_LONGEST_QUERY: Final = 10_000
"""Letters: training cuts a word into tokens in a time that grows with its square."""
_UNKNOWN: Final = "rows of a product that the catalogue lacks: dropped"


@dataclass(frozen=True)
class Clicks:
    """The rows of a click log: `queries` are places in `texts` (ascending, distinct), `products` rows of the catalogue.

    `days` are counted from 0001-01-01. A position is NaN where the row has none; `impressions` are at least `clicks`.
    `report` says what was read and dropped.
    """

    texts: list[str]
    queries: Int64[np.ndarray, " rows"]
    products: Int64[np.ndarray, " rows"]
    clicks: Float64[np.ndarray, " rows"]
    days: Int64[np.ndarray, " rows"] | None
    positions: Float64[np.ndarray, " rows"] | None
    impressions: Float64[np.ndarray, " rows"] | None
    found: dict[str, str]
    path: str
    report: dict[str, int]

    def take(self, rows: Bool[np.ndarray, " rows"]) -> Clicks:
        """Some of the rows."""
        columns = {one.name: getattr(self, one.name) for one in fields(self)}
        chosen = {name: column[rows] for name, column in columns.items() if isinstance(column, np.ndarray)}
        return replace(self, **chosen)


@dataclass(frozen=True)
class Pairs:
    """Different (query, product) by rising query and product, with their clicks (a grade, of judgements) and weights.

    `dropped` pairs had fewer clicks than wanted, `outliers` were left out (`outliers.py`).
    """

    queries: Int64[np.ndarray, " pairs"]
    products: Int64[np.ndarray, " pairs"]
    clicks: Float64[np.ndarray, " pairs"]
    weights: Float64[np.ndarray, " pairs"]
    dropped: int = 0
    outliers: int = 0


@dataclass(frozen=True)
class Judgements:
    """Grades of (query, product): places in `texts`, rows of the catalogue. `unknown` rows were of other products."""

    texts: list[str]
    queries: Int64[np.ndarray, " rows"]
    products: Int64[np.ndarray, " rows"]
    grades: Float64[np.ndarray, " rows"]
    unknown: int
    found: dict[str, str]
    path: str


def read_clicks(
    path: str | Path,
    product_ids: Shaped[np.ndarray, " products"],
    *,
    columns: Mapping[str, str] | None = None,
    keep_bots: bool = False,
) -> Clicks:
    """The clicks on these products in a CSV, TSV, Parquet or JSON lines file (`open_table`).

    Wanted are a query and a product; a row counts as one click, or as its `clicks`. Columns are found by their usual
    names (`USUAL`) or given by role in `columns`, with "" for one that is not to be used. Queries that differ in case
    or blanks alone are one.

    Rules, each counted in the report: a row without a query is dropped; one of another product; one without clicks
    (kept where there are impressions); a session of more than 100 clicks and 1 % of all is a bot's; so is a query with
    more than a quarter of all clicks and ten times those of the next. An ordinary popular query is far from that.

    Raises: DataError as `open_table`, and naming line and field of a number or date that is none. Also for a file
    without the two columns, without any product of the catalogue, or without a click that is kept.
    """
    table = open_table(path)
    found = find_columns(table, USUAL, dict(columns or {}))
    log = _read_rows(table, found, product_ids, _PARSERS)
    values, report = log.values, log.report
    if "impressions" in values:
        values["impressions"] = np.maximum(values["impressions"], values["clicks"])
    else:
        clicked = values["clicks"] > 0
        report["rows without a click: dropped"] = int((~clicked).sum())
        values = {name: column[clicked] for name, column in values.items()}
    bots = np.zeros(len(values["query"]), bool) if keep_bots else _bots(values)
    report["rows of a bot (one session or query has most clicks): dropped"] = int(bots.sum())
    values = {name: column[~bots] for name, column in values.items()}
    if not values["clicks"].sum():
        raise DataError("no click is left after the rules", path=table.path)
    report["rows kept"] = len(values["query"])
    if "position" in values and (without := int(np.isnan(values["position"]).sum())):
        report["of these without a position: taken as the first"] = without
    return Clicks(
        log.texts,
        values["query"],
        values["product"],
        values["clicks"],
        days=values["date"].astype(np.int64) if "date" in values else None,
        positions=values.get("position"),
        impressions=values.get("impressions"),
        found=found,
        path=table.path,
        report=report,
    )


def read_judgements(path: str | Path, product_ids: Shaped[np.ndarray, " products"]) -> Judgements:
    """The grades of a table of query, id and relevant; without a column of grades every row is right (1).

    Products that the catalogue lacks are counted in `unknown`.

    Raises: DataError as `read_clicks`, and for a (query, product) that is graded twice.
    """
    table = open_table(path)
    found = find_columns(table, {"query": QUERY_NAMES, "id": USUAL["id"], "relevant": GRADE_NAMES}, {})
    log = _read_rows(table, found, product_ids, {"relevant": _finite})
    queries, products = log.values["query"], log.values["product"]
    pairs = np.stack([queries, products])
    order = np.lexsort(pairs[::-1])
    again = np.flatnonzero((pairs[:, order[1:]] == pairs[:, order[:-1]]).all(axis=0))
    if len(again):
        row = int(order[again[0] + 1])
        problem = f"query {shortened(log.texts[queries[row]])}, product {product_ids[products[row]]}"
        raise table.error(f"{problem} is graded twice", int(log.values["line"][row]))
    grades = log.values.get("relevant", np.ones(len(queries)))
    return Judgements(log.texts, queries, products, grades, log.report[_UNKNOWN], found, table.path)


@dataclass
class _Log:
    """The rows of known products by role; report counts the others."""

    texts: list[str]
    values: dict[str, np.ndarray]
    report: dict[str, int]


def _read_rows(
    table: Table,
    found: dict[str, str],
    product_ids: Shaped[np.ndarray, " products"],
    parsers: Mapping[str, Callable[[str], float]],
) -> _Log:
    for role, usual in (("query", QUERY_NAMES), ("id", ID_NAMES)):
        if role not in found:
            raise no_column(table, "queries" if role == "query" else "products", usual)
    rows_by_id = {one: row for row, one in enumerate(product_ids.astype(np.str_).tolist())}
    places = {role: table.names.index(name) for role, name in found.items()}
    sessions: dict[str, int] = {}
    numbers = dict(parsers) | {"session": lambda cell: float(sessions.setdefault(cell, len(sessions)))}
    others = [(role, places[role], cache(numbers[role])) for role in places if role in numbers]
    texts: dict[str, int] = {}
    query_of = cache(one_query)
    columns: dict[str, array[Any]] = {name: array("q") for name in ("query", "product", "line")}
    columns |= {role: array("d") for role, _, _ in others}
    spellings = Spellings()
    rows = empty = unknown = 0
    for line, cells in table.rows:
        rows += 1
        for role, place, parse in others:
            try:
                columns[role].append(parse(cells[place]))
            except ValueError as error:
                raise table.error(str(error), line, found[role]) from error
        spellings.take(cells[places["id"]], line)
        text, product = query_of(cells[places["query"]]), rows_by_id.get(cells[places["id"]], -1)
        if len(text) > _LONGEST_QUERY:
            problem = f"{len(text):,} letters, at most {_LONGEST_QUERY:,} are taken"
            raise table.error(problem, line, found["query"])
        empty += not text
        unknown += bool(text) and product < 0
        columns["query"].append(texts.setdefault(text, len(texts)) if text else -1)
        columns["product"].append(product)
        columns["line"].append(line)
    if not rows:
        raise DataError("has a header and no rows", path=table.path)
    if spellings.first is not None:
        word, line = spellings.first
        raise table.error(other_spelling_problem(word), line, found["id"])
    if unknown + empty == rows:
        raise DataError("none of its products is in the catalogue", path=table.path, field=found["id"])
    kinds = {"q": np.int64, "d": np.float64}
    values = {name: np.array(column, kinds[column.typecode]) for name, column in columns.items()}
    known = (values["query"] >= 0) & (values["product"] >= 0)
    values = {name: column[known] for name, column in values.items()}
    values.setdefault("clicks", np.ones(len(values["query"])))
    report = {"rows read": rows, "rows without a query: dropped": empty, _UNKNOWN: unknown}
    return _Log(*_sorted(list(texts), values), report)


def _sorted(texts: list[str], values: dict[str, np.ndarray]) -> tuple[list[str], dict[str, np.ndarray]]:
    """The texts that are used, ascending, and the rows with their new places."""
    used = np.unique(values["query"])
    order = sorted(used.tolist(), key=texts.__getitem__)
    places = np.zeros(len(texts), np.int64)
    places[order] = np.arange(len(order))
    return [texts[one] for one in order], values | {"query": places[values["query"]]}


def one_query(text: str) -> str:
    """The query as it is kept: composed, in small letters, single blanks.

    >>> one_query("  Red   MUG ")
    'red mug'
    """
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


def _bots(values: dict[str, np.ndarray]) -> Bool[np.ndarray, " rows"]:
    """The rows of sessions, then of queries, that are a bot's."""
    clicks = values["clicks"]
    bots = np.zeros(len(clicks), bool)
    if "session" in values:
        sessions = values["session"].astype(np.int64)
        of_session = np.bincount(sessions, weights=clicks)
        most = max(BOT_SESSION_CLICKS, BOT_SESSION_SHARE * clicks.sum())
        bots = (of_session > most)[sessions]
    of_query = np.bincount(values["query"], weights=clicks * ~bots)
    if np.count_nonzero(of_query) > 1:
        second, first = np.sort(of_query)[-2:]
        if first > BOT_QUERY_SHARE * of_query.sum() and first > BOT_QUERY_TIMES * second:
            bots |= values["query"] == np.argmax(of_query)
    return bots


def weigh(clicks: Clicks, *, eta: float = 1.0, least_clicks: int = 1) -> Pairs:
    """The pairs that were clicked, each with its clicks summed and weighted.

    With positions a click at rank r is divided by the propensity that r was looked at, 1 / r^eta, and counts at most
    MOST_LIFT; eta 0 counts every click alike. With impressions the weight is the smoothed rate of clicks over looks
    (impressions times propensity), as a multiple of the mean rate, from 1 / MOST_LIFT to MOST_LIFT. Pairs with fewer
    than `least_clicks` are dropped.

    Source: Joachims, Swaminathan and Schnabel, Unbiased Learning-to-Rank with Biased Feedback, WSDM 2017 (section 5.2:
    propensity (1/r)^eta); clicks over expected clicks: Zhang and Jones, WWW 2007.
    """
    width = int(clicks.products.max(initial=0)) + 1
    keys, places = np.unique(clicks.queries * width + clicks.products, return_inverse=True)
    looked_at = np.ones(len(places))
    if clicks.positions is not None:
        looked_at = np.nan_to_num(clicks.positions, nan=1.0) ** -eta
    total = np.bincount(places, weights=clicks.clicks).astype(float)  # of none, counts are integers
    if clicks.impressions is None:
        lifted = clicks.clicks * np.minimum(1.0 / looked_at, MOST_LIFT)
        weights = np.bincount(places, weights=lifted).astype(float)
    else:
        looks = np.bincount(places, weights=clicks.impressions * looked_at)
        weights = np.clip(smoothed_rates(total, looks), 1.0 / MOST_LIFT, MOST_LIFT)
    kept = (total > 0) & (total >= least_clicks)
    queries, products = np.divmod(keys[kept], width)
    return Pairs(queries, products, total[kept], weights[kept], int(((total > 0) & ~kept).sum()))


def smoothed_rates(
    clicks: Float64[np.ndarray, " pairs"], looks: Float64[np.ndarray, " pairs"]
) -> Float64[np.ndarray, " pairs"]:
    """Clicks a look, drawn to the mean rate the more the fewer looks there are, as multiples of that mean.

    (clicks + k) / (looks * mean + k): the mean of a gamma posterior, with a prior of mean 1 that is worth k clicks.
    k = mean^2 / (variance of the true rates), by moments; where they do not vary beyond chance all are 1.

    Source: Marshall, Mapping Disease and Mortality Rates Using Empirical Bayes Estimators, JRSS C 1991.

    >>> smoothed_rates(np.array([30.0, 10.0, 0.0]), np.array([100.0, 100.0, 100.0])).round(2).tolist()
    [2.14, 0.77, 0.09]
    """
    mean = clicks.sum() / looks.sum()
    rates = clicks / looks
    variance = (looks * (rates - mean) ** 2).sum() / looks.sum() - mean / looks.mean()
    if variance <= 0:
        return np.ones(len(clicks))
    worth = mean**2 / variance
    smoothed: Float64[np.ndarray, " pairs"] = (clicks + worth) / (looks * mean + worth)
    return smoothed


def _finite(cell: str) -> float:
    number = exact_number(cell) if cell else _missing()
    if abs(number) > _MOST:
        raise ValueError(f"{shortened(cell)}, at most {_MOST:,} is taken")
    return number


def _count(cell: str) -> float:
    number = _finite(cell)
    if number < 0:
        raise ValueError(f"{shortened(cell)}, 0 or more is wanted")
    return number


def _position(cell: str) -> float:
    number = _finite(cell) if cell else math.nan
    if number < 1:
        raise ValueError(f"{shortened(cell)}: positions count from 1")
    return number


def _day(cell: str) -> float:
    """The day of an ISO date or time, or of seconds or milliseconds since 1970."""
    try:
        if cell.isdecimal() and len(cell) in (10, 13):
            seconds = int(cell) / (1 if len(cell) == 10 else 1000)
            return float(datetime.datetime.fromtimestamp(seconds, datetime.UTC).toordinal())
        return float(datetime.datetime.fromisoformat(cell).toordinal())
    except ValueError as error:
        raise ValueError(f"{shortened(cell)} is no date such as 2026-06-01 or 2026-06-01T12:00:00") from error


def _missing() -> float:
    raise ValueError("is empty")


_PARSERS: Final[Mapping[str, Callable[[str], float]]] = {
    "clicks": _count,
    "date": _day,
    "position": _position,
    "impressions": _count,
}
