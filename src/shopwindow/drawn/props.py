"""What else may be in the picture?

Clutter, a hand, a head that wears the good, a badge: things nobody searched for. Each is drawn on its own canvas like a
good, in the frame of its place, and is named by what it shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from shopwindow.drawn.canvas import Canvas, curve, ellipse, mirrored, rounded
from shopwindow.drawn.goods import ARM, FACE, HAIR, HAND, OTHERS
from shopwindow.drawn.look import near
from shopwindow.drawn.paint import COLOURS, Number, Paint, Rgb

_SKINS: Final[tuple[Rgb, ...]] = (
    (242, 206, 178),
    (226, 180, 146),
    (196, 142, 106),
    (146, 98, 70),
    (106, 70, 52),
)
_HAIRS: Final[tuple[Rgb, ...]] = ((52, 40, 36), (92, 62, 42), (168, 120, 70), (34, 32, 36), (130, 74, 46))


@dataclass(frozen=True)
class Prop:
    """One thing that may stand beside a good; `tall`: its height as a share of the photo's shorter side."""

    name: str
    draw: Callable[[Canvas], None]
    tall: Number
    category: int = OTHERS


def _any(canvas: Canvas) -> Rgb:
    names = tuple(COLOURS)
    return near(COLOURS[names[int(canvas.rng.integers(len(names)))]], canvas.rng)


def _plant(canvas: Canvas) -> None:
    green = near((84, 142, 84), canvas.rng, 14)
    for turn in np.linspace(-1.1, 1.1, 7):
        reach = 0.62 - 0.16 * abs(turn)
        x, y = reach * np.sin(turn) * 0.8, 0.62 - reach
        bend = 0.12 if turn >= 0 else -0.12
        leaf = curve(f"M 0 .66 Q {x * 0.2 - bend} {y + 0.2} {x} {y} Q {x + bend} {y + 0.3} 0 .66")
        canvas.fill("leaf", leaf, Paint(near(green, canvas.rng, 8), "silk"), soft=0.25)
    pot = near((198, 120, 84) if canvas.rng.random() < 0.5 else (232, 230, 226), canvas.rng)
    canvas.fill(
        "pot",
        mirrored(curve("M 0 .60 L .26 .60 L .20 .98 Q .18 1 .12 1 L 0 1")),
        Paint(pot, "ceramic"),
        volume="cylinder",
    )
    canvas.fill("pot rim", rounded(-0.28, 0.58, 0.28, 0.68, 0.03), Paint(pot, "ceramic"), volume="cylinder")


def _parcel(canvas: Canvas) -> None:
    paper, ribbon = Paint(_any(canvas), "paper"), Paint(_any(canvas), "silk")
    canvas.fill("box", rounded(-0.5, 0.24, 0.5, 1, 0.03), paper, soft=0.06)
    canvas.fill("lid", rounded(-0.54, 0.18, 0.54, 0.38, 0.03), paper.shaded(1.1), soft=0.1)
    canvas.fill("ribbon", rounded(-0.07, 0.18, 0.07, 1, 0.0), ribbon, volume="flat")
    for side in (-1, 1):
        bow = curve("M 0 .19 C .08 .0 .26 -.02 .26 .10 C .26 .2 .1 .2 0 .19") * np.array([side, 1.0])
        canvas.fill("bow", bow, ribbon, soft=0.3)


def _ball(canvas: Canvas) -> None:
    canvas.fill(
        "ball",
        ellipse(0, 0.5, 0.5, 0.5),
        Paint(_any(canvas), "plastic", "striped", period=0.5),
        volume="ball",
    )
    canvas.glint(ellipse(-0.18, 0.26, 0.1, 0.07), 0.6)


def _frame(canvas: Canvas) -> None:
    canvas.fill(
        "frame",
        rounded(-0.40, 0, 0.40, 1, 0.01),
        Paint(near((92, 70, 54), canvas.rng, 20), "wooden"),
        soft=0.05,
    )
    canvas.fill("mount", rounded(-0.35, 0.05, 0.35, 0.95, 0), Paint((246, 244, 238), "paper"), volume="flat")
    canvas.fill(
        "sky",
        rounded(-0.26, 0.15, 0.26, 0.85, 0),
        Paint(near((196, 214, 226), canvas.rng), "paper"),
        volume="flat",
    )
    canvas.fill(
        "sun",
        ellipse(0.08, 0.38, 0.09, 0.09),
        Paint(near((240, 188, 110), canvas.rng), "paper"),
        volume="flat",
    )
    canvas.fill(
        "hill",
        curve("M -.26 .66 Q -.1 .46 .04 .62 Q .16 .54 .26 .64 L .26 .85 L -.26 .85"),
        Paint(near((110, 140, 120), canvas.rng), "paper"),
    )


