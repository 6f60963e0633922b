"""What does an index keep of the regions of its products?

An index keeps of each product what its bundle's reranker wants (`Reranker.keep`), so that re-ranking needs no
dataset. For late interaction this is a vector of length 1 for each region that the model looks at, in float16. It
goes into a score as a cosine, and what rounding takes of one (2e-5, docs/log.md) is what float32 takes of the
vectors' score. That is a sixteenth of the bytes of its features where these are 2,048 and it is 128, and the work of
projecting is done.

Knows no model. Legend of axes: products = rows of a segment; regions = those that are kept, product by product.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float16, Int64

from shopwindow.files import DataError
from shopwindow.search.arrays import bounds_of, load_array, load_bounds, ranges, save_array, save_pieces

BOUNDS_FILE: Final = "kept_bounds.npy"
REGIONS_FILE: Final = "kept_regions.npy"
_ROWS_AT_ONCE: Final = 16_384


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
