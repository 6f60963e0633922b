"""What do products look like when each leans on its nearest neighbours in the whole catalogue?

Then each has one vector, the same for every query, that can be indexed. Either the vectors lean on each other, after
the photo tower, or the regions do, before it, as the seed has it in a pool. Small catalogues exactly; of large ones
neighbours are looked for in the nearest cells only (`neighbours.py`), with a byte a value in memory. Knows no index.

Source: the seed smooths the regions of a pool; on vectors of a catalogue, Turcot and Lowe, ICCV Workshops 2009.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from shopwindow.data.dataset import Dataset
from shopwindow.data.regions import Regions
from shopwindow.model.bundle import Bundle
from shopwindow.model.rerankers import Reranker
from shopwindow.model.smoothing import nearest_regions
from shopwindow.ranking.operators import check_weights, smooth_vectors
from shopwindow.search.arrays import bounds_of, ranges
from shopwindow.search.neighbours import nearest_others

EXACT_VECTORS: Final = 20_000
"""Catalogues of at most so many products are smoothed exactly: some seconds."""
EXACT_REGIONS: Final = 8192
"""The same of regions, which have eight times the values: some seconds and 100 MB."""
PROBES: Final = 8
"""Cells looked into for each vector (docs/design.md, Neighbours)."""
_PROJECTED: Final = 128
_CANDIDATES: Final = 8
_SAMPLE: Final = 8192
_ROWS_AT_ONCE: Final = 512


def smooth_catalogue(
    vectors: Float32[np.ndarray, "products dimensions"],
    weights: tuple[float, ...],
    *,
    unit: bool,
    exact: bool | None = None,
    probes: int = PROBES,
) -> Float32[np.ndarray, "products dimensions"]:
    """Each vector becomes weights[0] of itself + weights[1] of its nearest other + ..., as `smooth_vectors` says; of
    length 1 again where vectors are.

    `exact`: every pair is compared (products^2 x dimensions operations), up to EXACT_VECTORS products if not said; else
    neighbours are looked for in `probes` cells. Memory: the result, and a byte a value.
    Raises: ValueError as `smooth_vectors`.
    """
    if exact is None:
        exact = len(vectors) <= EXACT_VECTORS
    if exact or len(weights) < 2:
        mixed = smooth_vectors(np.asarray(vectors), weights)
    else:
        check_weights(weights)
        nearest = nearest_others(vectors, len(weights) - 1, probes=probes)
        mixed = np.asarray(vectors) * np.float32(weights[0])
        for start in range(0, len(vectors), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            for weight, others in zip(weights[1:], nearest[rows].T, strict=True):
                mixed[rows] += np.float32(weight) * vectors[others]
    if unit:
        mixed /= np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-12)
    return mixed


@dataclass(frozen=True)
class SmoothedRegions:
    """The regions of a dataset, each leaning on its nearest others of the whole dataset. `bounds`: the regions of
    product row p are those from `bounds[p]` to `bounds[p + 1]`; `nearest`: regions by rising distance."""

    dataset: Dataset
    weights: tuple[float, ...]
    bounds: Int64[np.ndarray, " bounds"]
    nearest: Int64[np.ndarray, "regions neighbours"]

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        weights: tuple[float, ...],
        scratch: Path,
        *,
        exact: bool | None = None,
        probes: int = PROBES,
    ) -> SmoothedRegions:
        """Looks for the neighbours.

        `exact`: up to EXACT_REGIONS regions when not said. Else candidates are the nearest by the 128 directions in
        which a sample of the regions differs most. The folder `scratch` keeps these meanwhile; the nearest of 8
        candidates by all values count. Memory: 8 bytes a region and neighbour, 136 a region, and some 200 MB.
        Raises: ValueError for no weights, or one that is not finite. OSError for a full disk.
        """
        check_weights(weights)
        bounds = bounds_of(dataset.region_counts)
        total = int(bounds[-1])
        count = min(len(weights), total) - 1
        if exact is None:
            exact = total <= EXACT_REGIONS
        made = cls(dataset, weights, bounds, np.zeros((total, 0), np.int64))
        if count < 1:
            return made
        if exact:
            everything = dataset.regions(np.arange(len(dataset.product_ids))).features
            nearest = nearest_regions(everything, count).numpy()
        else:
            nearest = made._approximate(count, scratch, probes)
        return cls(dataset, weights, bounds, nearest)

    def encode(
        self, bundle: Bundle, rows: Int64[np.ndarray, " rows"]
    ) -> Float32[np.ndarray, "rows dimensions"]:
        """The vectors of product rows, from their smoothed regions."""
        titles = bundle.titles(self.dataset)
        pieces = [
            bundle.encode_products(
                replace(
                    self.photos(some, boxes=bundle.needs_boxes),
                    titles=titles and titles.take(torch.from_numpy(some)),
                )
            )
            for some in np.split(rows, range(_ROWS_AT_ONCE, len(rows), _ROWS_AT_ONCE))
        ]
        return np.concatenate(pieces)

    def keep(self, reranker: Reranker, rows: Int64[np.ndarray, " rows"], *, boxes: bool) -> Regions | None:
        """What a reranker keeps of product rows, from their smoothed regions."""
        pieces = [
            reranker.keep(self.photos(some, boxes=boxes))
            for some in np.split(rows, range(_ROWS_AT_ONCE, len(rows), _ROWS_AT_ONCE))
        ]
        return Regions.join([piece for piece in pieces if piece is not None])

    def photos(self, rows: Int64[np.ndarray, " rows"], *, boxes: bool) -> Regions:
        """The photos of product rows with smoothed regions."""
        photos = self.dataset.regions(rows, boxes=boxes)
        nearest = self.nearest[ranges(self.bounds, rows)]
        neighbours = nearest.shape[1]
        mixed = photos.features.float() * (self.weights[0] + sum(self.weights[1 + neighbours :]))
        for rank in range(neighbours):
            mixed.add_(self._regions(nearest[:, rank]).float(), alpha=self.weights[1 + rank])
        return photos.with_features(mixed)

    def _regions(self, numbers: Int64[np.ndarray, " some"]) -> Float[Tensor, "some features"]:
        """Some regions by their numbers in the whole dataset."""
        owners, place = np.unique(
            np.searchsorted(self.bounds, numbers, side="right") - 1, return_inverse=True
        )
        regions = self.dataset.regions(owners)
        places = regions.starts.numpy()[place] + numbers - self.bounds[owners[place]]
        return regions.features[torch.from_numpy(places)]

    def _approximate(self, count: int, scratch: Path, probes: int) -> Int64[np.ndarray, "regions count"]:
        total = int(self.bounds[-1])
        wanted = min(max(_CANDIDATES, 2 * count), total - 1)
        path = scratch / "projected.f32"
        try:
            candidates = nearest_others(self._projected(path), wanted, probes=probes)
        finally:
            path.unlink(missing_ok=True)
        nearest = np.empty((total, count), np.int64)
        for start in range(0, total, _ROWS_AT_ONCE):
            own = np.arange(start, min(start + _ROWS_AT_ONCE, total))
            # Rising, so that a stable order keeps the earlier of equally near ones.
            some = np.sort(candidates[own], axis=1)
            regions = self._regions(own).float()
            distances = np.stack(
                [(self._regions(one).float() - regions).square().sum(1).numpy() for one in some.T], axis=1
            )
            order = np.argsort(distances, axis=1, kind="stable")[:, :count]
            nearest[own] = np.take_along_axis(some, order, 1)
        return nearest

    def _projected(self, path: Path) -> Float32[np.ndarray, "regions width"]:
        """All regions in the directions in which a sample differs most, mapped from a file."""
        total, rng = int(self.bounds[-1]), np.random.default_rng(0)
        sample = self._regions(np.sort(rng.choice(total, min(total, _SAMPLE), replace=False))).float()
        mean = sample.mean(0)
        width = min(_PROJECTED, sample.shape[1])
        _, directions = torch.linalg.eigh((sample - mean).T @ (sample - mean))
        directions = directions[:, -width:]
        products = np.arange(len(self.bounds) - 1)
        with path.open("wb") as file:
            for some in np.split(products, range(_ROWS_AT_ONCE, len(products), _ROWS_AT_ONCE)):
                features = self.dataset.regions(some).features.float()
                file.write(((features - mean) @ directions).contiguous().numpy().data)
        return np.asarray(np.memmap(path, np.float32, "r", shape=(total, width)))
