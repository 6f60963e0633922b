"""What do a report and an audit need that no run holds? Photos, provenance, and what a prepared set gives away.

Reads folders, files and prepared sets, and hands on plain values. It knows no page.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import Float64, Int64

from shopwindow.files import (
    PHOTO_ENDINGS,
    STANDARD_STREAM,
    DataError,
    check_photo_folder,
    parse_json,
    read_text,
)
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.audit import MARGIN, Audit, audit
from shopwindow.ranking.blind import box_statistics, equal_rows, in_bins, query_blind_scores
from shopwindow.ranking.measures import Measure
from shopwindow.ranking.pools import Pools, grades_of, read_pools
from shopwindow.ranking.runs import Run
from shopwindow.ranking.shortcuts import Shortcut, WordCounts, image_blind_shortcut, popularity_shortcuts

if TYPE_CHECKING:
    from shopwindow.data.dataset import Dataset

_PRODUCTS_AT_ONCE: Final = 2000
_THUMBNAIL_PX: Final = 176


@dataclass(frozen=True)
class Outside:
    """What a report shows beside the scores where it is known: words by query id, JPEGs by product id, provenance."""

    words: Mapping[str, str] = field(default_factory=dict)
    photo: Callable[[str], bytes | None] = lambda _: None
    provenance: Mapping[str, str] = field(default_factory=dict)


def thumbnails(folder: str | None) -> Callable[[str], bytes | None]:
    """A function from a product id to a small JPEG of its photo in the folder; None where there is no photo.

    Raises: DataError for a folder that is none; the function, for a file that is no photo.
    """
    if folder is None:
        return lambda _: None
    check_photo_folder(folder)

    def thumbnail(product: str) -> bytes | None:
        if not product.isprintable() or ".." in product or any(sign in product for sign in "/\\:"):
            return None  # an id is data from outside: it names a file of this folder, or none
        paths = (Path(folder) / f"{product}{ending}" for ending in PHOTO_ENDINGS)
        path = next((path for path in paths if path.is_file()), None)
        return None if path is None else _small(path)

    return thumbnail


def _small(path: Path) -> bytes:
    from PIL import ImageOps

    from shopwindow.report.photos import read_photo

    stored = io.BytesIO()
    ImageOps.fit(read_photo(path), (_THUMBNAIL_PX,) * 2).save(stored, "JPEG", quality=80)
    return stored.getvalue()


def provenance(files: Iterable[str], *, seed: int, bundle: str | None = None) -> dict[str, str]:
    """The version, every file by the beginning of its SHA-256, and where a bundle comes from."""
    from shopwindow import __version__

    values = {"shopwindow": __version__, "seed of resampling": str(seed)}
    for path in files:
        if path != STANDARD_STREAM:
            with Path(path).open("rb") as file:
                name = path if Path(path).name in values else Path(path).name
                values[name] = "sha256 " + hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return values if bundle is None else values | _bundle_provenance(Path(bundle))


def _bundle_provenance(bundle: Path) -> dict[str, str]:
    path = bundle / "bundle.json"
    try:
        card = parse_json(read_text(path), path)
        values = {f"model {name}": str(value) for name, value in card["provenance"].items()}
    except (KeyError, AttributeError, TypeError) as error:
        raise DataError("is no bundle's card", path=path) from error
    recipe = bundle / "recipe.yaml"
    if recipe.is_file():
        values["model recipe"] = " ".join(read_text(recipe).split()) or "the defaults"
    return {"model": bundle.name, **values}


def audit_set(
    pools: Pools,
    answers: Answers,
    *,
    also: Iterable[str] = (),
    dataset: str | None = None,
    train: str | None = None,
    runs: Sequence[Run] = (),
    measure: Measure,
    margin: float = MARGIN,
    seed: int,
) -> Audit:
    """The audit of pools with what their prepared set and a training set give away; `also` are files of other pools.

    Every part draws from the seed alone, so that a shortcut has the same score beside any others.

    Raises: DataError for a set that holds no product of the pools; else as `audit`.
    """
    from shopwindow.data.dataset import Dataset  # brings torch, which a report without a set does not need

    shortcuts: list[Shortcut] = []
    notes: list[str] = []
    if dataset is not None:
        shortcuts += _learned_shortcuts(pools, answers, Dataset(dataset), np.random.default_rng(seed))
    if train is not None:
        training = Dataset(train)
        shortcuts += popularity_shortcuts(pools, training.product_ids[training.pair_products])
        if dataset is not None and np.isin(pools.product_ids, training.product_ids).any():
            shortcuts.append(image_blind_shortcut(pools, _word_counts(Dataset(dataset), training)))
        elif dataset is not None:
            notes.append(
                "image-blind (text only): does not apply, no candidate is a product of the training set"
            )
    return audit(
        pools,
        answers,
        np.random.default_rng(seed),
        also=[read_pools(path) for path in also],
        shortcuts=shortcuts,
        runs=runs,
        measure=measure,
        margin=margin,
        notes=notes,
    )


def _learned_shortcuts(
    pools: Pools, answers: Answers, dataset: Dataset, generator: np.random.Generator
) -> list[Shortcut]:
    """Models that never read the query: of boxes, labels and sizes, and of the photos' mean features."""
    rows = np.flatnonzero(np.isin(dataset.product_ids, pools.product_ids))
    if not len(rows):
        raise DataError("holds no product of the pools", path=dataset.path)
    starts = range(0, len(rows), _PRODUCTS_AT_ONCE)
    parts = [_product_values(dataset, rows[start : start + _PRODUCTS_AT_ONCE]) for start in starts]
    statistics, features = (np.concatenate(values) for values in zip(*parts, strict=True))
    photos, grades, products = equal_rows(features), grades_of(pools, answers), dataset.product_ids[rows]
    inputs = {"boxes, labels, sizes": in_bins(statistics), "query-blind photos": features}
    return [
        Shortcut(name, query_blind_scores(pools, grades, products, values, generator, same=photos))
        for name, values in inputs.items()
    ]


def _product_values(
    dataset: Dataset, rows: Int64[np.ndarray, " products"]
) -> tuple[Float64[np.ndarray, "products 7"], np.ndarray]:
    """The statistics and the mean features of some products."""
    regions = dataset.regions(rows)
    counts, values = regions.counts.numpy(), regions.features.float().numpy()
    means = np.add.reduceat(values, np.cumsum(counts) - counts, axis=0) / counts[:, None]
    boxes, sizes, labels = dataset.boxes(rows), dataset.image_sizes(rows), dataset.labels(rows)
    return box_statistics(counts, boxes, sizes, labels), means


def _word_counts(dataset: Dataset, training: Dataset) -> WordCounts:
    pairs = np.stack([training.pair_products, training.pair_queries], axis=1)
    return WordCounts.of(
        dataset.query_ids, dataset.query_texts, training.product_ids, training.query_texts, pairs
    )
