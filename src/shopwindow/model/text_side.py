"""What must a model be able to do with words, whatever computes it?

A `Bundle` does it with torch, an `ExportedText` with onnxruntime. Knows neither, and no photo.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64


@dataclass(frozen=True)
class Query:
    """A text as the model reads it: its tokens, [CLS] first and [SEP] last, and the vector made of them."""

    text: str
    tokens: Int64[np.ndarray, " tokens"]
    vector: Float32[np.ndarray, " dimensions"]


@runtime_checkable
class TextSide(Protocol):
    """The half of a model that reads words."""

    @property
    def longest(self) -> int:
        """The most tokens of a text."""

    def tokenise(self, texts: list[str]) -> list[Int64[np.ndarray, " _"]]:
        """The tokens of each text."""

    def encode_tokens(
        self, tokens: list[Int64[np.ndarray, " _"]], texts: list[str] | None = None
    ) -> Float32[np.ndarray, "texts dimensions"]:
        """The vectors of texts from their tokens. `texts`: the same as typed, where a pretrained part reads them."""

    def knows(self, words: list[str]) -> list[bool]:
        """Of which words the model has learned something."""

    def reads(self, tokens: Int64[np.ndarray, " tokens"]) -> bool:
        """Whether any token of a text stands for something."""


def as_texts(texts: object) -> list[str]:
    """A list of texts from one text, or from several: a list, an array, a column of a table.

    Raises: TypeError for anything else, or something among them that is no text.

    >>> as_texts("red lamp")
    ['red lamp']
    """
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, bytes | os.PathLike | Mapping) or not isinstance(texts, Iterable):
        raise TypeError(f"texts: {_kind(texts)}; wanted a text or a list of texts")
    several = list(texts)
    for place, text in enumerate(several):
        if not isinstance(text, str):
            raise TypeError(f"texts: {_kind(text)} at place {place}; wanted a text")
    return several


def _kind(given: object) -> str:
    name = type(given).__name__
    return "None" if given is None else f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"
