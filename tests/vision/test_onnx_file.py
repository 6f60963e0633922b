"""An ONNX file with a description as a backbone, against numpy on the same picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from shopwindow.files import DataError
from shopwindow.vision.backbone import check_same, open_backbone
from shopwindow.vision.onnx_file import open_onnx_file
from tests.vision import tiny

DESCRIPTION = "size: [14, 14]\nmean: [0.5, 0.4, 0.3]\nstd: [0.2, 0.25, 0.3]\n"


def save_graph(
    path: Path, nodes: list[Any], out_axes: int, *, batch: int | str = "n", last: bool = False
) -> None:
    """A graph from `pixels` to `out`."""
    shape = [batch, 14, 14, 3] if last else [batch, 3, 14, 14]
    floats = TensorProto.FLOAT
    out = helper.make_tensor_value_info("out", floats, ["n", *[None] * (out_axes - 1)])
    weights = [numpy_helper.from_array(np.array([0, 3, -1]), "rows")]
    graph = helper.make_graph(
        nodes, "tiny", [helper.make_tensor_value_info("pixels", floats, shape)], [out], weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)


POOLED = helper.make_node("AveragePool", ["pixels"], ["grid"], kernel_shape=[2, 2], strides=[2, 2])
GRID = [POOLED, helper.make_node("Identity", ["grid"], ["out"])]
VECTOR = [
    helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
    helper.make_node("Flatten", ["pooled"], ["out"]),
]
TOKENS = [
    POOLED,
    helper.make_node("Reshape", ["grid", "rows"], ["lines"]),
    helper.make_node("Transpose", ["lines"], ["out"], perm=[0, 2, 1]),
]


def described(folder: Path, more: str = "") -> str:
    path = folder / "tower.yaml"
    path.write_text(DESCRIPTION + more)
    return str(path)


def normalised(picture: Image.Image) -> np.ndarray:
    """RGB planes of a picture that already has the size."""
    planes = np.asarray(picture).astype(np.float64) / 255
    return ((planes - [0.5, 0.4, 0.3]) / [0.2, 0.25, 0.3]).transpose(2, 0, 1)


@pytest.fixture
def picture() -> Image.Image:
    return tiny.pictures()[0].resize((14, 14))


def test_a_vector_is_the_whole_photo(tmp_path: Path, picture: Image.Image) -> None:
    save_graph(tmp_path / "tower.onnx", VECTOR, 2)
    regions = open_backbone(described(tmp_path)).encode([picture, picture.rotate(90)])
    np.testing.assert_allclose(regions.features[0], normalised(picture).mean(axis=(1, 2)), atol=1e-5)
    assert regions.counts.tolist() == [1, 1]
    assert regions.labels is not None
    assert regions.labels.tolist() == [0, 0]


@pytest.mark.parametrize("nodes", [GRID, TOKENS])
def test_a_grid_gives_its_mean_and_cells(tmp_path: Path, picture: Image.Image, nodes: list[Any]) -> None:
    axes = 4 if nodes is GRID else 3
    save_graph(tmp_path / "tower.onnx", nodes, axes)
    wide = tiny.pictures()[0]
    regions = open_backbone(described(tmp_path, "pooling: mean\ncells: true\n")).encode([picture, wide])
    assert regions.counts.tolist() == [10, 10]
    planes = normalised(picture)
    np.testing.assert_allclose(regions.features[0], planes.mean(axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(regions.features[1], planes[:, :6, :6].mean(axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(regions.features[6], planes[:, 4:10, 8:].mean(axis=(1, 2)), atol=1e-5)
    assert regions.boxes is not None
    np.testing.assert_allclose(regions.boxes[6], [4, 8, 10, 14], atol=1e-5)
    np.testing.assert_allclose(regions.boxes[19], [60 * 4 / 7, 90 * 4 / 7, 60, 90], atol=1e-4)


def test_cls_is_the_first_token(tmp_path: Path, picture: Image.Image) -> None:
    save_graph(tmp_path / "tower.onnx", TOKENS, 3)
    features = open_backbone(described(tmp_path, "pooling: cls\n")).encode([picture]).features
    np.testing.assert_allclose(features[0], normalised(picture)[:, :2, :2].mean(axis=(1, 2)), atol=1e-5)


def test_bgr_and_channels_last(tmp_path: Path, picture: Image.Image) -> None:
    nodes = [helper.make_node("AveragePool", ["turned"], ["grid"], kernel_shape=[2, 2], strides=[2, 2])]
    turn = helper.make_node("Transpose", ["pixels"], ["turned"], perm=[0, 3, 1, 2])
    back = helper.make_node("Transpose", ["grid"], ["out"], perm=[0, 2, 3, 1])
    save_graph(tmp_path / "tower.onnx", [turn, *nodes, back], 4, last=True)
    more = "colours: bgr\nlayout: nhwc\npooling: mean\ncells: true\n"
    features = open_backbone(described(tmp_path, more)).encode([picture]).features
    red, green, blue = Image.Image.split(picture)
    planes = normalised(Image.merge("RGB", (blue, green, red)))
    np.testing.assert_allclose(features[0], planes.mean(axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(features[3], planes[:, :6, 8:].mean(axis=(1, 2)), atol=1e-5)


def test_padding_and_cropping_say_where_the_cells_lie(tmp_path: Path) -> None:
    save_graph(tmp_path / "tower.onnx", GRID, 4)
    picture = Image.new("RGB", (28, 7), (51, 102, 153))
    cells = "pooling: mean\ncells: true\n"
    padded = open_backbone(described(tmp_path, cells + "resize: pad\n")).encode([picture])
    # Half the size, 14 x 3: the rows of cells begin at 0, 4 and 8 of 14, so the lower two see filling alone.
    assert padded.counts.tolist() == [4]
    assert padded.boxes is not None
    np.testing.assert_allclose(padded.boxes[1], [0, 0, 7, 12], atol=1e-4)
    cropped = open_backbone(described(tmp_path, cells + "resize: crop\n")).encode([picture])
    # Twice the size, 56 x 14, of which the middle 14: 7 px of the picture.
    assert cropped.boxes is not None
    np.testing.assert_allclose(cropped.boxes[1], [0, 10.5, 3, 13.5], atol=1e-4)
    np.testing.assert_allclose(cropped.boxes[9], [4, 14.5, 7, 17.5], atol=1e-4)


def test_a_graph_of_one_photo_is_asked_once_a_photo(tmp_path: Path) -> None:
    save_graph(tmp_path / "tower.onnx", VECTOR, 2, batch=1)
    pictures = tiny.pictures()
    regions = open_backbone(described(tmp_path)).encode(pictures)
    save_graph(tmp_path / "tower.onnx", VECTOR, 2)
    together = open_backbone(described(tmp_path)).encode(pictures)
    torch.testing.assert_close(regions.features, together.features, atol=1e-6, rtol=0)


def test_a_spec_opens_the_same_and_another_description_is_noticed(tmp_path: Path) -> None:
    save_graph(tmp_path / "tower.onnx", VECTOR, 2)
    spec = json.loads(json.dumps(open_onnx_file(described(tmp_path)).spec()))
    check_same(spec, open_backbone(spec).spec())
    described(tmp_path, "resize: crop\n")
    with pytest.raises(DataError, match="different backbones"):
        open_backbone(spec)


@pytest.mark.parametrize(
    ("text", "field", "problem"),
    [
        (DESCRIPTION + "colour: rgb\n", "colour", "is not known"),
        (DESCRIPTION + "resize: zoom\n", "resize", "'zoom', wanted stretch or pad or crop"),
        (DESCRIPTION + "input: 3\n", "input", "a name was wanted"),
        (DESCRIPTION + "input: image\n", "input", "'image', the graph has pixels"),
        (DESCRIPTION + "output: features\n", "output", "'features', the graph has out"),
        (DESCRIPTION + "file: other.onnx\n", "file", "no such file"),
        (DESCRIPTION + "pooling: mean\n", "pooling", "mean wants 3 or 4 axes"),
        (DESCRIPTION + "cells: true\n", "cells", "a vector has no cells"),
        ("mean: [0, 0, 0]\nstd: [1, 1, 1]\n", "size", "missing"),
        ("size: [14, 0]\n", "size", "2 numbers of 1 or more"),
        ("size: [14, 14]\nmean: [0, 0, 0]\nstd: [1, 0, 1]\n", "std", "3 numbers of 1e-06 or more"),
        ("size: [14, 14]\nmean: 0.5\n", "mean", "3 numbers"),
        ("- 1\n", None, "a list of `field: value` was wanted"),
        ("size: [14\n", None, "no YAML"),
        (DESCRIPTION.replace("14, 14", "16, 16"), None, "takes no photos"),
    ],
)
def test_errors_name_file_and_field(tmp_path: Path, text: str, field: str | None, problem: str) -> None:
    save_graph(tmp_path / "tower.onnx", VECTOR, 2)
    path = tmp_path / "tower.yaml"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        open_onnx_file(path)
    assert problem in str(caught.value)
    assert caught.value.field == field
    assert str(tmp_path) in str(caught.value)


def test_a_file_that_is_no_graph_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tower.onnx").write_bytes(b"no graph")
    with pytest.raises(DataError, match=r"tower\.onnx: onnxruntime cannot run it"):
        open_onnx_file(described(tmp_path))
