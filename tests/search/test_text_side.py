"""An engine whose words are encoded by the exported text side finds what the bundle finds, and takes no other's."""

from __future__ import annotations

from pathlib import Path

import pytest

from shopwindow.cli import main
from shopwindow.files import DataError
from shopwindow.model.exported_text import ExportedText
from shopwindow.search.engine import SearchEngine
from tests.search.catalogue import write_bundle
from tests.search.conftest import Shop


@pytest.fixture
def text_side(shop: Shop, tmp_path: Path) -> ExportedText:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    main(["export", "onnx", str(shop.bundle), "--out", str(tmp_path / "text")])
    return ExportedText.load(tmp_path / "text")


def test_hits_are_those_of_the_bundle(shop: Shop, engine: SearchEngine, text_side: ExportedText) -> None:
    other = SearchEngine.open(shop.index, text=text_side)
    queries = ["red shoe", "small summer lamp", "\ud800 bag"]
    for words, many in zip(queries, other.search_many(queries, k=10), strict=True):
        wanted, found = engine.search(words, k=10), other.search(words, k=10)
        assert [hit.product_id for hit in found] == [hit.product_id for hit in wanted]
        assert [hit.product_id for hit in many] == [hit.product_id for hit in wanted]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in wanted], abs=1e-5)
        assert [hit.score for hit in found] != [hit.score for hit in wanted]  # it did encode them
    assert other.explain("red shoe", 7) == engine.explain("red shoe", 7)


@pytest.mark.usefixtures("text_side")
def test_the_text_side_of_another_model_is_refused(shop: Shop, tmp_path: Path) -> None:
    foreign = write_bundle(tmp_path / "foreign", seed=1)
    main(["export", "onnx", str(foreign), "--out", str(tmp_path / "other")])
    with pytest.raises(DataError, match="of another model"):
        SearchEngine.open(shop.index, text=ExportedText.load(tmp_path / "other"))
