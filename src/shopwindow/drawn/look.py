"""Which paints and which shape does one drawn good have?

Sits between the words of the catalogue and the drawings: the catalogue says "red", "striped", "canvas", "large"; a look
holds the paints for it, with the small differences between one seller's red bag and another's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shopwindow.drawn.paint import COLOURS, Number, Paint, Rgb

_METALS = ((196.0, 198.0, 204.0), (214.0, 178.0, 104.0), (120.0, 122.0, 130.0), (206.0, 150.0, 128.0))
_WOODS = ((176.0, 126.0, 78.0), (206.0, 164.0, 112.0), (120.0, 80.0, 52.0), (222.0, 190.0, 146.0))


@dataclass(frozen=True)
class Look:
    """The paints of one good: `main` carries its colour, pattern and material; the others are quiet beside it."""

    main: Paint
    trim: Paint
    pale: Paint
    dark: Paint
    metal: Paint
    wood: Paint
    shape: str
    coin: bool  # a choice of detail that has no word
    tilt: Number  # 0-1, another such


def make_look(
    colour: str, pattern: str, material: str, shape: str, rng: np.random.Generator, period: Number = 0.15
) -> Look:
    """A look for the words, with chance where the words leave it: tints, the second colour, the trim."""
    base = near(COLOURS[colour], rng)
    light = sum(base) > 3 * 150
    second = _beside(colour, light, rng)
    main = Paint(
        base,
        material,
        pattern,
        second,
        near(COLOURS["yellow" if colour not in ("yellow", "orange") else "red"], rng),
        period=period * float(rng.uniform(0.85, 1.25)),
        angle=_angle(pattern, rng),
        upright=bool(rng.random() < 0.5),
    )
    quiet = material if material not in ("glass", "straw", "knitted") else "plastic"
    trims = (
        tuple(0.55 * value for value in base),
        near(COLOURS["beige"], rng),
        near(COLOURS["black"], rng),
        second,
        base,
    )
    trim: Rgb = trims[int(rng.choice(5, p=(0.3, 0.15, 0.2, 0.15, 0.2)))]  # type: ignore[assignment]  # three values
    return Look(
        main=main,
        trim=Paint(trim, "leather" if quiet in ("canvas", "suede") and rng.random() < 0.5 else quiet),
        pale=Paint(near(COLOURS["white"], rng), "plastic"),
        dark=Paint(near((46.0, 42.0, 42.0), rng), "plastic"),
        metal=Paint(near(_METALS[int(rng.integers(4))], rng), "metal"),
        wood=Paint(near(_WOODS[int(rng.integers(4))], rng), "wooden", upright=bool(rng.random() < 0.5)),
        shape=shape,
        coin=bool(rng.random() < 0.5),
        tilt=float(rng.random()),
    )


def near(colour: Rgb, rng: np.random.Generator, spread: Number = 9.0) -> Rgb:
    """A colour a little lighter or darker, warmer or cooler."""
    shift = rng.normal(0, spread) + rng.normal(0, spread * 0.6, 3)
    red, green, blue = (float(value) for value in np.clip(np.asarray(colour) + shift, 0, 255))
    return red, green, blue


def _beside(colour: str, light: bool, rng: np.random.Generator) -> Rgb:
    """The colour of a pattern: white or cream on a dark ground, dark or strong on a light one; sometimes any other."""
    if rng.random() < 0.82:
        quiet = ("black", "blue", "brown", "grey") if light else ("white", "white", "beige")
        names = [name for name in quiet if name != colour]
    else:
        names = [name for name in COLOURS if name != colour]
    return near(COLOURS[names[int(rng.integers(len(names)))]], rng)


def _angle(pattern: str, rng: np.random.Generator) -> float:
    if pattern == "striped":
        return float(rng.choice((0.0, np.pi / 2, np.pi / 4), p=(0.4, 0.45, 0.15)))
    if pattern == "checked":
        return float(rng.choice((0.0, np.pi / 4), p=(0.8, 0.2)))
    return float(rng.uniform(-0.15, 0.15))
