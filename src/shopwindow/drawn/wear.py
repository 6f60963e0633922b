"""How are the goods that one wears or carries drawn?

Each function paints one kind part by part on a canvas, in the frame of the thing (x 0 its axis, y 0 top, y 1 foot).
They know paints and outlines, no words but the names of their parts and shapes.
"""

from __future__ import annotations

import numpy as np

from shopwindow.drawn.canvas import Canvas, curve, ellipse, mirrored, rounded
from shopwindow.drawn.look import Look


def shoe(canvas: Canvas, look: Look) -> None:
    """A sneaker, low or high, or a pump on a high heel; the toe to the right."""
    if look.shape == "high-heeled":
        _pump(canvas, look)
        return
    if look.shape == "high-top":
        tongue = "M -.32 .10 L -.22 -.02 Q -.10 -.04 -.04 .06 L .10 .44 L -.16 .44"
        upper = (
            "M -.62 .84 C -.68 .62 -.58 .40 -.60 .08 Q -.58 .02 -.48 .02 Q -.34 .05 -.22 .03 L -.12 .10"
            " C -.02 .30 .06 .44 .24 .54 C .48 .60 .68 .68 .68 .84"
        )
        sole, toe = "M -.66 .82 L .71 .80 Q .74 .93 .66 .97 L -.60 1 Q -.70 .97 -.66 .82", 0.5
        laces = [(-0.12, 0.14), (-0.06, 0.27), (0.02, 0.39), (0.13, 0.49)]
        toe_cap = "M .69 .84 C .69 .70 .56 .64 .38 .60 C .36 .70 .37 .78 .40 .85"
        heel = "M -.64 .83 C -.68 .62 -.58 .40 -.60 .08 L -.46 .04 C -.46 .36 -.50 .60 -.44 .84"
        swoosh = "M -.36 .72 C -.24 .70 -.08 .60 .02 .48 L .06 .54 C -.04 .68 -.22 .77 -.36 .77"
    else:
        tongue = "M -.36 .22 L -.34 .02 Q -.22 -.02 -.12 .08 L .14 .40 L -.1 .5"
        upper = (
            "M -.92 .80 C -1.0 .52 -.95 .24 -.87 .10 Q -.78 .03 -.68 .10"
            " C -.58 .24 -.46 .22 -.34 .10 L -.20 .12"
            " C .02 .34 .22 .46 .5 .50 C .80 .54 .94 .64 .95 .82"
        )
        sole, toe = "M -.96 .78 L .98 .77 Q 1.02 .92 .92 .97 L -.86 1 Q -1.0 .97 -.96 .78", 0.7
        laces = [(-0.16, 0.17), (-0.06, 0.28), (0.06, 0.37), (0.19, 0.44)]
        toe_cap = "M .96 .82 C .95 .64 .82 .56 .58 .52 C .54 .62 .55 .72 .60 .82"
        heel = "M -.93 .80 C -1.0 .52 -.95 .24 -.87 .10 L -.72 .10 C -.76 .34 -.78 .58 -.70 .80"
        swoosh = "M -.5 .66 C -.3 .68 -.1 .62 .08 .46 L .14 .52 C -.02 .70 -.26 .78 -.5 .74"
    canvas.fill("tongue", curve(tongue), look.main.plain().shaded(0.8))
    canvas.fill("upper", curve(upper), look.main, soft=0.22)
    canvas.fill("toe cap", curve(toe_cap), look.trim, soft=0.3)
    canvas.fill("heel", curve(heel), look.trim, soft=0.3)
    canvas.fill("emblem", curve(swoosh), look.trim)
    for x, y in laces:
        canvas.stroke("lace", np.array([[x, y], [x - 0.17, y + 0.10]]), 0.042, look.pale)
    canvas.fill("sole", curve(sole), look.pale, soft=0.25)
    canvas.stroke("welt", np.array([[-toe - 0.2, 0.93], [toe + 0.2, 0.91]]), 0.025, look.main.plain())


