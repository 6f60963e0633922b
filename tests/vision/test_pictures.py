"""Every kind of picture that shops and cameras put into files, made here, and what comes of it."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shopwindow.vision.pictures import UnreadablePicture, open_picture, read_picture


def red_left() -> Image.Image:
    """60 x 40 px: the left half red, the right half blue."""
    values = np.zeros((40, 60, 3), np.uint8)
    values[:, :30, 0] = values[:, 30:, 2] = 255
    return Image.fromarray(values)


def written(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def colour(picture: Image.Image, across: float, down: float) -> tuple[int, ...]:
    """At a place, as shares of width and height, rounded to 64."""
    pixel = picture.getpixel((int(across * picture.width), int(down * picture.height)))
    assert isinstance(pixel, tuple)
    return tuple(min(255, 64 * round(value / 64)) for value in pixel)


RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000"])
def test_every_common_format_is_read(kind: str) -> None:
    picture = read_picture(written(red_left(), kind), wanted=224)
    assert (picture.mode, picture.size) == ("RGB", (60, 40))
    assert (colour(picture, 0.2, 0.5), colour(picture, 0.8, 0.5)) == (RED, BLUE)


@pytest.mark.parametrize(
    ("orientation", "red_is_at"),
    list(
        enumerate(
            [(0.2, 0.5), (0.8, 0.5), (0.8, 0.5), (0.2, 0.5), (0.5, 0.2), (0.5, 0.2), (0.5, 0.8), (0.5, 0.8)],
            1,
        )
    ),
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_photos_stand_upright(kind: str, orientation: int, red_is_at: tuple[float, float]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    opened = open_picture(written(red_left(), kind, exif=exif), wanted=224)
    assert opened.image.size == ((60, 40) if orientation < 5 else (40, 60)) == (opened.width, opened.height)
    assert colour(opened.image, *red_is_at) == RED


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_costs_the_rotation_not_the_photo() -> None:
    data = written(red_left(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert colour(read_picture(data, wanted=224), 0.2, 0.5) == RED


def test_transparent_places_are_white() -> None:
    values = np.array(red_left().convert("RGBA"))
    values[:, 30:, 3] = 0
    clear = Image.fromarray(values)
    palette = clear.convert("P")
    palette.info["transparency"] = palette.getpixel((45, 20))
    grey = clear.convert("LA")
    for data in (
        written(clear, "PNG"),
        written(clear, "WEBP", lossless=True),
        written(palette, "PNG", transparency=palette.getpixel((45, 20))),
        written(palette, "GIF", transparency=palette.getpixel((45, 20))),
        written(red_left(), "PNG", transparency=BLUE),
        written(grey, "PNG"),
    ):
        assert colour(read_picture(data, wanted=224), 0.8, 0.5) == WHITE
    assert colour(read_picture(written(palette, "GIF"), wanted=224), 0.2, 0.5) == RED


def test_cmyk_palettes_grey_and_bits_become_rgb() -> None:
    assert colour(read_picture(written(red_left().convert("CMYK"), "JPEG"), wanted=224), 0.2, 0.5) == RED
    assert colour(read_picture(written(red_left().convert("CMYK"), "TIFF"), wanted=224), 0.2, 0.5) == RED
    assert colour(read_picture(written(red_left().quantize(4), "PNG"), wanted=224), 0.8, 0.5) == BLUE
    halves = Image.fromarray(np.repeat(np.repeat([[0, 255]], 30, 1), 40, 0).astype(np.uint8))
    for picture in (halves, halves.convert("1"), halves.convert("LA")):
        read = read_picture(written(picture, "PNG"), wanted=224)
        assert (read.mode, colour(read, 0.2, 0.5), colour(read, 0.8, 0.5)) == ("RGB", (0, 0, 0), WHITE)


def test_sixteen_bits_and_real_numbers_keep_their_brightness() -> None:
    ramp = np.repeat(np.linspace(0, 65535, 60)[None], 40, 0)
    wanted = np.rint(ramp[0] / 257)
    deep = written(Image.fromarray(ramp.astype(np.uint16)), "PNG")
    real = written(Image.fromarray((ramp / 65535).astype(np.float32)), "TIFF")
    whole = written(Image.fromarray(np.rint(ramp).astype(np.int32)), "TIFF")
    for data in (deep, real, whole):
        values = np.asarray(read_picture(data, wanted=224), np.int64)
        assert np.abs(values[20, :, 0] - wanted).max() <= 1


def test_sixteen_bits_that_are_all_dark_stay_dark() -> None:
    dark = Image.fromarray(np.full((20, 20), 200, np.uint16))
    assert np.asarray(read_picture(written(dark, "PNG"), wanted=224)).max() == 1


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_is_its_first_frame(kind: str) -> None:
    last = Image.new("RGB", (60, 40), "green")
    data = written(
        red_left(), kind, save_all=True, append_images=[last], **({} if kind == "TIFF" else {"duration": 50})
    )
    assert colour(read_picture(data, wanted=224), 0.2, 0.5) == RED


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_large_photo_comes_smaller_but_never_below_what_is_wanted(kind: str) -> None:
    large = red_left().resize((1500, 1000))
    opened = open_picture(written(large, kind), wanted=224)
    assert (opened.height, opened.width) == (1000, 1500)
    assert 224 <= min(opened.image.size) < 448
    assert colour(opened.image, 0.2, 0.5) == RED
    assert open_picture(written(large, kind), wanted=1001).image.size == (1500, 1000)


def _png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def _large() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<html>404 Not Found</html>", "no picture of a known format"),
        (b"\x00" * 1000, "no picture of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture of a known format"),
        (written(_large(), "JPEG")[:-20000], "truncated"),
        (written(_large(), "PNG")[:-20000], "truncated"),
        (written(_large(), "GIF")[:-20000], "truncated"),
        (written(_large(), "BMP")[:-20000], "truncated"),
        (written(_large(), "WEBP", lossless=True)[:-20000], "broken: "),
        (_png_of(9000, 9000), "9,000 x 9,000 px, at most 64,000,000 px are read"),
        (_png_of(12_000, 12_000), "12,000 x 12,000 px, at most 64,000,000 px are read"),
        (_png_of(60_000, 60_000), "more px than are read: 64,000,000"),
        (_png_of(100, 100), "truncated"),
        (written(Image.new("RGB", (1, 1)), "GIF"), "too small: 1 x 1 px, at least 8 px a side"),
        (written(Image.new("RGB", (300, 7)), "PNG"), "too small: 300 x 7 px"),
    ],
)
def test_what_is_no_photo_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadablePicture) as caught:
        read_picture(data, wanted=224)
    assert caught.value.reason.startswith(reason)


def test_bytes_of_any_kind_are_read_or_refused() -> None:
    rng = np.random.default_rng(1)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        whole = np.frombuffer(written(_large().resize((90, 70)), kind), np.uint8)
        refused = 0
        for _ in range(40):
            data = whole.copy()
            data[rng.integers(0, min(len(data), 600), 4)] = rng.integers(0, 256, 4)
            try:
                assert read_picture(data.tobytes(), wanted=64).mode == "RGB"
            except UnreadablePicture:
                refused += 1
        assert 0 < refused < 41


def test_pixels_that_are_no_numbers_are_black() -> None:
    values = np.full((16, 16), np.nan, np.float32)
    values[:, 8:] = 255.0
    picture = read_picture(written(Image.fromarray(values), "TIFF"), wanted=16)
    assert np.asarray(picture)[0, [0, 15], 0].tolist() == [0, 255]
