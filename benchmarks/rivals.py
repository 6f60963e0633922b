"""What do others compute where we pack? The same two towers padded, and the floor under any of them.

`PaddedPair` is the seed's method written anew: queries padded to 30 tokens, photos to 40 regions, a mask, every token
through every layer. `TransformersPair` is `transformers`' BertModel, padded to the longest of the batch. `operations`
counts what packing leaves to compute; divided by the measured rate of a matrix product it is the floor.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from made import FEATURES, LONGEST_QUERY, MOST_REGIONS, photo_lengths, query_lengths
from shopwindow.data.regions import Regions
from shopwindow.model.towers import EncoderSize, PhotoTower, TextTower

VOCABULARY: Final = 28_996
SEED: Final = EncoderSize()
"""The seed's towers: 4 layers of 768, 12 heads, 3072 inner, dropout 0.1."""


@dataclass(frozen=True)
class Batch:
    """Pairs, packed: tokens and regions end to end, float16 regions as they lie on disk."""

    tokens: Tensor
    token_lengths: Tensor
    regions: Tensor
    region_lengths: Tensor

    @classmethod
    def drawn(cls, pairs: int, *, seed: int = 0, vocabulary: int = VOCABULARY) -> Batch:
        """A batch of lengths like the competition's, values at random."""
        rng = np.random.default_rng(seed)
        words, regions = query_lengths(pairs, rng), photo_lengths(pairs, rng)
        values = np.maximum(rng.standard_normal((int(regions.sum()), FEATURES), np.float32), 0)
        return cls(
            torch.from_numpy(rng.integers(5, vocabulary, int(words.sum()))),
            torch.from_numpy(words),
            torch.from_numpy(values).half(),
            torch.from_numpy(regions),
        )

    def to(self, device: torch.device) -> Batch:
        """The same on a device, lengths on the host."""
        return Batch(
            self.tokens.to(device, non_blocking=True),
            self.token_lengths,
            self.regions.to(device, non_blocking=True),
            self.region_lengths,
        )


class PackedPair(nn.Module):
    """Ours: both towers as the project trains them."""

    def __init__(self, size: EncoderSize = SEED, *, vocabulary: int = VOCABULARY) -> None:
        super().__init__()
        self.text = TextTower(size, vocabulary=vocabulary, longest=512)
        self.photo = PhotoTower(size, feature_size=FEATURES)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return (
            self.text(batch.tokens, batch.token_lengths),
            self.photo(Regions(batch.regions.float(), batch.region_lengths)),
        )


class PaddedPair(PackedPair):
    """The seed's way: the same weights, everything padded to 30 and 40 and computed."""

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        tokens, words = padded(batch.tokens, batch.token_lengths, LONGEST_QUERY)
        places = torch.arange(LONGEST_QUERY, device=tokens.device).expand_as(tokens)
        text = self.encoded(self.text, self.text.embeddings(tokens, places), words)
        regions, kept = padded(batch.regions.float(), batch.region_lengths, MOST_REGIONS)
        photo = self.encoded(self.photo, self.photo.embeddings(self.photo.projection(regions)), kept)
        return text, photo

    @staticmethod
    def encoded(tower: Any, hidden: Tensor, kept: Tensor) -> Tensor:
        rows, longest = kept.shape
        mask = torch.where(kept, 0.0, torch.finfo(hidden.dtype).min)[:, None, None, :].to(hidden.dtype)
        for layer in tower.encoder.layer:
            own = layer.attention.self
            q, k, v = (
                part(hidden).view(rows, longest, own.heads, -1).transpose(1, 2)
                for part in (own.query, own.key, own.value)
            )
            share = own.dropout if tower.training else 0.0
            mixed = functional.scaled_dot_product_attention(
                q, k, v, attn_mask=mask.to(q.dtype).expand(rows, 1, longest, longest), dropout_p=share
            )
            attended = layer.attention.output(mixed.transpose(1, 2).flatten(2), hidden)
            hidden = layer.output(layer.intermediate(attended), attended)
        return tower.pooler(hidden[:, 0])  # type: ignore[no-any-return] # a Tensor


