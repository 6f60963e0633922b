"""Codes are what they say, and their scores are those of the vectors they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from shopwindow.search.vectors import Coder, Coding, Precision

QUERIES, PRODUCTS, HIDDEN = 5, 200, 64


@pytest.fixture
def vectors() -> np.ndarray:
    rng = np.random.default_rng(0)
    found = rng.standard_normal((PRODUCTS, HIDDEN), np.float32) + 0.5
    unit: np.ndarray = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


@pytest.fixture
def queries() -> np.ndarray:
    found = np.random.default_rng(1).standard_normal((QUERIES, HIDDEN), np.float32)
    unit: np.ndarray = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def test_whole_float32_codes_are_the_vectors(vectors: np.ndarray, queries: np.ndarray) -> None:
    coder = Coder.fit(vectors, precision="float32", unit=True)
    np.testing.assert_array_equal(coder.encode(vectors), vectors)
    # float32 sums of 64 products in another order
    np.testing.assert_allclose(coder.scan(coder.ask(queries), vectors), queries @ vectors.T, atol=1e-6)


def test_int8_is_within_half_a_step_of_the_value(vectors: np.ndarray) -> None:
    coder = Coder.fit(vectors, precision="int8", unit=True)
    codes = coder.encode(vectors)
    assert codes.dtype == np.int8
    assert np.all(np.abs(coder.decode(codes) - vectors) <= coder.scale / 2 * 1.001)


def test_binary_code_is_the_sign_against_the_mean(vectors: np.ndarray) -> None:
    coder = Coder.fit(vectors, precision="binary", unit=True)
    codes = coder.encode(vectors)
    assert codes.shape == (PRODUCTS, HIDDEN // 8)
    for row in range(0, PRODUCTS, 37):
        bits = "".join(f"{byte:08b}" for byte in codes[row])
        wanted = ["1" if vectors[row, d] > vectors[:, d].mean() else "0" for d in range(HIDDEN)]
        assert sum(one != other for one, other in zip(bits, wanted, strict=True)) == 0


@pytest.mark.parametrize("hidden", [64, 24])  # eight bytes at a time, and three
def test_binary_scan_counts_agreeing_signs(vectors: np.ndarray, queries: np.ndarray, hidden: int) -> None:
    coder = Coder.fit(vectors, precision="binary", dimensions=hidden, unit=True)
    asked, codes = coder.ask(queries), coder.encode(vectors)
    scanned = coder.scan(asked, codes)
    for query in range(QUERIES):
        for product in range(0, PRODUCTS, 41):
            bits = np.unpackbits(codes[product]).astype(bool)
            assert scanned[query, product] == -sum(bits[d] != (asked[query, d] > 0) for d in range(hidden))


@pytest.mark.parametrize("precision", ["float32", "int8", "binary"])
@pytest.mark.parametrize("dimensions", [None, 24])
def test_score_is_the_dot_product_with_the_decoded_vector(
    vectors: np.ndarray, queries: np.ndarray, precision: Precision, dimensions: int | None
) -> None:
    coder = Coder.fit(vectors, precision=precision, dimensions=dimensions, unit=True)
    codes, asked = coder.encode(vectors), coder.ask(queries)
    decoded = coder.decode(codes)
    for row in asked:
        wanted = [sum(float(a) * float(b) for a, b in zip(row, one, strict=True)) for one in decoded]
        np.testing.assert_allclose(coder.score(row, codes), wanted, rtol=0, atol=1e-12)


def test_int8_scan_orders_as_the_scores_do(vectors: np.ndarray, queries: np.ndarray) -> None:
    coder = Coder.fit(vectors, precision="int8", unit=True)
    codes, asked = coder.encode(vectors), coder.ask(queries)
    for row, quick in zip(asked, coder.scan(asked, codes), strict=True):
        # the scan leaves out what all products share
        shared = coder.score(row, codes) - quick
        np.testing.assert_allclose(shared, shared[0], atol=1e-6)


def test_prefix_of_unit_vectors_has_length_one_again(vectors: np.ndarray) -> None:
    coder = Coder.fit(vectors, precision="float32", dimensions=16, unit=True)
    np.testing.assert_allclose(np.linalg.norm(coder.encode(vectors), axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(
        Coder.fit(vectors, precision="float32", dimensions=16, unit=False).encode(vectors), vectors[:, :16]
    )


def test_equal_vectors_have_equal_scores_wherever_they_stand(queries: np.ndarray) -> None:
    many = np.repeat(queries[:1] * 0.3, 1001, axis=0)
    coder = Coder.fit(many, precision="float32", unit=False)
    assert len(set(coder.score(queries[1], many).tolist())) == 1


def test_a_value_that_never_changes_is_kept() -> None:
    same = np.full((10, 8), 0.25, np.float32)
    for precision in ("int8", "binary"):
        coder = Coder.fit(same, precision=precision, unit=False)
        np.testing.assert_allclose(coder.decode(coder.encode(same)), same, atol=1.0)
        assert np.isfinite(coder.decode(coder.encode(same))).all()


def test_bytes_per_product_by_hand() -> None:
    assert Coding().bytes_per_product(256) == (1024, 0)
    assert Coding("int8", rescore="none").bytes_per_product(256) == (256, 0)
    assert Coding("binary", rescore="int8").bytes_per_product(256) == (32, 256)
    assert Coding("float32", dimensions=64).bytes_per_product(256) == (256, 1024)
    assert Coding("float32", dimensions=256).bytes_per_product(256) == (1024, 0)
    assert Coding("float32", dimensions=64, rescore="int8").keeps_all(256) is False
    assert Coding("binary").keeps_all(256) is True


@pytest.mark.parametrize("dimensions", [0, -1])
def test_dimensions_below_one_are_refused(dimensions: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Coding(dimensions=dimensions)


def test_binary_wants_whole_bytes() -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        Coding("binary", dimensions=12)
    with pytest.raises(ValueError, match="multiple of 8"):
        Coder.fit(np.ones((3, 12), np.float32), precision="binary", unit=False)
