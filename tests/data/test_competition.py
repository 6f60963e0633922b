"""Are rows read strictly, and is every way to break one told by its reason?"""

from __future__ import annotations

import base64
import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shopwindow.data import competition
from shopwindow.data.competition import (
    HEADER,
    MalformedRow,
    Reason,
    Row,
    columns_of,
    format_row,
    parse_row,
)
from shopwindow.data.float16 import by_bits, by_torch, round_to_float16
from shopwindow.data.regions import Regions
from tests.data.rows import SIZE, make_line, make_product, replaced

GOOD = make_line(make_product(7, 2))


def read(line: bytes) -> Row:
    """Everything that prepare does to a row before cleaning."""
    row = parse_row(line, SIZE)
    row.rounded()
    return row


def packed(*values: float, kind: str = "<f4") -> bytes:
    return base64.b64encode(np.array(values, kind).tobytes())


def with_feature(value: float) -> bytes:
    return packed(*[0.5] * 5, value, *[0.5] * (2 * SIZE - 6))


BROKEN = {
    "eight columns": (b"\t".join(GOOD.split(b"\t")[:8]), Reason.COLUMNS, "line"),
    "ten columns": (GOOD.rstrip(b"\n") + b"\t1\n", Reason.COLUMNS, "line"),
    "empty line": (b"\n", Reason.COLUMNS, "line"),
    "product id empty": (replaced(GOOD, "product_id", b""), Reason.ID, "product_id"),
    "product id of blanks": (replaced(GOOD, "product_id", b"  "), Reason.ID, "product_id"),
    "product id endless": (replaced(GOOD, "product_id", b"1" * 10_000), Reason.ID, "product_id"),
    "product id not UTF-8": (replaced(GOOD, "product_id", b"caf\xe9"), Reason.UTF8, "product_id"),
    "query id of 257 letters": (replaced(GOOD, "query_id", b"a" * 257), Reason.ID, "query_id"),
    "query id with a NUL": (replaced(GOOD, "query_id", b"a\0"), Reason.ID, "query_id"),
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
    "label too large": (
        replaced(GOOD, "class_labels", packed(1, 2**16, kind="<i8")),
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
    for field in ("product_id", "image_h", "num_boxes", "query_id", "class_labels"):
        for sign in (b"", b"-"):
            with pytest.raises(MalformedRow) as caught:
                read(replaced(GOOD, field, sign + b"3" * 1_000_000))
            assert len(caught.value.detail) < 300


def test_good_row_comes_back_as_written() -> None:
    product = make_product(7, 2)
    row = parse_row(make_line(product, "Café 'n' \"tea\" set", 9))
    assert (row.product_id, row.query, row.query_id) == (7, "Café 'n' \"tea\" set", 9)
    assert row.size == product.size
    for name in ("boxes", "features", "labels"):
        np.testing.assert_array_equal(getattr(row, name), getattr(product, name))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("7", 7),
        ("0", 0),
        ("007", "007"),
        ("+7", "+7"),
        ("-7", "-7"),
        ("7.0", "7.0"),
        (" 12 ", 12),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", "9223372036854775808"),
        ("\u0667", "\u0667"),
        ("SKU-0042", "SKU-0042"),
        ("rouge à lèvres 3", "rouge à lèvres 3"),
        ("é" * 256, "é" * 256),
    ],
)
def test_ids_are_any_text_and_plain_integers_are_integers(text: str, wanted: int | str) -> None:
    row = parse_row(replaced(replaced(GOOD, "product_id", text.encode()), "query_id", text.encode()))
    assert (row.product_id, row.query_id) == (wanted, wanted)


def test_number_of_values_comes_from_the_line_where_none_is_given() -> None:
    assert parse_row(make_line(make_product(7, 3, size=5))).features.shape == (3, 5)
    uneven = replaced(GOOD, "features", packed(*[0.5] * (2 * SIZE + 1)))
    with pytest.raises(MalformedRow, match=f"features: {8 * SIZE + 4} bytes, 2 boxes need 8"):
        parse_row(uneven)


def test_negative_features_and_any_labels_are_legal() -> None:
    row = read(
        replaced(replaced(GOOD, "features", with_feature(-3.5)), "class_labels", packed(1599, 0, kind="<i8"))
    )
    assert row.features.min() == -3.5
    assert row.labels.tolist() == [1599, 0]


def test_rows_are_joined_to_columns_of_one_photo_each() -> None:
    rows = [make_product(1, 2), make_product(2, 1)]
    columns = columns_of(rows)
    assert set(columns) == {field.name for field in fields(Regions)} - {"titles"}
    assert columns["counts"].tolist() == [2, 1]
    assert columns["photos"].tolist() == [0, 0, 0]
    assert columns["photo_sizes"].tolist() == [[100, 80]] * 3
    np.testing.assert_array_equal(columns["features"], np.concatenate([row.features for row in rows]))
    np.testing.assert_array_equal(columns["boxes"], np.concatenate([row.boxes for row in rows]))


