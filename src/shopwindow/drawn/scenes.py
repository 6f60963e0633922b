"""Where is the photo taken?

Backgrounds: a studio sweep, a room with wall and floor, a table top, a shelf, a cloth for things that lie flat. A scene
says at which height things stand; it knows nothing of what will stand there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageFilter

from shopwindow.drawn.look import near
from shopwindow.drawn.paint import Number, Paint, Rgb

_WALLS: Final[tuple[Rgb, ...]] = (
    (236, 233, 226), (222, 228, 231), (228, 222, 212), (214, 224, 214),
    (238, 226, 222), (205, 212, 220), (233, 224, 200),
)  # fmt: skip
_WOODS: Final[tuple[Rgb, ...]] = (
    (190, 148, 104),
    (214, 180, 138),
    (146, 104, 72),
    (176, 158, 140),
    (228, 206, 176),
)
_CLOTHS: Final[tuple[Rgb, ...]] = (
    (238, 236, 232), (214, 208, 200), (196, 206, 210), (226, 214, 204), (120, 124, 130), (208, 216, 204),
)  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """A background. `stand` px: where feet touch (None: things hang or lie); `drop`: the shift of a thing's shadow."""

    photo: Image.Image
    name: str
    stand: int | None
    drop: tuple[Number, Number]
    shadow: Number


def make_scene(place: str, width: int, height: int, rng: np.random.Generator) -> Scene:
    """A background that suits the place: floor, table, wall, ceiling or lying."""
    choices, weights = _SUITABLE[place]
    made = choices[int(rng.choice(len(choices), p=weights))](width, height, rng)
    light = _light(width, height, rng)
    photo = Image.composite(made.photo, Image.new("RGB", made.photo.size, (30, 28, 34)), light)
    return Scene(photo, made.name, made.stand, made.drop, made.shadow)


def _pick(colours: tuple[Rgb, ...], rng: np.random.Generator) -> Rgb:
    return near(colours[int(rng.integers(len(colours)))], rng, 6)


