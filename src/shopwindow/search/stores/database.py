"""How does a database answer the engine? One adapter for all of them, over what each database can do.

A `Database` opens its `Table`, one state of what a shop's products are there. `card_of` (rows.py) describes it. Knows
no database by name but in `open_database`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import numpy as np
from jaxtyping import Bool, Float32, Shaped

from shopwindow.files import DataError
from shopwindow.search.conditions import PHOTO_COLUMNS, Kind, Relation, parse_number
from shopwindow.search.hits import (
    ColumnView,
    Filter,
    ProductId,
    ProductView,
    UnknownProduct,
    Value,
    View,
)
from shopwindow.search.lookup import NOTHING, Ranked
from shopwindow.search.roles import Roles
from shopwindow.search.segment import integer_of
from shopwindow.search.stores.local import MOST_TEXTS_SHOWN
from shopwindow.search.stores.protocol import StoreMovedError, StoreUnavailableError
from shopwindow.search.stores.rows import FORMAT, Rows
from shopwindow.search.views import view_fields

if TYPE_CHECKING:
    from shopwindow.data.regions import Regions
    from shopwindow.model.rerankers import Pool, Reranker
    from shopwindow.search.stores.protocol import Read

TABLE: Final = "products"
"""The table or collection, where a URL names none."""
FEW_ROWS: Final = 16_000
"""Up to so many products that pass a filter are all read."""
_COUNTS_KEPT: Final = 256
KINDS: Final[Mapping[str, str]] = {
    "postgresql": "postgres",
    "postgres": "postgres",
    "lance": "lance",
    "lance+s3": "lance",
    "lance+gs": "lance",
    "qdrant": "qdrant",
    "milvus": "milvus",
}
"""The module of each scheme of a URL."""
_WANTED: Final = "postgresql://, lance://, qdrant:// or milvus:// was wanted"


@dataclass(frozen=True)
class Found:
    """Products found, best first, and their scores: dot products of vectors, or those of full text."""

    ids: Sequence[ProductId]
    scores: Sequence[float]


@dataclass(frozen=True)
class Comparison:
    """A condition with its values as the column has them: numbers or words. One value unless the relation is `=`."""

    column: str
    relation: Relation
    values: list[float] | list[str]


def comparisons(where: Filter, kinds: Mapping[str, Kind]) -> list[Comparison]:
    """The conditions of a filter, for columns of these kinds."""
    known: dict[str, Kind] = {**kinds, **dict.fromkeys(PHOTO_COLUMNS, "number")}
    return [
        Comparison(
            one.column,
            one.relation,
            list(one.values) if known[one.column] == "word" else list(map(parse_number, one.values)),
        )
        for one in where.conditions
    ]


@dataclass(frozen=True)
class Stored:
    """One product as a database keeps it. `details` is JSON (`Rows.details`); `kept` float16 values, region by region.
    The last two where they were asked for."""

    product_id: ProductId
    size: tuple[int, int]
    texts: Sequence[str]
    values: Mapping[str, Value]
    details: str
    vector: Float32[np.ndarray, " dimensions"] | None = None
    kept: bytes | None = None


@runtime_checkable
class Table(Protocol):
    """One opened state of a shop's products in a database.

    Raises, all of it: StoreUnavailableError where the database does not answer, StoreMovedError where another model's
    products have taken the place.
    """

    @property
    def card(self) -> dict[str, Any]:
        """What describes its products."""

    @property
    def stamp(self) -> str:
        """Differs between any two states that were exported or synced."""

    def search(
        self, vectors: Float32[np.ndarray, "queries dimensions"], k: int, where: Filter, *, exact: bool
    ) -> list[Found]:
        """The best k products of each query by dot product. `exact`: of all that pass. Raises: ValueError where it
        cannot read so many as pass."""

    def find_texts(self, words: str, k: int, where: Filter) -> Found:
        """The best k products by full text."""

    def fetch(self, ids: Sequence[ProductId], *, regions: bool) -> list[Stored]:
        """Those of the products that it has, in any order. `regions`: with vectors and kept regions."""

    def count(self, where: Filter) -> int:
        """How many products pass a filter."""

    def hashes(self) -> dict[ProductId, str]:
        """The content hash of every product."""

    def upsert(self, rows: Rows) -> None:
        """Adds products, or replaces those of the same ids."""

    def delete(self, ids: Sequence[ProductId]) -> None:
        """Takes products away."""

    def describe(self, card: dict[str, Any]) -> Table:
        """Says what its products are, and adds what a new column needs; gives the state with that description.

        Raises: DataError for a column of another type.
        """

    def settle(self) -> None:
        """Builds what makes searches quick, after products were brought."""


@runtime_checkable
class Database(Protocol):
    """A database, and the table in it that holds a shop's products."""

    @property
    def name(self) -> str:
        """Says which for messages, never with a password."""

    @property
    def full_text(self) -> str | None:
        """None where it has full text that scores; else why it has none."""

    def open(self) -> Table | None:
        """The newest state; None where there is no such table. Raises: DataError for a table of others."""

    def create(self, card: dict[str, Any]) -> Table:
        """An empty table for products as described."""


