"""Detectors, against transformers' own post-processing and a slow loop of YOLOX."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from shopwindow.data.dataset import Dataset
from shopwindow.data.features import Features
from shopwindow.data.shop import prepare_shop
from shopwindow.files import DataError
from shopwindow.search.building import build_index
from shopwindow.search.engine import SearchEngine
from shopwindow.search.hits import SearchRequest
from shopwindow.vision.backbone import Detections, Detector
from shopwindow.vision.detectors import Yolox, distinct, open_detector
from shopwindow.vision.extract import extract
from shopwindow.vision.plain import Plain
from shopwindow.vision.sources import find_photos
from tests.conftest import SHARED
from tests.search.photographed import write_photo_bundle
from tests.vision import tiny

SIDE = 64
CELLS = [
    (stride, row, column)
    for stride in (8, 16, 32)
    for row in range(SIDE // stride)
    for column in range(SIDE // stride)
]


def save_yolox(path: Path, raw: np.ndarray, *, side: int = SIDE) -> str:
    """A YOLOX that names the same boxes in every picture."""
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Identity", ["raw"], ["output"])],
        "yolox",
        [helper.make_tensor_value_info("images", floats, [1, 3, side, side])],
        [helper.make_tensor_value_info("output", floats, list(raw[None].shape))],
        [numpy_helper.from_array(raw[None].astype(np.float32), "raw")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return f"yolox:{path}"


def slow_yolox(
    raw: np.ndarray,
    picture: Image.Image,
    side: int,
    *,
    least_score: float,
    most_overlap: float,
    most_boxes: int,
) -> list[tuple[float, int, list[float]]]:
    """(score, class, box) as the paper's code has them, candidate by candidate."""
    ratio = min(side / picture.height, side / picture.width)
    scale = int(picture.height * ratio) / picture.height, int(picture.width * ratio) / picture.width
    found = []
    place = 0
    for stride in (8, 16, 32):
        for row in range(side // stride):
            for column in range(side // stride):
                x, y, width, height, thing, *classes = raw[place].tolist()
                place += 1
                score, label = max((thing * one, -number) for number, one in enumerate(classes))
                if score < least_score:
                    continue
                x, y = (x + column) * stride, (y + row) * stride
                width, height = math.exp(width) * stride, math.exp(height) * stride
                box = [y - height / 2, x - width / 2, y + height / 2, x + width / 2]
                found.append((score, -label, box, place))
    found.sort(key=lambda one: (-one[0], one[3]))
    kept: list[tuple[float, int, list[float]]] = []
    for score, label, box, _ in found:
        if all(label != other or overlap(box, their) <= most_overlap for _, other, their in kept):
            kept.append((score, label, box))
    out = []
    for score, label, box in kept:
        top, left, bottom, right = box[0] / scale[0], box[1] / scale[1], box[2] / scale[0], box[3] / scale[1]
        clipped = [max(top, 0), max(left, 0), min(bottom, picture.height), min(right, picture.width)]
        if clipped[2] > clipped[0] and clipped[3] > clipped[1]:
            out.append((score, label, clipped))
    return out[:most_boxes]


def overlap(one: list[float], other: list[float]) -> float:
    """Intersection over union."""
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(height, 0) * max(width, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def assert_equal(found: Detections, wanted: list[tuple[float, int, list[float]]]) -> None:
    np.testing.assert_allclose(found.scores, [one[0] for one in wanted], atol=1e-5)
    assert found.labels.tolist() == [one[1] for one in wanted]
    np.testing.assert_allclose(found.boxes, np.array([one[2] for one in wanted]).reshape(-1, 4), atol=1e-2)


def test_a_box_of_yolox_counted_by_hand(tmp_path: Path) -> None:
    raw = np.zeros((len(CELLS), 7))
    # The stride of 16, row 1, column 2: centre (2.5, 1.5) strides, 2 strides wide and 1 high, class 1.
    raw[CELLS.index((16, 1, 2))] = [0.5, 0.5, math.log(2), 0, 0.8, 0.1, 0.9]
    detector = open_detector(save_yolox(tmp_path / "tiny.onnx", raw))
    assert isinstance(detector, Detector)
    # A picture of half the input's size, wider than high: its px are two of the input.
    (found,) = detector.detect([Image.new("RGB", (32, 20))])
    np.testing.assert_allclose(found.boxes, [[8, 12, 16, 28]], atol=1e-5)
    assert found.labels.tolist() == [1]
    np.testing.assert_allclose(found.scores, [0.72], atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_yolox_is_decoded_as_a_slow_loop_does(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw = np.concatenate(
        [rng.normal(0, 1, (len(CELLS), 4)), rng.uniform(0.3, 1, (len(CELLS), 4))], axis=1
    ).astype(np.float32)
    name = save_yolox(tmp_path / "tiny.onnx", raw)
    picture = tiny.pictures()[seed]
    for least_score, most_boxes in ((0.5, 100), (0.3, 7), (1.1, 5)):
        detector = open_detector(name, least_score=least_score, most_boxes=most_boxes)
        (found,) = detector.detect([picture])
        wanted = slow_yolox(
            raw, picture, SIDE, least_score=least_score, most_overlap=0.45, most_boxes=most_boxes
        )
        assert_equal(found, wanted)
        assert bool(wanted) == (least_score < 1)


def test_yolox_sees_bgr_with_grey_below(tmp_path: Path) -> None:
    """The graph names the value of the input's first and last px as a score."""
    floats = TensorProto.FLOAT
    seen = []
    for channel, row in ((0, 0), (2, 0), (1, -1)):
        weights = [
            numpy_helper.from_array(np.array([0, channel, row % SIDE, 0]).reshape(1, 4), "place"),
            numpy_helper.from_array(np.full((1, len(CELLS), 6), 1 / 255, np.float32), "raw"),
        ]
        nodes = [
            helper.make_node("GatherND", ["images", "place"], ["value"]),
            helper.make_node("Mul", ["raw", "value"], ["output"]),
        ]
        graph = helper.make_graph(
            nodes,
            "yolox",
            [helper.make_tensor_value_info("images", floats, [1, 3, SIDE, SIDE])],
            [helper.make_tensor_value_info("output", floats, [1, len(CELLS), 6])],
            weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.save(model, tmp_path / "tiny.onnx")
        detector = open_detector(str(tmp_path / "tiny.onnx"), least_score=0.0)
        (found,) = detector.detect([Image.new("RGB", (32, 16), (204, 102, 51))])
        seen.append(255 * float(found.scores[0]) ** 0.5)  # thing x class
    np.testing.assert_allclose(seen, [51, 204, 114], atol=0.01)


def test_overlapping_boxes_of_different_classes_stay() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 8], [20, 20, 30, 30]], np.float32)
    assert distinct(boxes, np.array([3, 3, 4, 3]), 0.45).tolist() == [0, 2, 3]
    assert distinct(boxes, np.array([3, 3, 3, 3]), 0.95).tolist() == [0, 1, 2, 3]
    assert distinct(boxes[:0], np.zeros(0, np.int64), 0.45).tolist() == []


def test_what_is_no_yolox_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        open_detector("yolox:nowhere.onnx")
    save_yolox(tmp_path / "tiny.onnx", np.zeros((10, 7)))
    with pytest.raises(DataError, match="no YOLOX"):
        open_detector(str(tmp_path / "tiny.onnx"))
    with pytest.raises(DataError, match="classes of its own"):
        open_detector(str(tmp_path / "tiny.onnx"), nouns=["milk"])


@pytest.fixture(scope="module")
def real_yolox() -> Path:
    path = SHARED / "models" / "yolox_nano.onnx"
    if not path.is_file():
        pytest.skip(f"no real YOLOX at {path} (set SHOPWINDOW_SHARED)")
    return path


def test_the_real_yolox_finds_what_a_slow_loop_finds(real_yolox: Path) -> None:
    photos = sorted((SHARED / "shops" / "grocery" / "photos").glob("*.jpg"))[::500]
    session = onnxruntime.InferenceSession(real_yolox)
    detector = Yolox(real_yolox, least_score=0.25)
    labels = []
    for path in photos:
        picture = Image.open(path).convert("RGB")
        ratio = min(416 / picture.height, 416 / picture.width)
        size = int(picture.width * ratio), int(picture.height * ratio)
        planes = np.full((416, 416, 3), 114, np.float32)
        planes[: size[1], : size[0]] = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
        (raw,) = session.run(
            None, {session.get_inputs()[0].name: planes[:, :, ::-1].transpose(2, 0, 1)[None].copy()}
        )
        wanted = slow_yolox(raw[0], picture, 416, least_score=0.25, most_overlap=0.45, most_boxes=8)
        (found,) = detector.detect([picture])
        assert_equal(found, wanted)
        labels.extend(found.labels.tolist())
    # Of these groceries it knows apple (47) and orange (49) of COCO.
    assert {47, 49} & set(labels)


def save_detr(folder: Path) -> Any:
    torch.manual_seed(1)
    kinds: Any = transformers
    backbone = kinds.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", out_features=["stage2"]
    )
    config = kinds.DetrConfig(
        backbone_config=backbone, use_timm_backbone=False, backbone=None, d_model=32, num_queries=12,
        encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, num_labels=5,
    )  # fmt: skip
    model: Any = transformers.DetrForObjectDetection(config)
    processor = transformers.DetrImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
    return saved(folder, model, processor)


def save_rt_detr(folder: Path) -> Any:
    torch.manual_seed(2)
    kinds: Any = transformers
    backbone = kinds.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = kinds.RTDetrConfig(
        backbone_config=backbone, use_timm_backbone=False, backbone=None, num_labels=5, num_queries=12,
        encoder_hidden_dim=32, encoder_in_channels=[12, 16, 20], encoder_layers=1, encoder_ffn_dim=32,
        encoder_attention_heads=2, d_model=32, decoder_in_channels=[32, 32, 32], decoder_ffn_dim=32,
        decoder_layers=2, decoder_attention_heads=2, decoder_n_points=2,
    )  # fmt: skip
    model: Any = transformers.RTDetrForObjectDetection(config)
    return saved(folder, model, transformers.RTDetrImageProcessorPil(size={"height": 64, "width": 64}))


def save_owlv2(folder: Path) -> Any:
    torch.manual_seed(3)
    text = {**tiny.TEXT, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 16}
    config = transformers.Owlv2Config(text_config=text, vision_config=tiny.VISION, projection_dim=24)
    model: Any = transformers.Owlv2ForObjectDetection(config)
    processor = transformers.Owlv2ImageProcessorPil(size={"height": 56, "width": 56})
    return saved(folder, model, processor, tiny.words_tokenizer(first=True))


def saved(folder: Path, model: Any, *parts: Any) -> Any:
    model.eval().save_pretrained(folder)
    for part in parts:
        part.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    ("kind", "save"), [("detr", save_detr), ("rt_detr", save_rt_detr), ("owlv2", save_owlv2)]
)
def test_boxes_are_transformers_own(tmp_path: Path, kind: str, save: Any) -> None:
    model = save(tmp_path)
    nouns = ["red apple", "milk"] if kind == "owlv2" else []
    words: dict[str, Any] = {}
    if nouns:
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
        texts = [f"a photo of a {noun}" for noun in nouns]
        words = dict(tokenizer(texts, padding="max_length", max_length=16, return_tensors="pt"))
    auto: Any = transformers.AutoImageProcessor
    processor = auto.from_pretrained(tmp_path, backend="pil")
    pictures = tiny.pictures()
    detector = open_detector(str(tmp_path), nouns=nouns, least_score=0.01, most_boxes=6)
    assert isinstance(detector, Detector)
    for picture, found in zip(pictures, detector.detect(pictures), strict=True):
        with torch.inference_mode():
            out = model(**processor(images=[picture], return_tensors="pt"), **words)
        size = torch.tensor([[picture.height, picture.width]])
        (own,) = processor.post_process_object_detection(out, threshold=0.01, target_sizes=size)
        rows = []
        for score, label, (left, top, right, bottom) in zip(
            own["scores"].tolist(), own["labels"].tolist(), own["boxes"].tolist(), strict=True
        ):
            box = [max(top, 0), max(left, 0), min(bottom, picture.height), min(right, picture.width)]
            if box[2] > box[0] and box[3] > box[1]:
                rows.append((score, label, box))
        rows.sort(key=lambda row: -row[0])
        assert rows
        assert_equal(found, rows[:6])
    (nothing,) = open_detector(str(tmp_path), nouns=nouns, least_score=1.0).detect(pictures[:1])
    assert nothing.boxes.shape == (0, 4)


def test_owlv2_seeks_the_nouns_and_others_have_none(tmp_path: Path) -> None:
    save_owlv2(tmp_path / "owl")
    save_detr(tmp_path / "detr")
    with pytest.raises(DataError, match="owlv2 seeks nouns, none were given"):
        open_detector(f"owlv2:{tmp_path / 'owl'}")
    with pytest.raises(DataError, match="classes of its own"):
        open_detector(str(tmp_path / "detr"), nouns=["milk"])
    one = open_detector(f"owlv2:{tmp_path / 'owl'}", nouns=["milk"]).spec()
    two = open_detector(f"owlv2:{tmp_path / 'owl'}", nouns=["bread"]).spec()
    assert one["fingerprint"] != two["fingerprint"]
    assert one["nouns"] == ["milk"]
    assert json.loads(json.dumps(one)) == one


def test_a_photo_is_boxed_as_the_products_were_when_it_is_searched_with(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for seed in range(6):
        colours = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
        Image.fromarray(colours).resize((120, 90)).save(tmp_path / "photos" / f"{seed}.png")
    raw = np.zeros((len(CELLS), 7))
    raw[CELLS.index((32, 0, 0)), :] = [0.4, 0.5, 0.3, 0.2, 0.9, 0.9, 0.1]
    detector = open_detector(save_yolox(tmp_path / "one.onnx", raw))
    shop = find_photos(tmp_path / "photos")
    extract(shop.products, tmp_path / "features", backbone=Plain(), detector=detector, threads=1)
    prepare_shop(Features(tmp_path / "features"), None, tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    bundle = write_photo_bundle(tmp_path / "bundle", ["red bag"], dataset.backbone)
    build_index(bundle, tmp_path / "dataset", tmp_path / "index")
    engine = SearchEngine.open(tmp_path / "index")
    assert shop.products.photos is not None
    for product_id, (photo, *_) in zip(shop.products.ids.tolist(), shop.products.photos, strict=True):
        (first,) = engine.search(SearchRequest(photo=engine.encode_photo(Path(photo).read_bytes()), k=1))
        assert first.product_id == product_id
        assert first.score == pytest.approx(1.0, abs=1e-4)

    raw[:, 4] = 0.99
    save_yolox(tmp_path / "one.onnx", raw)
    with pytest.raises(DataError, match="another detector than the photos were boxed by"):
        SearchEngine.open(tmp_path / "index").encode_photo(Path(photo).read_bytes())
