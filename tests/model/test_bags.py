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
from shopwindow.model.bags import FIRST_PAIR, PooledRegions, WordBag, names_of, pool_regions
from shopwindow.model.recipe import Look, Pool, View

POOLS: tuple[Pool, ...] = ("first", "mean", "max")
LOOKS: tuple[Look, ...] = ("unit", "standard")
VIEWS = [
    View(look, pools)
    for look in LOOKS
    for count in (1, 2, 3)
    for pools in itertools.combinations(POOLS, count)
]


def packed(queries: list[list[int]]) -> tuple[Tensor, Tensor]:
    tokens = torch.tensor([token for query in queries for token in query], dtype=torch.int64)
    return tokens, torch.tensor([len(query) for query in queries])


def text_number(query: list[int]) -> int:
    keys, owners = names_of(*packed([query]), pairs=False, texts=True)
    assert owners.tolist() == [0] * (len(query) + 1)
    return int(keys[-1])


def pair(one: int, two: int) -> int:
    return (one + 1) * 2**24 + two


def test_names_counted_by_hand() -> None:
    tokens, lengths = packed([[5, 7, 7], [9], [7, 5]])
    keys, owners = names_of(tokens, lengths, pairs=True, texts=True)
    assert keys[:6].tolist() == [5, 7, 7, 9, 7, 5]
    assert keys[6:9].tolist() == [pair(5, 7), pair(7, 7), pair(7, 5)]  # none of 7 9 or 9 7: other queries
    assert owners.tolist() == [0, 0, 0, 1, 2, 2, 0, 0, 2, 0, 1, 2]
    assert (keys[6:9] >= FIRST_PAIR).all()
    assert (keys[9:] < 0).all()


def test_pairs_and_texts_are_there_only_where_wanted() -> None:
    tokens, lengths = packed([[5, 7], [9]])
    assert names_of(tokens, lengths, pairs=False, texts=False)[0].tolist() == [5, 7, 9]
    assert names_of(tokens, lengths, pairs=True, texts=False)[0].tolist() == [5, 7, 9, pair(5, 7)]
    keys, owners = names_of(tokens, lengths, pairs=False, texts=True)
    assert len(keys) == 5
    assert owners.tolist() == [0, 0, 1, 0, 1]


def test_pairs_of_any_vocabulary_are_told_apart() -> None:
    tokens = [0, 1, 2, 28_995, 500_000, FIRST_PAIR - 1]
    pairs = list(itertools.product(tokens, tokens))
    keys, _ = names_of(*packed([list(two) for two in pairs]), pairs=True, texts=False)
    found = keys[2 * len(pairs) :].tolist()
    assert len(set(found)) == len(pairs)
    assert min(found) >= FIRST_PAIR
    assert max(found) < 2**49


def test_whole_queries_are_equal_only_where_all_tokens_are() -> None:
    query = [2, 7, 8, 3]
    assert text_number(query) == text_number(list(query))
    permuted = {text_number(list(order)) for order in itertools.permutations(query)}
    assert len(permuted) == 24
    longer = [query[:1], query[:2], query[:3], query, [*query, 0], [*query, 0, 0], [0, *query], [*query, 3]]
    assert len({text_number(tokens) for tokens in longer}) == len(longer)


def test_thousands_of_queries_collide_only_where_they_are_equal() -> None:
    rng = np.random.default_rng(0)
    queries = [
        rng.integers(0, high, rng.integers(1, 9)).tolist() for high in (3, 50, 29_000) for _ in range(4000)
    ]
    keys, owners = names_of(*packed(queries), pairs=False, texts=True)
    numbers = keys[-len(queries) :].tolist()
    assert owners[-len(queries) :].tolist() == list(range(len(queries)))
    tuples = [tuple(query) for query in queries]
    assert max(numbers) < 0
    assert 9_000 < len(set(tuples)) < len(tuples)  # some are equal
    assert len(set(numbers)) == len(set(tuples)) == len(set(zip(numbers, tuples, strict=True)))


