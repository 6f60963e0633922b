"""Which products does the shop have, which rows and pools are made of them, and how hard are the pools?

Pure planning: words and numbers, no pixels. Products come in families (several sellers offer nearly the same thing), so
that a precise query has several relevant products. Every pool is made so that nothing but the photo tells a relevant
product from a distractor: both occur equally often, in random order, under random ids. The competition's *occurrence
leak* is planted only when asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from shopwindow.drawn.goods import BY_NAME, KINDS, Good
from shopwindow.drawn.paint import PATTERNS
from shopwindow.drawn.words import ATTRIBUTES, Query, Shoppers

FEWEST_PRODUCTS: Final = 60
FIRST_PRODUCT_ID: Final = 100_000_001
SPLITS: Final = ("train", "valid", "test")
_HELD_OUT: Final = 0.15  # of the products, for valid and for test each
_FEWEST_HELD_OUT: Final = 12
_ROWS_PER_PRODUCT: Final = 5.8
_POOL: Final = 30
_RELEVANT: Final = 6
_OCCURRENCES: Final = 8  # of a held-out product, over the pools of its split

# How common colours and patterns are, commonest first.
_COLOUR_SHARES: Final = dict(zip(
    ("black", "white", "red", "blue", "pink", "brown", "green", "grey", "yellow", "beige", "purple", "orange"),
    (0.14, 0.12, 0.12, 0.11, 0.09, 0.08, 0.08, 0.07, 0.06, 0.05, 0.04, 0.04), strict=True,
))  # fmt: skip
_PLAIN: Final = 0.5
_KIND_SLOPE: Final = 0.35  # the n-th kind is n**-0.35 times as common as the first


@dataclass(frozen=True)
class Item:
    """A product of the catalogue, before it is drawn."""

    product_id: int
    split: str
    good: Good


@dataclass(frozen=True)
class PlannedRow:
    """One line of a file: which item (its place in the plan) for which query."""

    item: int
    text: str
    query_id: int


@dataclass(frozen=True)
class PlannedPool:
    """A query's candidates and the relevant ones among them, as places in the plan."""

    query: Query
    relevant: tuple[int, ...]
    candidates: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """Everything about a shop but its pixels."""

    items: tuple[Item, ...]
    rows: dict[str, tuple[PlannedRow, ...]]  # per split
    answers: dict[str, dict[int, tuple[int, ...]]]  # per held-out split: query id -> product ids
    queries: dict[str, dict[int, Query]]  # per held-out split: query id -> what it asks for


def plan_shop(
    products: int, rng: np.random.Generator, *, possessive_share: float, occurrence_leak: bool
) -> Plan:
    """A shop of so many products. Same generator state, same plan."""
    items = _items(products, rng)
    of_split = {split: [k for k, item in enumerate(items) if item.split == split] for split in SPLITS}
    rows = {"train": _training_rows(items, of_split["train"], rng, possessive_share)}
    held_out = [of_split["valid"], of_split["test"]]
    pools = (
        _leaking_pools(items, held_out, rng)
        if occurrence_leak
        else [_pools(items, own, rng) for own in held_out]
    )
    answers: dict[str, dict[int, tuple[int, ...]]] = {}
    queries: dict[str, dict[int, Query]] = {}
    for split, split_pools in zip(SPLITS[1:], pools, strict=True):
        ids = sorted(rng.permutation(len(split_pools) * 4)[: len(split_pools)].tolist())
        numbered = dict(zip(ids, split_pools, strict=True))
        rows[split] = tuple(
            PlannedRow(k, pool.query.text, number)
            for number, pool in numbered.items()
            for k in pool.candidates
        )
        answers[split] = {
            number: tuple(sorted(items[k].product_id for k in pool.relevant))
            for number, pool in numbered.items()
        }
        queries[split] = {number: pool.query for number, pool in numbered.items()}
    return Plan(items, rows, answers, queries)


def _items(products: int, rng: np.random.Generator) -> tuple[Item, ...]:
    """The products: split, id and good; ids say nothing of either."""
    held_out = max(_FEWEST_HELD_OUT, round(products * _HELD_OUT))
    ids = FIRST_PRODUCT_ID + rng.permutation(products)
    items: list[Item] = []
    for split, count in zip(SPLITS, (products - 2 * held_out, held_out, held_out), strict=True):
        goods = _goods(count, rng)
        items += [Item(int(ids[len(items) + k]), split, good) for k, good in enumerate(goods)]
    return tuple(items)


