"""A small shop that is known by its photos alone: drawn photos, titles and prices; a model that learned nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from shopwindow.data.dataset import Dataset
from shopwindow.data.features import (
    CATALOGUE,
    CATALOGUE_FIELDS,
    FORMAT,
    MANIFEST,
    Features,
    content_hash,
    photo_schema,
)
from shopwindow.data.shop import prepare_shop
from shopwindow.drawn.writing import draw_shop
from shopwindow.files import whole_directory
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.model.tokens import train_tokenizer
from shopwindow.model.towers import EncoderSize
from shopwindow.vision.pictures import read_picture
from shopwindow.vision.plain import Plain
from tests.model.parts import two_towers

PRODUCTS = 60


@dataclass(frozen=True)
class PhotoShop:
    """Where everything of the shop lies; `photos` by id, and what `products.csv` would say beside."""

    bundle: Path
    dataset: Path
    photos: dict[str, Path]
    titles: dict[str, str]
    prices: dict[str, float]


def make_shop(folder: Path, *, web: str | None = None) -> PhotoShop:
    """The shop, its photos encoded by `Plain`. `web`: the address under which the first product's photo lies."""
    draw_shop(folder / "drawn", products=PRODUCTS, seed=4)
    told = [json.loads(line) for line in (folder / "drawn" / "truth.jsonl").read_text().splitlines()]
    ids = [f"0{one['product_id']}" for one in told]
    photos = {
        key: folder / "drawn" / "photos" / f"{one['product_id']}.jpg"
        for key, one in zip(ids, told, strict=True)
    }
    titles = {key: f"{one['colour']} {one['kind']}" for key, one in zip(ids, told, strict=True)}
    prices = {key: 1.5 + row for row, key in enumerate(ids)}
    columns: dict[str, Any] = {"Unit price": list(prices.values()), "note": ["a|b"] * len(ids)}
    sources = {key: web if web and key == ids[0] else str(path) for key, path in photos.items()}
    features = _write_features(folder / "features", photos, sources, titles, columns)
    prepare_shop(features, None, folder / "dataset")
    bundle = write_photo_bundle(folder / "bundle", Dataset(folder / "dataset").query_texts, Plain().spec())
    return PhotoShop(bundle, folder / "dataset", photos, titles, prices)


def write_photo_bundle(path: Path, texts: list[str], backbone: dict[str, Any] | None) -> Path:
    """A bundle of random weights that says to have learned from features of this backbone."""
    size = EncoderSize(hidden=32, layers=1, heads=2, inner=32, dropout=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = train_tokenizer(texts, vocabulary=200)
        vocabulary = tokenizer.get_vocab_size()
        model = two_towers(size, feature_size=Plain.values, vocabulary=vocabulary, longest=32)
    model.backbone = backbone
    with whole_directory(path, marker=MARKER) as folder:
        Bundle(model, tokenizer).save_into(folder)
    return path


def _write_features(
    folder: Path,
    photos: dict[str, Path],
    sources: dict[str, str],
    titles: dict[str, str],
    columns: dict[str, list[Any]],
) -> Features:
    folder.mkdir()
    backbone = Plain()
    encoded = [
        backbone.encode([read_picture(one.read_bytes(), wanted=Plain.side)]) for one in photos.values()
    ]
    rows = [
        {
            "key": key,
            "height": int(one.photo_sizes[0, 0]),
            "width": int(one.photo_sizes[0, 1]),
            "features": list(one.features.numpy().astype(np.float16)),
            "boxes": one.boxes.tolist(),
            "labels": one.labels.tolist(),
        }
        for key, one in zip(photos, encoded, strict=True)
    ]
    _write(folder / "photos-00000.arrow", pa.Table.from_pylist(rows, photo_schema(Plain.values)))
    ids = list(photos)
    own = [ids, list(titles.values()), [[sources[one]] for one in ids], [[one] for one in ids]]
    arrays = [pa.array(column, kind) for column, (_, kind) in zip(own, CATALOGUE_FIELDS, strict=True)]
    others = pa.table(columns)
    names = [*(name for name, _ in CATALOGUE_FIELDS), *others.column_names]
    _write(folder / CATALOGUE, pa.Table.from_arrays([*arrays, *others.columns], names))
    manifest = {
        "format": FORMAT,
        "backbone": backbone.spec(),
        "feature_size": Plain.values,
        "label_count": 2,
        "content_hash": content_hash(folder / CATALOGUE, backbone.spec(), None),
        "shards": ["photos-00000.arrow"],
        "counts": {},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return Features(folder)


def _write(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table.combine_chunks())
