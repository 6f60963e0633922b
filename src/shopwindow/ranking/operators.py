"""What do the candidates of a pool say about each other? Operators that score a pool anew from its vectors.

A pool operator takes the vector of a query and those of its candidates and gives scores, higher is better. Pools are
side by side: no pool knows of another. Pure functions, exact in the pool. Each says what it costs, and its *catalogue
form*: what it is where a whole catalogue is ranked. They know vectors, no model, no ids, no files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from scipy import sparse

PoolOperator = Callable[
    [Float[np.ndarray, " dimensions"], Float[np.ndarray, "candidates dimensions"]],
    Float64[np.ndarray, " candidates"],
]
"""(the words' vector, the candidates' vectors) -> the candidates' scores."""

SEED_WEIGHTS: Final = (0.7, 0.2, 0.1)
ROWS_AT_ONCE: Final = 1024
OTHERS_AT_ONCE: Final = 8192
"""A block of distances has at most ROWS_AT_ONCE x OTHERS_AT_ONCE numbers: 32 MB in float32."""
_MOST_NEIGHBOURS: Final = 2**31 - 1


def smooth_vectors(
    photos: Float[np.ndarray, "photos dimensions"], weights: tuple[float, ...] = SEED_WEIGHTS
) -> Float[np.ndarray, "photos dimensions"]:
    """Each vector becomes weights[0] of itself + weights[1] of its nearest other + weights[2] of its second ...

    So a photo's score becomes the same mean of its own and its nearest others' scores. Nearest by Euclidean distance,
    never the vector itself, even where another is its exact copy; of equally near ones the earlier. Where there are
    fewer others than weights, the weights left over go to the vector itself. Vectors of length 1 come out shorter,
    most where the neighbours are far: divide by the length where that is not wanted. float32 or float64 as given.

    Cost: photos^2 x dimensions operations; memory the result and a few blocks of ROWS_AT_ONCE x OTHERS_AT_ONCE.
    Catalogue form, offered: the same call on the vectors of all products, exact. Each product then has one vector,
    the same for every query, that can be indexed.

    Source: the seed does this to the regions of a pool (`model/smoothing.py`). On the vectors of a catalogue: database
    augmentation, Turcot and Lowe, "Better matching with fewer features", ICCV Workshops 2009.
    Raises: ValueError for no weights, or one that is not finite.

    >>> smooth_vectors(np.array([[0.0], [1.0], [10.0]]))[:, 0].round(6).tolist()
    [1.2, 1.7, 7.2]
    """
    check_weights(weights)
    values = photos.astype(np.result_type(photos.dtype, np.float32), copy=False)
    neighbours = max(0, min(len(weights), len(values)) - 1)
    mixed = values * (weights[0] + sum(weights[1 + neighbours :]))
    if neighbours:
        mean = values.mean(axis=0)
        for start in range(0, len(values), ROWS_AT_ONCE):
            nearest = _nearest_others(values, mean, start, neighbours)
            for rank, others in enumerate(nearest.T):
                mixed[start : start + ROWS_AT_ONCE] += weights[1 + rank] * values[others]
    return mixed


def check_weights(weights: tuple[float, ...]) -> None:
    """Raises: ValueError for no weights of smoothing, all of them 0, or one that is not finite as a float32."""
    if not weights:
        raise ValueError("smoothing needs at least the weight of the vector itself")
    if not (np.abs(weights) <= np.finfo(np.float32).max).all():
        raise ValueError(f"weights {', '.join(map(str, weights))}: finite numbers were wanted")
    if not any(weights):
        raise ValueError(f"weights {', '.join(map(str, weights))}: at least one must not be 0")


