"""Which stages of a shop are done, and of which input?

`shop.json` keeps for every stage what it was made of. A stage is done again only where that changed, or what it made
is gone. It is written after each stage, so that a killed command goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from shopwindow.files import DataError, check_fields, check_ordinary, read_card, whole_file

MARKER: Final = "shop.json"
FORMAT: Final = "shopwindow shop 1"


class Stages:
    """The stages of the shop in a folder.

    Raises: DataError where the folder holds other files, or a `shop.json` that is broken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made_of: dict[str, str] = {}
        path = folder / MARKER
        if path.is_file():
            self._made_of = read_shop(folder)["stages"]
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"holds other files and no {MARKER}; name a new folder", path=folder)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._write({})

    def run(self, name: str, inputs: Any, make: Callable[[Path], None]) -> bool:
        """Makes `folder / name` by `make` unless it is there and was made of equal `inputs` (plain values for JSON);
        says whether it was made now."""
        path, made_of = self.folder / name, hash_of(inputs)
        if path.exists() and self._made_of.get(name) == made_of:
            return False
        make(path)
        self._made_of[name] = made_of
        self._write({})
        return True

    def finish(self, about: dict[str, Any]) -> None:
        """Writes what is to be known of the whole shop."""
        self._write(about)

    def _write(self, about: dict[str, Any]) -> None:
        content = {"format": FORMAT, "stages": self._made_of, **about}
        with whole_file(self.folder / MARKER) as file:
            file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_shop(folder: Path) -> dict[str, Any]:
    """What `shop.json` says. Raises: DataError where it is broken or of another format."""
    path = folder / MARKER
    content = read_card(path, format=FORMAT, made_by="shop")
    check_fields(content, {"stages": dict}, path)
    return content


_Place = TypeVar("_Place", str, Path)


def part_of(path: _Place, name: str) -> _Place:
    """The bundle, dataset or index (`name`) within a folder of `shopwindow shop`; any other path as it is."""
    return type(path)(Path(path) / name) if (Path(path) / MARKER).is_file() else path


def hash_of(inputs: Any) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def file_hash(path: str | Path | None) -> str | None:
    """SHA-256 of a file's bytes; None for none. Raises: DataError where it cannot be read."""
    if path is None:
        return None
    check_ordinary(path)  # it is read more than once
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from error
