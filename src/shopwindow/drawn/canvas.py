"""How does an outline become a painted, shaded, antialiased part of a photo?

The lowest of the drawn shop: the drawings (`wear`, `home`, `props`) give outlines, the canvas rasterises them at
three times the size, shades them as if lit from the upper left, and remembers where each named part came to lie.
It knows no goods and no words.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from shopwindow.drawn.paint import Number, Paint

Points = Float[np.ndarray, "_ 2"]
Volume = Literal["flat", "bevel", "cylinder", "ball"]
SUPERSAMPLING: Final = 3


def curve(text: str) -> Points:
    """The points of an outline written as an SVG path of absolute commands M, L, Q, C (curves in 10 steps).

    >>> curve("M 0 0 L 1 0 L 1 1").tolist()
    [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]
    >>> curve("M 0 0 Q 1 0 1 1").shape
    (11, 2)
    """
    return np.asarray(_curve(text), dtype=np.float64)


@functools.lru_cache(maxsize=4096)
def _curve(text: str) -> tuple[tuple[Number, Number], ...]:
    points: list[tuple[Number, Number]] = []
    words = text.replace(",", " ").split()
    command, numbers = "M", list[float]()
    needed = {"M": 2, "L": 2, "Q": 4, "C": 6}
    for word in words:
        if word in needed:
            command = word
            continue
        numbers.append(float(word))
        if len(numbers) == needed[command]:
            points.extend(_segment(points[-1] if points else (0.0, 0.0), numbers))
            numbers = []
    if numbers:
        raise ValueError(f"path ends inside a {command} command: {text!r}")
    return tuple(points)


def _segment(start: tuple[Number, Number], numbers: list[float]) -> list[tuple[Number, Number]]:
    knots = [start, *zip(numbers[0::2], numbers[1::2], strict=True)]
    if len(knots) == 2:
        return [knots[1]]
    degree = len(knots) - 1
    found = []
    for step in range(1, 11):
        t = step / 10
        weights = [math.comb(degree, k) * t**k * (1 - t) ** (degree - k) for k in range(degree + 1)]
        found.append(
            (
                sum(w * x for w, (x, _) in zip(weights, knots, strict=True)),
                sum(w * y for w, (_, y) in zip(weights, knots, strict=True)),
            )
        )
    return found


def ellipse(x: Number, y: Number, rx: Number, ry: Number, start: Number = 0, end: Number = 360) -> Points:
    """An ellipse, or its arc from `start` to `end` degrees (0 right, 90 down)."""
    angles = np.radians(np.linspace(start, end, 41))
    return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1)


def rounded(left: Number, top: Number, right: Number, bottom: Number, radius: Number) -> Points:
    """A rectangle with round corners."""
    radius = min(radius, (right - left) / 2, (bottom - top) / 2)
    corners = [
        (right - radius, top + radius, -90),
        (right - radius, bottom - radius, 0),
        (left + radius, bottom - radius, 90),
        (left + radius, top + radius, 180),
    ]
    angles = [np.radians(np.linspace(start, start + 90, 7)) for _, _, start in corners]
    arcs = [
        np.stack([x + radius * np.cos(a), y + radius * np.sin(a)], axis=1)
        for (x, y, _), a in zip(corners, angles, strict=True)
    ]
    return np.concatenate(arcs)


def mirrored(half: Points) -> Points:
    """The closed outline of a right half (top to bottom, x >= 0) and its mirror image."""
    return np.concatenate([half, half[::-1] * np.array([-1.0, 1.0])])


@dataclass(frozen=True)
class Placement:
    """Where a thing stands in the photo.

    Its own frame: x 0 is its axis, y 0 its top, y 1 its foot; one unit is its height.
    """

    x: Number  # px of the axis
    top: Number  # px of the top
    unit: Number  # px per unit
    angle: Number = 0.0  # degrees, clockwise, about the middle
    flipped: bool = False

    def to_px(self, points: Points) -> Points:
        """The points in px (x, y)."""
        x = points[:, 0] * (-1 if self.flipped else 1)
        y = points[:, 1] - 0.5
        turn = math.radians(self.angle)
        across = x * math.cos(turn) - y * math.sin(turn)
        down = x * math.sin(turn) + y * math.cos(turn)
        return np.stack([self.x + across * self.unit, self.top + (down + 0.5) * self.unit], axis=1)

    def grid(
        self, left: int, top: int, width: int, height: int
    ) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
        """The own-frame coordinates of a block of pixels, so that patterns turn with their thing."""
        x = ((np.arange(width, dtype=np.float32) + left + 0.5 - self.x) / self.unit)[None, :]
        y = ((np.arange(height, dtype=np.float32) + top + 0.5 - self.top) / self.unit - 0.5)[:, None]
        turn = math.radians(self.angle)
        cos, sin = np.float32(math.cos(turn)), np.float32(math.sin(turn))
        u = x * cos + y * sin
        return (-u if self.flipped else u), y * cos - x * sin


@dataclass(frozen=True)
class Part:
    """A named part as drawn: `box` is (top, left, bottom, right) in px within the photo."""

    name: str
    box: tuple[int, int, int, int]


@dataclass
class Canvas:
    """A transparent sheet as large as the photo, on which one thing is drawn part by part."""

    width: int
    height: int
    place: Placement
    rng: np.random.Generator
    parts: list[Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.colour = Image.new("RGB", (self.width, self.height))  # premultiplied by cover
        self.cover = Image.new("L", (self.width, self.height))

    def fill(
        self,
        name: str,
        outline: Points,
        paint: Paint,
        *,
        volume: Volume = "bevel",
        depth: Number = 1.0,
        soft: Number = 0.12,
        holes: Sequence[Points] = (),
    ) -> None:
        """Paints the inside of an outline. `soft`: width of the bevel as a share of the part; `depth`: its strength."""
        rings = [self.place.to_px(outline)] + [self.place.to_px(hole) for hole in holes]
        frame = self._frame(rings[0], 1.0)
        if frame is None:
            return
        left, top, width, height = frame
        sheet = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
        pen = ImageDraw.Draw(sheet)
        for ring, ink in zip(rings, [255] + [0] * len(holes), strict=True):
            pen.polygon(_flat((ring - (left, top)) * SUPERSAMPLING), fill=ink)
        self._lay(sheet.reduce(SUPERSAMPLING), left, top, paint, volume, depth, soft)
        self._remember(name, rings[0], 0)

    def stroke(
        self,
        name: str,
        line: Points,
        width: Number,
        paint: Paint,
        *,
        volume: Volume = "bevel",
        depth: Number = 1.0,
        soft: Number = 0.3,
    ) -> None:
        """Paints along a line with round ends; `width` in units of the thing's height."""
        px = self.place.to_px(line)
        thick = max(width * self.place.unit, 1.2)
        frame = self._frame(px, thick / 2 + 1)
        if frame is None:
            return
        left, top, w, h = frame
        sheet = Image.new("L", (w * SUPERSAMPLING, h * SUPERSAMPLING))
        pen = ImageDraw.Draw(sheet)
        inside = (px - (left, top)) * SUPERSAMPLING
        pen.line(_flat(inside), fill=255, width=max(1, round(thick * SUPERSAMPLING)), joint="curve")
        radius = thick * SUPERSAMPLING / 2
        for x, y in (inside[0], inside[-1]):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        # A bevel across a thin line is as wide as the line, not as its bounding box.
        share = soft * thick / max(1.0, min(w, h))
        self._lay(sheet.reduce(SUPERSAMPLING), left, top, paint, volume, depth, share)
        self._remember(name, px, thick / 2)

    def glint(self, outline: Points, strength: Number) -> None:
        """A soft white reflection over what is already painted."""
        px = self.place.to_px(outline)
        frame = self._frame(px, 3)
        if frame is None:
            return
        left, top, width, height = frame
        mask = Image.new("L", (width, height))
        ImageDraw.Draw(mask).polygon(_flat(px - (left, top)), fill=round(255 * strength))
        mask = mask.filter(ImageFilter.GaussianBlur(max(0.8, min(width, height) * 0.06)))
        mask = ImageChops.multiply(mask, self.cover.crop((left, top, left + width, top + height)))
        self.colour.paste((255, 255, 255), (left, top), mask)

    def box(self) -> tuple[int, int, int, int] | None:
        """(top, left, bottom, right) px of everything drawn so far; None when nothing is inside the photo."""
        found = self.cover.point(_SOLID).getbbox()
        return None if found is None else (found[1], found[0], found[3], found[2])

    def onto(self, photo: Image.Image, *, shadow: Number, drop: tuple[Number, Number]) -> Image.Image:
        """The photo, painted over with the thing. `shadow` 0-1: strength; `drop`: its (x, y) shift in heights."""
        found = self.cover.getbbox()
        if found is None:
            return photo
        blur = max(1.2, self.place.unit * 0.012)
        shift = (round(drop[0] * self.place.unit), round(drop[1] * self.place.unit))
        margin = round(12 * blur) + 4 + max(shift)
        left, top = max(0, found[0] - margin) // 4 * 4, max(0, found[1] - margin) // 4 * 4
        frame = (left, top, min(self.width, found[2] + margin), min(self.height, found[3] + margin))
        cover, behind = self.cover.crop(frame), photo.crop(frame)
        if shadow > 0:
            cast = cover.reduce(4).filter(ImageFilter.GaussianBlur(blur))
            cast = cast.resize(cover.size, Image.Resampling.BILINEAR).point(_scaled(shadow))
            behind.paste((26, 22, 24), shift, cast)
        gap = ImageChops.invert(cover)
        behind = ImageChops.multiply(behind, Image.merge("RGB", (gap, gap, gap)))
        photo.paste(ImageChops.add(behind, self.colour.crop(frame)), frame[:2])
        return photo

    def _frame(self, px: Points, margin: Number) -> tuple[int, int, int, int] | None:
        low = np.floor(px.min(axis=0) - margin)
        high = np.ceil(px.max(axis=0) + margin)
        left, top = max(0, int(low[0])), max(0, int(low[1]))
        right, bottom = min(self.width, int(high[0])), min(self.height, int(high[1]))
        return (left, top, right - left, bottom - top) if right - left > 1 and bottom - top > 1 else None

    def _remember(self, name: str, px: Points, reach: Number) -> None:
        """Notes a part by the extent of its outline, `reach` px wider on every side, within the photo."""
        (left, top), (right, bottom) = np.round(px.min(axis=0) - reach), np.round(px.max(axis=0) + reach)
        box = (
            max(0, int(top)),
            max(0, int(left)),
            min(self.height, int(bottom)),
            min(self.width, int(right)),
        )
        if box[0] < box[2] and box[1] < box[3]:
            self.parts.append(Part(name, box))

    def _lay(
        self,
        mask: Image.Image,
        left: int,
        top: int,
        paint: Paint,
        volume: Volume,
        depth: Number,
        soft: Number,
    ) -> None:
        width, height = mask.size
        ink = paint.texture(
            height,
            width,
            lambda: self.place.grid(left, top, width, height),
            unit=self.place.unit,
            rng=self.rng,
        )
        light = _light(mask, volume, soft) * np.float32(depth)
        ink *= (1 + light)[:, :, None]
        if paint.gloss:
            ink += (np.maximum(light - np.float32(0.10), 0) * np.float32(260 * paint.gloss))[:, :, None]
        tile = Image.fromarray(np.clip(ink, 0, 255, out=ink).astype(np.uint8))
        cover = mask if paint.opacity >= 1 else mask.point(_scaled(paint.opacity))
        self.colour.paste(tile, (left, top), cover)
        self.cover.paste(255, (left, top), cover)


