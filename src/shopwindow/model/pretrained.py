"""What does a frozen pretrained pair of towers say: CLIP, SigLIP, whose photos and texts share one space?

The two sides of a part that learns nothing: the text tower's vectors, and the features of whole photos as the dataset
has them. Knows a backbone by what reads texts alone.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional

from shopwindow.data.regions import Regions

MOST_KEPT: Final = 200_000
"""Texts whose vectors are kept: at 512 values 400 MB. Of more, keeping begins anew."""
PRECOMPUTED: Final = "precomputed"
"""The backbone of vectors made elsewhere, which reads no texts."""


class TextEncoder(Protocol):
    """The text tower of a backbone."""

    def encode_texts(self, texts: list[str]) -> Float32[np.ndarray, "texts values"]:
        """Unit vectors, to be compared with the features of whole photos."""


class PretrainedTexts(nn.Module):
    """A query's vector: that of a frozen text tower, which reads the words as typed. A text is encoded once and kept."""

    def __init__(self, width: int, tower: TextEncoder) -> None:
        super().__init__()
        self.width = width
        self._tower = tower
        self._kept: dict[str, Float32[np.ndarray, " width"]] = {}

    def forward(self, texts: list[str]) -> Float[Tensor, "queries width"]:
        """Raises: ValueError where the tower's vectors have another size than the features."""
        kept = self._kept
        if new := [text for text in dict.fromkeys(texts) if text not in kept]:
            encoded = self._tower.encode_texts(new)
            if encoded.shape[1] != self.width:
                raise ValueError(
                    f"the text tower gives {encoded.shape[1]} values, the features have {self.width}"
                )
            # A new dictionary: other threads may read the old one.
            before = kept if len(kept) + len(new) <= MOST_KEPT else {text: kept[text] for text in texts if text in kept}
            kept = before | dict(zip(new, encoded, strict=True))
            self._kept = kept
        vectors = [kept[text] for text in texts]
        return torch.from_numpy(np.stack([*vectors, np.zeros(self.width, np.float32)])[:-1])


class WholePhotos(nn.Module):
    """A product's vector: the mean direction of its whole photos, the first region of each."""

    def forward(self, regions: Regions) -> Float[Tensor, "products values"]:
        places = regions.photo_starts
        values = functional.normalize(regions.features[places].float(), dim=-1)
        out = values.new_zeros(len(regions.counts), values.shape[1])
        return functional.normalize(out.index_add(0, regions.owners[places], values), dim=-1)


class LateTower:
    """The text tower of a backbone's spec, opened when the first text comes."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._tower: TextEncoder | None = None

    def encode_texts(self, texts: list[str]) -> Float32[np.ndarray, "texts values"]:
        """As the tower. Raises: DataError where the backbone is not what the spec says, or reads no texts."""
        if self._tower is None:
            self._tower = open_text_tower(self._spec)
        return self._tower.encode_texts(texts)
