"""How good is a run? Measures that print and parse as they are written, and their values per query.

One rule for all of them, here and nowhere else: the mean is over the judged queries. A judged query that
the run leaves out counts 0. So does a judged query without any answer. Queries of the run that are not
judged are reported and not counted. It knows runs and answers, no file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from shopwindow.ids import codes_of, offsets_of, positions
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.runs import Run

_LARGEST_EXPONENT: Final = 50.0
_NEEDS_CUTOFF: Final = frozenset({"nDCG-ones", "hit", "precision", "recall"})
_KINDS: Final = ("nDCG", "nDCG-ones", "nDCG-exp", "hit", "precision", "recall", "MRR", "MAP")
_WRITTEN: Final = re.compile(r"(?P<kind>[A-Za-z-]+)(?:@(?P<k>[1-9][0-9]{0,8}))?")


@dataclass(frozen=True, eq=False)
class Judged:
    """A run beside its answers: where in the ranking the answers stand (`hit_*`), and all answers (`answer_*`).

    Queries are numbered as judged. Hits stand in ranking order, answers of a query by falling grade; every grade
    is above 0.
    """

    queries: int
    hit_query: Int64[np.ndarray, "hits"]
    hit_rank: Int64[np.ndarray, "hits"]
    hit_grade: Float64[np.ndarray, "hits"]
    answer_query: Int64[np.ndarray, "answers"]
    answer_rank: Int64[np.ndarray, "answers"]
    answer_grade: Float64[np.ndarray, "answers"]

    @property
    def answer_counts(self) -> Int64[np.ndarray, "queries"]:
        """How many answers each judged query has."""
        return np.bincount(self.answer_query, minlength=self.queries)


def judge(run: Run, answers: Answers) -> Judged:
    """Finds the answers in the run. Cost: one look-up per row of the run."""
    query_of = positions(run.queries, answers.queries)
    rows = answers.pairs.find(run.queries, run.offsets, run.product_ids)
    hits = np.flatnonzero(rows >= 0)
    hits = hits[answers.grades[rows[hits]] > 0]
    of_query = np.searchsorted(run.offsets, hits, side="right") - 1
    right = np.flatnonzero(answers.grades > 0)
    answer_query = codes_of(answers.offsets)[right]
    ideal = np.lexsort((-answers.grades[right], answer_query))
    counts = np.bincount(answer_query, minlength=len(answers.queries))
    return Judged(
        queries=len(answers.queries),
        hit_query=query_of[of_query],
        hit_rank=hits - run.offsets[of_query] + 1,
        hit_grade=answers.grades[rows[hits]],
        answer_query=answer_query[ideal],
        answer_rank=np.arange(1, len(ideal) + 1) - np.repeat(offsets_of(counts)[:-1], counts),
        answer_grade=answers.grades[right][ideal],
    )


def judge_ranks(
    queries: Int64[np.ndarray, "answers"],
    ranks: Int64[np.ndarray, "answers"],
    grades: Float64[np.ndarray, "answers"],
    *,
    queries_asked: int,
) -> Judged:
    """As `judge`, where the rank of every answer is known: of each its query (a number), rank from 1, grade above 0."""
    ranked, ideal = np.lexsort((ranks, queries)), np.lexsort((-grades, queries))
    counts = np.bincount(queries, minlength=queries_asked)
    return Judged(
        queries=queries_asked,
        hit_query=queries[ranked],
        hit_rank=ranks[ranked],
        hit_grade=grades[ranked],
        answer_query=queries[ideal],
        answer_rank=np.arange(1, len(ideal) + 1) - np.repeat(offsets_of(counts)[:-1], counts),
        answer_grade=grades[ideal],
    )


@dataclass(frozen=True, order=True)
class Measure:
    """A measure of one ranking, between 0 and 1; `str` and `Measure.parse` are inverse.

    `nDCG@k`: DCG at k over that of the best order of all answers (so of at most min(k, number of answers)), gain =
    grade; the competition's official score is `nDCG@5`. `nDCG-ones@k`: every answer gains 1, divided by the DCG of k
    ones always (the score of the published system; below 1 for a perfect ranking of fewer than k answers).
    `nDCG-exp@k`: gain 2^grade - 1. `hit@k`: whether an answer is among the first k. `precision@k`: answers among the
    first k, over k. `recall@k`: over the number of answers. `MRR`, `MRR@k`: 1 over the rank of the first answer.
    `MAP`, `MAP@k`: mean precision at the ranks of the answers, over the number of answers. nDCG, nDCG-exp, MRR and
    MAP without k read the whole ranking.

    Source: discount 1/log2(rank+1), Järvelin and Kekäläinen, TOIS 2002; exponential gain, Burges et al., ICML 2005.

    >>> Measure.parse("nDCG@5"), str(Measure("MRR"))
    (Measure(kind='nDCG', k=5), 'MRR')
    """

    kind: str
    k: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"measure {self.kind!r}: one of {', '.join(_KINDS)} was wanted")
        if self.k is None and self.kind in _NEEDS_CUTOFF:
            raise ValueError(f"measure {self.kind} needs a cutoff, as in {self.kind}@5")
        if self.k is not None and self.k < 1:
            raise ValueError(f"measure {self.kind}@{self.k}: a cutoff of at least 1 was wanted")

    def __str__(self) -> str:
        return self.kind if self.k is None else f"{self.kind}@{self.k}"

    @classmethod
    def parse(cls, text: str) -> Measure:
        """The measure so written; the case of letters does not matter.

        Raises: ValueError naming what can be written.
        """
        match = _WRITTEN.fullmatch(text.strip())
        kinds = {kind.lower(): kind for kind in _KINDS}
        if match is None or match["kind"].lower() not in kinds:
            known = ", ".join(kind + ("@k" if kind in _NEEDS_CUTOFF else "[@k]") for kind in _KINDS)
            raise ValueError(f"measure {text!r} is not known; there are {known}")
        return cls(kinds[match["kind"].lower()], None if match["k"] is None else int(match["k"]))

    def within(self, depth: int) -> Measure:
        """The measure for rankings that end at `depth`: one that reads the whole ranking gets that cutoff.

        Raises: ValueError for one that reads further.

        >>> str(Measure("MRR").within(100)), str(Measure("nDCG", 5).within(100))
        ('MRR@100', 'nDCG@5')
        """
        if self.k is not None and self.k > depth:
            raise ValueError(f"{self} reads {self.k} places of a ranking, {depth} are ranked")
        return self if self.k is not None else Measure(self.kind, depth)

    def values(self, judged: Judged) -> Float64[np.ndarray, "queries"]:
        """The value of every judged query.

        Raises: ValueError for `nDCG-exp` with a grade above 50 (a click weight has no exponential gain).
        """
        first = slice(None) if self.k is None else judged.hit_rank <= self.k
        query, rank, grade = judged.hit_query[first], judged.hit_rank[first], judged.hit_grade[first]
        hits = np.bincount(query, minlength=judged.queries).astype(np.float64)
        total: Float64[np.ndarray, "queries"]
        match self.kind:
            case "hit":
                total = np.minimum(hits, 1.0)
            case "precision" | "recall":
                total = hits
            case "MRR":
                total = np.zeros(judged.queries)
                np.maximum.at(total, query, 1.0 / rank)
            case "MAP":
                nth = np.arange(1, len(query) + 1) - _hits_before(query)
                total = _sums(query, nth / rank, judged.queries)
            case _:
                total = _sums(query, self.gains(grade) * _discounts(rank), judged.queries)
        best = self.normaliser(judged)
        values: Float64[np.ndarray, "queries"] = np.divide(
            total, best, out=np.zeros(judged.queries), where=best > 0
        )
        return values

    def normaliser(self, judged: Judged) -> Float64[np.ndarray, "queries"]:
        """What every query's value is divided by; it depends on the answers alone."""
        best: Float64[np.ndarray, "queries"]
        match self.kind:
            case "hit" | "MRR":
                best = np.ones(judged.queries)
            case "precision":
                best = np.full(judged.queries, float(self.k or 1))
            case "recall" | "MAP":
                best = judged.answer_counts.astype(np.float64)
            case "nDCG-ones":
                best = np.full(judged.queries, _discounts(np.arange(1, (self.k or 1) + 1)).sum())
            case _:
                first = slice(None) if self.k is None else judged.answer_rank <= self.k
                gains = self.gains(judged.answer_grade[first]) * _discounts(judged.answer_rank[first])
                best = _sums(judged.answer_query[first], gains, judged.queries)
        return best

    def gains(self, grades: Float64[np.ndarray, "rows"]) -> Float64[np.ndarray, "rows"]:
        """What an answer of each grade (0: none) adds in the sums of nDCG."""
        if self.kind == "nDCG-ones":
            return (grades > 0).astype(np.float64)
        if self.kind != "nDCG-exp":
            return grades
        if grades.size and grades.max() > _LARGEST_EXPONENT:
            raise ValueError(
                f"{self}: grade {grades.max():g} is too large for the gain 2^grade - 1; use nDCG, whose gain is linear"
            )
        gains: Float64[np.ndarray, "rows"] = np.exp2(grades) - 1.0
        return gains


