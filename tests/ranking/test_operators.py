"""Pool operators: by hand, against plain loops written from the papers, the same in any order of candidates."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopwindow.cli import main
from shopwindow.ranking import operators
from shopwindow.ranking.operators import (
    SEED_WEIGHTS,
    Operator,
    expand_query,
    reciprocal_rerank,
    smooth_vectors,
)

ALL = (
    "smooth",
    "expand",
    "reciprocal",
    "expand:2,0",
    "reciprocal:3,2,0.3",
    "reciprocal:1,1,0",
    "reciprocal:4,1,1",
)


def pool(count: int, copies: int, seed: int, hidden: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """A query and its candidates in float32, in two clusters; the last `copies` are copies of the first ones."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(2, hidden))
    photos = centres[rng.integers(0, 2, count)] + 0.6 * rng.normal(size=(count, hidden))
    photos = np.concatenate([photos, photos[:copies]]).astype(np.float32)
    return (centres[0] + 0.3 * rng.normal(size=hidden)).astype(np.float32), photos


def on_circle(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def smoothed_by_loop(photos: np.ndarray, weights: tuple[float, ...]) -> np.ndarray:
    out = np.zeros_like(photos)
    for i, photo in enumerate(photos):
        others = [j for j in range(len(photos)) if j != i]
        others.sort(key=lambda j: float(((photos[j] - photo) ** 2).sum()))
        nearest = others[: len(weights) - 1]
        own = weights[0] + sum(weights[1 + len(nearest) :])
        out[i] = own * photo + sum(w * photos[j] for w, j in zip(weights[1:], nearest, strict=False))
    return out


def expanded_by_loop(words: np.ndarray, photos: np.ndarray, top: int, alpha: float) -> list[float]:
    def unit(vector: list[float]) -> list[float]:
        length = math.sqrt(sum(x * x for x in vector))
        return [x / length for x in vector]

    def dot(one: list[float], other: list[float]) -> float:
        return sum(x * y for x, y in zip(one, other, strict=True))

    query, candidates = words.tolist(), photos.tolist()
    order = sorted(range(len(photos)), key=lambda j: (-dot(query, candidates[j]), j))
    total = unit(query)
    for j in order[:top]:
        similarity = dot(unit(query), unit(candidates[j]))
        if similarity > 0:
            total = [x + similarity**alpha * y for x, y in zip(total, unit(candidates[j]), strict=True)]
    return [dot(unit(total), photo) for photo in candidates]


def reranked_by_sets(words: np.ndarray, photos: np.ndarray, k1: int, k2: int, weight: float) -> list[float]:
    """The paper's equations 1 to 12, one set and one number at a time; member 0 is the query."""
    vectors = [vector / np.linalg.norm(vector) for vector in np.vstack([words, photos]).astype(float)]
    members = range(len(vectors))
    squared = [[float(((vectors[p] - vectors[g]) ** 2).sum()) for g in members] for p in members]
    distance = [[squared[p][g] / (max(squared[p]) or 1) for g in members] for p in members]

    def neighbours(p: int, k: int) -> set[int]:
        others = sorted(squared[p][g] for g in members if g != p)
        limit = 0.0 if k == 0 or not others else others[min(k, len(others)) - 1]
        return {g for g in members if squared[p][g] <= limit}

    def reciprocal(p: int, k: int) -> set[int]:
        return {g for g in neighbours(p, k) if p in neighbours(g, k)}

    def enlarged(p: int) -> set[int]:
        first, found = reciprocal(p, k1), set(reciprocal(p, k1))
        for g in first:
            half = reciprocal(g, round(k1 / 2))
            if Fraction(len(first & half), len(half)) >= Fraction(2, 3):
                found |= half
        return found

    sets = [enlarged(p) for p in members]
    encoded = [[math.exp(-distance[p][g]) if g in sets[p] else 0.0 for g in members] for p in members]
    local = []
    for p in members:
        around = sorted(neighbours(p, k2 - 1))
        local.append([sum(encoded[g][i] for g in around) / len(around) for i in members])
    scores = []
    for g in members[1:]:
        least = sum(min(a, b) for a, b in zip(local[0], local[g], strict=True))
        most = sum(max(a, b) for a, b in zip(local[0], local[g], strict=True))
        scores.append(-((1 - weight) * (1 - least / most) + weight * distance[0][g]))
    return scores


# -- smoothing


def test_three_vectors_counted_by_hand() -> None:
    smoothed = smooth_vectors(np.array([[0.0], [1.0], [10.0]]), (0.5, 0.3, 0.2))
    assert smoothed[:, 0].tolist() == pytest.approx([0.3 * 1 + 0.2 * 10, 0.5 + 0.2 * 10, 5 + 0.3])


def test_weights_of_absent_neighbours_stay_with_the_vector() -> None:
    assert smooth_vectors(np.array([[2.0, 4.0]])).tolist() == [[2.0, 4.0]]
    assert smooth_vectors(np.array([[0.0], [10.0]]))[:, 0].tolist() == pytest.approx([2.0, 8.0])
    assert smooth_vectors(np.empty((0, 3))).shape == (0, 3)


def test_of_equally_near_vectors_the_earlier_is_nearest() -> None:
    photos = np.array([[1.0], [0.0], [-1.0]])
    assert smooth_vectors(photos, (0.0, 1.0))[:, 0].tolist() == [0, 1, 0]
    assert smooth_vectors(photos[::-1], (0.0, 1.0))[:, 0].tolist() == [0, -1, 0]


def test_copies_are_neighbours_and_leave_each_other_as_they_are() -> None:
    photos = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [9.0, 9.0]], np.float32)
    smoothed = smooth_vectors(photos)
    np.testing.assert_allclose(smoothed[:3], photos[:3], rtol=1e-6)
    np.testing.assert_allclose(smoothed[3], 0.7 * photos[3] + 0.3 * photos[0], rtol=1e-6)


