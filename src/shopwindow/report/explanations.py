"""Which word of a query looks at which box of a photo, as lines of JSON and as pictures?

Writes what `model/explanation.py` explains. A picture is the photo with its numbered boxes and, beside it, the words
with their weights; boxes that words look at are framed in the words' colours. It runs no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shopwindow.data.dataset import Dataset
from shopwindow.files import find_photo, whole_directory, whole_file
from shopwindow.model.explanation import Explained, Explanation
from shopwindow.report.photos import read_photo

MARKER: Final = "explanations.json"
Box = tuple[float, float, float, float]
_Rectangle = tuple[int, int, int, int]
_Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
_TALL, _WIDE = 640, 900  # px: the photo is drawn as large as fits
_FIELD: Final = 160  # px: the least height and width of the field that the photo stands in
_SIDE: Final = 430  # px: the words beside it
_MARGIN: Final = 32
_LINE: Final = 4  # px: the frame of one word
_NUMBER: Final = 13  # px: the height of a box's number
_MOST_FRAMES: Final = 6  # around one box: of more words the strongest
_ROW: Final = 52  # px: a word in the list
_TAG: Final = 190  # px: the widest tag
_MOST_LETTERS: Final = 100
_PAPER: Final = (255, 255, 255)
_INK: Final = (32, 34, 38)
_QUIET: Final = (120, 124, 130)
_EMPTY: Final = (240, 241, 243)
COLOURS: Final = (
    (214, 69, 65),
    (31, 119, 180),
    (34, 150, 84),
    (214, 112, 14),
    (140, 76, 176),
    (0, 138, 150),
    (200, 60, 140),
    (120, 104, 30),
)


def write_explanations(
    explained: Iterable[Explained], dataset: Dataset, out: str | Path, *, photos: str | Path | None
) -> None:
    """Writes a directory, whole or not at all: `explanations.jsonl`, a line each, and QUERY-RANK-PRODUCT.png each.

    The picture shows the photo where the folder `photos` has it (PRODUCT_ID.jpg, .jpeg, .png, .webp).

    Raises: DataError where `out` holds other files, or the disk is full.
    """
    with whole_directory(out, marker=MARKER) as folder:
        with (folder / "explanations.jsonl").open("w", encoding="utf-8") as lines:
            for one in explained:
                line = _record(one, dataset)
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
                explanation = one.explanation
                picture = folder / f"{line['query_id']}-{one.rank}-{line['product_id']}.png"
                draw_word_boxes(
                    find_photo(photos, line["product_id"]),
                    tuple(line["image_size"]),
                    [tuple(box) for box in line["boxes"]],
                    explanation.words,
                    line["looks_at"],
                    [row[box] for row, box in zip(explanation.weights, line["looks_at"], strict=True)],
                    f"{line['product_id']}, place {one.rank}, {_score_line(explanation)}",
                    picture,
                )
        (folder / MARKER).write_text(
            json.dumps({"format": "shopwindow explanations 1"}) + "\n", encoding="utf-8"
        )


def _score_line(explanation: Explanation) -> str:
    if explanation.late_score is None:
        return f"score {explanation.score:.3f}"
    parts = f"vectors {explanation.vector_score:.3f} + late {explanation.late_score:.3f}"
    return f"score {explanation.score:.3f} = {parts}"


def _record(one: Explained, dataset: Dataset) -> dict[str, Any]:
    rows = np.array([one.product])
    return {
        "query_id": int(dataset.query_ids[one.query]),
        "query": dataset.query_texts[one.query],
        "product_id": int(dataset.product_ids[one.product]),
        "rank": one.rank,
        "image_size": dataset.image_sizes(rows)[0].tolist(),
        "boxes": dataset.boxes(rows).tolist(),
        "labels": dataset.labels(rows).tolist(),
        **one.explanation.to_json(),
    }


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
    """Writes the picture of one photo, its boxes, and the words that look at them.

    `image_size` is (height, width) of the photo in px, and boxes are (top, left, bottom, right) in it. Without a photo
    file an empty field of that shape is drawn. `looks_at` and `weights` have a value per word: which box, how much. A
    word with weight 0 is listed without a box.

    Every box has its number, from 0, in its lower right corner, and a thin line where no word looks at it. Words that
    look at one box have frames around one another; of more than six words the six strongest have one. The picture is
    at most 1,426 px wide and grows in height with the words.

    Raises: ValueError where words, looks_at and weights are not equally many, or a word looks at no box; DataError
    where the photo cannot be read.
    """
    if not len(words) == len(looks_at) == len(weights):
        raise ValueError(f"{len(words)} words, {len(looks_at)} boxes looked at, {len(weights)} weights")
    if any(not 0 <= box < len(boxes) for box in looks_at):
        raise ValueError(f"a word looks at a box that is none of the {len(boxes)}")
    shown = [
        _Word(word, box, weight, COLOURS[number % len(COLOURS)])
        for number, (word, box, weight) in enumerate(zip(words, looks_at, weights, strict=True))
    ]
    scale = min(_TALL / image_size[0], _WIDE / image_size[1])
    tall, wide = (max(1, round(side * scale)) for side in image_size)
    field = max(tall, _FIELD), max(wide, _FIELD)
    height = max(field[0], _ROW * (len(words) + 1)) + 2 * _MARGIN
    sheet = Image.new("RGB", (field[1] + _SIDE + 3 * _MARGIN, height), _PAPER)
    corner = _MARGIN + (field[1] - wide) // 2, _MARGIN + (field[0] - tall) // 2
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((_MARGIN, _MARGIN, _MARGIN + field[1] - 1, _MARGIN + field[0] - 1), fill=_EMPTY)
    sheet.paste(_photo(photo, (wide, tall)), corner)
    places = [_placed(box, scale, corner, (wide, tall)) for box in boxes]
    _draw_frames(pen, places, shown)
    occupied = _draw_numbers(pen, places)
    _draw_tags(pen, places, shown, _MARGIN + field[1], occupied)
    _draw_list(pen, shown, title, field[1] + 2 * _MARGIN)
    with whole_file(out) as partial:
        sheet.save(partial, "PNG")


@dataclass(frozen=True)
class _Word:
    text: str
    box: int
    weight: float
    colour: tuple[int, int, int]


def _photo(photo: Path | None, size: tuple[int, int]) -> Image.Image:
    if photo is None or not photo.is_file():
        return Image.new("RGB", size, _EMPTY)
    return read_photo(photo).resize(size)


def _placed(box: Box, scale: float, corner: tuple[int, int], size: tuple[int, int]) -> _Rectangle:
    """Where a box lies on the sheet, within the photo: (left, top, right, bottom) in px, at least 1 px each way."""
    top, left, bottom, right = (round(side * scale) for side in box)
    left, top = (min(max(low, 0), side - 1) for low, side in zip((left, top), size, strict=True))
    right, bottom = (
        min(max(high - 1, low), side - 1)
        for high, low, side in zip((right, bottom), (left, top), size, strict=True)
    )
    return corner[0] + left, corner[1] + top, corner[0] + right, corner[1] + bottom


def _framed(words: Sequence[_Word], box: int) -> list[_Word]:
    """The words whose frames are around a box, the first innermost."""
    looking = [word for word in words if word.box == box and word.weight != 0]
    strongest = sorted(looking, key=lambda word: -abs(word.weight))[:_MOST_FRAMES]
    return [word for word in looking if word in strongest][:_MOST_FRAMES]


def _draw_frames(pen: ImageDraw.ImageDraw, places: Sequence[_Rectangle], words: Sequence[_Word]) -> None:
    looked_at = {word.box for word in words if word.weight}
    for box, (left, top, right, bottom) in enumerate(places):
        if box not in looked_at:  # visible on light and dark photos
            pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_PAPER, width=3)
            pen.rectangle((left, top, right, bottom), outline=_INK)
    for box, (left, top, right, bottom) in enumerate(places):
        for number, word in enumerate(_framed(words, box), start=1):
            out = number * _LINE
            pen.rectangle(
                (left - out, top - out, right + out, bottom + out), outline=word.colour, width=_LINE
            )


def _draw_numbers(pen: ImageDraw.ImageDraw, places: Sequence[_Rectangle]) -> list[_Rectangle]:
    """Draws the number of every box at the free place of the box nearest to its lower right corner; the places."""
    font = ImageFont.load_default(_NUMBER)
    occupied: list[_Rectangle] = []
    for number, box in enumerate(places):
        wide, tall = round(font.getlength(str(number))) + 8, _NUMBER + 4
        place = _free_place(box, (wide, tall), occupied)
        pen.rectangle(place, fill=_INK, outline=_PAPER)
        middle = (place[0] + place[2]) / 2, (place[1] + place[3]) / 2
        pen.text(middle, str(number), fill=_PAPER, font=font, anchor="mm")
        occupied.append(place)
    return occupied


def _free_place(box: _Rectangle, size: tuple[int, int], occupied: Sequence[_Rectangle]) -> _Rectangle:
    """Where in a box a rectangle of a size (width, height) overlaps no other one.

    Up from the lower right corner, then further left; the corner itself where no place is free.
    """
    left, top, right, bottom = box
    wide, tall = size
    spots = (
        (x - wide, y - tall, x, y)
        for x in range(right, min(left + wide, right) - 1, -(wide + 2))
        for y in range(bottom, min(top + tall, bottom) - 1, -(tall + 2))
    )
    corner = (right - wide, bottom - tall, right, bottom)
    return next((spot for spot in spots if not any(_overlap(spot, other) for other in occupied)), corner)


def _draw_tags(
    pen: ImageDraw.ImageDraw,
    places: Sequence[_Rectangle],
    words: Sequence[_Word],
    right_end: int,
    numbers: Sequence[_Rectangle],
) -> None:
    """The words in colour from the box's upper left corner on, none over another or over a number."""
    font = ImageFont.load_default(16)
    occupied = list(numbers)
    for box, (left, top, _, _) in enumerate(places):
        x, y = left + 4, top + 4
        for word in _framed(words, box):
            text = _shortened(word.text, font, _TAG)
            wide, tall = round(font.getlength(text)) + 12, 24
            if x + wide > right_end:
                x, y = max(_MARGIN, min(left + 4, right_end - wide)), y + tall + 3
            while any(_overlap((x, y, x + wide, y + tall), other) for other in occupied):
                y += 3
            place = (x, y, x + wide, y + tall)
            pen.rounded_rectangle(place, radius=4, fill=word.colour)
            pen.text((x + 6, y + tall / 2), text, fill=_PAPER, font=font, anchor="lm")
            occupied.append(place)
            x += wide + 3


