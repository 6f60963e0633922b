"""Where are the regions of an index's products: what a reranker keeps of them, or the datasets that they came from?

An index keeps of each product what its bundle's reranker wants (`Reranker.keep`), so that re-ranking needs no
dataset. For late interaction this is a vector of length 1 for each region that the model looks at, in float16. It
goes into a score as a cosine, and what rounding takes of one (2e-5, docs/log.md) is what float32 takes of the
vectors' score. That is a sixteenth of the bytes of its features where these are 2,048 and it is 128, and the work of
projecting is done.

Legend of axes: products = rows of a segment; regions = those that are kept, product by product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from jaxtyping import Float16, Int64

from shopwindow.data.dataset import Dataset
from shopwindow.data.regions import Regions
from shopwindow.files import DataError
from shopwindow.model.rerankers import Pool, Reranker
from shopwindow.search.arrays import bounds_of, load_array, load_bounds, ranges, save_array, save_pieces

if TYPE_CHECKING:
    from shopwindow.search.index import OpenIndex
    from shopwindow.search.lookup import OpenPart, Ranked

BOUNDS_FILE: Final = "kept_bounds.npy"
REGIONS_FILE: Final = "kept_regions.npy"
_ROWS_AT_ONCE: Final = 16_384
_TO_DO: Final = "what is asked needs its regions; bring it back there, or make the index again"


Read = Callable[[Dataset, Int64[np.ndarray, " rows"]], Regions]
"""Gives regions of rows of a dataset."""


@dataclass(frozen=True)
class KeptRegions:
    """The regions of product p are rows `bounds[p]` to `bounds[p + 1]` of `regions`."""

    bounds: Int64[np.ndarray, " bounds"]
    regions: Float16[np.ndarray, "regions width"]

    def __len__(self) -> int:
        """How many products."""
        return len(self.bounds) - 1

    @property
    def values(self) -> int:
        """How many values are kept of a region."""
        return int(self.regions.shape[1])

    @property
    def counts(self) -> Int64[np.ndarray, " products"]:
        """How many regions each product has."""
        return np.diff(self.bounds)

    def take(self, rows: Int64[np.ndarray, " chosen"]) -> KeptRegions:
        """Those of the chosen products, in the order given."""
        counts = self.bounds[rows + 1] - self.bounds[rows]
        return KeptRegions(bounds_of(counts), self.regions[ranges(self.bounds, rows)])

    @classmethod
    def join(cls, parts: list[KeptRegions]) -> KeptRegions:
        """Those of the products of several, end to end."""
        counts = np.concatenate([part.counts for part in parts])
        return cls(bounds_of(counts), np.concatenate([part.regions for part in parts]))

    def write(self, folder: Path, order: Int64[np.ndarray, " products"]) -> None:
        """Writes its two files, the products in this order. Raises: OSError where the disk is full."""
        save_array(folder / BOUNDS_FILE, bounds_of(self.counts[order]))
        pieces = (
            self.take(order[start : start + _ROWS_AT_ONCE]).regions
            for start in range(0, len(order), _ROWS_AT_ONCE)
        )
        save_pieces(folder / REGIONS_FILE, pieces, self.regions.shape, np.dtype(np.float16))

    @classmethod
    def open(cls, folder: Path, width: int) -> KeptRegions:
        """Maps its files.

        Raises: DataError naming the one that is missing, broken, or no part of regions of so many values.
        """
        regions = load_array(folder / REGIONS_FILE)
        if regions.dtype != np.float16 or regions.ndim != 2 or regions.shape[1] != width:
            problem = f"{regions.dtype} of shape {list(regions.shape)}, wanted float16 of {width} values each"
            raise DataError(problem, path=folder / REGIONS_FILE)
        return cls(load_bounds(folder / BOUNDS_FILE, len(regions)), regions)


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

    def raw(self, part: OpenPart, row: int) -> Regions:
        """The regions and the title of one product as the dataset has them.

        Raises: DataError where the dataset is gone or was replaced.
        """
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
