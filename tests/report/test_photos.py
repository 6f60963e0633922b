"""Photos from elsewhere: upright, and no picture bomb fills the memory."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from shopwindow.files import DataError
from shopwindow.report.contact_sheet import SheetCell, SheetRow, contact_sheet
from shopwindow.report.photos import read_photo
from shopwindow.report.sources import thumbnails


def bomb(path: Path, side: int) -> Path:
    """A PNG of a few bytes that says it has side x side px."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("side", [9_000, 12_000, 40_000])
def test_a_picture_bomb_is_named(tmp_path: Path, side: int) -> None:
    path = bomb(tmp_path / "7.png", side)
    for read in (read_photo, lambda path: thumbnails(str(path.parent))("7")):
        with pytest.raises(DataError, match=r"7\.png: "):
            read(path)
    with pytest.raises(DataError, match=r"7\.png: "):
        contact_sheet([SheetRow("red bag", (SheetCell(path, True, "7"),))], tmp_path / "sheet.png")


def test_a_photo_is_upright_and_in_rgb(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    photo = read_photo(tmp_path / "a.jpg")
    assert (photo.size, photo.mode) == ((20, 30), "RGB")
    (tmp_path / "b.jpg").write_bytes(b"no photo")
    with pytest.raises(DataError, match="cannot be read as a photo"):
        read_photo(tmp_path / "b.jpg")
