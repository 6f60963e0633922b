"""What is a row of a competition file, and when is it malformed?

The format of KDD Cup 2020 "Multimodalities Recall": tab-separated, one header line, no quoting, arrays as base64 of
little-endian bytes. Reads strictly, one row at a time, and writes. Knows no cleaning rule and no dataset: what becomes
of a malformed row is decided above.

Legend of axes: regions = the detected parts of one photo.
"""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
import pybase64
from jaxtyping import Float16, Float32, Int64

from shopwindow.data.float16 import FLOAT16_END, all_finite, round_to_float16
from shopwindow.ids import id_from_text

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
LONGEST_LINE: Final = 64 * 2**20
"""Bytes. The longest real photo, 91 regions, takes about 1 MB; more than this is not a row."""
MOST_LABELS: Final = 2**16
"""Labels are numbers below this. The competition's detector has 33; a model keeps a row for each up to the largest."""

_FLOATS: Final = np.dtype("<f4")
_INTEGERS: Final = np.dtype("<i8")
_LARGEST_SIDE_PX: Final = 2**31 - 1
_DIGEST_BYTES: Final = 20


class Reason(enum.StrEnum):
    """Why a row is malformed. The values are the words of the report and of `rejected.jsonl`."""

    LINE_TOO_LONG = "line too long"
    COLUMNS = "wrong number of columns"
    UTF8 = "not UTF-8"
    ID = "not an id"
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
    """A row that breaks the format: the reason, the column, and what stands there."""

    def __init__(self, reason: Reason, field: str, detail: str) -> None:
        super().__init__(reason, field, detail)
        self.reason = reason
        self.field = field
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.field}: {self.detail}"


@dataclass(frozen=True)
class Row:
    """One line of a competition file: a photo of a product and a query that it answers.

    The photo is `size` (height, width) px large; its boxes are (top, left, bottom, right) in px. Plain arrays, because
    there are millions; a dataset gives them as the `Regions` that everything else reads.
    """

    product_id: int | str
    query_id: int | str
    query: str
    size: tuple[int, int]
    boxes: Float32[np.ndarray, "regions 4"]
    features: Float32[np.ndarray, "regions values"] | Float16[np.ndarray, "regions values"]
    labels: Int64[np.ndarray, " regions"]

    def rounded(self) -> Row:
        """The row with its features in float16, to the nearest, ties to even.

        Raises: MalformedRow for a value that is NaN, infinite, or too large for float16.
        """
        rounded = round_to_float16(self.features)
        if not all_finite(rounded):
            # Written so that NaN, for which every comparison is false, counts too.
            region, place = np.argwhere(~(np.abs(self.features) < FLOAT16_END))[0]
            raise MalformedRow(
                Reason.FEATURE_NOT_FINITE,
                "features",
                f"value {place} of region {region} is {self.features[region, place]} (float16 ends at 65504)",
            )
        return replace(self, features=rounded)

    def digest(self) -> bytes:
        """Names the product and its photo, but not the query: equal for equal content."""
        content = hashlib.sha256(
            f"{self.product_id}\t{self.size}".encode() + self.boxes.tobytes() + self.labels.tobytes()
        )
        content.update(self.features.data)
        return content.digest()[:_DIGEST_BYTES]


def parse_row(line: bytes, feature_size: int | None = None) -> Row:
    """The row of a line; every value of it is checked but whether features are finite (`Row.rounded`).

    A feature has `feature_size` values, or as many as this line's has where none is given.

    >>> parse_row(b"7\\t480\\t640\\t1\\tAA==\\tAA==\\tAA==\\tred shoe\\t12\\n")
    Traceback (most recent call last):
    shopwindow.data.competition.MalformedRow: boxes: 1 bytes, 1 boxes need 16

    Raises: MalformedRow.
    """
    columns = _columns(line)
    product_id = _id(bytes(columns[0]), "product_id")
    size = _side(bytes(columns[1]), "image_h"), _side(bytes(columns[2]), "image_w")
    count = _box_count(bytes(columns[3]))
    query = _query(bytes(columns[7]))
    query_id = _id(bytes(columns[8]).rstrip(b"\r\n"), "query_id")
    boxes = _array(columns[4], "boxes", _FLOATS, (count, 4))
    features = _array(columns[5], "features", _FLOATS, (count, feature_size or -1))
    labels = _array(columns[6], "class_labels", _INTEGERS, (count,))
    _check_boxes(boxes, *size)
    _check_labels(labels)
    return Row(product_id, query_id, query, size, boxes, features, labels)


