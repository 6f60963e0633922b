"""The systems of the verdict, on a catalogue that one can count by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shopwindow.ranking.answers import Answers
from shopwindow.ranking.runs import Run
from shopwindow.shop.rankers import (
    Ranker,
    catalogue_run,
    full_text_ranker,
    fused_ranker,
    pool_run,
    popularity_ranker,
    random_ranker,
    vector_ranker,
)
from shopwindow.shop.verdict import judge_systems

IDS = np.array(["lamp-2", "shoe-9", "lamp-1", "cap-4"])
TITLES = ["Birk lamp", "Dahl shoe", "Dahl lamp with a lamp shade", ""]


def asked(*queries: int) -> Answers:
    return Answers.from_arrays(np.array(queries), np.full(len(queries), "cap-4"))


def ranking(run: Run, query: int) -> Any:
    rows = slice(*run.offsets[list(run.queries).index(query) :][:2])
    return run.product_ids[rows].tolist()


def test_popularity_ranks_by_clicks_and_ties_by_id() -> None:
    popular = popularity_ranker(np.array([1, 0, 1]), np.array([1, 5, 2], np.float32), len(IDS))
    run = catalogue_run(popular, asked(7), ["any words"], IDS)
    assert ranking(run, 7) == ["lamp-2", "shoe-9", "cap-4", "lamp-1"]


def test_full_text_finds_titles_with_the_words_only() -> None:
    ranker = full_text_ranker(IDS, TITLES, "full text")
    run = catalogue_run(ranker, asked(1, 2), ["lamp", "unheard"], IDS)
    assert set(ranking(run, 1)) == {"lamp-1", "lamp-2"}
    assert run.queries.tolist() == [1]


def test_fused_sums_reciprocal_ranks() -> None:
    first = Ranker("a", lambda _: np.array([[3.0, 2.0, np.nan, 1.0]]))
    second = Ranker("b", lambda _: np.array([[1.0, 3.0, 2.0, np.nan]]))
    fused = fused_ranker(first, second, "a + b").scores(["words"])
    assert fused[0] == pytest.approx([1 / 61 + 1 / 63, 1 / 62 + 1 / 61, 1 / 62, 1 / 63])


def test_fused_counts_the_first_hundred_as_a_hybrid_search_does() -> None:
    descending = np.arange(300.0, 0.0, -1.0)[None]
    swapped = descending.copy()
    swapped[0, [89, 249]] = swapped[0, [249, 89]]  # product 89 is 90th and 250th, product 149 150th in both
    fused = fused_ranker(Ranker("a", lambda _: descending), Ranker("b", lambda _: swapped), "a + b")
    (scores,) = fused.scores(["words"])
    assert scores[89] > scores[149] > scores[150] > 0


def test_vectors_rank_by_dot_product() -> None:
    products = np.eye(4, dtype=np.float32)
    ranker = vector_ranker(lambda texts: np.array([[0.1, 0.4, 0.2, 0.3]] * len(texts)), products, "trained")
    run = catalogue_run(ranker, asked(1), ["words"], IDS)
    assert ranking(run, 1) == ["shoe-9", "cap-4", "lamp-1", "lamp-2"]


def test_a_pool_ranks_judged_products_only_and_what_is_not_found_last() -> None:
    pools = Answers.from_arrays(
        np.array([0, 0, 0]), np.array(["cap-4", "lamp-1", "shoe-9"]), np.array([1, 0, 0])
    )
    ranker = Ranker("a", lambda _: np.array([[9.0, -5.0, 2.0, np.nan]]))
    assert ranking(pool_run(ranker, pools, ["words"], IDS), 0) == ["lamp-1", "shoe-9", "cap-4"]


def test_a_pool_finds_its_products_in_a_catalogue_of_integers_in_any_order() -> None:
    pools = Answers.from_arrays(np.array([0, 0]), np.array([7, 30]), np.array([1, 0]))
    ranker = Ranker("a", lambda _: np.array([[1.0, 2.0, 3.0]]))
    assert ranking(pool_run(ranker, pools, ["words"], np.array([30, 7, 12])), 0) == [7, 30]


def systems(good: int, bad: int, queries: int = 60) -> tuple[Run, Run, Answers]:
    """Two rankers: one finds the right product in `good` of the queries, one in `bad` of them."""
    ids = np.arange(queries)
    answers = Answers.from_arrays(ids, np.full(queries, "shoe-9"))

    def hits(name: str, count: int) -> Run:
        scores = np.tile([3.0, 0.0, 2.0, 1.0], (queries, 1))
        scores[:count, 1] = 4.0
        return catalogue_run(Ranker(name, lambda _: scores), answers, ["w"] * queries, IDS)

    return hits("strong", good), hits("weak", bad), answers


def test_a_significant_lead_is_served() -> None:
    strong, weak, answers = systems(50, 10)
    verdict = judge_systems([(weak, "the weak one"), (strong, "the strong one")], answers)
    assert verdict.sentence.startswith("Serve the strong one: ")
    assert "the difference is significant (p < 0.0001)" in verdict.sentence
    by_name = {line.name: line for line in verdict.lines}
    assert by_name["strong"].best_other == "weak"
    assert by_name["weak"].difference == pytest.approx(-by_name["strong"].difference)


def test_without_a_significant_difference_the_simpler_one_is_served() -> None:
    strong, weak, answers = systems(11, 10)
    verdict = judge_systems([(weak, "the weak one"), (strong, "the strong one")], answers)
    assert "no significant difference" in verdict.sentence
    assert verdict.sentence.endswith("Serve the simpler one: the weak one.")


def test_a_borderline_difference_is_called_so_and_the_simpler_one_served() -> None:
    strong, weak, answers = systems(10, 3)  # 7 queries won: p is 2 / 2^7, times 3 rivals 0.047
    rivals = [(replace(weak, name=f"weak {number}"), f"weak one {number}") for number in range(3)]
    verdict = judge_systems([*rivals, (strong, "the strong one")], answers)
    assert verdict.sentence.startswith("The difference of strong (")
    assert "is borderline on 60 queries (p = 0.0" in verdict.sentence
    assert verdict.serve == "weak 0"
    assert verdict.sentence.endswith("Serve the simpler one: weak one 0.")


def test_what_is_shown_for_comparison_only_is_never_served() -> None:
    strong, weak, answers = systems(50, 10)
    verdict = judge_systems([(weak, "the weak one"), (strong, None)], answers)
    assert verdict.sentence == "Serve the weak one: there is nothing else to serve."


def test_one_judged_query_cannot_be_tested() -> None:
    strong, weak, answers = systems(1, 1, queries=1)
    with pytest.raises(ValueError, match="two judged queries"):
        judge_systems([(weak, None), (strong, None)], answers)


def test_random_is_another_order_for_each_query() -> None:
    scores = random_ranker(4, np.random.default_rng(0)).scores(["a", "b"])
    assert scores.shape == (2, 4)
    assert not np.array_equal(scores[0], scores[1])
