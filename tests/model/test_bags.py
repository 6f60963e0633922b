"""Names and pooled regions against loops, and in any company."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from shopwindow.data.regions import Regions
from shopwindow.model.bags import (
    FIRST_PAIR,
    Names,
    PooledRegions,
    WordBag,
    known_names,
    names_of,
    pool_regions,
    pooled_statistics,
)
from shopwindow.model.recipe import Look, Pool
from tests.model.conftest import FEATURES, TinyShop

POOLS: tuple[Pool, ...] = ("first", "mean", "max")
LOOKS: tuple[Look, ...] = ("unit", "standard")
VIEWS = [
    (look, pools) for look in LOOKS for count in (1, 2, 3) for pools in itertools.combinations(POOLS, count)
]


def packed(queries: list[list[int]]) -> tuple[Tensor, Tensor]:
    tokens = torch.tensor([token for query in queries for token in query], dtype=torch.int64)
    return tokens, torch.tensor([len(query) for query in queries])


def pair(one: int, two: int) -> int:
    return (one + 1) * 2**24 + two


def test_names_counted_by_hand() -> None:
    tokens, lengths = packed([[5, 7, 7], [9], [7, 5]])
    keys, owners = names_of(tokens, lengths, pairs=True)
    assert keys[:6].tolist() == [5, 7, 7, 9, 7, 5]
    assert keys[6:].tolist() == [pair(5, 7), pair(7, 7), pair(7, 5)]  # none of 7 9 or 9 7: other queries
    assert owners.tolist() == [0, 0, 0, 1, 2, 2, 0, 0, 2]
    assert (keys[6:] >= FIRST_PAIR).all()


def test_pairs_of_any_vocabulary_are_told_apart() -> None:
    tokens = [0, 1, 2, 28_995, 500_000, FIRST_PAIR - 1]
    pairs = list(itertools.product(tokens, tokens))
    keys, _ = names_of(*packed([list(two) for two in pairs]), pairs=True)
    found = keys[2 * len(pairs) :].tolist()
    assert len(set(found)) == len(pairs)
    assert min(found) >= FIRST_PAIR
    assert max(found) < 2**49


class Bag:
    """Names and their bag as one."""

    def __init__(self, keys: list[int], *, pairs: bool) -> None:
        torch.manual_seed(4)
        self.pairs = pairs
        self.names = Names(len(keys))
        self.names.keys.copy_(torch.tensor(keys))
        self.bag = WordBag(torch.randn(len(keys), 6), pairs=pairs)

    def __call__(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        vectors: Tensor = self.bag(self.names(tokens, lengths, pairs=self.pairs))
        return vectors


def known_bag(queries: list[list[int]], *, pairs: bool = True) -> Bag:
    """A bag of the names of some queries."""
    keys, _ = names_of(*packed(queries), pairs=pairs)
    return Bag(sorted(set(keys.tolist())), pairs=pairs)


@pytest.mark.parametrize("pairs", [False, True])
def test_word_bag_is_a_sum_over_names(pairs: bool) -> None:
    bag = known_bag([[1, 2, 3], [4, 2], [2, 2]], pairs=pairs)
    row_of = {key: row for row, key in enumerate(bag.names.keys.tolist())}
    queries = [[1, 2, 3], [3, 2, 1], [2, 2, 2, 9], [4, 2], [4]]
    wanted = torch.zeros(len(queries), 6)
    for place, query in enumerate(queries):
        names = list(query)
        names += [pair(one, two) for one, two in itertools.pairwise(query)] if pairs else []
        for name in names:
            if name in row_of:
                wanted[place] += bag.bag.weight[row_of[name]].detach()
    torch.testing.assert_close(bag(*packed(queries)).detach(), wanted, atol=1e-6, rtol=0)


def test_unknown_names_add_nothing_and_unknown_queries_are_zero() -> None:
    bag = known_bag([[1, 2], [3]])
    got = bag(*packed([[1, 2], [99, 98], [0], [FIRST_PAIR - 1]])).detach()
    assert got[0].norm() > 0
    assert torch.equal(got[1:], torch.zeros(3, 6))
    one = bag(*packed([[1, 50]])).detach()[0]
    assert torch.equal(one, bag.bag.weight[int(torch.searchsorted(bag.names.keys, 1))].detach())


@given(
    queries=st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=6), min_size=1, max_size=8),
    seed=st.integers(0, 99),
)
def test_company_and_order_do_not_change_a_query(queries: list[list[int]], seed: int) -> None:
    bag = known_bag([[1, 2, 3], [4, 2], [2, 2], [5, 1, 4, 2]])
    together = bag(*packed(queries))
    alone = torch.cat([bag(*packed([query])) for query in queries])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    order = np.random.default_rng(seed).permutation(len(queries)).tolist()
    mixed = bag(*packed([queries[place] for place in order]))
    torch.testing.assert_close(mixed, together[order], atol=1e-6, rtol=0)


def photos_of(lengths: list[int], seed: int = 0, features: int = 5) -> Regions:
    generator = torch.Generator().manual_seed(seed)
    return Regions(torch.randn(sum(lengths), features, generator=generator), torch.tensor(lengths))


def pooled_by_loop(photos: Regions, pools: tuple[Pool, ...], *, unit: bool) -> np.ndarray:
    rows, start = [], 0
    for length in photos.counts.tolist():
        regions = photos.features[start : start + length].numpy().astype(np.float64)
        if unit:
            regions = regions / np.sqrt((regions**2).sum(1, keepdims=True))
        found = {"first": regions[0], "mean": regions.mean(0), "max": regions.max(0)}
        whole = np.concatenate([found[pool] for pool in pools])
        rows.append(whole / np.sqrt((whole**2).sum()) if unit else whole)
        start += length
    return np.array(rows)


@pytest.mark.parametrize(("look", "pools"), VIEWS)
def test_pools_are_those_of_a_loop(look: Look, pools: tuple[Pool, ...]) -> None:
    photos = photos_of([3, 1, 5, 3], seed=1)
    unit = look == "unit"
    wanted = pooled_by_loop(photos, pools, unit=unit)
    got = pool_regions(photos, pools, unit=unit)
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-6, rtol=0)


def test_a_maximum_may_be_negative_and_a_region_without_length_stays_zero() -> None:
    photos = Regions(torch.tensor([[-3.0, -4.0], [-6.0, -2.0], [0.0, 0.0]]), torch.tensor([2, 1]))
    assert pool_regions(photos, ("max",), unit=False).tolist() == [[-3, -2], [0, 0]]
    assert pool_regions(photos, ("first", "mean"), unit=True)[1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("look", "pools"), VIEWS)
def test_pooled_regions_equal_their_formula(look: Look, pools: tuple[Pool, ...]) -> None:
    torch.manual_seed(2)
    branch = PooledRegions(4, 5, look=look, pools=pools).eval()
    branch.centre.normal_()
    branch.spread.uniform_(0.5, 2)
    photos = photos_of([2, 4, 1], seed=3)
    values, unit = photos.features.numpy(), look == "unit"
    seen = (
        photos.with_features(torch.from_numpy(np.sign(values) * np.sqrt(np.abs(values)))) if unit else photos
    )
    pooled = pooled_by_loop(seen, pools, unit=unit)
    standard = (pooled - branch.centre.numpy()) / branch.spread.numpy()
    wanted = standard @ branch.dense.weight.detach().numpy().T + branch.dense.bias.detach().numpy()
    np.testing.assert_allclose(branch(photos).detach().numpy(), wanted, atol=1e-5, rtol=0)


def test_pooled_values_are_dropped_while_training_only() -> None:
    torch.manual_seed(0)
    branch = PooledRegions(4, 5, look="unit", pools=("mean",), dropout=0.5)
    photos = photos_of([2, 4])
    assert not torch.equal(branch(photos), branch(photos))
    branch.eval()
    assert torch.equal(branch(photos), branch(photos))


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=7),
    seed=st.integers(0, 999),
    view=st.sampled_from(VIEWS),
)
def test_company_and_order_do_not_change_a_photo(
    lengths: list[int], seed: int, view: tuple[Look, tuple[Pool, ...]]
) -> None:
    look, pools = view
    torch.manual_seed(2)
    branch = PooledRegions(4, 5, look=look, pools=pools).eval()
    photos = photos_of(lengths, seed)
    together = branch(photos)
    parts = [photos.part(place, place + 1) for place in range(len(lengths))]
    torch.testing.assert_close(together, torch.cat([branch(part) for part in parts]), atol=1e-5, rtol=0)
    order = np.random.default_rng(seed).permutation(len(lengths)).tolist()
    mixed = Regions(torch.cat([parts[place].features for place in order]), photos.counts[order])
    torch.testing.assert_close(branch(mixed), together[order], atol=1e-5, rtol=0)


def test_known_names_are_the_most_frequent_and_no_special_ones() -> None:
    tokens, lengths = packed([[0, 5, 7, 1], [0, 5, 1], [0, 9, 1]])
    kept = known_names(tokens, lengths, pairs=False, ignored=frozenset({0, 1}))
    assert kept.tolist() == [5, 7, 9]
    assert known_names(tokens, lengths, pairs=False, ignored=frozenset({0, 1}), most=2).tolist() == [5, 7]
    with_pairs = known_names(tokens, lengths, pairs=True, ignored=frozenset({0, 1}))
    assert {pair(0, 5), pair(5, 7), pair(5, 1)} <= set(
        with_pairs.tolist()
    )  # what a query begins with is a name
    with pytest.raises(ValueError, match="hold no word"):
        known_names(*packed([[0, 1]]), pairs=False, ignored=frozenset({0, 1}))


@pytest.mark.parametrize("look", LOOKS)
def test_statistics_are_those_of_numpy(tiny_shop: TinyShop, look: Look) -> None:
    view = PooledRegions(4, FEATURES, look=look, pools=("first", "mean"))
    rows = np.arange(40)
    values = view.pooled(tiny_shop.train.regions(rows)).double().numpy()
    pooled_statistics(view, tiny_shop.train, rows)
    np.testing.assert_allclose(view.centre, values.mean(0), atol=1e-6)
    spread = values.std(0) if look == "standard" else np.full(values.shape[1], np.sqrt(values.var(0).sum()))
    np.testing.assert_allclose(view.spread, np.maximum(spread, 1e-3), atol=1e-6)


def test_the_gradient_of_a_bag_is_the_same_with_any_threads_each_time() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 400, (3000,), generator=generator)
    named = Names(400)(tokens, torch.full((1000,), 3), pairs=False)
    wanted = torch.randn(1000, 256, generator=generator)

    def gradient(threads: int) -> Tensor:
        torch.set_num_threads(threads)
        bag = WordBag(torch.ones(400, 256), pairs=False)
        bag(named).backward(wanted)
        assert bag.weight.grad is not None
        return bag.weight.grad

    before = torch.get_num_threads()
    try:
        alone = gradient(1)
        assert all(torch.equal(gradient(2), alone) for _ in range(10))
    finally:
        torch.set_num_threads(before)
