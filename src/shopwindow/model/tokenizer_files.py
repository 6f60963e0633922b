"""Which tokenizer does a file hold? WordPiece as BERT spells it, from any `tokenizer.json` or `vocab.txt`.

Imports no torch, so that a wrong file is refused at once. Knows no training and no model.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int64
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from shopwindow.files import DataError, check_ordinary, text_lines

TOKENIZER_FILE: Final = "tokenizer.json"
VOCABULARY_FILE: Final = "vocab.txt"
SPECIAL_TOKENS: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
NEEDED_TOKENS: Final = ("[UNK]", "[CLS]", "[SEP]")
_WORD: Final = re.compile(r"\S+")


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`, a `vocab.txt`, or a directory that holds one of them.

    Raises: DataError where there is none, or it is broken, lacks [CLS], [SEP] or [UNK], or does not put the first two
    around a text.
    """
    path = tokenizer_file(path)
    check_ordinary(path)
    if path.suffix == ".json":
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for every broken file
            raise DataError(f"no tokenizer file: {error}", path=path) from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
    else:
        tokenizer = _from_vocabulary(path)
    _check_special(tokenizer.token_to_id, path)
    if (empty := tokenizer.encode("").tokens) != ["[CLS]", "[SEP]"]:
        raise DataError(
            f"an empty text is {empty}, wanted [CLS] and [SEP]: no BERT post-processor", path=path
        )
    return tokenizer


def tokenizer_file(given: str | Path) -> Path:
    """A tokenizer.json or vocabulary file: the path itself, or, of a directory, the one in it.

    Raises: DataError where there is none.
    """
    path = Path(given)
    if path.is_dir():
        files = [path / name for name in (TOKENIZER_FILE, VOCABULARY_FILE) if (path / name).is_file()]
        if not files:
            raise DataError(f"holds neither {TOKENIZER_FILE} nor {VOCABULARY_FILE}", path=path)
        return files[0]
    if not path.is_file():
        raise DataError("no such tokenizer or vocabulary file", path=path)
    return path


def _from_vocabulary(path: Path) -> Tokenizer:
    vocabulary = {line: number - 1 for number, line in text_lines(path) if line}
    _check_special(vocabulary.get, path)
    return framed(word_pieces(vocabulary))


def _check_special(number_of: Callable[[str], int | None], path: Path) -> None:
    for token in NEEDED_TOKENS:
        if number_of(token) is None:
            raise DataError(f"the vocabulary has no {token}", path=path)


def word_pieces(vocabulary: dict[str, int]) -> Tokenizer:
    """A cased tokenizer of these pieces and their numbers, without [CLS] and [SEP]."""
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def framed(tokenizer: Tokenizer) -> Tokenizer:
    """The same with [CLS] before and [SEP] after every text."""
    special = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    return tokenizer


def known_pieces(tokenizer: Tokenizer, tokens: list[Int64[np.ndarray, " _"]]) -> list[list[int]]:
    """The tokens of texts that stand for something: neither [UNK] nor another special one."""
    special = {tokenizer.token_to_id(name) for name in SPECIAL_TOKENS}
    return [[token for token in row.tolist() if token not in special] for row in tokens]


def in_known_case(tokenizer: Tokenizer, texts: list[str]) -> list[str]:
    """The texts; a word with capitals is in small letters where the tokenizer then needs fewer pieces for it.

    So `Round` is read as `round` where nothing with a capital was learned, and as typed where `Round` was.
    """
    words = sorted({word for text in texts for word in _WORD.findall(text) if word != word.lower()})
    small = [word.lower() for word in words]
    pieces = [_piece_count(row.ids, tokenizer) for row in tokenizer.encode_batch([*words, *small])]
    better = {
        word: lower
        for word, lower, as_typed, as_lower in zip(
            words, small, pieces[: len(words)], pieces[len(words) :], strict=True
        )
        if as_lower < as_typed and len(lower) == len(word)
    }
    if not better:
        return texts
    return [_WORD.sub(lambda word: better.get(word[0], word[0]), text) for text in texts]


def _piece_count(token_ids: list[int], tokenizer: Tokenizer) -> float:
    return float("inf") if tokenizer.token_to_id("[UNK]") in token_ids else float(len(token_ids))
