"""Significance: against scipy, against full enumeration, and simulated: intervals cover, tests keep their level."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from shopwindow.ranking.measures import Evaluation, Measure
from shopwindow.ranking.significance import (
    System,
    bootstrap_intervals,
    bootstrap_means,
    compare,
    detectable_effect,
    holm,
    most_different,
    randomisation_p_values,
    seeds_difference,
)

MEASURE = Measure.parse("nDCG@5")


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def system(name: str, *seeds: np.ndarray) -> System:
    none = np.zeros(0, np.int64)
    return System(
        name,
        tuple(
            Evaluation(name, (MEASURE,), np.arange(len(values)), values[None].astype(float), none, none, none)
            for values in seeds
        ),
    )


def test_small_test_is_exact_and_counted_by_hand() -> None:
    # of 8 swaps only +++ and --- are as far from 0 as 1 + 2 + 3
    assert randomisation_p_values(np.array([[1.0, 2.0, 3.0]]), chance()).tolist() == [0.25]
    # 1 + 1 - 1: the two with all signs equal are further, the other six as far
    assert randomisation_p_values(np.array([[1.0, 1.0, -1.0]]), chance()).tolist() == [1.0]
    assert randomisation_p_values(np.zeros((1, 3)), chance()).tolist() == [1.0]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1, 1, width=16), min_size=1, max_size=7))
def test_exact_p_value_is_that_of_all_swaps(differences: list[float]) -> None:
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    expected = np.mean(np.array(sums) >= sums[0] - 1e-12)
    assert randomisation_p_values(np.array([differences]), chance()).tolist() == [pytest.approx(expected)]


def test_drawn_p_value_is_that_of_scipy() -> None:
    differences = chance(1).normal(0.15, 1, 120)
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=50_000, rng=chance(2)
    ).pvalue
    found = randomisation_p_values(differences[None], chance(3), resamples=50_000)[0]
    assert 0.02 < found < 0.3
    assert found == pytest.approx(expected, abs=0.01)  # 3 standard errors of 50,000 draws are 0.004


def test_bootstrap_interval_is_that_of_scipy_slightly_expanded() -> None:
    values = chance(1).exponential(1, 200)
    expected = stats.bootstrap((values,), np.mean, n_resamples=50_000, method="percentile", rng=chance(2))
    low, high = bootstrap_intervals(values[None], chance(3), resamples=50_000)[0]
    assert [low, high] == pytest.approx(list(expected.confidence_interval), abs=0.01)
    assert high - low > expected.confidence_interval.high - expected.confidence_interval.low


def test_interval_of_few_queries_is_as_wide_as_the_t_interval() -> None:
    values = stats.norm.ppf((np.arange(12) + 0.5) / 12)
    low, high = bootstrap_intervals(values[None], chance(3), resamples=40_000)[0]
    expected = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    # plain percentiles would be 15 % narrower, half corrected ones 4 %
    assert high - low == pytest.approx(expected[1] - expected[0], rel=0.02)


def test_bootstrap_draws_are_shared_by_rows_and_do_not_depend_on_chunks() -> None:
    values = chance(1).random((2, 50))
    means = bootstrap_means(np.stack([values[0], values[1], values[0] - values[1]]), chance(2), resamples=300)
    assert means[:, 2] == pytest.approx(means[:, 0] - means[:, 1])
    assert means[:, 0].mean() == pytest.approx(values[0].mean(), abs=0.01)
    assert means[:, 0].std() == pytest.approx(values[0].std() / np.sqrt(50), rel=0.1)


def test_single_query_has_no_interval() -> None:
    assert np.isnan(bootstrap_intervals(np.ones((1, 1)), chance())).all()
    with pytest.raises(ValueError, match="at least 2"):
        compare(system("a", np.ones(1)), [system("b", np.zeros(1))], chance())


def test_holm_is_the_textbook_one() -> None:
    assert holm(np.array([0.01, 0.02, 0.03, 0.04])).tolist() == [0.04, 0.06, 0.06, 0.06]
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]
    assert holm(np.zeros(0)).tolist() == []


def test_detectable_effect_is_found_four_times_in_five() -> None:
    # 400 queries of deviation 1: standard error 0.05
    effect = detectable_effect(0.05)
    differences = chance(4).normal(effect, 1, (2000, 400))
    found = stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.03)


def test_effect_that_few_seeds_detect_is_found_four_times_in_five() -> None:
    # 5 values of deviation 1: 4 degrees of freedom
    effect = detectable_effect(5**-0.5, 4.0)
    found = stats.ttest_1samp(chance(4).normal(effect, 1, (4000, 5)), 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(
    ("p_value", "says"),
    [
        (0.039, "the difference is significant (p = 0.039)"),
        (0.049, "the difference is borderline, p is near 0.05 (p = 0.049)"),
        (0.051, "the difference is borderline, p is near 0.05 (p = 0.051)"),
        (0.061, "no significant difference (p = 0.061)"),
    ],
)
def test_a_verdict_does_not_tip_at_the_threshold(p_value: float, says: str) -> None:
    (found,) = compare(system("a", np.ones(4)), [system("b", np.zeros(4))], chance())
    assert replace(found, p_value=p_value, p_corrected=p_value).verdict == says


def test_comparison_counts_wins_ties_and_losses() -> None:
    first, second = np.array([1, 0.5, 0.5, 0]), np.array([0, 0.5, 0.2, 0.5])
    (found,) = compare(system("a", first), [system("b", second)], chance())
    assert (found.wins, found.ties, found.losses, found.queries) == (2, 1, 1, 4)
    assert found.difference == pytest.approx(0.2)
    assert [found.first_mean, found.second_mean] == pytest.approx([0.5, 0.3])
    assert found.low < found.difference < found.high
    assert not found.is_real
    gains, losses = most_different(system("a", first), system("b", second), "nDCG@5")
    assert (gains.tolist(), losses.tolist()) == ([0, 2], [3])


def test_several_comparisons_are_corrected_within_their_measure() -> None:
    base = chance(0).random(300)
    others = [system(f"b{shift}", np.roll(base, 7) - shift) for shift in (0.0, 0.05, 0.5)]
    found = compare(system("a", base), others, chance(1), resamples=2000)
    assert [one.p_corrected for one in found] == holm(np.array([one.p_value for one in found])).tolist()
    assert found[2].is_real
    assert not found[0].is_real
    assert found[0].verdict.startswith(
        "no significant difference after Holm's correction over 3 comparisons (p = "
    )
    assert f"; alone p = {found[0].p_value:.2g})" in found[0].verdict


def test_system_against_itself_differs_by_nothing() -> None:
    one = system("a", chance(0).random(40))
    (found,) = compare(one, [one], chance(1))
    assert (found.difference, found.low, found.high, found.p_value, found.ties) == (0, 0, 0, 1, 40)


def test_systems_on_other_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="b is judged on other queries than a"):
        compare(system("a", np.ones(3)), [system("b", np.ones(4))], chance())


def test_seeds_of_one_group_widen_the_interval_and_are_reported() -> None:
    queries, lift = chance(0).random(200), np.array([0.0, 0.06, -0.06])
    wide = system("a", *(queries + one for one in lift))
    narrow = system("a", *(queries + one / 100 for one in lift))
    rival = system("b", queries - 0.03)
    spread, tight = (compare(one, [rival], chance(1))[0] for one in (wide, narrow))
    assert wide.spread("nDCG@5") == pytest.approx(0.06)
    assert spread.difference == pytest.approx(tight.difference)
    assert spread.over_seeds
    assert not spread.is_real
    assert tight.is_real
    assert spread.high - spread.low > 10 * (tight.high - tight.low)


def test_one_seed_each_is_the_paired_t_test() -> None:
    first, second = chance(0).random((2, 30))
    expected = stats.ttest_rel(first, second)
    found = seeds_difference(first[None], second[None])
    assert found.p_value == pytest.approx(expected.pvalue)
    assert [found.low, found.high] == pytest.approx(list(expected.confidence_interval(0.95)))


def test_matched_seeds_have_one_difference_each() -> None:
    plain = chance(0).random((3, 50)) + np.array([[0.0], [0.2], [-0.2]])
    better = plain + 0.02 + chance(1).normal(0, 0.01, (3, 50))
    apart, matched = seeds_difference(better, plain), seeds_difference(better, plain, matched=True)
    assert matched.mean == pytest.approx(apart.mean)
    assert apart.p_value > 0.5
    assert matched.p_value < 0.001
    alone = seeds_difference(better[:1], plain[:1], matched=True)
    assert alone.p_value == pytest.approx(stats.ttest_rel(better[0], plain[0]).pvalue)
    with pytest.raises(ValueError, match="3 and 2 seeds"):
        seeds_difference(better, plain[:2], matched=True)


def test_intervals_of_few_seeds_stay_in_measure() -> None:
    """Where seeds differ by nothing but what seed and query share, the part taken away is most of the variance."""
    rng = chance(2)
    for _ in range(300):
        ease = rng.normal(0.5, 0.3, 98)
        runs = ease + rng.normal(0, 0.2, (6, 98))
        found = seeds_difference(runs[:3], runs[3:])
        assert found.degrees >= 2
        assert found.high - found.low < 0.3


def null_pairs(count: int, queries: int, generator: np.random.Generator) -> np.ndarray:
    """Differences of two equally good systems, as of real measures: in steps, many 0, skewed values below."""
    ease = generator.beta(0.6, 0.6, (count, queries, 1))
    hits = generator.random((2, count, queries, 5)) < ease
    gains = 1 / np.log2(np.arange(2, 7))
    values = (hits * gains).sum(axis=-1) / gains.sum()
    return np.asarray(values[0] - values[1])


@pytest.mark.slow
def test_interval_covers_and_test_keeps_its_level_on_null_pairs() -> None:
    generator = chance(11)
    pairs = null_pairs(4000, 150, generator)
    p_values = randomisation_p_values(pairs, generator, resamples=2000)
    ends = bootstrap_intervals(pairs, generator, resamples=2000)
    missed = (ends[:, 0] > 0) | (ends[:, 1] < 0)
    # 4,000 pairs: the standard error of 5 % is 0.34 %
    assert 0.04 < np.mean(p_values < 0.05) < 0.06
    assert 0.04 < np.mean(missed) < 0.06


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed_deviation", "least"), [(0.0, 0.01), (0.01, 0.02), (0.03, 0.035), (0.1, 0.035)]
)
def test_seeds_test_never_exceeds_its_level_and_keeps_it_where_seeds_matter(
    seed_deviation: float, least: float
) -> None:
    generator = chance(12)
    rejected = []
    for _ in range(3000):
        ease = generator.normal(0.5, 0.3, 150)
        runs = ease + generator.normal(0, seed_deviation, (10, 1)) + generator.normal(0, 0.15, (10, 150))
        rejected.append(seeds_difference(runs[:5], runs[5:]).p_value < 0.05)
    assert least < np.mean(rejected) < 0.06


@pytest.mark.slow
@pytest.mark.parametrize("seed_deviation", [0.005, 0.02, 0.05])
def test_single_run_beside_seeds_is_charged_their_variance(seed_deviation: float) -> None:
    generator = chance(13)
    rejected = []
    for _ in range(2000):
        ease = generator.normal(0.5, 0.3, 150)
        runs = ease + generator.normal(0, seed_deviation, (6, 1)) + generator.normal(0, 0.15, (6, 150))
        rejected.append(seeds_difference(runs[:5], runs[5:]).p_value < 0.05)
    assert np.mean(rejected) < 0.065  # 5 % and three standard errors of 2,000 pairs


@pytest.mark.slow
@pytest.mark.parametrize("seed_deviation", [0.0, 0.005, 0.02, 0.1])
def test_test_of_matched_seeds_keeps_its_level(seed_deviation: float) -> None:
    generator = chance(14)
    rejected = []
    for _ in range(3000):
        ease = generator.normal(0.5, 0.3, 150)
        plain = ease + generator.normal(0, 0.05, (3, 1)) + generator.normal(0, 0.15, (3, 150))
        changed = plain + generator.normal(0, seed_deviation, (3, 1)) + generator.normal(0, 0.05, (3, 150))
        rejected.append(seeds_difference(changed, plain, matched=True).p_value < 0.05)
    assert 0.01 < np.mean(rejected) < 0.065
