"""Which products answer these words, and why? One class for command line, service, page and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shopwindow.search.hits import EVERYTHING, Explanation, Filter, Hit, ProductView

Rerank = Callable[[str, list[int]], Sequence[float]]
"""Takes the words and the ids of the first products, gives their new scores."""


class SearchEngine:
    """Searches an index. Safe to read from several threads; a search sees one state of the index throughout."""

    @classmethod
    def open(cls, index: str | Path, *, bundle: str | Path | None = None) -> SearchEngine:
        """Opens an index with its own copy of the bundle, or with `bundle`, which must be the same model.

        Raises: DataError for a broken or foreign index, or a bundle of other content.
        """
        raise NotImplementedError

    def search(
        self,
        words: str,
        *,
        k: int = 10,
        where: Filter = EVERYTHING,
        exact: bool = False,
        hybrid: bool = False,
        rerank: Rerank | None = None,
    ) -> list[Hit]:
        """The best k products for the words, fewer when there are fewer. Raises: ValueError for no words, k < 1."""
        raise NotImplementedError

    def search_many(
        self, words: Sequence[str], *, k: int = 10, where: Filter = EVERYTHING, exact: bool = False
    ) -> list[list[Hit]]:
        """The same for several queries at once, in their order."""
        raise NotImplementedError

    def similar(self, product_id: int, *, k: int = 10, where: Filter = EVERYTHING) -> list[Hit]:
        """The products whose photos are nearest to one's own, itself left out. Raises: UnknownProduct."""
        raise NotImplementedError

    def similar_region(
        self, product_id: int, region: int, *, k: int = 10, where: Filter = EVERYTHING
    ) -> list[Hit]:
        """The products nearest to one region (box) of a product. Raises: UnknownProduct, ValueError for no such region,
        DataError where the dataset that holds the regions is gone."""
        raise NotImplementedError

    def product(self, product_id: int) -> ProductView:
        """What is known of a product. Raises: UnknownProduct."""
        raise NotImplementedError

    def explain(self, words: str, product_id: int) -> Explanation:
        """Which word looks at which box. Raises: UnknownProduct, ValueError for no words, DataError as similar_region."""
        raise NotImplementedError

    def stats(self) -> dict[str, Any]:
        """Numbers for /readyz and people: products, segments, dimensions, precision, approximate, recall, version."""
        raise NotImplementedError

    @property
    def version(self) -> str:
        """Names the state of the index that is open; changes with every change."""
        raise NotImplementedError

    @property
    def label_names(self) -> dict[int, str]:
        """Names of labels, for filters; empty where none were given."""
        raise NotImplementedError

    def reload(self) -> bool:
        """Opens the newest state of the index where there is one; says whether there was. Searches in flight go on
        in the old one. Raises: DataError as open; the old state then stays open."""
        raise NotImplementedError
