"""Which rows of a segment have the vectors nearest to a query's?

Two answers to one question. `Exact` reads every vector and is the oracle; `Ivf` reads the codes of a few cells of a
mapped faiss file. Both score what they find anew in float64, so that scores and ties are the same whoever answers.
Knows rows and vectors; not ids, texts or deletions.

Source: Douze et al. 2024, "The Faiss library"; the inverted file, Sivic and Zisserman 2003, "Video Google".
"""

from __future__ import annotations

import errno
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from shopwindow.files import DataError

FEW_ROWS: Final = 20_000
"""Up to so many allowed rows `Ivf` reads them all, exactly: a filter may leave nothing in the nearest cells."""
_SCORES_AT_ONCE: Final = 2**24
_ROWS_AT_ONCE: Final = 65_536
_QUERIES_AT_ONCE: Final = 4096
_CANDIDATES: Final = 4
"""Times k: how many rows are scored anew after a search of byte codes."""
_FILTERED: Final = 4
"""Times as many cells under a filter: the rows that pass may crowd away from the query (docs/design.md, Neighbours)."""
_NEARLY_ALL: Final = 0.9
"""Share of the rows from which on those allowed are searched as if all were: after deletions, mostly."""
_GATHERED: Final = 0.25
"""Share of the rows up to which `Exact` copies those allowed; else it reads all and leaves out the others."""
_ROUNDING: Final = 1e-5
"""Float32 scores nearer than this count as tied until they are scored anew."""
_TRAINING_ROWS_PER_CELL: Final = 39
_TRAINING_ROUNDS: Final = 6


@dataclass(frozen=True)
class Nearest:
    """Rows, best first; equal scores by smaller row, or by `Exact.ranks`. `scores`: dot products in float64."""

    rows: Int64[np.ndarray, " found"]
    scores: Float64[np.ndarray, " found"]


@runtime_checkable
class Neighbours(Protocol):
    """Finds the rows whose vectors have the highest dot products with a query."""

    def search(
        self,
        queries: Float32[np.ndarray, "queries dimensions"],
        k: int,
        *,
        allowed: Bool[np.ndarray, " rows"] | None = None,
    ) -> list[Nearest]:
        """The best k rows of each query among those allowed (None: all); fewer where there are fewer."""
        ...


