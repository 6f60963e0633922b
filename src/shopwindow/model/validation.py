"""How good is the model now? Ranks the validation pools and measures them, as `rank` and `evaluate` would.

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
from jaxtyping import Int64
from tokenizers import Tokenizer
from torch import Tensor

from shopwindow.data.dataset import Dataset
from shopwindow.data.queries import numbers_of
from shopwindow.files import DataError
from shopwindow.model.bundle import Bundle
from shopwindow.model.encoder import PartsEncoder
from shopwindow.model.rank import candidate_pairs, keep_products, score_pools
from shopwindow.model.rerankers import Pool, read_queries
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.audit import audit_card
from shopwindow.ranking.measures import Measure, evaluate
from shopwindow.ranking.pools import Pools
from shopwindow.ranking.runs import Run

OFFICIAL = Measure.parse("nDCG@5")
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], float]
"""Of query vectors, product vectors, query numbers (equal for equal texts) and product rows."""


@dataclass(frozen=True)
class Result:
    """`score` is the official nDCG@5, by which the best weights are chosen; `scores` all measures by name."""

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
        return Result(self._loss(model, words, photos, loss, batch_size), scores[str(OFFICIAL)], scores)

    def _loss(
        self, model: PartsEncoder, words: np.ndarray, photos: np.ndarray, loss: Loss, batch_size: int
    ) -> float:
        """In-batch loss over the right pairs in a fixed mixed order; what does not fill a batch is left out."""
        right = np.random.default_rng(0).permutation(self._right)
        numbers = self._text_numbers
        size = min(batch_size, len(right))
        losses = []
        for start in range(0, len(right) - size + 1, size):
            queries = self._queries[right[start : start + size]]
            products = self._products[right[start : start + size]]
            arrays = words[queries], photos[products], numbers[queries], products
            losses.append(loss(*(torch.from_numpy(array).to(model.device) for array in arrays)))
        return float(np.mean(losses))


def _pairs(queries: np.ndarray, products: np.ndarray) -> list[tuple[str, str]]:
    """Pairs of ids as text: of two tables one may have whole numbers and the other not."""
    return list(zip(queries.astype(str).tolist(), products.astype(str).tolist(), strict=True))