def _pump(canvas: Canvas, look: Look) -> None:
    canvas.fill(
        "inside",
        curve("M -.70 .08 Q -.50 .02 -.40 .20 C -.1 .50 .2 .64 .40 .70 L .1 .74 L -.5 .4"),
        look.trim.shaded(0.6),
    )
    canvas.fill(
        "heel",
        curve("M -.72 .30 C -.70 .6 -.66 .8 -.66 1 L -.57 1 C -.56 .8 -.52 .62 -.38 .52"),
        look.main.plain().shaded(0.8),
    )
    canvas.fill(
        "upper",
        curve(
            "M -.72 .08 C -.77 .3 -.70 .44 -.52 .53 C -.24 .66 -.02 .88 .2 .95 L .70 .985 Q .80 .96 .76 .89"
            " C .64 .78 .50 .74 .40 .70 C .16 .70 -.26 .56 -.44 .30 Q -.58 .10 -.72 .08"
        ),
        look.main,
        soft=0.2,
    )
    canvas.fill("sole", curve("M .18 .945 L .72 .98 L .72 1 L .22 .985"), look.trim.shaded(0.7))
    canvas.fill("buckle", ellipse(0.45, 0.79, 0.055, 0.035), look.metal, volume="ball")
    canvas.glint(curve("M .5 .80 Q .64 .84 .70 .92 Q .58 .88 .5 .80"), 0.4)


def boot(canvas: Canvas, look: Look) -> None:
    """A boot, ankle-high or long, toe to the right."""
    if look.shape == "long":
        inside, shaft = (
            ellipse(-0.06, 0.035, 0.2, 0.03),
            (
                "M -.26 .03 Q -.05 .08 .14 .03 C .14 .3 .06 .5 .10 .70"
                " C .14 .78 .24 .80 .33 .85 Q .39 .89 .38 .94"
                " L -.24 .94 C -.16 .7 -.27 .4 -.26 .03"
            ),
        )
        heel, sole = (
            "M -.26 .92 L -.04 .92 L -.06 1 L -.25 1",
            "M -.08 .92 L .40 .92 Q .42 .97 .38 .985 L -.06 .985",
        )
        strap, buckle = np.array([[-0.20, 0.70], [0.11, 0.67]]), (0.0, 0.69)
        zipper = np.array([[-0.14, 0.10], [-0.12, 0.60]])
        cuff = "M -.265 .02 Q -.05 .07 .145 .02 L .14 .11 Q -.05 .16 -.262 .11"
    else:
        inside, shaft = (
            ellipse(-0.16, 0.05, 0.29, 0.045),
            (
                "M -.46 .05 Q -.16 .12 .14 .05 L .14 .40 C .16 .52 .30 .56 .44 .64"
                " C .58 .70 .62 .80 .60 .90"
                " L -.48 .90 C -.42 .62 -.46 .3 -.46 .05"
            ),
        )
        heel, sole = (
            "M -.52 .87 L -.12 .87 L -.16 1 L -.50 1",
            "M -.2 .87 L .63 .86 Q .66 .95 .60 .98 L -.16 .98",
        )
        strap, buckle = np.array([[-0.44, 0.50], [0.17, 0.44]]), (-0.06, 0.48)
        zipper = np.array([[-0.30, 0.14], [-0.30, 0.42]])
        cuff = "M -.465 .04 Q -.16 .11 .145 .04 L .142 .16 Q -.16 .23 -.46 .16"
    canvas.fill("inside", inside, look.trim.plain().shaded(0.45), volume="flat")
    canvas.fill("shaft", curve(shaft), look.main, soft=0.2)
    canvas.fill("cuff", curve(cuff), look.trim, soft=0.2)
    canvas.stroke("zip", zipper, 0.014, look.metal)
    canvas.stroke("strap", strap, 0.05, look.trim)
    canvas.fill(
        "buckle",
        rounded(buckle[0] - 0.045, buckle[1] - 0.04, buckle[0] + 0.045, buckle[1] + 0.04, 0.01),
        look.metal,
    )
    canvas.fill("sole", curve(sole), look.dark)
    canvas.fill("heel", curve(heel), look.dark)