def test_a_smoothed_score_is_the_mean_of_own_and_nearest_scores() -> None:
    words = np.array([1.0, 2.0])
    photos: np.ndarray = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    scores = photos @ words
    found = Operator.parse("smooth:0.5,0.5")(words, photos)
    assert found.tolist() == pytest.approx(
        [(scores[0] + scores[1]) / 2, (scores[1] + scores[0]) / 2, (6 + 0) / 2]
    )


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 12), copies=st.integers(0, 3), seed=st.integers(0, 10_000))
def test_smoothing_equals_the_loop(count: int, copies: int, seed: int) -> None:
    photos = pool(count, copies, seed)[1]
    # float32 sums in another order: some units in the last place of numbers below 4
    for weights in (SEED_WEIGHTS, (0.4, 0.3, 0.2, 0.1), (1.0,)):
        np.testing.assert_allclose(
            smooth_vectors(photos, weights), smoothed_by_loop(photos, weights), atol=3e-6
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_of_a_catalogue_give_the_same(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    photos: np.ndarray = np.random.default_rng(1).normal(size=(61, 5)).astype(dtype)
    photos[40] = photos[3]
    whole = smooth_vectors(photos, (0.4, 0.3, 0.2, 0.1))
    assert whole.dtype == dtype
    for rows, others in ((7, 61), (61, 2), (4, 9), (1, 1)):
        monkeypatch.setattr(operators, "ROWS_AT_ONCE", rows)
        monkeypatch.setattr(operators, "OTHERS_AT_ONCE", others)
        np.testing.assert_allclose(smooth_vectors(photos, (0.4, 0.3, 0.2, 0.1)), whole, rtol=1e-6)


def test_equally_near_vectors_in_different_blocks_are_the_earlier_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photos = np.array([[0.0], [1.0], [-1.0], [1.0], [-1.0]])
    monkeypatch.setattr(operators, "OTHERS_AT_ONCE", 2)
    assert smooth_vectors(photos, (0.0, 1.0))[0, 0] == 1
    assert smooth_vectors(photos[[0, 2, 1, 4, 3]], (0.0, 1.0))[0, 0] == -1


def test_neighbours_far_from_the_origin_are_told_apart() -> None:
    near = np.array([[0.0, 0.0], [0.01, 0.0], [0.03, 0.0]], np.float32) + 1000
    np.testing.assert_array_equal(smooth_vectors(near, (0.0, 1.0)), near[[1, 0, 1]])


# -- query expansion


def test_a_query_expanded_by_one_photo_counted_by_hand() -> None:
    # cosine 0.6: (1, 0) + 0.6^1 (0.6, 0.8) = (1.36, 0.48)
    found = expand_query(np.array([1.0, 0.0]), np.array([[0.6, 0.8], [0.0, 1.0]]), top=1, alpha=1.0)
    length = math.hypot(1.36, 0.48)
    assert found.tolist() == pytest.approx([(1.36 * 0.6 + 0.48 * 0.8) / length, 0.48 / length])


def test_photos_at_right_angles_or_behind_add_nothing_whatever_alpha() -> None:
    words, photos = np.array([1.0, 0.0]), np.array([[0.0, 1.0], [-1.0, 0.5]])
    for alpha in (0.0, 0.5, 3.0):
        np.testing.assert_allclose(expand_query(words, photos, alpha=alpha), photos @ words, atol=1e-15)


def test_expansion_of_a_zero_query_or_zero_photos_is_finite() -> None:
    assert expand_query(np.zeros(2), np.array([[1.0, 0.0], [0.0, 0.0]])).tolist() == [0, 0]
    assert np.isfinite(expand_query(np.array([1.0, 0.0]), np.zeros((3, 2)))).all()


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 12),
    copies=st.integers(0, 3),
    seed=st.integers(0, 10_000),
    top=st.integers(1, 15),
    alpha=st.sampled_from([0.0, 1.0, 3.0]),
)
def test_expansion_equals_the_loop(count: int, copies: int, seed: int, top: int, alpha: float) -> None:
    words, photos = pool(count, copies, seed)
    found = expand_query(words, photos, top=top, alpha=alpha)
    np.testing.assert_allclose(found, expanded_by_loop(words, photos, top, alpha), rtol=1e-9, atol=1e-12)


