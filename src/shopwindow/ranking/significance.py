"""Is the difference significant? Intervals, tests and the smallest effect that a set of queries can show.

Everything is paired: two systems are compared on the values of the same queries. It knows evaluations,
no runs and no files. Chance comes in as a Generator.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Float64, Int64, Shaped
from scipy import stats

from shopwindow.ranking.measures import Evaluation

RESAMPLES: Final = 10_000
CONFIDENCE: Final = 0.95
POWER: Final = 0.8
BORDERLINE: Final = (0.04, 0.06)
"""p-values so near 5 % that other draws, or a few other queries, would give another verdict."""
_CELLS_AT_ONCE: Final = 4_000_000
_EQUAL: Final = 1e-12


def bootstrap_means(
    values: Float64[np.ndarray, "rows queries"], generator: np.random.Generator, *, resamples: int = RESAMPLES
) -> Float64[np.ndarray, "resamples rows"]:
    """The mean of every row over queries drawn with replacement; all rows see the same draws (so they stay paired).

    Source: Efron, Annals of Statistics 1979.
    """
    queries = values.shape[1]
    means = np.empty((resamples, len(values)))
    for chunk in _chunks(resamples, queries):
        count = chunk.stop - chunk.start
        drawn = generator.integers(0, queries, (count, queries)) + np.arange(count)[:, None] * queries
        weights = np.bincount(drawn.ravel(), minlength=count * queries).reshape(count, queries)
        means[chunk] = weights.astype(np.float64) @ values.T / queries
    return means


def bootstrap_intervals(
    values: Float64[np.ndarray, "rows queries"], generator: np.random.Generator, *, resamples: int = RESAMPLES
) -> Float64[np.ndarray, "rows 2"]:
    """The interval of every row's mean: bootstrap percentiles, expanded because they are too narrow for few queries.

    NaN for a single query.

    Source: expanded percentile interval, Hesterberg, The American Statistician 2015, section 5.
    """
    queries = values.shape[1]
    if queries < 2:
        return np.full((len(values), 2), np.nan)
    return wide_percentiles(bootstrap_means(values, generator, resamples=resamples), queries)


def wide_percentiles(
    draws: Float64[np.ndarray, "resamples rows"], queries: int
) -> Float64[np.ndarray, "rows 2"]:
    """The interval of bootstrap draws over so many queries, expanded as in `bootstrap_intervals`."""
    wide = np.sqrt(queries / (queries - 1)) * stats.t.ppf((1 + CONFIDENCE) / 2, queries - 1)
    level = stats.norm.cdf(-wide)
    ends: Float64[np.ndarray, "rows 2"] = np.quantile(draws, [level, 1 - level], axis=0).T
    return ends


@dataclass(frozen=True)
class Score:
    """A mean over queries with its 95 % interval."""

    mean: float
    low: float
    high: float


def mean_scores(
    values: Float64[np.ndarray, "rows queries"], generator: np.random.Generator, *, resamples: int = RESAMPLES
) -> list[Score]:
    """The mean of every row with its bootstrap interval."""
    ends = bootstrap_intervals(values, generator, resamples=resamples).tolist()
    return [
        Score(mean, low, high) for mean, (low, high) in zip(values.mean(axis=1).tolist(), ends, strict=True)
    ]


def randomisation_p_values(
    differences: Float64[np.ndarray, "rows queries"],
    generator: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
    alternative: Literal["two-sided", "greater"] = "two-sided",
) -> Float64[np.ndarray, "rows"]:
    """The p-value of every row's mean difference under swapping the two systems, query by query.

    Exact where all swaps are no more than `resamples`; else drawn, the observed order counted in, so never 0.

    Source: Fisher's randomisation test; for retrieval Smucker, Allan and Carterette, CIKM 2007.
    """
    queries = differences.shape[1]
    # sums that are equal on paper differ by rounding: they count as equal
    slack = _EQUAL * np.abs(differences).sum(axis=1)
    size = np.abs if alternative == "two-sided" else np.positive
    extreme = size(differences.sum(axis=1)) - slack
    if 2**queries <= resamples:
        signs = np.array(list(itertools.product([1.0, -1.0], repeat=queries)))
        exact: Float64[np.ndarray, "rows"] = np.mean(size(signs @ differences.T) >= extreme, axis=0)
        return exact
    counted = np.ones(len(differences))
    for chunk in _chunks(resamples, queries):
        count = chunk.stop - chunk.start
        raw = np.frombuffer(generator.bytes(count * -(-queries // 8)), np.uint8).reshape(count, -1)
        flipped = np.unpackbits(raw, axis=1, count=queries).astype(np.float64)
        sums = differences.sum(axis=1) - 2.0 * (flipped @ differences.T)
        counted += np.sum(size(sums) >= extreme, axis=0)
    return counted / (resamples + 1)


def _chunks(rows: int, columns: int) -> list[slice]:
    """Stretches of rows of at most four million cells, to bound memory."""
    step = max(1, _CELLS_AT_ONCE // max(columns, 1))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def detectable_effect(standard_error: float, degrees: float = np.inf) -> float:
    """The smallest true difference that the t test with so many degrees of freedom finds in 4 of 5 samples.

    >>> round(detectable_effect(0.01), 3), round(detectable_effect(0.01, 4.0), 3)
    (0.028, 0.037)
    """
    margin = float(stats.t.ppf(POWER, degrees)) * standard_error
    return margin + noticeable_difference(standard_error, degrees)


def noticeable_difference(standard_error: float, degrees: float = np.inf) -> float:
    """The smallest measured difference that is significant (uncorrected).

    >>> round(noticeable_difference(0.01), 4)
    0.0196
    """
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees)) * standard_error


def holm(p_values: Float64[np.ndarray, "tests"]) -> Float64[np.ndarray, "tests"]:
    """p-values corrected for several tests: the chance of any false rejection stays below the level.

    Source: Holm, Scandinavian Journal of Statistics 1979.

    >>> holm(np.array([0.04, 0.01, 0.5])).tolist()
    [0.08, 0.03, 0.5]
    """
    order = np.argsort(p_values, kind="stable")
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


@dataclass(frozen=True)
class Difference:
    """A mean difference with its standard error and its degrees of freedom, interval and two-sided p-value."""

    mean: float
    standard_error: float
    degrees: float
    low: float
    high: float
    p_value: float


def seeds_difference(
    first: Float64[np.ndarray, "seeds queries"],
    second: Float64[np.ndarray, "others queries"],
    *,
    matched: bool = False,
) -> Difference:
    """The difference of two systems of repeated seeds, with queries and seeds as random samples.

    `matched`: the i-th seed of both is one model (its plain ranking, and another made from it). A seed then has one
    difference, and what it does to both alike adds no variance.

    The variance is the sum of two, less the part that both contain (seed and query crossed): over queries, of the
    seeds' mean, and over seeds, of each system's score. Interval and test are those of t with Satterthwaite's degrees
    of freedom. On simulated null pairs of 3 to 5 seeds the test rejects 2 to 5 % at 5 %; of matched pairs of two seeds
    it rejects up to 10 %. A system of one seed beside one of several is charged the other's variance over seeds.

    Raises: ValueError for fewer than two queries, or matched systems of different numbers of seeds.

    Source: crossed random effects, Owen, Annals of Applied Statistics 2007; Satterthwaite, Biometrics 1946.
    """
    queries = first.shape[1]
    if queries < 2:
        raise ValueError(f"{queries} query: at least 2 are needed for a test")
    if matched:
        if len(first) != len(second):
            raise ValueError(f"{len(first)} and {len(second)} seeds: matched ones are as many")
        first, second = first - second, np.zeros_like(second)
    differences = first.mean(axis=0) - second.mean(axis=0)
    mean = float(differences.mean())
    parts = [(float(differences.var(ddof=1)) / queries, queries - 1)]
    crossed = 0.0
    for values, others in ((first, second), (second, first)):
        seeds = len(values)
        if seeds > 1:
            share = 1 / seeds + (len(others) == 1)
            parts.append((float(values.mean(axis=1).var(ddof=1)) * share, seeds - 1))
            rest = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
            crossed += float((rest**2).sum()) / ((seeds - 1) * (queries - 1)) / queries * share
    total = sum(variance for variance, _ in parts)
    variance = max(total - crossed, parts[0][0])
    if variance <= 0:
        return Difference(mean, 0.0, np.inf, mean, mean, 1.0 if mean == 0 else 0.0)
    # The degrees of a sum of variances are at least the least of a part; the subtracted crossed part would break this.
    least = float(min(own for part, own in parts if part > 0))
    degrees = max(variance**2 / sum(part**2 / own for part, own in parts), least)
    error = float(np.sqrt(variance))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees)) * error
    p_value = float(2 * stats.t.sf(abs(mean) / error, degrees))
    return Difference(mean, error, degrees, mean - half, mean + half, p_value)


@dataclass(frozen=True, eq=False)
class System:
    """A ranker to compare: one evaluation, or one per repeated seed, over the same queries and measures."""

    name: str
    evaluations: tuple[Evaluation, ...]

    def __post_init__(self) -> None:
        if not self.evaluations:
            raise ValueError(f"{self.name}: a system of no runs")
        for evaluation in self.evaluations[1:]:
            if not np.array_equal(evaluation.queries, self.evaluations[0].queries):
                raise ValueError(
                    f"{evaluation.run} is judged on other queries than {self.evaluations[0].run}"
                )

    @property
    def queries(self) -> Shaped[np.ndarray, "queries"]:
        """The judged queries."""
        return self.evaluations[0].queries

    def of(self, measure: str) -> Float64[np.ndarray, "seeds queries"]:
        """The values of a measure."""
        return np.stack([evaluation.of(measure) for evaluation in self.evaluations])

    def mean(self, measure: str) -> float:
        """The mean over queries and seeds."""
        return float(self.of(measure).mean())

    def standard_error(self, measure: str) -> float:
        """Over queries, and over seeds where there are several."""
        values = self.of(measure)
        return (
            seeds_difference(values, np.zeros_like(values)).standard_error if values.shape[1] > 1 else np.nan
        )

    def spread(self, measure: str) -> float:
        """The standard deviation of the score over seeds; NaN for one seed."""
        scores = self.of(measure).mean(axis=1)
        return float(scores.std(ddof=1)) if len(scores) > 1 else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Its only evaluation, or its scores over seeds and the evaluation of each, as plain values for JSON."""
        seeds = [evaluation.to_json() for evaluation in self.evaluations]
        if len(seeds) == 1:
            return seeds[0]
        measures = {
            name: {
                "mean": self.mean(name),
                "standard_error": self.standard_error(name),
                "spread": self.spread(name),
            }
            for name in map(str, self.evaluations[0].measures)
        }
        return {"run": self.name, "measures": measures, "seeds": seeds}