@dataclass(frozen=True)
class Exact:
    """Reads every vector. `vectors` may be a mapped file. `ranks`: places of the rows in the order of equal
    scores, where it is another than that of the rows."""

    vectors: Float32[np.ndarray, "rows dimensions"]
    ranks: Int64[np.ndarray, " rows"] | None = None

    def search(
        self,
        queries: Float32[np.ndarray, "queries dimensions"],
        k: int,
        *,
        allowed: Bool[np.ndarray, " rows"] | None = None,
    ) -> list[Nearest]:
        """As `Neighbours`. Cost: rows x dimensions x queries, in blocks of queries and rows."""
        rows = None if allowed is None else np.flatnonzero(allowed)
        gathered = rows if rows is not None and len(rows) <= _GATHERED * len(self.vectors) else None
        count = len(self.vectors) if gathered is None else len(gathered)
        at_once = max(1, _SCORES_AT_ONCE // max(1, count))
        found = []
        for first in range(0, len(queries), at_once):
            some = queries[first : first + at_once]
            scores = np.empty((len(some), count), np.float32)
            for start in range(0, count, _ROWS_AT_ONCE):
                piece = slice(start, start + _ROWS_AT_ONCE)
                scores[:, piece] = some @ self.vectors[piece if gathered is None else gathered[piece]].T
            for query, quick in zip(some, scores, strict=True):
                if rows is None:
                    best = _best(quick, k)
                else:
                    best = rows[_best(quick if gathered is not None else quick[rows], k)]
                found.append(self.score(query, best, k))
        return found

    def score(
        self, query: Float32[np.ndarray, " dimensions"], rows: Int64[np.ndarray, " some"], k: int
    ) -> Nearest:
        """The best k of some rows. Row by row in one order of summing: equal vectors have equal scores."""
        vectors = self.vectors[rows].astype(np.float64)
        scores = np.einsum("rh,h->r", vectors, query.astype(np.float64))
        ranks = rows if self.ranks is None else self.ranks[rows]
        order = np.lexsort((ranks, -scores))[:k]
        return Nearest(rows[order], scores[order])


@dataclass(frozen=True)
class Ivf:
    """Reads the codes of the `probes` cells nearest to a query. `index`: faiss's IndexIVF, mapped."""

    exact: Exact
    index: Any
    probes: int

    @classmethod
    def open(cls, path: Path, vectors: Float32[np.ndarray, "rows dimensions"], *, probes: int) -> Ivf:
        """Maps what `write_ivf` wrote of these vectors.

        Raises: DataError where the file is missing, broken, or of other vectors.
        """
        import faiss

        try:
            # IO_FLAG_MMAP starts threads for each search; this flag maps the same file without them.
            index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)
            if not isinstance(index, faiss.IndexIVF) or (index.ntotal, index.d) != vectors.shape:
                raise ValueError(f"not an inverted file of {vectors.shape[0]} x {vectors.shape[1]} vectors")
        except (RuntimeError, ValueError) as error:
            raise DataError(f"broken or missing: {error}", path=path) from error
        return cls(Exact(vectors), index, probes)

    def search(
        self,
        queries: Float32[np.ndarray, "queries dimensions"],
        k: int,
        *,
        allowed: Bool[np.ndarray, " rows"] | None = None,
    ) -> list[Nearest]:
        """As `Neighbours`, of the cells read: more of them the fewer rows are allowed, and until k rows are found."""
        probes, bits = self.probes, None
        if allowed is not None:
            count = int(np.count_nonzero(allowed))
            if count <= FEW_ROWS:
                return self.exact.search(queries, k, allowed=allowed)
            more = 1 if count >= _NEARLY_ALL * len(allowed) else _FILTERED
            probes = math.ceil(more * self.probes * len(allowed) / count)
            bits = np.packbits(allowed, bitorder="little")
        return [self.exact.score(query, self._candidates(query, k, probes, bits), k) for query in queries]

    def _candidates(
        self, query: Float32[np.ndarray, " dimensions"], k: int, probes: int, bits: np.ndarray | None
    ) -> Int64[np.ndarray, " rows"]:
        """Rows among which the best k are likely to be, and all that are tied with the last of them."""
        import faiss

        parameters: Any = faiss.SearchParametersIVF()
        if bits is not None:
            selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))  # lives as long as the search
            parameters.sel = selector
        most = self.index.ntotal
        wanted = min(max(_CANDIDATES * k, 10 * _CANDIDATES), most)
        asked = min(wanted + 10, most + 1)
        while True:
            parameters.nprobe = probes = min(probes, self.index.nlist)
            scores, rows = self.index.search(query[None], asked, params=parameters)
            rows, scores = rows[0][rows[0] >= 0], scores[0][rows[0] >= 0]
            if len(rows) < k and probes < self.index.nlist:
                probes *= 4
            elif len(rows) < asked or scores[-1] < _floor(scores[wanted - 1]):
                best: Int64[np.ndarray, " rows"] = rows[_best(scores, wanted)]
                return best
            else:
                asked = min(4 * asked, most + 1)


def write_ivf(
    path: Path, vectors: Float32[np.ndarray, "rows dimensions"], *, cells: int, seed: int = 0
) -> None:
    """Writes an inverted file of the vectors' codes, a byte a value. A mapped file of vectors is not copied.

    Cost: 2 x rows x cells x dimensions operations, and 6 rounds of the same over a sample of 39 rows a cell.
    Raises: ValueError for no vectors or more cells than vectors, OSError where the file cannot be written.
    """
    import faiss

    index = _built(vectors, cells, faiss.METRIC_INNER_PRODUCT, seed)
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # faiss says no more of it
        raise OSError(errno.ENOSPC, str(error), str(path)) from error


