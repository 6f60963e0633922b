"""How are float32 values rounded to float16 quickly, with torch and without?

Processors do it in one instruction, and torch uses that; numpy's own cast goes value by value and took a third of the
time of `prepare`. But torch takes two seconds and 0.1 GB to import: where it is not loaded, arithmetic on
whole arrays of bits takes half as long as numpy's cast. All give the same bits. Knows only numbers.
"""

from __future__ import annotations

import importlib
import sys
from typing import Final

import numpy as np
from jaxtyping import Float16, Float32

FLOAT16_END: Final = 65520.0
"""The least number that rounds to infinity."""

_REBIAS: Final = np.float32(2.0**-112)
_HIDDEN_BITS: Final = 13
_INFINITY: Final = 0x7C00
"""Its bits; those of NaN are larger."""
_NEGATIVE_INFINITY: Final = 0xFC00


def round_to_float16(
    values: Float32[np.ndarray, "*axes"], out: Float16[np.ndarray, "*axes"] | None = None
) -> Float16[np.ndarray, "*axes"]:
    """The nearest float16, ties to even; in `out` where it is given. NaN, and what is too large, is not finite then.

    >>> round_to_float16(np.array([0.1, -2.0, 65519.0, 65520.0], np.float32)).tolist()
    [0.0999755859375, -2.0, 65504.0, inf]
    """
    if out is None:
        out = np.empty(values.shape, np.float16)
    if "torch" in sys.modules:
        by_torch(values, out)
    else:
        by_bits(values, out)
    return out


def load_torch(*, one_thread: bool = False) -> None:
    """From now on this process rounds by the processor's instruction."""
    torch = importlib.import_module("torch")
    if one_thread:
        torch.set_num_threads(1)


def all_finite(values: Float16[np.ndarray, "*axes"]) -> bool:
    """Whether none is infinite or NaN; at least one value is needed."""
    return bool(values.view(np.int16).max() < _INFINITY and values.view(np.uint16).max() < _NEGATIVE_INFINITY)


def by_torch(values: Float32[np.ndarray, "*axes"], out: Float16[np.ndarray, "*axes"]) -> None:
    """Rounds by the processor's instruction."""
    import torch

    # Torch warns of memory that may not be written, which it does not write.
    source = values if values.flags.writeable else values.copy()
    torch.from_numpy(out).copy_(torch.from_numpy(source))


def by_bits(values: Float32[np.ndarray, "*axes"], out: Float16[np.ndarray, "*axes"]) -> None:
    """Rounds by arithmetic on the bits."""
    # Times 2^-112, the exponent is float16's: 13 bits of the mantissa are too many, and are rounded away.
    with np.errstate(invalid="ignore"):  # a signalling NaN
        bits = (values * _REBIAS).view(np.uint32)
    magnitude = bits & 0x7FFFFFFF
    bits ^= magnitude
    bits >>= 16
    rounded = magnitude >> _HIDDEN_BITS
    rounded &= 1
    rounded += 0x0FFF
    rounded += magnitude
    rounded >>= _HIDDEN_BITS
    np.minimum(rounded, _INFINITY, out=rounded)
    rounded |= bits
    np.copyto(out.view(np.uint16), rounded, casting="unsafe")
    # Values below float16's smallest normal number, 6e-5, were rounded twice: they are few, and are cast.
    magnitude -= 1
    small = magnitude < 0x7FFFFF
    if small.any():
        out[small] = values[small].astype(np.float16)
