"""The exported text side gives the bundle's vectors, whatever kind of model it is, padded or alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shopwindow.cli import main
from shopwindow.files import DataError
from shopwindow.model import bags
from shopwindow.model.exported_text import ExportedText, names_of
from tests.model.conftest import TinyShop
from tests.model.test_bundle_parts import KINDS, made

needs_onnx = pytest.mark.usefixtures("onnx")
TEXTS = ["red shoe", "Red, Shoes!", "lamp", "black bag", "zebra 😀", "", "red " * 40, "blue lamp red bag"]


@pytest.fixture
def onnx() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")


def written(
    shop: TinyShop, folder: Path, kind: str, *, int8: bool = False
) -> tuple[np.ndarray, ExportedText]:
    from shopwindow.export.onnx import export_text

    bundle = made(shop, kind)
    export_text(bundle, folder / "text", int8=int8)
    return bundle.encode_texts(TEXTS), ExportedText.load(folder / "text")


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    known = lengths > 0
    return np.asarray((one * other).sum(axis=1)[known] / lengths[known])


@needs_onnx
@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_of_the_bundle(tiny_shop: TinyShop, tmp_path: Path, kind: str) -> None:
    wanted, text = written(tiny_shop, tmp_path, kind)
    found = text.encode_texts(TEXTS)
    np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=0)
    assert cosines(found, wanted).min() >= 0.99999
    alone = np.concatenate([text.encode_texts([one]) for one in TEXTS])
    np.testing.assert_allclose(alone, found, atol=1e-5, rtol=0)  # padded or not
    assert text.encode_texts([]).shape == (0, 16)


@needs_onnx
@pytest.mark.parametrize("kind", KINDS)
def test_int8_vectors_point_the_same_way(tiny_shop: TinyShop, tmp_path: Path, kind: str) -> None:
    wanted, text = written(tiny_shop, tmp_path, kind, int8=True)
    found = text.encode_texts(TEXTS)
    assert cosines(found, wanted).min() >= 0.99
    assert not np.array_equal(found, wanted)


@needs_onnx
def test_words_become_vectors_without_torch(tiny_shop: TinyShop, tmp_path: Path) -> None:
    wanted, _ = written(tiny_shop, tmp_path, "bag and bert")
    code = (
        "import sys; from shopwindow.model.exported_text import ExportedText; import json;"
        f"print(json.dumps(ExportedText.load({str(tmp_path / 'text')!r}).encode_texts(['lamp']).tolist()));"
        "assert 'torch' not in sys.modules"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    np.testing.assert_allclose(json.loads(said)[0], wanted[2], atol=1e-5)


@needs_onnx
def test_the_verb_writes_what_can_be_opened_and_says_how_near_it_is(
    tiny_shop: TinyShop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = made(tiny_shop, "late bag")
    (tmp_path / "bundle").mkdir()
    bundle.save_into(tmp_path / "bundle")
    main(["export", "onnx", str(tmp_path / "bundle"), "--out", str(tmp_path / "text"), "--int8"])
    says = re.search(r"1 - cosine over (\d+) texts: at most (\S+), mean (\S+)", capsys.readouterr().out)
    assert says is not None
    assert 0 < int(says[1]) <= 256
    assert 1e-6 < float(says[3]) < float(says[2]) < 0.01
    card = json.loads((tmp_path / "text" / "text.json").read_text())
    assert (card["precision"], card["bag"]) == ("int8", {"pairs": True})
    assert ExportedText.load(tmp_path / "text").encode_texts(["lamp"]).shape == (1, 16)


@needs_onnx
def test_vectors_too_far_off_are_refused_and_nothing_is_written(
    tiny_shop: TinyShop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shopwindow.export import onnx as onnx_export

    bundle = made(tiny_shop, "bert")
    near = onnx_export.export_text(bundle, tmp_path / "text")
    assert (near.texts, near.worst < 1e-6) == (256, True)
    before = (tmp_path / "text" / "text.onnx").read_bytes()
    monkeypatch.setitem(onnx_export.ALLOWED, "int8", 1e-9)
    with pytest.raises(ValueError, match=r"int8: the vector of a text is .* off .* at most 1e-09 is allowed"):
        onnx_export.export_text(bundle, tmp_path / "text", int8=True)
    assert (tmp_path / "text" / "text.onnx").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


@needs_onnx
def test_how_far_apart_vectors_point() -> None:
    from shopwindow.export.onnx import Apart, how_far_apart

    wanted = np.array([[3, 4], [1, 0], [0, 0], [0, 2], [5, 0]], np.float32)
    found = np.array([[6, 8], [0, 1], [0, 0], [0, -1], [0, 0]], np.float32)
    assert how_far_apart(found, wanted) == Apart(worst=2.0, mean=(0 + 1 + 2 + 1) / 4, texts=4)
    assert how_far_apart(found[2:3], wanted[2:3]) == Apart(0.0, 0.0, 0)


@needs_onnx
def test_broken_directories_are_told(tiny_shop: TinyShop, tmp_path: Path) -> None:
    written(tiny_shop, tmp_path, "two views")
    for name in ("keys.npy", "text.onnx", "tokenizer.json", "text.json"):
        before = (tmp_path / "text" / name).read_bytes()
        (tmp_path / "text" / name).write_bytes(b"{}")
        with pytest.raises(DataError, match=name):
            ExportedText.load(tmp_path / "text")
        (tmp_path / "text" / name).write_bytes(before)
    assert ExportedText.load(tmp_path / "text").encode_texts(["lamp"]).shape == (1, 16)
    with pytest.raises(DataError, match="no exported text side"):
        ExportedText.load(tmp_path)


@given(st.lists(st.integers(0, 2**24 - 2), min_size=1, max_size=12), st.booleans())
def test_names_are_numbered_as_the_bag_numbers_them(tokens: list[int], pairs: bool) -> None:
    wanted, _ = bags.names_of(torch.tensor(tokens), torch.tensor([len(tokens)]), pairs=pairs)
    assert names_of(np.array(tokens), pairs=pairs).tolist() == wanted.tolist()
