"""How is a photo from elsewhere opened? Upright, in RGB, and only where it is no picture bomb."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps

from shopwindow.files import DataError, check_ordinary

MOST_PX: Final = 64_000_000
"""Of a photo: four times what large cameras of phones make. As RGB it takes 192 MB."""


def read_photo(path: Path) -> Image.Image:
    """The photo, upright, in RGB. Raises: DataError for a file that is no photo, or one with more than MOST_PX."""
    check_ordinary(path)
    try:
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(path) as stored,
        ):
            width, height = stored.size
            if width * height > MOST_PX:
                raise DataError(f"{width} x {height} px, a photo may have {MOST_PX:,}", path=path)
            return ImageOps.exif_transpose(stored).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # of broken files
        raise DataError(f"cannot be read as a photo: {error}", path=path) from error
