"""Fusion: by hand, against loops; learned weights never see the query that they rank."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shopwindow.ranking.answers import Answers, read_answers
from shopwindow.ranking.fusion import METHODS, align, fuse, learn_weights, normalise
from shopwindow.ranking.measures import Measure, evaluate
from shopwindow.ranking.runs import Run, read_run
from shopwindow.ranking.significance import System, compare


def run_of(scores: dict[int, dict[int, float]], name: str = "run") -> Run:
    rows = [(query, product, score) for query, found in scores.items() for product, score in found.items()]
    queries, products, values = (np.array(column) for column in zip(*rows, strict=True))
    return Run.from_arrays(queries, products, values.astype(float), name=name)


def as_dict(run: Run) -> dict[tuple[int, int], float]:
    keys = zip(run.query_ids.tolist(), run.product_ids.tolist(), strict=True)
    return dict(zip(keys, run.scores.tolist(), strict=True))


ONE = run_of({1: {10: 4.0, 11: 2.0, 12: 0.0}})
TWO = run_of({1: {10: 0.1, 11: 0.3}, 2: {10: 1.0}})


def test_union_is_aligned_and_what_is_not_scored_is_counted() -> None:
    aligned = align([ONE, TWO])
    assert aligned.pools.query_ids.tolist() == [1, 1, 1, 2]
    np.testing.assert_array_equal(aligned.scores, [[4, 2, 0, np.nan], [0.1, 0.3, np.nan, 1]])
    assert aligned.unscored.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("mean", [(4 + 0.1) / 2, (2 + 0.3) / 2, (0 + 0.1 - 0.1) / 2, 1 / 2]),
        ("zscore", [(1.5**0.5 - 1) / 2, (0 + 1) / 2, (-(1.5**0.5) - 2) / 2, 0]),
        ("rank", [(1 + 0) / 2, (0.5 + 1) / 2, (0 - 1) / 2, 1 / 2]),
        ("rrf", [(1 / 61 + 1 / 62) / 2, (1 / 62 + 1 / 61) / 2, 1 / 63 / 2, 1 / 61 / 2]),
    ],
)
def test_every_method_counted_by_hand(method: str, expected: list[float]) -> None:
    found = as_dict(fuse([ONE, TWO], method=method))
    assert [found[pair] for pair in [(1, 10), (1, 11), (1, 12), (2, 10)]] == pytest.approx(expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scores", [[3.0, 1.0, 2.0], [2.0, 2.0], [-5.0]])
def test_what_a_run_leaves_out_stands_below_all_that_it_scores(method: str, scores: list[float]) -> None:
    found = normalise(np.array([*scores, np.nan, np.nan]), np.array([0, len(scores) + 2]), method)
    assert found[-1] == found[-2] < found[: len(scores)].min()


def test_weights_are_shares() -> None:
    found = as_dict(fuse([ONE, TWO], method="mean", weights=[3.0, 1.0]))
    assert found[1, 10] == pytest.approx(0.75 * 4 + 0.25 * 0.1)


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [np.nan, 1.0]])
def test_wrong_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="2 runs"):
        fuse([ONE, TWO], weights=weights)


def test_unknown_method_and_no_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="one of mean, zscore, rank, rrf"):
        fuse([ONE], method="best")
    with pytest.raises(ValueError, match="no run"):
        fuse([])


scores_of_queries = st.lists(
    st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=6), min_size=1, max_size=5
)


@given(scores_of_queries, st.sampled_from(METHODS))
def test_normalising_keeps_order_and_ties_and_is_the_loop(queries: list[list[float]], method: str) -> None:
    offsets = np.concatenate([[0], np.cumsum([len(query) for query in queries])])
    found = normalise(np.concatenate(queries), offsets, method)
    for query, start in zip(queries, offsets[:-1], strict=True):
        mine = found[start : start + len(query)]
        ranks = stats.rankdata([-score for score in query])
        expected = {
            "mean": np.array(query),
            "zscore": (np.array(query) - np.mean(query)) / (np.std(query) or 1.0),
            "rank": 1 - (ranks - 1) / max(len(query) - 1, 1),
            "rrf": 1 / (60 + ranks),
        }[method]
        assert mine == pytest.approx(expected)
        order = np.sign(np.subtract.outer(mine, mine).round(9))
        assert order.tolist() == np.sign(np.subtract.outer(np.array(query), np.array(query))).tolist()


@given(scores_of_queries, st.floats(0.1, 9), st.floats(-5, 5))
def test_per_query_methods_do_not_see_the_scale_of_a_run(
    queries: list[list[float]], factor: float, shift: float
) -> None:
    run = run_of({q: dict(enumerate(found)) for q, found in enumerate(queries)})
    other = run_of(
        {q: {p: s * factor + shift for p, s in enumerate(found)} for q, found in enumerate(queries)}
    )
    for method in ("zscore", "rank", "rrf"):
        one, two = as_dict(fuse([run, run], method=method)), as_dict(fuse([run, other], method=method))
        assert two == pytest.approx(one, abs=1e-6)


def made_runs(queries: int, generator: np.random.Generator) -> tuple[list[Run], Answers]:
    """A good run, a fair one and a noisy one over pools of 10 candidates, of which 2 are right."""
    right = np.tile(np.arange(10) < 2, queries).astype(float)
    ids = np.repeat(np.arange(queries), 10)
    products = np.tile(np.arange(10), queries)
    runs = [
        Run.from_arrays(
            ids,
            products,
            right * lift + generator.normal(size=10 * queries),
        )
        for lift in (1.5, 1.0, 0.0)
    ]
    return runs, Answers.from_arrays(ids[right > 0], products[right > 0])


def test_learned_weights_find_the_good_runs_and_beat_each_held_out() -> None:
    runs, answers = made_runs(400, np.random.default_rng(0))
    learned = learn_weights(runs, answers, np.random.default_rng(1))
    assert learned.weights.sum() == pytest.approx(1)
    assert learned.weights[0] > learned.weights[1] > 0.2
    assert learned.weights[2] < 0.1
    score = evaluate(learned.held_out, answers).mean("nDCG@5")
    assert score > max(evaluate(run, answers).mean("nDCG@5") for run in runs)
    assert np.abs(learned.fold_weights - learned.weights).max() < 0.1


def test_held_out_query_does_not_teach_its_own_weights() -> None:
    runs, answers = made_runs(30, np.random.default_rng(0))
    query = 7
    products = np.where(answers.query_ids == query, 9 - answers.product_ids, answers.product_ids)
    other = Answers.from_arrays(answers.query_ids, products)
    before, after = (learn_weights(runs, one, np.random.default_rng(1)) for one in (answers, other))
    rows = before.held_out.query_ids == query
    assert before.held_out.scores[rows].tolist() == after.held_out.scores[rows].tolist()
    assert before.weights.tolist() != after.weights.tolist()


def test_more_folds_than_judged_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="5 folds of 1 judged queries"):
        learn_weights([ONE, TWO], Answers.from_lists({1: [10]}), np.random.default_rng(0))


def test_fused_real_runs_beat_each_of_them(kddcup: Path) -> None:
    answers = read_answers(kddcup / "valid_answer.json")
    names = ["imagebert_2nd_place", "lxmert_8th_place_a", "lxmert_8th_place_20box"]
    runs = [read_run(kddcup / "runs" / f"{name}.csv") for name in names]
    best = max(evaluate(run, answers).mean("nDCG@5") for run in runs)
    for method in METHODS:
        fused = evaluate(fuse(runs, method=method), answers).mean("nDCG@5")
        assert fused > best + 0.01, method
    mean = System("fused", (evaluate(fuse(runs, method="mean"), answers, [Measure("nDCG", 5)]),))
    others = [System(run.name, (evaluate(run, answers, [Measure("nDCG", 5)]),)) for run in runs]
    assert mean.mean("nDCG@5") == pytest.approx(0.7250, abs=0.00005)
    assert all(one.is_real for one in compare(mean, others, np.random.default_rng(0)))
    learned = learn_weights(runs, answers, np.random.default_rng(0))
    assert evaluate(learned.held_out, answers).mean("nDCG@5") > best + 0.01


def test_scores_of_any_size_are_standardised() -> None:
    plain = run_of({1: {10: 3.0, 11: 1.0, 12: -1.0}, 2: {10: 1e-3, 11: 2e-3}})
    huge = run_of({1: {10: 1.5e308, 11: 0.5e308, 12: -0.5e308}, 2: {10: 1e-3, 11: 2e-3}})
    expected, found = (normalise(run.scores, run.offsets, "zscore") for run in (plain, huge))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
