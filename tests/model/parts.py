"""Parts of recipes and of models, small enough for tests."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
import yaml

from shopwindow.model.bags import Names, PooledRegions, WordBag
from shopwindow.model.encoder import Part, PartsEncoder, Side
from shopwindow.model.state import CURVES, CurveRow
from shopwindow.model.towers import EncoderSize, PhotoTower, TextTower

TINY: dict[str, Any] = {"layers": 1, "heads": 2, "inner": 24}
WORDS: dict[str, Any] = {"words": {"pairs": True}}
SINGLE: dict[str, Any] = {"words": {"pairs": False}}


def transformer(**own: Any) -> dict[str, Any]:
    """A side of a small transformer alone."""
    return {"transformer": {**TINY, **own}}


def linear(look: str = "unit", *pools: str, dropout: float = 0.5) -> dict[str, Any]:
    """A side of a linear view alone; without pools the mean."""
    return {"linear": {"look": look, "pools": list(pools or ("mean",)), "dropout": dropout}}


def part(text: dict[str, Any], photo: dict[str, Any], width: int = 32, **own: Any) -> dict[str, Any]:
    """A part of a recipe."""
    return {"width": width, "text": text, "photo": photo, **own}


BAG = [part(WORDS, linear())]
LATE_PARTS = [
    part(WORDS, linear("unit", "first", "mean"), 16),
    part(WORDS, linear("standard", "first", "max"), 16),
]
"""Of the recipe late, narrow."""


def typed(changes: dict[str, Any]) -> list[str]:
    """Changes as `--set` takes them: NAME=VALUE each."""
    return [
        f"{name}={yaml.safe_dump(value, default_flow_style=True, width=10**6).splitlines()[0]}"
        for name, value in changes.items()
    ]


def two_towers(
    size: EncoderSize, *, feature_size: int, vocabulary: int = 40, longest: int = 20, **own: Any
) -> PartsEncoder:
    """A model of one part, a transformer on each side."""
    normalise = own.pop("normalise", True)
    text = TextTower(size, vocabulary=vocabulary, longest=longest)
    photo = PhotoTower(size, feature_size=feature_size)
    part = Part(size.hidden, Side(text), Side(photo), normalise=normalise)
    return PartsEncoder([part], feature_size=feature_size, vocabulary=vocabulary, longest=longest, **own)


def named_bag(keys: list[int], width: int, *, pairs: bool = True) -> tuple[Names, WordBag]:
    """Names and a bag over all of them, of random vectors."""
    names = Names(len(keys))
    names.keys.copy_(torch.tensor(keys))
    return names, WordBag(torch.randn(len(keys) if pairs else names.words, width), pairs=pairs)


def mean_view(width: int, feature_size: int) -> PooledRegions:
    """A linear view of the mean region."""
    return PooledRegions(width, feature_size, look="unit", pools=("mean",))


def read_curves(folder: Path) -> list[CurveRow]:
    """The points of a training's `curves.csv`."""
    with (folder / CURVES).open(encoding="utf-8", newline="") as file:
        return [CurveRow(**_numbers(row)) for row in csv.DictReader(file)]


def _numbers(row: dict[str, str]) -> dict[str, Any]:
    """The step as a whole number; an empty cell is None."""
    numbers = {name: float(cell) if cell else None for name, cell in row.items()}
    return {**numbers, "step": int(row["step"])}
