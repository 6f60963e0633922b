"""Which products of a segment pass a filter, worked out once for each filter.

Kept with an opened segment and gone with it, so that no state of an index can take another's mask for its own. Knows
what a filter asks, not who asks.
"""

from __future__ import annotations

import threading
from typing import Final

import numpy as np
from jaxtyping import Bool

from shopwindow.search.conditions import PHOTO_COLUMNS
from shopwindow.search.hits import Filter
from shopwindow.search.segment import Segment

MASKS_KEPT: Final = 32
"""A byte a product each."""


class Masks:
    """The masks of one opened segment: those of the filters asked last, MASKS_KEPT of them. For any thread."""

    def __init__(self) -> None:
        self._kept: dict[Filter, Bool[np.ndarray, " products"]] = {}
        self._lock = threading.Lock()

    def of(self, segment: Segment, where: Filter) -> Bool[np.ndarray, " products"]:
        """Which products of the segment pass; not to be written to. Raises: ValueError as `passing`."""
        with self._lock:
            mask = self._kept.pop(where, None)
            if mask is not None:
                self._kept[where] = mask  # the last one asked for goes last
                return mask
        mask = passing(segment, where)
        mask.flags.writeable = False
        with self._lock:
            self._kept[where] = mask
            if len(self._kept) > MASKS_KEPT:
                del self._kept[next(iter(self._kept))]
        return mask


def passing(segment: Segment, where: Filter) -> Bool[np.ndarray, " products"]:
    """Which products of a segment pass a filter. Raises: ValueError for a condition that does not fit its column."""
    columns = segment.columns
    passes = np.ones(len(segment), bool)
    if where.labels:
        wanted = np.isin(columns.labels, np.array(sorted(where.labels)))
        # Every product has a region, so no slice of the sum is empty.
        passes &= np.logical_or.reduceat(wanted, columns.region_bounds[:-1])
    for condition in where.conditions:
        if condition.column in PHOTO_COLUMNS:
            side = columns.sizes[:, PHOTO_COLUMNS.index(condition.column)]
            passes &= condition.holds(side.astype(np.float64))
        elif segment.attributes is None:
            passes[:] = False
        else:
            passes &= segment.attributes.passing(condition)
    return passes
