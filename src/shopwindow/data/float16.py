"""How is float32 rounded to float16 quickly, with torch and without?

Torch uses the processor's instruction, but takes two seconds and 0.1 GB to import. Where it is not loaded, arithmetic
on the bits takes half as long as numpy's cast. All give the same bits. Knows only numbers.
"""

from __future__ import annotations

import sys
from typing import Final

import numpy as np
from jaxtyping import Float16, Float32

FLOAT16_END: Final = 65520.0
"""The least number that rounds to infinity."""
_REBIAS: Final = np.float32(2.0**-112)
_INFINITY: Final = 0x7C00
"""Its bits in float16; those of NaN are larger."""
_SIGN: Final = 0x8000
_LEAST_NORMAL: Final = 0x800000
"""The bits in float32 of the smallest number that is not subnormal."""


def round_to_float16(values: Float32[np.ndarray, "*axes"]) -> Float16[np.ndarray, "*axes"]:
    """The nearest float16, ties to even. NaN and what is too large become infinite, or stay NaN.

    >>> round_to_float16(np.array([0.1, -2.0, 65519.0, 65520.0], np.float32)).tolist()
    [0.0999755859375, -2.0, 65504.0, inf]
    """
    return by_torch(values) if "torch" in sys.modules else by_bits(values)


def all_finite(values: Float16[np.ndarray, "*axes"]) -> bool:
    """Whether none of at least one value is infinite or NaN. Five times as fast as numpy's `isfinite`."""
    largest, least = values.view(np.int16).max(), values.view(np.uint16).max()
    return bool(largest < _INFINITY and least < _SIGN + _INFINITY)


def by_torch(values: Float32[np.ndarray, "*axes"]) -> Float16[np.ndarray, "*axes"]:
    """Rounds by the processor's instruction. Torch warns of values that may not be written."""
    import torch

    return torch.from_numpy(values).half().numpy()


def by_bits(values: Float32[np.ndarray, "*axes"]) -> Float16[np.ndarray, "*axes"]:
    """Rounds by arithmetic on the bits."""
    # Times 2^-112 the exponent is float16's: the last 13 bits of the mantissa are too many, and are rounded away.
    with np.errstate(invalid="ignore"):  # a signalling NaN
        sign = (values * _REBIAS).view(np.uint32)
    magnitude = sign & 0x7FFFFFFF
    sign ^= magnitude
    sign >>= 16
    rounded = magnitude >> 13
    rounded &= 1
    rounded += 0x0FFF
    rounded += magnitude
    rounded >>= 13
    np.minimum(rounded, _INFINITY, out=rounded)
    rounded |= sign
    out = rounded.astype(np.uint16).view(np.float16)
    # Numbers below float16's smallest normal one, 6e-5, were rounded twice: they are few, and are cast.
    magnitude -= 1
    small = magnitude < _LEAST_NORMAL - 1
    if small.any():
        out[small] = values[small].astype(np.float16)
    return out