def _sums(
    query: Int64[np.ndarray, "rows"], weights: Float64[np.ndarray, "rows"], queries: int
) -> Float64[np.ndarray, "queries"]:
    """The sum of the weights of each query; bincount forgets that it is a float where there are no rows."""
    return np.bincount(query, weights=weights, minlength=queries).astype(np.float64)


def _discounts(ranks: Int64[np.ndarray, "rows"]) -> Float64[np.ndarray, "rows"]:
    discounts: Float64[np.ndarray, "rows"] = 1.0 / np.log2(ranks + 1.0)
    return discounts


def _hits_before(query: Int64[np.ndarray, "hits"]) -> Int64[np.ndarray, "hits"]:
    """How many hits stand before the first one of each hit's own query; hits of one query stand together."""
    starts = np.flatnonzero(np.concatenate([[True], query[1:] != query[:-1]]))[: len(query)]
    return np.repeat(starts, np.diff(np.append(starts, len(query))))


DEFAULT_MEASURES: Final = tuple(map(Measure.parse, ("nDCG@5", "hit@1", "recall@5", "recall@10", "MRR")))


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """What one run is worth on one set of answers: a value per measure and judged query.

    `missing`: judged queries that the run leaves out, `unanswered`: judged queries without any answer (both count 0);
    `extra`: queries of the run that are not judged (not counted).
    """

    run: str
    measures: tuple[Measure, ...]
    queries: Shaped[np.ndarray, "queries"]
    values: Float64[np.ndarray, "measures queries"]
    missing: Shaped[np.ndarray, "missing"]
    unanswered: Shaped[np.ndarray, "unanswered"]
    extra: Shaped[np.ndarray, "extra"]

    def __repr__(self) -> str:
        scores = ", ".join(
            f"{measure} {self.mean(measure):.4f} ± {self.standard_error(measure):.4f}"
            for measure in self.measures
        )
        return f"Evaluation({self.run!r}, {len(self.queries):,} queries: {scores})"

    def of(self, measure: Measure | str) -> Float64[np.ndarray, "queries"]:
        """The values of one measure. Raises: ValueError for one that was not evaluated."""
        wanted = Measure.parse(measure) if isinstance(measure, str) else measure
        if wanted not in self.measures:
            raise ValueError(f"{wanted} was not evaluated; there are {', '.join(map(str, self.measures))}")
        values: Float64[np.ndarray, "queries"] = self.values[self.measures.index(wanted)]
        return values

    def mean(self, measure: Measure | str) -> float:
        """The score: the mean over the judged queries."""
        return float(self.of(measure).mean())

    def standard_error(self, measure: Measure | str) -> float:
        """The standard error of the score, with queries as a random sample; NaN for a single query."""
        return standard_error(self.of(measure))

    @property
    def notes(self) -> list[str]:
        """What the scores do not show, a line each: queries that count 0 or do not count."""
        kinds = (
            (self.missing, "judged queries that are not in the run, counted 0"),
            (self.unanswered, "judged queries without an answer, counted 0"),
            (self.extra, "queries of the run that are not judged, not counted"),
        )
        return [f"{kind}: {len(ids)}, the first is {ids[0]}" for ids, kind in kinds if len(ids)]

    def to_json(self) -> dict[str, Any]:
        """The evaluation with the value of every query, as plain values for JSON."""
        queries = list(map(str, self.queries.tolist()))
        measures = {
            str(measure): {
                "mean": self.mean(measure),
                "standard_error": self.standard_error(measure),
                "per_query": dict(zip(queries, self.of(measure).tolist(), strict=True)),
            }
            for measure in self.measures
        }
        return {
            "run": self.run,
            "queries": len(queries),
            "missing": self.missing.tolist(),
            "unanswered": self.unanswered.tolist(),
            "extra": self.extra.tolist(),
            "measures": measures,
        }


