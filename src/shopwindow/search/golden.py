"""Does the index still give what it gave when it was made, and is a loss the model's or the index's?

Golden queries: texts, their vectors and their exact best products, kept in the index. Checking them encodes the texts
anew: a difference is the model's (bundle, tokenizer, library). It searches exactly with the kept vectors: a
difference is a damaged file. It searches as the engine does: a loss is the approximation's. Segments and golden
queries are named by their content, so that a check notices a file lost or changed also where no search meets it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float32, Float64, Shaped

from shopwindow.bounded import read_npz
from shopwindow.files import DataError
from shopwindow.ids import joined_ids
from shopwindow.model.bundle import Bundle
from shopwindow.model.rerankers import Query
from shopwindow.search.index import SEGMENTS, TEXT_SIDE, Manifest, OpenIndex, content_name
from shopwindow.search.lookup import Ranked, find_exactly, find_quickly
from shopwindow.search.product_regions import ProductRegions

GOLDEN_QUERIES: Final = 200
AT: Final = 10
WANTED_RECALL: Final = 0.98
"""What the number of cells looked into is chosen for; what is promised is 0.95."""
_VECTOR_TOLERANCE: Final = 1e-3
_SCORE_TOLERANCE: Final = 1e-4
_RECALL_TOLERANCE: Final = 0.02
_ROUNDING: Final = 1e-6
_ANY_SHOP: Final = ("bag", "black", "blue", "chair", "fruit", "lamp", "red", "shirt", "shoe", "toy", "white")
"""Asked of a pretrained text tower where nobody has typed a query yet."""


@dataclass(frozen=True)
class Golden:
    """Queries, their vectors, their exact best AT products, best first, and the scores of these.

    Where there are fewer products, the score is minus infinity and the id 0 or "". `reranked`: the scores that the
    bundle's reranker gives these products (0 where there are fewer), where the index keeps their regions."""

    texts: tuple[str, ...]
    vectors: Float32[np.ndarray, "queries dimensions"]
    ids: Shaped[np.ndarray, "queries best"]
    scores: Float64[np.ndarray, "queries best"]
    reranked: Float64[np.ndarray, "queries best"] | None = None

    @property
    def name(self) -> str:
        """Its file's name, by its content."""
        content = hashlib.sha256("\n".join(self.texts).encode("utf-8", "surrogatepass"))
        for array in self._arrays().values():
            content.update(array.tobytes())
        return f"golden-{content.hexdigest()[:16]}.npz"

    def write(self, folder: Path) -> str:
        """Writes it beside the segments; gives the file's name."""
        texts = np.array([text.encode("utf-8", "surrogatepass") for text in self.texts], np.bytes_)
        np.savez(folder / self.name, allow_pickle=False, texts=texts, **self._arrays())
        return self.name

    def with_reranked(self, index: OpenIndex, bundle: Bundle) -> Golden:
        """The same with the scores of the bundle's reranker, from what an index keeps."""
        reranker, regions = bundle.reranker, ProductRegions(index, bundle.regions)
        assert reranker is not None
        reranked, tokens = np.zeros(self.scores.shape), bundle.tokenise(list(self.texts))
        for row, count in enumerate(np.isfinite(self.scores).sum(axis=1).tolist()):
            ids, scores = self.ids[row, :count], self.scores[row, :count]
            pool = regions.pool(Ranked(ids, scores, *index.rows_of(ids)), reranker)
            reranked[row, :count] = reranker.score(
                Query(self.texts[row], tokens[row], self.vectors[row]), pool
            )
        return replace(self, reranked=reranked)

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {"vectors": self.vectors, "ids": self.ids, "scores": self.scores}
        return arrays if self.reranked is None else {**arrays, "reranked": self.reranked}

    @classmethod
    def read(cls, path: Path) -> Golden:
        """Raises: DataError where the file is missing or broken."""
        try:
            file = read_npz(path)
            texts = tuple(text.decode("utf-8", "surrogatepass") for text in file["texts"].tolist())
            return cls(texts, file["vectors"], file["ids"], file["scores"], file.get("reranked"))
        except (DataError, KeyError, AttributeError, ValueError) as error:
            raise DataError(f"broken or missing golden queries: {error}", path=path) from error