def columns_of(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """The fields of `Regions` but titles, as plain arrays: the photos of some rows (at least one), a product each."""
    counts = np.array([len(row.labels) for row in rows])
    return {
        "counts": counts,
        "features": np.concatenate([row.features for row in rows]),
        "boxes": np.concatenate([row.boxes for row in rows]),
        "photo_sizes": np.repeat([row.size for row in rows], counts, axis=0),
        "labels": np.concatenate([row.labels for row in rows]),
        "photos": np.zeros(counts.sum(), np.int64),
    }


def format_photo(row: Row) -> str:
    """The seven columns of a row's photo, joined by tabs: all but the query and its id.

    Raises: ValueError where the row has more boxes than features or labels, or fewer.
    """
    count = len(row.boxes)
    if not (count == len(row.features) == len(row.labels)):
        raise ValueError(f"boxes: {count} rows, features: {len(row.features)}, labels: {len(row.labels)}")
    arrays = (
        row.boxes.astype(_FLOATS, copy=False),
        row.features.astype(_FLOATS, copy=False),
        row.labels.astype(_INTEGERS, copy=False),
    )
    encoded = (pybase64.b64encode(np.ascontiguousarray(array).data).decode("ascii") for array in arrays)
    return "\t".join([str(row.product_id), *map(str, row.size), str(count), *encoded])


def format_row(row: Row) -> str:
    """The line of a row, without its end.

    Raises: ValueError as `format_photo`.
    """
    return f"{format_photo(row)}\t{row.query}\t{row.query_id}"


def _columns(line: bytes) -> list[memoryview]:
    """The nine columns, views of the line: of 76 KB every copy costs as much as a step of the work."""
    if len(line) > LONGEST_LINE:
        raise MalformedRow(Reason.LINE_TOO_LONG, "line", f"more than {LONGEST_LINE} bytes")
    tabs = [-1]
    # Found one by one: to split takes thirty times as long.
    while (tab := line.find(b"\t", tabs[-1] + 1)) >= 0 and len(tabs) <= len(HEADER):
        tabs.append(tab)
    if len(tabs) != len(HEADER):
        count = line.count(b"\t") + 1
        raise MalformedRow(Reason.COLUMNS, "line", f"{count} columns, {len(HEADER)} wanted")
    view = memoryview(line)
    return [view[tab + 1 : end] for tab, end in pairwise([*tabs, len(line)])]


def _id(text: bytes, field: str) -> int | str:
    try:
        return id_from_text(text.decode())
    except UnicodeDecodeError as error:
        raise MalformedRow(Reason.UTF8, field, f"byte {error.start} of {text[:60]!r}") from error
    except ValueError as error:
        raise MalformedRow(Reason.ID, field, str(error)) from error


def _side(digits: bytes, field: str) -> int:
    side = _integer(digits, field)
    if side == 0:
        raise MalformedRow(Reason.BOX_OUTSIDE, field, "0: no box is inside this photo")
    return side


def _integer(digits: bytes, field: str) -> int:
    if not digits.isdigit() or len(digits) > 19 or (value := int(digits)) > _LARGEST_SIDE_PX:
        raise MalformedRow(Reason.INTEGER, field, repr(digits[:40].decode("utf-8", "replace")))
    return value


def _box_count(text: bytes) -> int:
    if text.startswith(b"-") and text[1:].isdigit():
        raise MalformedRow(Reason.NUM_BOXES, "num_boxes", text[:40].decode())
    count = _integer(text, "num_boxes")
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


def _array(text: memoryview, field: str, kind: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """The values of a column; of a shape that ends in -1 the last axis is as long as they fill."""
    try:
        raw = pybase64.b64decode_as_bytearray(text, validate=True)
    except ValueError as error:
        raise MalformedRow(Reason.BASE64, field, str(error)) from error
    wanted = kind.itemsize * abs(math.prod(shape))
    if len(raw) % wanted or not raw or (shape[-1] >= 0 and len(raw) != wanted):
        raise MalformedRow(Reason.BYTE_LENGTH, field, f"{len(raw)} bytes, {shape[0]} boxes need {wanted}")
    return np.frombuffer(raw, kind).reshape(shape)


def _check_labels(labels: Int64[np.ndarray, " regions"]) -> None:
    for label in labels.tolist():
        if not 0 <= label < MOST_LABELS:
            raise MalformedRow(
                Reason.LABEL_UNKNOWN, "class_labels", f"{label}, from 0 to {MOST_LABELS - 1} are wanted"
            )


def _check_boxes(boxes: Float32[np.ndarray, "regions 4"], height: int, width: int) -> None:
    for place, (top, left, bottom, right) in enumerate(boxes.tolist()):
        if 0 <= top <= bottom <= height and 0 <= left <= right <= width:
            continue
        # Also NaN, for which every comparison is false.
        inside = top >= 0 and left >= 0 and bottom <= height and right <= width
        reason, photo = (
            (Reason.BOX_REVERSED, "") if inside else (Reason.BOX_OUTSIDE, f", photo {height} x {width}")
        )
        raise MalformedRow(reason, "boxes", f"box {place} is {[top, left, bottom, right]}{photo}")