def handbag(canvas: Canvas, look: Look) -> None:
    """A tote with two handles (large), a flap bag on a strap (small), or a round one."""
    if look.shape == "large":
        for shift, shade in ((0.05, 0.6), (0.0, 1.0)):
            handle = curve(
                f"M -.24 {0.46 - shift} C -.22 {-0.06 - shift / 2} .22 {-0.06 - shift / 2} .24 {0.46 - shift}"
            )
            canvas.stroke("handle", handle, 0.04, look.trim.shaded(shade))
        canvas.fill(
            "body",
            curve(
                "M -.50 .36 L .50 .36 Q .52 .38 .53 .42 L .60 .94 Q .60 1 .54 1 L -.54 1"
                " Q -.60 1 -.60 .94 L -.53 .42 Q -.52 .38 -.50 .36"
            ),
            look.main,
        )
        canvas.fill("rim", curve("M -.50 .355 L .50 .355 L .515 .43 L -.515 .43"), look.trim)
        for side in (-1, 1):
            canvas.fill(
                "fitting", rounded(side * 0.24 - 0.035, 0.41, side * 0.24 + 0.035, 0.5, 0.02), look.metal
            )
        canvas.fill("tag", rounded(-0.10, 0.50, 0.10, 0.60, 0.02), look.trim)
        return
    canvas.stroke(
        "strap",
        curve("M -.44 .50 C -.42 -.14 .42 -.14 .44 .50"),
        0.028,
        look.metal if look.coin else look.trim,
    )
    if look.shape == "round":
        canvas.fill("body", ellipse(0, 0.66, 0.40, 0.34), look.main, soft=0.2)
        canvas.stroke("seam", ellipse(0, 0.66, 0.35, 0.295), 0.012, look.trim)
        canvas.fill("tassel", curve("M .02 .66 L .10 .66 L .14 .92 L -.02 .92"), look.trim)
    else:
        canvas.fill("body", rounded(-0.50, 0.42, 0.50, 1.0, 0.09), look.main.shaded(0.92))
        canvas.fill(
            "flap",
            curve(
                "M -.50 .46 Q -.50 .40 -.44 .40 L .44 .40 Q .50 .40 .50 .46 L .47 .66"
                " C .40 .80 -.40 .80 -.47 .66"
            ),
            look.main,
        )
    for side in (-1, 1):
        canvas.fill("fitting", ellipse(side * 0.43, 0.50, 0.035, 0.035), look.metal, volume="ball")
    canvas.fill("clasp", rounded(-0.07, 0.68, 0.07, 0.78, 0.03), look.metal)


def backpack(canvas: Canvas, look: Look) -> None:
    """A backpack from the front; the large one has side pockets and two front pockets."""
    canvas.stroke("handle", curve("M -.10 .08 C -.10 -.03 .10 -.03 .10 .08"), 0.035, look.trim)
    for side in (-1, 1):
        canvas.stroke(
            "strap",
            np.array([[side * 0.30, 0.2], [side * 0.42, 0.5], [side * 0.36, 0.9]]),
            0.055,
            look.trim.shaded(0.7),
        )
    if look.shape == "large":
        for side in (-1, 1):
            pocket = rounded(min(side * 0.34, side * 0.46), 0.60, max(side * 0.34, side * 0.46), 0.94, 0.05)
            canvas.fill("side pocket", pocket, look.trim)
    body = mirrored(curve("M 0 .04 C .26 .04 .37 .16 .38 .36 L .40 .90 Q .40 1 .30 1 L 0 1"))
    canvas.fill("body", body, look.main, soft=0.16)
    canvas.stroke("zip", curve("M -.30 .46 C -.30 .10 .30 .10 .30 .46"), 0.016, look.dark)
    if look.shape == "large":
        canvas.fill("pocket", rounded(-0.25, 0.36, 0.25, 0.52, 0.05), look.main.plain().shaded(0.85))
    canvas.fill("pocket", rounded(-0.29, 0.57, 0.29, 0.95, 0.07), look.trim, soft=0.14)
    canvas.stroke("zip", np.array([[-0.24, 0.64], [0.24, 0.64]]), 0.014, look.metal)
    canvas.fill("tag", rounded(-0.08, 0.74, 0.08, 0.83, 0.015), look.pale)
    canvas.stroke("puller", np.array([[0.20, 0.64], [0.22, 0.71]]), 0.018, look.metal)


