"""Full text with a filter finds what reading every match and then filtering finds."""

from __future__ import annotations

import itertools
import sqlite3
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shopwindow.search.conditions import parse_conditions
from shopwindow.search.hits import Filter
from shopwindow.search.index import OpenIndex
from shopwindow.search.lookup import find_by_texts
from shopwindow.search.texts import Texts, scores_together, write_texts
from tests.search.conftest import give_columns

Passes = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 5,000 products, all red; the shorter texts, which rank first, are those of the smaller ids."""
    path = tmp_path_factory.mktemp("texts") / "texts.sqlite"
    write_texts(path, (["red " + "thing " * (one // 100)] for one in range(5000)))
    return path


def read_all(path: Path, word: str) -> list[tuple[int, float]]:
    """Every match, best first, as a query without a limit says."""
    base = sqlite3.connect(path)
    rows = base.execute("SELECT rowid, -bm25(product) FROM product WHERE product MATCH ?", (word,)).fetchall()
    base.close()
    return sorted(rows, key=lambda row: (-row[1], row[0]))


@pytest.mark.parametrize(
    "passes",
    [
        lambda ids: np.full(len(ids), True),
        lambda ids: ids >= 4000,
        lambda ids: ids % 1900 == 1,
        lambda ids: np.full(len(ids), False),
    ],
)
@pytest.mark.parametrize("limit", [1, 100, 1500])
def test_the_first_that_pass_are_those_of_all_matches(path: Path, passes: Passes, limit: int) -> None:
    every = read_all(path, "red")
    assert len(every) == 5000
    wanted = [one for one in every if passes(np.array([one[0]]))[0]][:limit]
    assert Texts(path, np.arange(5000)).find("red", limit, passes(np.arange(5000))) == wanted


def test_no_more_is_read_than_it_takes(path: Path) -> None:
    asked: list[int] = []

    class Mask(np.ndarray):
        def __getitem__(self, rows: Any) -> Any:
            asked.append(len(rows))
            return super().__getitem__(rows)

    Texts(path, np.arange(5000)).find("red", 10, np.full(5000, True).view(Mask))
    assert asked == [1000]


def test_ids_may_be_text_and_ties_stand_by_it(tmp_path: Path) -> None:
    rising = np.array(["007", "SKU-1", "SKU-2", "b"])
    write_texts(tmp_path / "texts.sqlite", [["red shoe"], [], ["red shoe"], ["red", "bag"]])
    texts = Texts(tmp_path / "texts.sqlite", rising)
    found = texts.find("shoe", 10)
    assert [product for product, _ in found] == ["007", "SKU-2"]
    assert texts.ids().tolist() == ["007", "SKU-2", "b"]
    assert [texts.of(one) for one in rising.tolist()] == [("red shoe",), (), ("red shoe",), ("red", "bag")]


def test_deep_matches_of_a_rare_value_are_found_by_text(own_index: Path) -> None:
    give_columns(own_index, "product_id,price", "3,1", "250,1", "299,1")
    (segment,) = (own_index / "segments").iterdir()
    (segment / "texts.sqlite").unlink()
    write_texts(segment / "texts.sqlite", (["red" + " a" * (one % 7)] for one in range(300)))
    index = OpenIndex.open(own_index)
    where = Filter(conditions=parse_conditions(["price=1"]))
    ranked = [one for one, _ in read_all(segment / "texts.sqlite", "red") if one in (3, 250, 299)]
    assert find_by_texts(index.parts, "red", 100, where).ids.tolist() == ranked
    assert find_by_texts(index.parts, "red", 2, where).ids.tolist() == ranked[:2]
    nothing = Filter(conditions=parse_conditions(["price=2"]))
    assert find_by_texts(index.parts, "red", 2, nothing).ids.tolist() == []


SCRIPTS = {
    "Latin": ("crêpe", "Ångström"),
    "Vietnamese": ("áo dài đẹp", "đẹp"),
    "Greek": ("Κόκκινο φόρεμα", "φόρεμα"),
    "Cyrillic": ("синий пуловер", "Синий"),
    "Hebrew": ("נַעַל אדומה", "נַעַל"),
    "Arabic": ("حِذَاء أحمر", "حِذَاء"),
    "Devanagari": ("लाल साड़ी", "साड़ी"),
    "Bengali": ("লাল শাড়ি", "শাড়ি"),
    "Tamil": ("சிவப்பு சேலை", "சேலை"),
    "Telugu": ("ఎరుపు చీర", "చీర"),
    "Thai": ("กระเป๋า แดง", "กระเป๋า"),
    "Burmese": ("အနီရောင် အင်္ကျီ", "အင်္ကျီ"),
    "Hangul": ("빨간 가방", "가방"),
    "Japanese": ("パーティー ドレス", "ドレス"),
    "Chinese": ("红色 手提包", "手提包"),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_words_of_every_script_are_found_composed_and_decomposed(tmp_path: Path, script: str) -> None:
    text, word = SCRIPTS[script]
    text = text if word in text or word.lower() in text else f"{text} {word}"
    for stored in ("NFC", "NFD"):
        path = tmp_path / f"{stored}.sqlite"
        write_texts(path, [[unicodedata.normalize(stored, text)], [word[0]]])
        texts = Texts(path, np.array([5, 6]))
        for asked in ("NFC", "NFD"):
            assert [product for product, _ in texts.find(unicodedata.normalize(asked, word), 9)][:1] == [5]
        assert texts.of(5) == (unicodedata.normalize("NFC", text),)


def test_a_word_is_not_cut_at_its_marks(tmp_path: Path) -> None:
    write_texts(tmp_path / "t.sqlite", [["साड़ी"], ["स"]])
    texts = Texts(tmp_path / "t.sqlite", np.array([1, 2]))
    assert [product for product, _ in texts.find("साड़ी", 9)] == [1]
    assert [product for product, _ in texts.find("स", 9)] == [2]


def test_segments_together_score_as_one_segment_to_the_last_bit(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    words = np.array(["red", "blue", "bag", "shoe", "dress", "lamp", "a_b", "crêpe", "x", "y", "z", "the"])
    shares = np.arange(1, len(words) + 1) / np.arange(1, len(words) + 1).sum()
    texts = [[" ".join(chance.choice(words, chance.integers(1, 200), p=shares))] for _ in range(600)]
    texts[10:20] = [[] for _ in range(10)]
    titles = [" ".join(chance.choice(words, chance.integers(0, 9))) for _ in range(600)]
    living = chance.random(600) < 0.7
    alive = [one if lives else [] for one, lives in zip(texts, living, strict=True)]
    write_texts(tmp_path / "whole", alive, np.where(living, titles, "").tolist())
    whole = Texts(tmp_path / "whole", np.arange(600))
    bounds = [0, 7, 300, 600]
    pieces = []
    for start, end in itertools.pairwise(bounds):
        write_texts(tmp_path / str(start), texts[start:end], titles[start:end])
        pieces.append(Texts(tmp_path / str(start), np.arange(start, end)))
    masks = [living[start:end] for start, end in itertools.pairwise(bounds)]
    for asked in ("red", "the red lamp", "a_b crepe x", "nothing", "Red red the the", "z y x lamp dress"):
        together = np.concatenate(scores_together(pieces, masks, asked)) * living
        expected = np.zeros(600)
        for product, score in whole.find(asked, 600):
            expected[int(product)] = score
        assert together.tolist() == expected.tolist()