def _nearest_others(
    values: Float[np.ndarray, "photos dimensions"],
    mean: Float[np.ndarray, " dimensions"],
    start: int,
    count: int,
) -> Int64[np.ndarray, "some count"]:
    """The `count` nearest others of the ROWS_AT_ONCE vectors from `start` on, nearest first, then the earlier.

    From the mean of all: differences of large numbers lose digits, and distances do not change by it.
    """
    some = values[start : start + ROWS_AT_ONCE] - mean
    rows = np.arange(len(some))
    candidates: list[np.ndarray] = []
    their_distances: list[np.ndarray] = []
    for first in range(0, len(values), OTHERS_AT_ONCE):
        others = values[first : first + OTHERS_AT_ONCE] - mean
        distances = np.einsum("oh,oh->o", others, others) - (2 * some) @ others.T
        here = (rows + start >= first) & (rows + start < first + len(others))
        distances[rows[here], rows[here] + start - first] = np.inf
        for _ in range(min(count, len(others))):
            nearest = distances.argmin(axis=1)
            candidates.append(nearest + first)
            their_distances.append(distances[rows, nearest])
            distances[rows, nearest] = np.inf
    # Earlier blocks hold earlier rows, so a stable order keeps the earlier of equally near ones.
    order = np.argsort(np.stack(their_distances, axis=1), axis=1, kind="stable")[:, :count]
    chosen: Int64[np.ndarray, "some count"] = np.take_along_axis(np.stack(candidates, axis=1), order, axis=1)
    return chosen


def expand_query(
    words: Float[np.ndarray, " dimensions"],
    photos: Float[np.ndarray, "candidates dimensions"],
    *,
    top: int = 5,
    alpha: float = 3.0,
) -> Float64[np.ndarray, " candidates"]:
    """Alpha query expansion: the scores after the query has moved towards its first photos.

    expanded = q + sum of max(0, cos(q, p))^alpha p over the `top` photos p with the highest scores. q and every p have
    length 1 there, and so has the result. Scores: the dot products of `expanded` with the photos as they are.

    The first photos are those of the plain order (the dot product; of equal scores the earlier); a smaller pool gives
    all it has. alpha 0 is the plain average; a photo with a cosine of 0 or below adds nothing, whatever alpha. Equal
    photos have equal scores.

    Cost: 2 x candidates x dimensions operations; memory candidates x dimensions numbers (float64).
    Catalogue form, not offered: two searches instead of one, the first for `top` products, the second with the
    expanded vector; exact as far as the search is.

    Source: Radenović, Tolias and Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2018, 4.3.
    Raises: ValueError for a top below 1, an alpha that is negative or not finite.

    >>> expand_query(np.array([1.0, 0.0]), np.array([[0.6, 0.8], [0.0, 1.0]]), top=1, alpha=1.0).round(4).tolist()
    [0.8321, 0.3328]
    """
    if top < 1:
        raise ValueError(f"top {top}: at least 1 was wanted")
    if not 0 <= alpha < np.inf:
        raise ValueError(f"alpha {alpha}: a finite number of at least 0 was wanted")
    first = np.argsort(-_dots(words, photos), kind="stable")[:top]
    query, nearest = _of_length_1(words[None])[0], _of_length_1(photos[first])
    similarity = nearest @ query
    expanded = query + np.where(similarity > 0, np.maximum(similarity, 0) ** alpha, 0) @ nearest
    return _dots(_of_length_1(expanded[None])[0], photos)