def _overlap(one: _Rectangle, other: _Rectangle) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _draw_list(pen: ImageDraw.ImageDraw, words: Sequence[_Word], title: str, left: int) -> None:
    """Every word with its box and weight; the bar of a negative weight is empty."""
    small, large = ImageFont.load_default(16), ImageFont.load_default(22)
    pen.text((left, _MARGIN), _shortened(title, small, _SIDE), fill=_QUIET, font=small)
    largest = max((abs(word.weight) for word in words), default=0.0) or 1.0
    for number, word in enumerate(words):
        y = _MARGIN + 40 + _ROW * number
        label = f"box {word.box}   {word.weight:+.3f}" if word.weight else "no box"
        pen.text((left, y), _shortened(word.text, large, _SIDE - 150), fill=word.colour, font=large)
        pen.text((left + _SIDE, y + 6), label, fill=_INK if word.weight else _QUIET, font=small, anchor="ra")
        bar = (left, y + 32, left + max(2, round(_SIDE * abs(word.weight) / largest)), y + 38)
        pen.rectangle((left, y + 32, left + _SIDE, y + 38), fill=_EMPTY)
        if word.weight:
            pen.rectangle(bar, fill=word.colour if word.weight > 0 else _PAPER, outline=word.colour)


def _shortened(text: str, font: _Font, room: int) -> str:
    """The text, or as many of its first letters as fit into `room` px with an ellipsis."""
    if font.getlength(text[:_MOST_LETTERS]) <= room and len(text) <= _MOST_LETTERS:
        return text
    kept = min(len(text), _MOST_LETTERS)
    while kept and font.getlength(text[:kept] + "...") > room:
        kept -= 1
    return text[:kept] + "..."
