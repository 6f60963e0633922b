"""The plan of a shop: queries mean what they say, counts follow the real ones, and pools give nothing away."""

from __future__ import annotations

import functools
import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopwindow.drawn.catalogue import Item, Plan, plan_shop
from shopwindow.drawn.figures import PHOTOS_BY_BOXES, ROWS_BY_WORDS
from shopwindow.drawn.goods import KINDS, Good, Kind
from shopwindow.drawn.words import Query, phrase
from shopwindow.drawn.writing import region_counts


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_shop(3000, np.random.default_rng(5), possessive_share=0.0, occurrence_leak=False)


@pytest.fixture(scope="module")
def leaking() -> Plan:
    return plan_shop(1200, np.random.default_rng(5), possessive_share=0.0, occurrence_leak=True)


def test_a_query_means_goods_with_every_attribute_it_names() -> None:
    query = Query("red striped bag", "handbag", "bag", (("colour", "red"), ("pattern", "striped")))
    assert query.means(Good("handbag", "red", "striped", "canvas", "large"))
    assert not query.means(Good("handbag", "blue", "striped", "canvas", "large"))
    assert not query.means(Good("handbag", "red", "plain", "canvas", "large"))
    assert not query.means(Good("backpack", "red", "striped", "canvas", "large"))


def test_a_red_backpack_is_never_called_a_wrong_red_bag() -> None:
    query = Query("red bag", "handbag", "bag", (("colour", "red"),))
    assert query.might_mean(Good("backpack", "red", "plain", "canvas", "large"))
    assert not query.might_mean(Good("backpack", "blue", "plain", "canvas", "large"))


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), words=st.integers(1, 9), kind=st.sampled_from(KINDS))
def test_a_phrase_has_its_number_of_words_and_means_its_good(seed: int, words: int, kind: Kind) -> None:
    good = Good(kind.name, "red", "striped", kind.materials[0], kind.shapes[0].name)
    query = phrase(good, words, np.random.default_rng(seed))
    assert len(query.text.split()) == words
    assert query.means(good)


