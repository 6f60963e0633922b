"""Which words a model knows: by towers those with a piece in the vocabulary, by bags those with a name."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from shopwindow.model.bundle import Bundle
from shopwindow.model.encoder import Part, PartsEncoder, Side
from shopwindow.model.tokens import train_tokenizer
from shopwindow.model.towers import EncoderSize, TextTower
from tests.model.parts import mean_view, named_bag

TOKENIZER = train_tokenizer(["red shoe", "blue bag"], vocabulary=60)
SIZE = EncoderSize(hidden=8, layers=1, heads=2, inner=8, dropout=0.0)


def bundle_of(*, tower: bool, bag: bool) -> Bundle:
    """A bundle whose bag knows all pieces of "red" and "shoe", and no others."""
    keys = sorted({token for one in TOKENIZER.encode_batch(["red", "shoe"]) for token in one.ids[1:-1]})
    names, words = named_bag(keys, 8, pairs=False)
    size = TOKENIZER.get_vocab_size()
    text: list[nn.Module] = [words] if bag else []
    text += [TextTower(SIZE, vocabulary=size, longest=16)] if tower else []
    model = PartsEncoder(
        [Part(8, Side(*text), Side(mean_view(8, 4)))],
        feature_size=4,
        vocabulary=size,
        longest=16,
        names=names if bag else None,
        query_rules=("lower", "punctuation", "spaces"),
    )
    return Bundle(model.eval(), TOKENIZER)


@pytest.mark.parametrize(
    ("tower", "bag", "wanted"),
    [
        (True, False, [True, True, True, False, False]),
        (True, True, [True, True, True, False, False]),
        (False, True, [True, True, False, False, False]),
    ],
)
def test_known_are_words_with_a_piece_that_says_something(tower: bool, bag: bool, wanted: list[bool]) -> None:
    bundle = bundle_of(tower=tower, bag=bag)
    words = ["red", "SHOE!", "bag", "λέξη", "?"]
    assert bundle.knows(words) == wanted
    assert bundle.knows([]) == []
    vectors = bundle.encode_texts(words)
    if not tower:  # to a bag alone an unknown word is nothing
        assert (np.abs(vectors).max(axis=1) > 0).tolist() == wanted
    # all unknown words look alike; another batch rounds otherwise in the last bits
    np.testing.assert_allclose(vectors[3], bundle.encode_texts(["άλλη"])[0], atol=1e-6)
