"""What does the engine ask of the place where products lie?

A `Store` is one opened state of it; an `Origin` opens the newest. Two answer: local files and databases. Knows neither.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int64, Shaped

from shopwindow.files import DataError
from shopwindow.search.conditions import Kind
from shopwindow.search.hits import ColumnView, Filter, ProductId, ProductView, View
from shopwindow.search.lookup import Ranked

if TYPE_CHECKING:
    from shopwindow.data.dataset import Dataset
    from shopwindow.data.regions import Regions
    from shopwindow.model.exported_text import ExportedText
    from shopwindow.model.rerankers import Pool, Reranker

    Read = Callable[[Dataset, Int64[np.ndarray, " rows"]], Regions]


class StoreUnavailableError(DataError):
    """The database does not answer now. It may answer later: nothing needs to be opened anew."""


class StoreMovedError(DataError):
    """The state that was opened is gone, replaced by a newer one: open that and ask again."""


@runtime_checkable
class StoredRegions(Protocol):
    """The regions of a store's products, for rerankers and explanations."""

    def check(self, reranker: Reranker) -> None:
        """Raises: ValueError for a reranker that cannot score these products."""

    def at_hand(self, reranker: Reranker) -> bool:
        """Whether what a reranker keeps of products can be had."""

    def pool(self, ranked: Ranked, reranker: Reranker) -> Pool:
        """Products found as the pool of a query, with what a reranker keeps of them."""

    def raw(self, product_id: ProductId) -> Regions:
        """The regions and the title of one product as its dataset has them. Raises: UnknownProduct, DataError, and
        ValueError where the store has none."""


@runtime_checkable
class Store(Protocol):
    """One opened state. A filter given to it has columns as the store spells them."""

    @property
    def stamp(self) -> Hashable:
        """Differs between any two states."""

    @property
    def version(self) -> str:
        """Names the state for people."""

    @property
    def bundle_hash(self) -> str:
        """The fingerprint of the model that made the vectors."""

    @property
    def backbone(self) -> dict[str, Any] | None:
        """What made the features of photos; None where nobody said."""

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """What the shop's own columns hold."""

    @property
    def columns(self) -> tuple[ColumnView, ...]:
        """The shop's own columns to filter by."""

    @property
    def label_names(self) -> Mapping[int, str]:
        """Names of labels."""

    @property
    def label_counts(self) -> Mapping[int, int]:
        """How many products have a region of each label."""

    @property
    def has_texts(self) -> bool:
        """Whether it has full text."""

    def without_texts(self) -> str:
        """Why it has no full text, and what gives it some."""

    def known_texts(self) -> list[str]:
        """Texts to try a text side with."""

    def text_side(self) -> ExportedText | None:
        """The exported text side that it holds. Raises: DataError for a broken one."""

    def find(
        self, vectors: Float32[np.ndarray, "queries dimensions"], k: int, where: Filter, *, exact: bool
    ) -> list[Ranked]:
        """The best k products of each query."""

    def find_by_texts(self, words: str, k: int, where: Filter) -> Ranked:
        """The best k products by full text."""

    def vector(self, product_id: ProductId) -> tuple[ProductId, Float32[np.ndarray, " dimensions"]]:
        """A product's id as the store holds it, and its vector. Raises: UnknownProduct."""

    def views(self, product_ids: Shaped[np.ndarray, " asked"]) -> list[View | None]:
        """What a list shows of products; None of one that is not there."""

    def product(self, product_id: ProductId) -> ProductView:
        """What is known of a product. Raises: UnknownProduct."""

    def holds(self, product_ids: Shaped[np.ndarray, " asked"]) -> Bool[np.ndarray, " asked"]:
        """Which products it holds."""

    def count(self, where: Filter) -> int:
        """How many products pass a filter."""

    def words_of(self, column: str) -> Sequence[str]:
        """Words of a column, rising."""

    def correct(self, words: str) -> str | None:
        """The words with mistyped ones replaced; None where none is mistyped."""

    def suggest(self, typed: str, k: int) -> list[str]:
        """Titles and texts that go on what somebody is typing."""

    def regions(self, read: Read) -> StoredRegions:
        """The regions of its products. `read` gives all that the model reads of rows of a dataset."""

    def numbers(self) -> dict[str, Any]:
        """What it holds and how, as JSON can write it."""


@runtime_checkable
class Origin(Protocol):
    """Opens states of a store."""

    @property
    def bundle(self) -> Path | None:
        """Where its own copy of the bundle lies."""

    def stamp(self) -> Hashable:
        """That of the newest state. Raises: DataError where there is none."""

    def open(self) -> Store:
        """The newest state. Raises: DataError where there is none, or a broken one."""