def _candle(canvas: Canvas) -> None:
    canvas.fill(
        "flame",
        curve("M 0 0 C .08 .1 .08 .2 0 .24 C -.08 .2 -.08 .1 0 0"),
        Paint((255, 206, 96), "plastic"),
        volume="flat",
    )
    canvas.fill(
        "wax",
        mirrored(curve("M 0 .26 L .24 .27 L .24 .98 Q .1 1 0 1")),
        Paint(near((240, 228, 206), canvas.rng), "plastic"),
        volume="cylinder",
    )


def _fruit(canvas: Canvas) -> None:
    colour: Rgb = ((214, 60, 50), (242, 190, 50), (132, 176, 66), (240, 140, 44))[int(canvas.rng.integers(4))]
    canvas.fill(
        "fruit",
        mirrored(curve("M 0 .22 C .2 .08 .52 .16 .5 .52 C .5 .86 .22 1.04 0 .97")),
        Paint(near(colour, canvas.rng), "plastic"),
        volume="ball",
    )
    canvas.stroke("stem", curve("M 0 .24 Q .01 .1 .06 .02"), 0.05, Paint((104, 76, 50), "wooden"))
    canvas.fill("leaf", curve("M .02 .14 Q .2 -.04 .34 .06 Q .22 .2 .02 .14"), Paint((96, 150, 76), "silk"))


def _box_stack(canvas: Canvas) -> None:
    y = 1.0
    for number in range(3):
        half = 0.62 - 0.05 * number + float(canvas.rng.uniform(-0.05, 0.05))
        canvas.fill("book", rounded(-half, y - 0.3, half, y, 0.03), Paint(_any(canvas), "paper"), soft=0.2)
        canvas.fill(
            "pages",
            rounded(half - 0.12, y - 0.26, half + 0.01, y - 0.04, 0),
            Paint((242, 236, 222), "paper"),
            volume="flat",
        )
        y -= 0.31


def _glasses(canvas: Canvas) -> None:
    rim = Paint(near((60, 50, 46), canvas.rng), "plastic")
    for side in (-1, 1):
        canvas.fill(
            "lens", ellipse(side * 0.62, 0.55, 0.48, 0.42), Paint((206, 220, 224), "glass"), depth=0.3
        )
        canvas.stroke("rim", ellipse(side * 0.62, 0.55, 0.48, 0.42), 0.09, rim)
    canvas.stroke("bridge", curve("M -.14 .5 Q 0 .36 .14 .5"), 0.09, rim)


def _leaves(canvas: Canvas) -> None:
    green = near((112, 148, 108), canvas.rng, 14)
    canvas.stroke("twig", curve("M -.1 1 Q .1 .5 0 .02"), 0.02, Paint((126, 106, 78), "wooden"))
    for share in (0.1, 0.3, 0.5, 0.7):
        for side in (-1, 1):
            y = share + (0.08 if side > 0 else 0)
            leaf = curve(
                f"M .02 {y + 0.12} Q {side * 0.14} {y - 0.08} {side * 0.34} {y - 0.06}"
                f" Q {side * 0.22} {y + 0.12} .02 {y + 0.12}"
            )
            canvas.fill("leaf", leaf, Paint(near(green, canvas.rng, 8), "silk"))


STANDING: Final = (
    Prop("plant", _plant, 0.62, 12),
    Prop("parcel", _parcel, 0.36),
    Prop("ball", _ball, 0.26, 20),
    Prop("candle", _candle, 0.3, 12),
    Prop("fruit", _fruit, 0.2, 6),
    Prop("book stack", _box_stack, 0.3, 10),
)
LYING: Final = (
    Prop("glasses", _glasses, 0.15, 5),
    Prop("twig", _leaves, 0.5),
    Prop("fruit", _fruit, 0.2, 6),
    Prop("parcel", _parcel, 0.3),
)
HUNG: Final = (
    Prop("picture", _frame, 0.4, 12),
    Prop("twig", _leaves, 0.42),
)


