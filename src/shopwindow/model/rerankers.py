"""What do the first products of a ranking score when they are looked at more closely, or together?

A `Reranker` scores a pool: a query and its candidates. It says what an index keeps of a product besides its vector, so
that scoring needs no dataset. `find` is the one place where names are looked up: a new reranker is a new file, and a
line in `_LEARNED`. Knows no index and no files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, Shaped

from shopwindow.data.regions import Regions
from shopwindow.model.encoder import PartsEncoder, at_rest
from shopwindow.model.text_side import Query as Query
from shopwindow.ranking.operators import Operator, PoolOperator

if TYPE_CHECKING:
    from shopwindow.model.bundle import Bundle

ScoreFunction = Callable[[str, list[Any]], Sequence[float]]
"""Takes the words and the ids of the first products, best first, and gives their new scores."""


@dataclass(frozen=True)
class Pool:
    """The candidates of one query, best first where they are known to be. `kept`: what `Reranker.keep` made of them."""

    ids: Shaped[np.ndarray, " candidates"]
    vectors: Float32[np.ndarray, "candidates dimensions"]
    kept: Regions | None = None

    def take(self, rows: Int64[np.ndarray, " chosen"]) -> Pool:
        """Some of the candidates, in the order named."""
        kept = None if self.kept is None else self.kept.take(torch.from_numpy(rows))
        return Pool(self.ids[rows], self.vectors[rows], kept)


@runtime_checkable
class Reranker(Protocol):
    """Scores the candidates of a query anew."""

    @property
    def name(self) -> str:
        """What `find` knows it by."""

    @property
    def kept_values(self) -> int:
        """How many values `keep` makes of a region; 0: it keeps nothing."""

    def keep(self, regions: Regions) -> Regions | None:
        """What scoring needs of products besides their vectors, made once for any number of queries."""

    def score(self, query: Query, pool: Pool) -> Float64[np.ndarray, " candidates"]:
        """The scores of the pool's candidates, in their order; higher is better."""


@dataclass(frozen=True)
class LateReranker:
    """Late interaction's score beside the vectors' (`late.py`): the two are learned together, and added.

    Keeps of each region that the model looks at its vector of late interaction. Cost of a pool: words x regions x width
    operations.
    """

    model: PartsEncoder
    name: str = "late"

    @classmethod
    def of(cls, bundle: Bundle) -> LateReranker:
        """That of a bundle. Raises: ValueError where its model has none."""
        if bundle.model.late is None:
            raise ValueError(
                "re-ranking late: this model has no reranker of its own; the recipe late has one"
            )
        return cls(bundle.model)

    @property
    def kept_values(self) -> int:
        """The width of late interaction's vectors."""
        return 0 if self.model.late is None else self.model.late.width

    @torch.inference_mode()
    def keep(self, regions: Regions) -> Regions | None:
        """The regions that the model looks at, as the vectors that words are compared with."""
        with at_rest(self.model):
            return self.model.project_regions(regions.to(self.model.device))

    @torch.inference_mode()
    def score(self, query: Query, pool: Pool) -> Float64[np.ndarray, " candidates"]:
        """The dot products of the vectors, late interaction's scores added.

        Raises: ValueError for a pool without `kept`.
        """
        if pool.kept is None:
            raise ValueError("re-ranking late needs what `keep` made of the pool's regions")
        device = self.model.device
        tokens = torch.from_numpy(query.tokens).to(device)
        with at_rest(self.model):
            scores = self.model.late_scores(
                tokens, torch.tensor([len(tokens)]), pool.kept.to(device), projected=True
            )
        return dot_products(query, pool) + scores[0].cpu().numpy().astype(np.float64)


@dataclass(frozen=True)
class PoolReranker:
    """The scores of a pool operator (`ranking/operators.py`): of the vectors among each other. Keeps nothing.

    The operator gets the candidates by rising product id, which settles its ties.
    """

    operator: PoolOperator
    kept_values: int = 0

    @property
    def name(self) -> str:
        """The operator with its numbers."""
        return str(self.operator)

    def keep(self, regions: Regions) -> Regions | None:  # noqa: ARG002 - it needs none
        """Nothing."""
        return None

    def score(self, query: Query, pool: Pool) -> Float64[np.ndarray, " candidates"]:
        """What the operator gives each candidate."""
        order = np.argsort(pool.ids, kind="stable")
        scores = np.empty(len(order))
        scores[order] = self.operator(query.vector, pool.vectors[order])
        return scores


@dataclass(frozen=True)
class FunctionReranker:
    """The scores of a function of words and product ids. Keeps nothing."""

    function: ScoreFunction
    name: str = "function"
    kept_values: int = 0

    def keep(self, regions: Regions) -> Regions | None:  # noqa: ARG002 - it needs none
        """Nothing."""
        return None

    def score(self, query: Query, pool: Pool) -> Float64[np.ndarray, " scores"]:
        """What the function gives; how many they are is for the caller to check."""
        return np.asarray(self.function(query.text, pool.ids.tolist()), np.float64)


_LEARNED: Final[dict[str, Callable[[Bundle], Reranker]]] = {"late": LateReranker.of}
"""Rerankers that are part of a trained model, by name."""


def full_name(text: str) -> str:
    """The name of a reranker with all its numbers.

    Raises: ValueError saying what can be written.

    >>> full_name("expand"), full_name(" late ")
    ('expand:5,3', 'late')
    """
    if text.strip() in _LEARNED:
        return text.strip()
    try:
        return str(Operator.parse(text))
    except ValueError as error:
        raise ValueError(f"{error}; or {', '.join(_LEARNED)}, where the model has it") from error


def find(how: str | Operator | Reranker | ScoreFunction, bundle: Bundle) -> Reranker:
    """The reranker of a name (`full_name`), of an operator, or of a function of words and ids; one stays itself.

    Raises: ValueError for an unknown name, for one that the model does not have, or for an operator with a model that
    has its own reranker: its scores are learned together.
    """
    if isinstance(how, Reranker):
        return how
    if not isinstance(how, str | Operator):
        return FunctionReranker(how)
    name = full_name(str(how))
    if name in _LEARNED:
        return _LEARNED[name](bundle)
    own = bundle.reranker
    if own is not None:
        raise ValueError(
            f"re-ranking {name}: a model with a reranker of its own takes no operator, only {own.name}"
        )
    return PoolReranker(Operator.parse(name))


def own_reranker(model: PartsEncoder) -> Reranker | None:
    """The reranker that was learned with a model's vectors; None: their dot product is the score."""
    return None if model.late is None else LateReranker(model)


def read_queries(texts: Sequence[str], bundle: Bundle) -> list[Query]:
    """The texts as the model reads them, tokenised once."""
    tokens = bundle.tokenise(list(texts))
    vectors = bundle.encode_tokens(tokens, list(texts))
    return [Query(*query) for query in zip(texts, tokens, vectors, strict=True)]


def dot_products(query: Query, pool: Pool) -> Float64[np.ndarray, " candidates"]:
    """The dot products of the vectors, summed in float64 row by row: equal vectors have equal scores."""
    scores: Float64[np.ndarray, " candidates"] = np.einsum(
        "ch,h->c", pool.vectors.astype(np.float64), query.vector.astype(np.float64)
    )
    return scores
