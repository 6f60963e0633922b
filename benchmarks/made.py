"""What do the benchmarks run on? Made-up data, as much as wanted: rows, datasets, bundles, lengths, vectors.

Everything goes through the competition's file format and the verbs, so no room of the project is known here.
Lengths are drawn like the competition's. Words of a query: mean 3.9. Regions of a photo: mean 3.8, at most 91; a third
of the photos has one. Source: counts of the competition's files by its participants.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Final

import numpy as np

from record import run_verb

FEATURES: Final = 2048
LONGEST_QUERY: Final = 30
"""Tokens to which the seed pads a query; its longest has 29."""
MOST_REGIONS: Final = 40
"""Regions to which the seed pads a photo; it drops training photos with more."""
MEAN_REGIONS: Final = 3.8
WORDS: Final = ("red", "blue", "green", "striped", "leather", "wooden", "dress", "bag", "chair", "lamp")
HEADER: Final = "product_id\timage_h\timage_w\tnum_boxes\tboxes\tfeatures\tclass_labels\tquery\tquery_id\n"
_MOST: Final = 91
_NOISE_ROWS: Final = 4096


def query_lengths(count: int, rng: np.random.Generator) -> np.ndarray:
    """Tokens of `count` queries: words, [CLS] and [SEP]."""
    return np.minimum(2 + rng.poisson(1.9, count), LONGEST_QUERY - 3) + 2


def photo_lengths(count: int, rng: np.random.Generator, *, most: int = MOST_REGIONS) -> np.ndarray:
    """Regions of `count` photos, none above `most`: a longer one is drawn again, as the seed drops it."""
    out = np.empty(0, np.int64)
    while len(out) < count:
        crowded = rng.random(count) < 0.1  # one photo in ten has more regions than the others
        drawn = rng.geometric(np.where(crowded, 1 / 11.0, 1 / 3.0))
        out = np.concatenate([out, drawn[drawn <= min(most, _MOST)]])
    return out[:count]


def some_words(rng: np.random.Generator) -> str:
    """A query of one to four words."""
    return " ".join(rng.choice(WORDS, int(rng.integers(1, 5)), replace=False).tolist())


def write_rows(
    path: Path,
    rows: int,
    *,
    regions: int | None = None,
    rows_per_query: int = 1,
    features: int = FEATURES,
    seed: int = 0,
) -> int:
    """Writes a competition file of `rows` products and gives its bytes. `regions` a photo: drawn where not given.

    A region is the sum of a direction for each word of its query and noise, never negative, with many exact zeros, as
    detectors give them. So a model can learn these rows, and searches find something.
    """
    rng = np.random.default_rng(seed)
    towards = np.random.default_rng(0).standard_normal(
        (len(WORDS), features), np.float32
    )  # whatever the seed
    direction = dict(zip(WORDS, towards, strict=True))
    noise = rng.standard_normal((_NOISE_ROWS + _MOST, features), np.float32)
    counts = np.full(rows, regions) if regions else photo_lengths(rows, rng, most=_MOST)
    with path.open("w", encoding="utf-8") as file:
        file.write(HEADER)
        for row, count in enumerate(counts.tolist()):
            if row % rows_per_query == 0:
                query = some_words(rng)
                mean = sum(direction[word] for word in query.split())
            start = int(rng.integers(_NOISE_ROWS))
            photo = np.maximum(noise[start : start + count] + mean, 0)
            corners = np.sort(rng.uniform(0, 400, (count, 2, 2)).astype(np.float32), axis=1)
            cells = (corners, photo, rng.integers(0, 33, count))
            encoded = (base64.b64encode(np.ascontiguousarray(cell).data).decode() for cell in cells)
            values = (100_000_000 + 7 * row, 400, 400, count, *encoded, query, row // rows_per_query)
            file.write("\t".join(map(str, values)) + "\n")
    return path.stat().st_size


def write_dataset(
    path: Path,
    products: int,
    *,
    regions: int | None = None,
    rows_per_query: int = 1,
    features: int = FEATURES,
    seed: int = 0,
) -> None:
    """Writes a prepared dataset of `products` pairs, each of its own product, and no TSV beside it."""
    rows = path.with_suffix(".tsv")
    write_rows(rows, products, regions=regions, rows_per_query=rows_per_query, features=features, seed=seed)
    run_verb("prepare", rows, "--out", path, "--feature-size", features)
    rows.unlink()


def train_bundle(folder: Path, recipe: str, *, features: int = FEATURES, epochs: int = 1) -> Path:
    """A bundle at `folder / recipe` with a recipe's sizes; one that is there is kept.

    It learns from 128 pairs, 64 a batch. After one epoch its weights are of no worth; time does not depend on them.
    """
    if (folder / recipe).exists():
        return folder / recipe
    if not (folder / "pairs").exists():
        write_dataset(folder / "pairs", 128, features=features)
        write_dataset(folder / "pools", 40, rows_per_query=10, features=features, seed=1)
        right = {str(query): [100_000_000 + 70 * query] for query in range(4)}
        (folder / "answers.json").write_text(json.dumps(right))
    given = ("--valid", folder / "pools", "--answers", folder / "answers.json", "--recipe", recipe)
    changes = (f"optimiser.epochs={epochs}", "batches.size=64", "optimiser.validations=0.001")
    run_verb("train", folder / "pairs", *given, "--out", folder / recipe, "--set", *changes)
    return folder / recipe


def clustered(count: int, queries: int, hidden: int) -> tuple[np.ndarray, np.ndarray]:
    """Products of length 1 in 2,000 clusters of 24 directions, and queries near some of them."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((2000, 24), np.float32)
    basis = rng.standard_normal((24, hidden), np.float32) / 5
    products = np.empty((count, hidden), np.float32)
    for start in range(0, count, 65_536):
        part = products[start : start + 65_536]
        noise = rng.standard_normal((len(part), 24), np.float32)
        inner = centres[rng.integers(0, 2000, len(part))] + 0.5 * noise
        part[:] = inner @ basis + 0.15 * rng.standard_normal(part.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    noise = rng.standard_normal((queries, hidden), np.float32) * 0.02
    asked = products[rng.integers(0, count, queries)] + noise
    return products, asked / np.linalg.norm(asked, axis=1, keepdims=True)
