"""How do the two towers work as one model, and which words and photos does it turn into vectors how?

`DualEncoder` is the model that is trained and kept; `encode_texts` and `encode_products` are the one
path from words and photos to vectors, taken by validation, ranking, indexing and serving alike.
Knows no loss and no optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from shopwindow.data.dataset import Dataset
from shopwindow.model.packing import Lengths
from shopwindow.model.tokens import tokenize
from shopwindow.model.towers import PhotoTower, TextTower

Features = Literal["raw", "sqrt"]
TOKENS_AT_ONCE = 8192
"""Tokens of one forward pass when encoding: bounds the memory (about 100 MB at full width)."""


class DualEncoder(nn.Module):
    """Two towers whose vectors are compared by a dot product.

    `normalise`: vectors have length 1. `features`: "sqrt" feeds the photo tower the (signed) square roots
    of the region features. The scale multiplies scores in the loss only; it never changes a ranking.
    """

    def __init__(
        self,
        text: TextTower,
        photo: PhotoTower,
        *,
        normalise: bool = False,
        features: Features = "raw",
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        if text.size.hidden != photo.size.hidden:
            raise ValueError(f"the towers' vectors differ: {text.size.hidden} and {photo.size.hidden}")
        self.text = text
        self.photo = photo
        self.normalise = normalise
        self.features: Features = features
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    @property
    def dimensions(self) -> int:
        """Size of the vectors."""
        return self.text.size.hidden

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.log_scale.device

    def encode_text(
        self, tokens: Int64[Tensor, " tokens"], lengths: Lengths
    ) -> Float[Tensor, "sequences hidden"]:
        """The vectors of tokenised queries."""
        return self._finish(self.text(tokens, lengths))

    def encode_photo(
        self, regions: Float[Tensor, "tokens features"], lengths: Lengths
    ) -> Float[Tensor, "sequences hidden"]:
        """The vectors of photos from their region features (any float type)."""
        regions = regions.float()
        if self.features == "sqrt":
            regions = regions.sign() * regions.abs().sqrt()
        return self._finish(self.photo(regions, lengths))

    def _finish(self, vectors: Float[Tensor, "sequences hidden"]) -> Float[Tensor, "sequences hidden"]:
        return functional.normalize(vectors.float(), dim=-1) if self.normalise else vectors.float()


@torch.inference_mode()
def encode_texts(
    model: DualEncoder, tokenizer: Tokenizer, texts: list[str]
) -> Float32[np.ndarray, "texts hidden"]:
    """The vectors of queries, in their order; equal texts are encoded once."""
    out = np.empty((len(texts), model.dimensions), np.float32)
    if not texts:
        return out
    distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    tokens, lengths = tokenize(tokenizer, list(distinct), longest=model.text.longest)
    starts = (lengths.cumsum(0) - lengths).tolist()
    vectors = np.empty((len(distinct), model.dimensions), np.float32)
    with _at_rest(model):
        for rows in _by_length(lengths.numpy()):
            pieces = [tokens[starts[row] : starts[row] + int(lengths[row])] for row in rows]
            packed = torch.cat(pieces).to(model.device)
            vectors[rows] = model.encode_text(packed, lengths[rows]).cpu().numpy()
    out[:] = vectors[[distinct[text] for text in texts]]
    return out


@torch.inference_mode()
def encode_products(
    model: DualEncoder,
    dataset: Dataset,
    products: Int64[np.ndarray, " products"] | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Float32[np.ndarray, "products hidden"]:
    """The vectors of products (rows of the dataset; all of them when none are named), in their order.

    `progress` is called with products done and products in all.
    Raises: ValueError when the dataset's features have another size than the model's.
    """
    check_features(model, dataset)
    rows = np.arange(len(dataset.product_ids)) if products is None else products
    out = np.empty((len(rows), model.dimensions), np.float32)
    done = 0
    with _at_rest(model):
        for chosen in _by_length(dataset.region_counts[rows]):
            regions, lengths = dataset.regions(rows[chosen])
            out[chosen] = encode_regions(model, torch.from_numpy(regions), torch.from_numpy(lengths))
            done += len(chosen)
            if progress is not None:
                progress(done, len(rows))
    return out


@torch.inference_mode()
def encode_regions(
    model: DualEncoder, regions: Float[Tensor, "tokens features"], lengths: Lengths
) -> Float32[np.ndarray, "sequences hidden"]:
    """The vectors of photos whose regions lie end to end, in one forward pass."""
    with _at_rest(model):
        vectors: np.ndarray = model.encode_photo(regions.to(model.device), lengths).cpu().numpy()
    return vectors


def check_features(model: DualEncoder, dataset: Dataset) -> None:
    """Raises: ValueError when the dataset's features have another size than the model's."""
    if dataset.feature_size != model.photo.feature_size:
        raise ValueError(
            f"the dataset {dataset.path} has features of {dataset.feature_size} values,"
            f" the model takes {model.photo.feature_size}"
        )


class _at_rest:  # noqa: N801 - reads as a word after `with`
    """Dropout off while the block lasts."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def __enter__(self) -> None:
        self._was_training = self._model.training
        self._model.eval()

    def __exit__(self, *error: object) -> None:
        self._model.train(self._was_training)


def _by_length(lengths: Int64[np.ndarray, " sequences"]) -> Iterator[Int64[np.ndarray, " some"]]:
    """Rows in batches of at most TOKENS_AT_ONCE tokens (one sequence at least), similar lengths together."""
    order = np.argsort(lengths, kind="stable")
    ends = np.cumsum(lengths[order])
    start = 0
    while start < len(order):
        before = ends[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + TOKENS_AT_ONCE, side="right")))
        yield order[start:end]
        start = end