def shirt(canvas: Canvas, look: Look) -> None:
    """A shirt laid out: short-sleeved, long-sleeved with a button front, or sleeveless."""
    reach = {
        "short-sleeved": "M .28 .06 C .42 .10 .52 .24 .60 .42 L .42 .52 L .30 .34",
        "long-sleeved": "M .28 .06 C .44 .12 .50 .34 .58 .84 L .42 .88 C .38 .66 .36 .5 .28 .36",
    }
    right = reach.get(look.shape)
    if right is not None:
        for side in (-1, 1):
            canvas.fill("sleeve", curve(right) * np.array([side, 1.0]), look.main.shaded(0.93))
        if look.shape == "long-sleeved":
            for side in (-1, 1):
                canvas.fill(
                    "cuff",
                    curve("M .41 .84 L .575 .80 L .59 .86 L .425 .90") * np.array([side, 1.0]),
                    look.trim,
                )
    canvas.fill("inside", ellipse(0, 0.05, 0.15, 0.05), look.main.plain().shaded(0.55), volume="flat")
    top = ".30 .07 C .26 .22 .29 .34 .33 .40" if right is None else ".31 .07 C .33 .2 .32 .3 .33 .40"
    torso = mirrored(curve(f"M 0 .15 Q .10 .14 .15 .03 L {top} L .335 .96 Q .2 1 0 1"))
    canvas.fill("torso", torso, look.main, soft=0.12)
    for x in (-0.2, 0.17):
        canvas.stroke(
            "fold",
            curve(f"M {x} .60 Q {x + 0.05} .78 {x - 0.01} .96"),
            0.012,
            look.main.plain().shaded(0.86),
            depth=0.4,
        )
    if look.shape == "long-sleeved":
        canvas.stroke("placket", np.array([[0.0, 0.15], [0.0, 0.98]]), 0.05, look.main.plain().shaded(0.94))
        for y in (0.28, 0.44, 0.6, 0.76, 0.9):
            canvas.fill("button", ellipse(0, y, 0.016, 0.016), look.pale, volume="ball")
        canvas.fill("collar", curve("M -.15 .03 L 0 .15 L -.11 .24 L -.2 .08"), look.trim)
        canvas.fill("collar", curve("M .15 .03 L 0 .15 L .11 .24 L .2 .08"), look.trim)
    else:
        canvas.stroke("collar", curve("M -.15 .03 Q -.10 .15 0 .15 Q .10 .15 .15 .03"), 0.032, look.trim)
        if look.coin:
            canvas.fill("pocket", rounded(0.08, 0.32, 0.24, 0.49, 0.02), look.trim)


def dress(canvas: Canvas, look: Look) -> None:
    """A dress with a flared skirt, short or long, a belt at the waist."""
    waist = 0.40 if look.shape == "short" else 0.33
    wide, flare = (0.40, 0.30) if look.shape == "short" else (0.29, 0.20)
    canvas.fill("inside", ellipse(0, 0.06, 0.10, 0.045), look.main.plain().shaded(0.5), volume="flat")
    for side in (-1, 1):
        canvas.fill(
            "sleeve",
            curve("M .15 .03 C .24 .06 .28 .14 .30 .22 L .20 .27 L .16 .14") * np.array([side, 1.0]),
            look.main.shaded(0.9),
        )
    hem = mirrored(
        curve(
            f"M 0 {waist - 0.01} L .15 {waist}"
            f" C {flare - 0.06} {waist + 0.16} {flare + 0.06} .7 {wide} .94"
            f" C {wide - 0.1} 1 {wide - 0.2} .96 0 1"
        )
    )
    canvas.fill("skirt", hem, look.main, soft=0.1)
    for share in (-0.6, -0.25, 0.15, 0.5):
        fold = curve(f"M {share * 0.2} {waist + 0.06} Q {share * wide * 0.7} .7 {share * wide} .95")
        canvas.stroke("fold", fold, 0.012, look.main.plain().shaded(0.82), depth=0.3)
    canvas.fill(
        "bodice",
        mirrored(
            curve(f"M 0 .14 Q .08 .12 .10 .02 L .17 .03 C .15 .14 .19 .2 .18 .25 L .145 {waist} L 0 {waist}")
        ),
        look.main,
        soft=0.14,
    )
    canvas.stroke("belt", curve(f"M -.145 {waist} Q 0 {waist + 0.03} .145 {waist}"), 0.035, look.trim)
    canvas.fill("buckle", rounded(-0.03, waist - 0.012, 0.03, waist + 0.04, 0.008), look.metal)


