"""What does a frozen pretrained pair of towers say: CLIP, SigLIP, whose photos and texts share one space?

The two sides of a part that learns nothing: the text tower's vectors, and the features of whole photos as the dataset
has them. Knows of a backbone that it may read texts.
"""

from __future__ import annotations

from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional

from shopwindow.data.regions import Regions

MOST_KEPT: Final = 200_000
"""Texts whose vectors are kept: of 512 values 400 MB. When there are more, keeping begins anew."""
_PRECOMPUTED: Final = "precomputed"
"""The backbone of vectors made elsewhere, which reads no text."""


@runtime_checkable
class TextEncoder(Protocol):
    """The text tower of a backbone."""

    def encode_texts(self, texts: list[str]) -> Float32[np.ndarray, "texts values"]:
        """Unit vectors, to be compared with the features of whole photos."""


def open_text_tower(spec: dict[str, Any] | None) -> TextEncoder | None:
    """The text tower of a backbone's spec; None where it has none.

    Raises: DataError where the backbone cannot be opened, or is another than the spec says.
    """
    if spec is None or spec.get("name") == _PRECOMPUTED:
        return None
    from shopwindow.vision.backbone import open_backbone  # brings libraries that few models need

    backbone = open_backbone({name: value for name, value in spec.items() if name != "detector"})
    return backbone if isinstance(backbone, TextEncoder) else None


class PretrainedTexts(nn.Module):
    """A query's vector: that of a frozen text tower, which reads the words as typed. A text is encoded once and kept.

    `tower`: None opens that of the backbone `spec` when the first text comes.
    """

    def __init__(self, width: int, spec: dict[str, Any] | None, tower: TextEncoder | None = None) -> None:
        super().__init__()
        self.width = width
        self._spec = spec
        self._tower = tower
        self._kept: dict[str, Float32[np.ndarray, " width"]] = {}

    def forward(self, texts: list[str]) -> Float[Tensor, "queries width"]:
        """Raises: ValueError for a tower that gives vectors of another size, or that reads no text."""
        vectors = {text: self._kept.get(text) for text in texts}
        if new := [text for text, vector in vectors.items() if vector is None]:
            encoded = dict(zip(new, self._encoded(new), strict=True))
            vectors |= encoded
            if len(self._kept) + len(new) > MOST_KEPT:
                self._kept = {}
            self._kept |= encoded
        rows = np.empty((len(texts), self.width), np.float32)
        for place, text in enumerate(texts):
            rows[place] = vectors[text]
        return torch.from_numpy(rows)

    @property
    def tower(self) -> TextEncoder:
        """What reads the texts, opened when it is first asked for. Raises: ValueError where there is none."""
        if self._tower is None:
            self._tower = open_text_tower(self._spec)
        if self._tower is None:
            raise ValueError("the backbone of this model reads no text")
        return self._tower

    def _encoded(self, texts: list[str]) -> Float32[np.ndarray, "texts width"]:
        encoded = self.tower.encode_texts(texts)
        if encoded.shape[1] != self.width:
            raise ValueError(
                f"the text tower gives {encoded.shape[1]} values, features of photos have {self.width}"
            )
        return encoded


class WholePhotos(nn.Module):
    """A product's vector: the mean of its whole photos, each of length 1. The first region of a photo is all of it."""

    def forward(self, regions: Regions) -> Float[Tensor, "products values"]:
        places = regions.photo_starts
        values = functional.normalize(regions.features[places].float(), dim=-1)
        sums = values.new_zeros(len(regions.counts), values.shape[1])
        sums = sums.index_add(0, regions.owners[places], values)
        return functional.normalize(sums, dim=-1)
