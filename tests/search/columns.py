"""A shop's table for the small catalogue: what it says of each product, and who passes a condition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shopwindow.search.conditions import parse_conditions
from shopwindow.search.engine import SearchEngine
from shopwindow.search.hits import Filter, ProductId, Value
from tests.search.catalogue import PRODUCTS

WORDS = "red shoe"
COLOURS = ("red", "blue", "dark green")


def price_of(product_id: int) -> float | None:
    return None if product_id % 7 == 0 else product_id % 50 + 0.5 * (product_id % 2)


def colour_of(product_id: int) -> str | None:
    return None if product_id % 5 == 4 else COLOURS[product_id % 3]


def known_of(product_id: int) -> dict[str, Value]:
    """What the table says of a product: every eleventh has no row."""
    found = {} if product_id % 11 == 0 else {"price": price_of(product_id), "colour": colour_of(product_id)}
    return {name: value for name, value in found.items() if value is not None}


def write_columns(path: Path, product_ids: range) -> Path:
    """The table of these products, in no order of theirs, with rows of strangers."""
    lines = ["product_id,price,colour"]
    for one in reversed(product_ids):
        if one % 11:
            price, colour = price_of(one), colour_of(one)
            lines.append(f"{one},{'' if price is None else price},{colour or ''}")
    path.write_text("\n".join([*lines, "987654,1,red", "987655,,"]) + "\n")
    return path


def found(engine: SearchEngine, conditions: tuple[str, ...], **how: Any) -> list[ProductId]:
    where = Filter(conditions=parse_conditions(conditions))
    return [hit.product_id for hit in engine.search(WORDS, k=PRODUCTS, where=where, **how)]
