"""How good is the model now? Ranks the validation pools, or a shop's whole catalogue, and measures the rankings.

The one path from words and photos to vectors and from vectors to a score is taken here too. Knows no
training step; the loss comes in as a function.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from tokenizers import Tokenizer
from torch import Tensor

from shopwindow.data.dataset import Dataset
from shopwindow.data.held_out import HeldOut
from shopwindow.data.queries import numbers_of
from shopwindow.files import DataError
from shopwindow.model.bundle import Bundle
from shopwindow.model.encoder import PartsEncoder
from shopwindow.model.rank import candidate_pairs, keep_products, score_pools
from shopwindow.model.rerankers import Pool, Query, Reranker, read_queries
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.audit import audit_card
from shopwindow.ranking.measures import DEFAULT_MEASURES, Measure, evaluate, judge_ranks
from shopwindow.ranking.pools import Pools
from shopwindow.ranking.runs import Run

OFFICIAL = Measure.parse("nDCG@5")
MOST_PRODUCTS = 10_000
"""Of a larger catalogue, so many are ranked, all relevant ones among them."""
MOST_QUERIES = 1_000
RERANKED = 100
"""First products of a catalogue that a reranker scores again, as in an index."""
_SCORES_AT_ONCE = 4_000_000
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], float]
"""Of query vectors, product vectors, query numbers (equal for equal texts) and product rows."""


@dataclass(frozen=True)
class Result:
    """`score` is the official nDCG@5, which may choose the weights that are kept; `scores` all measures by name."""

    loss: float
    score: float
    scores: dict[str, float]


class Validation:
    """A dataset of pools and its answers, measured again and again.

    Raises: DataError when no query of the dataset has an answer.
    """

    def __init__(self, dataset: Dataset, answers: Answers) -> None:
        self.dataset = dataset
        self.answers = answers
        self._queries, self._products = candidate_pairs(dataset)
        if not len(self._right):
            raise DataError("none of its (query, product) pairs is among the answers", path=dataset.path)

    @cached_property
    def answers_hash(self) -> str:
        """Names the answers."""
        digest = hashlib.sha256()
        for column in (self.answers.query_ids, self.answers.product_ids, self.answers.grades):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    @cached_property
    def _right(self) -> Int64[np.ndarray, " right"]:
        """The places of the candidate pairs that are answers."""
        good = self.answers.grades > 0
        answers = set(_pairs(self.answers.query_ids[good], self.answers.product_ids[good]))
        candidates = _pairs(self.dataset.query_ids[self._queries], self.dataset.product_ids[self._products])
        return np.flatnonzero([pair in answers for pair in candidates])

    @cached_property
    def _text_numbers(self) -> Int64[np.ndarray, " queries"]:
        return numbers_of(self.dataset.query_texts)

    def audit(self) -> dict[str, Any]:
        """What can be scored on this set without reading a query, in few words (`ranking.audit.audit_card`)."""
        pairs = np.stack([self.dataset.pair_queries, self.dataset.pair_products])
        first = np.sort(np.unique(pairs, axis=1, return_index=True)[1])  # as in the file, repeated pairs once
        queries, products = pairs[:, first]
        pools = Pools.from_arrays(self.dataset.query_ids[queries], self.dataset.product_ids[products])
        return audit_card(pools, self.answers, np.random.default_rng(0))

    def measure(self, model: PartsEncoder, tokenizer: Tokenizer, loss: Loss, *, batch_size: int) -> Result:
        """The official and the seed's nDCG@5 and more, and the mean loss over batches of right pairs."""
        bundle, dataset = Bundle(model, tokenizer), self.dataset
        asked = read_queries(dataset.query_texts, bundle)
        photos, everything = bundle.encode_dataset(dataset), np.arange(len(dataset.product_ids))
        kept = keep_products(bundle.reranker, dataset, everything, boxes=bundle.needs_boxes)
        products = Pool(dataset.product_ids, photos, kept)
        run = Run.from_arrays(
            dataset.query_ids[self._queries],
            dataset.product_ids[self._products],
            score_pools(asked, self._queries, products, self._products, bundle.reranker),
        )
        evaluation = evaluate(run, self.answers)
        scores = {str(measure): evaluation.mean(measure) for measure in evaluation.measures}
        words = np.stack([query.vector for query in asked])
        right = np.random.default_rng(0).permutation(self._right)  # a fixed mixed order
        rows, chosen = self._queries[right], self._products[right]
        vectors, numbers = (words[rows], photos[chosen]), (self._text_numbers[rows], chosen)
        value = _mean_loss(*vectors, *numbers, loss, batch_size=batch_size, device=model.device)
        return Result(value, scores[str(OFFICIAL)], scores)


