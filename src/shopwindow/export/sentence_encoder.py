"""How does a tool that expects a sentence-transformers model take our text side?

Two ways: an object with that library's `encode`, over a bundle, for which the library itself is not needed; and the
module that the library makes of a bundle's directory (its `modules.json` names it):
`SentenceTransformer("bundle", trust_remote_code=True)`. That flag is the library's condition for any module that is not
its own; nothing is downloaded and no pickle is read. Knows no photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from shopwindow.model.bundle import Bundle
from shopwindow.model.encoder import spelled
from shopwindow.model.tokens import tokenize


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
        convert_to_tensor: bool = False,
    ) -> Float32[np.ndarray, "*texts kept"] | Tensor | list[Tensor]:
        """The vectors, in the order of the texts: as an array; as a tensor where `convert_to_tensor` is true; as a list
        of tensors where both are false.

        `truncate_dim` keeps so many leading values; `normalize_embeddings` then makes vectors of length 1.
        `show_progress_bar` changes nothing.

        Raises: ValueError for a batch size or truncate_dim below 1.
        """
        del show_progress_bar
        if batch_size < 1 or (truncate_dim is not None and truncate_dim < 1):
            raise ValueError(f"batch_size {batch_size}, truncate_dim {truncate_dim}: at least 1 is wanted")
        texts = [sentences] if isinstance(sentences, str) else list(sentences)
        pieces = [
            self._bundle.encode_texts(texts[at : at + batch_size]) for at in range(0, len(texts), batch_size)
        ]
        size = self._bundle.model.dimensions
        vectors = np.concatenate([np.empty((0, size), np.float32), *pieces])[:, :truncate_dim]
        if normalize_embeddings:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        found = vectors[0] if isinstance(sentences, str) else vectors
        if convert_to_tensor:
            return torch.from_numpy(found)
        if convert_to_numpy:
            return found
        return torch.from_numpy(found) if isinstance(sentences, str) else list(torch.from_numpy(found))


class TextModule(nn.Module):
    """A bundle's text side as the one module of a SentenceTransformer; made by `load`.

    Source: the interface of `sentence_transformers.base.modules.InputModule` of sentence-transformers 6, by the names
    of its methods: the library is not imported.
    """

    save_in_root = True
    modalities = ("text",)

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.model = bundle.model
        self.tokenizer = bundle.tokenizer
        self.max_seq_length = bundle.model.longest
        self._bundle = bundle

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **options: Any) -> TextModule:
        """The module of a bundle's directory. The other options of the library change nothing.

        Raises: DataError as `Bundle.load`.
        """
        del options
        return cls(Bundle.load(Path(model_name_or_path) / subfolder))

    def get_embedding_dimension(self) -> int:
        """Size of the vectors."""
        return self.model.dimensions

    def preprocess(self, inputs: list[Any], prompt: str | None = None, **options: Any) -> dict[str, Tensor]:
        """The tokens of texts, end to end, and how many each text has.

        Raises: ValueError for anything but texts.
        """
        del options
        if not all(isinstance(text, str) for text in inputs):
            raise ValueError("only texts can be encoded")
        texts = spelled(self.model, self.tokenizer, [(prompt or "") + text for text in inputs])
        tokens, lengths = tokenize(self.tokenizer, texts, longest=self.model.longest)
        return {"tokens": tokens, "lengths": lengths}

    def forward(self, features: dict[str, Tensor], **options: Any) -> dict[str, Tensor]:
        """The same with `sentence_embedding`."""
        del options
        vectors = self.model.encode_text(features["tokens"], features["lengths"].cpu())
        return {**features, "sentence_embedding": vectors}

    def save(self, output_path: str, **options: Any) -> None:
        """Writes the bundle, with the weights as they are now, into a folder."""
        del options
        self._bundle.save_into(Path(output_path))
