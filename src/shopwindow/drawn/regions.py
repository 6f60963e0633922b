"""Which boxes does a detector report for a drawn photo, and with which labels?

The drawing knows exactly where everything is; a detector does not. Boxes are jittered, some photos get the box of the
whole picture, most regions are labelled 28 "others", and their order is hardly by size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int64

from shopwindow.drawn.figures import LARGEST_FIRST
from shopwindow.drawn.goods import FACE, OTHERS
from shopwindow.drawn.photo import Box, Drawn, Thing

_JITTER: Final = 0.025  # of a box's side: the spread of each corner
_SMALLEST: Final = 8.0  # px: shorter sides are not detected
_WHOLE_PHOTO: Final = 0.04  # share of photos whose good is boxed by the whole picture
_NAMED: Final = {"good": 0.50, "part": 0.16, "other": 0.40}  # how often the detector gives more than "others"


@dataclass(frozen=True)
class Detections:
    """What the detector reports: boxes (top, left, bottom, right) whole px as float32, labels 0-32, and the truth."""

    boxes: Float[np.ndarray, "n 4"]
    labels: Int64[np.ndarray, " n"]
    shows: tuple[str, ...]  # per box: a kind, "kind: part", a prop, "background", "whole photo"


def detect(drawn: Drawn, count: int, rng: np.random.Generator) -> Detections:
    """`count` regions of a photo. The good itself (or the whole photo in its place) is always one of them."""
    width, height = drawn.photo.size
    main = drawn.good
    if rng.random() < _WHOLE_PHOTO:
        main = Thing("whole photo", (0.0, 0.0, float(height), float(width)), OTHERS)
    found = [(main, "good" if main is drawn.good else "background")]
    found += _first(
        [thing for thing in drawn.others if _visible(thing.box)], "other", count - len(found), rng, 0.75
    )
    found += _first(_distinct(drawn.parts), "part", count - len(found), rng, 1.0)
    while len(found) < count:
        found.append(_window(drawn, rng))
    order = rng.permutation(count)
    if rng.random() < LARGEST_FIRST:
        order = np.concatenate([[0], order[order != 0]])
    boxes = [_jittered(found[k][0].box, width, height, rng) for k in order]
    labels = [_label(found[k][0], found[k][1], rng) for k in order]
    return Detections(
        np.array(boxes, dtype=np.float32),
        np.array(labels, dtype=np.int64),
        tuple(found[k][0].shows for k in order),
    )


def _visible(box: Box) -> bool:
    return box[2] - box[0] >= _SMALLEST and box[3] - box[1] >= _SMALLEST


def _distinct(parts: tuple[Thing, ...]) -> list[Thing]:
    """Parts large enough to be seen; each name twice at most."""
    kept: list[Thing] = []
    names: list[str] = []
    for part in parts:
        if _visible(part.box) and names.count(part.shows) < 2:
            kept.append(part)
            names.append(part.shows)
    return kept


def _first(
    things: list[Thing], role: str, room: int, rng: np.random.Generator, share: float
) -> list[tuple[Thing, str]]:
    """Up to `room` of the things, each found with the chance `share`, in random order."""
    kept = [thing for thing in things if rng.random() < share]
    return [(kept[k], role) for k in rng.permutation(len(kept))[: max(0, room)]]


def _window(drawn: Drawn, rng: np.random.Generator) -> tuple[Thing, str]:
    """A cut of the good's surface, or a patch of background: what detectors find beside the things themselves."""
    width, height = drawn.photo.size
    if rng.random() < 0.6:
        top, left, bottom, right = drawn.good.box
        shows = f"{drawn.good.shows}: surface"
    else:
        top, left, bottom, right = 0.0, 0.0, float(height), float(width)
        shows = "background"
    share_y, share_x = rng.uniform(0.25, 0.7, 2)
    tall, wide = max(_SMALLEST, (bottom - top) * share_y), max(_SMALLEST, (right - left) * share_x)
    y = top + rng.random() * max(0.0, bottom - top - tall)
    x = left + rng.random() * max(0.0, right - left - wide)
    return Thing(
        shows, (y, x, y + tall, x + wide), drawn.good.category
    ), "part" if shows != "background" else "background"


def _jittered(box: Box, width: int, height: int, rng: np.random.Generator) -> Box:
    """The box with each corner moved a little, in whole px within the photo, at least 4 px each way."""
    top, left, bottom, right = box
    tall, wide = bottom - top, right - left
    push = np.clip(rng.normal(0, _JITTER, 4), -0.06, 0.06)
    top = float(np.clip(round(top + push[0] * tall), 0, height - 4))
    left = float(np.clip(round(left + push[1] * wide), 0, width - 4))
    bottom = float(np.clip(round(bottom + push[2] * tall), top + 4, height))
    right = float(np.clip(round(right + push[3] * wide), left + 4, width))
    return top, left, bottom, right


def _label(thing: Thing, role: str, rng: np.random.Generator) -> int:
    if thing.category >= FACE:
        return thing.category
    return thing.category if rng.random() < _NAMED.get(role, 0.0) else OTHERS