def reciprocal_rerank(
    words: Float[np.ndarray, " dimensions"],
    photos: Float[np.ndarray, "candidates dimensions"],
    *,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
) -> Float64[np.ndarray, " candidates"]:
    """k-reciprocal re-ranking: near is what has the same neighbours as the query, between 0 (best) and -1.

    Query and candidates are one set of vectors brought to length 1; d(p, g) is the squared Euclidean distance over the
    greatest of p's. N(p, k): p, its k nearest others, and all that are as near as the k-th. So equal photos have equal
    scores, and the order of candidates does not matter. With a set of fewer than k others N is the set.

    1. R(p, k) = {g in N(p, k): p in N(g, k)}, h = k1 / 2 rounded half to even.
    2. R*(p) = R(p, k1) and each R(g, h), g in R(p, k1), with |R(p, k1) & R(g, h)| >= 2/3 |R(g, h)|.
    3. V(p, g) = exp(-d(p, g)) for g in R*(p), else 0; then V(p) = mean of V(g) over g in N(p, k2 - 1).
    4. J(g) = 1 - sum min(V(query), V(g)) / sum max(V(query), V(g)).
    5. score(g) = -((1 - weight) J(g) + weight d(query, g)).

    So `weight` (the paper's lambda) is that of the *original* distance: 1 is the plain order by cosine, 0 neighbours
    alone. A model whose vectors are not of length 1 is ranked by cosine here. Photos may be nearer to each other than
    to any words: then the query is no photo's neighbour in pools larger than k1, and reaches them only by step 3.

    Cost: n^2 x dimensions + about n x k1^2 operations, n = candidates + 1; memory 3 n^2 numbers (24 MB for 1,000
    candidates, 2.4 GB for 10,000) and n x k1 x k2 in the sparse V. Many exact copies make N, and so V, as large as
    n^2. Catalogue form, not offered: steps 1 to 3 of the products do not need the query. N, R* and V of all products
    (sparse) would be kept with the index, and a query would join by its own neighbours. That is not the same as in a
    pool: neighbours are of the catalogue. This function can take the first hits of a search as the pool.

    Source: Zhong, Zheng, Cao and Li, "Re-ranking person re-identification with k-reciprocal encoding", CVPR 2017. The
    distance's scale, that p is in N(p, k) and counts in k2, and the rounding of h, are from the authors' code
    (github.com/zhunzhong07/person-re-ranking); that code also has > for >=, and brings each V(p) to sum 1.
    Raises: ValueError for k1 or k2 below 1, a weight outside 0 to 1.
    """
    for name, k in (("k1", k1), ("k2", k2)):
        if k < 1:
            raise ValueError(f"{name} {k}: at least 1 was wanted")
    if not 0 <= weight <= 1:
        raise ValueError(f"weight {weight}: a number from 0 to 1 was wanted")
    distances = _relative_distances(np.concatenate([words[None], photos]))
    near, nearer, nearest = _neighbourhoods(distances, (k1, round(k1 / 2), k2 - 1))
    encoded = _encode(distances, sparse.csr_array(near & near.T), sparse.csr_array(nearer & nearer.T))
    local = sparse.csr_array(nearest / nearest.sum(axis=1, keepdims=True)) @ encoded
    query = local[[0]]
    shared = np.minimum(local[:, query.indices].toarray(), query.data).sum(axis=1)
    either = local.sum(axis=1) + query.data.sum() - shared
    final = (1 - weight) * (1 - shared / either) + weight * distances[0]
    scores: Float64[np.ndarray, " candidates"] = -final[1:]
    return scores


def _relative_distances(vectors: Float[np.ndarray, "n dimensions"]) -> Float64[np.ndarray, "n n"]:
    """Squared Euclidean distances between the vectors brought to length 1; each row over its greatest, where not 0.

    Computed once for each distinct vector, in the order of their bytes. So copies have equal distances to the last bit,
    0 to each other, and no number depends on the order of the vectors.
    """
    units = _of_length_1(vectors) + 0.0  # -0.0 and 0.0 are one number of different bytes
    as_bytes = units.view(np.dtype((np.void, units.dtype.itemsize * units.shape[1])))[:, 0]
    _, first, place = np.unique(as_bytes, return_index=True, return_inverse=True)
    distinct = units[first]
    squares = np.einsum("nh,nh->n", distinct, distinct)
    distances = np.maximum(squares[:, None] + squares - 2 * distinct @ distinct.T, 0)
    np.fill_diagonal(distances, 0)
    greatest = distances.max(axis=1, keepdims=True)
    distances /= np.where(greatest > 0, greatest, 1)
    whole: Float64[np.ndarray, "n n"] = distances[place[:, None], place]
    return whole


def _neighbourhoods(
    distances: Float64[np.ndarray, "n n"], sizes: tuple[int, ...]
) -> list[Bool[np.ndarray, "n n"]]:
    """For each size k, whether column g is in N(row p, k): p, its k nearest others, and all as near as the k-th."""
    places = [min(k, len(distances) - 1) for k in sizes]
    ordered = np.partition(distances, sorted(set(places)), axis=1)
    return [distances <= ordered[:, place, None] for place in places]


def _encode(
    distances: Float64[np.ndarray, "n n"], reciprocal: sparse.csr_array, half: sparse.csr_array
) -> sparse.csr_array:
    """V of step 3, from R(., k1) and R(., h), which are symmetric."""
    reciprocal, half = reciprocal.astype(np.int64), half.astype(np.int64)
    overlap = (reciprocal @ half).multiply(reciprocal).tocoo()
    mostly_shared = 3 * overlap.data >= 2 * half.sum(axis=1)[overlap.col]
    joined = sparse.csr_array(
        (
            mostly_shared[mostly_shared].astype(np.int64),
            (overlap.row[mostly_shared], overlap.col[mostly_shared]),
        ),
        shape=half.shape,
    )
    rows, columns = (reciprocal + joined @ half).nonzero()
    return sparse.csr_array((np.exp(-distances[rows, columns]), (rows, columns)), shape=half.shape)