def nearest_others(
    vectors: Float32[np.ndarray, "rows width"], count: int, *, probes: int, seed: int = 0
) -> Int64[np.ndarray, "rows count"]:
    """The `count` nearest other rows of each row by Euclidean distance, nearest first, as far as `probes` cells hold
    them.

    More cells are read for a row where these hold too few. Of equally near ones found the earlier stands first.

    Memory: a byte a value. Raises: ValueError for fewer than `count` others.
    """
    import faiss

    if not 0 < count < len(vectors):
        raise ValueError(f"{count} neighbours of {len(vectors)} vectors")
    index = _built(vectors, cell_count(len(vectors)), faiss.METRIC_L2, seed)
    nearest = np.empty((len(vectors), count), np.int64)
    for start in range(0, len(vectors), _QUERIES_AT_ONCE):
        rows = np.arange(start, min(start + _QUERIES_AT_ONCE, len(vectors)))
        asked = probes
        while len(rows):
            parameters: Any = faiss.SearchParametersIVF()
            parameters.nprobe = min(asked, index.nlist)
            values = np.ascontiguousarray(vectors[rows])
            _, found = index.search(values, min(_CANDIDATES * count + 1, len(vectors)), params=parameters)
            found[found == rows[:, None]] = -1
            enough = (found >= 0).sum(1) >= count
            nearest[rows[enough]] = _nearest_of(vectors, values[enough], found[enough], count)
            rows, asked = rows[~enough], 4 * asked
    return nearest


def _nearest_of(
    vectors: Float32[np.ndarray, "rows width"],
    own: Float32[np.ndarray, "own width"],
    candidates: Int64[np.ndarray, "own candidates"],
    count: int,
) -> Int64[np.ndarray, "own count"]:
    """The nearest `count` candidates of each vector by exact distances; -1 is none."""
    candidates = np.sort(candidates, axis=1)  # a stable order then keeps the earlier of equally near ones
    distances = np.full(candidates.shape, np.inf, np.float32)
    for place, rows in enumerate(candidates.T):
        away = vectors[rows] - own
        distances[:, place] = np.where(rows >= 0, np.einsum("ow,ow->o", away, away), np.inf)
    order = np.argsort(distances, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(candidates, order, 1)


def _built(vectors: Float32[np.ndarray, "rows dimensions"], cells: int, metric: int, seed: int) -> Any:
    """faiss's IndexIVF of the vectors' codes."""
    import faiss

    if not 1 <= cells <= len(vectors):
        raise ValueError(f"{cells} cells for {len(vectors)} vectors")
    index: Any = faiss.index_factory(vectors.shape[1], f"IVF{cells},SQ8", metric)
    index.cp.niter, index.cp.seed = _TRAINING_ROUNDS, seed
    index.cp.spherical = metric == faiss.METRIC_INNER_PRODUCT
    index.cp.max_points_per_centroid = _TRAINING_ROWS_PER_CELL
    index.cp.min_points_per_centroid = 1
    index.train(np.ascontiguousarray(vectors))
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        index.add(np.ascontiguousarray(vectors[start : start + _ROWS_AT_ONCE]))
    return index


def cell_count(rows: int) -> int:
    """How many cells: 4 times the root of the number of rows, as is usual."""
    return min(rows, round(4 * math.sqrt(rows)))


def _best(scores: Float32[np.ndarray, " some"], wanted: int) -> Int64[np.ndarray, " best"]:
    """The places of the best `wanted` scores and of all that are tied with the last, within rounding."""
    if wanted >= len(scores):
        return np.arange(len(scores))
    last = np.partition(scores, len(scores) - wanted)[len(scores) - wanted]
    places: Int64[np.ndarray, " best"] = np.flatnonzero(scores >= _floor(last))
    return places


def _floor(score: np.float32) -> float:
    return float(score) - _ROUNDING * max(1.0, abs(float(score)))
