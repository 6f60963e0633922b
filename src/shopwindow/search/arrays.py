"""How does an array lie in a file of an index, and how are ranges of rows taken? Plain `.npy`, mapped, no pickle."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Shaped

from shopwindow.files import DataError


def save_array(path: Path, array: Shaped[np.ndarray, "..."]) -> None:
    """Writes a `.npy` file. Raises: OSError with its number where the disk is full, which `np.save` loses."""
    save_pieces(path, [array], array.shape, array.dtype)


def save_pieces(
    path: Path, pieces: Iterable[Shaped[np.ndarray, "..."]], shape: tuple[int, ...], dtype: np.dtype
) -> None:
    """Writes a `.npy` file of this shape, of which the pieces are the rows in their order. Raises: as `save_array`."""
    with path.open("wb") as file:
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, dtype).data)


def load_array(path: Path) -> Shaped[np.ndarray, "..."]:
    """A mapped `.npy` file. Raises: DataError where it is missing or broken."""
    try:
        mapped = np.lib.format.open_memmap(path, mode="r")
        if path.stat().st_size != mapped.offset + mapped.nbytes:
            raise ValueError("its header does not say how long it is")
        # A plain array over the map: slices of np.memmap itself are slow to make.
        return np.asarray(mapped)
    except Exception as error:  # numpy parses the header as Python does, which raises many kinds
        raise DataError(f"broken or missing: {error}", path=path) from error


def load_bounds(path: Path, rows: int) -> Int64[np.ndarray, " bounds"]:
    """A mapped file of `bounds_of` so many rows. Raises: DataError where it is missing, broken, or of other rows."""
    bounds = load_array(path)
    if bounds.dtype != np.int64 or bounds.ndim != 1 or not len(bounds):
        raise DataError(f"{bounds.dtype} of shape {list(bounds.shape)}, wanted int64 in a row", path=path)
    if bounds[0] != 0 or bounds[-1] != rows or not (bounds[1:] >= bounds[:-1]).all():
        raise DataError(f"does not divide {rows} rows", path=path)
    return bounds


def ranges(
    bounds: Int64[np.ndarray, " bounds"], rows: Int64[np.ndarray, " rows"]
) -> Int64[np.ndarray, " numbers"]:
    """The numbers from `bounds[row]` to before `bounds[row + 1]` of each row, end to end.

    >>> ranges(np.array([0, 2, 2, 5]), np.array([2, 1, 0])).tolist()
    [2, 3, 4, 0, 1]
    """
    counts = bounds[rows + 1] - bounds[rows]
    ends = np.cumsum(counts)
    numbers: Int64[np.ndarray, " numbers"] = np.arange(counts.sum()) + np.repeat(
        bounds[rows] - ends + counts, counts
    )
    return numbers


def bounds_of(counts: Int64[np.ndarray, " rows"]) -> Int64[np.ndarray, " bounds"]:
    """Where the values of each row begin, and the last ones end, when so many of each lie end to end."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
