"""Where are the regions of an index's products: kept in it for late interaction, or in the datasets it was made from?

Late scores need what the index keeps of regions, if it does; else, and for everything else that looks at regions, the
datasets are opened, which must be those of then. Knows no words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int64

from shopwindow.data.dataset import Dataset
from shopwindow.data.regions import Regions
from shopwindow.files import DataError
from shopwindow.model.encoder import PartsEncoder
from shopwindow.search.index import OpenIndex, OpenPart

_TO_DO = "what is asked needs its regions; bring it back there, or make the index again"


@dataclass(frozen=True)
class ProductRegions:
    """The regions of the products of one opened state of an index. Datasets stay open once they were asked for."""

    index: OpenIndex
    model: PartsEncoder
    datasets: dict[int, Dataset] = field(default_factory=dict)

    @cached_property
    def for_late(self) -> bool:
        """Whether `late` fits model and index, and its regions are at hand: in the index, or in the very datasets that
        it was made from. These are opened by this, and so stay at hand when they are replaced later."""
        manifest = self.index.manifest
        if self.model.late is None:
            return False
        if manifest.late_regions:
            return True
        if manifest.smooth_regions is not None:
            return False
        try:
            for source in range(len(manifest.sources)):
                self._dataset(source)
        except (DataError, OSError):
            return False
        return True

    def late(
        self, product_ids: Int64[np.ndarray, " asked"]
    ) -> Iterator[tuple[Int64[np.ndarray, " some"], Regions]]:
        """The regions that late scores of products need, in pieces, each with the places of its products: projected
        where the index keeps them (`late_regions` of the manifest), raw from the datasets where it does not.

        Raises: as `raw`.
        """
        if self.index.manifest.late_regions:
            yield from kept_regions(self.index, product_ids)
            return
        for part, places, rows in self.index.by_part(product_ids):
            columns = part.segment.columns
            for source in np.unique(columns.source[rows]).tolist():
                some = np.flatnonzero(columns.source[rows] == source)
                dataset_rows = columns.dataset_row[rows[some]]
                dataset = self._dataset(source)
                yield places[some], dataset.regions(dataset_rows, boxes=self.model.needs_boxes)

    def raw(self, part: OpenPart, row: int) -> Regions:
        """The regions of one product as the dataset has them.

        Raises: DataError where the dataset is gone or was replaced.
        """
        columns = part.segment.columns
        dataset = self._dataset(int(columns.source[row]))
        return dataset.regions(columns.dataset_row[row : row + 1], boxes=self.model.needs_boxes)

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


def kept_regions(
    index: OpenIndex, product_ids: Int64[np.ndarray, " asked"]
) -> Iterator[tuple[Int64[np.ndarray, " some"], Regions]]:
    """The projected regions of some products of an index that keeps them, segment by segment, each with the places of
    its products."""
    for part, places, rows in index.by_part(product_ids):
        if part.segment.late is not None:
            some = part.segment.late.take(rows)
            yield places, Regions(torch.from_numpy(some.regions).float(), torch.from_numpy(some.counts))
