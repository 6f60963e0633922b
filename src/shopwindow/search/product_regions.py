"""Where does a reranker find the regions of an index's products: in the index, or in the datasets they came from?

What the index keeps (`kept_regions.py`) is enough for the reranker it was kept for. Others need the dataset, which must
still be the one that the index was made from. Knows no query.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from jaxtyping import Int64

from shopwindow.data.dataset import Dataset
from shopwindow.data.regions import Regions
from shopwindow.files import DataError
from shopwindow.model.rerankers import Pool, Reranker
from shopwindow.search.hits import ProductId, UnknownProduct
from shopwindow.search.index import OpenIndex
from shopwindow.search.lookup import OpenPart, Ranked

_TO_DO: Final = "what is asked needs its regions; bring it back there, or make the index again"


Read = Callable[[Dataset, Int64[np.ndarray, " rows"]], Regions]
"""Gives regions of rows of a dataset."""


@dataclass(frozen=True)
class ProductRegions:
    """The regions of the products of one opened state of an index. Datasets stay open once they were asked for.

    `read` gives all that the model reads of rows of a dataset (`Bundle.regions`).
    """

    index: OpenIndex
    read: Read
    datasets: dict[int, Dataset] = field(default_factory=dict)

    def check(self, reranker: Reranker) -> None:
        """Raises: ValueError for a reranker of raw regions where the vectors are of smoothed ones."""
        made = self.index.manifest
        if reranker.kept_values and made.smooth_regions is not None and made.kept_regions != reranker.name:
            raise ValueError(
                f"re-ranking {reranker.name}: the vectors of this index are of smoothed regions, and it keeps none of "
                "these: their scores would mix with those of raw ones"
            )

    def at_hand(self, reranker: Reranker) -> bool:
        """Whether what a reranker keeps is in the index, or can be made of the very datasets that it was made from.

        These are opened by this, and so stay at hand when they are replaced later.
        """
        if not reranker.kept_values or self.index.manifest.kept_regions == reranker.name:
            return True
        try:
            self.check(reranker)
            for source in range(len(self.index.manifest.sources)):
                self._dataset(source)
        except (ValueError, DataError, OSError):
            return False
        return True

    def pool(self, ranked: Ranked, reranker: Reranker) -> Pool:
        """Products found as the pool of a query, with what a reranker keeps of them: taken from the index, or made anew
        from the datasets where the index keeps none of it.

        Raises: as `raw`.
        """
        vectors = np.empty((len(ranked.ids), self.index.manifest.hidden), np.float32)
        kept, order = [], []
        for part, places, rows in ranked.by_part(self.index.parts):
            vectors[places] = part.segment.vectors(rows)
            if reranker.kept_values:
                kept.append(self._kept(part, rows, reranker))
                order.append(places)
        return Pool(ranked.ids, vectors, _in_order(kept, order) if kept else None)

    def _kept(self, part: OpenPart, rows: Int64[np.ndarray, " rows"], reranker: Reranker) -> Regions:
        kept = part.segment.kept
        if kept is not None and self.index.manifest.kept_regions == reranker.name:
            some = kept.take(rows)
            return Regions(torch.from_numpy(some.regions).float(), torch.from_numpy(some.counts))
        made = reranker.keep(self._read(part, rows, _whole))
        if made is None:
            raise ValueError(f"re-ranking {reranker.name}: it says that it keeps regions, and kept none")
        return made

    def raw(self, product_id: ProductId) -> Regions:
        """The regions and the title of one product as the dataset has them.

        Raises: UnknownProduct. DataError where the dataset is gone or was replaced.
        """
        place = self.index.locate(product_id)
        if place is None:
            raise UnknownProduct(product_id)
        part, row = place
        return self._read(part, np.array([row]), self.read)

    def _read(self, part: OpenPart, rows: Int64[np.ndarray, " rows"], read: Read) -> Regions:
        columns = part.segment.columns
        order, pieces = [], []
        for source in np.unique(columns.source[rows]).tolist():
            some = np.flatnonzero(columns.source[rows] == source)
            pieces.append(read(self._dataset(source), columns.dataset_row[rows[some]]))
            order.append(some)
        return _in_order(pieces, order)

    def _dataset(self, source: int) -> Dataset:
        """A dataset that products came from; stays open, and the same, when it is replaced later."""
        if source not in self.datasets:
            wanted = self.index.manifest.sources[source]
            try:
                dataset = Dataset(wanted.path)
            except DataError as error:
                raise DataError(f"{error}; {_TO_DO}") from error
            if dataset.content_hash != wanted.content_hash:
                raise DataError(
                    f"was replaced since the index was made; its regions are others; {_TO_DO}",
                    path=wanted.path,
                )
            _ = dataset.region_counts  # maps its files now: later ones may be of another dataset
            self.datasets[source] = dataset
        return self.datasets[source]


def _whole(dataset: Dataset, rows: Int64[np.ndarray, " rows"]) -> Regions:
    """Regions with all that a reranker may look at."""
    return dataset.regions(rows, boxes=True)


def _in_order(pieces: list[Regions], order: list[Int64[np.ndarray, " _"]]) -> Regions:
    """Those of all products, each where `order` says."""
    return Regions.join(pieces).take(torch.from_numpy(np.argsort(np.concatenate(order))))