def draw_hand(canvas: Canvas) -> list[tuple[str, int]]:
    """A hand that reaches in from below (y 1) and grips at the top (y 0); what its box groups show, with labels."""
    skin = Paint(near(_SKINS[int(canvas.rng.integers(len(_SKINS)))], canvas.rng), "velvet", rough=0.4)
    sleeve = Paint(_any(canvas), "cotton")
    canvas.fill("arm", curve("M -.13 .46 L .15 .46 L .20 1.3 L -.20 1.3"), skin, soft=0.3)
    canvas.fill("sleeve", curve("M -.22 .92 L .22 .92 L .27 1.4 L -.27 1.4"), sleeve, soft=0.2)
    for x, top, lean in ((-0.16, 0.07, -0.06), (-0.055, 0.0, -0.02), (0.05, 0.02, 0.02), (0.145, 0.10, 0.06)):
        canvas.stroke("finger", curve(f"M {x + lean} {top + 0.04} Q {x} .2 {x * 0.8} .36"), 0.098, skin)
        canvas.fill("nail", ellipse(x + lean * 0.9, top + 0.035, 0.026, 0.034), skin.shaded(1.1), depth=0.4)
    canvas.fill("palm", rounded(-0.20, 0.28, 0.20, 0.60, 0.13), skin, soft=0.35)
    canvas.stroke("finger", curve("M -.32 .26 Q -.28 .42 -.12 .48"), 0.105, skin)
    return [("hand", HAND), ("arm", ARM)]


def draw_head(canvas: Canvas, x: Number, y: Number, size: Number) -> list[tuple[str, int]]:
    """A quiet mannequin's head with its chin at (x, y), `size` high, neck below; what it shows, with labels."""
    skin = Paint(near(_SKINS[int(canvas.rng.integers(len(_SKINS)))], canvas.rng), "velvet", rough=0.25)
    hair = Paint(near(_HAIRS[int(canvas.rng.integers(len(_HAIRS)))], canvas.rng, 6), "silk", upright=True)
    long = canvas.rng.random() < 0.5
    half = size * 0.37
    if long:
        canvas.fill("hair", ellipse(x, y - size * 0.42, half * 1.32, size * 0.74), hair)
    canvas.fill(
        "neck",
        rounded(x - half * 0.46, y - size * 0.25, x + half * 0.46, y + size * 0.32, 0.02),
        skin.shaded(0.88),
    )
    egg = mirrored(
        curve(
            f"M 0 {y - size}"
            f" C {half * 1.1} {y - size} {half * 1.15} {y - size * 0.42} {half * 0.8} {y - size * 0.2}"
            f" Q {half * 0.4} {y} 0 {y}"
        )
    )
    canvas.fill("face", egg + np.array([x, 0.0]), skin, soft=0.25)
    for side in (-1, 1):
        canvas.stroke(
            "eye",
            curve(
                f"M {x + side * half * 0.26} {y - size * 0.5}"
                f" Q {x + side * half * 0.46} {y - size * 0.46} {x + side * half * 0.66} {y - size * 0.5}"
            ),
            size * 0.03,
            hair,
        )
    canvas.stroke(
        "mouth",
        curve(
            f"M {x - half * 0.25} {y - size * 0.2} Q {x} {y - size * 0.15} {x + half * 0.25} {y - size * 0.2}"
        ),
        size * 0.035,
        Paint((196, 104, 100), "velvet"),
    )
    fringe = curve(
        f"M {x - half * 1.05} {y - size * 0.5}"
        f" C {x - half * 1.3} {y - size * 1.2} {x + half * 1.3} {y - size * 1.2} {x + half * 1.05} {y - size * 0.5}"
        f" Q {x + half * 0.9} {y - size * 0.82} {x - half * 0.1} {y - size * 0.84}"
        f" Q {x - half * 0.85} {y - size * 0.8} {x - half * 1.05} {y - size * 0.5}"
    )
    canvas.fill("hair", fringe, hair)
    return [("face", FACE), ("hair", HAIR)]
