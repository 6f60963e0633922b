"""A small shop that is known by its photos alone: drawn photos, titles and prices; a model that learned nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shopwindow.data.dataset import Dataset
from shopwindow.data.features import Features
from shopwindow.data.shop import prepare_shop
from shopwindow.drawn.writing import draw_shop
from shopwindow.files import whole_directory
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.model.tokens import train_tokenizer
from shopwindow.model.towers import EncoderSize
from shopwindow.vision.extract import extract
from shopwindow.vision.plain import Plain
from shopwindow.vision.sources import find_photos
from tests.model.parts import two_towers

PRODUCTS = 60


@dataclass(frozen=True)
class PhotoShop:
    """Where everything of the shop lies; `photos` by id, and what `products.csv` says beside."""

    bundle: Path
    dataset: Path
    photos: dict[str, Path]
    titles: dict[str, str]
    prices: dict[str, float]


def make_shop(folder: Path) -> PhotoShop:
    """The shop, its photos encoded by `Plain`. Ids begin with 0; a column `note` cannot be asked for."""
    draw_shop(folder / "drawn", products=PRODUCTS, seed=4)
    told = [json.loads(line) for line in (folder / "drawn" / "truth.jsonl").read_text().splitlines()]
    photos = {
        f"0{one['product_id']}": folder / "drawn" / "photos" / f"{one['product_id']}.jpg" for one in told
    }
    titles = {key: f"{one['colour']} {one['kind']}" for key, one in zip(photos, told, strict=True)}
    prices = {key: 1.5 + row for row, key in enumerate(photos)}
    rows = [f"{key},{titles[key]},{prices[key]},a|b,{path}" for key, path in photos.items()]
    table = folder / "products.csv"
    table.write_text("\n".join(["sku,title,Unit price,note,photo", *rows]) + "\n")
    extract(find_photos(table).products, folder / "features", backbone=Plain(), threads=1)
    prepare_shop(Features(folder / "features"), None, folder / "dataset")
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
