"""What is typed goes on as titles and known texts do, and mistyped words are met with known ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shopwindow.search.completion import Lexicon, complete
from shopwindow.search.texts import Texts, write_texts

TITLES = ["Oat milk", "Oat milk", "Oat flakes", "Crêpe pan", "Lamp"]
TEXTS = [["milk of oats"], [], ["oat"], [], ["round lamp", "milk"]]


@pytest.fixture
def texts(tmp_path: Path) -> Texts:
    write_texts(tmp_path / "texts.sqlite", TEXTS, TITLES)
    return Texts(tmp_path / "texts.sqlite", np.arange(5))


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("oat", ["Oat milk", "Oat flakes", "milk of oats"]),
        ("OAT mi", ["Oat milk"]),
        ("milk o", ["milk of oats", "Oat milk"]),
        ("crepe", ["Crêpe pan"]),
        ("oat milk", []),
        ("x", []),
        ('" OR lamp*', []),  # operators of the full text are words
        ("!?", []),
    ],
)
def test_texts_that_begin_so_come_first_then_those_of_more_products(
    texts: Texts, typed: str, wanted: list[str]
) -> None:
    assert complete(typed, [(texts, None)], 8) == wanted


def test_products_that_do_not_count_suggest_nothing(texts: Texts) -> None:
    living = np.array([True, True, False, True, False])
    assert complete("oat f", [(texts, None)], 8) == ["Oat flakes"]
    assert complete("oat f", [(texts, living)], 8) == []
    assert complete("oat", [(texts, None)], 1) == ["Oat milk"]


def test_the_vocabulary_counts_products(texts: Texts) -> None:
    known = texts.vocabulary()
    assert (known["oat"], known["milk"], known["crepe"]) == (3, 3, 1)
    assert texts.vocabulary() == known


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("round lanp", "round lamp"),  # changed
        ("rouund lamp", "round lamp"),  # added
        ("rond lamp", "round lamp"),  # left out
        ("roudn lamp", "round lamp"),  # swapped
        ("ROUDN lamp", "round lamp"),
        ("round lamp", None),
        ("roun lamp", "round lamp"),
        ("rou", None),  # too short to say
        ("lamps", None),  # a known word and more
        ("lma", None),
        ("zebra", None),
        ("l4mp", None),
    ],
)
def test_a_word_one_letter_away_from_a_known_one_is_mistyped(typed: str, meant: str | None) -> None:
    assert Lexicon({"round": 2, "lamp": 3}).correct(typed) == meant


def test_of_several_the_word_of_most_products_is_meant() -> None:
    assert Lexicon({"lamp": 3, "lamb": 7}).correct("lamq") == "lamb"
    assert Lexicon({}).correct("lamp") is None
