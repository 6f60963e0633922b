"""Is our rounding to float16 that of numpy and torch, bit by bit?"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shopwindow.data import float16
from shopwindow.data.float16 import all_finite, by_bits, by_torch, round_to_float16


@pytest.fixture(params=[by_bits, by_torch], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test rounds by arithmetic and by the processor's instruction."""
    for name in ("by_bits", "by_torch"):
        monkeypatch.setattr(float16, name, request.param)


def every_float16() -> np.ndarray:
    """All finite ones, with both zeros."""
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    return values[np.isfinite(values)]


def bits(values: np.ndarray) -> np.ndarray:
    return values.view(np.uint16)


def test_every_float16_stays_itself() -> None:
    values = every_float16()
    np.testing.assert_array_equal(bits(round_to_float16(values.astype(np.float32))), bits(values))


@pytest.mark.parametrize("nudge", [-1, 0, 1])
def test_points_halfway_between_two_are_rounded_to_even_and_beside_them_to_the_nearer(nudge: int) -> None:
    values = np.sort(every_float16()).astype(np.float32)
    halfway = (values[:-1] + values[1:]) / 2
    for _ in range(abs(nudge)):
        halfway = np.nextafter(halfway, np.float32(nudge * np.inf))
    np.testing.assert_array_equal(bits(round_to_float16(halfway)), bits(halfway.astype(np.float16)))


def test_any_bits_are_rounded_as_numpy_and_torch_do() -> None:
    values = np.random.default_rng(0).integers(0, 2**32, 400_000, np.uint32).view(np.float32)
    values = values[np.abs(values) < 65520].reshape(-1, 1)
    got = round_to_float16(values)
    np.testing.assert_array_equal(bits(got), bits(values.astype(np.float16)))
    np.testing.assert_array_equal(bits(got), bits(torch.from_numpy(values).half().numpy()))
    assert got.shape == values.shape


def test_input_is_not_changed() -> None:
    values = np.array([1.0, 1e-6, -3.3], np.float32)
    kept = values.copy()
    round_to_float16(values)
    np.testing.assert_array_equal(values, kept)


def test_they_are_put_where_they_are_wanted() -> None:
    values, out = np.array([[1.0, -0.0, 1e-7, 65519.0]], np.float32), np.zeros((2, 4), np.float16)
    assert round_to_float16(values, out[1:]).base is out
    np.testing.assert_array_equal(bits(out[1]), bits(values[0].astype(np.float16)))
    assert not out[0].any()


def test_memory_that_may_not_be_written_is_rounded() -> None:
    values = np.array([1.0, 2.5], np.float32)
    values.flags.writeable = False
    assert round_to_float16(values).tolist() == [1.0, 2.5]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("value", [65520, 65536, 1e9, 3.4e38, np.inf, np.nan])
def test_what_does_not_fit_is_not_finite(value: float, sign: int) -> None:
    values = np.zeros(40, np.float32)
    assert all_finite(round_to_float16(values))
    values[33] = sign * value
    rounded = round_to_float16(values)
    assert not all_finite(rounded)
    assert np.isfinite(rounded).sum() == 39


def test_every_finite_value_is_finite() -> None:
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    assert [all_finite(values[place : place + 1]) for place in range(2**16)] == np.isfinite(values).tolist()


def test_a_signalling_nan_is_not_finite_and_warns_of_nothing() -> None:
    values = np.array([0x3F800000, 0x7F800001], np.uint32).view(np.float32)
    assert not all_finite(round_to_float16(values))
