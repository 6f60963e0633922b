"""How does it look, which word of a query looks at which box of a photo?

Draws one PNG: the photo with the boxes that the words look at, each in its word's colour, and beside it the words with
their weights. It knows no model: words, boxes and weights are the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont, ImageOps

from shopwindow.files import whole_file

Box = tuple[float, float, float, float]
PHOTO_ENDINGS: Final = (".jpg", ".jpeg", ".png", ".webp")
"""Of photos in a folder, named by product id."""
_TALL: Final = 640  # px: the photo is drawn so high
_SIDE: Final = 420  # px: the words beside it
_MARGIN: Final = 28
_LINE: Final = 4
_PAPER: Final = (255, 255, 255)
_INK: Final = (32, 34, 38)
_QUIET: Final = (120, 124, 130)
_EMPTY: Final = (240, 241, 243)
_COLOURS: Final = (
    (214, 69, 65),
    (31, 119, 180),
    (34, 150, 84),
    (227, 126, 28),
    (148, 80, 180),
    (0, 150, 160),
    (200, 60, 140),
    (120, 110, 40),
)


def draw_word_boxes(
    photo: Path | None,
    image_size: tuple[int, int],
    boxes: Sequence[Box],
    words: Sequence[str],
    looks_at: Sequence[int],
    weights: Sequence[float],
    title: str,
    out: Path,
) -> None:
    """Writes the picture. `image_size` is (height, width) in px of the photo that the boxes (top, left, bottom, right)
    are of; without a photo, or where the file is missing, an empty field of that shape is drawn. `looks_at` and
    `weights` are one per word: which box, and how much. A word without any weight is listed without a box.

    Raises: ValueError where words, looks_at and weights are not equally many, or a word looks at no box.
    """
    if not len(words) == len(looks_at) == len(weights):
        raise ValueError(f"{len(words)} words, {len(looks_at)} boxes looked at, {len(weights)} weights")
    if any(not 0 <= box < len(boxes) for box in looks_at):
        raise ValueError(f"a word looks at a box that is none of the {len(boxes)}")
    height, width = image_size
    scale = _TALL / height
    wide = max(1, round(width * scale))
    sheet = Image.new("RGB", (wide + _SIDE + 2 * _MARGIN, _TALL + 2 * _MARGIN), _PAPER)
    sheet.paste(_photo(photo, (wide, _TALL)), (_MARGIN, _MARGIN))
    pen = ImageDraw.Draw(sheet)
    _boxes(pen, boxes, words, looks_at, weights, scale)
    _words(pen, words, looks_at, weights, title, wide + 2 * _MARGIN)
    with whole_file(out) as partial:
        sheet.save(partial, "PNG")


def _photo(photo: Path | None, size: tuple[int, int]) -> Image.Image:
    if photo is not None and photo.is_file():
        with Image.open(photo) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB").resize(size)
    return Image.new("RGB", size, _EMPTY)


def _boxes(
    pen: ImageDraw.ImageDraw,
    boxes: Sequence[Box],
    words: Sequence[str],
    looks_at: Sequence[int],
    weights: Sequence[float],
    scale: float,
) -> None:
    """Words that look at one box share it: their frames lie inside one another."""
    taken: dict[int, int] = {}
    font = ImageFont.load_default(18)
    for number, (word, box, weight) in enumerate(zip(words, looks_at, weights, strict=True)):
        if weight == 0:
            continue
        inset = taken.get(box, 0) * (_LINE + 2)
        top, left, bottom, right = (side * scale + _MARGIN for side in boxes[box])
        corners = (
            left + inset,
            top + inset,
            max(right - inset, left + inset),
            max(bottom - inset, top + inset),
        )
        colour = _COLOURS[number % len(_COLOURS)]
        pen.rectangle(corners, outline=colour, width=_LINE)
        place = (corners[0] + 6, corners[1] + 6 + 22 * taken.get(box, 0))
        pen.rectangle(pen.textbbox(place, word, font=font), fill=_PAPER)
        pen.text(place, word, fill=colour, font=font)
        taken[box] = taken.get(box, 0) + 1


def _words(
    pen: ImageDraw.ImageDraw,
    words: Sequence[str],
    looks_at: Sequence[int],
    weights: Sequence[float],
    title: str,
    left: int,
) -> None:
    pen.text((left, _MARGIN), title, fill=_QUIET, font=ImageFont.load_default(18))
    largest = max((abs(weight) for weight in weights), default=0.0) or 1.0
    for number, (word, box, weight) in enumerate(zip(words, looks_at, weights, strict=True)):
        y = _MARGIN + 44 + 58 * number
        if y > _TALL:
            return
        colour = _COLOURS[number % len(_COLOURS)]
        pen.text((left, y), word, fill=colour, font=ImageFont.load_default(24))
        told = f"box {box}, {weight:+.3f}" if weight else "no box"
        pen.text((left + 200, y + 5), told, fill=_INK, font=ImageFont.load_default(16))
        pen.rectangle((left, y + 34, left + max(1, round(180 * abs(weight) / largest)), y + 39), fill=colour)