# -- k-reciprocal re-ranking


def test_mutual_nearest_neighbours_counted_by_hand() -> None:
    # query 0°, a 10°, c 95°, b 100°: with k1 1 the pairs (query, a) and (b, c) are mutual, h = round(1/2) = 0
    words, photos = on_circle(0)[0], on_circle(10, 95, 100)
    found = reciprocal_rerank(words, photos, k1=1, k2=1, weight=0.0)
    near, of_query, of_a = (2 - 2 * math.cos(math.radians(degrees)) for degrees in (10, 100, 90))
    shared = math.exp(-near / of_a) + math.exp(-near / of_query)
    assert found.tolist() == pytest.approx([-(1 - shared / 2), -1, -1])


def test_a_photo_whose_neighbours_are_the_querys_rises_above_a_nearer_loner() -> None:
    words, photos = on_circle(0)[0], on_circle(-19, 20, 22, 24)
    assert (photos @ words).argmax() == 0
    assert reciprocal_rerank(words, photos, k1=3, k2=1).argmax() == 1


def test_weight_1_is_the_plain_order_by_cosine_and_the_distance_itself() -> None:
    words, photos = pool(20, 2, seed=4)
    found = reciprocal_rerank(words, photos, weight=1.0)
    cosines = photos @ words / np.linalg.norm(photos, axis=1) / np.linalg.norm(words)
    np.testing.assert_allclose(found, -(1 - cosines) / (1 - cosines).max(), atol=1e-6)


def test_weight_is_that_of_the_original_distance() -> None:
    words, photos = pool(20, 0, seed=5)
    jaccard, original = (reciprocal_rerank(words, photos, k1=5, weight=weight) for weight in (0.0, 1.0))
    np.testing.assert_allclose(
        reciprocal_rerank(words, photos, k1=5), 0.7 * jaccard + 0.3 * original, atol=1e-12
    )


