"""What does the photo of one product show, and where?

Composes a scene, the good, clutter and hands into a photo, and keeps what was drawn where. `regions` then turns that
into a detector's boxes. It knows no queries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from shopwindow.drawn import props
from shopwindow.drawn.canvas import Canvas, Placement
from shopwindow.drawn.figures import SQUARE_PHOTOS
from shopwindow.drawn.goods import BY_NAME, KINDS, OTHERS, Good, Kind, shape_of
from shopwindow.drawn.look import Look, make_look, near
from shopwindow.drawn.paint import COLOURS, PATTERNS, Number
from shopwindow.drawn.scenes import Scene, make_scene

Box = tuple[float, float, float, float]
_SIDES: Final = (224, 240, 256, 288, 300, 320)
_MANY_REGIONS: Final = 11  # from here on a photo shows a display of several pieces


@dataclass(frozen=True)
class Thing:
    """Something drawn: `box` is (top, left, bottom, right) px; `shows` is a kind, a prop, or "kind: part"."""

    shows: str
    box: Box
    category: int


@dataclass(frozen=True)
class Drawn:
    """A photo and what is in it: the good, its parts, other things, each framed exactly."""

    photo: Image.Image
    scene: str
    good: Thing
    parts: tuple[Thing, ...]
    others: tuple[Thing, ...]


def draw_photo(good: Good, rng: np.random.Generator, *, regions: int) -> Drawn:
    """The product's photo, the busier the more `regions` a detector shall find in it."""
    return _Shoot(good, rng, regions).finish()


