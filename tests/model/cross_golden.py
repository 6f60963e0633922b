"""The golden numbers of the original UNITER and Oscar, as packed pairs. Small files lie here, the others in SHARED."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from shopwindow.data.regions import Regions
from shopwindow.model.cross import CrossPairs
from tests.conftest import SHARED

SMALL = Path(__file__).parent / "golden"
Arrays = Mapping[str, Any]


def golden(model: str, name: str) -> Path:
    """A file of golden numbers; the test is skipped where it is a large one and SHARED is not there."""
    for folder in (SMALL, SHARED / "golden"):
        if (folder / model / name).is_file():
            return folder / model / name
    pytest.skip(f"golden numbers {model}/{name} are not at {SHARED} (set SHOPWINDOW_SHARED)")


def arrays(model: str, name: str, prefix: str = "") -> dict[str, Tensor]:
    """The arrays of a golden file whose names begin with `prefix`, without it."""
    with np.load(golden(model, name)) as file:
        return {
            key.removeprefix(prefix): torch.from_numpy(file[key]) for key in file if key.startswith(prefix)
        }


def boxed(features: Tensor, corners: Tensor, counts: Tensor) -> Regions:
    """Regions whose boxes are shares of photos of one pixel; corners are left, top, right, bottom."""
    sizes = torch.ones(len(corners), 2, dtype=torch.int64)
    return Regions(features, counts, boxes=corners[:, [1, 0, 3, 2]], photo_sizes=sizes)


def uniter_pairs(batch: Arrays) -> tuple[CrossPairs, Tensor, Tensor]:
    """A padded batch of UNITER, packed; which places of its text, and of its photos, are kept.

    A text that goes with every photo, or a photo with every text, is stored once.
    """
    total = batch["attn_masks"].sum(1)
    ids = batch["input_ids"].expand(len(total), -1)
    words = ids > 0
    lengths = words.sum(1)
    features, geometry = (batch[name].expand(len(total), -1, -1) for name in ("img_feat", "img_pos_feat"))
    counts = total - lengths
    kept = torch.arange(features.shape[1]) < counts[:, None]
    regions = boxed(features[kept], geometry[kept][:, :4], counts)
    masked = batch["img_masks"][kept] if "img_masks" in batch else None
    return CrossPairs(ids[words], lengths, regions, masked=masked), words, kept


def oscar_pairs(batch: Arrays, *, features: int) -> tuple[CrossPairs, Tensor, Tensor]:
    """The same of Oscar, whose mask has the text's places and then the photo's."""
    ids, mask = batch["input_ids"], batch["attention_mask"].bool()
    words, kept = mask[:, : ids.shape[1]], mask[:, ids.shape[1] :]
    rows = batch["img_feats"][kept]
    regions = boxed(rows[:, :features], rows[:, features : features + 4], kept.sum(1))
    return CrossPairs(ids[words], words.sum(1), regions, types=batch["token_type_ids"][words]), words, kept


def slots(values: Tensor, words: Tensor, kept: Tensor, *, uniter: bool) -> tuple[Tensor, Tensor]:
    """The vectors of tokens, and those of regions, of a padded batch. UNITER's regions follow the text at once."""
    if not uniter:
        return values[:, : words.shape[1]][words], values[:, words.shape[1] :][kept]
    lengths, counts = words.sum(1).tolist(), kept.sum(1).tolist()
    rows = list(zip(values, lengths, counts, strict=True))
    return (
        torch.cat([row[:length] for row, length, _ in rows]),
        torch.cat([row[length : length + count] for row, length, count in rows]),
    )
