"""The closed form against scikit-learn's ridge regression and numpy's singular values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.linear_model import Ridge
from torch import Tensor

from shopwindow.data.dataset import Dataset
from shopwindow.model.bags import FIRST_PAIR, PooledRegions, WordBag
from shopwindow.model.naming import (
    Named,
    _from_moments,
    _from_products,
    fit_naming,
    known_names,
    name_products,
    pooled_statistics,
)
from shopwindow.model.recipe import View, load_recipe
from shopwindow.model.tokens import tokenize, train_tokenizer
from shopwindow.model.training import train
from shopwindow.model.validation import Validation
from shopwindow.ranking.answers import read_answers
from tests.model.conftest import TinyShop

RIDGE, RARE = 2.0, 0.65
NAMES = 60


@dataclass(frozen=True)
class Case:
    """Products of the tiny shop with random names, and the branch that looks at them."""

    dataset: Dataset
    pooled: PooledRegions
    named: Named

    @property
    def standardised(self) -> np.ndarray:
        raw = self.pooled.pooled(self.dataset.regions(self.named.products, boxes=False))
        values: np.ndarray = ((raw - self.pooled.centre) / self.pooled.spread).double().numpy()
        return values

    def bag(self, dimensions: int) -> WordBag:
        """A third of the names tokens, pairs and whole queries each."""
        bag = WordBag(dimensions, NAMES, pairs=True, texts=True)
        third = torch.arange(NAMES // 3)
        bag.keys.copy_(torch.cat([third - 1000, third, third + FIRST_PAIR]))
        return bag

    def answers(self) -> np.ndarray:
        """What ridge regression (scikit-learn's) says to each name of each product, weighted."""
        names = self.named.names.toarray()
        values = self.standardised
        oracle = Ridge(alpha=RIDGE).fit(values, names)
        weighted: np.ndarray = values @ oracle.coef_.T * np.maximum(names.sum(0), 1) ** -RARE
        return weighted


def case(
    shop: TinyShop, dimensions: int, *, products: int = 180, view: str = "standard:first+mean+max"
) -> Case:
    rng = np.random.default_rng(3)
    chosen = np.sort(rng.choice(180, products, replace=False))
    names = sparse.random(products, NAMES, density=0.15, format="csr", random_state=rng)
    names.data[:] = 1.0
    torch.manual_seed(0)
    pooled = PooledRegions(dimensions, shop.train.feature_size, View.parse(view)).eval()
    pooled_statistics(pooled, shop.train, chosen, per_value=pooled.view.look == "standard")
    return Case(shop.train, pooled, Named(chosen, names))


def fit(one: Case, bag: WordBag, **changes: float) -> None:
    settings = {"ridge": RIDGE, "rare": RARE, "pair_weight": 0.5, "text_weight": 0.25, **changes}
    fit_naming(bag, one.pooled, one.dataset, one.named, **settings)  # type: ignore[arg-type] # all floats


@torch.no_grad()
def said(one: Case, bag: WordBag) -> np.ndarray:
    """What the fitted branch says to each name of each product."""
    photos = one.pooled(one.dataset.regions(one.named.products, boxes=False))
    scores: np.ndarray = (photos.double() @ bag.weight.double().T).numpy()
    return scores


def scale_between(got: np.ndarray, wanted: np.ndarray) -> float:
    return float((got * wanted).sum() / (wanted * wanted).sum())


@pytest.mark.parametrize("products", [180, 40], ids=["moments", "products"])
@pytest.mark.parametrize("view", ["standard:first+mean+max", "unit:mean+first+max"])
def test_at_full_rank_photos_answer_as_ridge_regression_does(
    tiny_shop: TinyShop, products: int, view: str
) -> None:
    one = case(tiny_shop, 60, products=products, view=view)
    assert (len(one.pooled.centre) < products) == (products == 180)
    bag = one.bag(60)
    fit(one, bag)
    wanted, got, third = one.answers(), said(one, bag), NAMES // 3
    tokens = slice(third, 2 * third)
    scale = scale_between(got[:, tokens], wanted[:, tokens])
    assert scale > 0
    largest = np.abs(wanted).max()
    # weights are kept in float32
    np.testing.assert_allclose(got[:, tokens] / scale, wanted[:, tokens], atol=1e-4 * largest, rtol=0)
    np.testing.assert_allclose(got[:, :third] / scale, 0.25 * wanted[:, :third], atol=1e-4 * largest, rtol=0)
    np.testing.assert_allclose(
        got[:, 2 * third :] / scale, 0.5 * wanted[:, 2 * third :], atol=1e-4 * largest, rtol=0
    )


@pytest.mark.parametrize("products", [180, 40], ids=["moments", "products"])
def test_truncated_answers_are_numpys_truncation(tiny_shop: TinyShop, products: int) -> None:
    one = case(tiny_shop, 4, products=products)
    bag = one.bag(4)
    path = _from_moments if products == 180 else _from_products
    weights = torch.from_numpy(np.maximum(one.named.names.toarray().sum(0), 1) ** -RARE)
    photo, right = path(one.pooled, one.dataset, one.named, weights, ridge=RIDGE, dimensions=4)
    left, values, rows = np.linalg.svd(one.answers(), full_matrices=False)
    wanted = (left[:, :4] * values[:4]) @ rows[:4]
    got = one.standardised @ photo.numpy() @ right.numpy().T
    length = np.sqrt((wanted**2).sum() / products)  # photos have length 1 on average
    np.testing.assert_allclose(got, wanted / length, atol=1e-6, rtol=0)
    fit(one, bag)
    third = NAMES // 3
    kept = said(one, bag)[:, third : 2 * third]
    kept /= scale_between(kept, wanted[:, third : 2 * third])
    np.testing.assert_allclose(kept, wanted[:, third : 2 * third], atol=1e-5, rtol=0)


@pytest.mark.parametrize("products", [180, 40])
@pytest.mark.parametrize("dimensions", [60, 5])
def test_both_paths_give_the_same_scores(tiny_shop: TinyShop, products: int, dimensions: int) -> None:
    one = case(tiny_shop, dimensions, products=products)
    weights = torch.rand(NAMES, dtype=torch.float64) + 0.5
    scores = []
    for path in (_from_moments, _from_products):
        photo, right = path(one.pooled, one.dataset, one.named, weights, ridge=RIDGE, dimensions=dimensions)
        assert right.shape[1] <= dimensions
        scores.append(one.standardised @ photo.numpy() @ right.numpy().T)
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6, rtol=0)


