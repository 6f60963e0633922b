"""What do the pairs teach in one pass: which names does a photo go by?

The two bags in closed form. Every photo is asked for every name of its queries (their words, pairs of words, the whole
query) by ridge regression from its pooled regions; the answers, weighted so that rare names count, are then brought
down to as many dimensions as the vectors have. A photo's vector times a query's is the sum of what the photo says to
the query's names. No step, no batch, no negative: the same pairs give the same weights. A training may go on from here.

Source: ridge regression as a multi-label classifier (Hoerl and Kennard 1970); the reduction is the truncated singular
value decomposition of the weighted answers (Eckart and Young 1936), which is canonical correlation's cousin
(Hardoon et al. 2004); the sketch that finds it is Halko, Martinsson and Tropp's (2011).

Legend of axes: products = training products, values = their pooled regions, names = as bags.py counts them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float64, Int64
from scipy import sparse
from torch import Tensor

from shopwindow.data.dataset import Dataset
from shopwindow.model.bags import FIRST_PAIR, PooledRegions, WordBag, names_of
from shopwindow.model.packing import Lengths

MOST_NAMES: Final = 20_000
"""The most frequent ones; the closed form keeps values x names numbers (0.7 GB at 4,096 values)."""
MOST_PRODUCTS: Final = 200_000
"""From which the closed form learns; more are sampled."""
_PRODUCTS_AT_ONCE: Final = 1024
_ROUNDS: Final = 6


@dataclass(frozen=True)
class Named:
    """The training products and their names: a matrix of 0 and 1, and what each product's row in the dataset is."""

    products: Int64[np.ndarray, " products"]
    names: sparse.csr_matrix


def known_names(
    tokens: Int64[Tensor, " tokens"],
    lengths: Lengths,
    *,
    pairs: bool,
    texts: bool,
    ignored: frozenset[int],
    most: int = MOST_NAMES,
) -> Int64[Tensor, " names"]:
    """The names that occur in some queries, ascending: the `most` frequent (ties: the smaller number).

    `ignored` tokens ([CLS], [SEP] ...) are no names; a pair with one of them is (it says what a query begins with).

    Raises: ValueError where there is no name at all.
    """
    keys, _ = names_of(tokens, lengths, pairs=pairs, texts=texts)
    found, counts = torch.unique(keys, return_counts=True)
    kept = ~torch.isin(found, torch.tensor(sorted(ignored), dtype=torch.int64))
    found, counts = found[kept], counts[kept]
    if not len(found):
        raise ValueError("the training queries hold no word")
    most_first = torch.argsort(counts, descending=True, stable=True)[:most]
    kept_names: Tensor = found[most_first].sort().values
    return kept_names


def name_products(
    bag: WordBag,
    tokens: Int64[Tensor, " tokens"],
    lengths: Lengths,
    pair_queries: Int64[np.ndarray, " pairs"],
    pair_products: Int64[np.ndarray, " pairs"],
    generator: np.random.Generator,
) -> Named:
    """Which names of the bag the training products go by. `tokens` are those of all queries, end to end."""
    keys, owners = names_of(tokens, lengths, pairs=bag.pairs, texts=bag.texts)
    rows, found = bag.rows_of(keys)
    of_query = sparse.csr_matrix(
        (np.ones(len(found)), (owners[found].numpy(), rows[found].numpy())),
        shape=(len(lengths), len(bag.keys)),
    )
    products = np.unique(pair_products)
    if len(products) > MOST_PRODUCTS:
        products = np.sort(generator.choice(products, MOST_PRODUCTS, replace=False))
    used = np.isin(pair_products, products)
    places = np.searchsorted(products, pair_products[used])
    queries = pair_queries[used]
    asked = sparse.csr_matrix((np.ones(len(queries)), (places, queries)), shape=(len(products), len(lengths)))
    names = (asked @ of_query).tocsr()
    names.data[:] = 1.0
    return Named(products, names)


def pooled_statistics(
    pooled: PooledRegions,
    dataset: Dataset,
    products: Int64[np.ndarray, " products"],
    *,
    per_value: bool,
) -> None:
    """Sets the branch's centre to the mean of these products' pooled values, and its spread.

    The spread is each value's standard deviation, or (not `per_value`) one number for all: the root of the mean
    squared length of the centred whole, so that a photo has length 1 on average.
    """
    total = torch.zeros_like(pooled.centre, dtype=torch.float64)
    squares = torch.zeros_like(total)
    for _, values in _pooled(pooled, dataset, products):
        total += values.double().sum(0)
        squares += values.double().square().sum(0)
    centre = total / len(products)
    variance = (squares / len(products) - centre.square()).clamp(min=0)
    spread = variance.sqrt() if per_value else variance.sum().sqrt().expand_as(variance)
    pooled.centre.copy_(centre)
    pooled.spread.copy_(spread.clamp(min=1e-3))


