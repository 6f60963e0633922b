"""How is a whole catalogue asked on the command line? What the verbs search and evaluate share.

Options become settings, files of queries become words, and an index asked for them becomes a run, as if some other
system had ranked. Shows progress, prints nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shopwindow.cli.arguments import at_least, only_with, optional_libraries
from shopwindow.cli.console import counted
from shopwindow.cli.systems import read_measures, read_queries
from shopwindow.files import STANDARD_STREAM, DataError, real_path
from shopwindow.shop.stages import part_of

if TYPE_CHECKING:
    import numpy as np

    from shopwindow.model.exported_text import ExportedText
    from shopwindow.model.rerankers import Reranker
    from shopwindow.ranking.answers import Answers
    from shopwindow.ranking.measures import Measure
    from shopwindow.ranking.runs import Run
    from shopwindow.search.conditions import Condition
    from shopwindow.search.engine import SearchEngine

DEPTH: Final = 100
"""Products of each query that are ranked, where nothing else is asked for."""


@dataclass(frozen=True)
class Asking:
    """How an index is asked, as the options of these names say. Prints as what differs from a plain search."""

    exact: bool = False
    hybrid: bool = False
    labels: tuple[int, ...] = ()
    conditions: tuple[Condition, ...] = ()
    rerank: str | Reranker | None = None
    candidates: int | None = None

    @classmethod
    def of(
        cls,
        *,
        exact: bool,
        hybrid: bool,
        labels: list[int] | None,
        where: list[str] | None,
        rerank: str | None,
        candidates: int | None,
    ) -> Asking:
        """Raises: DataError naming the option that cannot be read or says nothing."""
        if rerank is None:
            only_with("goes with --rerank", candidates=candidates)
        at_least(1, candidates=candidates)
        again = None if rerank is None else reranker_of(rerank)
        return cls(exact, hybrid, tuple(labels or ()), _conditions(where or []), again, candidates)

    def options(self) -> dict[str, Any]:
        """The settings of a `SearchRequest`."""
        from shopwindow.search.hits import RERANKED, Filter

        return {
            "where": Filter(frozenset(self.labels), self.conditions),
            "exact": self.exact,
            "hybrid": self.hybrid,
            "rerank": self.rerank,
            "candidates": self.candidates or RERANKED,
        }

    def __str__(self) -> str:
        words = {
            "exact": self.exact,
            "hybrid": self.hybrid,
            f"labels {','.join(map(str, self.labels))}": self.labels,
            " ".join(map(str, self.conditions)): self.conditions,
            getattr(self.rerank, "name", str(self.rerank)): self.rerank,
            f"of {self.candidates}": self.candidates,
        }
        return " ".join(word for word, said in words.items() if said)


PLAIN: Final = Asking()


def is_cross_encoder(path: str) -> bool:
    """Whether a path is the directory of a trained cross-encoder."""
    return (Path(path) / "cross.json").is_file()


def is_index(path: str) -> bool:
    """Whether a path is meant as an index: a run is a file.

    Raises: DataError where there is neither.
    """
    if path != STANDARD_STREAM and not Path(path).exists():
        raise DataError("no such file or index", path=path)
    return bool(path.strip()) and Path(path).is_dir()


def engine_of(
    index: str | None,
    store: str | None,
    bundle: str | None,
    *,
    quick: bool = False,
    text: ExportedText | None = None,
) -> SearchEngine:
    """The engine over an index, or over a database. Raises: DataError for neither, or a store without a bundle."""
    from shopwindow.search.engine import SearchEngine

    if store is None:
        only_with("goes with --store", bundle=bundle)
        if index is None:
            raise DataError("an index is wanted, or --store with --bundle")
        return SearchEngine.open(index, text=text, quick=quick)
    if bundle is None:
        raise DataError("--store needs it: the model that made its vectors", field="--bundle")
    with optional_libraries():
        from shopwindow.search.stores.database import DatabaseOrigin, open_database

        return SearchEngine.over(DatabaseOrigin(open_database(store)), bundle=bundle, text=text)


class Catalogues:
    """Ranks whole catalogues for the queries that are judged; keeps what is to be said of them."""

    def __init__(self, queries: str, answers: Answers, depth: int) -> None:
        from shopwindow.ids import positions

        ids, texts = read_queries(queries)
        judged = (positions(ids, answers.queries) >= 0).nonzero()[0]
        if not len(judged):
            raise DataError(
                f"no query of it is in the answers (its first is {ids[0]}, theirs {answers.queries[0]})",
                path=queries,
            )
        self._ids, self._texts = ids[judged], [texts[row] for row in judged.tolist()]
        self._answers, self._depth = answers, depth
        self.notes: list[str] = []

    def ranked(self, index: str, asking: Asking) -> Run:
        """The run of an index."""
        from shopwindow.search.engine import SearchEngine

        engine = SearchEngine.open(part_of(index, "index"), quick=asking.rerank is None)
        run = rank_index(engine, index, self._ids, self._texts, asking, self._depth)
        self.notes.append(f"{run.name} ranks {self._searched(engine, asking)}")
        return run

    def _searched(self, engine: SearchEngine, asking: Asking) -> str:
        says = ranked_products(engine, asking, self._depth)
        right = self._answers.product_ids[self._answers.grades > 0]
        if right.dtype.kind != "i":
            return says
        outside = int((~engine.holds(right)).sum())
        return says + (
            f"; {outside} of {counted(len(right), 'answer')} {'is' if outside == 1 else 'are'} not in the index"
            if outside
            else ""
        )


def ranked_products(engine: SearchEngine, asking: Asking, depth: int) -> str:
    """Which products are ranked where `depth` of a query are, in words."""
    where = asking.options()["where"]
    passing = engine.count(where)
    says = counted(passing, "product")
    if where:
        says += f" that {'passes' if passing == 1 else 'pass'} (of {engine.count():,})"
    if passing > depth:
        return f"the first {depth:,} of {says}"
    return f"all {says}" if passing > 1 else says


def rank_index(
    engine: SearchEngine, index: str, ids: np.ndarray, texts: Sequence[str], asking: Asking, depth: int
) -> Run:
    """The run of an opened index for some queries, named after its folder and how it is asked."""
    from shopwindow.cli.progress import counting
    from shopwindow.search.evaluation import rank_catalogue

    name = f"{real_path(index).name} {asking}".strip()
    with counting("search", "queries") as tell:
        return rank_catalogue(
            engine,
            ids,
            texts,
            k=depth,
            name=name,
            progress=tell,
            **asking.options(),
        )


def measures_to(top: int | None, words: list[str] | None) -> tuple[int, list[Measure]]:
    """How deep is ranked, and the measures that this depth allows: `top`, or else DEPTH or the deepest measure.

    Raises: DataError where a measure reads further than `top`.
    """
    from shopwindow.search.evaluation import default_measures

    at_least(1, top=top)
    wanted = None if words is None else read_measures(words)
    depth = top or max(DEPTH, *(measure.k or 0 for measure in wanted or ()), 0)
    if wanted is None:
        return depth, list(default_measures(depth))
    try:
        return depth, list(dict.fromkeys(measure.within(depth) for measure in wanted))
    except ValueError as error:
        raise DataError(str(error), field="--top") from error


def _conditions(texts: list[str]) -> tuple[Condition, ...]:
    from shopwindow.search.conditions import parse_conditions

    try:
        return parse_conditions(texts)
    except ValueError as error:
        raise DataError(str(error), field="--where") from error


def reranker_of(text: str) -> str | Reranker:
    """The name of a reranker, or the cross-encoder that lies at a path."""
    from shopwindow.model.rerankers import full_name

    if is_cross_encoder(text):
        from shopwindow.model.cross_bundle import CrossBundle
        from shopwindow.model.cross_reranker import CrossReranker

        return CrossReranker(CrossBundle.load(text))
    try:
        return full_name(text)
    except ValueError as error:
        raise DataError(str(error), field="--rerank") from error
