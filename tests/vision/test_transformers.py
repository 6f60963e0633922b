"""Models of transformers as backbones, against the library's own features of the same tiny models."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from shopwindow.files import DataError
from shopwindow.vision.backbone import check_same, open_backbone
from shopwindow.vision.transformers import PhotoAndTextModel, one_thread, open_transformers
from tests.vision import tiny

SAVERS: dict[str, Callable[[Path], Any]] = {
    "clip": tiny.save_clip,
    "siglip": tiny.save_siglip,
    "siglip2": tiny.save_siglip2,
    "dinov2": tiny.save_dinov2,
}
JOINT = ("clip", "siglip", "siglip2")
TEXTS = ["a photo of a red apple", "Milk", "green juice carton", "bread"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """Of each kind the directory and the model."""
    folder = tmp_path_factory.mktemp("models")
    return {kind: (folder / kind, save(folder / kind)) for kind, save in SAVERS.items()}


def library_inputs(folder: Path, pictures: list[Image.Image]) -> dict[str, torch.Tensor]:
    auto: Any = transformers.AutoImageProcessor
    processor = auto.from_pretrained(folder, backend="pil")
    return dict(processor(images=pictures, return_tensors="pt"))


@pytest.mark.parametrize("kind", SAVERS)
def test_the_whole_photo_is_the_librarys_own_feature(saved: dict[str, tuple[Path, Any]], kind: str) -> None:
    folder, model = saved[kind]
    pictures = tiny.pictures()
    with torch.inference_mode():
        inputs = library_inputs(folder, pictures)
        own = model.get_image_features(**inputs) if kind in JOINT else model(**inputs)
    regions = open_transformers(str(folder)).encode(pictures)
    torch.testing.assert_close(regions.features[regions.starts], own.pooler_output, atol=1e-4, rtol=0)
    assert regions.counts.tolist() == [10] * len(pictures)
    assert regions.labels is not None
    assert regions.labels.tolist() == [0, *[1] * 9] * len(pictures)


@pytest.mark.parametrize("kind", JOINT)
def test_zero_shot_ranks_as_the_library_does(saved: dict[str, tuple[Path, Any]], kind: str) -> None:
    folder, model = saved[kind]
    pictures = tiny.pictures()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    padding = {"padding": True} if kind == "clip" else {"padding": "max_length", "max_length": 64}
    with torch.inference_mode():
        out = model(**library_inputs(folder, pictures), **tokenizer(TEXTS, return_tensors="pt", **padding))
    backbone = open_backbone(str(folder))
    assert isinstance(backbone, PhotoAndTextModel)
    texts = backbone.encode_texts(TEXTS)
    np.testing.assert_allclose(texts, out.text_embeds.numpy(), atol=1e-5)
    regions = backbone.encode(pictures)
    wholes = torch.nn.functional.normalize(regions.features[regions.starts], dim=1).numpy()
    order = np.argsort(-(texts @ wholes.T), axis=1)
    assert order.tolist() == torch.argsort(out.logits_per_text, dim=1, descending=True).tolist()
    assert len({tuple(row) for row in order.tolist()}) > 1


def test_clips_cells_are_meaned_patches_in_the_joint_space(saved: dict[str, tuple[Path, Any]]) -> None:
    folder, model = saved["clip"]
    pictures = tiny.pictures()[:2]
    with torch.inference_mode():
        out = model.vision_model(**library_inputs(folder, pictures))
        grid = model.vision_model.post_layernorm(out.last_hidden_state[:, 1:]).reshape(2, 7, 7, -1)
        middle = model.visual_projection(grid[:, 2:5, 2:5].mean(dim=(1, 2)))
        last = model.visual_projection(grid[:, 4:7, 4:7].mean(dim=(1, 2)))
    features = open_transformers(str(folder)).encode(pictures).features.reshape(2, 10, -1)
    torch.testing.assert_close(features[:, 5], middle, atol=1e-5, rtol=0)
    torch.testing.assert_close(features[:, 9], last, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_siglips_cells_are_pooled_by_its_head(saved: dict[str, tuple[Path, Any]], kind: str) -> None:
    folder, model = saved[kind]
    picture = tiny.pictures()[2]  # a square: 7 x 7 patches, of SigLIP 2 8 x 8
    with torch.inference_mode():
        out = model.vision_model(**library_inputs(folder, [picture]))
        side, size = (7, 3) if kind == "siglip" else (8, 4)
        grid = out.last_hidden_state[:, : side * side].reshape(1, side, side, -1)
        first = model.vision_model.head(grid[:, :size, :size].flatten(1, 2))
    features = open_transformers(str(folder)).encode([picture]).features
    torch.testing.assert_close(features[1:2], first, atol=1e-5, rtol=0)


def test_cells_lie_in_the_crop_that_the_model_sees(saved: dict[str, tuple[Path, Any]]) -> None:
    regions = open_transformers(str(saved["dinov2"][0])).encode([Image.new("RGB", (80, 40))])
    assert regions.boxes is not None
    # 128 x 64 px, of which the middle 56 are seen: 35 px of the picture, from 2.5 and 22.5 on; a cell is 3/7 of it.
    np.testing.assert_allclose(regions.boxes[0], [0, 0, 40, 80])
    np.testing.assert_allclose(regions.boxes[1], [2.5, 22.5, 17.5, 37.5], atol=1e-5)
    np.testing.assert_allclose(regions.boxes[9], [22.5, 42.5, 37.5, 57.5], atol=1e-5)


@pytest.mark.parametrize("kind", SAVERS)
def test_a_photos_features_do_not_depend_on_its_company(
    saved: dict[str, tuple[Path, Any]], kind: str
) -> None:
    backbone = open_transformers(str(saved[kind][0]))
    pictures = tiny.pictures() * 2  # more than one batch
    together = backbone.encode(pictures)
    with ThreadPoolExecutor(2) as pool:
        alone = list(pool.map(lambda picture: backbone.encode([picture]).features, pictures))
    torch.testing.assert_close(together.features, torch.cat(alone), atol=1e-5, rtol=0)


def test_texts_are_cut_at_the_models_length_and_none_are_no_rows(saved: dict[str, tuple[Path, Any]]) -> None:
    for kind in JOINT:
        backbone = open_transformers(str(saved[kind][0]))
        assert isinstance(backbone, PhotoAndTextModel)
        assert backbone.encode_texts([]).shape == (0, backbone.values)
        long = " ".join(tiny.WORDS * 20)
        vectors = backbone.encode_texts([long, f"{long} milk", "milk"])
        np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
        assert vectors[0] @ vectors[2] < 0.9999


def test_a_spec_opens_the_same_and_other_weights_or_pixels_are_noticed(tmp_path: Path) -> None:
    tiny.save_dinov2(tmp_path)
    spec = json.loads(json.dumps(open_transformers(str(tmp_path)).spec()))
    check_same(spec, open_backbone(spec).spec())
    processor = tmp_path / "preprocessor_config.json"
    before = processor.read_text()
    processor.write_text(before.replace('"shortest_edge": 64', '"shortest_edge": 60'))
    with pytest.raises(DataError, match="different backbones"):
        open_backbone(spec)
    processor.write_text(before)
    weights = load_file(tmp_path / "model.safetensors")
    weights["embeddings.cls_token"] = weights["embeddings.cls_token"] + 1e-3
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match="different backbones"):
        open_backbone(spec)


def test_a_missing_pooler_leaves_the_first_token(tmp_path: Path) -> None:
    torch.manual_seed(6)
    config = transformers.ViTConfig(**tiny.VISION)
    model: Any = transformers.ViTForImageClassification(config)
    model.eval()
    model.save_pretrained(tmp_path)
    transformers.ViTImageProcessorPil(size={"height": 56, "width": 56}).save_pretrained(tmp_path)
    pictures = tiny.pictures()
    with torch.inference_mode():
        first = model.vit(**library_inputs(tmp_path, pictures)).last_hidden_state[:, 0]
    regions = open_transformers(str(tmp_path)).encode(pictures)
    torch.testing.assert_close(regions.features[regions.starts], first, atol=1e-4, rtol=0)


def test_a_convolutional_network_gives_its_pooled_grid(tmp_path: Path) -> None:
    torch.manual_seed(7)
    sizes: Any = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    model: Any = transformers.ResNetModel(transformers.ResNetConfig(**sizes))
    model.eval()
    model.save_pretrained(tmp_path)
    transformers.ViTImageProcessorPil(size={"height": 56, "width": 56}).save_pretrained(tmp_path)
    pictures = tiny.pictures()[:2]
    with torch.inference_mode():
        out = model(**library_inputs(tmp_path, pictures))
    features = open_transformers(str(tmp_path)).encode(pictures).features.reshape(2, 10, 16)
    torch.testing.assert_close(features[:, 0], out.pooler_output.flatten(1), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        features[:, 1], out.last_hidden_state[:, :, :3, :3].mean(dim=(2, 3)), atol=1e-4, rtol=0
    )


def test_another_processor_gives_the_whole_photo_alone(tmp_path: Path) -> None:
    torch.manual_seed(8)
    sizes: Any = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}
    model: Any = transformers.ConvNextModel(transformers.ConvNextConfig(**sizes))
    model.eval()
    model.save_pretrained(tmp_path)
    transformers.ConvNextImageProcessorPil(size={"shortest_edge": 64}).save_pretrained(tmp_path)
    pictures = tiny.pictures()
    with torch.inference_mode():
        wholes = [model(**library_inputs(tmp_path, [picture])).pooler_output for picture in pictures]
    regions = open_transformers(str(tmp_path)).encode(pictures)
    torch.testing.assert_close(regions.features, torch.cat(wholes), atol=1e-4, rtol=0)
    assert regions.counts.tolist() == [1] * len(pictures)


def test_dinov3_is_refused_and_the_error_says_why(tmp_path: Path) -> None:
    sizes: Any = {**tiny.VISION, "num_hidden_layers": 1}
    transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**sizes)).save_pretrained(tmp_path)
    processor = {"image_processor_type": "DINOv3ViTImageProcessor", "size": {"height": 56, "width": 56}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    with pytest.raises(DataError, match=r"needs torchvision, which shopwindow does without .*DINOv3"):
        open_transformers(str(tmp_path))


def test_broken_models_are_errors_of_one_line(tmp_path: Path) -> None:
    def problem(name: str) -> str:
        with pytest.raises(DataError) as caught:
            open_transformers(name)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no directory" in problem(str(tmp_path / "nowhere"))
    assert "no directory" in problem("shopwindow-has-no-such-model")
    assert "cannot open it" in problem(str(tmp_path))
    tiny.save_clip(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    assert "1 of its weights are not there, visual_projection.weight first" in problem(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    assert "cannot open it" in problem(str(tmp_path))
    tiny.save_clip(tmp_path)
    processor = tmp_path / "preprocessor_config.json"
    processor.write_text(processor.read_text().replace("56", "48"))
    assert "cannot encode a picture" in problem(str(tmp_path))


def test_one_thread_is_given_back() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
