"""How does a tool that expects a sentence-transformers model take our text tower?

An object with that library's `encode`, over a bundle; the library itself is not needed. Knows no photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from shopwindow.model.bundle import Bundle


class SentenceEncoder:
    """The text tower of a bundle as a sentence encoder: `encode` of one text is a vector, of several a matrix.

    Source: the signature of `SentenceTransformer.encode` of sentence-transformers 5.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    @classmethod
    def load(cls, path: str | Path) -> SentenceEncoder:
        """The encoder of a bundle on disk. Raises: DataError as `Bundle.load`."""
        return cls(Bundle.load(path))

    @property
    def max_seq_length(self) -> int:
        """How many tokens of a text are read, [CLS] and [SEP] among them."""
        return self._bundle.model.longest

    def get_sentence_embedding_dimension(self) -> int:
        """Size of the vectors."""
        return self._bundle.model.dimensions

    def encode(
        self,
        sentences: str | Sequence[str],
        *,
        batch_size: int = 256,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
    ) -> Float32[np.ndarray, "*texts kept"]:
        """The vectors, in the order of the texts.

        `truncate_dim` keeps so many leading values; `normalize_embeddings` then makes vectors of length 1.
        `show_progress_bar` changes nothing.

        Raises: ValueError for convert_to_numpy=False, a batch size or truncate_dim below 1.
        """
        del show_progress_bar
        if not convert_to_numpy:
            raise ValueError("only numpy arrays are given: leave convert_to_numpy True")
        if batch_size < 1 or (truncate_dim is not None and truncate_dim < 1):
            raise ValueError(f"batch_size {batch_size}, truncate_dim {truncate_dim}: at least 1 is wanted")
        texts = [sentences] if isinstance(sentences, str) else list(sentences)
        pieces = [
            self._bundle.encode_queries(texts[at : at + batch_size])
            for at in range(0, len(texts), batch_size)
        ]
        size = self._bundle.model.dimensions
        vectors = np.concatenate([np.empty((0, size), np.float32), *pieces])[:, :truncate_dim]
        if normalize_embeddings:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors[0] if isinstance(sentences, str) else vectors