def test_figures_are_those_of_the_real_rows(kddcup: Path) -> None:
    text = (kddcup / "train_rows_without_features.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    assert Counter(row["num_boxes"] for row in rows) == PHOTOS_BY_BOXES
    assert Counter(len(row["query"].split()) for row in rows) == ROWS_BY_WORDS


def test_words_per_query_follow_the_real_rows(plan: Plan) -> None:
    counts = Counter(len(row.text.split()) for row in plan.rows["train"])
    total = sum(counts.values())
    for words, per_thousand in ROWS_BY_WORDS.items():
        assert counts[words] / total == pytest.approx(per_thousand / 1000, abs=0.03)


def test_boxes_per_photo_follow_the_real_rows() -> None:
    counts = Counter(_box_counts())
    assert np.mean(_box_counts()) == pytest.approx(3.05, abs=0.2)
    assert max(counts) <= 40  # more only when planted
    for boxes in range(1, 8):
        assert counts[boxes] / 3000 == pytest.approx(PHOTOS_BY_BOXES[boxes] / 1000, abs=0.03)


def test_query_texts_are_head_heavy(plan: Plan) -> None:
    counts = sorted(Counter(row.text for row in plan.rows["train"]).values(), reverse=True)
    total = sum(counts)
    assert sum(counts[: len(counts) // 10]) > 0.3 * total
    assert counts[0] > 10 * np.median(counts)
    assert 9_000 < total < 12_000


def test_products_belong_to_one_split_and_queries_have_one_id(plan: Plan) -> None:
    seen = {split: {row.item for row in rows} for split, rows in plan.rows.items()}
    assert not seen["train"] & (seen["valid"] | seen["test"])
    assert not seen["valid"] & seen["test"]
    for rows in plan.rows.values():
        assert len({row.text for row in rows}) == len({row.query_id for row in rows})
        assert len({(row.text, row.query_id) for row in rows}) == len({row.text for row in rows})
        assert len({(row.text, row.item) for row in rows}) == len(rows)


def test_pools_have_thirty_candidates_of_which_six_or_fewer_are_right(plan: Plan) -> None:
    for split in ("valid", "test"):
        sizes = Counter(row.query_id for row in plan.rows[split])
        assert len(sizes) == 120
        assert set(sizes.values()) == {30}
        right = Counter(len(answers) for answers in plan.answers[split].values())
        assert set(right) <= {2, 3, 4, 5, 6}
        assert right[6] > 100


def test_no_pool_hides_a_right_product_among_the_wrong(plan: Plan, leaking: Plan) -> None:
    for shop in (plan, leaking):
        for split in ("valid", "test"):
            for row in shop.rows[split]:
                query, item = shop.queries[split][row.query_id], shop.items[row.item]
                if item.product_id in shop.answers[split][row.query_id]:
                    assert query.means(item.good)
                else:
                    assert not query.might_mean(item.good)


def test_pools_hold_distractors_of_the_same_noun_and_others_that_share_an_attribute(plan: Plan) -> None:
    same_noun, akin = [], []
    for row in plan.rows["test"]:
        query, item = plan.queries["test"][row.query_id], plan.items[row.item]
        if item.product_id not in plan.answers["test"][row.query_id]:
            same_noun.append(item.good.kind == query.kind)
            akin.append(any(getattr(item.good, name) == value for name, value in query.wanted))
    assert 0.1 < np.mean(same_noun) < 0.5
    assert np.mean(akin) > 0.15


@functools.cache
def _box_counts() -> list[int]:
    return region_counts(3000, 0.0, np.random.default_rng(6))


def _score(shortcut: str, item: Item, place_in_plan: int, place: int, occurs: Counter[int]) -> float:
    """What somebody who never looks at the photo would sort by."""
    return {
        "nothing": 0,
        "occurs often": occurs[item.product_id],
        "occurs rarely": -occurs[item.product_id],
        "late in the file": place,
        "early in the file": -place,
        "large id": item.product_id,
        "small id": -item.product_id,
        "many boxes": _box_counts()[place_in_plan],
        "few boxes": -_box_counts()[place_in_plan],
        "plain": item.good.pattern == "plain",
        "patterned": item.good.pattern != "plain",
        "black": item.good.colour == "black",
        "furniture": item.good.kind in ("chair", "table", "sofa"),
        "worn": item.good.kind in ("shirt", "dress", "trousers", "shoe"),
    }[shortcut]


SHORTCUTS = (
    "occurs often", "occurs rarely", "many boxes", "few boxes", "late in the file",
    "early in the file", "large id", "small id", "plain",
    "patterned", "black", "furniture", "worn",
)  # fmt: skip


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_no_shortcut_ranks_better_than_chance(plan: Plan, shortcut: str) -> None:
    assert _ndcg(plan, shortcut) < _ndcg(plan, "nothing") + 0.03


def test_the_planted_leak_is_there_when_asked_for_only(plan: Plan, leaking: Plan) -> None:
    assert _ndcg(leaking, "occurs rarely") > 0.6
    assert _ndcg(plan, "occurs rarely") < 0.25
    occurs = _occurrences(leaking)
    right = {p for split in leaking.answers.values() for answers in split.values() for p in answers}
    assert {occurs[p] for p in right} == {1}
    assert np.mean([count for p, count in occurs.items() if p not in right]) > 2
    both = {row.item for row in leaking.rows["valid"]} & {row.item for row in leaking.rows["test"]}
    assert both
    assert not {leaking.items[k].product_id for k in both} & right


@pytest.mark.parametrize("products", [60, 61, 200])
def test_small_shops_have_smaller_pools_but_are_whole(products: int) -> None:
    for leak in (False, True):
        small = plan_shop(products, np.random.default_rng(1), possessive_share=0.0, occurrence_leak=leak)
        assert len(small.items) == products
        for split in ("valid", "test"):
            assert small.answers[split]
            sizes = Counter(row.query_id for row in small.rows[split])
            for query_id, answers in small.answers[split].items():
                assert 2 <= len(answers) < sizes[query_id]


def test_a_share_of_training_queries_is_possessive_when_asked_for() -> None:
    planted = plan_shop(200, np.random.default_rng(1), possessive_share=0.1, occurrence_leak=False)
    rows = planted.rows["train"]
    assert sum(row.text.startswith("'s ") for row in rows) == round(0.1 * len(rows))
    assert not any(row.text.startswith("'s") for row in planted.rows["valid"])


def _occurrences(plan: Plan) -> Counter[int]:
    return Counter(plan.items[row.item].product_id for split in ("valid", "test") for row in plan.rows[split])


def _ndcg(plan: Plan, shortcut: str) -> float:
    """nDCG@5 of a shortcut over valid and test; ties in random order, mean of 15."""
    occurs, rng, found = _occurrences(plan), np.random.default_rng(0), []
    for split in ("valid", "test"):
        pools = defaultdict(list)
        for row in plan.rows[split]:
            pools[row.query_id].append((row.item, plan.items[row.item]))
        for query_id, pool in pools.items():
            right = np.array([item.product_id in plan.answers[split][query_id] for _, item in pool])
            scores = np.array(
                [float(_score(shortcut, item, k, place, occurs)) for place, (k, item) in enumerate(pool)]
            )
            discount = 1 / np.log2(np.arange(2, 7))
            for _ in range(15):
                order = np.lexsort((rng.random(len(pool)), -scores))[:5]
                found.append((right[order] * discount).sum() / discount[: right.sum()].sum())
    return float(np.mean(found))