@settings(max_examples=80, deadline=None)
@given(
    count=st.integers(1, 30),
    copies=st.integers(0, 4),
    seed=st.integers(0, 10_000),
    numbers=st.sampled_from(
        [(20, 6, 0.3), (1, 1, 0.0), (2, 3, 0.5), (3, 1, 0.1), (5, 2, 0.3), (7, 4, 0.0), (50, 60, 1.0)]
    ),
)
def test_reranking_equals_the_papers_sets(
    count: int, copies: int, seed: int, numbers: tuple[int, int, float]
) -> None:
    words, photos = pool(count, copies, seed)
    k1, k2, weight = numbers
    found = reciprocal_rerank(words, photos, k1=k1, k2=k2, weight=weight)
    # float64 on both sides; distances by a matrix product here, by differences there
    np.testing.assert_allclose(found, reranked_by_sets(words, photos, k1, k2, weight), atol=1e-9)


def test_a_query_equal_to_a_photo_finds_it_first() -> None:
    photos = pool(25, 0, seed=6)[1]
    found = reciprocal_rerank(photos[7], photos, k1=5)
    assert found.argmax() == 7
    assert found[7] == pytest.approx(0, abs=1e-12)


def test_a_query_equal_to_all_photos_is_at_no_distance_from_any() -> None:
    vectors = np.random.default_rng(9).normal(size=(20, 33))
    for vector in vectors:
        found = reciprocal_rerank(vector, np.tile(vector, (12, 1)))
        np.testing.assert_allclose(found, np.zeros(12), atol=1e-12)


# -- every operator


