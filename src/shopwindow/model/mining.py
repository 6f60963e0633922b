"""Which queries does the model itself take for each other, and how many of those are truly the same thing?

Mines, for every text, the texts whose photos score highest with it, from vectors alone; leaves out what is known
to be true and what scores as true; estimates how much of the rest is true nevertheless. `Mined` hands the tables to
the batches of a training, one when an epoch begins. Knows vectors and numbers, no tower and no file.

Source: negatives from the model's own space, refreshed while it learns: L. Xiong et al., "Approximate nearest
neighbor negative contrastive learning" (ANCE), ICLR 2021. The margin by the positive's score: G. Moreira et al.,
"NV-Retriever: improving text embedding models with effective hard-negative mining", 2024 (TopK-PercPos, 0.95).

Legend of axes: texts = distinct texts by number; asked = those that are mined for, all of them or some; pairs = known
(text, product); candidates = what may be mined, one a text; dimensions = values of a vector.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from scipy import sparse

from shopwindow.data.grouping import ALONE

MARGIN: Final = 0.95
SCORES_AT_ONCE: Final = 2**26
"""Of a block: bounds the memory (256 MB, and what compares them)."""

TEXTS_ASKED: Final = 2_000
"""At most: of 2,000 texts a share of 1 % has a standard error of some 0.2 %."""
CANNOT_BE_SAID: Final = (
    "no product has texts of two meanings that nothing else tells to be one thing, and that others have too"
)
Table = Int64[np.ndarray, "asked neighbours"]


@dataclass(frozen=True)
class Contamination:
    """What one mined table holds. `share` is the estimated share that is true and not known to be, if each text has one
    true text of which nobody knows (`mining.contamination`); None where `why` says that it cannot be said.

    `known` is the share that would be known to be true, were it not left out. `relations` were hidden, of `texts`
    texts; `seconds` is what finding out took.
    """

    epoch: int
    share: float | None
    known: float | None
    relations: int
    texts: int
    seconds: float
    why: str = ""


def nearest_texts(
    vectors: Float32[np.ndarray, "texts dimensions"],
    candidates: Float32[np.ndarray, "texts dimensions"],
    count: int,
    *,
    asked: Int64[np.ndarray, " asked"] | None = None,
    known: sparse.csr_array | None = None,
    ceilings: Float32[np.ndarray, " asked"] | None = None,
    device: torch.device | str = "cpu",
    scores_at_once: int = SCORES_AT_ONCE,
) -> Table:
    """Of every text (of those `asked`, if not all) the `count` texts whose candidate scores highest with it (dot
    product), best first.

    Left out are the text itself, those stored in its row of `known` (asked x texts), and candidates that are
    not finite.
    So are scores above the text's value of `ceilings`. Rows are filled up with -1. The order is by higher
    score, then by
    smaller number. Scores are equal up to float32's rounding of a product. Cost: asked x texts x dimensions
    multiplications, in blocks of rows with at most `scores_at_once` scores in memory.
    """
    texts = len(vectors)
    count = min(count, max(0, texts - 1))
    asked = np.arange(texts) if asked is None else asked
    table = np.full((len(asked), count), ALONE, np.int64)
    if count == 0:
        return table
    usable = np.isfinite(candidates).all(axis=1)
    keys = torch.from_numpy(np.where(usable[:, None], candidates, 0)).to(device)
    unusable = torch.from_numpy(~usable).to(device)
    step = max(1, scores_at_once // texts)
    for start in range(0, len(asked), step):
        block = torch.from_numpy(vectors[asked[start : start + step]]).to(device)
        rows = torch.arange(len(block))
        scores = block @ keys.T
        scores[:, unusable] = -torch.inf
        scores[rows, torch.from_numpy(asked[start : start + step])] = -torch.inf
        if known is not None:
            mine = known[start : start + len(block)].tocoo()
            scores[torch.from_numpy(mine.row).long(), torch.from_numpy(mine.col).long()] = -torch.inf
        if ceilings is not None:
            most = torch.from_numpy(ceilings[start : start + len(block)]).to(device)
            scores[scores > most[:, None]] = -torch.inf
        table[start : start + len(block)] = _best(scores, count)
    return table


def mine(
    vectors: Float32[np.ndarray, "texts dimensions"],
    products: Float32[np.ndarray, "products dimensions"],
    pair_texts: Int64[np.ndarray, " pairs"],
    pair_products: Int64[np.ndarray, " pairs"],
    meanings: Int64[np.ndarray, " texts"],
    *,
    count: int,
    margin: float | None = MARGIN,
    asked: Int64[np.ndarray, " asked"] | None = None,
    device: torch.device | str = "cpu",
) -> Table:
    """Of every text the `count` hardest others: texts whose photos, on the mean, score highest with its words.

    The mean of the scores of a text's photos is the score of their mean vector, so one product a text is enough.
    Left out is what is likely the same thing: texts of the same meaning, and texts that share a known product. With a
    `margin` texts that score above `margin` times the text's own photos are left out too. Where the own photos score 0
    or less, the margin leaves nothing out. A text without a pair is mined for nobody, and has no margin of its own.
    Rows are filled up with -1. With `asked` only those texts are mined for.
    """
    own = centres(products, pair_texts, pair_products, texts=len(vectors))
    known = same_thing(pair_texts, pair_products, meanings, of=asked)
    ceilings = None
    if margin is not None:
        mined_for = slice(None) if asked is None else asked
        positive = np.einsum("th,th->t", vectors[mined_for], own[mined_for])
        ceilings = np.where(positive > 0, np.float32(margin) * positive, np.float32(np.inf)).astype(
            np.float32
        )
    return nearest_texts(vectors, own, count, asked=asked, known=known, ceilings=ceilings, device=device)


def centres(
    products: Float32[np.ndarray, "products dimensions"],
    pair_texts: Int64[np.ndarray, " pairs"],
    pair_products: Int64[np.ndarray, " pairs"],
    *,
    texts: int,
) -> Float32[np.ndarray, "texts dimensions"]:
    """The mean vector of the products of every text; NaN where it has none."""
    counts = np.bincount(pair_texts, minlength=texts).astype(np.float32)
    pairs = sparse.csr_array(
        (np.ones(len(pair_texts), np.float32), (pair_texts, pair_products)), shape=(texts, len(products))
    )
    with np.errstate(invalid="ignore"):
        means: np.ndarray = (pairs @ products) / counts[:, None]
    return means.astype(np.float32)


def same_thing(
    pair_texts: Int64[np.ndarray, " pairs"],
    pair_products: Int64[np.ndarray, " pairs"],
    meanings: Int64[np.ndarray, " texts"],
    *,
    of: Int64[np.ndarray, " asked"] | None = None,
) -> sparse.csr_array:
    """Which texts are known to be true of each other's photos: they share a product, or a meaning.

    Texts (or those named by `of`) x texts; what is stored counts, the text itself included. Its size is the sum, over
    products and meanings, of the square of their texts.
    """
    texts = len(meanings)
    columns = np.concatenate([pair_products, pair_products.max(initial=-1) + 1 + meanings])
    rows = np.concatenate([pair_texts, np.arange(texts)])
    shared = sparse.csr_array((np.ones(len(rows), np.int32), (rows, columns)))
    related: sparse.csr_array = (shared if of is None else shared[of]) @ shared.T
    return related


def hide_texts(
    pair_texts: Int64[np.ndarray, " pairs"],
    pair_products: Int64[np.ndarray, " pairs"],
    meanings: Int64[np.ndarray, " texts"],
    rng: np.random.Generator,
) -> tuple[Bool[np.ndarray, " pairs"], Int64[np.ndarray, "relations 2"]]:
    """Of each product with texts of several meanings, hides one: which pairs, and what is true but not known then.

    All pairs of the product with that meaning are hidden. A relation is (text left, text hidden) of one product;
    where the rest of the pairs tells that both are the same thing anyway, it is none.
    """
    order = rng.permutation(len(pair_texts))
    order = order[np.argsort(pair_products[order], kind="stable")]
    _, firsts = np.unique(pair_products[order], return_index=True)
    chosen = np.repeat(meanings[pair_texts[order[firsts]]], np.diff(np.append(firsts, len(order))))
    hidden = np.zeros(len(order), bool)
    hidden[order] = meanings[pair_texts[order]] == chosen
    left = np.bincount(pair_products[~hidden], minlength=int(pair_products.max(initial=-1)) + 1)
    hidden &= left[pair_products] > 0
    return hidden, _relations(pair_texts, pair_products, meanings, hidden)


def contamination(
    table: Table, relations: Int64[np.ndarray, "relations 2"], *, missing: float = 1.0
) -> float:
    """The estimated share of a mined table that is true and not known to be: from relations that were hidden from it.

    recall = hidden relations (t, u) with u in row t / hidden relations: how surely the mining finds what is true.
    contamination = missing x recall / mean number of texts mined for the rows t, at most 1. `missing` is how many true
    but unknown relations a text has. No pairs can say that number; the estimate grows with it in proportion. Mine
    `table` from the pairs that were not hidden (`hide_texts`).

    Raises: ValueError without a relation (no product is known by two meanings): then nothing can be said.
    """
    if not len(relations):
        raise ValueError("no hidden relation: contamination cannot be estimated")
    rows = table[relations[:, 0]]
    recall = float((rows == relations[:, 1:]).any(axis=1).mean())
    mined = float((rows != ALONE).sum(axis=1).mean())
    return min(1.0, missing * recall / mined) if mined else 0.0


def known_share(table: Table, known: sparse.csr_array) -> float:
    """The share of a mined table that is known to be the same thing; 0 of an empty one.

    Of a table that `mine` made it is 0; of one by `nearest_texts` it says what leaving out spares.
    """
    rows, places = np.nonzero(table != ALONE)
    if not len(rows):
        return 0.0
    hits = np.asarray(known[rows, table[rows, places]]).ravel()
    return float((hits > 0).mean())


def estimate(
    vectors: Float32[np.ndarray, "texts dimensions"],
    products: Float32[np.ndarray, "products dimensions"],
    pair_texts: Int64[np.ndarray, " pairs"],
    pair_products: Int64[np.ndarray, " pairs"],
    meanings: Int64[np.ndarray, " texts"],
    *,
    epoch: int,
    seed: int,
    count: int,
    margin: float | None = MARGIN,
    at_most: int = TEXTS_ASKED,
    device: torch.device | str = "cpu",
) -> Contamination:
    """The contamination of the table that `mine` makes of these, from at most `at_most` of its texts.

    What is hidden, and who is asked, follows from (seed, epoch). Cost: two minings of the texts asked.
    """
    start = time.monotonic()
    rng = np.random.default_rng([seed, epoch])
    hidden, relations = hide_texts(pair_texts, pair_products, meanings, rng)
    # A text of which no pair is left cannot be mined; one whose truth is not known still has pairs of its own.
    mineable = np.bincount(pair_texts[~hidden], minlength=len(meanings)) > 0
    relations = relations[mineable[relations[:, 1]]]
    if not len(relations):
        return Contamination(epoch, None, None, 0, 0, round(time.monotonic() - start, 3), CANNOT_BE_SAID)
    asked = np.unique(relations[:, 0])
    if len(asked) > at_most:
        asked = np.sort(rng.choice(asked, at_most, replace=False))
        relations = relations[np.isin(relations[:, 0], asked)]
    table = mine(
        vectors,
        products,
        pair_texts[~hidden],
        pair_products[~hidden],
        meanings,
        count=count,
        margin=margin,
        asked=asked,
        device=device,
    )
    own = centres(products, pair_texts, pair_products, texts=len(vectors))
    everything = nearest_texts(vectors, own, count, asked=asked, device=device)
    rows = np.searchsorted(asked, relations[:, 0])
    return Contamination(
        epoch,
        contamination(table, np.stack([rows, relations[:, 1]], axis=1)),
        known_share(everything, same_thing(pair_texts, pair_products, meanings, of=asked)),
        len(relations),
        len(asked),
        round(time.monotonic() - start, 3),
    )


def summary(tables: Sequence[Contamination]) -> str:
    """One line about the tables of a training; empty where none was mined."""
    if not tables:
        return ""
    last, shares = tables[-1], [table.share for table in tables if table.share is not None]
    if last.share is None or last.known is None:
        return f"mined negatives: how many are true cannot be said, {last.why}"
    return (
        f"mined negatives: an estimated {last.share:.1%} are true and not known to be"
        f" (the last of {len(tables)} tables;"
        f" {min(shares):.1%} to {max(shares):.1%}), if one such text of each query is missing; {last.known:.1%} would"
        f" be known ones, were they not left out ({last.relations:,} hidden relations of {last.texts:,} texts,"
        f" {sum(table.seconds for table in tables):.1f} s in all)"
    )


class Mined:
    """The tables of a training by epoch, mined when they are first asked for, for `PairBatches(neighbours=...)`.

    Epochs before `first` have none; from then on each serves for `every` epochs. `mine_now(epoch)` sees the weights
    after the last step before the epoch; it gives the table and what is estimated of it, kept in `contaminations`. A
    resumed training takes the same batches where `epoch`, `table` and `contaminations` are kept with its state and
    given back here: in the middle of an epoch the weights at its beginning are gone. A state without a table mines
    anew, which is right at the very beginning of an epoch that mines, and nowhere else.
    """

    def __init__(
        self,
        mine_now: Callable[[int], tuple[Table, Contamination]],
        *,
        first: int = 1,
        every: int = 1,
        epoch: int | None = None,
        table: Table | None = None,
        contaminations: Iterable[Contamination] = (),
    ) -> None:
        self._mine_now = mine_now
        self._first = first
        self._every = every
        self.epoch = epoch
        self.table = table
        self.contaminations = list(contaminations)

    def __call__(self, epoch: int) -> Table | None:
        """The table of an epoch; None where it has none."""
        if epoch < self._first:
            return None
        mined_at = epoch - (epoch - self._first) % self._every
        if self.table is None or self.epoch != mined_at:
            self.table, contamination = self._mine_now(mined_at)
            self.epoch = mined_at
            self.contaminations.append(contamination)
        return self.table


def _relations(
    pair_texts: Int64[np.ndarray, " pairs"],
    pair_products: Int64[np.ndarray, " pairs"],
    meanings: Int64[np.ndarray, " texts"],
    hidden: Bool[np.ndarray, " pairs"],
) -> Int64[np.ndarray, "relations 2"]:
    """The (left, hidden) texts of every product, each once, that the pairs left do not tell to be the same thing."""
    shape = (len(meanings), int(pair_products.max(initial=-1)) + 1)
    left, gone = (
        sparse.csr_array(
            (np.ones(int(use.sum()), np.int32), (pair_texts[use], pair_products[use])), shape=shape
        )
        for use in (~hidden, hidden)
    )
    true = (left @ gone.T).tocoo()
    relations = np.stack([true.row, true.col], axis=1).astype(np.int64)
    known = same_thing(pair_texts[~hidden], pair_products[~hidden], meanings)
    if not len(relations):
        return relations
    new: np.ndarray = np.asarray(known[relations[:, 0], relations[:, 1]]).ravel() == 0
    untold: np.ndarray = relations[new]
    return untold


def _best(scores: torch.Tensor, count: int) -> Table:
    """The places of the best `count` of each row, ties by smaller place; -1 where fewer are finite."""
    values, places = (part.cpu().numpy() for part in scores.topk(count, dim=1))
    by = np.lexsort([places, -values])
    values, places = np.take_along_axis(values, by, 1), np.take_along_axis(places, by, 1)
    last = torch.from_numpy(values[:, -1]).to(scores.device)
    torn = (scores >= last[:, None]).sum(dim=1).cpu().numpy() > count
    for row in np.flatnonzero(torn & np.isfinite(values[:, -1])):
        line = scores[row].cpu().numpy()
        tied = np.flatnonzero(line == values[row, -1])
        above = int((line > values[row, -1]).sum())
        places[row, above:] = tied[: count - above]
    out: np.ndarray = np.where(np.isneginf(values), ALONE, places)
    return out
