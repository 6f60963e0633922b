"""The text tower of CLIP and SigLIP as ONNX, against the library that it came from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shopwindow.data.dataset import Dataset
from shopwindow.data.features import Features
from shopwindow.data.shop import prepare_shop
from shopwindow.export.onnx import export_text, write_text_side
from shopwindow.export.text_tower import export_tower
from shopwindow.files import DataError, whole_directory
from shopwindow.model.bundle import MARKER as BUNDLE_MARKER
from shopwindow.model.bundle import Bundle
from shopwindow.model.exported_text import ExportedText
from shopwindow.model.exported_tower import TOWER, TOWER_GRAPH, ExportedTower
from shopwindow.model.initial import initial_model
from shopwindow.model.pretrained import TextEncoder
from shopwindow.model.recipe import load_recipe
from shopwindow.search.building import build_index
from shopwindow.search.engine import SearchEngine
from shopwindow.vision.extract import extract
from shopwindow.vision.sources import find_photos
from shopwindow.vision.transformers import PhotoAndTextModel, open_transformers
from tests.vision import tiny

TEXTS = [
    "red apple",
    "milk",
    "a photo of a green milk carton of juice",
    "",
    "Bread bread zebra " + "red " * 90,
]


@pytest.mark.parametrize("save", [tiny.save_clip, tiny.save_siglip, tiny.save_siglip2])
def test_exported_towers_give_the_library_s_vectors(save: object, tmp_path: Path) -> None:
    assert callable(save)
    save(tmp_path / "model")
    backbone = open_transformers(str(tmp_path / "model"))
    assert isinstance(backbone, PhotoAndTextModel)
    (tmp_path / "tower").mkdir()
    export_tower(backbone, tmp_path / "tower")
    tower = ExportedTower.load(tmp_path / "tower")
    assert isinstance(tower, TextEncoder)
    for texts in (TEXTS, TEXTS[:1], TEXTS * 30):
        assert tower.encode_texts(texts) == pytest.approx(backbone.encode_texts(texts), abs=1e-5)
    assert tower.encode_texts([]).shape == (0, tower.values)
    assert np.linalg.norm(tower.encode_texts(TEXTS), axis=1) == pytest.approx(1, abs=1e-5)

    card = json.loads((tmp_path / "tower" / TOWER).read_text())
    (tmp_path / "tower" / TOWER).write_text(json.dumps(card | {"longest": "77"}))
    with pytest.raises(DataError, match=r"tower\.json.*longest"):
        ExportedTower.load(tmp_path / "tower")
    (tmp_path / "tower" / TOWER).write_text(json.dumps(card))
    (tmp_path / "tower" / TOWER_GRAPH).write_bytes(b"no graph")
    with pytest.raises(DataError, match="no graph"):
        ExportedTower.load(tmp_path / "tower")


def test_a_shop_with_clip_is_searched_without_torch(tmp_path: Path) -> None:
    titles = ("red apple", "green apple", "milk carton", "apple juice", "bread")
    (tmp_path / "photos").mkdir()
    for row, picture in enumerate(tiny.pictures()):
        picture.save(tmp_path / "photos" / f"{row}.png")
    rows = "".join(f"{row},{title},{row}.png\n" for row, title in enumerate(titles))
    (tmp_path / "products.csv").write_text(f"id,title,photo\n{rows}")
    tiny.save_clip(tmp_path / "model")
    clip = open_transformers(str(tmp_path / "model"))
    shop = find_photos(tmp_path / "products.csv", photos=tmp_path / "photos")
    extract(shop.products, tmp_path / "features", backbone=clip, threads=1)
    prepare_shop(Features(tmp_path / "features"), None, tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    learned = {"width": 8, "text": {"words": {"pairs": True}}, "photo": {"linear": {}}}
    recipe = load_recipe("bow", {"parts": [learned, {"pretrained": True}]})
    tokenizer, model = initial_model(dataset, recipe)
    bundle = Bundle(model.eval(), tokenizer)
    asked = [*titles, "a photo of bread", "zebra"]
    assert export_text(bundle, tmp_path / "text").worst < 1e-6
    exported = ExportedText.load(tmp_path / "text")
    np.testing.assert_allclose(exported.encode_texts(asked), bundle.encode_texts(asked), atol=1e-5)
    assert exported.knows(["zebra"]) == [True]
    with pytest.raises(ValueError, match="reads words, not tokens"):
        exported.encode_tokens(exported.tokenise(["red"]))

    with whole_directory(tmp_path / "bundle", marker=BUNDLE_MARKER) as folder:
        bundle.save_into(folder)
    told: list[str] = []
    build_index(
        tmp_path / "bundle",
        dataset.path,
        tmp_path / "index",
        text_side=write_text_side,
        remark=told.append,
    )
    assert not [one for one in told if "torch" in one]
    quick, usual = (SearchEngine.open(tmp_path / "index", quick=choice) for choice in (True, False))
    for words in asked:
        hits, wanted = quick.search(words), usual.search(words)
        assert [hit.product_id for hit in hits] == [hit.product_id for hit in wanted]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in wanted], abs=1e-5)
