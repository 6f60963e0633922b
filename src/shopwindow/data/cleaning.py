"""Which well-formed rows are left out, and how is that told?

The seed's two rules as named pure functions, and the report that prepare prints and keeps. Counts everything, repairs
nothing. Knows no file.

Source: the winning notebooks of KDD Cup 2020 "Multimodalities Recall" (3,000,000 rows -> 2,999,528 by
the first rule -> 2,999,043 by both).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from shopwindow.data.competition import Row

MOST_BOXES: Final = 40


def begins_with_possessive(row: Row) -> bool:
    """Whether the query begins with `'s`: what is left of a phrase that lost its owner."""
    return row.query.startswith("'s")


def has_many_boxes(row: Row) -> bool:
    """Whether the photo has more than 40 boxes. Such a pair is stored but not trained on."""
    return len(row.boxes) > MOST_BOXES


@dataclass(frozen=True)
class Rule:
    """A cleaning rule: `breaks(row)` says whether it applies; then the row is dropped or kept from training."""

    name: str
    says: str
    breaks: Callable[[Row], bool]
    drops_row: bool


RULES: Final = (
    Rule("possessive", "query begins with 's: row dropped", begins_with_possessive, drops_row=True),
    Rule("many_boxes", "more than 40 boxes: kept, not trained on", has_many_boxes, drops_row=False),
)


def choose_rules(keep: tuple[str, ...]) -> tuple[Rule, ...]:
    """All rules but those named in `keep`.

    Raises: ValueError naming an unknown rule.
    """
    known = {rule.name for rule in RULES}
    for name in keep:
        if name not in known:
            raise ValueError(f"no cleaning rule {name!r}; there are: {', '.join(sorted(known))}")
    return tuple(rule for rule in RULES if rule.name not in keep)


@dataclass
class Report:
    """What became of every row. Rows = kept pairs + dropped by a rule + malformed.

    `rules` counts rows by rule name (a rule that only keeps a row from training counts it here and it is
    still a pair); `malformed` counts rows by reason. `weights` counts, where a file of them was given, pairs by where
    their weight is from, and weights of pairs that were not kept.
    """

    rows: int = 0
    pairs: int = 0
    training_pairs: int = 0
    products: int = 0
    queries: int = 0
    regions: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    malformed: Counter[str] = field(default_factory=Counter)
    weights: Counter[str] = field(default_factory=Counter)

    @property
    def malformed_rows(self) -> int:
        """Rows that broke the format."""
        return self.malformed.total()

    def to_json(self) -> dict[str, Any]:
        """Plain values, keys in a fixed order."""
        return {
            "rows": self.rows,
            "pairs": self.pairs,
            "training_pairs": self.training_pairs,
            "products": self.products,
            "queries": self.queries,
            "regions": self.regions,
            "rules": dict(sorted(self.rules.items())),
            "malformed": dict(sorted(self.malformed.items())),
            **({"weights": dict(sorted(self.weights.items()))} if self.weights else {}),
        }

    def lines(self) -> list[tuple[str, int]]:
        """The report as (what, count), in the order in which a reader wants it."""
        says = {rule.name: rule.says for rule in RULES}
        return [
            ("rows read", self.rows),
            *((says[name], count) for name, count in sorted(self.rules.items(), reverse=True)),
            *((f"malformed: {reason}", count) for reason, count in sorted(self.malformed.items())),
            ("pairs kept", self.pairs),
            *((f"weights: {what}", count) for what, count in sorted(self.weights.items())),
            ("products", self.products),
            ("regions", self.regions),
            ("queries", self.queries),
        ]
