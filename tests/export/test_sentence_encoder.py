"""The sentence encoder gives the bundle's vectors in the shapes that sentence-transformers gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from shopwindow.export.sentence_encoder import SentenceEncoder, TextModule
from shopwindow.model.bundle import Bundle
from tests.search.conftest import Shop


def test_vectors_are_those_of_the_bundle(shop: Shop) -> None:
    encoder = SentenceEncoder.load(shop.bundle)
    texts = ["red shoe", "lamp", "red shoe", ""]
    wanted = Bundle.load(shop.bundle).encode_texts(texts)
    # other batches round otherwise in the last bits
    np.testing.assert_allclose(encoder.encode(texts, batch_size=3), wanted, atol=1e-6)
    np.testing.assert_allclose(encoder.encode("lamp"), wanted[1], atol=1e-6)
    assert np.shape(encoder.encode("lamp")) == (encoder.get_sentence_embedding_dimension(),)
    assert np.shape(encoder.encode([])) == (0, 32)
    assert encoder.max_seq_length == 32


def test_leading_values_of_length_one(shop: Shop) -> None:
    encoder = SentenceEncoder.load(shop.bundle)
    whole = np.asarray(encoder.encode(["red"]))
    np.testing.assert_array_equal(encoder.encode(["red"], truncate_dim=8), whole[:, :8])
    short = encoder.encode(["red"], truncate_dim=8, normalize_embeddings=True)
    np.testing.assert_allclose(short, whole[:, :8] / np.linalg.norm(whole[:, :8]), atol=1e-6)


def test_tensors_where_they_are_wanted(shop: Shop) -> None:
    encoder = SentenceEncoder.load(shop.bundle)
    texts = ["red shoe", "lamp"]
    wanted = torch.from_numpy(np.asarray(encoder.encode(texts)))
    whole = encoder.encode(texts, convert_to_tensor=True)
    assert isinstance(whole, torch.Tensor)
    assert torch.equal(whole, wanted)
    rows = encoder.encode(texts, convert_to_numpy=False)
    assert isinstance(rows, list)
    assert all(torch.equal(row, other) for row, other in zip(rows, wanted, strict=True))
    one = encoder.encode("lamp", convert_to_numpy=False)
    assert isinstance(one, torch.Tensor)
    assert one.shape == (32,)


def test_a_batch_of_nothing_is_refused(shop: Shop) -> None:
    encoder = SentenceEncoder.load(shop.bundle)
    for wrong in ({"batch_size": 0}, {"truncate_dim": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            encoder.encode("red", **wrong)  # type: ignore[arg-type] # of a loop


def test_the_module_gives_the_vectors_of_its_bundle(shop: Shop, tmp_path: Path) -> None:
    """As the library calls it, without the library."""
    named = json.loads((shop.bundle / "modules.json").read_text())
    assert [one["type"] for one in named] == [f"{TextModule.__module__}.{TextModule.__name__}"]
    module = TextModule.load(str(shop.bundle), subfolder=named[0]["path"], token=None, backend="torch").eval()
    texts = ["red shoe", "lamp", ""]
    with torch.no_grad():
        found = module(module.preprocess(texts, prompt=None))["sentence_embedding"].numpy()
        prompted = module(module.preprocess(["shoe"], prompt="red "))["sentence_embedding"].numpy()
    np.testing.assert_allclose(found, Bundle.load(shop.bundle).encode_texts(texts), atol=1e-6)
    np.testing.assert_allclose(prompted[0], found[0], atol=1e-6)
    assert module.get_embedding_dimension() == found.shape[1]
    module.save(str(tmp_path), safe_serialization=True)
    again = Bundle.load(tmp_path)
    assert np.array_equal(
        again.encode_texts(texts),
        Bundle(module.model, module.tokenizer).encode_texts(texts),
    )
    with pytest.raises(ValueError, match="only texts"):
        module.preprocess([("a", "pair")])


def test_the_library_opens_a_bundle(shop: Shop) -> None:
    library = pytest.importorskip("sentence_transformers")
    model = library.SentenceTransformer(str(shop.bundle), trust_remote_code=True, device="cpu")
    texts = ["red shoe", "lamp", "red shoe", ""]
    found = model.encode(texts, batch_size=2)
    np.testing.assert_allclose(found, Bundle.load(shop.bundle).encode_texts(texts), atol=1e-6)
    assert model.get_embedding_dimension() == found.shape[1]
