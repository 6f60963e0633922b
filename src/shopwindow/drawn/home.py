"""How are the goods of a home drawn?

The same as `wear`, for mugs, lamps, chairs and the like.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shopwindow.drawn.canvas import Canvas, curve, ellipse, mirrored, rounded
from shopwindow.drawn.look import Look
from shopwindow.drawn.wear import clock_hands


def mug(canvas: Canvas, look: Look) -> None:
    """A mug with its handle to the right; tall or wide."""
    half = 0.34 if look.shape == "tall" else 0.50
    lip = half * 0.22
    canvas.stroke(
        "handle",
        curve(f"M {half - 0.03} .30 C {half + 0.34} .22 {half + 0.34} .80 {half - 0.06} .76"),
        0.085,
        look.main.plain(),
    )
    body = curve(
        f"M {-half} {lip} Q {-half} .7 {-half + 0.04} .88"
        f" Q {-half + 0.06} 1 {-half + 0.18} 1 L {half - 0.18} 1"
        f" Q {half - 0.06} 1 {half - 0.04} .88 Q {half} .7 {half} {lip}"
    )
    canvas.fill("body", body, look.main, volume="cylinder")
    canvas.fill("rim", ellipse(0, lip, half, lip), look.main.plain().shaded(1.06), volume="flat")
    inner = look.main.plain(look.trim.base).shaded(0.72) if look.coin else look.main.plain().shaded(0.62)
    canvas.fill("inside", ellipse(0, lip, half * 0.9, lip * 0.82), inner, volume="flat")
    if look.main.material != "glass" and look.tilt < 0.5:
        canvas.fill(
            "drink",
            ellipse(0, lip * 1.25, half * 0.78, lip * 0.5),
            look.wood.plain(material="plastic").shaded(0.6),
            volume="flat",
        )
    canvas.glint(rounded(-half * 0.72, 0.34, -half * 0.52, 0.86, 0.05), 0.45 * min(1.0, look.main.gloss))


def bottle(canvas: Canvas, look: Look) -> None:
    """A bottle with cap and label; slim or round."""
    half = 0.14 if look.shape == "slim" else 0.25
    shoulder = 0.36 if look.shape == "slim" else 0.46
    half_neck = 0.055 if look.shape == "slim" else 0.075
    outline = mirrored(
        curve(
            f"M 0 .10 L {half_neck} .10 L {half_neck} .22"
            f" C {half_neck} .30 {half} {shoulder - 0.12} {half} {shoulder} L {half} .93"
            f" Q {half} 1 {half - 0.06} 1 L 0 1"
        )
    )
    canvas.fill("body", outline, look.main, volume="cylinder")
    canvas.fill(
        "label",
        rounded(-half * 0.99, 0.58, half * 0.99, 0.84, 0.01),
        look.pale if look.coin else look.trim.plain(material="paper"),
        volume="cylinder",
        depth=0.7,
    )
    canvas.fill(
        "emblem", ellipse(0, 0.67, half * 0.34, half * 0.34), look.main.plain(material="paper"), volume="flat"
    )
    canvas.stroke(
        "lettering", np.array([[-half * 0.5, 0.78], [half * 0.5, 0.78]]), 0.016, look.dark, depth=0.2
    )
    canvas.fill(
        "cap",
        rounded(-half_neck - 0.02, 0.0, half_neck + 0.02, 0.12, 0.025),
        look.trim if look.tilt < 0.6 else look.metal,
        volume="cylinder",
    )
    canvas.glint(rounded(-half * 0.75, shoulder, -half * 0.55, 0.93, 0.03), 0.5)


def teapot(canvas: Canvas, look: Look) -> None:
    """A teapot, round or tall, the spout to the left."""
    half = 0.50 if look.shape == "round" else 0.36
    canvas.stroke(
        "handle",
        curve(f"M {half - 0.08} .38 C {half + 0.36} .20 {half + 0.36} .86 {half - 0.06} .80"),
        0.07,
        look.wood if look.coin else look.main.plain(),
    )
    canvas.fill(
        "spout",
        curve(
            f"M {-half + 0.12} .84"
            f" C {-half - 0.16} .82 {-half - 0.12} .52 {-half - 0.28} .36"
            f" L {-half - 0.16} .32 C {-half} .44 {-half} .56 {-half + 0.14} .54"
        ),
        look.main.plain(),
        soft=0.25,
    )
    canvas.fill(
        "body",
        mirrored(
            curve(
                f"M 0 .22 L .2 .23 C {half} .26 {half + 0.04} .5 {half} .68"
                f" C {half - 0.04} .92 {half - 0.16} 1 .2 1 L 0 1"
            )
        ),
        look.main,
        volume="ball",
    )
    canvas.fill(
        "lid", mirrored(curve("M 0 .12 C .14 .12 .24 .18 .26 .25 Q .1 .29 0 .29")), look.trim, soft=0.25
    )
    canvas.fill("knob", ellipse(0, 0.07, 0.07, 0.065), look.trim, volume="ball")
    canvas.glint(ellipse(-half * 0.45, 0.44, half * 0.16, 0.10), 0.7 * min(1.0, look.main.gloss))


def lamp(canvas: Canvas, look: Look) -> None:
    """A table lamp, a floor lamp, or one that hangs from the ceiling."""
    foot = look.metal if look.coin else look.wood
    if look.shape == "hanging":
        canvas.stroke("cord", np.array([[0.0, 0.0], [0.0, 0.42]]), 0.014, look.dark)
        canvas.fill("socket", rounded(-0.06, 0.36, 0.06, 0.48, 0.02), foot, volume="cylinder")
        canvas.fill(
            "bulb", ellipse(0, 0.93, 0.09, 0.07), look.pale.plain((255.0, 236.0, 170.0)), volume="ball"
        )
        canvas.fill(
            "shade",
            mirrored(curve("M 0 .44 L .08 .44 C .36 .48 .48 .7 .50 .92 L 0 .92")),
            look.main,
            volume="cylinder",
        )
        canvas.fill("rim", ellipse(0, 0.92, 0.50, 0.05), look.main.plain().shaded(0.7), volume="flat")
        canvas.fill(
            "glow", ellipse(0, 0.925, 0.38, 0.032), look.pale.plain((255.0, 240.0, 190.0)), volume="flat"
        )
        return
    if look.shape == "floor":
        canvas.fill("base", ellipse(0, 0.965, 0.15, 0.032), foot)
        canvas.stroke("stem", np.array([[0.0, 0.28], [0.0, 0.96]]), 0.018, foot)
        canvas.fill("shade", mirrored(curve("M 0 0 L .12 0 L .21 .30 L 0 .30")), look.main, volume="cylinder")
        canvas.stroke("rim", np.array([[-0.208, 0.295], [0.208, 0.295]]), 0.012, look.trim)
        return
    canvas.fill(
        "base",
        mirrored(
            curve(
                "M 0 .52 L .045 .52 C .06 .62 .20 .68 .18 .80 C .16 .90 .10 .92 .12 .95"
                " L .20 .97 L .20 1 L 0 1"
            )
        ),
        foot,
        volume="cylinder",
    )
    canvas.fill(
        "shade", mirrored(curve("M 0 0 L .20 0 L .40 .54 Q .2 .58 0 .58")), look.main, volume="cylinder"
    )
    canvas.stroke("rim", curve("M -.395 .53 Q 0 .605 .395 .53"), 0.018, look.trim)
    canvas.stroke("rim", np.array([[-0.2, 0.008], [0.2, 0.008]]), 0.016, look.trim)
    canvas.glint(ellipse(0, 0.34, 0.16, 0.16), 0.28)


def chair(canvas: Canvas, look: Look) -> None:
    """A chair seen a little from the side: high or low back, or a stool."""
    frame = look.main.plain() if look.main.material in ("wooden", "metal", "plastic") else look.wood
    seat = {"high-back": 0.58, "low-back": 0.46, "backless": 0.14}[look.shape]
    legs = (
        (-0.24, -0.30, 0.96, 0.7),
        (0.30, 0.34, 0.94, 0.7),
        (-0.30, -0.36, 1.0, 1.0),
        (0.24, 0.27, 0.99, 1.0),
    )
    for top, foot, end, shade in legs:
        canvas.stroke("leg", np.array([[top, seat], [foot, end]]), 0.042, frame.shaded(shade))
    canvas.stroke(
        "rung", np.array([[-0.31, seat * 0.4 + 0.6], [0.25, seat * 0.4 + 0.59]]), 0.024, frame.shaded(0.85)
    )
    if look.shape != "backless":
        top = 0.0 if look.shape == "high-back" else 0.04
        for side in (-0.27, 0.29):
            canvas.stroke("post", np.array([[side, top + 0.05], [side, seat]]), 0.038, frame)
        canvas.fill(
            "back",
            curve(
                f"M -.29 {top + 0.03} Q 0 {top - 0.03} .31 {top + 0.03} L .31 {seat * 0.72}"
                f" Q 0 {seat * 0.68} -.29 {seat * 0.72}"
            ),
            look.main,
            soft=0.14,
        )
    canvas.fill(
        "seat edge",
        curve(
            f"M -.37 {seat + 0.05} L .33 {seat + 0.05} L .38 {seat - 0.01}"
            f" L .38 {seat + 0.05} L .33 {seat + 0.11} L -.37 {seat + 0.11}"
        ),
        frame.shaded(0.7),
    )
    canvas.fill(
        "seat",
        curve(
            f"M -.28 {seat - 0.07} L .38 {seat - 0.07} Q .40 {seat - 0.02} .34 {seat + 0.06}"
            f" L -.36 {seat + 0.06} Q -.40 {seat + 0.02} -.28 {seat - 0.07}"
        ),
        look.main,
        soft=0.2,
    )


def table(canvas: Canvas, look: Look) -> None:
    """A table: round on one foot, square on four legs, or long with a drawer."""
    under = (
        look.main.plain().shaded(0.8) if look.main.material in ("wooden", "metal", "plastic") else look.wood
    )
    legs = look.metal if look.coin and look.main.material != "wooden" else under
    if look.shape == "round":
        canvas.fill("foot", ellipse(0, 0.94, 0.30, 0.06), legs)
        canvas.fill(
            "stem",
            mirrored(curve("M 0 .26 L .07 .26 C .05 .5 .05 .7 .10 .94 L 0 .95")),
            legs,
            volume="cylinder",
        )
        canvas.fill(
            "edge",
            curve("M -.72 .17 Q -.72 .23 -.68 .27 C -.4 .38 .4 .38 .68 .27 Q .72 .23 .72 .17"),
            look.main.plain().shaded(0.7),
        )
        canvas.fill("top", ellipse(0, 0.165, 0.72, 0.165), look.main, soft=0.1, depth=0.7)
        canvas.glint(ellipse(-0.2, 0.12, 0.30, 0.05), 0.35 * min(1.0, look.main.gloss + 0.2))
        return
    half = 0.66 if look.shape == "square" else 1.0
    for x, end, shade in (
        (-half * 0.72, 0.84, 0.6),
        (half * 0.80, 0.84, 0.6),
        (-half * 0.93, 1.0, 1.0),
        (half * 0.93, 1.0, 1.0),
    ):
        canvas.stroke("leg", np.array([[x, 0.3], [x, end]]), 0.055, legs.shaded(shade))
    canvas.fill(
        "apron",
        curve(f"M {-half * 0.95} .30 L {half * 0.95} .30 L {half * 0.95} .44 L {-half * 0.95} .44"),
        under.shaded(0.85),
    )
    if look.shape == "long":
        for side in (-1, 1):
            canvas.fill("drawer", rounded(side * 0.45 - 0.36, 0.32, side * 0.45 + 0.36, 0.43, 0.02), under)
            canvas.fill("knob", ellipse(side * 0.45, 0.375, 0.03, 0.025), look.metal, volume="ball")
    canvas.fill(
        "edge",
        curve(f"M {-half} .24 L {half} .24 L {half} .30 L {-half} .30"),
        look.main.plain().shaded(0.72),
    )
    canvas.fill(
        "top",
        curve(f"M {-half * 0.80} .02 L {half * 0.80} .02 L {half} .25 L {-half} .25"),
        look.main,
        soft=0.08,
        depth=0.7,
    )
    canvas.glint(
        curve(f"M {-half * 0.5} .05 L {-half * 0.1} .05 L {-half * 0.3} .2 L {-half * 0.75} .2"),
        0.25 * min(1.0, look.main.gloss + 0.2),
    )


def sofa(canvas: Canvas, look: Look) -> None:
    """A sofa for one or two."""
    half = 0.62 if look.shape == "single" else 1.05
    for x in (-half + 0.14, half - 0.14):
        canvas.fill(
            "leg", curve(f"M {x - 0.05} .88 L {x + 0.05} .88 L {x + 0.03} 1 L {x - 0.03} 1"), look.wood
        )
    canvas.fill("back", rounded(-half + 0.10, 0.0, half - 0.10, 0.70, 0.16), look.main, soft=0.16)
    seats = (0.0,) if look.shape == "single" else (-half * 0.39, half * 0.39)
    wide = half - 0.20 if look.shape == "single" else half * 0.39
    canvas.fill("base", rounded(-half + 0.06, 0.66, half - 0.06, 0.91, 0.05), look.main.plain().shaded(0.85))
    for x in seats:
        canvas.fill("cushion", rounded(x - wide, 0.46, x + wide, 0.70, 0.07), look.main, soft=0.22)
    for side in (-1, 1):
        arm = rounded(
            min(side * half, side * (half - 0.22)), 0.30, max(side * half, side * (half - 0.22)), 0.92, 0.10
        )
        canvas.fill("arm", arm, look.main, soft=0.25)
    if look.coin:
        canvas.fill("pillow", rounded(-half + 0.26, 0.24, -half + 0.60, 0.52, 0.08), look.trim, soft=0.25)


def clock(canvas: Canvas, look: Look) -> None:
    """A wall clock, round or square, with a coloured frame and face."""
    rim, face = look.main.plain().shaded(0.78), look.main
    if look.shape == "square":
        canvas.fill("frame", rounded(-0.5, 0, 0.5, 1, 0.12), rim, soft=0.06)
        canvas.fill("face", rounded(-0.42, 0.08, 0.42, 0.92, 0.07), face, depth=0.5)
    else:
        canvas.fill("frame", ellipse(0, 0.5, 0.5, 0.5), rim, soft=0.06)
        canvas.fill("face", ellipse(0, 0.5, 0.42, 0.42), face, depth=0.5)
    canvas.fill("dial", ellipse(0, 0.5, 0.27, 0.27), look.pale, depth=0.4)
    marks = look.dark if sum(look.main.base) > 390 else look.pale
    for hour in range(12):
        turn = hour * np.pi / 6
        arm = np.array([[np.sin(turn), -np.cos(turn)]])
        canvas.stroke(
            "mark",
            np.array([[0.0, 0.5]]) + arm * np.array([[0.33 if hour % 3 else 0.31], [0.37]]),
            0.03 if hour % 3 == 0 else 0.018,
            marks,
            depth=0.4,
        )
    clock_hands(canvas, look, 0.5, 0.34)


def vase(canvas: Canvas, look: Look) -> None:
    """A vase, slim or round, often with a few twigs."""
    if look.coin:
        _twigs(canvas, look)
    if look.shape == "slim":
        half = curve("M 0 .36 L .10 .36 C .06 .46 .07 .50 .13 .60 C .20 .74 .16 .90 .11 1 L 0 1")
        mouth = 0.10
    else:
        half = curve("M 0 .36 L .12 .36 C .08 .44 .30 .50 .31 .70 C .31 .88 .20 1 .13 1 L 0 1")
        mouth = 0.12
    canvas.fill("body", mirrored(half), look.main, volume="ball" if look.shape == "round" else "cylinder")
    canvas.fill("rim", ellipse(0, 0.365, mouth, 0.022), look.main.plain().shaded(0.6), volume="flat")
    canvas.glint(
        ellipse(-0.12 if look.shape == "round" else -0.07, 0.66, 0.03, 0.09), 0.7 * min(1.0, look.main.gloss)
    )


def _twigs(canvas: Canvas, look: Look) -> None:
    green = replace(look.dark, base=(96.0, 140.0, 84.0))
    for number, lean in enumerate((-0.22, -0.06, 0.10, 0.24)):
        lean += (look.tilt - 0.5) * 0.08
        top = 0.04 + 0.09 * (number % 2)
        canvas.stroke("twig", curve(f"M 0 .40 Q {lean * 0.3} .22 {lean} {top}"), 0.010, green.shaded(0.8))
        for share in (0.35, 0.6, 0.8):
            x, y = lean * share, 0.40 + (top - 0.40) * share
            side = 1 if (number + round(share * 10)) % 2 else -1
            canvas.fill(
                "leaf",
                curve(
                    f"M {x} {y} Q {x + side * 0.06} {y - 0.05} {x + side * 0.10} {y - 0.03}"
                    f" Q {x + side * 0.06} {y + 0.02} {x} {y}"
                ),
                green,
            )
        if look.tilt > 0.4:
            canvas.fill(
                "bloom",
                ellipse(lean, top + 0.01, 0.045, 0.04),
                look.trim.plain((240.0, 150.0, 160.0) if number % 2 else (250.0, 226.0, 180.0), "paper"),
                volume="ball",
            )


def book(canvas: Canvas, look: Look) -> None:
    """A book standing, its cover to the front; thick or thin."""
    thick = 0.20 if look.shape == "thick" else 0.06
    cover = look.main
    canvas.fill(
        "pages",
        curve(f"M -.36 .04 L {-0.36 + thick} 0 L {0.36 + thick} 0 L .36 .05"),
        look.pale.plain((244.0, 236.0, 216.0), "paper").shaded(0.95),
        volume="flat",
    )
    canvas.fill(
        "pages",
        curve(f"M .35 .05 L {0.35 + thick} .01 L {0.35 + thick} .94 L .35 .99"),
        look.pale.plain((238.0, 228.0, 206.0), "paper"),
        volume="flat",
    )
    for share in np.linspace(0.25, 0.9, 4 if thick > 0.1 else 2):
        x = 0.35 + thick * share
        canvas.stroke(
            "page",
            np.array([[x, 0.05 - 0.04 * share], [x, 0.98 - 0.045 * share]]),
            0.003,
            look.pale.plain((206.0, 194.0, 172.0), "paper"),
            depth=0.1,
        )
    canvas.fill("cover", curve("M -.36 .04 L .36 .04 L .36 1 L -.36 1"), cover, soft=0.04)
    canvas.fill("spine", curve("M -.36 .04 L -.29 .04 L -.29 1 L -.36 1"), cover.plain().shaded(0.72))
    canvas.fill(
        "title",
        rounded(-0.20, 0.20, 0.28, 0.44, 0.02),
        look.pale.plain((246.0, 240.0, 226.0), "paper"),
        volume="flat",
    )
    for y, reach in ((0.27, 0.18), (0.33, 0.10), (0.39, 0.14)):
        canvas.stroke(
            "lettering", np.array([[0.04 - reach, y], [0.04 + reach, y]]), 0.022, look.dark, depth=0.2
        )
    canvas.fill("emblem", ellipse(0.04, 0.72, 0.11, 0.11), look.trim, volume="flat")


def cushion(canvas: Canvas, look: Look) -> None:
    """A cushion, square with drawn-in sides or round with a button."""
    if look.shape == "round":
        canvas.fill("cover", ellipse(0, 0.5, 0.52, 0.5), look.main, soft=0.22)
        for turn in np.linspace(0, 2 * np.pi, 11)[:-1]:
            fold = np.array(
                [
                    [0.07 * np.cos(turn), 0.5 + 0.07 * np.sin(turn)],
                    [0.34 * np.cos(turn), 0.5 + 0.33 * np.sin(turn)],
                ]
            )
            canvas.stroke("fold", fold, 0.008, look.main.plain().shaded(0.84), depth=0.2)
        canvas.fill("button", ellipse(0, 0.5, 0.06, 0.06), look.trim, volume="ball")
        canvas.stroke("piping", ellipse(0, 0.5, 0.505, 0.485), 0.02, look.trim)
        return
    outline = curve("M -.50 .02 Q 0 .12 .50 .02 Q .42 .5 .50 .98 Q 0 .90 -.50 .98 Q -.42 .5 -.50 .02")
    canvas.fill("cover", outline, look.main, soft=0.2)
    canvas.stroke("piping", outline, 0.018, look.trim)
    if look.coin:
        for x, y in ((-0.5, 0.02), (0.5, 0.02), (0.5, 0.98), (-0.5, 0.98)):
            canvas.fill("tassel", ellipse(x, y, 0.045, 0.045), look.trim, volume="ball")