class CatalogueValidation:
    """Held-out pairs of a dataset, ranked over its catalogue, or the part of it that is held out, again and again.

    Products are encoded once a measurement, and queries scored in blocks. Of more than `most_products` a fixed random
    sample is ranked, together with every relevant one: scores are higher than over all. Of more than `most_queries`
    a fixed random sample is asked. What is not relevant counts as wrong.
    """

    def __init__(
        self,
        dataset: Dataset,
        held_out: HeldOut,
        *,
        most_products: int = MOST_PRODUCTS,
        most_queries: int = MOST_QUERIES,
    ) -> None:
        self.dataset = dataset
        self.answers_hash = held_out.digest
        self._count = len(held_out.ranked)
        generator = np.random.default_rng(0)
        asked = _sample(generator, np.arange(len(held_out.texts)), most_queries)
        right = np.flatnonzero((held_out.grades > 0) & np.isin(held_out.queries, asked))
        relevant = held_out.products[right]
        others = np.setdiff1d(held_out.ranked, relevant)
        room = max(most_products - len(np.unique(relevant)), 0)
        self._products = np.union1d(relevant, _sample(generator, others, room))
        self._texts = [held_out.texts[query] for query in asked.tolist()]
        self._right_queries = np.searchsorted(asked, held_out.queries[right])
        self._right_places = np.searchsorted(self._products, relevant)
        self._grades = held_out.grades[right]
        self._by_id = np.argsort(np.argsort(dataset.product_ids[self._products], kind="stable"))

    @property
    def says(self) -> str:
        """How many are asked, in words."""
        return f"{len(self._texts):,} held-out queries"

    def audit(self) -> dict[str, Any]:
        """That the audit of pools does not apply, and what was ranked instead."""
        ranked, count = len(self._products), self._count
        products = f"all {count:,}" if ranked == count else f"a fixed sample of {ranked:,} of {count:,}"
        products += "" if count == len(self.dataset.product_ids) else " held-out"
        return {"verdict": f"none, as there are no pools: {self.says} rank {products} products"}

    def measure(self, model: PartsEncoder, tokenizer: Tokenizer, loss: Loss, *, batch_size: int) -> Result:
        """As `Validation.measure`, over the catalogue."""
        bundle, dataset = Bundle(model, tokenizer), self.dataset
        asked = read_queries(self._texts, bundle)
        photos = bundle.encode_dataset(dataset, self._products)
        kept = keep_products(bundle.reranker, dataset, self._products, boxes=bundle.needs_boxes)
        ranks = self._ranks(asked, Pool(dataset.product_ids[self._products], photos, kept), bundle.reranker)
        judged = judge_ranks(self._right_queries, ranks, self._grades, queries_asked=len(asked))
        scores = {str(measure): float(measure.values(judged).mean()) for measure in DEFAULT_MEASURES}
        order = np.random.default_rng(0).permutation(len(ranks))
        queries, places = self._right_queries[order], self._right_places[order]
        words = np.stack([query.vector for query in asked])
        vectors, numbers = (words[queries], photos[places]), (queries, self._products[places])
        value = _mean_loss(*vectors, *numbers, loss, batch_size=batch_size, device=model.device)
        return Result(value, scores[str(OFFICIAL)], scores)

    def _ranks(
        self, asked: list[Query], products: Pool, reranker: Reranker | None
    ) -> Int64[np.ndarray, " right"]:
        """The rank of every relevant product, from 1: by score, then by product id."""
        ranks = np.empty(len(self._grades), np.int64)
        step = max(1, _SCORES_AT_ONCE // len(products.ids))
        for first in range(0, len(asked), step):
            block = asked[first : first + step]
            scores = np.stack([query.vector for query in block]) @ products.vectors.T
            for number, query in enumerate(block, start=first):
                order = np.lexsort((self._by_id, -scores[number - first]))
                if reranker is not None:
                    top = order[:RERANKED]
                    again = reranker.score(query, products.take(top))
                    order[:RERANKED] = top[np.lexsort((self._by_id[top], -again))]
                places = np.empty(len(order), np.int64)
                places[order] = np.arange(1, len(order) + 1)
                of_query = self._right_queries == number
                ranks[of_query] = places[self._right_places[of_query]]
        return ranks


def _sample(
    generator: np.random.Generator, rows: Int64[np.ndarray, " rows"], most: int
) -> Int64[np.ndarray, " some"]:
    """The rows where there are at most so many, else a random choice, ascending."""
    if len(rows) <= most:
        return rows
    return np.sort(generator.choice(rows, most, replace=False))


def _mean_loss(
    words: Float32[np.ndarray, "pairs values"],
    photos: Float32[np.ndarray, "pairs values"],
    queries: Int64[np.ndarray, " pairs"],
    products: Int64[np.ndarray, " pairs"],
    loss: Loss,
    *,
    batch_size: int,
    device: torch.device,
) -> float:
    """In-batch loss over right pairs in their order; what does not fill a batch is left out."""
    size = min(batch_size, len(queries))
    losses = []
    for start in range(0, len(queries) - size + 1, size):
        arrays = (array[start : start + size] for array in (words, photos, queries, products))
        losses.append(loss(*(torch.from_numpy(array).to(device) for array in arrays)))
    return float(np.mean(losses))


def _pairs(queries: np.ndarray, products: np.ndarray) -> list[tuple[str, str]]:
    """Pairs of ids as text: of two tables one may have whole numbers and the other not."""
    return list(zip(queries.astype(str).tolist(), products.astype(str).tolist(), strict=True))
