"""A tiny shop whose photos are clusters of numbers: enough to learn from in seconds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from shopwindow.data.competition import HEADER, Row, format_photo
from shopwindow.data.dataset import Dataset
from shopwindow.data.prepare import prepare

FEATURES = 16
COLOURS = ("red", "blue", "green", "black")
GOODS = ("shoe", "bag", "lamp")


@dataclass(frozen=True)
class TinyShop:
    """Datasets of a tiny shop: 12 phrases, each with a direction in feature space."""

    train: Dataset
    valid: Dataset
    answers: Path


@pytest.fixture(scope="session")
def tiny_shop(tmp_path_factory: pytest.TempPathFactory) -> TinyShop:
    folder = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(7)
    phrases = [f"{colour} {good}" for colour in COLOURS for good in GOODS]
    colours = {colour: rng.random(FEATURES) * 3 for colour in COLOURS}
    goods = {good: rng.random(FEATURES) * 3 for good in GOODS}

    def product(product_id: int, phrase: str) -> Row:
        colour, good = phrase.split()
        count = int(rng.integers(1, 6))
        centre = colours[colour] + goods[good]
        features = np.maximum(0, centre + rng.normal(0, 0.3, (count, FEATURES))).astype(np.float32)
        boxes = np.tile(np.array([0, 0, 20, 30], np.float32), (count, 1))
        return Row(product_id, 0, phrase, (20, 30), boxes, features, np.full(count, 28, np.int64))

    kinds = {1000 + i: phrases[i % len(phrases)] for i in range(240)}
    encoded = {product_id: format_photo(product(product_id, phrase)) for product_id, phrase in kinds.items()}
    numbers = {phrase: 50 + i for i, phrase in enumerate(phrases)}
    train_ids = [product_id for product_id in kinds if product_id < 1180]
    valid_ids = [product_id for product_id in kinds if product_id >= 1180]
    _write(folder / "train.tsv", [(encoded[i], kinds[i], numbers[kinds[i]]) for i in train_ids])
    pools = [
        (encoded[i], phrase, numbers[phrase])
        for phrase in phrases
        for i in rng.permutation(valid_ids)[:20].tolist()
    ]
    pools += [
        (encoded[i], phrase, numbers[phrase])
        for phrase in phrases
        for i in valid_ids
        if kinds[i] == phrase and (encoded[i], phrase, numbers[phrase]) not in pools
    ]
    _write(folder / "valid.tsv", pools)
    answers = {numbers[phrase]: [i for i in valid_ids if kinds[i] == phrase] for phrase in phrases}
    (folder / "valid_answer.json").write_text(json.dumps(answers))
    for split in ("train", "valid"):
        prepare([folder / f"{split}.tsv"], folder / split, feature_size=FEATURES)
    return TinyShop(Dataset(folder / "train"), Dataset(folder / "valid"), folder / "valid_answer.json")


def _write(path: Path, rows: list[tuple[str, str, int]]) -> None:
    lines = ["\t".join(HEADER), *(f"{product}\t{query}\t{query_id}" for product, query, query_id in rows)]
    path.write_text("\n".join(lines) + "\n")
