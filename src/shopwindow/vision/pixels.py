"""What does a network see of a picture, where in the picture was that, and which cells does its grid have?

Legend of axes: photos; values = of a feature; cells = at most 9 a photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from PIL import Image
from torch import Tensor

from shopwindow.data.regions import Regions
from shopwindow.vision.cells import regions_of

WHOLE: Final = np.array([[0, 0, 1, 1]], np.float32)
"""Where the whole photo lies in it: (top, left, bottom, right) as shares of its sides."""


@dataclass(frozen=True)
class Seen:
    """Photos as a network's input, RGB or BGR planes, and where each input lies in its photo.

    `views` are (top, left, bottom, right) as shares of the photo; of a padded one they reach beyond 0 to 1.
    """

    pixels: Float32[np.ndarray, "photos 3 height width"]
    views: Float32[np.ndarray, "photos 4"]


@dataclass(frozen=True)
class Pixels:
    """How a photo becomes a network's input of `height` x `width` px.

    `mean` and `std` are of values from 0 to 1. `stretch` distorts. `pad` fills right and bottom with `filling` of 255.
    `crop` makes the shorter side `shorter` px (0: the longer of height and width) and takes the middle.
    """

    height: int
    width: int
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize: Literal["stretch", "pad", "crop"] = "stretch"
    shorter: int = 0
    filling: int = 0
    colours: Literal["rgb", "bgr"] = "rgb"
    filter: int = int(Image.Resampling.BICUBIC)

    @property
    def side(self) -> int:
        """px that the shorter side of a photo should have."""
        return max(self.height, self.width, self.shorter)

    def see(self, pictures: Sequence[Image.Image]) -> Seen:
        """The input of some RGB pictures."""
        scale = (1 / (255 * np.array(self.std))).astype(np.float32)[:, None, None]
        shift = (np.array(self.mean) / np.array(self.std)).astype(np.float32)[:, None, None]
        pixels = np.empty((len(pictures), 3, self.height, self.width), np.float32)
        views = np.empty((len(pictures), 4), np.float32)
        for place, picture in enumerate(pictures):
            small, views[place] = self._fitted(picture)
            planes = np.asarray(small)[:, :, :: -1 if self.colours == "bgr" else 1].transpose(2, 0, 1)
            np.multiply(planes, scale, out=pixels[place])
        pixels -= shift
        return Seen(pixels, views)

    def _fitted(self, picture: Image.Image) -> tuple[Image.Image, Float[np.ndarray, " 4"]]:
        """The picture in the wanted size, and its view."""
        height, width = self._scaled(picture.height, picture.width)
        if (height, width) != (picture.height, picture.width):
            picture = picture.resize((width, height), Image.Resampling(self.filter))
        top, left = (height - self.height) // 2, (width - self.width) // 2
        if self.resize == "pad":
            top = left = 0
            padded = Image.new("RGB", (self.width, self.height), (self.filling,) * 3)
            padded.paste(picture, (0, 0))
            picture = padded
        elif self.resize == "crop":
            picture = picture.crop((left, top, left + self.width, top + self.height))
        view = np.array([top, left, top + self.height, left + self.width])
        return picture, view / [height, width, height, width]

    def _scaled(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the whole picture before it is cropped or padded."""
        if self.resize == "stretch":
            return self.height, self.width
        if self.resize == "pad":
            ratio = min(self.height / height, self.width / width)
            return max(1, int(height * ratio)), max(1, int(width * ratio))
        shorter = self.shorter or max(self.height, self.width)
        longer = int(shorter * max(height, width) / min(height, width))
        return (shorter, longer) if height <= width else (longer, shorter)


def spans(length: int) -> list[tuple[int, int]]:
    """Three equal spans that overlap and cover one side of a grid; of a short side fewer.

    >>> spans(7), spans(14), spans(1)
    ([(0, 3), (2, 5), (4, 7)], [(0, 6), (4, 10), (8, 14)], [(0, 1)])
    """
    size = -(-3 * length // 7)
    count = min(3, length - size + 1)
    starts = [(length - size) * place // max(count - 1, 1) for place in range(count)]
    return [(start, start + size) for start in starts]


def cut(
    grid: Float[Tensor, "photos height width values"],
) -> tuple[Float[Tensor, "photos cells patches values"], Float32[np.ndarray, "cells 4"]]:
    """The patches of each cell of a grid, and where the cells lie: (top, left, bottom, right) as shares of the grid."""
    _, height, width, _ = grid.shape
    places = [(top, left, bottom, right) for top, bottom in spans(height) for left, right in spans(width)]
    patches = [grid[:, top:bottom, left:right].flatten(1, 2) for top, left, bottom, right in places]
    shares = np.array(places) / [height, width, height, width]
    return torch.stack(patches, dim=1), shares.astype(np.float32)


def seen_regions(
    wholes: Float[Tensor, "photos values"],
    cells: Float[Tensor, "photos cells values"] | None,
    shares: Float32[np.ndarray, "cells 4"] | None,
    views: Float32[np.ndarray, "photos 4"],
    pictures: Sequence[Image.Image],
) -> Regions:
    """The regions of photos: the whole of each, then its cells. A cell that lies in the padding alone is left out."""
    features, places = [], []
    for row, view in enumerate(views):
        own, boxes = wholes[row : row + 1].numpy(), WHOLE
        if cells is not None and shares is not None:
            size = np.tile(view[2:] - view[:2], 2)
            found = np.clip(np.tile(view[:2], 2) + shares * size, 0, 1)
            kept = (found[:, 2:] > found[:, :2]).all(axis=1)
            own, boxes = np.concatenate([own, cells[row].numpy()[kept]]), np.concatenate([WHOLE, found[kept]])
        features.append(own)
        places.append(boxes.astype(np.float32))
    return regions_of(features, [(picture.height, picture.width) for picture in pictures], places)
