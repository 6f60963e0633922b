"""Where are the things in a photo? YOLOX as an ONNX file, and transformers' detectors: DETR, RT-DETR, OWLv2.

Boxes come best first, at most so many a photo; of equal scores the one that the network names first.

Legend of axes: candidates = what the network names; n = the boxes that are left.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float32, Int64
from PIL import Image

from shopwindow.files import DataError
from shopwindow.vision.backbone import Detections, Detector, fingerprint_of
from shopwindow.vision.pixels import Pixels
from shopwindow.vision.sessions import open_session
from shopwindow.vision.transformers import (
    folder_of,
    library,
    one_thread,
    open_model,
    opened,
    quiet,
    weights_digest,
)

MOST_BOXES: Final = 8
_PREFIXES: Final = ("yolox", "detr", "rtdetr", "owlv2")
_STRIDES: Final = (8, 16, 32)
_PROMPT: Final = "a photo of a {}"
_USUAL_SIDE: Final = 800


def open_detector(
    name: str, *, nouns: Sequence[str] = (), least_score: float | None = None, most_boxes: int = MOST_BOXES
) -> Detector:
    """The detector of a name: `yolox:FILE.onnx`; `owlv2:DIRECTORY`, which seeks the nouns; any directory or hub id of
    transformers. `yolox:` and `owlv2:` may be left out.

    The least score is 0.3 of YOLOX, 0.1 of OWLv2 and 0.5 of others, unless given.

    Raises: DataError where it cannot be opened, or nouns are missing or of no use.
    """
    kind, _, rest = name.partition(":")
    source = rest if kind in _PREFIXES else name
    if not source.endswith(".onnx"):
        return TransformersDetector(source, nouns=nouns, least_score=least_score, most_boxes=most_boxes)
    if nouns:
        raise DataError("has classes of its own; nouns are of use to OWLv2 alone", path=source)
    return Yolox(Path(source), least_score=0.3 if least_score is None else least_score, most_boxes=most_boxes)


class Yolox:
    """A YOLOX that was exported without decoding, as its authors do: threads may share it.

    The photo is scaled into a square and padded with grey, BGR, 0 to 255. A class's boxes that overlap a better one of
    the class by more than `most_overlap` (intersection over union) are dropped.

    Source: Ge et al., YOLOX (2021).
    Raises: DataError for a graph with other inputs and outputs.
    """

    def __init__(
        self,
        path: Path,
        *,
        least_score: float = 0.3,
        most_overlap: float = 0.45,
        most_boxes: int = MOST_BOXES,
    ) -> None:
        if not path.is_file():
            raise DataError("no such file", path=path)
        self._session = open_session(path)
        self._path = path.resolve()
        self._settings = {
            "least_score": least_score,
            "most_overlap": most_overlap,
            "most_boxes": most_boxes,
        }
        self._input = self._session.get_inputs()[0]
        self.side: int = self._input.shape[-1]
        cells = sum((self.side // stride) ** 2 for stride in _STRIDES) if isinstance(self.side, int) else 0
        shape = self._session.get_outputs()[0].shape
        if self._input.shape[1:] != [3, self.side, self.side] or shape[1:-1] != [cells] or shape[-1] <= 5:
            raise DataError(
                f"no YOLOX: input {self._input.shape}, output {shape}; wanted [1, 3, side, side] and "
                f"[1, cells of strides 8, 16, 32; 5 + classes]",
                path=path,
            )
        self._classes: int = shape[-1] - 5
        self._pixels = Pixels(
            self.side,
            self.side,
            std=(1 / 255,) * 3,
            resize="pad",
            filling=114,
            colours="bgr",
            filter=int(Image.Resampling.BILINEAR),
        )

    @functools.cached_property
    def _spec(self) -> dict[str, Any]:
        fingerprint = fingerprint_of(self._settings, self._path)
        return {
            "name": f"yolox:{self._path}",
            "classes": self._classes,
            **self._settings,
            "fingerprint": fingerprint,
        }

    def spec(self) -> dict[str, Any]:
        """Name, number of classes, thresholds and fingerprint."""
        return self._spec

    def detect(self, pictures: Sequence[Image.Image]) -> list[Detections]:
        """What is seen in each picture, each alone."""
        return [self._detect(picture) for picture in pictures]

    def _detect(self, picture: Image.Image) -> Detections:
        seen = self._pixels.see([picture])
        (raw,) = self._session.run(None, {self._input.name: seen.pixels})
        boxes, scores = decoded(raw[0], self.side), raw[0][:, 4:5] * raw[0][:, 5:]
        labels, best = scores.argmax(axis=1), scores.max(axis=1)
        good = np.flatnonzero(best >= self._settings["least_score"])
        good = good[np.argsort(-best[good], kind="stable")]
        boxes, labels = boxes[good], labels[good]
        kept = distinct(boxes, labels, self._settings["most_overlap"])
        scale = seen.views[0, 2:] * np.array([picture.height, picture.width], np.float32) / self.side
        return _detections(
            boxes[kept] * np.tile(scale, 2), labels[kept], best[good][kept], picture, self._settings
        )


def decoded(raw: Float32[np.ndarray, "candidates _"], side: int) -> Float32[np.ndarray, "candidates 4"]:
    """Boxes (top, left, bottom, right) in px of the input.

    The network gives a centre from the cell's own corner, in strides, and logarithms of width and height, in strides.
    """
    places, strides = [], []
    for stride in _STRIDES:
        rows, columns = np.mgrid[: side // stride, : side // stride]
        places.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        strides.append(np.full((rows.size, 1), stride))
    cell, stride_px = np.concatenate(places), np.concatenate(strides).astype(np.float32)
    centre = (raw[:, :2] + cell.astype(np.float32)) * stride_px
    half = np.exp(raw[:, 2:4]) * stride_px / 2
    return np.concatenate([(centre - half)[:, ::-1], (centre + half)[:, ::-1]], axis=1)


def distinct(
    boxes: Float32[np.ndarray, "candidates 4"], labels: Int64[np.ndarray, " candidates"], most_overlap: float
) -> Int64[np.ndarray, " n"]:
    """Rows of the boxes that overlap no better one of their class too much; boxes come best first."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    rest, kept = np.arange(len(boxes)), []
    while len(rest):
        first, rest = rest[0], rest[1:]
        kept.append(first)
        corner = np.maximum(boxes[first, :2], boxes[rest, :2])
        shared = np.clip(np.minimum(boxes[first, 2:], boxes[rest, 2:]) - corner, 0, None).prod(axis=1)
        overlaps = shared > most_overlap * (areas[first] + areas[rest] - shared)
        rest = rest[~(overlaps & (labels[rest] == labels[first]))]
    return np.array(kept, np.int64)


