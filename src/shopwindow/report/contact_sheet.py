"""How does a ranking look: a few queries, each with its top photos, the right ones framed?

Draws one PNG from rows of photos; makes such rows of a run. It knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from shopwindow.files import whole_file
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.runs import Run
from shopwindow.report.photos import read_photo

_WIDTH: Final = 1200  # px
_MARGIN: Final = 40
_GAP: Final = 18
_FRAME: Final = 5
_PAPER: Final = (255, 255, 255)
_INK: Final = (32, 34, 38)
_QUIET: Final = (136, 140, 146)
_LINE: Final = (222, 224, 228)
_RIGHT: Final = (34, 150, 84)
_EMPTY: Final = (240, 241, 243)
_SCALE: Final = 3  # small round things are drawn larger and reduced


@dataclass(frozen=True)
class SheetCell:
    """One photo of a row; `photo` None or a missing file is drawn as a placeholder."""

    photo: Path | None
    right: bool
    caption: str


@dataclass(frozen=True)
class SheetRow:
    """A query (its title) and its photos, best first."""

    title: str
    cells: tuple[SheetCell, ...]


def contact_sheet(rows: Sequence[SheetRow], out: Path) -> None:
    """Writes the rows as a PNG, 1200 px wide: right photos framed green with a check, wrong ones in quiet grey.

    All photos have one size: that of the row with the most cells. No rows give an empty sheet.
    """
    columns = max((len(row.cells) for row in rows), default=1)
    side = (_WIDTH - 2 * _MARGIN - (columns - 1) * _GAP) // max(columns, 4)
    tall = 44 + side + 34
    sheet = Image.new("RGB", (_WIDTH, max(1, 2 * _MARGIN + len(rows) * tall + (len(rows) - 1) * 30)), _PAPER)
    pen = ImageDraw.Draw(sheet)
    y = _MARGIN
    for number, row in enumerate(rows):
        if number:
            pen.line((_MARGIN, y - 17, _WIDTH - _MARGIN, y - 17), fill=_LINE)
        _title(pen, row, y)
        for place, cell in enumerate(row.cells):
            _cell(sheet, cell, _MARGIN + place * (side + _GAP), y + 44, side)
        y += tall + 30
    with whole_file(out) as partial:
        sheet.save(partial, "PNG")


def rows_of_run(
    run: Run, answers: Answers, texts: Mapping[str, str], photos: Path, *, queries: int = 6, depth: int = 6
) -> list[SheetRow]:
    """Queries that spread over the numbers of words, each with its first products, PRODUCT_ID.jpg of a folder.

    `texts` holds the words of every query of the run by its id.
    """
    judged = answers.grades > 0
    right = set(zip(answers.query_ids[judged].tolist(), answers.product_ids[judged].tolist(), strict=True))
    ids = run.queries.tolist()
    by_length = np.argsort([len(texts[str(query)].split()) for query in ids], kind="stable")
    places = np.linspace(0, len(ids) - 1, min(queries, len(ids))).round().astype(int)
    sheet = []
    for row in by_length[places].tolist():
        cells = tuple(
            SheetCell(photos / f"{product}.jpg", (ids[row], product) in right, str(place))
            for place, product in enumerate(run.products_of(row)[:depth].tolist(), start=1)
        )
        sheet.append(SheetRow(texts[str(ids[row])], cells))
    return sheet


def _title(pen: ImageDraw.ImageDraw, row: SheetRow, y: int) -> None:
    count = f"{sum(cell.right for cell in row.cells)} of {len(row.cells)} right"
    small = ImageFont.load_default(size=16)
    room = _WIDTH - 2 * _MARGIN - pen.textlength(count, font=small) - 30
    pen.text((_MARGIN, y + 24), _shortened(pen, row.title, 25, room), fill=_INK, font=_font(25), anchor="ls")
    pen.text((_WIDTH - _MARGIN, y + 24), count, fill=_QUIET, font=small, anchor="rs")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _shortened(pen: ImageDraw.ImageDraw, text: str, size: int, room: float | int) -> str:
    """The text, cut with an ellipsis where it would be wider than the room (px)."""
    if pen.textlength(text, font=_font(size)) <= room:
        return text
    while text and pen.textlength(text + "...", font=_font(size)) > room:
        text = text[:-1]
    return text.rstrip() + "..."


def _cell(sheet: Image.Image, cell: SheetCell, x: int, y: int, side: int) -> None:
    pen = ImageDraw.Draw(sheet)
    frame = (x, y, x + side - 1, y + side - 1)
    inner = side - 2 * (_FRAME + 2)
    picture = _photo(cell.photo, inner)
    sheet.paste(_EMPTY if picture is None else _PAPER, frame)
    if picture is None:
        pen.text((x + side / 2, y + side / 2), "no photo", fill=_QUIET, font=_font(15), anchor="mm")
    else:
        sheet.paste(picture, (x + (side - picture.width) // 2, y + (side - picture.height) // 2))
    if cell.right:
        pen.rectangle(frame, outline=_RIGHT, width=_FRAME)
        _check(sheet, x + side - 26, y + 26)
    else:
        pen.rectangle(frame, outline=_LINE, width=1)
    caption = _shortened(pen, cell.caption, 14, side)
    pen.text((x, y + side + 20), caption, fill=_RIGHT if cell.right else _QUIET, font=_font(14), anchor="ls")


def _photo(path: Path | None, side: int) -> Image.Image | None:
    """The photo within a square of `side` px; None when there is none to read."""
    if path is None or not path.is_file():
        return None
    return ImageOps.contain(read_photo(path), (side, side), Image.Resampling.LANCZOS)


def _check(sheet: Image.Image, x: int, y: int) -> None:
    """A white check on a green disc about (x, y)."""
    radius = 15
    size = 2 * radius * _SCALE
    disc = Image.new("L", (size, size))
    ImageDraw.Draw(disc).ellipse((0, 0, size - 1, size - 1), fill=255)
    tick = Image.new("L", (size, size))
    points = [(0.28 * size, 0.52 * size), (0.44 * size, 0.68 * size), (0.73 * size, 0.34 * size)]
    ImageDraw.Draw(tick).line(points, fill=255, width=4 * _SCALE, joint="curve")
    corner = (x - radius, y - radius)
    sheet.paste(_RIGHT, corner, disc.reduce(_SCALE))
    sheet.paste(_PAPER, corner, tick.reduce(_SCALE))