def trousers(canvas: Canvas, look: Look) -> None:
    """Trousers laid out, long or short."""
    knee = 0.62 if look.shape == "short" else 0.5
    for side in (-1, 1):
        leg = (
            f"M 0 .06 L .27 .06 C .32 .2 .34 .4 .{'40' if look.shape == 'short' else '31'} 1"
            f" L .{'06' if look.shape == 'short' else '11'} 1 C .06 {knee} .02 .36 0 .34"
        )
        canvas.fill("leg", curve(leg) * np.array([side, 1.0]), look.main, soft=0.16)
        canvas.stroke(
            "fold",
            curve("M .18 .34 Q .22 .6 .21 .95") * np.array([side, 1.0]),
            0.008,
            look.main.plain().shaded(0.85),
            depth=0.3,
        )
        canvas.stroke(
            "pocket", curve("M .12 .07 Q .16 .18 .28 .18") * np.array([side, 1.0]), 0.012, look.trim
        )
    canvas.fill("waistband", curve("M -.275 0 L .275 0 L .285 .07 L -.285 .07"), look.trim)
    canvas.stroke("fly", curve("M 0 .07 L 0 .32"), 0.012, look.main.plain().shaded(0.75))
    canvas.fill("button", ellipse(0, 0.035, 0.02, 0.02), look.metal, volume="ball")


def cap(canvas: Canvas, look: Look) -> None:
    """A peaked cap, a bucket hat, or a knitted bobble hat."""
    if look.shape == "bobble":
        canvas.fill(
            "crown",
            mirrored(curve("M 0 .18 C .30 .18 .46 .44 .48 .82 L 0 .86")),
            look.main,
            volume="bevel",
            soft=0.2,
        )
        canvas.fill("band", rounded(-0.52, 0.72, 0.52, 1.0, 0.10), look.trim, soft=0.3)
        for turn in np.linspace(0, 2 * np.pi, 9)[:-1]:
            canvas.fill(
                "pompom",
                ellipse(0.07 * np.cos(turn), 0.14 + 0.06 * np.sin(turn), 0.09, 0.085),
                look.trim,
                volume="ball",
            )
        return
    if look.shape == "bucket":
        canvas.fill(
            "brim",
            mirrored(curve("M 0 .60 L .46 .60 C .62 .74 .74 .84 .80 .94 Q .4 1.02 0 1")),
            look.main.shaded(0.85),
            soft=0.2,
        )
        canvas.fill(
            "crown",
            mirrored(curve("M 0 .02 L .28 .03 Q .38 .05 .40 .14 L .50 .64 Q .3 .74 0 .74")),
            look.main,
            soft=0.14,
        )
        canvas.stroke("band", curve("M -.48 .60 Q 0 .76 .48 .60"), 0.09, look.trim)
        return
    canvas.fill(
        "crown",
        curve("M -.78 .84 C -.80 .30 -.46 .04 -.12 .04 C .22 .04 .44 .34 .46 .80 C .1 .92 -.4 .94 -.78 .84"),
        look.main,
        soft=0.2,
    )
    canvas.stroke("seam", curve("M -.12 .05 C .06 .3 .12 .6 .12 .86"), 0.014, look.main.plain().shaded(0.7))
    canvas.stroke("seam", curve("M -.12 .05 C -.4 .25 -.5 .6 -.48 .88"), 0.014, look.main.plain().shaded(0.7))
    canvas.fill("button", ellipse(-0.12, 0.045, 0.06, 0.04), look.trim, volume="ball")
    canvas.fill(
        "peak",
        curve("M .02 .84 C .2 .74 .40 .72 .50 .76 C .74 .82 .92 .90 .98 .98 C .7 1 .3 1 .02 .94"),
        look.trim,
        soft=0.25,
    )
    canvas.fill("emblem", ellipse(0.28, 0.52, 0.09, 0.11), look.pale, volume="flat")


