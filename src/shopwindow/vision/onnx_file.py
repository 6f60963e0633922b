"""Any ONNX file as a backbone, by a description of ten lines of YAML:

```yaml
file: tower.onnx               # beside the description
input: pixels                  # of the graph; may be left out where it has one
size: [224, 224]               # height, width in px
mean: [0.485, 0.456, 0.406]    # of values from 0 to 1; for a graph that wants 0 to 255: mean 0, std 0.00392157
std: [0.229, 0.224, 0.225]
colours: rgb                   # or bgr
layout: nchw                   # or nhwc
resize: crop                   # or stretch, pad
output: features               # of the graph; may be left out where it has one
pooling: none                  # the output is a vector; mean or cls: of its tokens or its grid
cells: false                   # true: cells of the tokens or the grid, as regions
```
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image
from torch import Tensor

from shopwindow.bounded import read_mapping
from shopwindow.data.regions import Regions
from shopwindow.files import DataError, read_text, real_path
from shopwindow.vision.backbone import fingerprint_of, probe_of, probe_picture
from shopwindow.vision.pixels import Pixels, cut, seen_regions
from shopwindow.vision.sessions import open_session

_WORDS: Final = {
    "colours": ("rgb", "bgr"),
    "layout": ("nchw", "nhwc"),
    "resize": ("stretch", "pad", "crop"),
    "pooling": ("none", "mean", "cls"),
    "cells": (False, True),
}
"""Fields of few values; the first is meant where a field is left out."""
_NAMES: Final = ("file", "input", "output")
_NUMBERS: Final = {
    "size": (2, (int,), 1),
    "mean": (3, (int, float), 0),
    "std": (3, (int, float), 1e-6),
}
"""Fields of several numbers: how many, of which type, the least."""
_FIELDS: Final = (*_NAMES, *_NUMBERS, *_WORDS)
_PHOTOS_AT_ONCE: Final = 8


def open_onnx_file(path: str | Path) -> OnnxFile:
    """The backbone that a description names.

    Raises: DataError naming file and field of what is wrong.
    """
    path = real_path(path)
    fields = _read(path)
    graph = path.parent / fields.get("file", f"{path.stem}.onnx")
    if not graph.is_file():
        raise DataError(f"no such file: {graph}", path=path, field="file")
    session = open_session(graph)
    names = {
        field: _chosen(fields.get(field), [one.name for one in some], path, field)
        for field, some in (("input", session.get_inputs()), ("output", session.get_outputs()))
    }
    return OnnxFile(path, graph, session, {**fields, **names})


class OnnxFile:
    """An ONNX graph as a backbone; threads may share it.

    Raises: DataError where the graph does not take the probe picture, or its output is not as described.
    """

    def __init__(self, path: Path, graph: Path, session: Any, fields: dict[str, Any]) -> None:
        height, width = fields["size"]
        self._pixels = Pixels(
            height,
            width,
            mean=tuple(fields["mean"]),
            std=tuple(fields["std"]),
            resize=fields["resize"],
            colours=fields["colours"],
        )
        self._path, self._graph, self._session, self._fields = path, graph, session, fields
        self.side = self._pixels.side
        count = next(one for one in session.get_inputs() if one.name == fields["input"]).shape[0]
        self._at_once = count if isinstance(count, int) else _PHOTOS_AT_ONCE
        if self._at_once not in (1, _PHOTOS_AT_ONCE):
            raise DataError(f"takes {count} photos at once; 1 or any number is wanted", path=graph)
        self.values: int = self.encode([probe_picture()]).features.shape[1]

    @functools.cached_property
    def _spec(self) -> dict[str, Any]:
        settings = {**dataclasses.asdict(self._pixels), **self._fields, "file": ""}
        return {
            "name": str(self._path),
            "fingerprint": fingerprint_of(settings, self._graph),
            "probe": probe_of(self),
        }

    def spec(self) -> dict[str, Any]:
        """The description's path, fingerprint and probe."""
        return self._spec

    def encode(self, pictures: Sequence[Image.Image]) -> Regions:
        """The whole of each photo, and up to nine cells where the description wants them."""
        starts = range(0, len(pictures), self._at_once)
        return Regions.join([self._encode(pictures[start : start + self._at_once]) for start in starts])

    def _encode(self, pictures: Sequence[Image.Image]) -> Regions:
        seen = self._pixels.see(pictures)
        channels_last = self._fields["layout"] == "nhwc"
        pixels = np.ascontiguousarray(seen.pixels.transpose(0, 2, 3, 1)) if channels_last else seen.pixels
        try:
            (out,) = self._session.run([self._fields["output"]], {self._fields["input"]: pixels})
        except Exception as error:  # onnxruntime's errors have no common class of their own
            raise DataError(f"takes no photos: {str(error).splitlines()[0]}", path=self._graph) from error
        tokens = self._tokens(out)
        if self._fields["pooling"] == "none":
            return seen_regions(tokens[:, 0], None, None, seen.views, pictures)
        wholes = tokens[:, 0] if self._fields["pooling"] == "cls" else tokens.mean(dim=1)
        if not self._fields["cells"]:
            return seen_regions(wholes, None, None, seen.views, pictures)
        patches, shares = cut(self._grid(tokens, out.shape))
        return seen_regions(wholes, patches.mean(dim=2), shares, seen.views, pictures)

    def _tokens(self, out: np.ndarray) -> Float32[Tensor, "photos tokens values"]:
        """A vector is one token; a grid's tokens go line by line."""
        wanted = (2,) if self._fields["pooling"] == "none" else (3, 4)
        if out.ndim not in wanted:
            problem = f"{self._fields['pooling']} wants {' or '.join(map(str, wanted))} axes"
            raise DataError(f"{problem}, the output has {list(out.shape)}", path=self._path, field="pooling")
        tensor = torch.from_numpy(out.astype(np.float32, copy=False))
        if out.ndim == 2:
            return tensor[:, None]
        if out.ndim == 4 and self._fields["layout"] == "nchw":
            return tensor.flatten(2).transpose(1, 2)
        return tensor.flatten(1, -2)

    def _grid(
        self, tokens: Float32[Tensor, "photos tokens values"], shape: tuple[int, ...]
    ) -> Float32[Tensor, "photos height width values"]:
        """The tokens as they lie in the photo: those of a grid, else the last of them, as a square."""
        if len(shape) == 4:
            height, width = shape[-3:-1] if self._fields["layout"] == "nhwc" else shape[-2:]
            return tokens.reshape(len(tokens), height, width, -1)
        if self._pixels.height != self._pixels.width:
            problem = "tokens of an input that is no square have no known places"
            raise DataError(problem, path=self._path, field="cells")
        side = int(tokens.shape[1] ** 0.5)
        return tokens[:, tokens.shape[1] - side * side :].reshape(len(tokens), side, side, -1)