class TransformersDetector:
    """A detector of transformers; threads may share it. OWLv2 seeks the nouns, whose numbers are the classes.

    Raises: DataError where it cannot be opened, or nouns are missing or of no use.
    """

    def __init__(
        self,
        name: str,
        *,
        nouns: Sequence[str] = (),
        least_score: float | None = None,
        most_boxes: int = MOST_BOXES,
    ) -> None:
        transformers, folder = library(), folder_of(name)
        self._name = str(folder) if Path(name).expanduser().is_dir() else name
        with quiet():
            kind: str = opened(transformers.AutoConfig, folder).model_type
            by_words = kind in ("owlvit", "owlv2")
            if by_words != bool(nouns):
                problem = (
                    "seeks nouns, none were given"
                    if by_words
                    else "has classes of its own, nouns are of no use"
                )
                raise DataError(f"{kind} {problem}", path=folder)
            auto = "AutoModelForZeroShotObjectDetection" if by_words else "AutoModelForObjectDetection"
            self._model, _ = open_model(getattr(transformers, auto), folder)
            self._processor = opened(transformers.AutoImageProcessor, folder, backend="pil")
            tokenizer = opened(transformers.AutoTokenizer, folder) if by_words else None
        size = self._processor.to_dict()["size"]
        self.side: int = size.get("shortest_edge") or size.get("height") or _USUAL_SIDE
        self._words: dict[str, Any] = {} if tokenizer is None else self._asked(tokenizer, nouns)
        usual_score = 0.1 if by_words else 0.5
        self._settings = {
            "least_score": usual_score if least_score is None else least_score,
            "most_boxes": most_boxes,
            "nouns": list(nouns),
        }
        self._classes = len(nouns) or self._model.config.num_labels

    def _asked(self, tokenizer: Any, nouns: Sequence[str]) -> dict[str, Any]:
        longest = self._model.config.text_config.max_position_embeddings
        return dict(
            tokenizer(
                [_PROMPT.format(noun) for noun in nouns],
                padding="max_length",
                truncation=True,
                max_length=longest,
                return_tensors="pt",
            )
        )

    @functools.cached_property
    def _spec(self) -> dict[str, Any]:
        size = self._processor.to_dict()["size"]
        fingerprint = fingerprint_of({**self._settings, "size": size}, weights_digest(self._model))
        return {"name": self._name, "classes": self._classes, **self._settings, "fingerprint": fingerprint}

    def spec(self) -> dict[str, Any]:
        """Name, number of classes, thresholds, nouns and fingerprint."""
        return self._spec

    def detect(self, pictures: Sequence[Image.Image]) -> list[Detections]:
        """What is seen in each picture, each alone, so that none is padded to another's size."""
        with one_thread(), torch.inference_mode():
            return [self._detect(picture) for picture in pictures]

    def _detect(self, picture: Image.Image) -> Detections:
        inputs = self._processor(images=[picture], return_tensors="pt")
        out = self._model(**inputs, **self._words)
        (found,) = self._processor.post_process_object_detection(
            out,
            threshold=self._settings["least_score"],
            target_sizes=torch.tensor([[picture.height, picture.width]]),
        )
        order = torch.argsort(found["scores"], descending=True, stable=True)
        boxes, labels, scores = (found[field][order].numpy() for field in ("boxes", "labels", "scores"))
        return _detections(boxes[:, [1, 0, 3, 2]], labels, scores, picture, self._settings)


def _detections(
    boxes: Float32[np.ndarray, "candidates 4"],
    labels: Int64[np.ndarray, " candidates"],
    scores: Float32[np.ndarray, " candidates"],
    picture: Image.Image,
    settings: dict[str, Any],
) -> Detections:
    """The first of them, clipped to the picture; what lies outside is left out."""
    clipped = np.clip(boxes, 0, np.array([picture.height, picture.width] * 2, np.float32))
    inside = np.flatnonzero((clipped[:, 2:] > clipped[:, :2]).all(axis=1))[: settings["most_boxes"]]
    return Detections(clipped[inside], labels[inside], scores[inside])
