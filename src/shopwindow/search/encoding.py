"""How do the products of a dataset become what an index keeps, so that a killed run does not begin again?

What is encoded waits in `OUT.indexing` until the index is made: vectors, and what the bundle's reranker keeps of
regions, file by file appended to. A run of the same bundle and dataset goes on behind what is whole in all of them.
Knows no segment.

```
of.json             bundle, dataset and settings that it was made of
vectors.f32         products x dimensions
kept_counts.i64     how many regions of each product are kept
kept_regions.f16    these regions, as the reranker compares them
```
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from shopwindow.data.dataset import Dataset
from shopwindow.data.regions import Regions
from shopwindow.files import DataError, alone, read_text
from shopwindow.model.bundle import Bundle
from shopwindow.model.rank import keep_products
from shopwindow.model.rerankers import Reranker
from shopwindow.search.arrays import bounds_of
from shopwindow.search.index import Manifest
from shopwindow.search.kept_regions import KeptRegions
from shopwindow.search.smoothing import SmoothedRegions

_ENCODED_AT_ONCE: Final = 4096

Progress = Callable[[int, int], None]
"""Called with products encoded and products in all."""


@dataclass(frozen=True)
class Encoded:
    """What the model makes of the products of a dataset, by row; mapped."""

    vectors: Float32[np.ndarray, "products dimensions"]
    kept: KeptRegions | None


def encode(
    out: Path, manifest: Manifest, bundle: Bundle, dataset: Dataset, progress: Progress | None
) -> Encoded:
    """The vectors of all products of a dataset, and what the bundle's reranker keeps of regions where the index keeps
    it.

    What an interrupted run of the same bundle and dataset left is taken over.

    Raises: DataError for a vector or a region that is not finite. OSError for a full disk.
    """
    folder = _folder(out)
    known, identity = folder / "of.json", _identity(manifest, dataset)
    if not known.is_file() or read_text(known) != identity:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        known.write_text(identity, encoding="utf-8")
    reranker = None if manifest.kept_regions is None else bundle.reranker
    width = 0 if reranker is None else reranker.kept_values
    files = _Files(folder, bundle.model.dimensions, width)
    total, done = len(dataset.product_ids), files.cut_to_whole()
    weights = manifest.smooth_regions
    smoothed = SmoothedRegions.of(dataset, weights, folder) if weights and done < total else None
    for start in range(done, total, _ENCODED_AT_ONCE):
        rows = np.arange(start, min(start + _ENCODED_AT_ONCE, total))
        _append(files, bundle, dataset, rows, smoothed, reranker)
        if progress is not None:
            progress(int(rows[-1]) + 1, total)
    return files.read(total)


def forget_encoded(out: Path) -> None:
    """Takes away what waited beside an index that is made now; nothing where another process is at it by now, whose own
    it may be."""
    with contextlib.suppress(DataError), alone(out):
        shutil.rmtree(_folder(out), ignore_errors=True)


@dataclass(frozen=True)
class _Files:
    """The files that are appended to. `width`: values kept of a region; 0: none are kept."""

    folder: Path
    dimensions: int
    width: int

    @property
    def vectors(self) -> Path:
        return self.folder / "vectors.f32"

    @property
    def counts(self) -> Path:
        return self.folder / "kept_counts.i64"

    @property
    def regions(self) -> Path:
        return self.folder / "kept_regions.f16"

    def cut_to_whole(self) -> int:
        """How many products are whole in all files, which end with them afterwards."""
        done = _rows(self.vectors, 4 * self.dimensions)
        if self.width:
            counts = np.fromfile(self.counts, np.int64) if self.counts.is_file() else np.zeros(0, np.int64)
            bounds = bounds_of(counts)
            whole = np.searchsorted(bounds, _rows(self.regions, 2 * self.width), side="right") - 1
            done = min(done, int(whole))
            _cut(self.counts, 8 * done)
            _cut(self.regions, 2 * self.width * int(bounds[done]))
        _cut(self.vectors, 4 * self.dimensions * done)
        return done

    def read(self, total: int) -> Encoded:
        vectors = np.asarray(np.memmap(self.vectors, np.float32, "r", shape=(total, self.dimensions)))
        if not self.width:
            return Encoded(vectors, None)
        bounds = bounds_of(np.fromfile(self.counts, np.int64))
        shape = int(bounds[-1]), self.width
        regions = np.asarray(np.memmap(self.regions, np.float16, "r", shape=shape))
        return Encoded(vectors, KeptRegions(bounds, regions))


def _append(
    files: _Files,
    bundle: Bundle,
    dataset: Dataset,
    rows: Int64[np.ndarray, " rows"],
    smoothed: SmoothedRegions | None,
    reranker: Reranker | None,
) -> None:
    boxes = bundle.needs_boxes
    vectors = bundle.encode_dataset(dataset, rows) if smoothed is None else smoothed.encode(bundle, rows)
    _check_finite(vectors, dataset.product_ids[rows], "vector", dataset)
    if reranker is not None:
        kept = (
            keep_products(reranker, dataset, rows, boxes=boxes)
            if smoothed is None
            else smoothed.keep(reranker, rows, boxes=boxes)
        )
        assert kept is not None
        _append_kept(files, kept, dataset.product_ids[rows], dataset)
    _write(files.vectors, vectors)


def _append_kept(
    files: _Files, photos: Regions, product_ids: Shaped[np.ndarray, " products"], dataset: Dataset
) -> None:
    regions = photos.features.half().cpu().numpy()
    lengths = photos.counts.numpy().astype(np.int64)
    _check_finite(regions, np.repeat(product_ids, lengths), "region", dataset)
    _write(files.regions, regions)
    _write(files.counts, lengths)


def _check_finite(
    values: np.ndarray, product_ids: Shaped[np.ndarray, " rows"], of_what: str, dataset: Dataset
) -> None:
    finite = np.isfinite(values).all(1)
    if not finite.all():
        wrong = product_ids[~finite][0]
        raise DataError(f"product {wrong}: the model's {of_what} is not finite", path=dataset.path)


def _write(path: Path, values: np.ndarray) -> None:
    with path.open("ab") as file:
        file.write(np.ascontiguousarray(values).data)


def _rows(path: Path, row_bytes: int) -> int:
    return path.stat().st_size // row_bytes if path.is_file() else 0


def _cut(path: Path, size: int) -> None:
    with path.open("ab") as file:
        file.truncate(size)


def _identity(manifest: Manifest, dataset: Dataset) -> str:
    made_of: dict[str, object] = {"bundle": manifest.bundle_hash, "dataset": dataset.content_hash}
    if manifest.smooth_regions is not None:
        made_of["smooth_regions"] = manifest.smooth_regions
    if manifest.kept_regions is not None:
        made_of["kept_regions"] = manifest.kept_regions
    return json.dumps(made_of)


def _folder(out: Path) -> Path:
    return out.with_name(f"{out.name}.indexing")
