"""Makes an index of as many generated products as wanted, by a bundle of random weights and a recipe's sizes.

Speed depends on neither the weights nor the photos. The products lie around queries of a few words, so
that cells are as uneven as real ones and searches find something. Regions have a folder, without files.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

import numpy as np
import torch

from shopwindow.data.dataset import Dataset
from shopwindow.data.prepare import prepare
from shopwindow.drawn.writing import draw_shop
from shopwindow.files import whole_directory
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.model.initial import initial_model
from shopwindow.model.recipe import load_recipe
from shopwindow.search.bundled import copy_bundle, load_bundle
from shopwindow.search.golden import AT, ask_exactly, recall
from shopwindow.search.index import BUNDLE, MANIFEST, SEGMENTS, Manifest, OpenIndex, Part, named_by_content
from shopwindow.search.segment import Columns, write_segment
from shopwindow.search.vectors import Coding

WORDS: Final = tuple("red blue green striped leather wooden new small dress bag chair shoes".split())  # noqa: SIM905 - shorter
_NOISE: Final = 0.5
_QUERIES: Final = 200
_PROBES: Final = (4, 8, 16, 32, 64, 128)


def some_words(rng: np.random.Generator) -> str:
    """A query of one to four words."""
    return " ".join(rng.choice(WORDS, int(rng.integers(1, 5)), replace=False).tolist())


def make_bundle(folder: Path, recipe: str) -> Path:
    """A bundle of random weights and the sizes that a recipe has on a small drawn shop."""
    if not (folder / "dataset").exists():
        draw_shop(folder / "shop", products=300)
        prepare([folder / "shop" / "train.tsv"], folder / "dataset")
    settings = load_recipe(recipe)
    tokenizer, model = initial_model(Dataset(folder / "dataset"), settings)
    with whole_directory(folder / recipe, marker=MARKER) as bundle:
        Bundle(model.eval(), tokenizer, recipe=settings.to_yaml()).save_into(bundle)
    return folder / recipe


def make_index(folder: Path, goal: Path, *, products: int, recipe: str) -> Path:
    """An index of so many products at `goal`; `folder` takes what is needed for it."""
    torch.manual_seed(0)
    bundle = make_bundle(folder, recipe)
    opened, bundle_hash = load_bundle(bundle)
    rng = np.random.default_rng(0)
    texts = [some_words(rng) for _ in range(_QUERIES)]
    vectors = _around(opened.encode_texts([some_words(rng) for _ in range(5000)]), products, rng)
    photos = goal.with_name(f"{goal.name}-photos").resolve()
    photos.mkdir(exist_ok=True)
    unit = opened.model.normalise
    manifest = Manifest(bundle_hash, vectors.shape[1], unit, Coding(), 50_000, photos=str(photos))
    with whole_directory(goal, marker=MANIFEST) as out:
        copy_bundle(bundle, out / BUNDLE)
        written = out / SEGMENTS / ".new"
        written.mkdir(parents=True)
        write_segment(
            written,
            vectors,
            _columns(products),
            coding=Coding(),
            unit=unit,
            approximate=products >= 50_000,
            rng=rng,
        )
        part = Part(named_by_content(written).name, products)
        manifest = dataclasses.replace(manifest, parts=(part,))
        manifest.write(out)
        index = OpenIndex.open(out)
        golden = ask_exactly(index, texts, opened.encode_texts(texts), None)
        for probes in _PROBES:
            found = recall(index, golden, probes=probes)
            if found >= 0.95:
                break
        measured = {f"recall@{AT}": found, "queries": float(_QUERIES)}
        dataclasses.replace(manifest, probes=probes, recall=measured, golden=golden.write(out)).write(out)
    return goal


def _around(centres: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    out = np.empty((count, centres.shape[1]), np.float32)
    spread = _NOISE / centres.shape[1] ** 0.5
    for start in range(0, count, 65_536):
        part = out[start : start + 65_536]
        part[:] = centres[rng.integers(0, len(centres), len(part))]
        part += spread * rng.standard_normal(part.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return out


def _columns(count: int) -> Columns:
    return Columns(
        ids=np.arange(count),
        sizes=np.full((count, 2), 400, np.int32),
        region_bounds=np.arange(count + 1),
        boxes=np.zeros((count, 4), np.float32),
        labels=(np.arange(count) % 33).astype(np.int32),
        source=np.zeros(count, np.int32),
        dataset_row=np.arange(count),
    )
