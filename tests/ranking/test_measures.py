"""Measures: counted by hand, against the formula as a loop, against two libraries, on the real runs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import ir_measures
import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from shopwindow.ranking.answers import Answers, read_answers
from shopwindow.ranking.measures import (
    DEFAULT_MEASURES,
    Measure,
    evaluate,
    judge_ranks,
    standard_error,
    unjudged_note,
)
from shopwindow.ranking.runs import Run, read_run

NDCG = ["nDCG", "nDCG@1", "nDCG@3", "nDCG@5", "nDCG-ones@3", "nDCG-ones@5", "nDCG-exp", "nDCG-exp@3"]
SETS = [
    "hit@1",
    "hit@3",
    "precision@1",
    "precision@5",
    "recall@1",
    "recall@3",
    "MRR",
    "MRR@2",
    "MAP",
    "MAP@3",
]
EVERY = [Measure.parse(text) for text in NDCG + SETS]
Scores = dict[int, dict[int, float]]


def run_of(scores: Scores, name: str = "run") -> Run:
    rows = [(query, product, score) for query, found in scores.items() for product, score in found.items()]
    queries, products, values = zip(*rows, strict=True) if rows else ((), (), ())
    return Run.from_arrays(
        np.array(queries, np.int64), np.array(products, np.int64), np.array(values, float), name=name
    )


def answers_of(grades: Scores) -> Answers:
    rows = [(query, product, grade) for query, found in grades.items() for product, grade in found.items()]
    queries, products, values = zip(*rows, strict=True)
    return Answers.from_arrays(np.array(queries), np.array(products), np.array(values, float))


def by_loop(measure: Measure, scores: dict[int, float], grades: dict[int, float]) -> float:
    """The definition, one query at a time."""
    ranking = sorted(scores, key=lambda product: (-scores[product], product))
    k = measure.k or len(ranking) + len(grades)
    gains = [max(grades.get(product, 0.0), 0.0) for product in ranking]
    ideal = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
    if not ideal:
        return 0.0
    if measure.kind == "nDCG-exp":
        gains, ideal = [2**gain - 1 for gain in gains], [2**gain - 1 for gain in ideal]
    if measure.kind == "nDCG-ones":
        gains, ideal = [float(gain > 0) for gain in gains], [1.0] * k
    right = [gain > 0 for gain in gains]
    ranks = [rank for rank, hit in enumerate(right, start=1) if hit and rank <= k]
    match measure.kind:
        case "hit":
            return float(bool(ranks))
        case "precision":
            return len(ranks) / k
        case "recall":
            return len(ranks) / len(ideal)
        case "MRR":
            return 1 / ranks[0] if ranks else 0.0
        case "MAP":
            return sum((nth + 1) / rank for nth, rank in enumerate(ranks)) / len(ideal)
    best = sum(gain / math.log2(rank + 2) for rank, gain in enumerate(ideal[:k]))
    return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains[:k])) / best


def test_small_ranking_counted_by_hand() -> None:
    run = run_of({1: {10: 3.0, 11: 2.0, 12: 1.0, 13: 0.0}})
    answers = answers_of({1: {11: 1, 13: 1, 99: 1}})
    taken = [
        Measure.parse(text) for text in ("hit@1", "hit@2", "precision@2", "recall@4", "MRR", "MRR@1", "MAP")
    ]
    values = evaluate(run, answers, taken).values[:, 0]
    assert values.tolist() == pytest.approx([0, 1, 1 / 2, 2 / 3, 1 / 2, 0, (1 / 2 + 2 / 4) / 3])
    dcg = 1 / math.log2(3) + 1 / math.log2(5)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    ones = ideal + 1 / math.log2(5) + 1 / math.log2(6)
    assert evaluate(run, answers).of("nDCG@5").tolist() == pytest.approx([dcg / ideal])
    assert evaluate(run, answers, [Measure("nDCG-ones", 5)]).of("nDCG-ones@5").tolist() == pytest.approx(
        [dcg / ones]
    )


def test_perfect_ranking_of_two_answers_is_1_officially_and_less_over_five_ones() -> None:
    run, answers = run_of({1: {1: 2.0, 2: 1.0, 3: 0.0}}), answers_of({1: {1: 1, 2: 1}})
    assert evaluate(run, answers).mean("nDCG@5") == 1.0
    ones = evaluate(run, answers, [Measure("nDCG-ones", 5)])
    assert ones.mean("nDCG-ones@5") == pytest.approx(0.5531464700081437)
    assert "nDCG-ones@5" not in map(str, DEFAULT_MEASURES)


def test_graded_gain_is_linear_or_exponential_as_named() -> None:
    run, answers = run_of({1: {1: 2.0, 2: 1.0}}), answers_of({1: {1: 1, 2: 3}})
    values = evaluate(run, answers, [Measure.parse("nDCG@2"), Measure.parse("nDCG-exp@2")]).values[:, 0]
    second = 1 / math.log2(3)
    assert values.tolist() == pytest.approx(
        [(1 + 3 * second) / (3 + second), (1 + 7 * second) / (7 + second)]
    )


def test_missing_and_unanswered_queries_count_0_and_extra_ones_do_not_count() -> None:
    run = run_of({1: {1: 1.0}, 3: {1: 1.0}, 7: {1: 1.0}})
    answers = Answers.from_lists({1: [1], 2: [1], 3: []})
    found = evaluate(run, answers)
    assert found.queries.tolist() == [1, 2, 3]
    assert found.of("nDCG@5").tolist() == [1, 0, 0]
    assert found.missing.tolist() == [2]
    assert found.unanswered.tolist() == [3]
    assert found.extra.tolist() == [7]
    assert found.mean("hit@1") == pytest.approx(1 / 3)
    assert found.standard_error("hit@1") == pytest.approx(1 / 3)


def test_run_that_ranks_nothing_judged_scores_0() -> None:
    found = evaluate(run_of({}), Answers.from_lists({1: [1]}), EVERY)
    assert found.values.tolist() == [[0.0]] * len(EVERY)
    assert math.isnan(found.standard_error("MRR"))


def test_answers_without_a_query_cannot_be_evaluated() -> None:
    nothing = Answers.from_arrays(np.zeros(0, np.int64), np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="no query"):
        evaluate(run_of({1: {1: 1.0}}), nothing)


@pytest.mark.parametrize("measure", EVERY, ids=str)
def test_measure_prints_and_parses(measure: Measure) -> None:
    assert Measure.parse(str(measure)) == measure
    assert Measure.parse(str(measure).upper()) == measure


@pytest.mark.parametrize(
    "text", ["", "nDCG@0", "nDCG@-1", "nDCG@x", "nDCG(5)", "recall", "precision@", "P@5"]
)
def test_unknown_measure_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="measure"):
        Measure.parse(text)


def test_click_weight_has_no_exponential_gain() -> None:
    with pytest.raises(ValueError, match="grade 900 is too large"):
        evaluate(run_of({1: {1: 1.0}}), answers_of({1: {1: 900}}), [Measure.parse("nDCG-exp@5")])


few = st.integers(0, 6)
tied_runs = st.dictionaries(few, st.dictionaries(few, st.integers(-1, 2).map(float), min_size=1), min_size=1)
graded = st.dictionaries(few, st.dictionaries(few, st.integers(-1, 3).map(float), min_size=1), min_size=1)


@given(tied_runs, graded)
def test_every_measure_is_its_formula_also_with_ties(scores: Scores, grades: Scores) -> None:
    found = evaluate(run_of(scores), answers_of(grades), EVERY)
    expected = [[by_loop(m, scores.get(q, {}), grades[q]) for q in sorted(grades)] for m in EVERY]
    assert found.values == pytest.approx(np.array(expected), abs=1e-12)
    assert (found.values >= 0).all()
    assert (found.values <= 1 + 1e-12).all() or max(max(g.values()) for g in grades.values()) > 1


@given(tied_runs, graded)
def test_only_the_order_of_scores_matters(scores: Scores, grades: Scores) -> None:
    lifted = {q: {p: math.exp(s) * (q + 1) for p, s in found.items()} for q, found in scores.items()}
    one, other = (evaluate(run_of(s), answers_of(grades), EVERY) for s in (scores, lifted))
    assert one.values.tolist() == other.values.tolist()


@given(tied_runs, graded)
def test_ids_as_text_give_the_same_values(scores: Scores, grades: Scores) -> None:
    run = run_of(scores)
    text = Run.from_arrays(run.query_ids.astype(str), run.product_ids.astype(str), run.scores)
    one, other = (evaluate(r, answers_of(grades), EVERY) for r in (run, text))
    assert one.values.tolist() == other.values.tolist()


def random_data(seed: int) -> tuple[Scores, Scores]:
    """40 queries of 50 candidates without ties, graded 0 to 3; some queries judged and not ranked."""
    generator = np.random.default_rng(seed)
    scores = {
        q: dict(zip(range(50), generator.permutation(50).astype(float), strict=True)) for q in range(40)
    }
    grades = {
        q: {int(p): float(generator.integers(0, 4)) for p in generator.choice(60, 12, replace=False)}
        for q in range(45)
    }
    return scores, grades


def test_ir_measures_agree() -> None:
    scores, grades = random_data(1)
    pairs = {
        "nDCG": ir_measures.nDCG,
        "nDCG@5": ir_measures.nDCG @ 5,
        "nDCG-exp@5": ir_measures.nDCG(dcg="exp-log2") @ 5,
        "precision@5": ir_measures.P @ 5,
        "recall@10": ir_measures.R @ 10,
        "hit@3": ir_measures.Success @ 3,
        "MRR": ir_measures.RR,
        "MRR@5": ir_measures.RR @ 5,
        "MAP": ir_measures.AP,
        "MAP@10": ir_measures.AP @ 10,
    }
    taken = [Measure.parse(text) for text in pairs]
    found = evaluate(run_of(scores), answers_of(grades), taken)
    qrels = [
        ir_measures.Qrel(str(q), str(p), int(grade)) for q, row in grades.items() for p, grade in row.items()
    ]
    ranked = [
        ir_measures.ScoredDoc(str(q), str(p), score) for q, row in scores.items() for p, score in row.items()
    ]
    expected = ir_measures.calc_aggregate(list(pairs.values()), qrels, ranked)
    for measure, other in zip(taken, pairs.values(), strict=True):
        # 1e-6: trec_eval prints through single precision in places
        assert found.mean(measure) == pytest.approx(expected[other], abs=1e-6), str(measure)


def test_pytrec_eval_agrees_per_query() -> None:
    scores, grades = random_data(2)
    names = {
        "nDCG@5": "ndcg_cut_5",
        "MAP": "map",
        "MRR": "recip_rank",
        "precision@5": "P_5",
        "recall@10": "recall_10",
    }
    found = evaluate(run_of(scores), answers_of(grades), [Measure.parse(text) for text in names])
    evaluator = pytrec_eval.RelevanceEvaluator(
        {str(q): {str(p): int(grade) for p, grade in row.items()} for q, row in grades.items()},
        {"ndcg_cut.5", "map", "recip_rank", "P.5", "recall.10"},
    )
    expected = evaluator.evaluate({str(q): {str(p): s for p, s in row.items()} for q, row in scores.items()})
    for ours, theirs in names.items():
        by_query = dict(zip(found.queries.tolist(), found.of(ours).tolist(), strict=True))
        for query in range(40):
            assert by_query[query] == pytest.approx(expected[str(query)][theirs], abs=1e-6)


def test_real_runs_score_what_their_teams_saw(kddcup: Path) -> None:
    answers = read_answers(kddcup / "valid_answer.json")
    taken = [Measure.parse(text) for text in ("nDCG@5", "nDCG-ones@5", "hit@1", "precision@5")]
    expected = json.loads((kddcup / "expected_ndcg.json").read_text())
    assert len(expected) == 5
    for name, scores in expected.items():
        found = evaluate(read_run(kddcup / "runs" / f"{name}.csv"), answers, taken)
        assert found.mean("nDCG@5") == pytest.approx(scores["ndcg5_official"], abs=1e-9)
        assert found.mean("nDCG-ones@5") == pytest.approx(scores["ndcg5_five_ones"], abs=1e-9)
        assert found.mean("hit@1") == pytest.approx(scores["hit1"], abs=1e-9)
        # their precision@5 divides by min(5, number of answers)
        capped = found.of("precision@5") * 5 / np.minimum(answers.counts, 5)
        assert capped.mean() == pytest.approx(scores["precision5"], abs=1e-9)


def test_standard_error_is_that_of_a_mean() -> None:
    assert standard_error(np.array([0.0, 1.0, 1.0, 2.0])) == pytest.approx(math.sqrt(2 / 3) / 2)


def test_known_ranks_are_judged_as_the_run_that_has_them() -> None:
    generator = np.random.default_rng(5)
    queries, products = np.repeat(np.arange(6), 30), np.tile(np.arange(30), 6)
    run = Run.from_arrays(queries, products, generator.random(180))
    chosen = generator.permutation(180)[:40]
    chosen = chosen[queries[chosen] != 3]  # a query without answers
    grades = generator.integers(1, 4, len(chosen)).astype(np.float64)
    answers = Answers.from_arrays(queries[chosen], products[chosen], grades)
    ranked = np.split(run.product_ids, 6)
    ranks = np.array([1 + int(np.flatnonzero(ranked[queries[row]] == products[row])[0]) for row in chosen])
    judged = judge_ranks(queries[chosen], ranks, grades, queries_asked=6)
    for measure in DEFAULT_MEASURES:
        of_query = dict(
            zip(answers.queries.tolist(), evaluate(run, answers, [measure]).of(measure).tolist(), strict=True)
        )
        assert measure.values(judged).tolist() == [of_query.get(query, 0.0) for query in range(6)], measure


def test_products_that_are_judged_for_no_query_are_counted() -> None:
    answers = Answers.from_arrays(np.array([1, 1, 2]), np.array([7, 8, 7]), np.array([1.0, 0.0, 2.0]))
    assert unjudged_note(answers, np.array([8, 9, 7, 10])) == (
        "2 of 4 products are judged for no query; they count as wrong"
    )
    assert unjudged_note(answers, np.array(["7", "8"])) == ""
