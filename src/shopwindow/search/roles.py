"""Which column of an index is a product's title, link, price and currency, so that a page can show it as such?

Found by usual names, in any case, where nobody names them. Knows no file and no vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from shopwindow.search.conditions import Kind
from shopwindow.search.hits import Value

USUAL: Final[Mapping[str, tuple[str, ...]]] = {
    "title": ("title", "product_title", "name", "product_name"),
    "link": ("link", "product_link", "product_url", "href", "url"),
    "price": ("price", "sale_price", "unit_price", "product_price"),
    "currency": ("currency", "price_currency", "currency_code"),
}
LONGEST_CURRENCY: Final = 8
_LINKS: Final = ("https://", "http://", "/")
"""How a link begins that a page may follow: `javascript:` is none."""


@dataclass(frozen=True)
class Roles:
    """The names of the columns that say title, link, price and currency; None where there is none.

    `everywhere`: the currency of all prices, where one was given instead of a column.
    """

    title: str | None = None
    link: str | None = None
    price: str | None = None
    currency: str | None = None
    everywhere: str | None = None

    @classmethod
    def of(cls, columns: Mapping[str, Kind], chosen: Mapping[str, str]) -> Roles:
        """The roles of an index's columns: the chosen ones, then those of usual names."""
        named = {name.lower(): name for name in columns}
        found = {
            role: next((named[one] for one in usual if one in named), None) for role, usual in USUAL.items()
        }
        given = {role: name for role, name in chosen.items() if name in columns}
        currency = chosen.get("currency")
        return cls(**(found | given), everywhere=currency if currency not in columns else None)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Column and role of each that there is."""
        return ((name, role) for role in USUAL if (name := getattr(self, role)) is not None)

    def shown(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """What a product's values say of title, link, price and currency; None where they say nothing."""
        said = {role: values.get(getattr(self, role) or "") for role in USUAL}
        link = str(said["link"] or "")
        said["link"] = link if link.startswith(_LINKS) else None
        said["title"] = None if said["title"] is None else str(said["title"])
        if said["price"] is not None and said["currency"] is None:
            said["currency"] = self.everywhere
        return said


def check_roles(columns: Mapping[str, Kind], chosen: Mapping[str, str]) -> None:
    """Raises: ValueError for a role of no column; a currency may also be a sign of at most LONGEST_CURRENCY letters."""
    for role, name in chosen.items():
        is_sign = role == "currency" and 0 < len(name) <= LONGEST_CURRENCY
        if name not in columns and not is_sign:
            there = ", ".join(columns) or "none"
            raise ValueError(f"{role}: no column {name[:40]!r}; the index has {there}")
