"""Queries become the tokens that BERT would make of them."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from shopwindow.files import DataError
from shopwindow.model.tokenizer_files import load_tokenizer
from shopwindow.model.tokens import tokenize, train_tokenizer

TEXTS = ["red striped canvas bag", "red shoe", "Red shoes for women", "wooden lamp, 2 pieces", "b&w lamp"]
VOCABULARY = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nred\nRed\nshoe\n##s\n,\n"


def test_training_texts_come_back_whole_between_cls_and_sep() -> None:
    tokenizer = train_tokenizer(TEXTS, vocabulary=500)
    tokens = tokenizer.encode("red striped canvas bag").tokens
    assert tokens == ["[CLS]", "red", "striped", "canvas", "bag", "[SEP]"]
    assert tokenizer.encode("Red").ids != tokenizer.encode("red").ids


def test_the_order_of_the_training_texts_does_not_matter() -> None:
    assert (
        train_tokenizer(TEXTS, vocabulary=80).to_str() == train_tokenizer(TEXTS[::-1], vocabulary=80).to_str()
    )


def test_vocabulary_file_gives_transformers_tokens(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text(VOCABULARY)
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertTokenizer(vocab=str(tmp_path / "vocab.txt"), do_lower_case=False)
    ours = load_tokenizer(tmp_path / "vocab.txt")
    for text in ("Red shoes, red", "unknown shoe", "", "réd  shoe\t"):
        assert ours.encode(text).ids == theirs(text)["input_ids"]


def test_saved_tokenizer_comes_back(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, vocabulary=100)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).encode(TEXTS[0]).ids == tokenizer.encode(TEXTS[0]).ids


def test_long_queries_are_cut_and_keep_their_sep() -> None:
    tokenizer = train_tokenizer(TEXTS, vocabulary=500)
    tokens, lengths = tokenize(tokenizer, ["red red red red red", "red"], longest=4)
    separator = tokenizer.token_to_id("[SEP]")
    assert lengths.tolist() == [4, 3]
    assert tokens[3] == separator
    assert tokens[6] == separator


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("tokenizer.json", "{", "no tokenizer file"),
        ("tokenizer.json", "{}", "no tokenizer file"),
        ("vocab.txt", "red\nshoe\n", r"has no \[UNK\]"),
        ("vocab.txt", "[UNK]\n[SEP]\nred\n", r"has no \[CLS\]"),
    ],
)
def test_broken_tokenizer_files_are_named(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=says) as caught:
        load_tokenizer(tmp_path / name)
    assert name in str(caught.value)


def test_a_directory_without_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds neither"):
        load_tokenizer(tmp_path)
    with pytest.raises(DataError, match="no such tokenizer"):
        load_tokenizer(tmp_path / "absent.json")


def test_a_tokenizer_without_cls_and_sep_around_texts_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    train_tokenizer(TEXTS, vocabulary=60).save(str(path))
    path.write_text(json.dumps({**json.loads(path.read_text()), "post_processor": None}))
    with pytest.raises(
        DataError, match=r"tokenizer\.json: an empty text is \[\], wanted \[CLS\] and \[SEP\]"
    ):
        load_tokenizer(path)


def test_a_decomposed_text_has_the_tokens_of_the_composed_one() -> None:
    text = "crêpe Ångström đẹp กระเป๋า साड़ी"
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert composed != decomposed
    tokenizer = train_tokenizer([decomposed], vocabulary=200)
    assert tokenizer.to_str() == train_tokenizer([composed], vocabulary=200).to_str()
    tokens, lengths = tokenize(tokenizer, [composed, decomposed], longest=99)
    assert lengths[0] == lengths[1]
    assert tokens[: lengths[0]].tolist() == tokens[lengths[0] :].tolist()
    assert tokenizer.token_to_id("[UNK]") not in tokens