def _goods(count: int, rng: np.random.Generator) -> list[Good]:
    """Families of 4 to 9 alike goods, each differing a little from its first; some kinds are commoner."""
    goods: list[Good] = []
    while len(goods) < count:
        for k in rng.permutation(len(KINDS)):
            if rng.random() > (k + 1) ** -_KIND_SLOPE:
                continue
            first = _any_good(KINDS[k].name, rng)
            goods.append(first)
            goods += [_alike(first, rng) for _ in range(int(rng.integers(3, 9)))]
    small = count < 4 * len(KINDS)
    kept = goods[:count] if small else [goods[k] for k in sorted(rng.permutation(len(goods))[:count])]
    return [kept[k] for k in rng.permutation(len(kept))]


def _any_good(kind: str, rng: np.random.Generator) -> Good:
    colours = list(_COLOUR_SHARES)
    colour = colours[int(rng.choice(len(colours), p=list(_COLOUR_SHARES.values())))]
    pattern = "plain" if rng.random() < _PLAIN else PATTERNS[int(rng.integers(1, len(PATTERNS)))]
    shown = BY_NAME[kind]
    material = shown.materials[int(rng.integers(len(shown.materials)))]
    return Good(kind, colour, pattern, material, shown.shapes[int(rng.integers(len(shown.shapes)))].name)


def _alike(first: Good, rng: np.random.Generator) -> Good:
    """Another seller's version: each attribute is kept most of the time."""
    other = _any_good(first.kind, rng)
    kept = {name: getattr(first, name) for name in ATTRIBUTES if rng.random() < 0.84}
    return replace(other, **kept)


def _training_rows(
    items: Sequence[Item], own: Sequence[int], rng: np.random.Generator, possessive_share: float
) -> tuple[PlannedRow, ...]:
    """Matching pairs in random order, each once; a share of the queries begins with 's as some real ones do."""
    shoppers = Shoppers(rng)
    pairs: dict[tuple[int, str], None] = {}
    for item in own:
        for _ in range(1 + int(rng.poisson(_ROWS_PER_PRODUCT - 0.9))):
            pairs[item, shoppers.type_query(items[item].good).text] = None
    found = list(pairs)
    found = [found[k] for k in rng.permutation(len(found))]
    for k in rng.permutation(len(found))[: round(possessive_share * len(found))]:
        found[k] = (found[k][0], f"'s {found[k][1]}")
    texts = list(dict.fromkeys(text for _, text in found))
    ids = dict(zip(texts, rng.permutation(len(texts) * 10)[: len(texts)].tolist(), strict=True))
    return tuple(PlannedRow(item, text, ids[text]) for item, text in found)


