"""The text tower of CLIP and SigLIP as ONNX, against the library that it came from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shopwindow.export.text_tower import export_tower
from shopwindow.files import DataError
from shopwindow.model.exported_tower import TOWER, TOWER_GRAPH, ExportedTower
from shopwindow.model.pretrained import TextEncoder
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