class _Shoot:
    """One photo in the making."""

    def __init__(self, good: Good, rng: np.random.Generator, regions: int) -> None:
        self.rng = rng
        self.kind = BY_NAME[good.kind]
        self.shape = shape_of(self.kind, good.shape)
        self.look = make_look(good.colour, good.pattern, good.material, good.shape, rng, self.kind.period)
        self.width, self.height = _photo_size(rng)
        self.place = _place_of(self.kind, good.shape, rng)
        self.scene: Scene = make_scene(self.place, self.width, self.height, rng)
        self.photo = self.scene.photo
        self.others: list[Thing] = []
        self.parts: tuple[Thing, ...] = ()
        self.regions = regions
        self.clutter = _clutter(regions, rng)
        self.worn = self._is_worn()

    def finish(self) -> Drawn:
        """Draws back to front."""
        placement = self._placement()
        pieces = self.clutter
        for number in range(pieces):
            if self.rng.random() < 0.7:
                self._prop(number)
            else:
                self._second_good(number)
        if self.worn:
            self._head(placement)
        if self.regions >= _MANY_REGIONS:
            for share in (0.14, 0.38, 0.62, 0.86)[: 2 + self.regions // 12]:
                self._copy(placement, share)
        box = self._good(placement)
        if not self.worn and self.rng.random() < 0.12 and self.place != "floor":
            self._hand(box)
        if self.rng.random() < 0.10:
            self._badge()
        return Drawn(
            self.photo,
            self.scene.name,
            Thing(self.kind.name, box, self.kind.category),
            self.parts,
            tuple(self.others),
        )

    def _is_worn(self) -> bool:
        wearable = (self.kind.name in ("shirt", "dress") and self.place == "wall") or (
            self.kind.name == "cap" and self.place == "wall"
        )
        return wearable and bool(self.rng.random() < 0.4)

    def _placement(self) -> Placement:
        """Where the good comes to stand: large when alone, smaller among other things."""
        room = self.rng.uniform(0.66, 0.9) if self.clutter == 0 else self.rng.uniform(0.5, 0.72)
        if self.regions >= _MANY_REGIONS:
            room = self.rng.uniform(0.42, 0.55)
        unit = min(self.width * room / self.shape.aspect, self.height * min(room, 0.8))
        x = self.width * (0.5 + self.rng.uniform(-0.06, 0.06) * (1 + self.clutter))
        reach = unit * self.shape.aspect / 2
        x = min(max(x, reach + 4), self.width - reach - 4) if reach * 2 + 8 < self.width else self.width / 2
        angle = float(np.clip(self.rng.normal(0, 2.0), -5, 5)) if self.scene.stand is None else 0.0
        if self.place == "lying":
            angle = float(np.clip(self.rng.normal(0, 14), -32, 32))
            unit *= 0.9
        if self.worn:
            unit = self.height * (0.36 if self.kind.name == "cap" else 0.62)
            unit = min(unit, self.width * 0.8 / self.shape.aspect)
            top = self.height * (0.10 if self.kind.name == "cap" else 0.32)
            return Placement(x, top, unit, 0.0, bool(self.rng.random() < 0.5))
        if self.place == "ceiling":
            top = -unit * self.rng.uniform(0.0, 0.15)
        elif self.scene.stand is None:
            top = (self.height - unit) * (0.5 + self.rng.uniform(-0.2, 0.2))
        else:
            unit = min(unit, self.scene.stand - 6)
            top = self.scene.stand - unit
        return Placement(x, top, unit, angle, bool(self.rng.random() < 0.5))

    def _sheet(self, placement: Placement) -> Canvas:
        return Canvas(self.width, self.height, placement, self.rng)

    def _put(self, sheet: Canvas, *, contact: bool) -> None:
        if contact and self.scene.stand is not None:
            self._contact(sheet)
        self.photo = sheet.onto(self.photo, shadow=self.scene.shadow, drop=self.scene.drop)

    def _contact(self, sheet: Canvas) -> None:
        """The dark line where a thing touches what it stands on."""
        box = sheet.box()
        if box is None:
            return
        _, left, bottom, right = box
        wide = right - left
        x, y, reach = (left + right) / 2, bottom - 1, wide * 0.47
        thick = max(3.0, min(wide, 120) * 0.06)
        mask = Image.new("L", (wide // 2 + 20, round(thick) + 14))
        pen = ImageDraw.Draw(mask)
        pen.ellipse((10, 6, mask.width - 10, mask.height - 7), fill=105)
        mask = mask.filter(ImageFilter.GaussianBlur(2.5)).resize(
            (round(reach * 2 * mask.width / (wide // 2)), mask.height)
        )
        self.photo.paste((24, 20, 20), (round(x - mask.width / 2), round(y - mask.height / 2)), mask)

    def _good(self, placement: Placement) -> Box:
        sheet = self._sheet(placement)
        self.kind.draw(sheet, self.look)
        self._put(sheet, contact=True)
        self.parts = tuple(
            Thing(f"{self.kind.name}: {part.name}", _floats(part.box), self.kind.category)
            for part in sheet.parts
        )
        box = sheet.box()
        assert box is not None, f"{self.kind.name} was drawn outside its photo"
        return _floats(box)

    def _add(self, sheet: Canvas, shows: str, category: int, *, contact: bool = True) -> None:
        box = sheet.box()
        self._put(sheet, contact=contact)
        if box is not None:
            self.others.append(Thing(shows, _floats(box), category))

    def _beside(self, number: int, tall: Number) -> Placement:
        """A free place to the left or right, for the number-th thing, `tall` as a share of the photo."""
        unit = min(self.height, self.width) * tall
        side = 1 if (number + self.rng.integers(2)) % 2 else -1
        x = self.width * (0.5 + side * self.rng.uniform(0.30, 0.44))
        if self.scene.stand is None:
            top = self.rng.uniform(0.02, 0.98 - tall) * self.height
        else:
            top = self.scene.stand - unit - self.height * self.rng.uniform(0.0, 0.03)
        lies = self.place == "lying"
        return Placement(
            x, top, unit, float(self.rng.uniform(-40, 40)) if lies else 0.0, bool(self.rng.random() < 0.5)
        )

    def _prop(self, number: int) -> None:
        choices = {"lying": props.LYING, "wall": props.HUNG, "ceiling": props.HUNG}.get(
            self.place, props.STANDING
        )
        prop = choices[int(self.rng.integers(len(choices)))]
        sheet = self._sheet(self._beside(number, prop.tall * self.rng.uniform(0.8, 1.15)))
        prop.draw(sheet)
        self._add(sheet, prop.name, prop.category)

    def _second_good(self, number: int) -> None:
        """A good of another kind, smaller, behind."""
        others = [kind for kind in KINDS if kind is not self.kind and self.place in kind.places]
        if not others:
            self._prop(number)
            return
        kind = others[int(self.rng.integers(len(others)))]
        shape = kind.shapes[int(self.rng.integers(len(kind.shapes)))]
        look = _any_look(kind, shape.name, self.rng)
        tall = min(0.34, 0.34 / shape.aspect) * self.rng.uniform(0.85, 1.2)
        sheet = self._sheet(self._beside(number, tall))
        kind.draw(sheet, look)
        self._add(sheet, kind.name, kind.category)

    def _copy(self, placement: Placement, share: Number) -> None:
        """Another piece of the same good, small, as in a photo of a set."""
        unit = min(0.24 * self.width / self.shape.aspect, 0.26 * self.height)
        top = self.scene.stand - unit if self.scene.stand is not None else self.height * 0.74
        sheet = self._sheet(replace(placement, x=share * self.width, top=top, unit=unit))
        self.kind.draw(sheet, self.look)
        self._add(sheet, self.kind.name, self.kind.category)
        for part in sheet.parts:
            self.others.append(Thing(f"{self.kind.name}: {part.name}", _floats(part.box), self.kind.category))

    def _head(self, placement: Placement) -> None:
        sheet = self._sheet(placement)
        if self.kind.name == "cap":
            seat = {"peaked": (-0.14, 1.86, 1.55), "bucket": (0.0, 1.52, 1.22), "bobble": (0.0, 1.86, 1.26)}[
                self.shape.name
            ]
            shown = props.draw_head(sheet, *seat)
        else:
            shown = props.draw_head(sheet, 0.0, -0.02, 0.36 if self.kind.name == "shirt" else 0.23)
        self._add_groups(sheet, shown)

    def _hand(self, box: Box) -> None:
        top, left, bottom, right = box
        unit = min(self.width, self.height) * self.rng.uniform(0.34, 0.44)
        if self.scene.stand is None:
            angle = float(self.rng.uniform(-35, 35))
            x, y = left + (right - left) * self.rng.uniform(0.3, 0.7), bottom - (bottom - top) * 0.1
        else:
            side = 1 if self.rng.random() < 0.5 else -1
            angle, y = (
                -side * float(self.rng.uniform(55, 75)),
                top + (bottom - top) * self.rng.uniform(0.4, 0.6),
            )
            x = (right if side > 0 else left) + side * unit * 0.35
            y -= unit * 0.3
        sheet = self._sheet(Placement(x, y, unit, angle, bool(self.rng.random() < 0.5)))
        self._add_groups(sheet, props.draw_hand(sheet))

    def _add_groups(self, sheet: Canvas, shown: list[tuple[str, int]]) -> None:
        """Hands and heads are one drawing but several things to a detector: the parts named so, put together."""
        members = {
            "hand": ("finger", "palm", "nail"),
            "arm": ("arm", "sleeve"),
            "face": ("face",),
            "hair": ("hair",),
        }
        for name, category in shown:
            boxes = np.array([part.box for part in sheet.parts if part.name in members[name]])
            if len(boxes):
                low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
                self.others.append(
                    Thing(name, (float(low[0]), float(low[1]), float(high[0]), float(high[1])), category)
                )
        self._put(sheet, contact=False)

    def _badge(self) -> None:
        """A round sticker in a corner, as sellers add."""
        text = ("NEW", "SALE", "-20%", "HOT", "TOP")[int(self.rng.integers(5))]
        radius = round(min(self.width, self.height) * 0.085)
        x = radius + 6 if self.rng.random() < 0.5 else self.width - radius - 6
        y = radius + 6
        ink = tuple(
            round(value)
            for value in near(
                COLOURS[("red", "orange", "green", "black")[int(self.rng.integers(4))]], self.rng
            )
        )
        scale = 3
        sticker = Image.new("L", (radius * 2 * scale, radius * 2 * scale))
        ImageDraw.Draw(sticker).ellipse((0, 0, sticker.width - 1, sticker.height - 1), fill=255)
        sticker = sticker.reduce(scale)
        self.photo.paste(ink, (x - radius, y - radius), sticker)
        font = ImageFont.load_default(size=radius * 0.68)
        ImageDraw.Draw(self.photo).text((x, y), text, fill=(255, 255, 255), font=font, anchor="mm")
        frame = (float(y - radius), float(x - radius), float(y + radius), float(x + radius))
        self.others.append(Thing("badge", frame, OTHERS))


def _floats(box: tuple[int, int, int, int]) -> Box:
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])


def _any_look(kind: Kind, shape: str, rng: np.random.Generator) -> Look:
    names = tuple(COLOURS)
    colour = names[int(rng.integers(len(names)))]
    pattern = PATTERNS[int(rng.integers(len(PATTERNS)))] if rng.random() < 0.35 else "plain"
    material = kind.materials[int(rng.integers(len(kind.materials)))]
    return make_look(colour, pattern, material, shape, rng, kind.period)


def _photo_size(rng: np.random.Generator) -> tuple[int, int]:
    """(width, height) px; most are square."""
    side = _SIDES[int(rng.integers(len(_SIDES)))]
    if rng.random() < SQUARE_PHOTOS:
        return side, side
    ratio = float(rng.uniform(0.70, 0.95))
    short = round(side * ratio)
    return (short, side) if rng.random() < 0.6 else (side, short)


def _place_of(kind: Kind, shape: str, rng: np.random.Generator) -> str:
    if kind.name == "lamp":
        return {"hanging": "ceiling", "floor": "floor", "table": "table"}[shape]
    return str(kind.places[int(rng.integers(len(kind.places)))])


def _clutter(regions: int, rng: np.random.Generator) -> int:
    """How many other things stand around: few in a photo with one box."""
    if regions == 1:
        return int(rng.random() < 0.12)
    if regions <= 3:
        return int(rng.choice(3, p=(0.45, 0.45, 0.10)))
    return int(rng.choice((1, 2, 3), p=(0.4, 0.4, 0.2)))