@torch.no_grad()
def fit_naming(
    bag: WordBag,
    pooled: PooledRegions,
    dataset: Dataset,
    named: Named,
    *,
    ridge: float,
    rare: float,
    pair_weight: float,
    text_weight: float,
    first: int = 0,
) -> None:
    """Sets the weights of a view, and of the bag's columns from the `first` on, in closed form; the statistics of
    `pooled` must have been set before.

    A photo x (centred, divided by the spread) answers to name n with x W[:, n], where W minimises
    |X W - (Y - mean Y)|^2 + ridge |W|^2. The answer is weighted by count(n)^-rare, that of a pair of words also by
    `pair_weight`, of a whole query by `text_weight`. Photo vectors have length 1 on average over the products, the
    bag's rows too. Cost: products x values^2 + values^2 x names operations; memory values x names numbers of 8 bytes.

    Raises: ValueError for a ridge that is not positive.
    """
    if not ridge > 0:
        raise ValueError(f"ridge {ridge}: more than 0 is needed")
    counts = np.asarray(named.names.sum(0)).ravel()
    weights = torch.from_numpy(np.maximum(counts, 1.0) ** -rare)
    few = len(named.products) <= len(pooled.centre)
    photo, names = (_from_products if few else _from_moments)(
        pooled, dataset, named, weights, ridge=ridge, dimensions=pooled.dense.out_features
    )
    kind = torch.ones(len(bag.keys), dtype=names.dtype)
    kind[bag.keys >= FIRST_PAIR] = pair_weight
    kind[bag.keys < 0] = text_weight
    names = names * kind[:, None]
    pooled.dense.weight.zero_()
    pooled.dense.bias.zero_()
    own = bag.weight[:, first : first + pooled.dense.out_features]
    own.zero_()
    pooled.dense.weight[: photo.shape[1]] = photo.T.float()
    own[:, : names.shape[1]] = (names / names.norm(dim=1).mean().clamp(min=1e-12)).float()


def _from_moments(
    pooled: PooledRegions,
    dataset: Dataset,
    named: Named,
    weights: Float64[Tensor, " names"],
    *,
    ridge: float,
    dimensions: int,
) -> tuple[Float64[Tensor, "values kept"], Float64[Tensor, "names kept"]]:
    """The reduced maps of photos and names from X'X and X'Y: for more products than values."""
    gram, cross = _moments(pooled, dataset, named)
    eye = torch.eye(len(gram), dtype=gram.dtype)
    answers = torch.linalg.solve(gram + ridge * eye, cross) * weights
    root = torch.linalg.cholesky(gram + (1e-9 * gram.diagonal().mean()).clamp(min=1e-12) * eye)
    right = _leading(root.T @ answers, dimensions)
    photo = answers @ right
    squares = (photo * (gram @ photo)).sum()
    return photo / (squares / len(named.products)).clamp(min=1e-24).sqrt(), right


def _from_products(
    pooled: PooledRegions,
    dataset: Dataset,
    named: Named,
    weights: Float64[Tensor, " names"],
    *,
    ridge: float,
    dimensions: int,
) -> tuple[Float64[Tensor, "values kept"], Float64[Tensor, "names kept"]]:
    """The same from the products themselves, (XX' + ridge)^-1 Y: the same numbers, cheaper where products are few."""
    parts = [raw for _, raw in _pooled(pooled, dataset, named.products)]
    photos = ((torch.cat(parts) - pooled.centre) / pooled.spread).double()
    names = torch.from_numpy(named.names.toarray())
    names = (names - names.mean(0)) * weights
    gram = photos @ photos.T
    dual = torch.linalg.solve(gram + ridge * torch.eye(len(gram), dtype=gram.dtype), names)
    seen = gram @ dual
    right = _leading(seen, dimensions)
    length = (seen @ right).square().sum(1).mean().clamp(min=1e-24).sqrt()
    return photos.T @ (dual @ right) / length, right


def _moments(
    pooled: PooledRegions, dataset: Dataset, named: Named
) -> tuple[Float64[Tensor, "values values"], Float64[Tensor, "values names"]]:
    """X'X and X'(Y - mean Y) of the standardised pooled values X."""
    values = len(pooled.centre)
    gram = torch.zeros(values, values, dtype=torch.float64)
    cross = np.zeros((values, named.names.shape[1]))
    total = torch.zeros(values, dtype=torch.float64)
    for rows, raw in _pooled(pooled, dataset, named.products):
        some = ((raw - pooled.centre) / pooled.spread).double()
        gram += some.T @ some
        cross += (named.names[rows].T @ some.numpy()).T
        total += some.sum(0)
    mean = np.asarray(named.names.mean(0)).ravel()
    return gram, torch.from_numpy(cross - np.outer(total.numpy(), mean))


def _leading(seen: Float64[Tensor, "rows names"], dimensions: int) -> Float64[Tensor, "names kept"]:
    """The leading right singular vectors, at most `dimensions`; of each the largest component is positive."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, _, right = torch.svd_lowrank(seen, q=min(dimensions + 32, *seen.shape), niter=_ROUNDS)
    right = right[:, :dimensions]
    largest = right.abs().argmax(0)
    signed: Tensor = right * torch.where(right[largest, torch.arange(right.shape[1])] < 0, -1.0, 1.0)
    return signed


def _pooled(
    pooled: PooledRegions, dataset: Dataset, products: Int64[np.ndarray, " products"]
) -> Iterator[tuple[slice, Tensor]]:
    """The pooled values of the products, some at a time, with the places they have among the products."""
    for start in range(0, len(products), _PRODUCTS_AT_ONCE):
        place = slice(start, min(start + _PRODUCTS_AT_ONCE, len(products)))
        photos = dataset.regions(products[place], boxes=False)
        yield place, pooled.pooled(photos)