def known_bag(queries: list[list[int]], *, pairs: bool = True, texts: bool = True) -> WordBag:
    """A bag of the names of some queries."""
    keys, _ = names_of(*packed(queries), pairs=pairs, texts=texts)
    torch.manual_seed(4)
    distinct = torch.tensor(sorted(set(keys.tolist())))
    bag = WordBag(6, len(distinct), pairs=pairs, texts=texts)
    bag.keys.copy_(distinct)
    return bag


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("texts", [False, True])
def test_word_bag_is_a_sum_over_names(pairs: bool, texts: bool) -> None:
    bag = known_bag([[1, 2, 3], [4, 2], [2, 2]], pairs=pairs, texts=texts)
    row_of = {key: row for row, key in enumerate(bag.keys.tolist())}
    queries = [[1, 2, 3], [3, 2, 1], [2, 2, 2, 9], [4, 2], [4]]
    wanted = torch.zeros(len(queries), 6)
    for place, query in enumerate(queries):
        names = list(query)
        names += [pair(one, two) for one, two in itertools.pairwise(query)] if pairs else []
        names += [text_number(query)] if texts else []
        for name in names:
            if name in row_of:
                wanted[place] += bag.weight[row_of[name]].detach()
    torch.testing.assert_close(bag(*packed(queries)).detach(), wanted, atol=1e-6, rtol=0)


def test_unknown_names_add_nothing_and_unknown_queries_are_zero() -> None:
    bag = known_bag([[1, 2], [3]])
    got = bag(*packed([[1, 2], [99, 98], [0], [FIRST_PAIR - 1]])).detach()
    assert got[0].norm() > 0
    assert torch.equal(got[1:], torch.zeros(3, 6))
    one = bag(*packed([[1, 50]])).detach()[0]
    assert torch.equal(one, bag.weight[int(torch.searchsorted(bag.keys, 1))].detach())


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


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_pools_are_those_of_a_loop(view: View) -> None:
    photos = photos_of([3, 1, 5, 3], seed=1)
    unit = view.look == "unit"
    wanted = pooled_by_loop(photos, view.pools, unit=unit)
    got = pool_regions(photos, view.pools, unit=unit)
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-6, rtol=0)


def test_a_maximum_may_be_negative_and_a_region_without_length_stays_zero() -> None:
    photos = Regions(torch.tensor([[-3.0, -4.0], [-6.0, -2.0], [0.0, 0.0]]), torch.tensor([2, 1]))
    assert pool_regions(photos, ("max",), unit=False).tolist() == [[-3, -2], [0, 0]]
    assert pool_regions(photos, ("first", "mean"), unit=True)[1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_pooled_regions_equal_their_formula(view: View) -> None:
    torch.manual_seed(2)
    branch = PooledRegions(4, 5, view).eval()
    branch.centre.normal_()
    branch.spread.uniform_(0.5, 2)
    photos = photos_of([2, 4, 1], seed=3)
    values, unit = photos.features.numpy(), view.look == "unit"
    seen = (
        photos.with_features(torch.from_numpy(np.sign(values) * np.sqrt(np.abs(values)))) if unit else photos
    )
    pooled = pooled_by_loop(seen, view.pools, unit=unit)
    standard = (pooled - branch.centre.numpy()) / branch.spread.numpy()
    wanted = standard @ branch.dense.weight.detach().numpy().T + branch.dense.bias.detach().numpy()
    np.testing.assert_allclose(branch(photos).detach().numpy(), wanted, atol=1e-5, rtol=0)


def test_pooled_values_are_dropped_while_training_only() -> None:
    torch.manual_seed(0)
    branch = PooledRegions(4, 5, View("unit", ("mean",)), dropout=0.5)
    photos = photos_of([2, 4])
    assert not torch.equal(branch(photos), branch(photos))
    branch.eval()
    assert torch.equal(branch(photos), branch(photos))


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=7),
    seed=st.integers(0, 999),
    view=st.sampled_from(VIEWS),
)
def test_company_and_order_do_not_change_a_photo(lengths: list[int], seed: int, view: View) -> None:
    torch.manual_seed(2)
    branch = PooledRegions(4, 5, view).eval()
    photos = photos_of(lengths, seed)
    together = branch(photos)
    parts = [photos.part(place, place + 1) for place in range(len(lengths))]
    torch.testing.assert_close(together, torch.cat([branch(part) for part in parts]), atol=1e-5, rtol=0)
    order = np.random.default_rng(seed).permutation(len(lengths)).tolist()
    mixed = Regions(torch.cat([parts[place].regions for place in order]), photos.counts[order])
    torch.testing.assert_close(branch(mixed), together[order], atol=1e-5, rtol=0)