def _light(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """A mask, light in the middle and darker to the corners."""
    x = np.linspace(-1, 1, 24)[None, :] - rng.uniform(-0.5, 0.3)
    y = np.linspace(-1, 1, 24)[:, None] - rng.uniform(-0.6, 0.1)
    fall = 255 * (1 - rng.uniform(0.03, 0.13) * (x * x + y * y))
    return Image.fromarray(np.clip(fall, 0, 255).astype(np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )


def _fade(width: int, height: int, upper: Rgb, lower: Rgb) -> Image.Image:
    """A vertical gradient."""
    share = np.linspace(0, 1, height)[:, None, None]
    rows = np.asarray(upper) * (1 - share) + np.asarray(lower) * share
    return Image.fromarray(rows.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)


def _surface(width: int, height: int, paint: Paint, rng: np.random.Generator, unit: Number) -> Image.Image:
    def grid() -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
        across, down = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
        u, v = np.meshgrid(across / np.float32(unit), down / np.float32(unit))
        return u, v

    ink = paint.texture(height, width, grid, unit=unit, rng=rng)
    return Image.fromarray(np.clip(ink, 0, 255).astype(np.uint8))


def _studio(width: int, height: int, rng: np.random.Generator) -> Scene:
    if rng.random() < 0.45:
        tint: Rgb = near((246, 246, 246), rng, 3)
    else:
        tint = _pick(
            (
                (232, 224, 216),
                (216, 226, 234),
                (238, 222, 222),
                (222, 232, 220),
                (226, 222, 236),
                (240, 232, 208),
            ),
            rng,
        )
    dim: Rgb = (tint[0] * 0.87, tint[1] * 0.87, tint[2] * 0.88)
    stand = round(height * rng.uniform(0.82, 0.92))
    horizon = round(height * rng.uniform(0.60, 0.74))
    photo = _fade(width, height, tint, dim)
    photo.paste(_fade(width, height - horizon, dim, tint), (0, horizon))
    seam = photo.crop((0, horizon - 24, width, horizon + 24)).filter(ImageFilter.BoxBlur(10))
    photo.paste(seam.crop((0, 10, width, 38)), (0, horizon - 14))
    return Scene(photo, "studio", stand, (0.025, 0.03), 0.28)


def _white(width: int, height: int, rng: np.random.Generator) -> Scene:
    photo = Image.new("RGB", (width, height), (252, 252, 252))
    return Scene(photo, "white", round(height * rng.uniform(0.86, 0.94)), (0.02, 0.02), 0.22)


def _wallpaper(rng: np.random.Generator) -> Paint:
    base = _pick(_WALLS, rng)
    pattern = ("plain", "striped", "floral", "dotted")[int(rng.choice(4, p=(0.76, 0.12, 0.06, 0.06)))]
    faint: Rgb = (base[0] * 0.95, base[1] * 0.95, base[2] * 0.95)
    return Paint(base, "paper", pattern, faint, base, period=float(rng.uniform(0.10, 0.18)), rough=0.4)


def _room(width: int, height: int, rng: np.random.Generator) -> Scene:
    ground = round(height * rng.uniform(0.68, 0.80))
    photo = Image.new("RGB", (width, height))
    photo.paste(_surface(width, ground, _wallpaper(rng), rng, height), (0, 0))
    floor = _surface(width, height - ground, Paint(_pick(_WOODS, rng), "wooden", rough=0.4), rng, height)
    photo.paste(floor, (0, ground))
    skirting = max(4, height // 28)
    photo.paste((246, 244, 240), (0, ground - skirting, width, ground))
    photo.paste((208, 204, 198), (0, ground - skirting, width, ground - skirting + 1))
    photo.paste((110, 84, 62), (0, ground, width, ground + 1))
    stand = round(ground + (height - ground) * rng.uniform(0.35, 0.75))
    return Scene(photo, "room", stand, (0.03, 0.012), 0.36)


def _tabletop(width: int, height: int, rng: np.random.Generator) -> Scene:
    edge = round(height * rng.uniform(0.62, 0.74))
    wall = _pick(_WALLS, rng)
    photo = _fade(width, height, (wall[0] * 0.92, wall[1] * 0.92, wall[2] * 0.92), wall)
    glow = photo.crop((0, 0, width, edge)).resize((width // 4, edge // 4))
    for _ in range(int(rng.integers(2, 6))):
        x, y, size = rng.uniform(0, glow.width), rng.uniform(0, glow.height), rng.uniform(5, 16)
        blot = _pick(_WALLS + _WOODS, rng)
        glow.paste(
            tuple(round(value) for value in blot),
            (round(x), round(y), round(x + size), round(y + size * 1.4)),
        )
    photo.paste(
        glow.filter(ImageFilter.GaussianBlur(4)).resize((width, edge), Image.Resampling.BICUBIC), (0, 0)
    )
    top = (
        Paint(_pick(_WOODS, rng), "wooden", rough=0.4)
        if rng.random() < 0.65
        else Paint(_pick(_CLOTHS, rng), "linen", rough=0.4)
    )
    photo.paste(_surface(width, height - edge, top, rng, height), (0, edge))
    stand = round(edge + (height - edge) * rng.uniform(0.35, 0.7))
    return Scene(photo, "tabletop", stand, (0.03, 0.012), 0.36)


def _shelf(width: int, height: int, rng: np.random.Generator) -> Scene:
    board = round(height * rng.uniform(0.80, 0.88))
    photo = _surface(width, height, _wallpaper(rng), rng, height)
    wood = Paint(_pick(_WOODS, rng), "wooden", rough=0.4)
    thick = max(8, height // 22)
    photo.paste(_surface(width, thick, wood, rng, height), (0, board))
    photo.paste(
        (40, 34, 30), (0, board + thick), _gradient_mask(width, min(thick * 2, height - board - thick), 80)
    )
    photo.paste(_surface(width, max(2, thick // 3), wood.shaded(1.15), rng, height), (0, board - thick // 6))
    return Scene(photo, "shelf", board + max(1, thick // 8), (0.045, 0.02), 0.34)


def _gradient_mask(width: int, height: int, strongest: int) -> Image.Image:
    column = np.linspace(strongest, 0, max(1, height)).astype(np.uint8)[:, None]
    return Image.fromarray(np.repeat(column, width, axis=1))


def _wall(width: int, height: int, rng: np.random.Generator) -> Scene:
    photo = _surface(width, height, _wallpaper(rng), rng, height)
    return Scene(photo, "wall", None, (0.03, 0.035), 0.32)


def _cloth(width: int, height: int, rng: np.random.Generator) -> Scene:
    if rng.random() < 0.35:
        paint = Paint(_pick(_WOODS, rng), "wooden", upright=bool(rng.random() < 0.5), rough=0.45)
    else:
        paint = Paint(_pick(_CLOTHS, rng), "linen" if rng.random() < 0.6 else "nylon", rough=0.45)
    return Scene(_surface(width, height, paint, rng, height), "cloth", None, (0.018, 0.022), 0.36)


_Maker = Callable[[int, int, np.random.Generator], Scene]
_SUITABLE: Final[dict[str, tuple[tuple[_Maker, ...], tuple[float, ...]]]] = {
    "floor": ((_studio, _room, _white), (0.35, 0.5, 0.15)),
    "table": ((_studio, _tabletop, _shelf, _white), (0.3, 0.38, 0.17, 0.15)),
    "wall": ((_wall, _studio, _white), (0.55, 0.25, 0.2)),
    "ceiling": ((_wall, _studio), (0.7, 0.3)),
    "lying": ((_cloth, _white), (0.8, 0.2)),
}
