"""Is this a valid submission to the competition? Writes and checks its CSV.

`query-id,product1,...,product5`: one line per query of the split, five different products of the query's
pool, best first. It knows runs and pools, and the one file format.
"""

from __future__ import annotations

import os
from typing import Final

import numpy as np

from shopwindow.files import DataError, open_whole, text_lines
from shopwindow.ids import Pairs, ids_from_text, positions
from shopwindow.ranking.pools import Pools
from shopwindow.ranking.runs import Run
from shopwindow.ranking.tables import shown_name

PLACES: Final = 5


def header(k: int = PLACES) -> str:
    """The first line of a submission.

    >>> header(2)
    'query-id,product1,product2'
    """
    return ",".join(["query-id", *(f"product{place}" for place in range(1, k + 1))])


def write_submission(run: Run, pools: Pools, path: str | os.PathLike[str], k: int = PLACES) -> None:
    """Writes the first k products of each pool's query, queries ascending; queries without a pool are left out.

    A place without a product is an error, and then no file is written.

    Raises: DataError naming the query whose pool has fewer than k candidates, of which the run ranks fewer than k
        products, or whose first k products are not all in its pool.
    """
    _check_pools(pools, k)
    rows = positions(pools.queries, run.queries)
    in_pool = Pairs.of(pools.queries, pools.offsets, pools.product_ids).find(
        run.queries, run.offsets, run.product_ids
    )
    lines = [header(k)]
    for query, row in zip(pools.queries.tolist(), rows.tolist(), strict=True):
        field = f"query {query}"
        if row < 0:
            raise DataError("the run does not rank it", path=run.name, field=field)
        first = slice(run.offsets[row], min(run.offsets[row] + k, run.offsets[row + 1]))
        products = run.product_ids[first].tolist()
        if len(products) < k:
            raise DataError(
                f"the run ranks {len(products)} products, {k} were wanted", path=run.name, field=field
            )
        outside = np.flatnonzero(in_pool[first] < 0)
        if outside.size:
            raise DataError(f"product {products[outside[0]]} is not in its pool", path=run.name, field=field)
        lines.append(",".join(map(str, [query, *products])))
    with open_whole(path) as file:
        file.writelines(line + "\n" for line in lines)


def check_submission(path: str | os.PathLike[str], pools: Pools | None = None, k: int = PLACES) -> int:
    """The number of queries of a valid submission. Without pools its form is checked, and that products differ.

    Raises: DataError naming line and field of the first thing that is wrong.
    """
    name = shown_name(path)
    lines = text_lines(path)
    number, first = next(lines, (1, ""))
    if first != header(k):
        raise DataError(f"{first[:80]!r}, the header {header(k)} was wanted", path=name, line=number)
    line_of: dict[str, int] = {}
    rows: list[list[str]] = []
    for number, line in lines:
        fields = line.split(",")
        _check_line(fields, k, name, number)
        if fields[0] in line_of:
            raise DataError(
                f"query {fields[0]} already stands in line {line_of[fields[0]]}",
                path=name,
                line=number,
                field="query-id",
            )
        line_of[fields[0]] = number
        rows.append(fields)
    if not rows:
        raise DataError("has a header and no queries", path=name)
    if pools is not None:
        _check_pools(pools, k)
        _check_members(rows, list(line_of.values()), pools, name)
    return len(rows)


def _check_pools(pools: Pools, k: int) -> None:
    small = np.flatnonzero(pools.sizes < k)
    if small.size:
        raise DataError(
            f"{pools.sizes[small[0]]} candidates in the pool, a submission needs {k}",
            path="pools",
            field=f"query {pools.queries[small[0]]}",
        )


def _check_line(fields: list[str], k: int, path: str, line: int) -> None:
    if len(fields) != k + 1:
        raise DataError(f"{len(fields)} fields, {k + 1} were wanted", path=path, line=line)
    names = header(k).split(",")
    for field, word in zip(names, fields, strict=True):
        if not word or word != word.strip():
            raise DataError(f"{word!r} is not an id", path=path, line=line, field=field)
    for place in range(2, k + 1):
        if fields[place] in fields[1:place]:
            raise DataError(
                f"product {fields[place]} also stands in {names[fields.index(fields[place], 1)]}",
                path=path,
                line=line,
                field=names[place],
            )


def _check_members(rows: list[list[str]], lines: list[int], pools: Pools, path: str) -> None:
    queries = ids_from_text([row[0] for row in rows])
    unknown = np.flatnonzero(positions(queries, pools.queries) < 0)
    if unknown.size:
        raise DataError(
            f"query {queries[unknown[0]]} is not in the pools",
            path=path,
            line=lines[unknown[0]],
            field="query-id",
        )
    k = len(rows[0]) - 1
    products = ids_from_text([word for row in rows for word in row[1:]])
    offsets = np.arange(0, len(products) + 1, k, dtype=np.int64)
    places = Pairs.of(pools.queries, pools.offsets, pools.product_ids).find(queries, offsets, products)
    outside = np.flatnonzero(places < 0)
    if outside.size:
        row, place = divmod(int(outside[0]), k)
        problem = f"product {products[outside[0]]} is not in the pool of query {queries[row]}"
        raise DataError(problem, path=path, line=lines[row], field=f"product{place + 1}")
    left_out = np.flatnonzero(positions(pools.queries, np.sort(queries)) < 0)
    if left_out.size:
        raise DataError(
            f"{left_out.size} of {len(pools.queries)} queries of the pools have no line,"
            f" the first is {pools.queries[left_out[0]]}",
            path=path,
            field="query-id",
        )
