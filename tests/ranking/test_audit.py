"""The audit: finds each planted leak, is silent where none is planted, and reproduces the known figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shopwindow.ranking.answers import Answers, read_answers
from shopwindow.ranking.audit import OFFICIAL, Audit, audit, audit_card
from shopwindow.ranking.blind import (
    box_statistics,
    equal_rows,
    in_bins,
    prefix_indicators,
    query_blind_scores,
)
from shopwindow.ranking.chance import cleared, random_values
from shopwindow.ranking.pools import Pools, grades_of, random_run, read_pools, run_of
from shopwindow.ranking.runs import Run, read_run
from shopwindow.ranking.shortcuts import (
    Shortcut,
    WordCounts,
    counts_among,
    image_blind_shortcut,
    occurrence_shortcuts,
    occurrences,
    popularity_shortcuts,
)
from shopwindow.ranking.significance import holm, randomisation_p_values

QUERIES, SIZE, RIGHT, CATALOGUE = 250, 30, 6, 4000


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def shop(*, leak: str = "", seed: int = 0) -> tuple[Pools, Answers]:
    """Pools of 30 products of one catalogue, 6 of them right, nothing told by anything but `leak`."""
    generator = chance(seed)
    products = np.stack([generator.choice(CATALOGUE, SIZE, replace=False) for _ in range(QUERIES)]) + 10_000
    right = np.stack([generator.permutation(SIZE) < RIGHT for _ in range(QUERIES)])
    if leak == "occurrence":
        products = np.where(
            right, 90_000 + generator.permutation(QUERIES * SIZE).reshape(QUERIES, SIZE), products
        )
        shared = np.stack([generator.choice(400, SIZE, replace=False) for _ in range(QUERIES)])
        products = np.where(
            right, generator.permutation(10**6)[: QUERIES * SIZE].reshape(QUERIES, SIZE), -1 - shared
        )
        products += 10**6
    if leak == "order":
        right = np.sort(right, axis=1)[:, ::-1]
    if leak == "id":
        products = 2 * products + np.where(right, 0, 1 + 2 * (CATALOGUE // 3))
    if leak == "prefix":
        # ids of the other kind lie on both sides, so that no plain order of ids tells
        products = np.where(right, products + 30_000, products + 10_000 + 40_000 * (products % 2))
    queries = np.repeat(np.arange(QUERIES), SIZE)
    pools = Pools.from_arrays(queries, products.ravel())
    return pools, Answers.from_arrays(queries[right.ravel()], products.ravel()[right.ravel()])


def audited(leak: str = "", **options: object) -> Audit:
    pools, answers = shop(leak=leak)
    return audit(pools, answers, chance(1), resamples=2000, **options)  # type: ignore[arg-type]


def test_silent_where_nothing_is_planted() -> None:
    found = audited()
    assert found.leaks == ()
    assert max(line.above_random.mean for line in found.lines) < 0.03
    assert found.verdict.startswith("No leak found: none of 8 shortcuts")
    assert found.random.mean == pytest.approx(0.2, abs=0.01)
    assert found.oracle.mean == 1.0


def test_a_shortcut_near_the_threshold_may_leak_and_the_verdict_says_so() -> None:
    pools, answers = shop()
    grades = grades_of(pools, answers)
    hint = Shortcut("hint", 0.25 * grades + chance(3).normal(size=len(pools)))
    lead = next(
        line
        for line in audit(pools, answers, chance(1), shortcuts=[hint], resamples=2000).lines
        if line.name == "hint"
    ).above_random
    below, inside, above = lead.low - 0.01, lead.mean - 0.001, lead.mean + 0.001
    for margin, may, begins in (
        (below, False, "This set leaks: "),
        (inside, True, "This set may leak: "),
        (above, True, "No leak found: "),
    ):
        found = audit(pools, answers, chance(1), shortcuts=[hint], margin=margin, resamples=2000)
        (line,) = [one for one in found.lines if one.name == "hint"]
        assert found.may_leak(line) is may
        assert found.verdict.startswith(begins)
        assert ("'hint' is near the threshold of " in found.verdict) is may


@pytest.mark.parametrize(
    ("leak", "named"),
    [
        ("order", "first in the file"),
        ("id", "small product id"),
        ("prefix", "product id prefix"),
        ("occurrence", "in one pool"),
    ],
)
def test_planted_leak_is_found_and_named(leak: str, named: str) -> None:
    found = audited(leak)
    assert named in [line.name for line in found.leaks]
    assert next(line for line in found.lines if line.name == named).score.mean > 0.35
    assert found.verdict.startswith("This set leaks: without the query, ")


def features_of(pools: Pools, answers: Answers, lift: float) -> tuple[np.ndarray, np.ndarray]:
    """300 features per product, one of them higher by `lift` where the product is an answer."""
    products = np.unique(pools.product_ids)
    features = chance(5).normal(size=(len(products), 300))
    features[:, 17] += lift * np.isin(products, answers.product_ids)
    return products, features


@pytest.mark.parametrize(("lift", "leaks"), [(0.0, False), (2.0, True)])
def test_query_blind_model_finds_what_photos_tell_and_nothing_else(lift: float, leaks: bool) -> None:
    pools, answers = shop(leak="occurrence")
    scores = query_blind_scores(
        pools, grades_of(pools, answers), *features_of(pools, answers, lift), chance(2)
    )
    found = audit(pools, answers, chance(1), shortcuts=[Shortcut("query-blind", scores)], resamples=1000)
    (line,) = [line for line in found.lines if line.name == "query-blind"]
    assert line.leaks is leaks
    assert abs(line.above_random.mean) < 0.03 or leaks


def test_query_blind_score_does_not_depend_on_its_own_query_or_product() -> None:
    pools, answers = shop()
    products, features = features_of(pools, answers, 1.0)
    grades = grades_of(pools, answers)
    before = query_blind_scores(pools, grades, products, features, chance(2))
    row = 4321
    touched = (pools.query_ids == pools.query_ids[row]) | (pools.product_ids == pools.product_ids[row])
    after = query_blind_scores(pools, np.where(touched, 1 - grades, grades), products, features, chance(2))
    assert after[row] == pytest.approx(before[row], abs=1e-12)
    assert not np.allclose(after, before)


def test_one_photo_under_two_ids_stays_in_one_part() -> None:
    # every photo stands under two ids, and nothing but the photo itself tells whether it is an answer
    generator = chance(8)
    photos = generator.normal(size=(60, 100))
    good = generator.random(60) < 0.3
    of_product = generator.permutation(np.repeat(np.arange(60), 2))
    pools = Pools.from_arrays(np.repeat(np.arange(12), 10), np.arange(120))
    grades = good[of_product].astype(float)
    features = photos[of_product]
    given, products = (pools, grades, np.arange(120), features), equal_rows(features)
    assert products.max() == 59
    apart = query_blind_scores(*given, chance(2), same=products)
    across = query_blind_scores(*given, chance(2))
    lead = [float(scores[grades > 0].mean() - scores[grades == 0].mean()) for scores in (apart, across)]
    assert lead[0] < 0.05 < 0.15 < lead[1]


def test_several_deals_depend_less_on_chance() -> None:
    pools, answers = shop()
    given = (pools, grades_of(pools, answers), *features_of(pools, answers, 0.3))

    def alike(deals: int) -> float:
        one, two = (query_blind_scores(*given, chance(seed), deals=deals) for seed in (1, 2))
        return float(np.corrcoef(one, two)[0, 1])

    assert alike(4) > alike(1)


def test_query_blind_refuses_what_it_cannot_use() -> None:
    pools, answers = shop()
    grades, products = grades_of(pools, answers), np.unique(pools.product_ids)
    with pytest.raises(ValueError, match="NaN"):
        query_blind_scores(pools, grades, products, np.full((len(products), 2), np.nan), chance())
    with pytest.raises(ValueError, match="1 folds"):
        query_blind_scores(pools, grades, products, np.zeros((len(products), 2)), chance(), folds=1)


def test_bins_and_prefixes_are_indicators() -> None:
    assert in_bins(np.array([[3.0], [1.0], [3.0]])).tolist() == [[0, 1], [1, 0], [0, 1]]
    cells = in_bins(np.arange(100.0)[:, None])
    assert cells.sum(axis=1).tolist() == [1] * 100
    assert cells.sum(axis=0).min() >= 12
    found = prefix_indicators(np.array([10301, 14962, 10302, 149]))
    assert found[:, :2].tolist() in ([[1, 0], [0, 1], [1, 0], [0, 1]], [[0, 1], [1, 0], [0, 1], [1, 0]])
    assert found[:, 2:].sum(axis=1).tolist() == [1, 1, 1, 1]


SMALL = Pools.from_arrays(np.array([1, 1, 1, 2, 2]), np.array([5, 6, 7, 6, 7]))
OTHER = Pools.from_arrays(np.array([1, 2]), np.array([7, 5]))


def test_occurrences_are_counted_by_hand() -> None:
    counts = occurrences(SMALL, [OTHER])
    assert counts.tolist() == [[1, 2, 2, 2, 2], [1, 0, 1, 0, 1]]
    by_name = {shortcut.name: shortcut.scores.tolist() for shortcut in occurrence_shortcuts(counts)}
    assert by_name["in one pool"] == [1, 0, 0, 0, 0]
    assert by_name["in few pools of all files"] == [-2, -2, -3, -2, -3]
    assert by_name["not in the other files"] == [0, 1, 0, 1, 0]
    assert counts_among(np.array(["5", "x"]), np.array([5, 5])).tolist() == [2, 0]
    popular, rare = popularity_shortcuts(SMALL, np.array([6, 6, 7]))
    assert popular.scores.tolist() == [0, 2, 1, 2, 1]
    assert rare.scores.tolist() == [0, -2, -1, -2, -1]


def test_training_text_of_a_product_is_a_shortcut_without_its_photo() -> None:
    texts = ["Red shoe", "lamp", "lamp lamp", "red", "shoe lamp"]
    pairs = np.array([[0, 2], [1, 3], [2, 4]])
    words = WordCounts.of(np.array([2, 1]), texts[:2], np.array([5, 6, 9]), texts, pairs)
    counts = [
        dict(zip(*np.unique(row, return_counts=True), strict=True)) for row in words.of_products.toarray()
    ]
    assert counts == [{0: 2, 2: 1}, {0: 2, 1: 1}, {0: 1, 1: 2}]
    found = image_blind_shortcut(SMALL, words)
    # query 2 has red and shoe, query 1 lamp; product 7 was never trained with
    assert found.scores[[0, 1, 2, 4]].tolist() == pytest.approx([1, 0, 0, 0])
    assert 0.5 < found.scores[3] < 1


def test_box_statistics_are_counted_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 5, 10, 25], [0, 0, 2, 4]], float)
    sizes, labels = np.array([[20, 40], [2, 4]]), np.array([7, 8, 9])
    assert box_statistics(np.array([2, 1]), boxes, sizes, labels).tolist() == [
        [2, 20, 40, 0.5, 7, 100 / 800, 200 / 800],
        [1, 2, 4, 0.5, 9, 1, 1],
    ]


def test_cleared_score_sees_only_candidates_that_counting_cannot_tell_apart() -> None:
    pools = Pools.from_arrays(np.repeat([1, 2], 4), np.array([1, 2, 3, 4, 5, 6, 7, 8]))
    answers = Answers.from_lists({1: [1, 3], 2: [5]})
    # query 1: groups {1, 2} and {3, 4}; query 2: its answer is alone in its group, so it is out
    keys = np.array([[0, 0, 1, 1, 0, 1, 1, 1]])
    right_in_one = np.array([2.0, 1.0, 1.0, 2.0, 9.0, 0.0, 0.0, 0.0])
    found = cleared(pools, answers, right_in_one, keys, chance(), measure=OFFICIAL, resamples=100)
    assert found is not None
    assert found.queries == 1
    assert found.score.mean == pytest.approx((1 + 1 / np.log2(3)) / 2)
    assert found.answers == 2
    # two candidates, one of them right: random order gets 1 or 1 / log2(3)
    assert found.random.mean == pytest.approx((1 + 1 / np.log2(3)) / 2)
    assert found.corrected.mean == pytest.approx(0)
    alone = np.arange(8)[None]
    assert cleared(pools, answers, right_in_one, alone, chance(), measure=OFFICIAL, resamples=100) is None


def test_run_that_only_counts_is_random_once_cleared() -> None:
    pools, answers = shop(leak="occurrence")
    counts = occurrences(pools)[0].astype(float)
    judged = grades_of(pools, answers)
    run = run_of(pools, -counts + 0.01 * chance(3).random(len(pools)), name="counts")
    # half of the distractors are as rare as the answers
    rare = chance(4).random(len(pools)) < 0.3
    products = np.where(rare & (judged == 0), 5 * 10**6 + np.arange(len(pools)), pools.product_ids)
    mixed = Pools.from_arrays(pools.query_ids, products)
    run = run_of(
        mixed, -occurrences(mixed)[0].astype(float) + 0.01 * chance(3).random(len(pools)), name="counts"
    )
    (found,) = audit(mixed, answers, chance(1), runs=[run], resamples=1000).runs
    assert found.score.mean > 0.4
    assert found.cleared is not None
    assert abs(found.cleared.above_random.mean) < 0.04


def test_run_of_equal_scores_gains_nothing_by_the_order_of_the_file() -> None:
    pools, _ = shop()
    # every product stands in one pool, and its number says nothing; the answers are the last in the file
    products = chance(7).permutation(len(pools))
    pools = Pools.from_arrays(pools.query_ids, products)
    right = np.tile(np.arange(SIZE) >= SIZE - RIGHT, QUERIES)
    answers = Answers.from_arrays(pools.query_ids[right], pools.product_ids[right])
    flat = run_of(pools, np.zeros(len(pools)), name="flat")
    (found,) = audit(pools, answers, chance(1), runs=[flat], resamples=500).runs
    assert found.after["in one pool"].mean == found.score.mean < 0.3


def test_shortcut_has_one_score_in_every_audit_of_a_seed() -> None:
    pools, answers = shop(leak="occurrence")
    extra = Shortcut("extra", chance(9).random(len(pools)))
    alone, beside = (
        audit(pools, answers, chance(0)),
        audit(
            pools, answers, chance(0), shortcuts=[extra], runs=[random_run(pools, chance(2))], resamples=100
        ),
    )
    scores = [{line.name: line.score.mean for line in one.lines} for one in (alone, beside)]
    assert scores[1].pop("extra") > 0
    assert scores[0] == scores[1]
    assert audit_card(pools, answers, chance(0))["leaks"]["in one pool"] == scores[0]["in one pool"]
    counted = audit(
        pools, answers, chance(1), resamples=100
    )  # ties are not drawn: another seed changes nothing
    names = ("in one pool", "in few pools", "first in the file")
    assert all(line.score.mean == scores[0][line.name] for line in counted.lines if line.name in names)


def test_random_order_is_its_expectation_everywhere() -> None:
    pools, answers = shop()
    expected = float(random_values(pools, answers, OFFICIAL).mean())
    assert audit_card(pools, answers, chance(3))["random"] == expected
    assert audit(pools, answers, chance(4), resamples=100).random.mean == expected


def test_run_is_cleared_of_every_grouping_that_leaks_and_the_other_leaks_are_named() -> None:
    pools, answers = shop(leak="order")
    popular = grades_of(pools, answers) * (chance(6).random(len(pools)) < 0.8)
    shortcuts = [Shortcut("popular", popular, is_grouping=True)]
    run = run_of(pools, popular, name="popular")
    options = {"resamples": 500}
    (found,) = audit(pools, answers, chance(1), shortcuts=shortcuts, runs=[run], **options).runs  # type: ignore[arg-type]
    assert found.corrected.mean > 0.5
    assert found.cleared is not None
    assert found.cleared.corrected.low < 0 < found.cleared.corrected.high
    assert found.cleared.answers < RIGHT * QUERIES
    assert found.not_cleared == ("first in the file",)


def test_card_finds_a_leak_among_many_shortcuts() -> None:
    # the smallest p of 1,000 draws, times 60 shortcuts, is above 5 %
    differences = np.vstack([np.ones(50), chance().normal(size=(59, 50))])
    assert holm(randomisation_p_values(differences, chance(), alternative="greater"))[0] < 0.05
    # one-sided: a difference the other way is no leak
    assert randomisation_p_values(-np.ones((1, 50)), chance(), alternative="greater")[0] == 1.0
    assert randomisation_p_values(-np.ones((1, 3)), chance(), alternative="greater")[0] == 1.0


def test_pools_themselves_are_no_other_pools() -> None:
    with pytest.raises(ValueError, match="the other pools are the pools themselves"):
        audit(SMALL, Answers.from_lists({1: [5]}), chance(), also=[SMALL])


def test_run_of_another_set_is_refused_and_a_partial_one_counted() -> None:
    answers = Answers.from_lists({1: [5], 2: [6]})
    other = Run.from_arrays(np.array(["q1"]), np.array([5]), np.ones(1), name="other")
    with pytest.raises(ValueError, match="other scores no candidate of the pools"):
        audit(SMALL, answers, chance(), runs=[other])
    partial = Run.from_arrays(np.array([1, 1]), np.array([5, 99]), np.ones(2))
    (found,) = audit(SMALL, answers, chance(), runs=[partial], resamples=100).runs
    assert (found.missing, found.unscored, found.outside) == (1, 4, 1)


def test_unjudged_pools_are_refused_and_unjudged_queries_left_out() -> None:
    with pytest.raises(ValueError, match="no query of the pools is judged"):
        audit(SMALL, Answers.from_lists({9: [1]}), chance())
    found = audit(SMALL, Answers.from_lists({2: [6], 9: [1]}), chance())
    assert found.queries == 1


def test_unscored_candidates_of_a_run_stay_last() -> None:
    pools = Pools.from_arrays(np.array([1, 1, 1]), np.array([5, 6, 7]))
    run = Run.from_arrays(np.array([1]), np.array([6]), np.array([-3.0]))
    (found,) = audit(pools, Answers.from_lists({1: [6]}), chance(), runs=[run]).runs
    assert found.after["in one pool"].mean == 1.0


def test_known_figures_of_the_competition_are_reproduced(kddcup: Path) -> None:
    pools, other = (read_pools(kddcup / f"{name}_candidates.tsv") for name in ("valid", "testB"))
    answers = read_answers(kddcup / "valid_answer.json")
    run = read_run(kddcup / "runs" / "imagebert_2nd_place.csv")
    found = audit(pools, answers, chance(0), also=[other], runs=[run], resamples=1000)
    scores = {line.name: line.score.mean for line in found.lines}
    assert found.random.mean == pytest.approx(0.2027, abs=0.0001)
    assert scores["in one pool"] == pytest.approx(0.554, abs=0.005)
    assert scores["in one pool of all files"] == pytest.approx(0.686, abs=0.005)
    (image_bert,) = found.runs
    assert image_bert.score.mean == pytest.approx(0.7098, abs=0.0001)
    assert image_bert.after["in one pool"].mean == pytest.approx(0.837, abs=0.005)
    assert image_bert.after["in one pool of all files"].mean == pytest.approx(0.865, abs=0.005)
    strata = {stratum.name: stratum.probability for stratum in found.strata}
    assert strata["in 1 pool"] == pytest.approx(0.389, abs=0.0005)
    assert strata["in 2 pools"] == pytest.approx(0.025, abs=0.0005)
    assert strata["also in the other files"] == pytest.approx(0.011, abs=0.0005)
    assert strata["not in the other files"] == pytest.approx(0.456, abs=0.0005)
    assert found.leaks[0].name == "in one pool of all files"
    assert random_run(pools, chance()).name == "random"
