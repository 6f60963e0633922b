"""Which numbers stand for the words of a query?

BERT's WordPiece, cased: trained on the training queries, or any vocabulary or tokenizer file. Knows
queries, no photos and no tower.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Int64
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from shopwindow.files import DataError, text_lines

SPECIAL_TOKENS: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TOKENIZER_FILE: Final = "tokenizer.json"


def train_tokenizer(texts: Iterable[str], *, vocabulary: int, smallest_count: int = 1) -> Tokenizer:
    """A cased WordPiece tokenizer of at most `vocabulary` pieces, learned from texts.

    The texts are sorted first, so that their order does not matter. Pieces seen less than
    `smallest_count` times are left out.
    """
    tokenizer = Tokenizer(models.WordPiece({}, unk_token="[UNK]"))
    _dress(tokenizer)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        min_frequency=smallest_count,
        special_tokens=list(SPECIAL_TOKENS),
        continuing_subword_prefix="##",
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(texts), trainer)
    _frame(tokenizer)
    return tokenizer


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`, a `vocab.txt`, or a directory that holds one of them.

    Raises: DataError where there is none, or it is broken, or lacks [CLS], [SEP] or [UNK].
    """
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in (TOKENIZER_FILE, "vocab.txt") if (path / name).is_file()]
        if not found:
            raise DataError(f"holds neither {TOKENIZER_FILE} nor vocab.txt", path=path)
        path = found[0]
    if not path.is_file():
        raise DataError("no such tokenizer or vocabulary file", path=path)
    if path.suffix == ".json":
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for every broken file
            raise DataError(f"no tokenizer file: {error}", path=path) from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
    else:
        tokenizer = _from_vocabulary(path)
    for token in SPECIAL_TOKENS[1:4]:
        if tokenizer.token_to_id(token) is None:
            raise DataError(f"the vocabulary has no {token}", path=path)
    return tokenizer


def tokenize(
    tokenizer: Tokenizer, texts: list[str], *, longest: int
) -> tuple[Int64[Tensor, " tokens"], Int64[Tensor, " texts"]]:
    """The tokens of the texts end to end with [CLS] and [SEP], and how many each has, at most `longest`.

    A text that is longer keeps its first `longest` - 1 tokens and its [SEP].
    """
    rows = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    rows = [ids if len(ids) <= longest else [*ids[: longest - 1], ids[-1]] for ids in rows]
    flat = [token for ids in rows for token in ids]
    return torch.tensor(flat, dtype=torch.int64), torch.tensor([len(ids) for ids in rows], dtype=torch.int64)


def _from_vocabulary(path: Path) -> Tokenizer:
    vocabulary = {line: number - 1 for number, line in text_lines(path) if line}
    if "[UNK]" not in vocabulary:
        raise DataError("the vocabulary has no [UNK]", path=path)
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    _dress(tokenizer)
    _frame(tokenizer)
    return tokenizer


def _dress(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()


def _frame(tokenizer: Tokenizer) -> None:
    """Puts [CLS] before and [SEP] after every text."""
    known = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    special = [(token, number) for token, number in known if number is not None]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
