"""With which weights do the bags and the late interaction begin?

Builds them for a dataset by a recipe: which names there are, how photos are centred, and, where the recipe says so, the
closed form of `naming.py`. Knows no BERT tower.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from jaxtyping import Int64
from tokenizers import Tokenizer
from torch import Tensor

from shopwindow.data.dataset import Dataset
from shopwindow.data.queries import choose_query_rules, normalise
from shopwindow.files import DataError
from shopwindow.model.bags import PooledRegions, WordBag
from shopwindow.model.late import LateInteraction
from shopwindow.model.naming import (
    MOST_PRODUCTS,
    Named,
    fit_naming,
    known_names,
    name_products,
    pooled_statistics,
)
from shopwindow.model.packing import Lengths
from shopwindow.model.recipe import Recipe, View
from shopwindow.model.tokenizer_files import SPECIAL_TOKENS
from shopwindow.model.tokens import tokenize

_SAMPLE: Final = 7


def bags(
    dataset: Dataset, recipe: Recipe, tokenizer: Tokenizer, width: int, vocabulary: int, longest: int
) -> tuple[WordBag | None, list[PooledRegions], LateInteraction | None]:
    """The bag of words, the views of photos and the late interaction that a recipe asks for; random where it says
    nothing, from torch's generator. `width`: values of one view; `longest`: tokens of a query.

    Raises: DataError where the training queries hold no word.
    """
    if "bag" not in recipe.text + recipe.photo and not recipe.late:
        return None, [], None
    learned = _Learned(dataset, recipe, tokenizer, longest)
    bag = late = None
    views: list[PooledRegions] = []
    if "bag" in recipe.text:
        bag = learned.word_bag(
            width * len(recipe.view_list) + recipe.common,
            pairs=recipe.pair_names > 0,
            texts=recipe.text_names > 0,
            common=recipe.common,
        )
    if "bag" in recipe.photo:
        for view in recipe.view_list:
            pooled = PooledRegions(width, dataset.feature_size, view, dropout=recipe.pooled_dropout)
            views.append(pooled)
        if recipe.common:
            mean = View("unit", ("mean",))
            views.append(
                PooledRegions(recipe.common, dataset.feature_size, mean, dropout=recipe.pooled_dropout)
            )
        for pooled in views:
            learned.centre(pooled)
    if recipe.naming and bag is not None:
        for number, pooled in enumerate(views[: len(recipe.view_list)]):
            learned.fit(bag, pooled, first=number * pooled.dense.out_features)
    if recipe.late:
        late = learned.late(recipe.late, vocabulary)
    return bag, views, late


class _Learned:
    """What the training pairs of a dataset give the bags."""

    def __init__(self, dataset: Dataset, recipe: Recipe, tokenizer: Tokenizer, longest: int) -> None:
        self._dataset = dataset
        self._recipe = recipe
        training = dataset.pair_training
        self._queries = dataset.pair_queries[training]
        self._products = dataset.pair_products[training]
        rules = choose_query_rules(recipe.rule_names)
        texts = [normalise(text, rules) for text in dataset.query_texts]
        self._tokens, self._lengths = tokenize(tokenizer, texts, longest=longest)
        numbers = (tokenizer.token_to_id(token) for token in SPECIAL_TOKENS)
        self._special = frozenset(number for number in numbers if number is not None)

    def word_bag(self, dimensions: int, *, pairs: bool, texts: bool, common: int = 0) -> WordBag:
        """A bag of the names that the training queries hold."""
        tokens, lengths = self._trained_on()
        try:
            keys = known_names(tokens, lengths, pairs=pairs, texts=texts, ignored=self._special)
        except ValueError as error:
            raise DataError(str(error), path=self._dataset.path) from error
        bag = WordBag(dimensions, len(keys), pairs=pairs, texts=texts, common=common)
        bag.keys.copy_(keys)
        return bag

    def _trained_on(self) -> tuple[Int64[Tensor, " tokens"], Lengths]:
        used = np.unique(self._queries)
        starts = (self._lengths.cumsum(0) - self._lengths).tolist()
        pieces = [self._tokens[starts[row] : starts[row] + int(self._lengths[row])] for row in used.tolist()]
        return torch.cat(pieces), self._lengths[torch.from_numpy(used)]

    def centre(self, pooled: PooledRegions) -> None:
        """Centres and scales the pooled values by the training products (a sample of many)."""
        products = np.unique(self._products)
        if len(products) > MOST_PRODUCTS:
            rng = np.random.default_rng(_SAMPLE)
            products = np.sort(rng.choice(products, MOST_PRODUCTS, replace=False))
        pooled_statistics(pooled, self._dataset, products, per_value=pooled.view.look == "standard")

    def named(self, bag: WordBag) -> Named:
        """The training products by the names of a bag."""
        return name_products(
            bag,
            self._tokens,
            self._lengths,
            self._queries,
            self._products,
            np.random.default_rng(_SAMPLE),
        )

    def fit(self, bag: WordBag, pooled: PooledRegions, *, first: int = 0) -> None:
        """Gives a view, and the bag's columns from the `first` on, the weights of the closed form."""
        fit_naming(
            bag,
            pooled,
            self._dataset,
            self.named(bag),
            ridge=self._recipe.naming or 1.0,
            rare=self._recipe.naming_rare,
            pair_weight=self._recipe.pair_names,
            text_weight=self._recipe.text_names,
            first=first,
        )

    def late(self, width: int, vocabulary: int) -> LateInteraction:
        """A late interaction that begins, where the recipe names, with the closed form of words and mean regions."""
        size = self._dataset.feature_size
        late = LateInteraction(vocabulary, size, width=width, dropout=self._recipe.pooled_dropout)
        late.words[sorted(self._special)] = False
        pooled = PooledRegions(width, size, View("unit", ("mean",)), dropout=0.0)
        self.centre(pooled)
        late.centre.copy_(pooled.centre)
        if self._recipe.naming:
            words = self.word_bag(width, pairs=False, texts=False)
            self.fit(words, pooled)
            with torch.no_grad():
                late.word.weight[words.keys] = words.weight
                late.region.weight.copy_(pooled.dense.weight)
        return late