@dataclass(frozen=True)
class Verdict:
    """What a check found. `vector_error`: largest difference of a query's vector. `score_error`: largest difference
    of an exact score. `recall`: of the search as it is set, against the exact one. `changed`: the parts whose files
    are not those that were written. `reranked_error`: largest difference of a reranker's score, None where no regions
    are kept."""

    queries: int
    vector_error: float
    score_error: float
    recall: float
    recall_before: float
    changed: tuple[str, ...] = ()
    reranked_error: float | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, in words; empty when all is well."""
        problems = []
        if self.vector_error > _VECTOR_TOLERANCE:
            problems.append(f"model: query vectors differ by up to {self.vector_error:.2g} from those kept")
        if self.score_error > _SCORE_TOLERANCE:
            problems.append(f"index: exact scores differ by up to {self.score_error:.2g} from those kept")
        if self.recall < self.recall_before - _RECALL_TOLERANCE:
            problems.append(
                f"index: recall@{AT} {self.recall:.3f}, was {self.recall_before:.3f} when it was made"
            )
        if self.reranked_error is not None and not self.reranked_error <= _SCORE_TOLERANCE:
            problems.append(
                f"re-ranking: scores differ by up to {self.reranked_error:.2g} from those kept (of the model where "
                "query vectors differ too, else of the regions that the index keeps)"
            )
        if self.changed:
            problems.append(
                f"index: {', '.join(self.changed)}: a file is lost or not as it was written; make the index again"
            )
        return tuple(problems)


def choose_texts(texts: Sequence[str], rng: np.random.Generator) -> list[str]:
    """GOLDEN_QUERIES different texts, or all where there are fewer; where there are none, words of any shop."""
    distinct = sorted(set(texts)) or list(_ANY_SHOP)
    chosen = rng.choice(len(distinct), min(GOLDEN_QUERIES, len(distinct)), replace=False)
    return [distinct[place] for place in np.sort(chosen)]


def ask_exactly(
    index: OpenIndex, texts: Sequence[str], vectors: Float32[np.ndarray, "queries dimensions"]
) -> Golden:
    """The golden queries of an index."""
    kind = joined_ids([part.segment.columns.ids[:0] for part in index.parts]).dtype
    ids = np.zeros((len(texts), AT), kind)
    scores = np.full((len(texts), AT), -np.inf)
    for row, best in enumerate(find_exactly(index.parts, vectors, AT)):
        ids[row, : len(best.ids)] = best.ids
        scores[row, : len(best.ids)] = best.scores
    return Golden(tuple(texts), vectors, ids, scores)


def recall(index: OpenIndex, golden: Golden, *, probes: int | None = None) -> float:
    """recall@AT of the search as it is set (or with so many probes) against the exact one, mean over the queries.

    A product tied with the last exact one counts as it does.
    """
    shares = []
    for vector, ids, scores in zip(golden.vectors, golden.ids, golden.scores, strict=True):
        wanted = int(np.isfinite(scores).sum())
        floor = scores[wanted - 1] - _ROUNDING * max(1.0, abs(float(scores[wanted - 1])))
        best = find_quickly(index.parts, vector, AT, probes=probes)
        right = np.isin(best.ids, ids[:wanted]) | (best.scores >= floor)
        shares.append(min(1.0, float(right.sum()) / wanted))
    return float(np.mean(shares))


def check(index: OpenIndex, bundle: Bundle) -> Verdict:
    """Asks the golden queries again, and reads every file of the segments.

    Raises: DataError where the index has none, or another state has taken its place meanwhile.
    """
    manifest = index.manifest
    golden_file = manifest.golden
    if golden_file is None:
        raise DataError("holds no golden queries", path=index.path)
    golden = Golden.read(index.path / golden_file)
    vectors = bundle.encode_texts(list(golden.texts))
    exact = ask_exactly(index, golden.texts, golden.vectors).scores
    both = np.isfinite(exact) & np.isfinite(golden.scores)
    same_places = np.array_equal(np.isfinite(exact), np.isfinite(golden.scores))
    return Verdict(
        queries=len(golden.texts),
        vector_error=float(np.abs(vectors - golden.vectors).max()),
        score_error=float(np.abs(exact[both] - golden.scores[both]).max()) if same_places else float("inf"),
        recall=recall(index, golden),
        recall_before=manifest.recall[f"recall@{AT}"],
        changed=(*_changed_folders(index), *([golden_file] if golden.name != golden_file else [])),
        reranked_error=None if manifest.kept_regions is None else _reranked_error(index, bundle, golden),
    )


def _reranked_error(index: OpenIndex, bundle: Bundle, golden: Golden) -> float:
    anew = golden.with_reranked(index, bundle).reranked
    assert anew is not None
    return float("inf") if golden.reranked is None else float(np.abs(anew - golden.reranked).max(initial=0.0))


def _changed_folders(index: OpenIndex) -> list[str]:
    """The folders whose files are not those that gave them their names."""
    changed = []
    named = {f"{SEGMENTS}/{part.name}": part.name for part in index.manifest.parts}
    if index.manifest.text_side is not None:
        named[TEXT_SIDE] = index.manifest.text_side
    for folder, wanted in named.items():
        try:
            name = content_name(index.path / folder)
        except OSError:
            name = ""
        if name != wanted:
            if Manifest.read(index.path) != index.manifest:
                raise DataError("was changed while it was checked; check again", path=index.path)
            changed.append(folder)
    return changed