def test_rounding_is_that_of_numpy_to_the_bit() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    exact = np.sort(every[np.isfinite(every)]).astype(np.float32)
    halfway = (exact[:-1] + exact[1:]) / 2
    values = np.concatenate(
        [
            exact,
            halfway,
            np.nextafter(halfway, np.float32(np.inf)),
            np.nextafter(halfway, np.float32(-np.inf)),
        ]
    )
    more = np.concatenate([values, np.array([np.inf, -np.inf, np.nan, 65520, -1e30, 1e-40], np.float32)])
    with np.errstate(over="ignore"):
        wanted = more.astype(np.float16)
    kept = more.copy()
    for rounded in (by_bits(more), by_torch(more), round_to_float16(more)):
        number = ~np.isnan(wanted)
        np.testing.assert_array_equal(rounded.view(np.uint16)[number], wanted.view(np.uint16)[number])
        np.testing.assert_array_equal(np.isfinite(rounded), np.isfinite(wanted))
    np.testing.assert_array_equal(more, kept)


def test_digest_names_the_product_and_not_the_query() -> None:
    row = make_product(7, 2).rounded()
    assert row.digest() == replace(row, query="other", query_id=5).digest()
    others = [
        replace(row, product_id=8),
        replace(row, size=(80, 100)),
        replace(row, boxes=row.boxes[::-1].copy()),
        replace(row, labels=row.labels + 1),
        replace(row, features=row.features + np.float16(1)),
    ]
    assert len({row.digest(), *(other.digest() for other in others)}) == 6


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
    rows = [parse_row(line) for line in (GOOD, GOOD[:-1] + b"\r\n", GOOD[:-1])]
    assert len({format_row(row) for row in rows}) == 1


def test_arrays_of_unequal_length_are_not_encoded() -> None:
    product = make_product(7, 2)
    object.__setattr__(product, "labels", np.zeros(3, np.int64))  # the shapes of a Row are checked here
    with pytest.raises(ValueError, match=r"boxes: 2 rows, features: 2, labels: 3"):
        format_row(product)


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
        row = parse_row(line, 2048)
        np.testing.assert_array_equal(row.boxes, np.array(golden["boxes"], np.float32))
        assert row.labels.tolist() == golden["class_labels"]
        assert row.query == golden["query"]
        columns = format_row(row).split("\t")
        assert columns[4] == golden["boxes_b64"]
        assert columns[5].startswith(golden["features_b64_prefix"])
        assert columns[6] == golden["class_labels_b64"]


def test_line_that_is_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(competition, "LONGEST_LINE", len(GOOD) - 1)
    with pytest.raises(MalformedRow) as caught:
        parse_row(GOOD)
    assert caught.value.reason is Reason.LINE_TOO_LONG


TABS_HIDDEN = {
    "in features": GOOD.replace(GOOD.split(b"\t")[5][40:41], b"\t", 1),
    "in boxes": replaced(GOOD, "boxes", b"\t" + GOOD.split(b"\t")[4][1:]),
    "in labels, at the end": replaced(GOOD, "class_labels", GOOD.split(b"\t")[6][:-1] + b"\t"),
}


@pytest.mark.parametrize("line", TABS_HIDDEN.values(), ids=TABS_HIDDEN)
def test_a_tab_within_an_array_is_one_column_more(line: bytes) -> None:
    with pytest.raises(MalformedRow) as caught:
        read(line)
    assert caught.value.reason is Reason.COLUMNS


TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\t\n\r"), min_size=1)
IDS = st.integers(0, 2**63 - 1) | st.text("aé7-_ 0", min_size=1, max_size=256).map(str.strip).filter(
    lambda text: bool(text) and not text.isdigit()
)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    height, width = draw(st.integers(1, 5000)), draw(st.integers(1, 5000))
    count = draw(st.integers(1, 5))
    corners = draw(hnp.arrays(np.float32, (count, 2, 2), elements=st.floats(0, 1, width=32)))
    corners = np.sort(corners, axis=1) * np.array([height, width], np.float32)
    features = draw(hnp.arrays(np.float32, (count, SIZE), elements=st.floats(-65504, 65504, width=32)))
    labels = draw(hnp.arrays(np.int64, count, elements=st.integers(0, 32)))
    query = draw(TEXT.filter(lambda text: bool(text.strip())))
    return Row(draw(IDS), draw(IDS), query, (height, width), corners.reshape(count, 4), features, labels)


@given(rows())
def test_any_row_comes_back_as_written(row: Row) -> None:
    again = parse_row(f"{format_row(row)}\n".encode(), SIZE)
    assert (again.product_id, again.query, again.query_id) == (row.product_id, row.query, row.query_id)
    assert format_row(again) == format_row(row)


@given(st.binary(max_size=400))
def test_random_bytes_are_never_worse_than_malformed(line: bytes) -> None:
    with pytest.raises(MalformedRow):
        read(line)


@given(st.integers(0, len(GOOD) - 2), st.binary(max_size=4), st.integers(0, 40))
def test_damaged_row_is_read_or_malformed(place: int, garbage: bytes, removed: int) -> None:
    try:
        row = read(GOOD[:place] + garbage + GOOD[place + removed :])
    except MalformedRow:
        return
    assert len(row.boxes) == len(row.features) == len(row.labels) >= 1
    assert np.isfinite(row.features).all()
