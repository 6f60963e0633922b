"""The sentence encoder gives the bundle's vectors in the shapes that sentence-transformers gives."""

from __future__ import annotations

import numpy as np
import pytest

from shopwindow.model.bundle import Bundle
from shopwindow.model.sentence_encoder import SentenceEncoder
from tests.search.conftest import Shop


def test_vectors_are_those_of_the_bundle(shop: Shop) -> None:
    encoder = SentenceEncoder.load(shop.bundle)
    texts = ["red shoe", "lamp", "red shoe", ""]
    wanted = Bundle.load(shop.bundle).encode_queries(texts)
    # other batches round otherwise in the last bits
    np.testing.assert_allclose(encoder.encode(texts, batch_size=3), wanted, atol=1e-6)
    np.testing.assert_allclose(encoder.encode("lamp"), wanted[1], atol=1e-6)
    assert encoder.encode("lamp").shape == (encoder.get_sentence_embedding_dimension(),)
    assert encoder.encode([]).shape == (0, 32)
    assert encoder.max_seq_length == 32


def test_leading_values_of_length_one(shop: Shop) -> None:
    encoder = SentenceEncoder.load(shop.bundle)
    whole = encoder.encode(["red"])
    np.testing.assert_array_equal(encoder.encode(["red"], truncate_dim=8), whole[:, :8])
    short = encoder.encode(["red"], truncate_dim=8, normalize_embeddings=True)
    np.testing.assert_allclose(short, whole[:, :8] / np.linalg.norm(whole[:, :8]), atol=1e-6)


def test_what_it_cannot_give_is_refused(shop: Shop) -> None:
    encoder = SentenceEncoder.load(shop.bundle)
    with pytest.raises(ValueError, match="only numpy"):
        encoder.encode("red", convert_to_numpy=False)
    for wrong in ({"batch_size": 0}, {"truncate_dim": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            encoder.encode("red", **wrong)  # type: ignore[arg-type] # of a loop
