"""Every other card that the program reads, with any value at all: it opens, or one line names the file.

Those of bundles, indexes and datasets are in tests/search/test_fuzz_cards.py.
"""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shopwindow.bounded import read_npz
from shopwindow.data.features import Features
from shopwindow.export.onnx import export_text
from shopwindow.files import DataError, whole_directory
from shopwindow.model.bundle import Bundle
from shopwindow.model.checkpoint import write_tower
from shopwindow.model.cross_bundle import MARKER, CrossBundle
from shopwindow.model.exported_text import ExportedText
from shopwindow.model.given import check_checkpoint
from shopwindow.model.state import BEST, LAST, CurveRow, TrainingState, read_best
from shopwindow.model.state import FORMAT as STATE
from shopwindow.model.tokens import train_tokenizer
from shopwindow.model.towers import EncoderSize, TextTower
from shopwindow.shop.stages import Stages
from shopwindow.vision.onnx_file import open_onnx_file
from shopwindow.vision.precomputed import take_vectors
from shopwindow.vision.shards import open_writer
from shopwindow.vision.sources import find_photos
from tests.model.test_cross import some_model
from tests.search.catalogue import WORDS, write_bundle
from tests.search.test_fuzz_cards import EXAMPLES, FUZZ, fuzz, opened_or_named
from tests.test_fuzz_readers import PIECES
from tests.vision.test_onnx_file import DESCRIPTION, GRID, save_graph

SIZE = EncoderSize(hidden=8, layers=1, heads=2, inner=8, dropout=0.0)


@dataclass(frozen=True)
class Card:
    """A card, and what opens the directory that it describes."""

    path: Path
    open_it: Callable[[], object]


def features(folder: Path) -> Card:
    np.savez(folder / "v.npz", ids=np.array(["A", "B"]), vectors=np.ones((2, 3), np.float32))
    take_vectors(folder / "v.npz", folder / "features")

    def open_it() -> None:
        opened = Features(folder / "features")
        opened.regions(np.array([0, 1]))
        assert opened.ids.tolist() == ["A", "B"]

    return Card(folder / "features" / "features.json", open_it)


def unfinished(folder: Path) -> Card:
    backbone = {"name": "precomputed", "values": 3, "probe": [], "fingerprint": "x"}

    def open_it() -> None:
        with open_writer(folder / "unfinished", backbone=backbone, detector=None):
            pass

    open_it()
    return Card(folder / "unfinished" / "features.json", open_it)


def cross(folder: Path) -> Card:
    with whole_directory(folder / "cross", marker=MARKER) as written:
        CrossBundle(some_model("oscar"), train_tokenizer([*WORDS], vocabulary=100)).save_into(written)
    return Card(folder / "cross" / MARKER, lambda: CrossBundle.load(folder / "cross").fingerprint)


def _make(path: Path) -> None:
    path.mkdir(exist_ok=True)


def shop(folder: Path) -> Card:
    Stages(folder / "shop").run("dataset", {"clicks": 1}, _make)
    return Card(
        folder / "shop" / "shop.json",
        lambda: Stages(folder / "shop").run("dataset", {"clicks": 1}, _make),
    )


def exported(folder: Path) -> Card:
    pytest.importorskip("onnxruntime")
    export_text(Bundle.load(write_bundle(folder / "bundle")), folder / "text")
    return Card(
        folder / "text" / "text.json", lambda: ExportedText.load(folder / "text").encode_texts(["red bag"])
    )


def checkpoint(folder: Path) -> Card:
    tokenizer = train_tokenizer([*WORDS], vocabulary=100)
    tower = TextTower(SIZE, vocabulary=tokenizer.get_vocab_size(), longest=8)
    write_tower(tower, tokenizer, folder / "tower")
    return Card(folder / "tower" / "config.json", lambda: check_checkpoint(folder / "tower"))


def state(folder: Path) -> Card:
    place = folder / "state" / LAST
    place.mkdir(parents=True)
    row = CurveRow(1, 0.5, 1.0, 1e-3, 0.5, 1.0, None, 0.5)
    card = {
        "format": STATE,
        "identity": {"recipe": "x"},
        "step": 1,
        "seconds": 1.0,
        "best": 0.5,
        "mined_at": None,
    }
    card |= {"losses": [0.5], "false_negatives": [1], "rows": [dataclasses.asdict(row)], "contaminations": []}
    (place / "state.json").write_text(json.dumps(card))
    return Card(place / "state.json", lambda: TrainingState.read(folder / "state", {"recipe": "x"}))