def test_photos_and_names_have_length_one_on_average(tiny_shop: TinyShop) -> None:
    one = case(tiny_shop, 5)
    bag = one.bag(5)
    fit(one, bag)
    with torch.no_grad():
        photos = one.pooled(one.dataset.regions(one.named.products, boxes=False))
    assert float(photos.square().sum(1).mean()) == pytest.approx(1, abs=1e-5)
    assert float(bag.weight.detach().norm(dim=1).mean()) == pytest.approx(1, abs=1e-5)


def test_the_largest_component_of_every_direction_is_positive(tiny_shop: TinyShop) -> None:
    for products, path in ((180, _from_moments), (40, _from_products)):
        one = case(tiny_shop, 7, products=products)
        weights = torch.ones(NAMES, dtype=torch.float64)
        _, right = path(one.pooled, one.dataset, one.named, weights, ridge=RIDGE, dimensions=7)
        assert right.shape == (NAMES, 7)
        assert all(column[column.abs().argmax()] > 0 for column in right.T)
        torch.testing.assert_close(right.T @ right, torch.eye(7, dtype=right.dtype), atol=1e-9, rtol=0)


def test_a_view_fills_its_own_columns_of_the_bag(tiny_shop: TinyShop) -> None:
    one = case(tiny_shop, 4)
    alone, shared = one.bag(4), one.bag(10)
    before = shared.weight.detach().clone()
    fit(one, alone)
    fit(one, shared, first=3)
    assert torch.equal(shared.weight[:, 3:7], alone.weight)
    assert torch.equal(shared.weight[:, :3], before[:, :3])
    assert torch.equal(shared.weight[:, 7:], before[:, 7:])


def test_dimensions_beyond_the_rank_stay_zero(tiny_shop: TinyShop) -> None:
    one = case(tiny_shop, 80)
    bag = one.bag(80)
    fit(one, bag)
    assert torch.equal(bag.weight[:, 60:], torch.zeros(NAMES, 20))
    assert torch.equal(one.pooled.dense.weight[60:], torch.zeros(20, len(one.pooled.centre)))
    assert torch.equal(one.pooled.dense.bias, torch.zeros(80))


@pytest.mark.parametrize("ridge", [0.0, -1.0, float("nan")])
def test_a_ridge_that_is_not_positive_is_refused(tiny_shop: TinyShop, ridge: float) -> None:
    one = case(tiny_shop, 4)
    with pytest.raises(ValueError, match=f"ridge {ridge}: more than 0 is needed"):
        fit(one, one.bag(4), ridge=ridge)


@pytest.mark.parametrize("per_value", [False, True])
def test_statistics_are_those_of_the_pooled_values(tiny_shop: TinyShop, per_value: bool) -> None:
    pooled = PooledRegions(4, tiny_shop.train.feature_size, View.parse("unit:first+max"))
    products = np.arange(3, 170, 2)
    values = pooled.pooled(tiny_shop.train.regions(products, boxes=False)).double().numpy()
    pooled_statistics(pooled, tiny_shop.train, products, per_value=per_value)
    np.testing.assert_allclose(pooled.centre.numpy(), values.mean(0), atol=1e-6, rtol=0)
    if per_value:
        wanted = np.maximum(values.std(0), 1e-3)
    else:
        wanted = np.full(values.shape[1], np.sqrt(((values - values.mean(0)) ** 2).sum(1).mean()))
    np.testing.assert_allclose(pooled.spread.numpy(), wanted, atol=1e-6, rtol=0)


