"""Spelling, head nouns and wordings of queries, by made-up examples and properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopwindow.data.queries import (
    QUERY_RULES,
    choose_query_rules,
    head_noun,
    normalise,
    numbers_of,
    phrase_words,
    singular,
)

WORDS = st.sampled_from(
    ["red", "silk", "dress", "shoes", "lamp", "with", "for", "of", "20cm", "women's", "t-shirt"]
)


@pytest.mark.parametrize(
    ("rule", "text", "wanted"),
    [
        ("lower", "Red LAMP", "red lamp"),
        ("unaccent", "crème brûlée \uff2c\uff25\uff24", "creme brulee LED"),
        ("unaccent", "が й 한", "が й 한"),
        ("possessive", "women's boys' o'clock", "women boys o'clock"),
        ("punctuation", "anti-slip, 1.5 l (2,000) v!", "anti slip  1.5 l  2,000  v "),
        ("punctuation", "नमस्ते o'clock", "नमस्ते oclock"),
        ("units", "20cm 1.5L 3pcs b12v 20mmx", "20 cm 1.5 L 3 pcs b12v 20mmx"),
        ("plural", "dresses shoes glass batteries", "dress shoe glass battery"),
        ("spaces", "  red \t lamp ", "red lamp"),
    ],
)
def test_each_rule_removes_one_difference(rule: str, text: str, wanted: str) -> None:
    (chosen,) = choose_query_rules([rule])
    assert chosen.apply(text) == wanted


def test_rules_are_applied_in_one_order_however_they_are_named() -> None:
    names = [rule.name for rule in QUERY_RULES]
    assert choose_query_rules(names[::-1]) == QUERY_RULES
    assert choose_query_rules([]) == ()
    with pytest.raises(ValueError, match="no query rule 'stem'; there are: lower, unaccent"):
        choose_query_rules(["stem"])


@pytest.mark.parametrize("text", ["?!", "-", "...", "'", "\u200d"])
def test_a_text_of_which_nothing_would_be_left_stays(text: str) -> None:
    assert normalise(text, QUERY_RULES) == text
    assert head_noun(text) == text


@given(st.text(min_size=1).filter(str.strip))
def test_no_text_becomes_empty(text: str) -> None:
    assert normalise(text, QUERY_RULES).strip()
    assert head_noun(text)


@given(st.lists(WORDS, min_size=1).map(" ".join))
def test_a_normalised_text_is_normal(text: str) -> None:
    once = normalise(text, QUERY_RULES)
    assert normalise(once, QUERY_RULES) == once


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("boxes", "box"),
        ("brushes", "brush"),
        ("watches", "watch"),
        ("vases", "vase"),
        ("buses", "bus"),
        ("knives", "knife"),
        ("gloves", "glove"),
        ("ties", "tie"),
        ("cookies", "cookie"),
        ("potatoes", "potato"),
        ("photos", "photo"),
        ("women", "woman"),
        ("sofas", "sofa"),
        *(
            (word, word)
            for word in ("jeans", "glasses", "canvas", "cactus", "tennis", "wireless", "lens", "gas")
        ),
    ],
)
def test_plurals_become_singulars_and_other_words_stay(plural: str, one: str) -> None:
    assert singular(plural) == one


@pytest.mark.parametrize(
    ("text", "noun"),
    [
        ("lamp", "lamp"),
        ("white wall lamp with shade", "lamp"),
        ("women's red dress 2019 size xl", "dress"),
        ("chest of drawers", "drawer"),
        ("black chest of 3 drawers", "drawer"),
        ("white box set of 3", "box"),
        ("curtains with tie-backs 1 pair", "curtain"),
        ("storage combination w doors", "combination"),
        ("scented candle in glass jar", "candle"),
        ("shoes for women", "shoe"),
        ("for men and women running shoes", "shoe"),
        ("bag for men and women", "bag"),
        ("trimmer for men and women socks", "sock"),
        ("switch in the kitchen lamp", "lamp"),
        ("with thick soles slippers", "slipper"),
        ("lined with fur boots", "boot"),
        ("ladies with bow hair clip", "clip"),
        ("hand and foot cream", "cream"),
        ("plug-in night lamps", "lamp"),
        ("cotton T-Shirts", "t shirt"),
        ("sofa grey", "sofa"),
        ("fresh orange", "orange"),
        ("red", "red"),
        ("xl", "xl"),
        ("500 ml", "ml"),
        ("bottle 500ml", "bottle"),
        ("красная лампа", "лампа"),
        ("红色 连衣裙", "连衣裙"),
    ],
)
def test_the_head_noun_is_the_thing_asked_for(text: str, noun: str) -> None:
    assert head_noun(text) == noun


def test_a_phrase_has_words_unless_it_is_blank() -> None:
    assert phrase_words("Red  Shoes") == ["red", "shoe"]
    assert phrase_words(" ") == []


def test_numbers_count_texts_in_the_order_in_which_they_come() -> None:
    assert numbers_of(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]
    assert numbers_of([]).tolist() == []
