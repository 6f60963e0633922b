"""Orders of pairs: by hand, against loops, by properties, and their cost."""

from __future__ import annotations

import time
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Int64

from shopwindow.data.grouping import (
    ALONE,
    TextWords,
    attribute_anchors,
    chunked,
    grouped,
    neighbour_anchors,
    read_words,
)

PHRASES = st.lists(
    st.lists(
        st.sampled_from(["red", "blue", "silk", "wool", "dress", "shoe", "lamp", "bag"]),
        min_size=1,
        max_size=4,
    ).map(" ".join),
    min_size=1,
    max_size=30,
    unique=True,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_texts_of_the_same_words_mean_the_same() -> None:
    words = read_words(["red dress", "Dresses, RED", "red-dress", "dress", "blue dress", "lamp with dress"])
    assert words.meanings[0] == words.meanings[1] == words.meanings[2]
    assert len(set(words.meanings.tolist())) == 4
    assert words.lengths.tolist() == [2, 2, 2, 1, 2, 3]
    assert words.nouns.tolist() == [0, 0, 0, 0, 0, 1]
    assert words.vocabulary == 5


def test_no_texts_and_empty_texts_are_read() -> None:
    assert read_words([]).meanings.tolist() == []
    assert read_words(["", "?", " "]).lengths.tolist() == [1, 1, 1]
    empty = read_words([])
    assert attribute_anchors(empty, rng()).shape[1] == 0


def test_equal_anchors_of_attributes_differ_by_one_word_and_share_the_noun() -> None:
    texts = ["red dress", "blue dress", "dress", "red shoe", "red silk dress", "blue silk dress", "silk lamp"]
    words = read_words(texts)
    met: Counter[tuple[str, str]] = Counter()
    for seed in range(60):
        anchors = attribute_anchors(words, rng(seed))[0]
        met.update(
            (texts[i], texts[j])
            for i in range(len(texts))
            for j in range(i)
            if anchors[i] == anchors[j] != ALONE
        )
    assert set(met) == {("blue dress", "red dress"), ("blue silk dress", "red silk dress")}
    assert min(met.values()) == 60  # their other gaps fit nothing else, so they always meet


@given(PHRASES, st.integers(0, 100))
def test_attributes_agree_with_a_loop(texts: list[str], seed: int) -> None:
    words = read_words(texts)
    anchors = attribute_anchors(words, rng(seed))[0]
    sets = [frozenset(part) for part in np.split(words.words, np.cumsum(words.lengths)[:-1])]
    first = {meaning: row for row, meaning in reversed(list(enumerate(words.meanings.tolist())))}
    nouns = [words.nouns[first[meaning]] for meaning in words.meanings.tolist()]

    def one_apart(i: int, j: int) -> bool:
        return len(sets[i] - sets[j]) == len(sets[j] - sets[i]) == 1 and nouns[i] == nouns[j]

    for i in range(len(texts)):
        partners = [j for j in range(len(texts)) if one_apart(i, j)]
        assert (anchors[i] == ALONE) <= (not partners)
        for j in range(i):
            if anchors[i] == anchors[j] != ALONE:
                assert words.meanings[i] == words.meanings[j] or one_apart(i, j)


def test_texts_at_one_anchor_of_neighbours_are_near_a_common_text() -> None:
    table = rng(3).integers(0, 200, (200, 4))
    near = [{*row.tolist(), text} for text, row in enumerate(table)]
    for anchors in neighbour_anchors(table, rng(5)):
        groups = defaultdict(list)
        for text, anchor in enumerate(anchors.tolist()):
            groups[anchor].append(text)
        assert max(map(len, groups.values())) > 2
        for group in groups.values():
            assert set.intersection(*(near[text] for text in group))


def test_a_table_that_names_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="neighbours: 0 to 2, wanted -1 to 1"):
        neighbour_anchors(np.array([[2], [0]]), rng())
    assert len(set(neighbour_anchors(np.full((3, 2), ALONE), rng())[0].tolist())) == 3
    assert neighbour_anchors(np.empty((3, 0), np.int64), rng()).shape == (2, 3)


@given(
    st.lists(st.integers(0, 9), max_size=60),
    st.lists(st.integers(-1, 3), min_size=10, max_size=10),
    st.lists(st.integers(0, 4), min_size=10, max_size=10),
    st.integers(2, 5),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(0, 100),
)
def test_a_grouped_order_has_every_pair_once(
    texts: list[int], anchors: list[int], meanings: list[int], group: int, hard: float, seed: int
) -> None:
    order = grouped(
        np.array(texts, np.int64), np.array([anchors]), np.array(meanings), rng(seed), group=group, hard=hard
    )
    assert sorted(order.tolist()) == list(range(len(texts)))