def open_database(url: str, table: str | None = None) -> Database:
    """The database at a URL. Its table is `table`, or the URL's `?table=NAME`, or else TABLE.

    Raises: DataError for something else, which is not repeated: it may hold a password. ImportError naming the extra.
    """
    kind = url.partition("://")[0].lower()
    if "://" not in url or kind not in KINDS:
        raise DataError(f"no address of a store: {_WANTED}", field="--store")
    plain, _, query = url.partition("?")
    settings = dict(parse_qsl(query))
    named = settings.pop("table", TABLE)
    plain = f"{plain}?{urlencode(settings, quote_via=quote)}" if settings else plain
    module = importlib.import_module(f"shopwindow.search.stores.{KINDS[kind]}")
    database: Database = module.connect(plain, table or named)
    return database


def host_of(url: str) -> str:
    """Host and port of a URL, nothing else of it."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        return f"{parts.hostname or 'local'}{f':{parts.port}' if parts.port else ''}"
    return "an address that cannot be read"


def describes_ours(card: Any) -> bool:
    """Whether a description is one that an export wrote."""
    return isinstance(card, dict) and card.get("format") == FORMAT


@dataclass(frozen=True)
class DatabaseOrigin:
    """Opens the table of a database for the engine."""

    database: Database
    bundle: None = None

    def stamp(self) -> str:
        """That of the newest state. Raises: DataError where there is none."""
        return self._table().stamp

    def open(self) -> DatabaseStore:
        """The newest state. Raises: DataError where there is none, or one of an older shopwindow."""
        table = self._table()
        return DatabaseStore(table, Card.of(table.card, self.database.name), self.database.full_text)

    def _table(self) -> Table:
        table = self.database.open()
        if table is None:
            raise DataError("holds no products yet: `shopwindow sync` brings them", path=self.database.name)
        return table


@dataclass(frozen=True)
class Card:
    """What `card_of` says, read back."""

    bundle: str
    dimensions: int
    products: int
    unit: bool
    smoothed: Sequence[float] | None
    smoothed_regions: Sequence[float] | None
    label_names: dict[int, str]
    label_counts: dict[int, int]
    text_ids: bool
    kinds: dict[str, Kind]
    columns: tuple[ColumnView, ...]
    shown: dict[str, str]
    photos: str | None
    backbone: dict[str, Any] | None
    kept_regions: str | None
    kept_values: int
    texts: bool
    known_texts: list[str]

    @classmethod
    def of(cls, content: dict[str, Any], name: str) -> Card:
        """Raises: DataError for a description that lacks something."""
        try:
            told = content["search"]
            views = [
                ColumnView(**{**view, "words": tuple(view["words"]), "counts": tuple(view["counts"])})
                for view in told["columns"]
            ]
            return cls(
                bundle=str(content["bundle"]),
                dimensions=int(content["dimensions"]),
                products=int(content["products"]),
                unit=bool(content["unit_length"]),
                smoothed=content.get("smoothed"),
                smoothed_regions=content.get("smoothed_regions"),
                label_names={int(label): str(said) for label, said in content["label_names"].items()},
                label_counts={int(label): int(count) for label, count in told["label_counts"].items()},
                text_ids=bool(told["text_ids"]),
                kinds=dict(told["kinds"]),
                columns=tuple(views),
                shown=dict(told["shown"]),
                photos=told.get("photos"),
                backbone=told.get("backbone"),
                kept_regions=told.get("kept_regions"),
                kept_values=int(told["kept_values"]),
                texts=bool(told["texts"]),
                known_texts=list(map(str, told["known_texts"])),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = "was written by another shopwindow, or is broken: export the index anew"
            raise DataError(reason, path=name) from error


@dataclass(frozen=True)
class DatabaseStore:
    """One opened state of a database's table, as the engine asks it."""

    table: Table
    card: Card
    no_full_text: str | None

    @property
    def stamp(self) -> str:
        """Names the state."""
        return self.table.stamp

    version = stamp

    @property
    def bundle_hash(self) -> str:
        """The fingerprint of the bundle that made the vectors."""
        return self.card.bundle

    @property
    def backbone(self) -> dict[str, Any] | None:
        """What made the features of photos."""
        return self.card.backbone

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """What the shop's own columns hold."""
        return self.card.kinds

    @property
    def columns(self) -> tuple[ColumnView, ...]:
        """What can be filtered by, as it was when the products were brought."""
        return self.card.columns

    @property
    def label_names(self) -> Mapping[int, str]:
        """Names of labels."""
        return self.card.label_names

    @property
    def label_counts(self) -> Mapping[int, int]:
        """How many products have a region of each label, as it was when the products were brought."""
        return self.card.label_counts

    @property
    def has_texts(self) -> bool:
        """Whether it has full text, and any texts in it."""
        return self.card.texts and self.no_full_text is None

    def without_texts(self) -> str:
        """Why there is no full text."""
        return (
            self.no_full_text or "the index that filled this store holds no texts; `index make --texts` does"
        )

    def known_texts(self) -> list[str]:
        """Some golden queries of the index that filled it."""
        return self.card.known_texts

    def text_side(self) -> None:
        """It holds none."""

    @cached_property
    def roles(self) -> Roles:
        """Which columns say title, link, price and currency."""
        return Roles.of(self.card.kinds, self.card.shown)

    def find(
        self, vectors: Float32[np.ndarray, "queries dimensions"], k: int, where: Filter, *, exact: bool
    ) -> list[Ranked]:
        """The best k products of each query. Where few pass a filter, all of them are read, as local files do: they may
        lie far from where a database looks first."""
        exact = exact or (bool(where) and self._passing(where) <= FEW_ROWS)
        many = self.table.search(vectors, k, where, exact=exact)
        return [self._ranked(found) for found in many]

    def find_by_texts(self, words: str, k: int, where: Filter) -> Ranked:
        """The best k products by full text."""
        return self._ranked(self.table.find_texts(words, k, where))

    @cached_property
    def _passing(self) -> Callable[[Filter], int]:
        """How many products pass a filter, as it was when it was first asked."""
        return lru_cache(_COUNTS_KEPT)(self.table.count)

    def _ranked(self, found: Found) -> Ranked:
        """Equal scores stand by the smaller id, whatever the database does."""
        if not found.ids:
            return NOTHING
        nowhere = np.zeros(len(found.ids), np.int64)
        ids = np.array(found.ids, np.str_ if self.card.text_ids else np.int64)
        return Ranked(ids, np.array(found.scores, np.float64), nowhere, nowhere).best()

    def vector(self, product_id: ProductId) -> tuple[ProductId, Float32[np.ndarray, " dimensions"]]:
        """A product's id as the table holds it, and its vector. Raises: UnknownProduct."""
        stored = self._stored(product_id, regions=True)
        assert stored.vector is not None
        return stored.product_id, stored.vector

    def _stored(self, product_id: ProductId, *, regions: bool = False) -> Stored:
        (stored,) = self._fetched([product_id], regions=regions)
        if stored is None:
            raise UnknownProduct(product_id)
        return stored

    def _fetched(self, ids: Iterable[ProductId], *, regions: bool = False) -> list[Stored | None]:
        """Products by their ids, in order; None of one that is not there."""
        asked = [str(one) if self.card.text_ids else integer_of(str(one)) for one in ids]
        known = [one for one in asked if one is not None]
        found = self.table.fetch(known, regions=regions) if known else []
        by_id = {stored.product_id: stored for stored in found}
        return [None if one is None else by_id.get(one) for one in asked]

    def holds(self, product_ids: Shaped[np.ndarray, " asked"]) -> Bool[np.ndarray, " asked"]:
        """Which products it holds."""
        return np.array([one is not None for one in self._fetched(product_ids.tolist())], bool)

    def count(self, where: Filter) -> int:
        """How many products pass a filter."""
        return self.table.count(where)

    def views(self, product_ids: Shaped[np.ndarray, " asked"]) -> list[View | None]:
        """What a list shows of products; None of one that is not there."""
        return [
            None if stored is None else View(**self._shown(stored, _details(stored)))
            for stored in self._fetched(product_ids.tolist())
        ]

    def product(self, product_id: ProductId) -> ProductView:
        """What is known of a product. Raises: UnknownProduct."""
        stored = self._stored(product_id)
        details, names = _details(stored), self.card.label_names
        labels = tuple(details["labels"])
        return ProductView(
            product_id=stored.product_id,
            boxes=tuple((box[0], box[1], box[2], box[3]) for box in details["boxes"]),
            labels=labels,
            label_names=tuple(names.get(label, str(label)) for label in labels),
            texts=tuple(stored.texts)[:MOST_TEXTS_SHOWN],
            **self._shown(stored, details),
        )

    def _shown(self, stored: Stored, details: Mapping[str, Any]) -> dict[str, Any]:
        return view_fields(
            stored.product_id,
            stored.size,
            stored.values,
            roles=self.roles,
            photos=self.card.photos,
            title=details["title"],
            source=details["photo"],
        )

    def words_of(self, column: str) -> tuple[str, ...]:
        """The most frequent words of a column, rising."""
        views = (view for view in self.card.columns if view.name == column)
        return tuple(sorted(word for view in views for word in view.words))

    def correct(self, words: str) -> str | None:  # noqa: ARG002 - it knows no words of its own
        """Nothing: only local files know how often words occur."""
        return None

    def suggest(self, typed: str, k: int) -> list[str]:  # noqa: ARG002 - as `correct`
        """Nothing: only local files find texts by how they begin."""
        return []

    def regions(self, read: Read) -> DatabaseRegions:  # noqa: ARG002 - no dataset is at hand
        """The regions that it keeps for a reranker."""
        return DatabaseRegions(self)

    def numbers(self) -> dict[str, Any]:
        """What it holds and how."""
        card = self.card
        return {
            "products": card.products,
            "dimensions": card.dimensions,
            "texts": self.has_texts,
            "smoothed": card.smoothed,
            "smoothed_regions": card.smoothed_regions,
            "photos": card.photos,
            "bundle": card.bundle,
        }


