"""Are rows read strictly, and is every way to break one told by its reason?"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shopwindow.data import checking, competition
from shopwindow.data.checking import LineCheck, as_float16, check_line
from shopwindow.data.cleaning import RULES
from shopwindow.data.competition import (
    HEADER,
    MalformedRow,
    Product,
    Reason,
    encode_product,
    split_quickly,
    split_row,
)
from tests.data.rows import SIZE, make_line, make_product, replaced

GOOD = make_line(make_product(7, 2))


def read(line: bytes) -> Product:
    """Everything that prepare does to a row before cleaning."""
    product = split_row(line).decode(feature_size=SIZE)
    as_float16(product.features)
    return product


def packed(*values: float, kind: str = "<f4") -> bytes:
    return base64.b64encode(np.array(values, kind).tobytes())


def with_feature(value: float) -> bytes:
    return packed(*[0.5] * 5, value, *[0.5] * (2 * SIZE - 6))


BROKEN = {
    "eight columns": (b"\t".join(GOOD.split(b"\t")[:8]), Reason.COLUMNS, "line"),
    "ten columns": (GOOD.rstrip(b"\n") + b"\t1\n", Reason.COLUMNS, "line"),
    "empty line": (b"\n", Reason.COLUMNS, "line"),
    "product id with a point": (replaced(GOOD, "product_id", b"7.0"), Reason.INTEGER, "product_id"),
    "product id empty": (replaced(GOOD, "product_id", b""), Reason.INTEGER, "product_id"),
    "product id negative": (replaced(GOOD, "product_id", b"-7"), Reason.INTEGER, "product_id"),
    "product id in Arabic digits": (replaced(GOOD, "product_id", b"\xd9\xa7"), Reason.INTEGER, "product_id"),
    "product id above int64": (
        replaced(GOOD, "product_id", b"9223372036854775808"),
        Reason.INTEGER,
        "product_id",
    ),
    "product id endless": (replaced(GOOD, "product_id", b"1" * 10_000), Reason.INTEGER, "product_id"),
    "query id with spaces": (replaced(GOOD, "query_id", b" 12"), Reason.INTEGER, "query_id"),
    "height a word": (replaced(GOOD, "image_h", b"tall"), Reason.INTEGER, "image_h"),
    "width zero": (replaced(GOOD, "image_w", b"0"), Reason.BOX_OUTSIDE, "image_w"),
    "no box": (replaced(GOOD, "num_boxes", b"0"), Reason.NUM_BOXES, "num_boxes"),
    "minus three boxes": (replaced(GOOD, "num_boxes", b"-3"), Reason.NUM_BOXES, "num_boxes"),
    "one box too many": (replaced(GOOD, "num_boxes", b"3"), Reason.BYTE_LENGTH, "boxes"),
    "query empty": (replaced(GOOD, "query", b""), Reason.QUERY_EMPTY, "query"),
    "query of blanks": (replaced(GOOD, "query", b"  "), Reason.QUERY_EMPTY, "query"),
    "query not UTF-8": (replaced(GOOD, "query", b"caf\xe9"), Reason.UTF8, "query"),
    "boxes not base64": (replaced(GOOD, "boxes", b"!" * 44), Reason.BASE64, "boxes"),
    "features cut": (replaced(GOOD, "features", GOOD.split(b"\t")[5][:-3]), Reason.BASE64, "features"),
    "labels with a space": (replaced(GOOD, "class_labels", b"AAAA AAA"), Reason.BASE64, "class_labels"),
    "features of one region": (
        replaced(GOOD, "features", packed(*[0.5] * SIZE)),
        Reason.BYTE_LENGTH,
        "features",
    ),
    "labels as int32": (
        replaced(GOOD, "class_labels", packed(1, 2, kind="<i4")),
        Reason.BYTE_LENGTH,
        "class_labels",
    ),
    "box below the photo": (
        replaced(GOOD, "boxes", packed(0, 0, 100.5, 9, 0, 0, 9, 9)),
        Reason.BOX_OUTSIDE,
        "boxes",
    ),
    "box left of the photo": (
        replaced(GOOD, "boxes", packed(0, 0, 9, 9, 0, -1, 9, 9)),
        Reason.BOX_OUTSIDE,
        "boxes",
    ),
    "box not a number": (
        replaced(GOOD, "boxes", packed(0, 0, np.nan, 9, 0, 0, 9, 9)),
        Reason.BOX_OUTSIDE,
        "boxes",
    ),
    "box as left, top, right, bottom": (
        replaced(GOOD, "boxes", packed(0, 0, 9, 9, 10, 0, 75, 100)),
        Reason.BOX_OUTSIDE,
        "boxes",
    ),
    "box upside down": (
        replaced(GOOD, "boxes", packed(0, 0, 9, 9, 50, 0, 9, 9)),
        Reason.BOX_REVERSED,
        "boxes",
    ),
    "box right to left": (
        replaced(GOOD, "boxes", packed(0, 20, 9, 9, 5, 0, 9, 9)),
        Reason.BOX_REVERSED,
        "boxes",
    ),
    "feature NaN": (replaced(GOOD, "features", with_feature(np.nan)), Reason.FEATURE_NOT_FINITE, "features"),
    "feature infinite": (
        replaced(GOOD, "features", with_feature(-np.inf)),
        Reason.FEATURE_NOT_FINITE,
        "features",
    ),
    "feature beyond float16": (
        replaced(GOOD, "features", with_feature(65520)),
        Reason.FEATURE_NOT_FINITE,
        "features",
    ),
    "label 33": (
        replaced(GOOD, "class_labels", packed(1, 33, kind="<i8")),
        Reason.LABEL_UNKNOWN,
        "class_labels",
    ),
    "label -1": (
        replaced(GOOD, "class_labels", packed(-1, 3, kind="<i8")),
        Reason.LABEL_UNKNOWN,
        "class_labels",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_row_is_told_by_reason_and_field(name: str) -> None:
    line, reason, field = BROKEN[name]
    with pytest.raises(MalformedRow) as caught:
        read(line)
    assert (caught.value.reason, caught.value.field) == (reason, field)
    assert len(caught.value.detail) < 300


def test_every_reason_has_a_broken_row() -> None:
    elsewhere = {Reason.LINE_TOO_LONG, Reason.PRODUCT_CONFLICT, Reason.QUERY_CONFLICT}
    assert {reason for _, reason, _ in BROKEN.values()} | elsewhere == set(Reason)


def test_detail_of_a_row_is_short_however_long_the_field() -> None:
    for field in ("product_id", "image_h", "num_boxes", "query_id"):
        for sign in (b"", b"-"):
            with pytest.raises(MalformedRow) as caught:
                read(replaced(GOOD, field, sign + b"3" * 1_000_000))
            assert len(caught.value.detail) < 300


def test_good_row_comes_back_as_written() -> None:
    product = make_product(7, 2)
    row = split_row(make_line(product, "Café 'n' \"tea\" set", 9))
    assert (row.product_id, row.query, row.query_id) == (7, "Café 'n' \"tea\" set", 9)
    again = row.decode(feature_size=SIZE)
    for name in ("boxes", "features", "labels"):
        np.testing.assert_array_equal(getattr(again, name), getattr(product, name))


def test_box_may_touch_the_border_and_have_no_area() -> None:
    read(replaced(GOOD, "boxes", packed(0, 0, 100, 80, 100, 80, 100, 80)))


SIDES = st.sampled_from([-1.0, -0.0, 0.0, 5.0, 9.0, 9.5, 10.0, 10.5, np.nan, np.inf, -np.inf])


@given(st.lists(st.tuples(SIDES, SIDES, SIDES, SIDES), min_size=1, max_size=5))
def test_boxes_are_accepted_where_each_is_inside_and_upright(boxes: list[tuple[float, ...]]) -> None:
    line = make_line(make_product(7, len(boxes)))
    for field, value in (("image_h", b"10"), ("image_w", b"9")):
        line = replaced(line, field, value)
    line = replaced(line, "boxes", packed(*[side for box in boxes for side in box]))
    wrong = [
        place
        for place, (top, left, bottom, right) in enumerate(boxes)
        if not (0 <= top <= bottom <= 10 and 0 <= left <= right <= 9)
    ]
    if not wrong:
        np.testing.assert_array_equal(read(line).boxes, np.array(boxes, np.float32))
        return
    with pytest.raises(MalformedRow, match=f"boxes: box {wrong[0]} is ") as caught:
        read(line)
    assert caught.value.reason in (Reason.BOX_OUTSIDE, Reason.BOX_REVERSED)


def test_largest_float16_is_accepted() -> None:
    read(replaced(GOOD, "features", with_feature(65504)))


def test_row_may_end_in_a_carriage_return_or_nothing() -> None:
    assert split_row(GOOD[:-1] + b"\r\n") == split_row(GOOD) == split_row(GOOD[:-1])


def test_arrays_of_unequal_length_are_not_encoded() -> None:
    product = make_product(7, 2)
    object.__setattr__(product, "labels", np.zeros(3, np.int64))  # the shapes of a Product are checked here
    with pytest.raises(ValueError, match=r"boxes: 2 rows, features: 2, labels: 3"):
        encode_product(product)


def test_original_strings_of_the_competition_decode_and_encode_back(kddcup: Path) -> None:
    rows = json.loads((kddcup / "golden_base64.json").read_text())
    whole = [
        row for row in rows if row["boxes_b64"] and row["class_labels_b64"]
    ]  # long strings were not kept
    assert len(whole) == 5
    for golden in whole:
        count = golden["num_boxes"]
        features = np.zeros((count, 2048), np.float32)
        first = np.frombuffer(base64.b64decode(golden["features_b64_prefix"]), "<f4")
        features[0, : len(first)] = first
        np.testing.assert_allclose(first, golden["features_first_values"], atol=1e-7)
        values = [
            *(golden[name] for name in HEADER[:4]),
            golden["boxes_b64"],
            base64.b64encode(features.tobytes()).decode(),
            golden["class_labels_b64"],
            golden["query"],
            golden["query_id"],
        ]
        line = "\t".join(map(str, values)).encode()
        row = split_row(line)
        product = row.decode()
        np.testing.assert_array_equal(product.boxes, np.array(golden["boxes"], np.float32))
        assert product.labels.tolist() == golden["class_labels"]
        assert row.query == golden["query"]
        columns = encode_product(product).split("\t")
        assert columns[4] == golden["boxes_b64"]
        assert columns[5].startswith(golden["features_b64_prefix"])
        assert columns[6] == golden["class_labels_b64"]


def test_line_that_is_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(competition, "LONGEST_LINE", len(GOOD) - 1)
    with pytest.raises(MalformedRow) as caught:
        split_row(GOOD)
    assert caught.value.reason is Reason.LINE_TOO_LONG
    assert split_quickly(memoryview(GOOD), SIZE) is None


def told(line: bytes, *, quickly: bool) -> tuple[object, ...]:
    """What becomes of a line: all fields of the row, or what is wrong with it."""
    how = LineCheck(SIZE, 33, RULES)
    with pytest.MonkeyPatch.context() as patch:
        if not quickly:
            patch.setattr(checking, "split_quickly", lambda *_: None)
        row = check_line(memoryview(line), how)
    if isinstance(row, MalformedRow):
        return row.reason, row.field, row.detail
    return tuple(
        (value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value
        for value in vars(row).values()
    )


TABS_HIDDEN = {
    "in features": GOOD.replace(GOOD.split(b"\t")[5][40:41], b"\t", 1),
    "in features, one column less": replaced(
        GOOD, "features", GOOD.split(b"\t")[5][:40] + b"\t" + GOOD.split(b"\t")[5][41:]
    ).replace(b"\tred shoe\t", b"\tred shoe "),
    "in boxes": replaced(GOOD, "boxes", b"\t" + GOOD.split(b"\t")[4][1:]),
    "in labels, at the end": replaced(GOOD, "class_labels", GOOD.split(b"\t")[6][:-1] + b"\t"),
}


@pytest.mark.parametrize("line", [line for line, _, _ in BROKEN.values()] + list(TABS_HIDDEN.values()))
def test_broken_row_is_told_the_same_where_its_tabs_are_not_searched(line: bytes) -> None:
    assert told(line, quickly=True) == told(line, quickly=False)


@given(st.integers(0, len(GOOD) - 2), st.sampled_from([b"", b"\t", b"=", b"\n", b"A"]), st.integers(0, 3))
def test_damaged_row_is_told_the_same_where_its_tabs_are_not_searched(
    place: int, garbage: bytes, removed: int
) -> None:
    line = GOOD[:place] + garbage + GOOD[place + removed :]
    assert told(line, quickly=True) == told(line, quickly=False)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_tabs_of_a_good_row_are_found_without_a_search(end: bytes) -> None:
    line = GOOD[:-1] + end
    assert split_quickly(memoryview(line), SIZE) == split_row(line)


TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\t\n\r"), min_size=1)
IDS = st.integers(0, 2**63 - 1)


@st.composite
def products(draw: st.DrawFn) -> Product:
    height, width = draw(st.integers(1, 5000)), draw(st.integers(1, 5000))
    count = draw(st.integers(1, 5))
    corners = draw(hnp.arrays(np.float32, (count, 2, 2), elements=st.floats(0, 1, width=32)))
    corners = np.sort(corners, axis=1) * np.array([height, width], np.float32)
    features = draw(hnp.arrays(np.float32, (count, SIZE), elements=st.floats(-65504, 65504, width=32)))
    labels = draw(hnp.arrays(np.int64, count, elements=st.integers(0, 32)))
    return Product(draw(IDS), height, width, corners.reshape(count, 4), features, labels)


@given(products(), TEXT.filter(lambda text: bool(text.strip())), IDS)
def test_any_row_comes_back_as_written(product: Product, query: str, query_id: int) -> None:
    line = make_line(product, query, query_id)
    row = split_row(line)
    assert (row.query, row.query_id) == (query, query_id)
    assert encode_product(row.decode(feature_size=SIZE)) == encode_product(product)


@given(st.binary(max_size=400))
def test_random_bytes_are_never_worse_than_malformed(line: bytes) -> None:
    with pytest.raises(MalformedRow):
        read(line)


@given(st.integers(0, len(GOOD) - 2), st.binary(max_size=4), st.integers(0, 40))
def test_damaged_row_is_read_or_malformed(place: int, garbage: bytes, removed: int) -> None:
    try:
        product = read(GOOD[:place] + garbage + GOOD[place + removed :])
    except MalformedRow:
        return
    assert len(product.boxes) == len(product.features) == len(product.labels) >= 1
    assert np.isfinite(product.features).all()
