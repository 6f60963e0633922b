"""What is a row of a competition file, and when is it malformed?

The format of KDD Cup 2020 "Multimodalities Recall": tab-separated, one header line, no quoting, arrays
as base64 of little-endian bytes. Reads strictly, one row at a time, and writes. Knows no cleaning rule
and no dataset: a row that breaks the format is told apart here, what becomes of it is decided above.

Legend of axes: regions = the detected parts of one photo.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from itertools import pairwise
from operator import ge
from typing import Final

import numpy as np
import pybase64
from jaxtyping import Float32, Int64

HEADER: Final = (
    "product_id",
    "image_h",
    "image_w",
    "num_boxes",
    "boxes",
    "features",
    "class_labels",
    "query",
    "query_id",
)
FEATURE_SIZE: Final = 2048
LABEL_COUNT: Final = 33
LONGEST_LINE: Final = 64 * 2**20
"""Bytes. The longest real photo, 91 regions, takes about 1 MB; more than this is not a row."""

_FLOATS: Final = np.dtype("<f4")
_INTEGERS: Final = np.dtype("<i8")
_LARGEST_ID: Final = 2**63 - 1
_LARGEST_SIDE_PX: Final = 2**31 - 1
_LONGEST_NUMBERS: Final = 80
"""Bytes of the first four columns and their tabs: an id of 19 digits and three numbers of 19 at most."""
_TAB: Final = ord("\t")


class Reason(enum.StrEnum):
    """Why a row is malformed. The values are the words of the report and of `rejected.jsonl`."""

    LINE_TOO_LONG = "line too long"
    COLUMNS = "wrong number of columns"
    UTF8 = "not UTF-8"
    INTEGER = "not an integer"
    NUM_BOXES = "num_boxes not positive"
    QUERY_EMPTY = "empty query"
    BASE64 = "bad base64"
    BYTE_LENGTH = "byte length does not fit num_boxes"
    BOX_OUTSIDE = "box outside the photo"
    BOX_REVERSED = "box with bottom < top or right < left"
    FEATURE_NOT_FINITE = "feature not finite"
    LABEL_UNKNOWN = "unknown label"
    PRODUCT_CONFLICT = "product seen before with other content"
    QUERY_CONFLICT = "query id seen before with other text"


class MalformedRow(Exception):  # noqa: N818 - a row, which is what is caught and counted
    """A row that breaks the format: the reason, the column, and what was found there."""

    def __init__(self, reason: Reason, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.reason = reason
        self.field = field
        self.detail = detail


@dataclass(frozen=True)
class Product:
    """One photo: sizes in px, boxes as (top, left, bottom, right) in px of the photo."""

    product_id: int
    image_h: int
    image_w: int
    boxes: Float32[np.ndarray, "regions 4"]
    features: Float32[np.ndarray, "regions features"]
    labels: Int64[np.ndarray, " regions"]


@dataclass(frozen=True)
class Row:
    """One line of a competition file, split but not decoded: the arrays stay base64, views of the line."""

    product_id: int
    image_h: int
    image_w: int
    num_boxes: int
    query: str
    query_id: int
    boxes: memoryview
    features: memoryview
    class_labels: memoryview

    def decode(self, *, feature_size: int = FEATURE_SIZE, label_count: int = LABEL_COUNT) -> Product:
        """The product's arrays.

        Raises: MalformedRow for bad base64, lengths, boxes or labels.
        """
        regions = self.num_boxes
        boxes = _array(self.boxes, "boxes", _FLOATS, (regions, 4))
        features = _array(self.features, "features", _FLOATS, (regions, feature_size))
        labels = _array(self.class_labels, "class_labels", _INTEGERS, (regions,))
        _check_boxes(boxes, self.image_h, self.image_w)
        _check_labels(labels, label_count)
        return Product(self.product_id, self.image_h, self.image_w, boxes, features, labels)


def split_row(line: bytes) -> Row:
    """Checks what can be checked without decoding: columns, integers, box count, query.

    >>> split_row(b"7\\t480\\t640\\t1\\tAA==\\tAA==\\tAA==\\tred shoe\\t12\\n").query
    'red shoe'

    Raises: MalformedRow.
    """
    if len(line) > LONGEST_LINE:
        raise MalformedRow(Reason.LINE_TOO_LONG, "line", f"more than {LONGEST_LINE} bytes")
    text = memoryview(line)
    columns = [text[start + 1 : stop] for start, stop in pairwise([-1, *_tabs(line), len(line)])]
    return _row([bytes(columns[place]) for place in (0, 1, 2, 3, 7, 8)], columns[4:7])


def split_quickly(line: memoryview, feature_size: int) -> Row | None:
    """As `split_row`, where the arrays are as long as the number of boxes says: they are stepped over, not searched.

    None where they are not. Where it gives a row whose arrays decode, `split_row` gives the same; an array in which
    a tab hides does not decode. What it raises, or what does not decode, is for `split_row` to name.

    Raises: MalformedRow.
    """
    if len(line) > LONGEST_LINE:
        return None
    head = bytes(line[:_LONGEST_NUMBERS]).split(b"\t", 4)
    if len(head) != 5 or not head[3].isdigit():
        return None
    count = int(head[3])
    start = min(len(line), _LONGEST_NUMBERS) - len(head[4])
    features = start + _encoded_bytes(4 * _FLOATS.itemsize * count)
    labels = features + 1 + _encoded_bytes(feature_size * _FLOATS.itemsize * count)
    query = labels + 1 + _encoded_bytes(_INTEGERS.itemsize * count)
    if query >= len(line) or not line[features] == line[labels] == line[query] == _TAB:
        return None
    rest = bytes(line[query + 1 :]).split(b"\t")
    if len(rest) != 2:
        return None
    return _row(
        [*head[:4], *rest], [line[start:features], line[features + 1 : labels], line[labels + 1 : query]]
    )


def _row(texts: list[bytes], arrays: list[memoryview]) -> Row:
    """The row of its three numbers, number of boxes, query and query id, and its three arrays."""
    product_id = _integer(texts[0], "product_id", largest=_LARGEST_ID)
    image_h = _integer(texts[1], "image_h", largest=_LARGEST_SIDE_PX)
    image_w = _integer(texts[2], "image_w", largest=_LARGEST_SIDE_PX)
    if image_h == 0 or image_w == 0:
        raise MalformedRow(
            Reason.BOX_OUTSIDE, "image_w" if image_h else "image_h", "0: no box is inside this photo"
        )
    num_boxes = _box_count(texts[3])
    query = _query(texts[4])
    query_id = _integer(texts[5].rstrip(b"\r\n"), "query_id", largest=_LARGEST_ID)
    boxes, features, class_labels = arrays
    return Row(
        product_id,
        image_h,
        image_w,
        num_boxes,
        query,
        query_id,
        boxes,
        features,
        class_labels,
    )


def encode_product(product: Product) -> str:
    """The seven product columns of a row, joined by tabs."""
    count = len(product.boxes)
    if not (count == len(product.features) == len(product.labels)):
        raise ValueError(
            f"boxes: {count} rows, features: {len(product.features)}, labels: {len(product.labels)}"
        )
    return "\t".join(
        [
            str(product.product_id),
            str(product.image_h),
            str(product.image_w),
            str(count),
            _encode(product.boxes.astype("<f4", copy=False)),
            _encode(product.features.astype("<f4", copy=False)),
            _encode(product.labels.astype("<i8", copy=False)),
        ]
    )


def _tabs(line: bytes) -> list[int]:
    """The places of the tabs; found one by one, which is ten times faster here than to count or split."""
    tabs: list[int] = []
    place = line.find(b"\t")
    while place >= 0 and len(tabs) < len(HEADER):
        tabs.append(place)
        place = line.find(b"\t", place + 1)
    if len(tabs) != len(HEADER) - 1:
        columns = line.count(b"\t") + 1
        raise MalformedRow(Reason.COLUMNS, "line", f"{columns} columns, {len(HEADER)} wanted")
    return tabs


def _encoded_bytes(count: int) -> int:
    """How long the base64 of so many bytes is."""
    return (count + 2) // 3 * 4


def _integer(digits: bytes, field: str, *, largest: int) -> int:
    if not digits.isdigit() or len(digits) > 19 or (value := int(digits)) > largest:
        raise MalformedRow(Reason.INTEGER, field, repr(digits[:40].decode("utf-8", "replace")))
    return value


def _box_count(text: bytes) -> int:
    if text.startswith(b"-") and text[1:].isdigit():
        raise MalformedRow(Reason.NUM_BOXES, "num_boxes", text[:40].decode())
    count = _integer(text, "num_boxes", largest=_LARGEST_SIDE_PX)
    if count == 0:
        raise MalformedRow(Reason.NUM_BOXES, "num_boxes", "0")
    return count


def _query(text: bytes) -> str:
    try:
        query = text.decode()
    except UnicodeDecodeError as error:
        raise MalformedRow(Reason.UTF8, "query", f"byte {error.start} of {text[:60]!r}") from error
    if not query.strip():
        raise MalformedRow(Reason.QUERY_EMPTY, "query", repr(query[:60]))
    return query


def _encode(array: np.ndarray) -> str:
    return pybase64.b64encode(np.ascontiguousarray(array).data).decode("ascii")


def _array(text: memoryview, field: str, kind: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    try:
        raw = pybase64.b64decode_as_bytearray(text, validate=True)
    except ValueError as error:
        raise MalformedRow(Reason.BASE64, field, str(error)) from error
    wanted = kind.itemsize * math.prod(shape)
    if len(raw) != wanted:
        raise MalformedRow(Reason.BYTE_LENGTH, field, f"{len(raw)} bytes, {shape[0]} boxes need {wanted}")
    return np.frombuffer(raw, kind).reshape(shape)


def _check_labels(labels: Int64[np.ndarray, " regions"], label_count: int) -> None:
    found = labels.tolist()
    if min(found) < 0 or max(found) >= label_count:
        unknown = next(label for label in found if not 0 <= label < label_count)
        raise MalformedRow(
            Reason.LABEL_UNKNOWN, "class_labels", f"{unknown}, 0 to {label_count - 1} are known"
        )


def _check_boxes(boxes: Float32[np.ndarray, "regions 4"], image_h: int, image_w: int) -> None:
    """All boxes at once, by functions that go through plain numbers in C: of the few boxes that a photo has, numpy's
    take two to six times as long. Only where one is wrong are they looked at one by one."""
    top, left, bottom, right = boxes.T.tolist()
    # First the order of the sides: it is false of NaN, which min and max may pass over.
    if (
        all(map(ge, bottom, top))
        and all(map(ge, right, left))
        and min(top) >= 0
        and min(left) >= 0
        and max(bottom) <= image_h
        and max(right) <= image_w
    ):
        return
    for place, box in enumerate(boxes.tolist()):
        _check_box(place, box, image_h, image_w)


def _check_box(place: int, box: list[float], image_h: int, image_w: int) -> None:
    top, left, bottom, right = box
    if top >= 0 and left >= 0 and bottom <= image_h and right <= image_w:
        if bottom >= top and right >= left:
            return
        reason, photo = Reason.BOX_REVERSED, ""
    else:  # also NaN, for which every comparison is false
        reason, photo = Reason.BOX_OUTSIDE, f", photo {image_h} x {image_w}"
    raise MalformedRow(reason, "boxes", f"box {place} is {box}{photo}")
