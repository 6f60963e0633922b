"""A condition is read in one way, says clearly what it is not, and holds for the right values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jaxtyping
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopwindow.search.conditions import (
    MOST_CHOICES,
    Condition,
    Kind,
    fit_conditions,
    nearest_words,
    parse_conditions,
    parse_number,
)
from shopwindow.search.hits import Filter

KINDS: dict[str, Kind] = {"price": "number", "colour": "word"}


@pytest.fixture
def types_unchecked() -> Iterator[None]:
    """As outside the tests, where types are not checked at run time."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("text", "column", "relation", "values"),
    [
        ("price<=20", "price", "<=", ("20",)),
        ("price<20", "price", "<", ("20",)),
        ("price > 5", "price", ">", ("5",)),
        (" price >= -1.5e1 ", "price", ">=", ("-1.5e1",)),
        ("colour=red", "colour", "=", ("red",)),
        ("colour = dark red| blue", "colour", "=", ("dark red", "blue")),
        ("colour=红色|'; DROP TABLE x; --", "colour", "=", ("红色", "'; DROP TABLE x; --")),
        ("colour=a=b", "colour", "=", ("a=b",)),
        ("size=38|39.0", "size", "=", ("38", "39.0")),
    ],
)
def test_conditions_are_read(text: str, column: str, relation: str, values: tuple[str, ...]) -> None:
    condition = Condition.parse(text)
    assert (condition.column, condition.relation, condition.values) == (column, relation, values)
    assert Condition.parse(str(condition)) == condition


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "wanted one such as price<=20"),
        ("price", "wanted one such as"),
        ("price<<20", "'<20' is no finite number"),
        ("price==20", "wanted one such as"),
        ("price!=20", "wanted one such as"),
        ("<=20", "wanted one such as"),
        ("2price<=20", "wanted one such as"),
        ("pri-ce<=20", "wanted one such as"),
        ("price) OR (1=1", "wanted one such as"),
        ("x" * 10_000, "…'"),
        ("a" * 41 + "=1", "wanted one such as"),
        ("price<=", "a value is missing"),
        ("colour=", "a value is missing"),
        ("colour=red|", "a value is missing"),
        ("colour=red||blue", "a value is missing"),
        ("price<=cheap", "'cheap' is no finite number"),
        ("price<=nan", "'nan' is no finite number"),
        ("price<=inf", "no finite number"),
        ("price<=1e999", "no finite number"),
        ("price<=" + "9" * 10_000, "no finite number"),
        ("price<=1_000", "no finite number"),
        ("price<=12,50", "no finite number"),
        ("price<=٣", "no finite number"),
        ("colour=\udcff", "no Unicode text"),
        ("price<=0x10", "no finite number"),
        ("price<=1|2", "<= takes one number"),
        ("colour=" + "|".join(map(str, range(MOST_CHOICES + 1))), "at most 100"),
    ],
)
def test_what_is_no_condition_is_told(text: str, says: str) -> None:
    with pytest.raises(ValueError, match="condition") as told:
        Condition.parse(text)
    assert says in str(told.value)
    assert len(str(told.value)) < 200


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("weight<=2", "no column weight; there are price (numbers), colour (words), image_h (numbers)"),
        ("Prize<=2", "no column Prize"),
        ("price=cheap", "'cheap' is no finite number"),
        ("price=<20", "'<20' is no finite number; did you mean 'price<=20'?"),
        ("price=1|red", "'red' is no finite number"),
        ("colour<=2", "colour holds words, ask with colour=WORD"),
        ("image_h=tall", "'tall' is no finite number"),
    ],
)
def test_a_condition_must_fit_its_column(text: str, says: str) -> None:
    with pytest.raises(ValueError, match="condition") as told:
        fit_conditions([Condition.parse(text)], KINDS)
    assert says in str(told.value)


def test_fitting_conditions_pass_the_check_and_equal_ones_are_one() -> None:
    conditions = parse_conditions(["price<=2", "colour=red", " price<=2", "image_h>=10"])
    assert len(conditions) == 3
    assert fit_conditions(conditions, KINDS) == conditions


def test_names_of_columns_match_in_any_case_and_the_exact_case_wins() -> None:
    asked = parse_conditions(["PRICE<2", "Colour=red", "IMAGE_H>10"])
    assert [str(one) for one in fit_conditions(asked, KINDS)] == ["price<2", "colour=red", "image_h>10"]
    both = fit_conditions(parse_conditions(["Price<2"]), {"price": "word", "Price": "number"})
    assert both[0].column == "Price"


@given(
    st.lists(st.one_of(st.none(), st.just(-0.0), st.integers(-3, 3).map(float)), max_size=20),
    st.integers(-4, 4),
)
def test_conditions_hold_as_a_loop_says(numbers: list[float | None], bound: int) -> None:
    values = pa.array(numbers, pa.float64())
    for text, true in (
        (f"x<={bound}", [one is not None and one <= bound for one in numbers]),
        (f"x>={bound}", [one is not None and one >= bound for one in numbers]),
        (f"x<{bound}", [one is not None and one < bound for one in numbers]),
        (f"x>{bound}", [one is not None and one > bound for one in numbers]),
        (f"x={bound}|2", [one in (bound, 2) for one in numbers]),
    ):
        assert Condition.parse(text).holds(values).tolist() == true


@pytest.mark.parametrize(
    ("column", "relation", "values", "says"),
    [
        ("price", "<<", ("20",), "'<<' is none of <=, >=, <, >, ="),
        ("price", "!=", ("20",), "'!=' is none of"),
        ("price", "<=", ("1", "2"), "<= takes one number"),
        ("price", ">=", ("cheap",), "'cheap' is no finite number"),
        ("price", "=", (), "wanted a tuple of values"),
        ("colour", "=", "red", "wanted a tuple of values"),
    ],
)
def test_a_condition_built_by_hand_is_checked_too(
    types_unchecked: None, column: str, relation: Any, values: Any, says: str
) -> None:
    with pytest.raises(ValueError, match="condition") as told:
        Condition(column, relation, values)
    assert says in str(told.value)


def test_letters_with_marks_are_composed() -> None:
    composed, parted = "caf\u00e9", "cafe\u0301"
    assert Condition.parse(f"colour={parted}") == Condition.parse(f"colour={composed}")
    assert Condition("colour", "=", (parted,)).values == (composed,)


def test_a_filter_takes_any_set_and_sequence() -> None:
    condition = Condition.parse("price<=2")
    where = Filter(labels={1, 2}, conditions=[condition])
    assert where == Filter(frozenset({2, 1}), (condition,))
    assert hash(where) == hash(Filter(frozenset({1, 2}), (condition,)))
    assert not Filter(labels=set(), conditions=[])


def test_the_words_written_most_like_one_come_first() -> None:
    words = ["dark red", "rot", "red", "blue", "green", "Red"]
    assert nearest_words(["RED"], words) == ["Red", "red", "dark red", "green", "rot"]
    assert nearest_words(["BLUE", "grn"], words, 2) == ["blue", "green"]
    assert nearest_words(["x"], []) == []


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_is_read_back(number: float) -> None:
    assert parse_number(repr(number)) == number