@dataclass(frozen=True)
class DatabaseRegions:
    """The regions that a database keeps for one reranker; no others are known there."""

    store: DatabaseStore

    def check(self, reranker: Reranker) -> None:
        """Raises: ValueError where the database does not keep what the reranker needs."""
        if not self.at_hand(reranker):
            kept = self.store.card.kept_regions
            raise ValueError(
                f"re-ranking {reranker.name}: this store keeps {f'regions for {kept}' if kept else 'no regions'}; "
                "an index made by a model that has it, without --no-kept-regions, brings them"
            )

    def at_hand(self, reranker: Reranker) -> bool:
        """Whether the reranker needs no regions, or those that are kept."""
        return not reranker.kept_values or self.store.card.kept_regions == reranker.name

    def pool(self, ranked: Ranked, reranker: Reranker) -> Pool:
        """Products found as the pool of a query. Raises: StoreMovedError where one is gone meanwhile."""
        import torch

        from shopwindow.data.regions import Regions
        from shopwindow.model.rerankers import Pool

        stored = self.store._fetched(ranked.ids.tolist(), regions=True)
        there = [one for one in stored if one is not None and one.vector is not None]
        if len(there) < len(stored):
            raise StoreMovedError("products were deleted while they were ranked")
        vectors = np.stack([one.vector for one in there if one.vector is not None])
        if not reranker.kept_values:
            return Pool(ranked.ids, vectors)
        width = self.store.card.kept_values
        kept = [np.frombuffer(one.kept or b"", np.float16).reshape(-1, width) for one in there]
        counts = torch.tensor([len(some) for some in kept])
        return Pool(
            ranked.ids, vectors, Regions(torch.from_numpy(np.concatenate(kept).astype(np.float32)), counts)
        )

    def raw(self, product_id: ProductId) -> Regions:  # noqa: ARG002 - it has them of none
        """Raises: ValueError: the features of regions stay in the dataset."""
        raise ValueError("what is asked needs the features of regions, which a database does not hold")


def _details(stored: Stored) -> dict[str, Any]:
    details: dict[str, Any] = json.loads(stored.details)
    return details


@contextlib.contextmanager
def as_unavailable(name: str, *errors: type[Exception]) -> Iterator[None]:
    """What a driver says when its server does not answer, as a StoreUnavailableError."""
    try:
        yield
    except errors as error:
        raise StoreUnavailableError(said_by(error), path=name) from error


def said_by(error: Exception) -> str:
    """An error in one line, cut."""
    return " ".join(str(error).split())[:500] or type(error).__name__