def best(folder: Path) -> Card:
    model = torch.nn.Linear(2, 2)
    from shopwindow.model.state import save_best

    save_best(folder / "kept", model, {"nDCG@5": 0.5})
    return Card(folder / "kept" / BEST / "state.json", lambda: read_best(folder / "kept", model))


CARDS = [features, unfinished, cross, shop, exported, checkpoint, state, best]


@pytest.fixture(scope="module", params=CARDS, ids=lambda make: make.__name__)
def card(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Card:
    made: Card = request.param(tmp_path_factory.mktemp(request.param.__name__))
    made.open_it()
    return made


def test_cards_with_any_value(card: Card) -> None:
    fuzz(card.path, card.open_it, named=card.path.parents[1])


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a": 1' + "0" * 5000 + "}", '{"format": ', "\0", "[]", "1", '"x"', ""]
)
def test_what_is_no_card_is_named(card: Card, text: str) -> None:
    whole = card.path.read_text()
    try:
        card.path.write_text(text)
        with pytest.raises(DataError, match=card.path.name):
            card.open_it()
    finally:
        card.path.write_text(whole)


def mutated(content: bytes, data: st.DataObject) -> bytes:
    """The content with up to five changes."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(0, 5))):
        place = data.draw(st.integers(0, len(changed)))
        end = data.draw(st.integers(place, min(place + 8, len(changed))))
        changed[place:end] = data.draw(st.binary(max_size=4) | st.sampled_from(PIECES))
    return bytes(changed)


@settings(FUZZ, max_examples=EXAMPLES)
@given(data=st.data())
def test_descriptions_of_onnx_files(tmp_path: Path, data: st.DataObject) -> None:
    save_graph(tmp_path / "tower.onnx", GRID, 4)
    path = tmp_path / "tower.yaml"
    path.write_bytes(mutated(DESCRIPTION.encode() + b"cells: true\npooling: mean\n", data))
    opened_or_named(lambda: open_onnx_file(path), path)


@settings(FUZZ, max_examples=EXAMPLES)
@given(data=st.data())
def test_npz_of_vectors(tmp_path: Path, data: st.DataObject) -> None:
    arrays: dict[str, Any] = {"ids": np.array(["A", "B"]), "vectors": np.ones((3, 2), np.float32)}
    arrays |= {"counts": np.array([1, 2]), "boxes": np.ones((3, 4))}
    name = data.draw(st.sampled_from(sorted(arrays)))
    odd: list[Any] = [
        np.array(1),
        np.array(["x", "y"]),
        np.zeros((0, 2)),
        np.array([1e400, np.nan]),
        np.array([-1, 4]),
    ]
    arrays[name] = data.draw(st.sampled_from([arrays[name], *odd]))
    np.savez(tmp_path / "whole.npz", **arrays)
    path = tmp_path / "v.npz"
    path.write_bytes(mutated((tmp_path / "whole.npz").read_bytes(), data))
    opened_or_named(lambda: take_vectors(path, tmp_path / "out", allow_unreadable=True), path)


def test_an_npz_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", vectors=np.zeros(2**24))
    with pytest.raises(DataError, match=r"bomb\.npz: unpacks to more than 200 times its size"):
        read_npz(tmp_path / "bomb.npz")


@settings(FUZZ, max_examples=EXAMPLES)
@given(data=st.data())
def test_texts_in_tars(tmp_path: Path, data: st.DataObject) -> None:
    texts = [b'{"title": "red mug", "price": 3, "ean": 9007199254740993}', b'{"price": 1e400}', b'{"a": [1]}']
    path = tmp_path / "shop.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in (("1.jpg", b"x"), ("1.json", mutated(data.draw(st.sampled_from(texts)), data))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    opened_or_named(lambda: find_photos(path), path)


def test_a_text_in_a_tar_is_bounded_and_its_codes_stay_text(tmp_path: Path) -> None:
    for name, content in (("big.tar", b" " * 2**21), ("ean.tar", b'{"ean": 9007199254740993, "price": 3}')):
        with tarfile.open(tmp_path / name, "w") as tar:
            for member, held in (("1.jpg", b"x"), ("1.json", content)):
                entry = tarfile.TarInfo(member)
                entry.size = len(held)
                tar.addfile(entry, io.BytesIO(held))
    with pytest.raises(DataError, match=r"big\.tar: 1\.json: 2,097,152 bytes of text"):
        find_photos(tmp_path / "big.tar")
    columns = find_photos(tmp_path / "ean.tar").products.columns
    assert columns.to_pydict() == {"ean": ["9007199254740993"], "price": [3.0]}
