"""Which numbers stand for the words of a query?

BERT's WordPiece, cased: trained on the training queries, or of a file (`tokenizer_files.py`). Knows queries, no photos
and no tower.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import torch
from jaxtyping import Int64
from tokenizers import Tokenizer, trainers
from torch import Tensor

from shopwindow.data.queries import composed
from shopwindow.model.tokenizer_files import SPECIAL_TOKENS, framed, word_pieces

TEXTS_AT_ONCE: Final = 10_000
"""Tokenised in one call: the library's encodings are large."""


def train_tokenizer(
    texts: Iterable[str],
    *,
    vocabulary: int,
    smallest_count: int = 1,
) -> Tokenizer:
    """A cased tokenizer of at most `vocabulary` pieces, learned from texts.

    Equal texts in any order give equal tokenizers. Pieces seen less than `smallest_count` times are left out.
    """
    texts = sorted(map(composed, texts))
    learner = word_pieces({})
    # The library numbers the continuing letters in the order of a hash map, which differs from run to run, and
    # its ties follow these numbers. Given as special tokens the letters are numbered first, in their own order.
    letters = sorted({letter for text in texts for letter in learner.normalizer.normalize_str(text)} - {" "})
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        min_frequency=smallest_count,
        special_tokens=[*SPECIAL_TOKENS, *(f"##{letter}" for letter in letters)],
        continuing_subword_prefix="##",
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    return framed(word_pieces(learner.get_vocab()))


def tokenize(
    tokenizer: Tokenizer, texts: list[str], *, longest: int
) -> tuple[Int64[Tensor, " tokens"], Int64[Tensor, " texts"]]:
    """The tokens of the texts end to end with [CLS] and [SEP], and how many each has, at most `longest`.

    A text that is longer keeps its first `longest` - 1 tokens and its [SEP].
    """
    pieces, lengths = [np.empty(0, np.int64)], np.empty(len(texts), np.int64)
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        some = [composed(text) for text in texts[start : start + TEXTS_AT_ONCE]]
        rows = [encoding.ids for encoding in tokenizer.encode_batch(some)]
        rows = [ids if len(ids) <= longest else [*ids[: longest - 1], ids[-1]] for ids in rows]
        lengths[start : start + len(rows)] = [len(ids) for ids in rows]
        pieces.append(np.array([token for ids in rows for token in ids], np.int64))
    return torch.from_numpy(np.concatenate(pieces)), torch.from_numpy(lengths)
