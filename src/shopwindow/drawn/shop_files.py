"""What does the owner of the drawn shop have? products.csv, clicks.csv and judgements.csv, as any shop has them.

A title names the kind and a maker, not what the eye sees. Shoppers click on the training products only; the test
pools are the judgements.
"""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Iterable
from typing import Final

import numpy as np

from shopwindow.drawn.catalogue import Item, Plan
from shopwindow.drawn.goods import BY_NAME

_MAKERS: Final = (
    "Alder",
    "Birk",
    "Corvo",
    "Dahl",
    "Elba",
    "Fjord",
    "Gala",
    "Holm",
    "Iris",
    "Juno",
    "Kato",
    "Lund",
)
_FIRST_DAY: Final = datetime.date(2026, 6, 1)
_DAYS: Final = 90
_USUAL_PRICE: Final = 25.0


def prices(products: int, rng: np.random.Generator) -> list[float]:
    """A price for each product, which the eye cannot see."""
    drawn: list[float] = (_USUAL_PRICE * rng.lognormal(sigma=0.6, size=products)).round(2).tolist()
    return drawn


def products_csv(plan: Plan, prices: list[float], rng: np.random.Generator) -> str:
    """The text of products.csv: id, title, photo, price, colour, material."""
    rows = (
        (item.product_id, _title(item, rng), f"photos/{item.product_id}.jpg", f"{price:.2f}",
         item.good.colour, item.good.material)
        for item, price in zip(plan.items, prices, strict=True)
    )  # fmt: skip
    return _csv(("id", "title", "photo", "price", "colour", "material"), rows)


def clicks_csv(plan: Plan, rng: np.random.Generator) -> str:
    """The text of clicks.csv: a line for each click on a pair of the training rows, by date. Some pairs are clicked
    often, most once or twice."""
    rows = plan.rows["train"]
    counts = rng.geometric(0.6, len(rows))
    lines = [
        (day, row.text, plan.items[row.item].product_id)
        for row, count in zip(rows, counts.tolist(), strict=True)
        for day in rng.integers(0, _DAYS, count).tolist()
    ]
    lines.sort(key=lambda line: line[0])
    dated = ((_FIRST_DAY + datetime.timedelta(day), text, product) for day, text, product in lines)
    return _csv(("date", "query", "id"), dated)


def judgements_csv(plan: Plan) -> str:
    """The text of judgements.csv: the candidates of every test query, 1 for the relevant ones. No click saw them."""
    answers, queries = plan.answers["test"], plan.queries["test"]
    rows = (
        (queries[row.query_id].text, product, int(product in answers[row.query_id]))
        for row in plan.rows["test"]
        for product in (plan.items[row.item].product_id,)
    )
    return _csv(("query", "id", "relevant"), rows)


def _title(item: Item, rng: np.random.Generator) -> str:
    nouns = BY_NAME[item.good.kind].nouns
    return f"{_MAKERS[int(rng.integers(len(_MAKERS)))]} {nouns[int(rng.integers(len(nouns)))]}"


def _csv(header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
