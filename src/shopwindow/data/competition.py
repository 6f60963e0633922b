"""What is a row of a competition file, and when is it malformed?

The format of KDD Cup 2020 "Multimodalities Recall": tab-separated, one header line, no quoting, arrays
as base64 of little-endian bytes. Reads strictly, one row at a time, and writes. Knows no cleaning rule
and no dataset: a row that breaks the format is told apart here, what becomes of it is decided above.

Legend of axes: regions = the detected parts of one photo.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
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

_LARGEST_ID: Final = 2**63 - 1
_LARGEST_SIDE_PX: Final = 2**31 - 1


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
    """One line of a competition file, split but not decoded: the product's columns stay bytes.

    A product comes back in many rows; its 76 KB of base64 are decoded only when it is new.
    """

    product_id: int
    query_id: int
    query: str
    product_columns: tuple[bytes, ...]

    def decode(self, *, feature_size: int = FEATURE_SIZE, label_count: int = LABEL_COUNT) -> Product:
        """The product's arrays (features as float32, views of the decoded bytes).

        Raises: MalformedRow for bad base64, lengths, boxes, labels, or features that are not finite.
        """
        return _decode_product(self.product_columns, feature_size=feature_size, label_count=label_count)


def split_row(line: bytes) -> Row:
    """Checks what can be checked without decoding: columns, integers, box count, query.

    >>> split_row(b"7\\t480\\t640\\t1\\tAA==\\tAA==\\tAA==\\tred shoe\\t12\\n").query
    'red shoe'

    Raises: MalformedRow.
    """
    if len(line) > LONGEST_LINE:
        raise MalformedRow(Reason.LINE_TOO_LONG, "line", f"more than {LONGEST_LINE} bytes")
    columns = line.rstrip(b"\r\n").split(b"\t")
    if len(columns) != len(HEADER):
        raise MalformedRow(Reason.COLUMNS, "line", f"{len(columns)} columns, {len(HEADER)} wanted")
    product_id = _integer(columns[0], "product_id", largest=_LARGEST_ID)
    for column, field in ((columns[1], "image_h"), (columns[2], "image_w")):
        if _integer(column, field, largest=_LARGEST_SIDE_PX) == 0:
            raise MalformedRow(Reason.BOX_OUTSIDE, field, "photo without a side")
    if columns[3].startswith(b"-") and columns[3][1:].isdigit():
        raise MalformedRow(Reason.NUM_BOXES, "num_boxes", columns[3][:40].decode())
    if _integer(columns[3], "num_boxes", largest=_LARGEST_SIDE_PX) == 0:
        raise MalformedRow(Reason.NUM_BOXES, "num_boxes", "0")
    try:
        query = columns[7].decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedRow(Reason.UTF8, "query", f"byte {error.start} of {columns[7][:60]!r}") from error
    if not query.strip():
        raise MalformedRow(Reason.QUERY_EMPTY, "query", repr(query[:60]))
    query_id = _integer(columns[8], "query_id", largest=_LARGEST_ID)
    return Row(product_id, query_id, query, tuple(columns[:7]))


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


def bounded_lines(file: BufferedIOBase) -> Iterator[bytes]:
    """The lines of a file; one longer than LONGEST_LINE comes cut just past that length, its rest skipped.

    So a file without line ends, or of zeros, cannot fill the memory.
    """
    while line := file.readline(LONGEST_LINE + 1):
        yield line
        rest = line
        while len(rest) > LONGEST_LINE and not rest.endswith(b"\n"):
            rest = file.readline(LONGEST_LINE + 1)


def _integer(text: bytes, field: str, *, largest: int) -> int:
    if not text.isdigit() or len(text) > 19 or (value := int(text)) > largest:
        raise MalformedRow(Reason.INTEGER, field, repr(text[:40].decode("utf-8", "replace")))
    return value


def _encode(array: np.ndarray) -> str:
    return pybase64.b64encode(np.ascontiguousarray(array).data).decode("ascii")


def _bytes(text: bytes, field: str, *, regions: int, bytes_per_region: int) -> bytes:
    try:
        raw: bytes = pybase64.b64decode(text, validate=True)
    except ValueError as error:
        raise MalformedRow(Reason.BASE64, field, str(error)) from error
    if len(raw) != regions * bytes_per_region:
        raise MalformedRow(
            Reason.BYTE_LENGTH,
            field,
            f"{len(raw)} bytes, {regions} boxes need {regions * bytes_per_region}",
        )
    return raw


def _decode_product(columns: tuple[bytes, ...], *, feature_size: int, label_count: int) -> Product:
    product_id, image_h, image_w, regions = (int(column) for column in columns[:4])
    boxes = np.frombuffer(_bytes(columns[4], "boxes", regions=regions, bytes_per_region=16), "<f4").reshape(
        regions, 4
    )
    features = np.frombuffer(
        _bytes(columns[5], "features", regions=regions, bytes_per_region=4 * feature_size), "<f4"
    ).reshape(regions, feature_size)
    labels = np.frombuffer(_bytes(columns[6], "class_labels", regions=regions, bytes_per_region=8), "<i8")
    _check_boxes(boxes, image_h, image_w)
    if labels.min() < 0 or labels.max() >= label_count:
        bad = int(labels[(labels < 0) | (labels >= label_count)][0])
        raise MalformedRow(Reason.LABEL_UNKNOWN, "class_labels", f"{bad}, 0 to {label_count - 1} are known")
    return Product(product_id, image_h, image_w, boxes, features, labels)


def _check_boxes(boxes: Float32[np.ndarray, "regions 4"], image_h: int, image_w: int) -> None:
    top, left, bottom, right = boxes.T
    # Written so that NaN, for which every comparison is false, counts as outside.
    inside = (top >= 0) & (left >= 0) & (bottom <= image_h) & (right <= image_w)
    if not inside.all():
        place = int(np.argmin(inside))
        raise MalformedRow(
            Reason.BOX_OUTSIDE,
            "boxes",
            f"box {place} is {boxes[place].tolist()}, photo {image_h} x {image_w}",
        )
    ordered = (bottom >= top) & (right >= left)
    if not ordered.all():
        place = int(np.argmin(ordered))
        raise MalformedRow(Reason.BOX_REVERSED, "boxes", f"box {place} is {boxes[place].tolist()}")