def _pools(items: Sequence[Item], own: Sequence[int], rng: np.random.Generator) -> list[PlannedPool]:
    """Pools over one split's products in which every product occurs about equally often, relevant or not."""
    size = min(_POOL, max(8, round(len(own) * 0.7)))
    wanted = max(4, round(len(own) * _OCCURRENCES / size))
    chosen = _choose_queries(items, own, rng, wanted, min(_RELEVANT, size // 3), once=False)
    occurred = _occurred(own, chosen)
    wrong = [
        list(_distractors(items, own, query, size - len(relevant), occurred, rng))
        for query, relevant in chosen
    ]
    _even_out(items, chosen, wrong, occurred, rng)
    return [
        PlannedPool(query, relevant, _shuffled(relevant + tuple(distractors), rng))
        for (query, relevant), distractors in zip(chosen, wrong, strict=True)
    ]


def _even_out(
    items: Sequence[Item],
    chosen: Sequence[tuple[Query, tuple[int, ...]]],
    wrong: list[list[int]],
    occurred: dict[int, int],
    rng: np.random.Generator,
) -> None:
    """Exchanges distractors that occur too often for ones that occur too rarely, wherever they are wrong too."""
    usual = round(sum(occurred.values()) / len(occurred))
    for place in rng.permutation(len(chosen)).tolist():
        query, relevant = chosen[place]
        rare = [
            k
            for k, count in occurred.items()
            if count < usual and k not in wrong[place] and k not in relevant
        ]
        rare = [k for k in rare if not query.might_mean(items[k].good)]
        for slot, often in enumerate(wrong[place]):
            if occurred[often] > usual and rare:
                wrong[place][slot] = rare.pop()
                occurred[often] -= 1
                occurred[wrong[place][slot]] += 1


def _leaking_pools(
    items: Sequence[Item], held_out: Sequence[Sequence[int]], rng: np.random.Generator
) -> list[list[PlannedPool]]:
    """The competition's flaw: a relevant product is in one pool only, distractors come back in many, in both splits."""
    smallest = min(len(own) for own in held_out)
    size = min(_POOL, max(8, round(smallest * 0.7)))
    most = min(_RELEVANT, size // 3)
    wanted = max(2, round(smallest * 0.5 / most))
    chosen = [_choose_queries(items, own, rng, wanted, most, once=True) for own in held_out]
    positive = {k for queries in chosen for _, relevant in queries for k in relevant}
    rest = [k for own in held_out for k in own if k not in positive]
    occurred = dict.fromkeys(rest, 0)
    return [
        [
            PlannedPool(
                query,
                relevant,
                _shuffled(
                    relevant + _distractors(items, rest, query, size - len(relevant), occurred, rng), rng
                ),
            )
            for query, relevant in queries
        ]
        for queries in chosen
    ]


def _choose_queries(
    items: Sequence[Item], own: Sequence[int], rng: np.random.Generator, wanted: int, most: int, *, once: bool
) -> list[tuple[Query, tuple[int, ...]]]:
    """Queries with their relevant products; those that were relevant least often come first. `once`: never again."""
    shoppers = Shoppers(rng)
    used = dict.fromkeys(own, 0)
    found: dict[str, tuple[Query, tuple[int, ...]]] = {}
    for _ in range(wanted * 12):
        if len(found) == wanted:
            break
        seed = min(own, key=lambda k: (used[k], rng.random()))
        if once and used[seed]:
            break
        fewest = int(rng.integers(2, most + 1)) if rng.random() < 0.08 else most
        query = shoppers.type_query(items[seed].good, _sayable(items, own, seed, fewest, rng))
        fitting = [k for k in own if query.means(items[k].good) and not (once and used[k])]
        if len(fitting) < 2 or query.text in found:
            used[seed] += once  # give up on it: nothing else is like it
            continue
        ranked = sorted(fitting, key=lambda k: (k != seed, used[k], rng.random()))
        relevant = tuple(ranked[:most])
        for k in relevant:
            used[k] += 1
        found[query.text] = (query, relevant)
    return list(found.values())


def _sayable(
    items: Sequence[Item], own: Sequence[int], seed: int, fewest: int, rng: np.random.Generator
) -> list[str]:
    """Attributes of a product that a query may name while at least so many products still fit."""
    good = items[seed].good
    fitting = [k for k in own if items[k].good.kind == good.kind]
    named = []
    for name in [ATTRIBUTES[k] for k in rng.permutation(len(ATTRIBUTES))]:
        narrower = [k for k in fitting if getattr(items[k].good, name) == getattr(good, name)]
        if len(narrower) >= fewest:
            fitting = narrower
            named.append(name)
    return named


def _occurred(own: Sequence[int], chosen: Sequence[tuple[Query, tuple[int, ...]]]) -> dict[int, int]:
    """How often each product occurs already, as a relevant one: distractors go where this is lowest."""
    count = dict.fromkeys(own, 0)
    for _, relevant in chosen:
        for k in relevant:
            count[k] += 1
    return count


def _distractors(
    items: Sequence[Item],
    own: Sequence[int],
    query: Query,
    count: int,
    occurred: dict[int, int],
    rng: np.random.Generator,
) -> tuple[int, ...]:
    """Wrong products, those that occurred least so far first: some of the same noun, then a flock of one other kind, so
    that the commonest kind of a pool is not the one asked for; the rest share an attribute with the query, or nothing.
    """
    wrong = [k for k in own if not query.might_mean(items[k].good)]
    wrong.sort(key=lambda k: (occurred[k], rng.random()))
    values = {value for _, value in query.wanted}
    same_noun = [k for k in wrong if items[k].good.kind == query.kind]
    others = [k for k in wrong if items[k].good.kind != query.kind]
    akin = [k for k in others if values & {getattr(items[k].good, name) for name in ATTRIBUTES}]
    flock_kind = items[others[0]].good.kind if others else query.kind
    flock = sorted(
        (k for k in others if items[k].good.kind == flock_kind), key=lambda k: (occurred[k], k not in akin)
    )
    chosen = dict.fromkeys(same_noun[: round(count * rng.uniform(0.20, 0.34))])
    chosen |= dict.fromkeys(flock[: round(count * rng.uniform(0.38, 0.62))])
    for k in [*akin[: count // 6], *wrong]:
        if len(chosen) >= count:
            break
        chosen[k] = None
    for k in chosen:
        occurred[k] += 1
    return tuple(chosen)


def _shuffled(members: tuple[int, ...], rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(members[k] for k in rng.permutation(len(members)))
