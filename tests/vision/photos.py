"""Photos that the tests make, and a backbone whose features one can count by hand."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shopwindow.data.regions import Regions
from shopwindow.vision.backbone import fingerprint_of, probe_of
from shopwindow.vision.cells import cell_shares, regions_of

Colour = tuple[int, int, int]


def photo(colour: Colour, size: tuple[int, int] = (60, 40), kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def numbered_photo(number: int) -> bytes:
    return photo((number % 256, number // 256, 7))


def write_shop(folder: Path, count: int) -> Path:
    """A table of so many products with a photo each, every one of another colour."""
    (folder / "photos").mkdir(parents=True)
    lines = ["sku,title,price,photo"]
    for number in range(count):
        (folder / "photos" / f"{number}.png").write_bytes(numbered_photo(number))
        lines.append(f"SKU-{number:04d},thing {number},{number}.5,photos/{number}.png")
    table = folder / "products.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table


class MeanColour:
    """Three values a region: the mean colour of the whole photo, and of its four quarters. Counts what it encodes."""

    values = 3
    side = 16

    def __init__(self, name: str = "mean colour") -> None:
        self.name = name
        self.encoded = 0

    def spec(self) -> dict[str, Any]:
        encoded = self.encoded
        spec = {
            "name": self.name,
            "fingerprint": fingerprint_of({"name": self.name}),
            "probe": probe_of(self),
        }
        self.encoded = encoded
        return spec

    def encode(self, pictures: Sequence[Image.Image]) -> Regions:
        self.encoded += len(pictures)
        shares = cell_shares(2, 1, 1)
        features = []
        for picture in pictures:
            small = np.asarray(picture.resize((16, 16), Image.Resampling.BOX), np.float32)
            quarters = small.reshape(2, 8, 2, 8, 3).mean(axis=(1, 3)).reshape(4, 3)
            features.append(np.concatenate([small.mean(axis=(0, 1))[None], quarters]))
        return regions_of(features, [(picture.height, picture.width) for picture in pictures], shares)
