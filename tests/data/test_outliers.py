"""Clicks on products that look like nothing else of their query are left out; others never are."""

from __future__ import annotations

import numpy as np
import pytest

from shopwindow.data.clicks import Pairs
from shopwindow.data.features import Features
from shopwindow.data.outliers import outliers
from tests.data.small_features import SIZE, write_features

KINDS, EACH = 6, 12


@pytest.fixture(scope="module")
def looks(tmp_path_factory: pytest.TempPathFactory) -> Features:
    """Products of six kinds; those of a kind look alike."""
    rng = np.random.default_rng(3)
    centres = np.eye(KINDS, SIZE).repeat(EACH, axis=0)
    values = (centres + 0.1 * rng.normal(size=centres.shape)).astype(np.float16)
    ids = [f"p{row:02}" for row in range(KINDS * EACH)]
    return Features(write_features(tmp_path_factory.mktemp("looks") / "features", ids, features=values))


def pairs_of(*products: list[int], clicks: float = 1.0) -> Pairs:
    """The pairs of a query for each list."""
    queries = np.repeat(np.arange(len(products)), [len(own) for own in products])
    rows = np.array([row for own in products for row in sorted(own)])
    return Pairs(queries, rows, np.full(len(rows), clicks), np.ones(len(rows)))


def found(features: Features, pairs: Pairs) -> list[tuple[int, int]]:
    mask = outliers(features, pairs)
    return list(zip(pairs.queries[mask].tolist(), pairs.products[mask].tolist(), strict=True))


KIND = [list(range(start, start + EACH)) for start in range(0, KINDS * EACH, EACH)]


def test_a_product_of_another_kind_is_an_outlier(looks: Features) -> None:
    assert found(looks, pairs_of(KIND[0][:8], KIND[1][:8], KIND[2])) == []
    assert found(looks, pairs_of([*KIND[0][:8], 30], KIND[1][:8], KIND[3])) == [(0, 30)]


def test_the_same_in_each_run_whatever_the_other_queries(looks: Features) -> None:
    several = pairs_of([*KIND[0][:8], 30], *KIND[1:])
    assert found(looks, several) == found(looks, several) == [(0, 30)]


@pytest.mark.parametrize(
    ("products", "why"),
    [
        ([*KIND[0][:4], 30], "of few products none is told"),
        ([0, 1, 12, 13, 25, 26, 38, 39, 51, 52, 60, 61], "a query of all kinds has no outlier"),
    ],
)
def test_what_may_be_meant_stays(looks: Features, products: list[int], why: str) -> None:
    assert found(looks, pairs_of(products, *KIND[1:])) == [], why


def test_a_pair_with_many_clicks_stays(looks: Features) -> None:
    assert found(looks, pairs_of([*KIND[0][:8], 30], *KIND[1:], clicks=3.0)) == []
