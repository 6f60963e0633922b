"""How do the bytes of a photo become an RGB picture, whatever cameras and shops put into files?

Rotated as EXIF says, alpha on white, CMYK, palettes, grey and 16 bit as RGB, the first frame of an animation. What
cannot be read says why. Sizes are checked before anything is decoded: the bytes may come from a stranger.
"""

from __future__ import annotations

import contextlib
import io
import threading
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, UnidentifiedImageError

MOST_PIXELS: Final = 64_000_000
"""Of a photo: more is taken for a bomb."""
LEAST_SIDE: Final = 8
"""px: less is a counting pixel or a spacer, no photo."""
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
"""What is tried; Pillow knows more, some of which start other programs."""
_LARGE_PIXELS: Final = 16_000_000
_ONE_LARGE: Final = threading.Lock()
"""Of large photos one is decoded at a time: some take hundreds of megabytes."""
_STRIP: Final = 32
"""Lines of the outcome that are made at once."""
_ORIENTATION: Final = 0x0112
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPPED: Final = (5, 6, 7, 8)


class UnreadablePicture(ValueError):  # noqa: N818 - named after what it is, not after what it does
    """Bytes that are no picture one can use; `reason` says why, without a place."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True)
class Picture:
    """A picture in RGB, perhaps reduced; `height` and `width` are those of the photo as it is seen, in px."""

    image: Image.Image
    height: int
    width: int


def read_picture(data: bytes, *, most_pixels: int = MOST_PIXELS, wanted: int) -> Image.Image:
    """The RGB picture of a file's bytes, as `open_picture`."""
    return open_picture(data, most_pixels=most_pixels, wanted=wanted).image


def open_picture(data: bytes, *, most_pixels: int = MOST_PIXELS, wanted: int) -> Picture:
    """The picture of a file's bytes: reduced by a whole factor while both sides keep `wanted` px, upright, in RGB.

    Raises: UnreadablePicture for bytes that are empty, no picture, truncated or broken, for more than `most_pixels`,
    and for sides under 8 px.
    """
    if not data:
        raise UnreadablePicture("empty")
    try:
        Image.init()
        picture = Image.open(io.BytesIO(data), formats=[kind for kind in FORMATS if kind in Image.OPEN])
        size = picture.size
        if size[0] * size[1] > most_pixels:
            raise UnreadablePicture(f"{size[0]:,} x {size[1]:,} px, at most {most_pixels:,} px are read")
        if min(size) < LEAST_SIDE:
            raise UnreadablePicture(f"too small: {size[0]} x {size[1]} px, at least {LEAST_SIDE} px a side")
        with _ONE_LARGE if size[0] * size[1] > _LARGE_PIXELS else contextlib.nullcontext():
            picture.draft(None, (wanted, wanted))  # JPEG alone can be decoded smaller
            picture.load()
            return _upright(picture, size if picture.format in ("JPEG", "MPO") else picture.size, wanted)
    except UnreadablePicture:
        raise
    except UnidentifiedImageError as error:
        raise UnreadablePicture("no picture of a known format") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadablePicture(f"more px than are read: {most_pixels:,}") from error
    except MemoryError as error:
        raise UnreadablePicture("needs more memory than there is") from error
    except Exception as error:  # a decoder of hostile bytes may raise anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        cut = any(word in reason.lower() for word in ("truncated", "eof", "unexpected end"))
        raise UnreadablePicture("truncated" if cut else f"broken: {reason}") from error


def _upright(picture: Image.Image, size: tuple[int, int], wanted: int) -> Picture:
    """A loaded picture of a photo of `size` (width, height) px."""
    orientation = _orientation(picture)
    rgb = _reduced(picture, max(1, min(picture.size) // wanted))
    if orientation in _TURNS:
        rgb = rgb.transpose(_TURNS[orientation])
    width, height = size[::-1] if orientation in _SWAPPED else size
    return Picture(rgb, height, width)


def _reduced(picture: Image.Image, factor: int) -> Image.Image:
    """In RGB, and smaller by a factor: strip by strip, because a large photo in two modes takes half a gigabyte."""
    width, height = picture.size
    white = _white(picture)
    out = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    for top in range(0, height, _STRIP * factor):
        strip = picture.crop((0, top, width, min(top + _STRIP * factor, height)))
        out.paste(_rgb(strip, white).reduce(factor), (0, top // factor))
    return out


def _orientation(picture: Image.Image) -> int:
    """As EXIF or XMP has it; 1, upright, where neither can be read: the picture itself may be whole."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken metadata may raise anything
        return 1


def _white(picture: Image.Image) -> float | None:
    """The value that is white, of more than 8 bits or of real numbers; None for 8 bits."""
    if not picture.mode.startswith(("I", "F")):
        return None
    most = picture.getextrema()[1]
    assert isinstance(most, int | float)
    if picture.mode == "F" and most <= 1:
        return 1.0
    return 65535.0 if most > 255 or ";16" in picture.mode else 255.0


def _rgb(picture: Image.Image, white: float | None) -> Image.Image:
    if white is not None:
        values = np.nan_to_num(np.asarray(picture, np.float32)) * (255 / white)
        return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    with_alpha = picture.convert("RGBA")
    paper = Image.new("RGB", picture.size, "white")
    paper.paste(with_alpha, mask=with_alpha.getchannel("A"))
    return paper