@given(
    st.lists(st.integers(0, 9), max_size=60),
    st.lists(st.integers(0, 3), min_size=10, max_size=10),
    st.lists(st.integers(0, 4), min_size=10, max_size=10),
    st.integers(2, 5),
)
def test_chunks_are_small_of_one_anchor_and_have_no_meaning_twice(
    texts: list[int], anchors: list[int], meanings: list[int], group: int
) -> None:
    pairs, chunks = chunked(
        rng().permutation(len(texts)),
        np.array(texts, np.int64),
        np.array([anchors]),
        np.array(meanings),
        group=group,
    )
    assert sorted(pairs.tolist()) == list(range(len(texts)))
    members = defaultdict(list)
    for pair, chunk in zip(pairs.tolist(), chunks.tolist(), strict=True):
        members[chunk].append(texts[pair])
    for chunk in members.values():
        assert len(chunk) <= group
        assert len({anchors[text] for text in chunk}) == 1
        assert len({meanings[text] for text in chunk}) == len(chunk)
    wanted = 0  # no more chunks than turns need
    for anchor in set(anchors):
        counts = Counter(meanings[text] for text in texts if anchors[text] == anchor)
        turns = range(max(counts.values(), default=0))
        wanted += sum(-(-sum(n > turn for n in counts.values()) // group) for turn in turns)
    assert len(members) == wanted


def test_hand_counted_chunks() -> None:
    texts = np.array([0, 1, 2, 3, 4, 0])
    anchors = np.array([[7, 7, 7, 9, 9]])
    pairs, chunks = chunked(np.arange(6), texts, anchors, np.array([0, 1, 2, 3, 4]), group=2)
    # anchor 7: a first turn of texts 0, 1, 2 in two chunks, a second turn of text 0; anchor 9: one chunk
    assert pairs.tolist() == [0, 1, 2, 5, 3, 4]
    assert chunks.tolist() == [0, 0, 1, 2, 3, 3]


def test_chunks_lie_together_in_random_order() -> None:
    texts, anchors = np.arange(60), (np.arange(60) // 6)[None]
    seen = set()
    for seed in range(20):
        order = grouped(texts, anchors, texts, rng(seed), group=6)
        own = anchors[0][order].reshape(10, 6)
        assert (own == own[:, :1]).all()
        seen.add(tuple(own[:, 0].tolist()))
    assert len(seen) == 20


def test_finer_anchors_say_who_shares_a_chunk() -> None:
    texts = np.arange(40)
    anchors = np.stack([np.zeros(40, np.int64), np.arange(40) % 10])
    order = grouped(texts, anchors, np.arange(40), rng(4), group=4)
    finer = anchors[1][order].reshape(10, 4)
    assert (finer == finer[:, :1]).all()


def test_a_share_of_the_pairs_is_grouped() -> None:
    texts = np.arange(20_000)
    anchors = (np.arange(20_000) // 8)[None]
    together = {}
    for hard in (0.0, 0.5, 1.0):
        order = grouped(texts, anchors, texts, rng(5), group=8, hard=hard)
        own = anchors[0][order]
        beside = np.zeros(len(own), bool)
        beside[1:] |= own[1:] == own[:-1]
        beside[:-1] |= own[1:] == own[:-1]
        together[hard] = float(beside.mean())
    assert together[0.0] < 0.01
    assert together[0.5] == pytest.approx(0.5, abs=0.03)
    assert together[1.0] == 1.0


def generated(count: int) -> tuple[TextWords, np.ndarray]:
    """Words of `count` texts with 4 words each, Zipf distributed, and a table of neighbours."""
    draw = rng(0)
    words = np.minimum(draw.zipf(1.3, (count, 4)), 20_000) * 4 + np.arange(4)
    words = np.unique(words, return_inverse=True)[1].reshape(count, 4).astype(np.int64)
    nouns = np.unique(words[:, 3], return_inverse=True)[1].astype(np.int64)
    meanings = np.unique(words, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    texts = TextWords(words.ravel(), np.full(count, 4), nouns, meanings)
    return texts, draw.integers(0, count, (count, 16))


@pytest.mark.slow
def test_an_epoch_of_300_000_pairs_is_ordered_in_seconds_and_little_memory() -> None:
    count = 300_000
    words, table = generated(count)
    texts = np.arange(count)
    orders: dict[str, Callable[[], Int64[np.ndarray, "levels texts"]]] = {
        "nouns": lambda: words.nouns[None],
        "attributes": lambda: attribute_anchors(words, rng()),
        "neighbours": lambda: neighbour_anchors(table, rng()),
    }
    for name, anchors in orders.items():
        started = time.process_time()
        order = grouped(texts, anchors(), words.meanings, rng(), group=8)
        seconds = time.process_time() - started
        assert seconds < 3, name
        assert np.array_equal(np.sort(order), texts)
        tracemalloc.start()
        grouped(texts, anchors(), words.meanings, rng(), group=8)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 500 * count, name  # bytes a pair


@settings(max_examples=20)
@given(PHRASES, st.integers(0, 100))
def test_anchors_and_orders_are_pure(texts: list[str], seed: int) -> None:
    one, two = read_words(texts), read_words(texts)
    assert np.array_equal(attribute_anchors(one, rng(seed)), attribute_anchors(two, rng(seed)))
