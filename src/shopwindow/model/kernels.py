"""Which kernel attends over sequences of different lengths at once, where there is one?

On a CUDA device in half precision: flash attention, from torch or from the package flash-attn. Elsewhere none, and
`packing.attend` goes length by length. Knows no tower.

Source: Dao et al. 2022, "FlashAttention".
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache, partial
from typing import Final

import torch
from torch import Tensor

Kernel = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int, int], Tensor]
"""Of queries, keys and values (tokens, heads, width), where the sequences of queries and of keys begin and end (int32),
and the longest of each."""
_HALVES: Final = (torch.bfloat16, torch.float16)
_WIDEST: Final = 256


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