def _of_length_1(vectors: Float[np.ndarray, "n dimensions"]) -> Float64[np.ndarray, "n dimensions"]:
    """The vectors over their lengths, float64; a vector of zeros stays one."""
    values = vectors.astype(np.float64)
    lengths = np.sqrt(np.einsum("nh,nh->n", values, values))[:, None]
    units: Float64[np.ndarray, "n dimensions"] = values / np.where(lengths > 0, lengths, 1)
    return units


def _dots(
    words: Float[np.ndarray, " dimensions"], photos: Float[np.ndarray, "candidates dimensions"]
) -> Float64[np.ndarray, " candidates"]:
    """Dot products in float64, row by row, so that equal photos have equal scores to the last bit."""
    scores: Float64[np.ndarray, " candidates"] = np.einsum(
        "ch,h->c", np.ascontiguousarray(photos, np.float64), words.astype(np.float64)
    )
    return scores


_NUMBERS: Final = {
    "smooth": ("weight, weight, ...", SEED_WEIGHTS),
    "expand": ("top, alpha", (5, 3)),
    "reciprocal": ("k1, k2, weight", (20, 6, 0.3)),
}


@dataclass(frozen=True)
class Operator:
    """A pool operator with its numbers; `str` and `Operator.parse` are inverse.

    `smooth:0.7,0.2,0.1` is `smooth_vectors` (one weight or more), `expand:5,3` is `expand_query` (top, alpha),
    `reciprocal:20,6,0.3` is `reciprocal_rerank` (k1, k2, weight).

    >>> Operator.parse("expand"), str(Operator("reciprocal", (10, 3, 0.5)))
    (Operator(kind='expand', numbers=(5, 3)), 'reciprocal:10,3,0.5')
    """

    kind: str
    numbers: tuple[int | float, ...]

    def __post_init__(self) -> None:
        if self.kind not in _NUMBERS:
            raise ValueError(f"operator {self.kind!r}: one of {', '.join(_NUMBERS)} was wanted")
        names, usual = _NUMBERS[self.kind]
        if not self.numbers or (self.kind != "smooth" and len(self.numbers) != len(usual)):
            written = f"{self.kind}:{','.join(map(str, usual))}"
            raise ValueError(f"operator {str(self)!r}: numbers {names} were wanted, as in {written}")
        try:
            self(np.ones(1), np.ones((1, 1)))  # each function checks its own numbers
        except (ValueError, OverflowError) as error:
            raise ValueError(f"operator {str(self)!r}: {error}") from error

    def __str__(self) -> str:
        return f"{self.kind}:{','.join(map(str, self.numbers))}"

    @classmethod
    def parse(cls, text: str) -> Operator:
        """The operator so written: a name alone has the usual numbers, else all of them follow after a colon.

        Raises: ValueError saying what can be written, or which number is wrong.
        """
        kind, colon, written = text.strip().partition(":")
        if not colon:
            return cls(kind, _NUMBERS[kind][1] if kind in _NUMBERS else ())
        try:
            numbers = tuple(_number(word) for word in written.split(","))
        except ValueError as error:
            raise ValueError(
                f"operator {text!r}: {written!r} are no numbers with commas, as in reciprocal:20,6,0.3"
            ) from error
        return cls(kind, numbers)

    def __call__(
        self, words: Float[np.ndarray, " dimensions"], photos: Float[np.ndarray, "candidates dimensions"]
    ) -> Float64[np.ndarray, " candidates"]:
        """The scores of one pool's candidates, in their order; an empty pool has none."""
        match self.kind:
            case "smooth":
                return _dots(words, smooth_vectors(photos, tuple(map(float, self.numbers))))
            case "expand":
                top, alpha = self.numbers
                return expand_query(words, photos, top=_whole("top", top), alpha=float(alpha))
            case _:
                k1, k2, weight = self.numbers
                return reciprocal_rerank(
                    words, photos, k1=_whole("k1", k1), k2=_whole("k2", k2), weight=float(weight)
                )


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _whole(name: str, number: int | float) -> int:
    if not abs(number) <= _MOST_NEIGHBOURS or number != int(number):
        raise ValueError(f"{name} {number}: a whole number was wanted, at most {_MOST_NEIGHBOURS}")
    return int(number)
