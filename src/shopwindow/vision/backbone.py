"""What turns pictures into regions, and in which space do these live?

A backbone takes pictures and gives Regions. Its spec is what a dataset, a bundle and an index keep of it: enough to
open the same again, and to notice that weights, preprocessing or a library have changed. Knows no file of photos.

Legend of axes: texts = the asked texts; values = of a feature.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64
from PIL import Image

from shopwindow.files import DataError

if TYPE_CHECKING:
    from shopwindow.data.regions import Regions

WHOLE_PHOTO: Final = 0
"""The label of the region that is the whole photo."""
GRID_CELL: Final = 1
"""The label of a cell of the grid."""
FIRST_CLASS: Final = 2
"""The label of a detector's class 0; class c has 2 + c."""
LEAST_COSINE: Final = 0.999
"""Of the probes of one backbone at two times."""
_BUILT_IN: Final = {"lite0": "lite0:Lite0", "plain": "plain:Plain"}


@runtime_checkable
class Backbone(Protocol):
    """Pictures in, regions out: the whole photo first, then cells of a grid."""

    values: int
    """Of a feature."""
    side: int
    """px that the shorter side of a picture should have: more is only work, less is enlarged."""

    def spec(self) -> dict[str, Any]:
        """JSON: `name` opens the same again; `fingerprint` names weights and preprocessing; `probe` is the feature of
        the whole `probe_picture`."""

    def encode(self, pictures: Sequence[Image.Image]) -> Regions:
        """The regions of RGB pictures, a product each, all fields, boxes in px of the picture as given."""


@runtime_checkable
class PhotoAndTextBackbone(Backbone, Protocol):
    """A backbone whose photos and texts share one space."""

    def encode_texts(self, texts: list[str]) -> Float32[np.ndarray, "texts values"]:
        """Unit vectors, to be compared with the features of whole photos."""


@dataclass(frozen=True)
class Detections:
    """What a detector saw in one picture: best first."""

    boxes: Float32[np.ndarray, "n 4"]
    """(top, left, bottom, right) in px of the picture as given."""
    labels: Int64[np.ndarray, " n"]
    """The detector's classes, from 0."""
    scores: Float32[np.ndarray, " n"]


@runtime_checkable
class Detector(Protocol):
    """Pictures in, boxes out."""

    side: int
    """px that the shorter side of a picture should have."""

    def spec(self) -> dict[str, Any]:
        """JSON, as a backbone's; `fingerprint` names weights, preprocessing and thresholds."""

    def detect(self, pictures: Sequence[Image.Image]) -> list[Detections]:
        """What is seen in each RGB picture."""


def open_backbone(name_or_spec: str | dict[str, Any]) -> Backbone:
    """The backbone of a name, or that of a spec: the same one, with the same detector if it had one, or an error.

    Names: lite0, plain, an ONNX description (.yaml), else a directory or hub id that transformers can open.

    Raises: DataError for an unknown name, missing packages, or a backbone that is another than the spec's.
    """
    if isinstance(name_or_spec, str):
        return _opened(name_or_spec)
    name = name_or_spec.get("name")
    if not isinstance(name, str):
        raise DataError("names no backbone", field="backbone")
    backbone = _opened(name)
    check_same(name_or_spec, backbone.spec(), here_is="what is installed here")
    detector = name_or_spec.get("detector")
    return backbone if detector is None else _boxed(backbone, detector)


def _opened(name: str) -> Backbone:
    if name == "precomputed":
        raise DataError("vectors made elsewhere: no backbone is known that could encode another photo")
    if name not in _BUILT_IN and "/" not in name and not Path(name).exists():
        known = ", ".join(_BUILT_IN)
        raise DataError(
            f"no backbone {name!r}: there are {known}, a description of an ONNX file (.yaml), and for transformers a "
            "directory or a hub id such as openai/clip-vit-base-patch32"
        )
    if name in _BUILT_IN:
        module, opener = _BUILT_IN[name].split(":")
    elif Path(name).suffix in (".yaml", ".yml"):
        module, opener = "onnx_file", "open_onnx_file"
    else:
        module, opener = "transformers", "open_transformers"
    arguments = () if name in _BUILT_IN else (name,)
    return cast(Backbone, getattr(importlib.import_module(f"shopwindow.vision.{module}"), opener)(*arguments))


def _boxed(backbone: Backbone, spec: Any) -> Backbone:
    """The backbone with the detector of a spec."""
    if not (isinstance(spec, dict) and isinstance(spec.get("name"), str)):
        raise DataError("names no detector", field="detector")
    from shopwindow.vision.boxed import Boxed  # these import this module
    from shopwindow.vision.detectors import open_detector

    settings = {name: spec[name] for name in ("nouns", "least_score", "most_boxes") if name in spec}
    detector = open_detector(spec["name"], **settings)
    if detector.spec()["fingerprint"] != spec.get("fingerprint"):
        raise DataError("is another detector than the photos were boxed by", path=spec["name"])
    return Boxed(backbone, detector)


def check_same(
    there: dict[str, Any], here: dict[str, Any], *, path: str | Path | None = None, here_is: str = "another"
) -> None:
    """Passes when two specs name one space: equal fingerprints, and probes of cosine 0.999 or more.

    Raises: DataError else, naming both.
    """
    if there.get("fingerprint") != here.get("fingerprint"):
        raise DataError(
            f"was made by backbone {_shown(there)}, {here_is} is {_shown(here)}; "
            "features of different backbones cannot be compared",
            path=path,
        )
    if there.get("probe") == here.get("probe"):
        return
    cosine = _cosine(there.get("probe"), here.get("probe"))
    if not cosine >= LEAST_COSINE:
        raise DataError(
            f"backbone {_shown(here)} encodes the probe picture otherwise than before (cosine {cosine:.4f}): "
            "a library has changed; make the features again",
            path=path,
        )


def fingerprint_of(settings: dict[str, Any], *weights: bytes | Path) -> str:
    """SHA-256 over preprocessing and other settings, and over weights: bytes or files."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for piece in weights:
        if isinstance(piece, bytes):
            digest.update(piece)
        else:
            with piece.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def probe_picture() -> Image.Image:
    """One fixed picture of 320 x 240 px: colour ramps, a disc, stripes and a seeded grain."""
    y, x = np.mgrid[0:240, 0:320].astype(np.float64)
    ramps = np.stack([x / 319, y / 239, 1 - x / 319], axis=2) * 200 + 20
    ramps[(x - 220) ** 2 + (y - 130) ** 2 < 70**2] = (230, 60, 40)
    ramps[(x < 120) & (y > 140) & (y // 10 % 2 == 0)] = (20, 90, 200)
    grain = np.random.default_rng(2020).integers(-12, 13, ramps.shape)
    return Image.fromarray(np.clip(ramps + grain, 0, 255).astype(np.uint8))


def probe_of(backbone: Backbone) -> list[float]:
    """The feature of the whole probe picture, five digits each."""
    values = backbone.encode([probe_picture()]).features[0].tolist()
    return [float(f"{value:.5g}") for value in values]


def _cosine(one: Any, other: Any) -> float:
    """0 where either is no vector, or their lengths differ."""
    if not (isinstance(one, list) and isinstance(other, list) and len(one) == len(other)):
        return 0.0
    a, b = np.array(one, np.float64), np.array(other, np.float64)
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-300))


def _shown(spec: dict[str, Any]) -> str:
    return f"{spec.get('name')} ({str(spec.get('fingerprint'))[:12]})"
