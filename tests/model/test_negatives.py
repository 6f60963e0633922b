"""What the cells of a batch are, counted by hand, and known pairs against a set of tuples."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shopwindow.data.queries import numbers_of
from shopwindow.model import negatives
from shopwindow.model.negatives import Cells, KnownPairs, Masking, choose_cells, count_false_negatives

# The texts of numbers 0 to 5, and what is known of products 10 to 13.
TEXTS = ["lamp", "white table lamp", "red dress", "white shade", "dress red", "white lamp shade"]
PAIRS = [(1, 10), (3, 10), (2, 11), (4, 11), (0, 12), (2, 13), (5, 13)]
QUERIES = torch.tensor([1, 0, 2, 2])
PRODUCTS = torch.tensor([10, 12, 11, 13])


def known_pairs(*, texts: bool = True) -> KnownPairs:
    queries, products = (np.array(column, np.int64) for column in zip(*PAIRS, strict=True))
    return KnownPairs(queries, products, texts=TEXTS if texts else ())


def wrong_cells(cells: Cells) -> list[list[int]]:
    return cells.wrong.int().tolist()


def test_masking_none_takes_every_other_cell_for_a_negative() -> None:
    cells = choose_cells(QUERIES, PRODUCTS)
    assert torch.equal(cells.right, torch.eye(4))
    assert torch.equal(cells.wrong, torch.eye(4) == 0)


def test_masking_same_leaves_out_equal_texts_and_equal_products() -> None:
    cells = choose_cells(torch.tensor([1, 1, 2, 3]), torch.tensor([7, 8, 7, 9]), masking="same")
    assert wrong_cells(cells) == [[0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 1, 0]]
    assert torch.equal(cells.right, torch.eye(4))


def test_masking_known_leaves_out_pairs_of_the_training_besides() -> None:
    queries, products = torch.tensor([1, 2, 4, 5]), torch.tensor([10, 11, 11, 13])
    same = choose_cells(queries, products, masking="same")
    assert wrong_cells(same) == [[0, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 0]]
    known = choose_cells(queries, products, masking="known", known=known_pairs(texts=False))
    assert wrong_cells(known) == [[0, 1, 1, 1], [1, 0, 0, 0], [1, 0, 0, 1], [1, 1, 1, 0]]  # (2, 13)


def test_masking_words_leaves_out_what_one_known_text_says() -> None:
    cells = choose_cells(QUERIES, PRODUCTS, masking="words", known=known_pairs())
    # "lamp" is said of product 10 (white table lamp) and 13 (white lamp shade); red dress of 11 and 13
    assert wrong_cells(cells) == [[0, 1, 1, 1], [0, 0, 1, 0], [1, 1, 0, 0], [1, 1, 0, 0]]


def test_words_of_two_known_texts_together_say_nothing() -> None:
    known = known_pairs()
    asked = np.array([5, 3, 4])  # white lamp shade, white shade, dress red
    # product 10 is known as "white table lamp" and as "white shade": all three words, in no one text
    assert known.inclusions(asked, np.array([10, 11, 99])).astype(int).tolist() == [
        [0, 0, 0],
        [1, 0, 0],
        [0, 1, 0],
    ]


def test_a_text_that_repeats_a_word_has_it_once_and_one_without_words_is_included_in_nothing() -> None:
    known = KnownPairs(np.array([0, 1]), np.array([0, 0]), texts=["bed bed sheet", " ", "sheet sheet sheet"])
    assert known.inclusions(np.array([0, 1, 2]), np.array([0])).tolist() == [[True], [False], [True]]


def test_positives_all_makes_pairs_right_but_never_words() -> None:
    cells = choose_cells(QUERIES, PRODUCTS, masking="words", positives="all", known=known_pairs())
    assert cells.right.int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert wrong_cells(cells) == [[0, 1, 1, 1], [0, 0, 1, 0], [1, 1, 0, 0], [1, 1, 0, 0]]
    assert not cells.wrong[1, 0]  # lamp, white table lamp: neither
    assert cells.right[1, 0] == 0


def test_a_right_cell_off_the_diagonal_has_the_weight_of_the_pair_that_it_is() -> None:
    queries, products = torch.tensor([1, 1, 2, 6]), torch.tensor([10, 14, 10, 15])
    known = KnownPairs(
        np.array([1, 6, 6]), np.array([10, 14, 14]), weights=np.array([50.0, 60.0, 7.0])
    )  # of (6, 14), known twice, the largest
    own = torch.tensor([2.0, 3.0, 4.0, 5.0])
    cells = choose_cells(queries, products, masking="known", positives="all", known=known, weights=own)
    assert cells.right.tolist() == [[2, 3, 2, 0], [2, 3, 50, 0], [4, 0, 4, 0], [0, 60, 0, 5]]
    diagonal = choose_cells(queries, products, masking="known", known=known, weights=own)
    assert torch.equal(diagonal.right, torch.diag(own))
    assert torch.equal(diagonal.wrong, cells.wrong)
    unweighted = KnownPairs(np.array([1, 6]), np.array([10, 14]))
    cells = choose_cells(queries, products, masking="known", positives="all", known=unweighted, weights=own)
    assert cells.right.tolist() == [[2, 3, 2, 0], [2, 3, 1, 0], [4, 0, 4, 0], [0, 1, 0, 5]]


def test_a_pair_of_weight_zero_is_neither_right_nor_wrong() -> None:
    cells = choose_cells(torch.tensor([0, 1]), torch.tensor([5, 6]), weights=torch.tensor([0.0, 1.0]))
    assert cells.right.tolist() == [[0, 0], [0, 1]]
    assert wrong_cells(cells) == [[0, 1], [1, 0]]


def test_false_negatives_are_counted_by_hand() -> None:
    queries, products = torch.tensor([1, 1, 2, 5]), torch.tensor([10, 14, 11, 13])
    # one text twice: 2 cells; (2, 13) is known: 1 cell
    assert count_false_negatives(queries, products, known_pairs()) == 3
    assert count_false_negatives(torch.tensor([0, 1]), torch.tensor([5, 6]), known_pairs()) == 0
    assert count_false_negatives(torch.tensor([0]), torch.tensor([5]), known_pairs()) == 0


pairs_of_numbers = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=25)
blocks = st.tuples(st.lists(st.integers(0, 6), max_size=8), st.lists(st.integers(0, 9), max_size=8))


def as_arrays(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    columns = np.array(pairs, np.int64).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]


@given(pairs_of_numbers, blocks, st.data())
def test_known_weights_are_those_of_a_table_of_tuples(
    pairs: list[tuple[int, int]], block: tuple[list[int], list[int]], data: st.DataObject
) -> None:
    given_weights = data.draw(st.lists(st.integers(1, 9), min_size=len(pairs), max_size=len(pairs)))
    table: dict[tuple[int, int], int] = {}
    for pair, weight in zip(pairs, given_weights, strict=True):
        table[pair] = max(weight, table.get(pair, 0))
    queries, products = block
    known = KnownPairs(*as_arrays(pairs), weights=np.array(given_weights, np.float64))
    got = known.weights(np.array(queries, np.int64), np.array(products, np.int64))
    assert got.tolist() == [[table.get((query, product), 0) for product in products] for query in queries]
    fewer = known.among(np.array(queries, np.int64), np.array(products, np.int64))
    assert len(fewer) == len({pair for pair in table if pair[0] in queries and pair[1] in products})
    assert np.array_equal(fewer.weights(np.array(queries, np.int64), np.array(products, np.int64)), got)
    plain = KnownPairs(*as_arrays(pairs))
    assert len(plain) == len(table)
    assert np.array_equal(plain.weights(np.array(queries, np.int64), np.array(products, np.int64)), got > 0)


texts_of_words = st.lists(st.lists(st.sampled_from("abcd"), max_size=4).map(" ".join), min_size=7, max_size=7)


@pytest.mark.parametrize("at_once", [1, 3, 4096])
@given(texts_of_words, pairs_of_numbers, blocks)
def test_inclusions_are_those_of_sets_of_words_however_many_texts_at_once(
    at_once: int, texts: list[str], pairs: list[tuple[int, int]], block: tuple[list[int], list[int]]
) -> None:
    queries, products = block
    words = [set(text.split()) for text in texts]
    wanted = [
        [
            bool(words[q]) and any(words[q] <= words[text] for text, known in pairs if known == p)
            for p in products
        ]
        for q in queries
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(negatives, "TEXTS_AT_ONCE", at_once)
        known = KnownPairs(*as_arrays(pairs), texts=texts)
        got = known.inclusions(np.array(queries, np.int64), np.array(products, np.int64))
    assert got.tolist() == wanted


@given(pairs_of_numbers, pairs_of_numbers.filter(bool), texts_of_words)
def test_each_masking_leaves_out_what_the_one_before_does_and_never_calls_a_right_cell_wrong(
    pairs: list[tuple[int, int]], batch: list[tuple[int, int]], texts: list[str]
) -> None:
    queries, products = (torch.from_numpy(column.copy()) for column in as_arrays(batch))
    known = KnownPairs(*as_arrays(pairs + batch), texts=texts)
    maskings: tuple[Masking, ...] = ("none", "same", "known", "words")
    chosen = [choose_cells(queries, products, masking=masking, known=known) for masking in maskings]
    for wider, narrower in pairwise(chosen):
        assert not (narrower.wrong & ~wider.wrong).any()
    every = choose_cells(queries, products, masking="words", positives="all", known=known)
    for cells in [*chosen, every]:
        assert (cells.right.diagonal() == 1).all()
        assert not (cells.wrong & (cells.right > 0)).any()
    table = set(pairs + batch)
    wanted = [[(query, product) in table for _, product in batch] for query, _ in batch]
    assert (every.right > 0).tolist() == wanted
    false = sum(map(sum, wanted)) - len(batch)
    assert count_false_negatives(queries, products, known) == false


def test_false_negatives_of_real_training_rows_are_those_of_a_set(kddcup: Path) -> None:
    with (kddcup / "train_rows_without_features.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][:300]
    texts = [row["query"] for row in rows]
    numbers = numbers_of(texts)
    products = np.array([row["product_id"] for row in rows], np.int64)
    known = KnownPairs(numbers, products, texts=list(dict.fromkeys(texts)))
    table = set(zip(numbers.tolist(), products.tolist(), strict=True))
    false = sum((n, p) in table for n in numbers.tolist() for p in products.tolist()) - len(rows)
    queries = torch.from_numpy(numbers)
    assert count_false_negatives(queries, torch.from_numpy(products), known) == false
    said = choose_cells(queries, torch.from_numpy(products), masking="words", known=known)
    words = [set(text.split()) for text in texts]
    included = [[i == j or asked <= held for j, held in enumerate(words)] for i, asked in enumerate(words)]
    assert (~said.wrong).tolist() == included


def test_a_masking_without_what_it_needs_says_so() -> None:
    with pytest.raises(ValueError, match="masking known: the known pairs are needed"):
        choose_cells(QUERIES, PRODUCTS, masking="known")
    with pytest.raises(ValueError, match="positives all: masking none"):
        choose_cells(QUERIES, PRODUCTS, positives="all")
    with pytest.raises(ValueError, match="texts: 0"):
        choose_cells(QUERIES, PRODUCTS, masking="words", known=known_pairs(texts=False))


def test_known_pairs_refuse_numbers_and_weights_that_make_no_sense() -> None:
    one = np.array([1])
    with pytest.raises(ValueError, match="products: -1 to -1"):
        KnownPairs(one, np.array([-1]))
    with pytest.raises(ValueError, match="queries: 2147483648"):
        KnownPairs(np.array([2**31]), one)
    with pytest.raises(ValueError, match="queries: up to 1, texts: 1"):
        KnownPairs(one, one, texts=["red"])
    with pytest.raises(ValueError, match="weights: 0"):
        KnownPairs(one, one, weights=np.array([0.0]))


def test_the_largest_numbers_are_looked_up_too() -> None:
    largest = np.array([2**31 - 1])
    known = KnownPairs(largest, largest)
    assert known.weights(np.array([0, 2**31 - 1]), np.array([2**31 - 1, 0])).tolist() == [[0, 0], [1, 0]]
