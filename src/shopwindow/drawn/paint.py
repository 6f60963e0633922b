"""What does a surface look like: which colour, pattern and material?

Gives the canvas the colour of every pixel of a part. Patterns live in the frame of the thing (they turn and grow with
it); the grain of a material is a fixed tile of noise. It knows no outlines.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np
from jaxtyping import Float

Grid = Float[np.ndarray, "h w"]
Number = float | int  # 1 as well as 1.0: the types checked in tests tell them apart
Rgb = tuple[Number, Number, Number]

# Colour words and the colour each means (0-255); a good's own colour varies a little around it.
COLOURS: Final = MappingProxyType(
    {
        "black": (38.0, 38.0, 42.0),
        "white": (240.0, 239.0, 235.0),
        "grey": (138.0, 141.0, 146.0),
        "red": (204.0, 43.0, 48.0),
        "orange": (240.0, 134.0, 42.0),
        "yellow": (246.0, 203.0, 60.0),
        "green": (62.0, 145.0, 84.0),
        "blue": (48.0, 98.0, 190.0),
        "purple": (126.0, 76.0, 168.0),
        "pink": (244.0, 148.0, 180.0),
        "brown": (122.0, 78.0, 48.0),
        "beige": (222.0, 198.0, 160.0),
    }
)
PATTERNS: Final = ("plain", "striped", "dotted", "checked", "floral", "zigzag", "starry")


@dataclass(frozen=True)
class Finish:
    """How a material takes the light: `grain` names a tile, `strength` how deep it shows, `gloss` 0-1."""

    grain: str
    strength: Number
    gloss: Number
    opacity: Number = 1.0


FINISHES: Final = MappingProxyType(
    {
        "canvas": Finish("weave", 0.11, 0.0),
        "leather": Finish("hide", 0.10, 0.75),
        "suede": Finish("nap", 0.12, 0.0),
        "denim": Finish("twill", 0.20, 0.0),
        "cotton": Finish("nap", 0.035, 0.05),
        "linen": Finish("slub", 0.12, 0.0),
        "knitted": Finish("knit", 0.26, 0.0),
        "velvet": Finish("nap", 0.06, 0.35),
        "silk": Finish("sheen", 0.16, 0.6),
        "straw": Finish("straw", 0.26, 0.05),
        "nylon": Finish("sheen", 0.05, 0.45),
        "wooden": Finish("wood", 0.24, 0.2),
        "metal": Finish("brushed", 0.13, 1.3),
        "ceramic": Finish("none", 0.0, 1.0),
        "glass": Finish("none", 0.0, 1.5, 0.66),
        "plastic": Finish("none", 0.0, 0.6),
        "paper": Finish("nap", 0.03, 0.0),
    }
)


@dataclass(frozen=True)
class Paint:
    """A surface: base colour, pattern over it in `second` (and the flowers' hearts in `third`), material."""

    base: Rgb
    material: str = "plastic"
    pattern: str = "plain"
    second: Rgb = (240.0, 240.0, 236.0)
    third: Rgb = (246.0, 203.0, 60.0)
    period: Number = 0.16  # of the pattern, in units of the thing's height
    angle: Number = 0.0  # of the pattern, radians
    upright: bool = False  # the grain runs down instead of across
    rough: Number = 1.0  # how much of the material's grain shows; less on large backgrounds

    @property
    def gloss(self) -> float:
        """0 dull, about 1 shining."""
        return FINISHES[self.material].gloss

    @property
    def opacity(self) -> float:
        """1 but for glass."""
        return FINISHES[self.material].opacity

    def plain(self, base: Rgb | None = None, material: str | None = None) -> Paint:
        """The same surface without its pattern, perhaps of another colour or material."""
        return replace(self, pattern="plain", base=base or self.base, material=material or self.material)

    def shaded(self, factor: Number) -> Paint:
        """The same surface, darker (< 1) or lighter (> 1) all over."""
        return replace(
            self,
            base=_times(self.base, factor),
            second=_times(self.second, factor),
            third=_times(self.third, factor),
        )

    def texture(
        self,
        height: int,
        width: int,
        grid: Callable[[], tuple[Grid, Grid]],
        *,
        unit: Number,
        rng: np.random.Generator,
    ) -> Float[np.ndarray, "h w 3"]:
        """The colours (0-255, before light) of a block of pixels.

        `grid` gives their coordinates (across, down) in the frame of the thing, whose height is `unit` px; it is
        called for patterned paints only.
        """
        ink = np.empty((height, width, 3), dtype=np.float32)
        ink[:] = np.asarray(self.base, dtype=np.float32)
        if self.pattern != "plain":
            u, v = grid()
            cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
            a, b = (
                (u * cos + v * sin) / np.float32(self.period),
                (v * cos - u * sin) / np.float32(self.period),
            )
            covers = _PATTERNS[self.pattern](a, b, 1 / (self.period * unit))
            for colour, cover in zip((self.second, self.third), covers, strict=False):
                ink += cover[:, :, None] * (np.asarray(colour, dtype=np.float32) - ink)
        finish = FINISHES[self.material]
        if finish.strength:
            ink *= (
                1 + self.rough * finish.strength * _grain(finish.grain, height, width, rng, self.upright)
            )[:, :, None]
        return ink


def _times(colour: Rgb, factor: Number) -> Rgb:
    return tuple(min(255.0, value * factor) for value in colour)  # type: ignore[return-value]  # three stay three


def _step(inside: Grid, edge: Number) -> Grid:
    """0 outside, 1 inside, a soft step of `edge` where the value passes 0."""
    return np.clip(inside / np.float32(edge) + np.float32(0.5), 0, 1)


def _wave(a: Grid) -> Grid:
    """Distance to the nearest whole number, 0 to 0.5."""
    return np.asarray(np.abs(a - np.round(a)))


def _striped(a: Grid, _: Grid, edge: Number) -> list[Grid]:
    return [_step(0.19 - _wave(a), edge)]


def _checked(a: Grid, b: Grid, edge: Number) -> list[Grid]:
    return [0.45 * (_step(0.2 - _wave(a), edge) + _step(0.2 - _wave(b), edge))]


def _zigzag(a: Grid, b: Grid, edge: Number) -> list[Grid]:
    return [_step(0.19 - _wave(b + 1.1 * _wave(a)), edge)]


def _cells(a: Grid, b: Grid) -> tuple[Grid, Grid, Grid]:
    """Offsets from the nearest point of a staggered lattice, and a number 0-1 that differs between its cells."""
    row = np.round(b)
    shift = np.float32(0.5) * (row % 2)
    column = np.round(a - shift)
    mark = np.sin(row * np.float32(12.99) + column * np.float32(78.23)) * np.float32(437.585)
    return a - shift - column, b - row, mark - np.floor(mark)


def _dotted(a: Grid, b: Grid, edge: Number) -> list[Grid]:
    x, y, _ = _cells(a, b * np.float32(1.15))
    return [_step(0.25 - np.sqrt(x * x + y * y), edge)]


def _floral(a: Grid, b: Grid, edge: Number) -> list[Grid]:
    x, y, mark = _cells(a * np.float32(0.8), b * np.float32(0.92))
    radius = np.sqrt(x * x + y * y)
    petal = np.cos(5 * (np.arctan2(y, x) + mark * 6))
    return [_step(0.25 + 0.12 * petal - radius, edge), _step(0.1 - radius, edge)]


def _starry(a: Grid, b: Grid, edge: Number) -> list[Grid]:
    x, y, mark = _cells(a * np.float32(0.85), b * np.float32(0.98))
    radius = np.sqrt(x * x + y * y)
    point = _wave((np.arctan2(y, x) + mark * 6) * np.float32(5 / (2 * np.pi)))
    return [_step(0.36 - 0.50 * point - radius, edge)]


_PATTERNS: Final[dict[str, Callable[[Grid, Grid, float], list[Grid]]]] = {
    "striped": _striped,
    "checked": _checked,
    "zigzag": _zigzag,
    "dotted": _dotted,
    "floral": _floral,
    "starry": _starry,
}

_TILE: Final = 512


def _grain(name: str, height: int, width: int, rng: np.random.Generator, upright: bool) -> Grid:
    """A random cut of a material's tile, about -1 to 1."""
    tile = _tile(name)
    if upright:
        tile = tile.T
    top = int(rng.integers(0, _TILE - min(height, _TILE) + 1))
    left = int(rng.integers(0, _TILE - min(width, _TILE) + 1))
    cut = tile[top : top + height, left : left + width]
    if cut.shape == (height, width):
        return cut
    return np.resize(cut, (height, width))


@functools.lru_cache(maxsize=32)
def _tile(name: str) -> Grid:
    """A 512 × 512 tile of a material, the same in every run."""
    rng = np.random.default_rng(sum(name.encode()))
    y, x = np.mgrid[0:_TILE, 0:_TILE].astype(np.float32)
    fine, wide = _noise(rng, 0.8, 0.8), _noise(rng, 14, 14)
    if name == "weave":
        made = np.sin(x * np.pi / 2) * np.sin(y * np.pi / 2) + 0.45 * fine
    elif name == "twill":
        made = 0.7 * np.sin((x + y) * 2 * np.pi / 4) + 0.5 * fine + 0.35 * wide
    elif name == "hide":
        made = 0.45 * _noise(rng, 1.6, 1.6) + 0.5 * wide
    elif name == "nap":
        made = 0.7 * fine + 0.4 * wide
    elif name == "slub":
        made = 0.7 * _noise(rng, 0.6, 9) + 0.7 * _noise(rng, 9, 0.6)
    elif name == "knit":
        made = np.sin(x * 2 * np.pi / 7) * 0.7 + 0.5 * np.sin((y + 2.4 * np.abs(x % 7 - 3.5)) * 2 * np.pi / 5)
    elif name == "sheen":
        made = _noise(rng, 7, 26) + 0.3 * wide
    elif name == "straw":
        made = (
            np.where(((x // 5) + (y // 5)) % 2 == 0, np.sin(x * 2 * np.pi / 5), np.sin(y * 2 * np.pi / 5))
            * 0.8
        )
        made = made + 0.4 * fine
    elif name == "wood":
        rings = np.sin((y / 5.5) + 2.6 * _noise(rng, 9, 60)) * 0.55
        made = rings + 0.55 * _noise(rng, 0.7, 18) + 0.3 * wide
    elif name == "brushed":
        made = 0.55 * _noise(rng, 0.5, 24) + 0.8 * _noise(rng, 10, 60)
    else:
        raise KeyError(f"no material tile {name!r}")
    return np.asarray(np.clip(made, -2, 2), dtype=np.float32)


def _noise(rng: np.random.Generator, tall: Number, wide: Number) -> Grid:
    """Gaussian noise of unit spread, smoothed over `tall` × `wide` px, seamless."""
    wave = np.fft.fftfreq(_TILE) * 2 * np.pi
    damp = np.exp(-0.5 * ((wave[:, None] * tall) ** 2 + (wave[None, :] * wide) ** 2))
    made = np.fft.ifft2(np.fft.fft2(rng.standard_normal((_TILE, _TILE))) * damp).real
    return np.asarray(made / made.std(), dtype=np.float32)
