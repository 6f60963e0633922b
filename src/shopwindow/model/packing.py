"""How do sequences of different lengths go through a network without padding?

All tokens of all sequences lie end to end; the lengths say where each ends. Inside the encoder the sequences are
ordered by length. Those of equal length lie side by side, and attention is a batched product over each group,
without a mask.
On a CUDA device in half precision one variable-length kernel takes all of them: flash attention, from torch or from the
package flash-attn. Knows nothing of words or photos.

Source of the kernels: Dao et al. 2022, "FlashAttention".

Legend of axes: tokens = all tokens of a batch, sequences = its members.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Final, NamedTuple

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor
from torch.nn import functional

from shopwindow.data.regions import places_of

Lengths = Int64[Tensor, " sequences"]
Kernel = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int, int], Tensor]
"""Of queries, keys and values (tokens, heads, width), where the sequences of queries and of keys begin and end (int32),
and the longest of each."""
_HALVES: Final = (torch.bfloat16, torch.float16)
_WIDEST: Final = 256


class Group(NamedTuple):
    """Sequences of one length that lie side by side: `sequences` of `length` tokens from token `start` on."""

    start: int
    sequences: int
    length: int


@dataclass(frozen=True)
class Layout:
    """Where everything lies in a batch ordered by length.

    `order` gives the token that comes to each place. `starts` are the places of the sequences' first tokens,
    ascending; `place` says, for the caller's sequences in their order, which of these is theirs. `bounds` are the
    starts and the end, as variable-length kernels take them.
    """

    order: Int64[Tensor, " tokens"]
    starts: Int64[Tensor, " sequences"]
    place: Int64[Tensor, " sequences"]
    bounds: Int32[Tensor, " ends"]
    groups: tuple[Group, ...]

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return self.groups[-1].length

    @classmethod
    def of(cls, lengths: Lengths, device: torch.device) -> Layout:
        """The layout of a batch with these lengths, its tensors on `device`.

        Raises: ValueError for an empty sequence or no sequence at all.
        """
        lengths = lengths.cpu()
        if len(lengths) == 0 or int(lengths.min()) < 1:
            raise ValueError("every batch needs a sequence, every sequence a token")
        by_length = torch.argsort(lengths, stable=True)
        sorted_lengths = lengths[by_length]
        sorted_starts = sorted_lengths.cumsum(0) - sorted_lengths
        order = places_of(lengths, by_length)
        place = torch.empty_like(by_length)
        place[by_length] = torch.arange(len(lengths))
        bounds = torch.cat([sorted_starts, sorted_lengths.sum()[None]]).int()
        return cls(
            to_device(order, device),
            to_device(sorted_starts, device),
            to_device(place, device),
            to_device(bounds, device),
            _groups(sorted_lengths),
        )


def _groups(sorted_lengths: Lengths) -> tuple[Group, ...]:
    values, counts = torch.unique_consecutive(sorted_lengths, return_counts=True)
    groups, start = [], 0
    for length, count in zip(values.tolist(), counts.tolist(), strict=True):
        groups.append(Group(start, count, length))
        start += length * count
    return tuple(groups)


def attend(
    query: Float[Tensor, "asking heads width"],
    key: Float[Tensor, "tokens heads width"],
    value: Float[Tensor, "tokens heads width"],
    layout: Layout,
    *,
    dropout: float = 0.0,
) -> Float[Tensor, "asking heads width"]:
    """Scaled dot-product attention over the tokens of each asking token's own sequence.

    All tokens ask, or only the first of every sequence (then `query` has a row per sequence). Everything is
    ordered as `layout` orders it. `dropout` is the share of attention weights dropped.
    Source: Vaswani et al. 2017, "Attention Is All You Need", equation 1.
    """
    kernel = variable_kernel(query.device, query.dtype, query.shape[-1], dropout)
    if kernel is None:
        return _by_group(query, key, value, layout, dropout)
    if len(query) == len(key):
        return kernel(query, key, value, layout.bounds, layout.bounds, layout.longest, layout.longest)
    each = torch.arange(len(query) + 1, dtype=torch.int32, device=query.device)
    return kernel(query, key, value, each, layout.bounds, 1, layout.longest)


def _by_group(
    query: Float[Tensor, "asking heads width"],
    key: Float[Tensor, "tokens heads width"],
    value: Float[Tensor, "tokens heads width"],
    layout: Layout,
    dropout: float,
) -> Float[Tensor, "asking heads width"]:
    """One batched product for each length."""
    first_only, (heads, width) = len(query) != len(key), query.shape[1:]
    asking = [group.sequences * (1 if first_only else group.length) for group in layout.groups]
    tokens = [group.sequences * group.length for group in layout.groups]
    # Not slices: the gradient of each slice would be a whole tensor, mostly zeros, to be added up.
    parts = zip(torch.split(query, asking), torch.split(key, tokens), torch.split(value, tokens), strict=True)
    out = []
    for group, own in zip(layout.groups, parts, strict=True):
        q, k, v = (part.view(group.sequences, -1, heads, width).transpose(1, 2) for part in own)
        mixed = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        out.append(mixed.transpose(1, 2).flatten(0, 1))
    return torch.cat(out)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The same on a device; on its way to a GPU through pinned memory, so that nothing waits for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def positions(lengths: Lengths) -> Int64[Tensor, " tokens"]:
    """The place of every token in its own sequence, from 0.

    >>> positions(torch.tensor([2, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    starts = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum()), device=lengths.device) - torch.repeat_interleave(starts, lengths)


def variable_kernel(device: torch.device, dtype: torch.dtype, width: int, dropout: float) -> Kernel | None:
    """The kernel for queries of that place, type and width of a head; None where there is none."""
    if device.type != "cuda" or dtype not in _HALVES or width % 8 or width > _WIDEST:
        return None
    if dropout == 0 and _has_varlen():
        return torchs_varlen
    return partial(flash_package if _has_flash() else torchs_flash, dropout=dropout)


def torchs_varlen(
    query: Tensor, key: Tensor, value: Tensor, asked: Tensor, bounds: Tensor, most_asked: int, longest: int
) -> Tensor:
    """torch.nn.attention.varlen: public, without dropout."""
    from torch.nn.attention.varlen import varlen_attn

    out = varlen_attn(query, key, value, asked, bounds, most_asked, longest)
    assert isinstance(out, Tensor)
    return out


def torchs_flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    asked: Tensor,
    bounds: Tensor,
    most_asked: int,
    longest: int,
    *,
    dropout: float,
) -> Tensor:
    """The operator behind torch's nested tensors and `varlen_attn`, which takes dropout and has a gradient."""
    outputs = torch.ops.aten._flash_attention_forward(
        query, key, value, asked, bounds, most_asked, longest, dropout, False, False
    )
    out: Tensor = outputs[0]
    return out


def flash_package(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    asked: Tensor,
    bounds: Tensor,
    most_asked: int,
    longest: int,
    *,
    dropout: float,
) -> Tensor:
    """The package flash-attn."""
    from flash_attn import flash_attn_varlen_func

    out: Tensor = flash_attn_varlen_func(
        query, key, value, asked, bounds, most_asked, longest, dropout_p=dropout
    )
    return out


@cache
def _has_varlen() -> bool:
    return importlib.util.find_spec("torch.nn.attention.varlen") is not None


@cache
def _has_flash() -> bool:
    return importlib.util.find_spec("flash_attn") is not None
