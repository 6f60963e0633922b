"""How are float32 values rounded to float16 quickly, without torch?

Torch takes two seconds and 0.1 GB to import; numpy's own cast goes value by value and took a third of the
time of `prepare`. This takes half as long as the cast and gives the same bits. Knows only numbers.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float16, Float32

FLOAT16_END: Final = 65520.0
"""The least number that rounds to infinity."""

_REBIAS: Final = np.float32(2.0**-112)
_HIDDEN_BITS: Final = 13


def round_to_float16(values: Float32[np.ndarray, "*axes"]) -> Float16[np.ndarray, "*axes"]:
    """The nearest float16 of values between -65520 and 65520 (not checked), ties to even.

    >>> round_to_float16(np.array([0.1, -2.0, 65519.0], np.float32)).tolist()
    [0.0999755859375, -2.0, 65504.0]
    """
    # Times 2^-112, the exponent is float16's: 13 bits of the mantissa are too many, and are rounded away.
    bits = (values * _REBIAS).view(np.uint32)
    magnitude = bits & 0x7FFFFFFF
    sign = bits ^ magnitude
    sign >>= 16
    rounded = magnitude >> _HIDDEN_BITS
    rounded &= 1
    rounded += 0x0FFF
    rounded += magnitude
    rounded >>= _HIDDEN_BITS
    rounded |= sign
    nearest = rounded.astype(np.uint16).view(np.float16)
    # Values below float16's smallest normal number, 6e-5, were rounded twice: they are few, and are cast.
    magnitude -= 1
    small = magnitude < 0x7FFFFF
    if small.any():
        nearest[small] = values[small].astype(np.float16)
    return nearest
