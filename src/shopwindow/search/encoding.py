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
from collections.abc import Callable, Sequence
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

ENCODED_AT_ONCE: Final = 4096
"""Products. A stretch that begins at a multiple of it has the same batches, so the same bits, as the whole has."""
_NAMES: Final = ("vectors.f32", "kept_counts.i64", "kept_regions.f16")
_COPIED_BYTES: Final = 16 * 2**20

Progress = Callable[[int, int], None]
"""Called with products encoded and products in all."""


@dataclass(frozen=True)
class MadeOf:
    """What decides what becomes of a dataset's products."""

    bundle_hash: str
    smooth_regions: tuple[float, ...] | None
    kept_regions: str | None

    @classmethod
    def of(cls, manifest: Manifest) -> MadeOf:
        """Of an index."""
        return cls(manifest.bundle_hash, manifest.smooth_regions, manifest.kept_regions)

    def names(self, dataset: Dataset) -> dict[str, object]:
        """The same with the dataset, as JSON."""
        names: dict[str, object] = {"bundle": self.bundle_hash, "dataset": dataset.content_hash}
        if self.smooth_regions is not None:
            names["smooth_regions"] = list(self.smooth_regions)
        if self.kept_regions is not None:
            names["kept_regions"] = self.kept_regions
        return names


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
    folder, rows = _folder(out), range(len(dataset.product_ids))
    files = encode_rows(folder, MadeOf.of(manifest), bundle, dataset, rows, progress=progress)
    return files.read(len(rows))


def encode_rows(
    folder: Path,
    made_of: MadeOf,
    bundle: Bundle,
    dataset: Dataset,
    rows: range,
    *,
    progress: Progress | None = None,
) -> EncodedFiles:
    """Encodes some products of a dataset, side by side, into a folder; goes on behind what is whole there.

    Raises: DataError for a vector or a region that is not finite. OSError for a full disk.
    """
    known, identity = folder / "of.json", json.dumps(made_of.names(dataset))
    if not known.is_file() or read_text(known) != identity:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        known.write_text(identity, encoding="utf-8")
    reranker = None if made_of.kept_regions is None else bundle.reranker
    files = EncodedFiles(folder, bundle.model.dimensions, 0 if reranker is None else reranker.kept_values)
    done, weights = files.cut_to_whole(len(rows)), made_of.smooth_regions
    smoothed = SmoothedRegions.of(dataset, weights, folder) if weights and done < len(rows) else None
    for start in range(rows.start + done, rows.stop, ENCODED_AT_ONCE):
        some = np.arange(start, min(start + ENCODED_AT_ONCE, rows.stop))
        _append(files, bundle, dataset, some, smoothed, reranker)
        if progress is not None:
            progress(int(some[-1]) + 1 - rows.start, len(rows))
    return files


def join_encoded(out: Path, made_of: MadeOf, dataset: Dataset, folders: Sequence[Path]) -> None:
    """Lays what `encode_rows` made of all products, stretch after stretch, where `encode` finds it done.

    Raises: DataError where another process is at it; OSError for a full disk.
    """
    folder = _folder(out)
    with alone(out):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in _NAMES:
            with (folder / name).open("wb") as whole:
                for part in folders:
                    if (part / name).is_file():
                        with (part / name).open("rb") as file:
                            shutil.copyfileobj(file, whole, _COPIED_BYTES)
        (folder / "of.json").write_text(json.dumps(made_of.names(dataset)), encoding="utf-8")


def forget_encoded(out: Path) -> None:
    """Takes away what waited beside an index that is made now; nothing where another process is at it by now, whose own
    it may be."""
    with contextlib.suppress(DataError), alone(out):
        shutil.rmtree(_folder(out), ignore_errors=True)


@dataclass(frozen=True)
class EncodedFiles:
    """The files that are appended to. `width`: values kept of a region; 0: none are kept."""

    folder: Path
    dimensions: int
    width: int

    @property
    def vectors(self) -> Path:
        """Of the vectors."""
        return self.folder / _NAMES[0]

    @property
    def counts(self) -> Path:
        """Of how many regions each product has."""
        return self.folder / _NAMES[1]

    @property
    def regions(self) -> Path:
        """Of the regions."""
        return self.folder / _NAMES[2]

    def cut_to_whole(self, total: int) -> int:
        """How many of `total` products are whole in all files: all, or whole batches. The files end with them then."""
        done = min(_rows(self.vectors, 4 * self.dimensions), total)
        bounds = np.zeros(1, np.int64)
        if self.width:
            counts = np.fromfile(self.counts, np.int64) if self.counts.is_file() else np.zeros(0, np.int64)
            bounds = bounds_of(counts)
            whole = np.searchsorted(bounds, _rows(self.regions, 2 * self.width), side="right") - 1
            done = min(done, int(whole))
        if done < total:
            done -= done % ENCODED_AT_ONCE
        if self.width:
            _cut(self.counts, 8 * done)
            _cut(self.regions, 2 * self.width * int(bounds[done]))
        _cut(self.vectors, 4 * self.dimensions * done)
        return done

    def read(self, total: int) -> Encoded:
        """What they hold of so many products, mapped."""
        vectors = np.asarray(np.memmap(self.vectors, np.float32, "r", shape=(total, self.dimensions)))
        if not self.width:
            return Encoded(vectors, None)
        bounds = bounds_of(np.fromfile(self.counts, np.int64))
        shape = int(bounds[-1]), self.width
        regions = np.asarray(np.memmap(self.regions, np.float16, "r", shape=shape))
        return Encoded(vectors, KeptRegions(bounds, regions))


def _append(
    files: EncodedFiles,
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
    files: EncodedFiles, photos: Regions, product_ids: Shaped[np.ndarray, " products"], dataset: Dataset
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


def _folder(out: Path) -> Path:
    return out.with_name(f"{out.name}.indexing")