def learned(shop: TinyShop, order: np.ndarray) -> tuple[PooledRegions, WordBag, Named, Tensor]:
    """All that the closed form gives, of the training pairs in some order."""
    dataset = shop.train
    tokens, lengths = tokenize(
        train_tokenizer(dataset.query_texts, vocabulary=200), dataset.query_texts, longest=16
    )
    keys = known_names(tokens, lengths, pairs=True, texts=True, ignored=frozenset(range(5)))
    torch.manual_seed(0)
    bag = WordBag(6, len(keys), pairs=True, texts=True)
    bag.keys.copy_(keys)
    named = name_products(
        bag,
        tokens,
        lengths,
        dataset.pair_queries[order],
        dataset.pair_products[order],
        np.random.default_rng(1),
    )
    pooled = PooledRegions(6, dataset.feature_size, View.parse("unit:first+mean")).eval()
    pooled_statistics(pooled, dataset, named.products, per_value=False)
    fit(Case(dataset, pooled, named), bag)
    return pooled, bag, named, tokens


def test_same_pairs_in_another_order_give_the_same_weights(tiny_shop: TinyShop) -> None:
    pairs = len(tiny_shop.train.pair_queries)
    first, first_bag, *_ = learned(tiny_shop, np.arange(pairs))
    twice = np.concatenate([np.arange(pairs), np.arange(0, pairs, 3)])  # a pair said twice counts once
    for order in (np.arange(pairs)[::-1].copy(), np.random.default_rng(5).permutation(twice)):
        torch.manual_seed(len(order))
        other, other_bag, *_ = learned(tiny_shop, order)
        assert torch.equal(first.dense.weight, other.dense.weight)
        assert torch.equal(first_bag.weight, other_bag.weight)


def test_products_go_by_the_names_of_all_their_queries() -> None:
    bag = WordBag(3, 4, pairs=True, texts=False)
    bag.keys.copy_(torch.tensor([5, 6, 7, 6 * FIRST_PAIR + 6]))  # the last is the pair 5 6
    tokens, lengths = torch.tensor([5, 6, 7, 9, 5]), torch.tensor([2, 2, 1])
    queries, products = np.array([0, 1, 2, 2, 0]), np.array([40, 40, 12, 12, 30])
    named = name_products(bag, tokens, lengths, queries, products, np.random.default_rng(0))
    assert named.products.tolist() == [12, 30, 40]
    assert named.names.toarray().tolist() == [[1, 0, 0, 0], [1, 1, 0, 1], [1, 1, 1, 1]]


def test_known_names_are_the_most_frequent_and_ties_go_to_the_smaller() -> None:
    tokens, lengths = torch.tensor([9, 4, 7, 4, 7, 8, 1, 1, 1]), torch.tensor([3, 3, 3])

    def names(most: int, ignored: frozenset[int] = frozenset({1})) -> list[int]:
        found = known_names(tokens, lengths, pairs=False, texts=False, ignored=ignored, most=most)
        kept: list[int] = found.tolist()
        return kept

    assert names(99) == [4, 7, 8, 9]
    assert names(1) == [4]  # 4 and 7 twice each
    assert names(3) == [4, 7, 8]  # 8 and 9 once each
    assert names(1, frozenset()) == [1]
    assert names(99, frozenset()) == [1, 4, 7, 8, 9]


def test_pairs_with_ignored_tokens_are_names() -> None:
    tokens, lengths = torch.tensor([2, 8, 3]), torch.tensor([3])
    found = known_names(tokens, lengths, pairs=True, texts=True, ignored=frozenset({2, 3})).tolist()
    assert found[1:] == [8, 3 * FIRST_PAIR + 8, 9 * FIRST_PAIR + 3]
    assert found[0] < 0


def test_queries_without_any_name_are_refused() -> None:
    with pytest.raises(ValueError, match="the training queries hold no word"):
        known_names(
            torch.tensor([2, 3]), torch.tensor([2]), pairs=False, texts=False, ignored=frozenset({2, 3})
        )


def test_the_closed_form_alone_ranks_the_tiny_shop(tiny_shop: TinyShop, tmp_path: Path) -> None:
    recipe = load_recipe(
        "seed",
        {
            "hidden": 12,
            "text": "bag",
            "photo": "bag",
            "naming": 1.0,
            "epochs": 0,
            "normalise": True,
            "batch_size": 30,
            "vocabulary": 200,
        },
    )
    validation = Validation(tiny_shop.valid, read_answers(tiny_shop.answers))
    bundle = train(tiny_shop.train, recipe, tmp_path / "one", validation=validation)
    assert bundle.scores["nDCG@5"] > 0.8  # random order scores about 0.25
    again = train(tiny_shop.train, recipe, tmp_path / "two", validation=validation)
    assert again.scores == bundle.scores
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two
