"""What the cells of a batch are, counted by hand, and known pairs against a set of tuples."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shopwindow.data.queries import numbers_of
from shopwindow.model.negatives import Cells, KnownPairs, choose_cells, count_false_negatives
from shopwindow.model.recipe import Masking

# What is known of products 10 to 13, by numbers of texts.
PAIRS = [(1, 10), (3, 10), (2, 11), (4, 11), (0, 12), (2, 13), (5, 13)]
QUERIES = torch.tensor([1, 0, 2, 2])
PRODUCTS = torch.tensor([10, 12, 11, 13])


def known_pairs() -> KnownPairs:
    queries, products = (np.array(column, np.int64) for column in zip(*PAIRS, strict=True))
    return KnownPairs(queries, products)


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
    known = choose_cells(queries, products, masking="known", known=known_pairs())
    assert wrong_cells(known) == [[0, 1, 1, 1], [1, 0, 0, 0], [1, 0, 0, 1], [1, 1, 1, 0]]  # (2, 13)


def test_right_cells_are_the_pairs_by_their_weights() -> None:
    own = torch.tensor([2.0, 3.0, 4.0, 5.0])
    cells = choose_cells(QUERIES, PRODUCTS, masking="known", known=known_pairs(), weights=own)
    assert torch.equal(cells.right, torch.diag(own))
    assert wrong_cells(cells) == [[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]


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


def table_of(known: KnownPairs, queries: list[int], products: list[int]) -> list[list[bool]]:
    """Which cells are known pairs."""
    out = np.zeros(len(queries) * len(products), bool)
    out[known.cells(np.array(queries, np.int64), np.array(products, np.int64))] = True
    cells: list[list[bool]] = out.reshape(len(queries), len(products)).tolist()
    return cells


@given(pairs_of_numbers, blocks)
def test_known_pairs_are_those_of_a_table_of_tuples(
    pairs: list[tuple[int, int]], block: tuple[list[int], list[int]]
) -> None:
    queries, products = block
    known = KnownPairs(*as_arrays(pairs))
    wanted = [[(query, product) in pairs for product in products] for query in queries]
    assert table_of(known, queries, products) == wanted
    fewer = known.among(np.array(queries, np.int64), np.array(products, np.int64))
    assert len(fewer) == len({pair for pair in pairs if pair[0] in queries and pair[1] in products})
    assert table_of(fewer, queries, products) == wanted
    assert len(known) == len(set(pairs))


@given(pairs_of_numbers, pairs_of_numbers.filter(bool))
def test_each_masking_leaves_out_what_the_one_before_does_and_never_calls_a_right_cell_wrong(
    pairs: list[tuple[int, int]], batch: list[tuple[int, int]]
) -> None:
    queries, products = (torch.from_numpy(column.copy()) for column in as_arrays(batch))
    known = KnownPairs(*as_arrays(pairs + batch))
    chosen = [choose_cells(queries, products, masking=masking, known=known) for masking in get_args(Masking)]
    for wider, narrower in pairwise(chosen):
        assert not (narrower.wrong & ~wider.wrong).any()
    for cells in chosen:
        assert torch.equal(cells.right, torch.eye(len(batch)))
        assert not (cells.wrong & (cells.right > 0)).any()
    table = set(pairs + batch)
    true = [[(query, product) in table for _, product in batch] for query, _ in batch]
    equal = [[query == other or one == product for other, product in batch] for query, one in batch]
    wrong = [[not (t or e) for t, e in zip(*rows, strict=True)] for rows in zip(true, equal, strict=True)]
    assert chosen[-1].wrong.tolist() == wrong
    assert count_false_negatives(queries, products, known) == sum(map(sum, true)) - len(batch)


def test_false_negatives_of_real_training_rows_are_those_of_a_set(kddcup: Path) -> None:
    with (kddcup / "train_rows_without_features.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][:300]
    texts = [row["query"] for row in rows]
    numbers = numbers_of(texts)
    products = np.array([row["product_id"] for row in rows], np.int64)
    known = KnownPairs(numbers, products)
    table = set(zip(numbers.tolist(), products.tolist(), strict=True))
    false = sum((n, p) in table for n in numbers.tolist() for p in products.tolist()) - len(rows)
    queries = torch.from_numpy(numbers)
    assert count_false_negatives(queries, torch.from_numpy(products), known) == false


def test_a_masking_without_what_it_needs_says_so() -> None:
    with pytest.raises(ValueError, match="masking known: the known pairs are needed"):
        choose_cells(QUERIES, PRODUCTS, masking="known")


def test_known_pairs_refuse_numbers_that_make_no_sense() -> None:
    one = np.array([1])
    with pytest.raises(ValueError, match="products: -1 to -1"):
        KnownPairs(one, np.array([-1]))
    with pytest.raises(ValueError, match="queries: 2147483648"):
        KnownPairs(np.array([2**31]), one)


def test_the_largest_numbers_are_looked_up_too() -> None:
    largest = np.array([2**31 - 1])
    known = KnownPairs(largest, largest)
    assert table_of(known, [0, 2**31 - 1], [2**31 - 1, 0]) == [[False, False], [True, False]]