def _read(path: Path) -> dict[str, Any]:
    """The fields of a description, checked, with what was left out."""
    given = read_mapping(read_text(path), path)
    fields: dict[str, Any] = {field: words[0] for field, words in _WORDS.items()} | given
    for field, value in fields.items():
        problem = _problem(field, value)
        if problem:
            raise DataError(problem, path=path, field=str(field))
    for field in _NUMBERS:
        if field not in fields:
            raise DataError("missing", path=path, field=field)
    if fields["cells"] and fields["pooling"] == "none":
        raise DataError("a vector has no cells; pooling mean or cls was wanted", path=path, field="cells")
    return fields


def _problem(field: Any, value: Any) -> str | None:
    """What is wrong with a field; None where nothing is."""
    if field not in _FIELDS:
        return f"is not known; known are {', '.join(_FIELDS)}"
    if field in _WORDS and value not in _WORDS[field]:
        return f"{value!r}, wanted {' or '.join(map(str, _WORDS[field]))}"
    if field in _NAMES and not isinstance(value, str):
        return f"{value!r}, a name was wanted"
    if field in _NUMBERS:
        count, kinds, least = _NUMBERS[field]
        right = isinstance(value, list) and len(value) == count
        if not right or not all(type(one) in kinds and one >= least for one in value):
            return f"{value!r}, {count} numbers of {least:g} or more were wanted"
    return None


def _chosen(name: str | None, names: list[str], path: Path, field: str) -> str:
    """A name of the graph's; its only one where none is given."""
    if name is None and len(names) == 1:
        return names[0]
    if name not in names:
        raise DataError(f"{name!r}, the graph has {', '.join(names)}", path=path, field=field)
    return name