class TransformersPair(nn.Module):
    """`transformers`' BertModel twice, padded to the longest of the batch."""

    def __init__(self, size: EncoderSize = SEED, *, vocabulary: int = VOCABULARY) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        config = BertConfig(
            vocab_size=vocabulary,
            hidden_size=size.hidden,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            intermediate_size=size.inner,
            hidden_dropout_prob=size.dropout,
            attention_probs_dropout_prob=size.dropout,
        )
        self.text = BertModel(config)
        self.photo = BertModel(config)
        self.projection = nn.Linear(FEATURES, size.hidden)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        tokens, words = padded(batch.tokens, batch.token_lengths, int(batch.token_lengths.max()))
        regions, kept = padded(batch.regions.float(), batch.region_lengths, int(batch.region_lengths.max()))
        text = self.text(input_ids=tokens, attention_mask=words.long()).pooler_output
        seen = self.photo(inputs_embeds=self.projection(regions), attention_mask=kept.long())
        return text, seen.pooler_output


def padded(values: Tensor, lengths: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """Sequences that lie end to end as rows of `longest`, and which places are theirs."""
    kept = (torch.arange(longest) < lengths[:, None]).to(values.device)
    out = values.new_zeros(len(lengths), longest, *values.shape[1:])
    out[kept] = values
    return out, kept


def operations(
    batch: Batch,
    size: EncoderSize = SEED,
    *,
    whole_last_layer: bool = False,
) -> float:
    """Multiplications and additions of one packed step's matrix products, backward counted twice the forward.

    Every layer but the last runs for all tokens. The last computes keys and values for all tokens and the rest for one
    token of a sequence, or with `whole_last_layer` for all. The raw regions have no gradient.
    """
    hidden, inner, pairs = size.hidden, size.inner, len(batch.token_lengths)
    total = 0.0
    for lengths, features in ((batch.token_lengths, 0), (batch.region_lengths, FEATURES)):
        tokens, squares = float(lengths.sum()), float((lengths**2).sum())
        rest = 2 * hidden * hidden + 2 * hidden * inner  # queries, attention output, feed-forward
        layer = tokens * (2 * hidden * hidden + rest) + 2 * hidden * squares
        last = (
            layer if whole_last_layer else (tokens * 2 * hidden * hidden + pairs * rest + 2 * hidden * tokens)
        )
        total += 3 * 2 * ((size.layers - 1) * layer + last + pairs * hidden * hidden)
        total += 2 * 2 * tokens * features * hidden
    return total + 3 * 2 * pairs * pairs * hidden


def matmul_rate(
    rows: int,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    times: int = 5,
    size: EncoderSize = SEED,
) -> float:
    """Operations a second of the best of some products: a step's own shapes, and a large square."""
    best = 0.0
    square = 2048 if device == "cpu" else 8192
    for shape in ((rows, size.hidden, size.inner), (rows, size.inner, size.hidden), (square,) * 3):
        first = torch.randn(shape[0], shape[1], device=device, dtype=dtype)
        second = torch.randn(shape[1], shape[2], device=device, dtype=dtype)
        product = functools.partial(torch.matmul, first, second)
        seconds = min(timed(product, device=device) for _ in range(times))
        best = max(best, 2.0 * shape[0] * shape[1] * shape[2] / seconds)
    return best


def timed(work: Callable[[], object], *, device: str = "cpu") -> float:
    """Seconds of a piece of work, the device waited for."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def check_alike() -> None:
    """Raises AssertionError unless padded and packed give the same vectors and gradients (small, no dropout)."""
    size = EncoderSize(hidden=48, layers=3, heads=4, inner=64, dropout=0.0)
    batch = Batch.drawn(40, seed=1, vocabulary=50)
    packed, rival = PackedPair(size, vocabulary=50), PaddedPair(size, vocabulary=50)
    rival.load_state_dict(packed.state_dict())
    losses = []
    for model in (packed, rival):
        text, photo = model(batch)
        losses.append(sigmoid_in_batch(text, photo))
        torch.autograd.backward(losses[-1])
    torch.testing.assert_close(losses[0], losses[1], atol=1e-5, rtol=0)
    for (name, one), other in zip(packed.named_parameters(), rival.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4, msg=name)


def sigmoid_in_batch(text: Tensor, photo: Tensor) -> Tensor:
    """The seed's loss of a batch: binary cross-entropy of all dot products against the identity."""
    scores = text.float() @ photo.float().T
    target = torch.eye(len(scores), device=scores.device)
    return functional.binary_cross_entropy_with_logits(scores, target)