@dataclass(frozen=True, repr=False)
class Comparison:
    """`first` less `second` in one measure. `p_corrected` is Holm's over all systems compared in this measure.

    `detectable`: the smallest true difference that these queries (and seeds) show in 4 of 5 samples. `noticeable`: the
    smallest measured difference that is significant (uncorrected). `single`: the one of the two that is a single run
    beside a group of seeds; it is charged the group's variance over seeds.
    """

    measure: str
    first: str
    second: str
    queries: int
    first_mean: float
    second_mean: float
    difference: float
    low: float
    high: float
    p_value: float
    p_corrected: float
    wins: int
    ties: int
    losses: int
    detectable: float
    noticeable: float
    over_seeds: bool
    single: str | None
    compared: int = 1
    """With how many systems `first` is compared in this measure."""

    def __repr__(self) -> str:
        interval = f"{self.low:+.4f} to {self.high:+.4f}"
        ahead = f"{self.first} - {self.second} {self.difference:+.4f} ({interval})"
        return f"Comparison({self.measure}: {ahead}, {self.verdict})"

    @property
    def is_real(self) -> bool:
        """Whether the difference is significant at 5 % when corrected."""
        return self.p_corrected < 1 - CONFIDENCE

    @property
    def is_borderline(self) -> bool:
        """Whether the corrected p-value is too near 5 % for a verdict."""
        return BORDERLINE[0] <= self.p_corrected <= BORDERLINE[1]

    @property
    def verdict(self) -> str:
        """The result in plain words, and the p by which it goes."""
        result = "the difference is significant" if self.is_real else "no significant difference"
        if self.is_borderline:
            result = "the difference is borderline, p is near 0.05"
        if self.compared == 1:
            return f"{result} ({p_text(self.p_corrected)})"
        correction = f"after Holm's correction over {self.compared} comparisons"
        return f"{result} {correction} ({p_text(self.p_corrected)}; alone {p_text(self.p_value)})"

    @property
    def sensitivity(self) -> str:
        """Which differences these queries show and which they miss, in plain words."""
        return (
            f"With {self.queries} queries a measured difference in {self.measure} below {self.noticeable:.3f} is not"
            f" significant, and a true one below {self.detectable:.3f} is missed in more than 1 of 5 samples (detects)."
        )

    @property
    def single_note(self) -> str | None:
        """What was done about a single run beside a group of seeds; None where there is none."""
        if self.single is None:
            return None
        return f"{self.single} is a single run: it is charged the other side's variance over seeds."

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain values for JSON."""
        return asdict(self) | {"is_real": self.is_real}


def p_text(p_value: float) -> str:
    """A p-value as it is read.

    >>> p_text(0.3123), p_text(0.00001)
    ('p = 0.31', 'p < 0.0001')
    """
    return f"p = {p_value:.2g}" if p_value >= 0.0001 else "p < 0.0001"


def compare(
    first: System,
    others: Sequence[System],
    generator: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
) -> list[Comparison]:
    """`first` against each of the others in every measure of `first`, measure by measure.

    Single runs: paired bootstrap interval and randomisation test. Where either side is a group of seeds: the test
    that uses both sources of variance (`seeds_difference`).

    Raises: ValueError for systems judged on other queries, or fewer than two queries.
    """
    for other in others:
        if not np.array_equal(other.queries, first.queries):
            raise ValueError(f"{other.name} is judged on other queries than {first.name}")
    if len(first.queries) < 2:
        raise ValueError("at least 2 judged queries are needed for a comparison")
    measures = list(map(str, first.evaluations[0].measures))
    cells = [(measure, other) for measure in measures for other in others]
    if not cells:
        return []
    means = np.stack([first.of(m).mean(axis=0) - other.of(m).mean(axis=0) for m, other in cells])
    intervals = bootstrap_intervals(means, generator, resamples=resamples)
    p_values = randomisation_p_values(means, generator, resamples=resamples)
    comparisons = [
        _comparison(first, other, measure, row, interval.tolist(), float(p_value))
        for (measure, other), row, interval, p_value in zip(cells, means, intervals, p_values, strict=True)
    ]
    by_measure = ([one for one in comparisons if one.measure == measure] for measure in measures)
    return [one for group in by_measure for one in _corrected(group)]


def _comparison(
    first: System,
    other: System,
    measure: str,
    differences: Float64[np.ndarray, "queries"],
    interval: Sequence[float],
    p_value: float,
) -> Comparison:
    """One cell of `compare`, not yet corrected; interval and p-value are those of the paired test."""
    singles = [system.name for system in (first, other) if len(system.evaluations) == 1]
    over_seeds = len(singles) < 2
    by_seeds = seeds_difference(first.of(measure), other.of(measure))
    low, high = (by_seeds.low, by_seeds.high) if over_seeds else interval
    return Comparison(
        measure=measure,
        first=first.name,
        second=other.name,
        queries=len(differences),
        first_mean=first.mean(measure),
        second_mean=other.mean(measure),
        difference=float(differences.mean()),
        low=low,
        high=high,
        p_value=by_seeds.p_value if over_seeds else p_value,
        p_corrected=1.0,
        wins=int((differences > _EQUAL).sum()),
        ties=int((np.abs(differences) <= _EQUAL).sum()),
        losses=int((differences < -_EQUAL).sum()),
        detectable=detectable_effect(by_seeds.standard_error, by_seeds.degrees),
        noticeable=noticeable_difference(by_seeds.standard_error, by_seeds.degrees),
        over_seeds=over_seeds,
        single=singles[0] if len(singles) == 1 else None,
    )


def _corrected(comparisons: list[Comparison]) -> list[Comparison]:
    p_values = holm(np.array([one.p_value for one in comparisons]))
    compared = len(comparisons)
    return [
        replace(one, p_corrected=float(p), compared=compared)
        for one, p in zip(comparisons, p_values, strict=True)
    ]


def most_different(
    first: System, second: System, measure: str, *, count: int = 5
) -> tuple[Int64[np.ndarray, "gains"], Int64[np.ndarray, "losses"]]:
    """The queries (as numbers into `first.queries`) that `first` gains and loses most on; only those that differ."""
    difference = first.of(measure).mean(axis=0) - second.of(measure).mean(axis=0)
    order = np.argsort(-difference, kind="stable")
    gains = order[:count][difference[order[:count]] > _EQUAL]
    losses = order[::-1][:count]
    return gains, losses[difference[losses] < -_EQUAL]