def umbrella(canvas: Canvas, look: Look) -> None:
    """An umbrella, open or folded."""
    if look.shape == "folded":
        canvas.stroke("handle", curve("M 0 .74 L 0 .92 C 0 1.01 .10 1.01 .10 .92"), 0.035, look.wood)
        canvas.stroke("tip", np.array([[0.0, 0.0], [0.0, 0.08]]), 0.02, look.metal)
        canvas.fill(
            "canopy",
            curve("M 0 .05 C .05 .2 .08 .5 .075 .74 L -.075 .76 C -.08 .5 -.05 .2 0 .05"),
            look.main,
            soft=0.25,
        )
        for bend in (-0.03, 0.02):
            canvas.stroke(
                "fold", curve(f"M 0 .08 Q {bend * 1.6} .4 {bend} .74"), 0.008, look.main.plain().shaded(0.7)
            )
        canvas.stroke("strap", np.array([[-0.072, 0.55], [0.072, 0.52]]), 0.03, look.trim)
        return
    canvas.stroke("shaft", np.array([[0.0, 0.02], [0.0, 0.9]]), 0.018, look.metal)
    canvas.stroke("handle", curve("M 0 .76 L 0 .92 C 0 1.0 .12 1.0 .12 .91"), 0.035, look.wood)
    canvas.fill(
        "lining",
        curve("M -.60 .54 Q 0 .40 .60 .54 Q .3 .56 0 .56 Q -.3 .56 -.60 .54"),
        look.main.plain().shaded(0.5),
    )
    canvas.fill(
        "canopy",
        curve(
            "M 0 .05 C .32 .07 .57 .26 .62 .56 Q .52 .48 .40 .53 Q .30 .46 .14 .52"
            " Q 0 .46 -.14 .52 Q -.30 .46 -.40 .53 Q -.52 .48 -.62 .56"
            " C -.57 .26 -.32 .07 0 .05"
        ),
        look.main,
        soft=0.22,
    )
    for end, bend in ((-0.40, -0.34), (-0.14, -0.14), (0.14, 0.14), (0.40, 0.34)):
        canvas.stroke(
            "rib", curve(f"M 0 .06 Q {bend} .2 {end} .52"), 0.008, look.main.plain().shaded(0.72), depth=0.3
        )
    canvas.fill("tip", curve("M -.015 .06 L 0 0 L .015 .06"), look.metal)


def watch(canvas: Canvas, look: Look) -> None:
    """A wristwatch upright: strap, case round or square, dial, hands."""
    canvas.fill("strap", mirrored(curve("M 0 0 L .11 .01 L .15 .34 L 0 .34")), look.main, soft=0.18)
    canvas.fill("strap", mirrored(curve("M 0 .66 L .15 .66 L .11 .97 Q .06 1 0 1")), look.main, soft=0.18)
    for y in (0.78, 0.84, 0.90):
        canvas.fill("hole", ellipse(0, y, 0.012, 0.009), look.dark, volume="flat")
    canvas.fill("crown", rounded(0.24, 0.47, 0.29, 0.53, 0.01), look.metal)
    if look.shape == "square":
        canvas.fill("case", rounded(-0.24, 0.27, 0.24, 0.73, 0.07), look.metal)
        canvas.fill("dial", rounded(-0.19, 0.32, 0.19, 0.68, 0.04), look.pale, depth=0.5)
    else:
        canvas.fill("case", ellipse(0, 0.5, 0.26, 0.26), look.metal, soft=0.08)
        canvas.fill("dial", ellipse(0, 0.5, 0.21, 0.21), look.pale, depth=0.5)
    for hour in range(12):
        turn = hour * np.pi / 6
        arm = np.array([[np.sin(turn), -np.cos(turn)]])
        canvas.stroke("mark", np.array([[0.0, 0.5]]) + arm * np.array([[0.155], [0.18]]), 0.012, look.dark)
    clock_hands(canvas, look, 0.5, 0.17)


def clock_hands(canvas: Canvas, look: Look, y: float, reach: float) -> None:
    """An hour, a minute and a second hand about (0, y)."""
    for share, width, turn, paint in (
        (0.55, 0.12, -0.9, look.dark),
        (0.85, 0.08, 0.95, look.dark),
        (0.9, 0.035, 2.6, look.trim),
    ):
        turn += look.tilt * 6
        tip = [share * reach * np.sin(turn), y - share * reach * np.cos(turn)]
        canvas.stroke("hand", np.array([[0.0, y], tip]), width * reach, paint, depth=0.4)
    canvas.fill("pin", ellipse(0, y, 0.07 * reach, 0.07 * reach), look.dark, volume="ball")
