"""How does a picture that somebody asks with become a vector beside those of the products?

bytes -> picture (`vision`) -> the index's backbone -> regions -> the bundle's vector of a product. A backbone is opened
when the first picture comes, once for all threads. Knows no index and no web.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float32

from shopwindow.vision.backbone import Backbone, check_same, open_backbone
from shopwindow.vision.pictures import read_picture

if TYPE_CHECKING:
    from shopwindow.data.regions import Regions

MOST_PIXELS: Final = 50_000_000
"""Of a picture that is asked with: more than a telephone takes, and a second of decoding."""
WITHOUT_PHOTOS: Final = (
    "search by photo needs an index made from photos (`shopwindow extract`, or `shopwindow shop`)"
)


class PhotoSide:
    """Turns pictures into regions, as the features of an index were made.

    `spec`: names the backbone, None where nobody said. `opened`: a backbone to take instead of opening that one; it
    must be the same.
    """

    def __init__(self, spec: dict[str, Any] | None, opened: Backbone | None = None) -> None:
        self.spec = spec
        self._backbone = opened
        self._lock = threading.Lock()
        if opened is not None and spec is not None:
            check_same(spec, opened.spec(), here_is="the one given")

    def regions(self, content: bytes) -> Regions:
        """The regions of a picture, as those of a product with one photo.

        Raises: UnreadablePicture for bytes that are no whole picture of at most MOST_PIXELS. ValueError where the index
        names no backbone that takes pictures. DataError where its backbone cannot be opened here, or is another now.
        """
        backbone = self._opened()
        return backbone.encode([read_picture(content, most_pixels=MOST_PIXELS, wanted=backbone.side)])

    def _opened(self) -> Backbone:
        if not takes_photos(self.spec):
            raise ValueError(WITHOUT_PHOTOS)
        with self._lock:
            if self._backbone is None:
                assert self.spec is not None
                self._backbone = open_backbone(self.spec)
            return self._backbone


def takes_photos(spec: dict[str, Any] | None) -> bool:
    """Whether a backbone of this spec can encode another picture: precomputed vectors came from elsewhere."""
    return spec is not None and spec.get("name") != "precomputed"


def weighted_sum(
    words: Float32[np.ndarray, " hidden"], photo: Float32[np.ndarray, " hidden"], share: float
) -> Float32[np.ndarray, " hidden"]:
    """share * words + (1 - share) * photo, of both the unit vectors: a product's score is that mean of its scores."""
    return (share * _unit(words) + (1 - share) * _unit(photo)).astype(np.float32)


def _unit(vector: Float32[np.ndarray, " hidden"]) -> Float32[np.ndarray, " hidden"]:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)