_SOLID: Final = [0] * 128 + [255] * 128


@functools.lru_cache(maxsize=128)
def _scaled(strength: Number) -> list[int]:
    return [round(value * strength) for value in range(256)]


def _flat(points: Points) -> list[float]:
    return [float(value) for value in points.ravel()]


def _light(mask: Image.Image, volume: Volume, soft: Number) -> Float[np.ndarray, "h w"]:
    """How much brighter (> 0) or darker (< 0) than its paint each pixel is, lit from the upper left."""
    width, height = mask.size
    if volume == "flat":
        return np.linspace(0.06, -0.06, height, dtype=np.float32)[:, None] + np.zeros((1, width), np.float32)
    if volume == "cylinder":
        across = np.linspace(-1, 1, width, dtype=np.float32)
        lobe = 0.30 * np.exp(-(((across + 0.42) / 0.30) ** 2)) - 0.38 * np.clip(across, 0, 1) ** 2
        edge = -0.16 * np.clip(-across - 0.7, 0, 1) / 0.3 + 0.10 * np.exp(-(((across - 0.88) / 0.10) ** 2))
        return np.broadcast_to((lobe + edge)[None, :], (height, width)).astype(np.float32)
    if volume == "ball":
        x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        lobe = 0.34 * np.exp(-(((x + 0.35) / 0.42) ** 2 + ((y + 0.4) / 0.42) ** 2))
        return np.asarray(lobe - 0.30 * np.clip((x + y) / 1.6 + 0.1, 0, 1) ** 1.5, dtype=np.float32)
    radius = max(1.0, soft * min(width, height))
    blurred = np.asarray(mask.filter(ImageFilter.BoxBlur(radius)), dtype=np.float32) / 255
    slope = np.zeros_like(blurred)
    slope[1:, :] += 0.75 * np.diff(blurred, axis=0)
    slope[:, 1:] += 0.55 * np.diff(blurred, axis=1)
    fall = np.linspace(0.05, -0.09, height, dtype=np.float32)[:, None]
    return np.clip(slope * radius * 0.75, -0.4, 0.35) - 0.14 * (1 - blurred) + fall