def unjudged_note(answers: Answers, product_ids: Shaped[np.ndarray, "products"]) -> str:
    """How many products of a catalogue are judged for no query, in words; empty where all are judged for some.

    >>> unjudged_note(Answers.from_lists({"1": ["7"]}), np.array([7, 8, 9]))
    '2 of 3 products are judged for no query; they count as wrong'
    """
    judged = np.unique(answers.product_ids)
    count = int((positions(product_ids, judged) < 0).sum())
    return (
        f"{count:,} of {len(product_ids):,} products are judged for no query; they count as wrong"
        if count
        else ""
    )


def standard_error(values: Float64[np.ndarray, "queries"]) -> float:
    """Standard deviation (n - 1) over the root of n; NaN for fewer than two values."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def evaluate(run: Run, answers: Answers, measures: Sequence[Measure] = DEFAULT_MEASURES) -> Evaluation:
    """The value of every measure for every judged query. 10,000 queries of 1,000 candidates take about a second.

    Raises: ValueError for answers without any query, or as `Measure.values`.
    """
    if len(answers.queries) == 0:
        raise ValueError("the answers hold no query, nothing can be evaluated")
    judged = judge(run, answers)
    return Evaluation(
        run=run.name,
        measures=tuple(measures),
        queries=answers.queries,
        values=np.array([measure.values(judged) for measure in measures]).reshape(
            len(measures), judged.queries
        ),
        missing=answers.queries[positions(answers.queries, run.queries) < 0],
        unanswered=answers.queries[judged.answer_counts == 0],
        extra=run.queries[positions(run.queries, answers.queries) < 0],
    )
