"""What of one line of a competition file is worth keeping, or why is it malformed?

All that can be said of a line on its own, in any process: split, decoded, rounded, named, held against the rules.
What needs the lines before it (the same id with other content) is decided in `prepare`. Knows no file.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float16, Float32, Int64

from shopwindow.data.cleaning import Rule
from shopwindow.data.competition import MalformedRow, Product, Reason, Row, split_quickly, split_row
from shopwindow.data.float16 import FLOAT16_END, all_finite, round_to_float16


@dataclass(frozen=True)
class LineCheck:
    """How lines are checked: values of a feature, number of labels, rules."""

    feature_size: int
    label_count: int
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class GoodRow:
    """A well-formed line as it is stored. `digest` names the product's content; `broken` are places of rules."""

    product_id: int
    image_h: int
    image_w: int
    query: str
    query_id: int
    digest: bytes
    broken: tuple[int, ...]
    boxes: Float32[np.ndarray, "regions 4"]
    labels: Int64[np.ndarray, " regions"]
    regions: Float16[np.ndarray, "regions features"]


def check_line(
    line: memoryview, how: LineCheck, room: Float16[np.ndarray, " room"] | None = None
) -> GoodRow | MalformedRow:
    """The line as it is stored, or what is wrong with it. Its regions come to lie in `room`, where they fit."""
    with contextlib.suppress(MalformedRow):
        row = split_quickly(line, how.feature_size)
        if row is not None:
            return _stored(row, how, room)
    try:
        return _stored(split_row(bytes(line)), how, room)
    except MalformedRow as malformed:
        return malformed


def _stored(row: Row, how: LineCheck, room: Float16[np.ndarray, " room"] | None) -> GoodRow:
    product = row.decode(feature_size=how.feature_size, label_count=how.label_count)
    out = None
    if room is not None and product.features.size <= room.size:
        out = room[: product.features.size].reshape(product.features.shape)
    regions = as_float16(product.features, out)
    return GoodRow(
        row.product_id,
        row.image_h,
        row.image_w,
        row.query,
        row.query_id,
        _digest(product, regions),
        tuple([place for place, rule in enumerate(how.rules) if rule.breaks(row)]),
        product.boxes,
        product.labels,
        regions,
    )


def as_float16(
    features: Float32[np.ndarray, "regions features"],
    out: Float16[np.ndarray, "regions features"] | None = None,
) -> Float16[np.ndarray, "regions features"]:
    """The features rounded to the nearest float16, ties to even; in `out` where it is given.

    Raises: MalformedRow for a value that is NaN, infinite, or too large for float16.
    """
    rounded = round_to_float16(features, out)
    if not all_finite(rounded):
        # Written so that NaN, for which every comparison is false, counts too.
        region, place = np.argwhere(~(np.abs(features) < FLOAT16_END))[0]
        raise MalformedRow(
            Reason.FEATURE_NOT_FINITE,
            "features",
            f"value {place} of region {region} is {features[region, place]} (float16 ends at 65504)",
        )
    return rounded


def _digest(product: Product, regions: Float16[np.ndarray, "regions features"]) -> bytes:
    """Names what is stored of a product. Over the float16 values: the row's text is three times as long."""
    numbers = b"%d %d %d" % (product.product_id, product.image_h, product.image_w)
    content = hashlib.sha256(numbers + product.boxes.tobytes() + product.labels.tobytes())
    content.update(regions.data)
    return content.digest()
