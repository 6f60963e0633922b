"""A backbone without any learned weight: colours, edges and textures. For a machine with nothing installed.

2048 values for the whole photo and for 3 x 3 cells that overlap, as `featurise` gives them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from PIL import Image

from shopwindow.data.regions import Regions
from shopwindow.vision import featurise
from shopwindow.vision.backbone import fingerprint_of, probe_of
from shopwindow.vision.cells import cell_shares, regions_of

_LONGEST: Final = 320
"""px of the longer side that a picture is brought to where it is larger: grain depends on the scale."""
_CELLS: Final = (7, 3, 2)
_SETTINGS: Final[dict[str, Any]] = {
    "features": "drawn 1",
    "longest": _LONGEST,
    "filter": "bilinear",
    "cells": list(_CELLS),
}


class Plain:
    """A backbone; threads may share it."""

    values = featurise.FEATURES
    side = _LONGEST

    @functools.cached_property
    def _spec(self) -> dict[str, Any]:
        fingerprint = fingerprint_of(_SETTINGS)
        return {"name": "plain", **_SETTINGS, "fingerprint": fingerprint, "probe": probe_of(self)}

    def spec(self) -> dict[str, Any]:
        """Settings, fingerprint and probe."""
        return self._spec

    def encode(self, pictures: Sequence[Image.Image]) -> Regions:
        """Ten regions a picture."""
        shares = cell_shares(*_CELLS)
        features = []
        for picture in pictures:
            picture = picture.copy()
            picture.thumbnail((_LONGEST, _LONGEST), Image.Resampling.BILINEAR)
            sides = np.array([picture.height, picture.width] * 2, np.float32)
            features.append(featurise.region_features(np.asarray(picture), shares * sides))
        return regions_of(features, [(picture.height, picture.width) for picture in pictures], shares)
