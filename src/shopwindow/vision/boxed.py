"""A backbone that also looks at the things in a photo: a detector boxes them, each crop is encoded as a picture.

Legend of axes: n = boxes of one picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image

from shopwindow.data.regions import Regions
from shopwindow.vision.backbone import FIRST_CLASS, WHOLE_PHOTO, Backbone, Detections, Detector

_CROPS: Final = 16
"""That a backbone is given at once."""


class Boxed:
    """A backbone whose regions are the whole photo and what a detector boxed, in place of cells of a grid."""

    def __init__(self, backbone: Backbone, detector: Detector) -> None:
        self._backbone = backbone
        self._detector = detector
        self.values = backbone.values
        self.side = max(detector.side, 2 * backbone.side)  # crops want more px than the whole

    def spec(self) -> dict[str, Any]:
        """That of the backbone, whose space it is, with `detector`."""
        return {**self._backbone.spec(), "detector": self._detector.spec()}

    def encode(self, pictures: Sequence[Image.Image]) -> Regions:
        """As `Backbone.encode`; a picture without a box is its whole alone."""
        return encode_boxes(self._backbone, pictures, self._detector.detect(pictures))


def encode_boxes(
    backbone: Backbone, pictures: Sequence[Image.Image], detections: Sequence[Detections]
) -> Regions:
    """The whole of each picture and what is in its boxes, each cropped and encoded as a picture of its own."""
    crops: list[Image.Image] = []
    boxes, labels, sizes, photos = [], [], [], []
    for picture, detected in zip(pictures, detections, strict=True):
        whole = np.array([[0, 0, picture.height, picture.width]], np.float32)
        framed = _within(np.concatenate([whole, detected.boxes]), picture)
        crops += [picture.crop((left, top, right, bottom)) for top, left, bottom, right in framed.tolist()]
        boxes.append(framed)
        labels += [WHOLE_PHOTO, *(detected.labels + FIRST_CLASS).tolist()]
        sizes += [[picture.height, picture.width]] * len(framed)
        photos += [0] * len(framed)
    vectors = []
    for first in range(0, len(crops), _CROPS):
        regions = backbone.encode(crops[first : first + _CROPS])
        vectors.append(regions.features[regions.starts])
    return Regions(
        torch.cat(vectors),
        torch.tensor([len(framed) for framed in boxes]),
        torch.from_numpy(np.concatenate(boxes)),
        torch.tensor(sizes),
        torch.tensor(labels),
        torch.tensor(photos),
    )


def _within(boxes: Float32[np.ndarray, "n 4"], picture: Image.Image) -> Float32[np.ndarray, "n 4"]:
    """Boxes on whole px, within the picture, at least one px high and wide."""
    most = np.array([picture.height, picture.width], np.float32)
    start = np.clip(np.floor(boxes[:, :2]), 0, most - 1)
    end = np.clip(np.ceil(boxes[:, 2:]), start + 1, most)
    return np.concatenate([start, end], axis=1)
