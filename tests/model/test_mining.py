"""Mining: by hand, against loops, and what its estimate of contamination finds where the truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from shopwindow.data.batches import PairBatches
from shopwindow.data.grouping import ALONE
from shopwindow.model.mining import (
    Contamination,
    Mined,
    Table,
    centres,
    contamination,
    hide_texts,
    known_share,
    mine,
    nearest_texts,
    same_thing,
)
from tests.model.conftest import TinyShop

NOBODY = np.empty(0, np.int64)


def drawn(seed: int, rows: int, hidden: int = 3) -> np.ndarray:
    """Small whole numbers, so that scores are exact and often tied."""
    return np.random.default_rng(seed).integers(-2, 3, (rows, hidden)).astype(np.float32)


@settings(max_examples=60)
@given(st.integers(0, 1000), st.integers(1, 14), st.integers(0, 6), st.booleans(), st.booleans())
def test_nearest_texts_are_those_of_a_loop_ties_included(
    seed: int, texts: int, count: int, forbid: bool, cap: bool
) -> None:
    rng = np.random.default_rng(seed)
    vectors, candidates = drawn(seed, texts), drawn(seed + 1, texts)
    candidates[rng.random(texts) < 0.2] = np.nan
    known = rng.random((texts, texts)) < 0.3
    ceilings = rng.integers(-3, 6, texts).astype(np.float32)
    table = nearest_texts(
        vectors,
        candidates,
        count,
        known=sparse.csr_array(known) if forbid else None,
        ceilings=ceilings if cap else None,
        scores_at_once=3 * texts,
    )
    for text in range(texts):
        allowed = []
        for other in range(texts):
            score = float(vectors[text] @ candidates[other])
            if other == text or np.isnan(score) or (forbid and known[text, other]):
                continue
            if not (cap and score > ceilings[text]):
                allowed.append((-score, other))
        wanted = [other for _, other in sorted(allowed)][:count]
        width = min(count, texts - 1)
        assert table[text].tolist() == wanted + [ALONE] * (width - len(wanted))


def test_blocks_do_not_change_what_is_near() -> None:
    vectors = drawn(1, 50, 8)
    whole = nearest_texts(vectors, vectors, 5)
    assert np.array_equal(nearest_texts(vectors, vectors, 5, scores_at_once=1), whole)
    assert np.array_equal(nearest_texts(vectors, vectors, 5, scores_at_once=333), whole)
    assert nearest_texts(vectors[:0], vectors[:0], 5).shape == (0, 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_another_device_finds_the_same() -> None:
    vectors = drawn(1, 500, 8)
    known = sparse.csr_array(np.random.default_rng(0).random((500, 500)) < 0.1)
    one, two = (nearest_texts(vectors, vectors, 5, known=known, device=device) for device in ("cpu", "cuda"))
    assert np.array_equal(one, two)


def test_centres_are_means_and_nothing_where_there_is_no_product() -> None:
    products = np.array([[1, 0], [3, 2], [5, 5]], np.float32)
    means = centres(products, np.array([0, 0, 2]), np.array([0, 1, 2]), texts=3)
    np.testing.assert_array_equal(means, np.array([[2, 1], [np.nan, np.nan], [5, 5]], np.float32))


def test_texts_that_share_a_product_or_a_meaning_are_the_same_thing() -> None:
    known = same_thing(np.array([0, 1, 2, 3]), np.array([5, 5, 6, 7]), np.array([0, 1, 2, 2, 3]))
    assert (known.toarray() > 0).astype(int).tolist() == [
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1],
    ]
    assert same_thing(NOBODY, NOBODY, np.arange(2)).toarray().tolist() == [[1, 0], [0, 1]]


def test_mined_is_what_scores_highest_but_for_the_known_and_the_too_good() -> None:
    # texts along the axes of a plane; each has one photo, whose first value is its score with text 0
    vectors = np.tile(np.array([[1, 0]], np.float32), (6, 1))
    products = np.array([[10, 0], [9.8, 0], [9.4, 0], [5, 0], [9.3, 0], [1, 0]], np.float32)
    pair_texts, pair_products = np.array([0, 1, 2, 3, 4, 5, 4]), np.array([0, 1, 2, 3, 4, 5, 4])
    meanings = np.array([0, 1, 2, 3, 0, 5])  # text 4 means what text 0 means
    assert mine(vectors, products, pair_texts, pair_products, meanings, count=3, margin=None)[0].tolist() == [
        1,
        2,
        3,
    ]
    table = mine(vectors, products, pair_texts, pair_products, meanings, count=5)
    assert table[0].tolist() == [2, 3, 5, ALONE, ALONE]  # 9.8 is above 0.95 x 10, 9.4 is not
    shared = mine(
        vectors,
        products,
        np.append(pair_texts, 2),
        np.append(pair_products, 0),
        meanings,
        count=2,
        margin=None,
    )
    assert shared[0].tolist() == [1, 3]


def test_a_positive_that_scores_below_nothing_bounds_nothing() -> None:
    vectors = np.array([[-1, 0], [1, 0]], np.float32)
    products = np.array([[1, 0], [0.3, 0]], np.float32)  # scores -1 and -0.3 with text 0: above half of -1
    table = mine(vectors, products, np.arange(2), np.arange(2), np.arange(2), count=1, margin=0.5)
    assert table.tolist() == [[1], [ALONE]]  # text 1: 1 is above half of 0.3


def test_a_text_without_a_pair_is_mined_for_nobody() -> None:
    vectors = drawn(3, 4) + 4
    table = mine(vectors, drawn(4, 3), np.arange(3), np.arange(3), np.arange(4), count=3, margin=None)
    assert 3 not in table
    assert sorted(table[3].tolist()) == [0, 1, 2]


def test_hiding_leaves_every_product_a_meaning_and_names_what_became_unknown() -> None:
    # product 0: texts 0, 1, 2; product 1: texts 0, 3 of one meaning; product 2: text 4
    pair_texts, pair_products = np.array([0, 1, 2, 0, 3, 4]), np.array([0, 0, 0, 1, 1, 2])
    meanings = np.array([0, 1, 2, 0, 4])
    seen = set()
    for seed in range(40):
        hidden, relations = hide_texts(pair_texts, pair_products, meanings, np.random.default_rng(seed))
        (gone,) = pair_texts[hidden].tolist()
        assert gone in (0, 1, 2)
        assert pair_products[hidden].tolist() == [0]
        assert sorted(map(tuple, relations.tolist())) == [(left, gone) for left in range(3) if left != gone]
        seen.add(gone)
    assert seen == {0, 1, 2}


def test_what_another_product_tells_is_no_hidden_relation() -> None:
    pair_texts, pair_products = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    for seed in range(20):
        hidden, relations = hide_texts(pair_texts, pair_products, np.arange(2), np.random.default_rng(seed))
        assert hidden.sum() == 2
        assert len(relations) == (2 if len(set(pair_texts[hidden].tolist())) == 2 else 1)
        assert {(0, 1), (1, 0)} >= set(map(tuple, relations.tolist()))
    pair_texts, pair_products = np.array([0, 1, 0, 1, 2]), np.array([0, 0, 1, 1, 1])
    told = []
    for seed in range(40):
        hidden, relations = hide_texts(pair_texts, pair_products, np.arange(3), np.random.default_rng(seed))
        if pair_texts[hidden & (pair_products == 1)].tolist() == [2]:
            told.append(sorted(map(tuple, relations.tolist())))
    assert told  # text 2 was hidden of product 1, which still says that 0 and 1 are the same thing
    assert all(each == [(0, 2), (1, 2)] for each in told)


def test_contamination_by_hand() -> None:
    table = np.array([[1, 2], [2, 3], [0, ALONE], [0, 1]])
    relations = np.array([[0, 2], [1, 0], [2, 0]])  # found, not found, found; rows 0, 1, 2 have 2, 2, 1
    assert contamination(table, relations) == pytest.approx((2 / 3) / (5 / 3))
    assert contamination(table, relations, missing=0.5) == pytest.approx((2 / 3) / (5 / 3) / 2)
    assert contamination(table, relations, missing=9.0) == 1.0
    assert contamination(np.full((4, 2), ALONE), relations) == 0.0
    with pytest.raises(ValueError, match="cannot be estimated"):
        contamination(table, relations[:0])


def test_known_share_by_hand() -> None:
    known = sparse.csr_array(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]]))
    assert known_share(np.array([[1, 2], [2, ALONE], [0, 1]]), known) == pytest.approx(1 / 5)
    assert known_share(np.full((3, 1), ALONE), known) == 0.0


def clusters(noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """100 things of 4 texts and 6 photos each; each photo is known by 2 of the 4 texts. With the thing of a text."""
    rng = np.random.default_rng(8)
    things = rng.normal(size=(100, 16))
    of_text, of_product = np.repeat(np.arange(100), 4), np.repeat(np.arange(100), 6)
    vectors = things[of_text] + noise * rng.normal(size=(400, 16))
    products = things[of_product] + noise * rng.normal(size=(600, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    products /= np.linalg.norm(products, axis=1, keepdims=True)
    pair_texts = np.concatenate([4 * of_product[i] + rng.permutation(4)[:2] for i in range(600)])
    return (
        vectors.astype(np.float32),
        products.astype(np.float32),
        pair_texts,
        np.repeat(np.arange(600), 2),
        of_text,
    )


@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_the_estimate_is_near_the_truth_where_it_is_known(noise: float) -> None:
    vectors, products, texts, photos, thing = clusters(noise)
    meanings = np.arange(400)
    hidden, relations = hide_texts(texts, photos, meanings, np.random.default_rng(1))
    table = mine(vectors, products, texts[~hidden], photos[~hidden], meanings, count=10, margin=None)
    true = (thing[table] == thing[:, None]) & (table != ALONE)
    known = same_thing(texts[~hidden], photos[~hidden], meanings).toarray() > 0
    unknown = (thing[:, None] == thing[None]) & ~known
    rows = np.unique(relations[:, 0])
    estimate = contamination(table, relations, missing=float(unknown[rows].sum(axis=1).mean()))
    truth = float(true[rows].sum() / (table[rows] != ALONE).sum())
    assert truth > 0.02
    assert estimate == pytest.approx(truth, rel=0.3)  # weighted by relations, not by texts


def test_mining_for_some_texts_gives_their_rows_of_the_whole_table() -> None:
    vectors, products, texts, photos, _ = clusters(0.5)
    meanings = np.arange(400) // 2
    asked = np.array([0, 7, 3, 399, 200])
    for margin in (None, 0.9):
        whole = mine(vectors, products, texts, photos, meanings, count=6, margin=margin)
        some = mine(vectors, products, texts, photos, meanings, count=6, margin=margin, asked=asked)
        assert np.array_equal(some, whole[asked])
    of = same_thing(texts, photos, meanings, of=asked).toarray()
    assert np.array_equal(of, same_thing(texts, photos, meanings).toarray()[asked])


def test_leaving_out_the_known_and_the_too_good_lowers_the_contamination() -> None:
    vectors, products, texts, photos, thing = clusters(0.5)
    meanings = np.arange(400)
    known = same_thing(texts, photos, meanings)
    everything = nearest_texts(vectors, centres(products, texts, photos, texts=400), 10)

    def true_share(table: Table) -> float:
        return float(((thing[table] == thing[:, None]) & (table != ALONE)).sum() / (table != ALONE).sum())

    careless = mine(vectors, products, texts, photos, meanings, count=10, margin=None)
    careful = mine(vectors, products, texts, photos, meanings, count=10, margin=0.7)
    assert known_share(everything, known) > 0.1
    assert known_share(careless, known) == known_share(careful, known) == 0.0
    assert true_share(everything) > true_share(careless) > true_share(careful)


def test_tables_are_mined_when_their_epoch_is_asked_for_and_kept_for_as_long_as_they_serve() -> None:
    made: list[int] = []

    def of_epoch(epoch: int) -> Contamination:
        return Contamination(epoch, None, None, 0, 0, 0.0)

    def mine_now(epoch: int) -> tuple[Table, Contamination]:
        made.append(len(made))
        return np.full((2, 1), made[-1]), of_epoch(epoch)

    mined = Mined(mine_now, first=1, every=2)
    tables = [mined(epoch) for epoch in range(6)]
    assert tables[0] is None
    assert [None if table is None else int(table[0, 0]) for table in tables] == [None, 0, 0, 1, 1, 2]
    assert (mined.epoch, made) == (5, [0, 1, 2])
    assert mined.contaminations == [of_epoch(1), of_epoch(3), of_epoch(5)]
    kept = mined.contaminations[:2]
    table_of_3 = np.full((2, 1), 77)
    resumed = Mined(mine_now, first=1, every=2, epoch=3, table=table_of_3, contaminations=kept)
    table = resumed(4)
    assert table is not None
    assert table[0, 0] == 77
    assert made == [0, 1, 2]
    resumed(5)
    assert (resumed.epoch, made) == (5, [0, 1, 2, 3])
    assert resumed.contaminations == mined.contaminations


def test_training_resumed_with_the_kept_table_takes_the_same_batches(
    tiny_shop: TinyShop, tmp_path: Path
) -> None:
    texts = len(set(tiny_shop.train.query_texts))
    weights = 0

    def mine_now(_: int) -> tuple[Table, Contamination]:
        vectors = drawn(weights, texts, 8)
        return nearest_texts(vectors, vectors, 3), Contamination(0, None, None, 0, 0, 0.0)

    def batches(mined: Mined, start: int = 0) -> PairBatches:
        return PairBatches(
            tiny_shop.train,
            batch_size=30,
            epochs=3,
            seed=1,
            start=start,
            order="neighbours",
            neighbours=mined,
        )

    undisturbed: list[list[int]] = []
    kept: Mined | None = None
    for weights, batch in enumerate(batches(mined := Mined(mine_now)), start=1):  # read by mine_now
        undisturbed.append(batch.products.tolist())
        if weights == 9:  # in the middle of epoch 1, after 9 steps
            kept = Mined(mine_now, epoch=mined.epoch, table=mined.table)
    assert kept is not None
    resumed: list[list[int]] = []
    weights = 9
    for weights, batch in enumerate(batches(kept, start=9), start=10):  # noqa: B007 # read by mine_now
        resumed.append(batch.products.tolist())
    assert resumed == undisturbed[9:]