@pytest.mark.parametrize("written", ALL)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 25])
def test_every_pool_has_one_finite_score_per_candidate(written: str, count: int) -> None:
    words, photos = pool(25, 0, seed=count)
    scores = Operator.parse(written)(words, photos[:count])
    assert scores.shape == (count,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("written", ALL)
@pytest.mark.parametrize("vector", [[0.3, -0.7, 0.2], [0.0, 0.0, 0.0]])
def test_equal_photos_alone_have_equal_scores(written: str, vector: list[float]) -> None:
    photos = np.tile(np.array(vector, np.float32), (40, 1))
    for words in (np.array([1.0, 0.5, 0.0], np.float32), photos[0]):
        scores = Operator.parse(written)(words, photos)
        assert np.isfinite(scores).all()
        assert len(set(scores.tolist())) == 1


@pytest.mark.parametrize("written", ALL)
def test_copies_among_others_have_equal_scores_to_the_last_bit(written: str) -> None:
    words, photos = pool(37, 9, seed=8, hidden=33)
    scores = Operator.parse(written)(words, photos)
    np.testing.assert_array_equal(scores[37:], scores[:9])
    assert len(set(scores.tolist())) > 1


@settings(max_examples=40, deadline=None)
@given(
    written=st.sampled_from(ALL),
    count=st.integers(1, 30),
    copies=st.integers(0, 5),
    seed=st.integers(0, 10_000),
)
def test_the_order_of_candidates_does_not_matter(written: str, count: int, copies: int, seed: int) -> None:
    words, photos = pool(count, copies, seed)
    operator = Operator.parse(written)
    order = np.random.default_rng(seed).permutation(len(photos))
    # smoothing sums float32 numbers in float32
    np.testing.assert_allclose(operator(words, photos[order]), operator(words, photos)[order], atol=3e-6)


@pytest.mark.parametrize("written", ALL)
def test_the_vectors_given_stay_as_they_are(written: str) -> None:
    words, photos = pool(9, 2, seed=3)
    before = words.copy(), photos.copy()
    Operator.parse(written)(words, photos)
    np.testing.assert_array_equal(words, before[0])
    np.testing.assert_array_equal(photos, before[1])


# -- written


@pytest.mark.parametrize(
    ("written", "operator"),
    [
        ("smooth", Operator("smooth", (0.7, 0.2, 0.1))),
        ("smooth:1", Operator("smooth", (1,))),
        (" smooth:0.6,0.25,0.1,0.05 ", Operator("smooth", (0.6, 0.25, 0.1, 0.05))),
        ("expand", Operator("expand", (5, 3))),
        ("expand:3, 0.5", Operator("expand", (3, 0.5))),
        ("reciprocal", Operator("reciprocal", (20, 6, 0.3))),
        ("reciprocal:10.0,3,1e-3", Operator("reciprocal", (10, 3, 0.001))),
    ],
)
def test_operators_print_and_parse(written: str, operator: Operator) -> None:
    assert Operator.parse(written) == operator
    assert Operator.parse(str(operator)) == operator


def test_numbers_reach_the_function_they_are_for() -> None:
    words, photos = pool(15, 0, seed=2)
    np.testing.assert_array_equal(
        Operator.parse("expand:2,1.5")(words, photos), expand_query(words, photos, top=2, alpha=1.5)
    )
    np.testing.assert_array_equal(
        Operator.parse("reciprocal:4,2,0.9")(words, photos),
        reciprocal_rerank(words, photos, k1=4, k2=2, weight=0.9),
    )


BAD = [
    ("shake", "operator 'shake': one of smooth, expand, reciprocal was wanted"),
    ("shake:1,2", "operator 'shake': one of smooth"),
    ("", "operator '': one of smooth"),
    ("Smooth", "operator 'Smooth': one of smooth"),
    ("reciprocal:20,6", "numbers k1, k2, weight were wanted, as in reciprocal:20,6,0.3"),
    ("reciprocal:20,6,0.3,1", "numbers k1, k2, weight were wanted"),
    ("expand:5", "numbers top, alpha were wanted, as in expand:5,3"),
    ("smooth:", "'' are no numbers with commas"),
    ("expand:5,", "'5,' are no numbers with commas"),
    ("expand:five,3", "'five,3' are no numbers"),
    ("reciprocal:20:6:0.3", "are no numbers"),
    ("reciprocal:0,6,0.3", "k1 0: at least 1 was wanted"),
    ("reciprocal:-20,6,0.3", "k1 -20: at least 1"),
    ("reciprocal:20,0,0.3", "k2 0: at least 1"),
    ("reciprocal:20,nan,0.3", "k2 nan: a whole number was wanted"),
    ("reciprocal:2.5,6,0.3", "k1 2.5: a whole number"),
    ("reciprocal:inf,6,0.3", "k1 inf: a whole number"),
    (
        "reciprocal:99999999999999999999,6,0.3",
        "k1 99999999999999999999: a whole number was wanted, at most 2147483647",
    ),
    (f"smooth:1,{'9' * 400}", "int too large to convert to float"),
    (f"expand:{'9' * 400},3", "a whole number was wanted, at most"),
    (f"expand:5,{'9' * 400}", "int too large"),
    (f"expand:{'9' * 5000},3", "inf: a whole number was wanted"),
    ("reciprocal:20,6,nan", "weight nan: a number from 0 to 1 was wanted"),
    ("reciprocal:20,6,1.5", "weight 1.5: a number from 0 to 1"),
    ("reciprocal:20,6,-0.1", "weight -0.1: a number from 0 to 1"),
    ("expand:0,3", "top 0: at least 1 was wanted"),
    ("expand:-1,3", "top -1: at least 1"),
    ("expand:5,-1", "alpha -1.0: a finite number of at least 0"),
    ("expand:5,nan", "alpha nan: a finite number"),
    ("expand:5,inf", "alpha inf: a finite number"),
    ("smooth:0.7,nan", "weights 0.7, nan: finite numbers were wanted"),
    ("smooth:0,0", "weights 0.0, 0.0: at least one must not be 0"),
    ("smooth:inf", "weights inf: finite numbers"),
    ("smooth:1e999", "weights inf: finite numbers"),
    ("smooth:1,1e39", "weights 1.0, 1e+39: finite numbers"),
]


@pytest.mark.parametrize(("written", "said"), BAD)
def test_what_is_wrong_in_a_written_operator_is_said(written: str, said: str) -> None:
    with pytest.raises(ValueError, match="operator") as caught:
        Operator.parse(written)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "written", ["shake", "reciprocal:20,6", "expand:nan,3", "reciprocal:0,6,0.3", "smooth:"]
)
def test_the_verb_refuses_a_wrong_operator_in_one_line_before_any_work(
    written: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["rank", "no-bundle", "no-dataset", "--out", str(tmp_path / "a.run"), "--operator", written])
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert said.startswith("shopwindow: --operator: operator ")
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_smoothing_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="at least the weight of the vector itself"):
        smooth_vectors(np.ones((2, 2)), ())
    with pytest.raises(ValueError, match=r"numbers weight, weight, \.\.\. were wanted"):
        Operator("smooth", ())
