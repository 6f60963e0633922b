"""How are rows gathered from memory-mapped files in one step?

A file of bytes is looked at as overlapping rows, one beginning at every byte: any rows of it are then one fancy read,
as fast as from a plain array, without a loop over what is asked. Knows no format.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, Integer, UInt8


def gather_rows(
    files: Sequence[UInt8[np.ndarray, " _"]],
    file_of: Integer[np.ndarray, " asked"],
    firsts: Int64[np.ndarray, " asked"],
    counts: Int64[np.ndarray, " asked"],
    kind: np.dtype,
    shape: tuple[int, ...] = (),
) -> np.ndarray:
    """Fresh [rows, *shape] of `kind`: of each one asked `counts` rows, from byte `firsts` of its file on.

    Raises: IndexError for a row that is not whole in its file.
    """
    row = np.dtype((np.void, int(np.prod(shape, dtype=np.int64)) * kind.itemsize))
    # The counts' rows, one after the other: 0, 1, 2, 0, 0, 1 ...
    within = np.arange(int(counts.sum())) - np.repeat(counts.cumsum() - counts, counts)
    places = np.repeat(firsts, counts) + within * row.itemsize
    found = np.unique(file_of).tolist()
    if len(found) == 1:
        rows = _every_row(files[found[0]], row)[places]
    else:
        rows = np.empty(len(places), row)
        owners = np.repeat(file_of, counts)
        for file in found:
            here = np.flatnonzero(owners == file)
            rows[here] = _every_row(files[file], row)[places[here]]
    gathered: np.ndarray = rows.view(kind).reshape(-1, *shape)
    return gathered


def _every_row(file: UInt8[np.ndarray, " bytes"], row: np.dtype) -> np.ndarray:
    """The row that begins at each byte, as far as it is whole: a view."""
    return np.ndarray((max(len(file) - row.itemsize + 1, 0),), row, file, 0, (1,))
