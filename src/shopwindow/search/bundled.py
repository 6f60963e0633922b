"""Is this the bundle that made these vectors? Naming a bundle by what decides its vectors, and copying it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Final

import numpy as np

from shopwindow.files import DataError
from shopwindow.model.bundle import MARKER, Bundle, describe
from shopwindow.model.exported_text import ExportedText
from shopwindow.model.given import WEIGHTS
from shopwindow.model.tokenizer_files import TOKENIZER_FILE
from shopwindow.search.index import hash_file

_TRIED: Final = 50
_SAME: Final = 0.99
"""The lowest cosine of an exported text side's vector (int8's) with the bundle's."""
_COPIED: Final = (WEIGHTS, TOKENIZER_FILE, "recipe.yaml", MARKER)


def load_bundle(path: Path) -> tuple[Bundle, str]:
    """A bundle and its hash: over weights, tokenizer and sizes, which decide every vector; not over its scores.

    Raises: DataError as `Bundle.load`.
    """
    bundle = Bundle.load(path)
    sizes = json.dumps(describe(bundle.model), sort_keys=True)
    parts = [hash_file(path / WEIGHTS), hash_file(path / TOKENIZER_FILE), sizes]
    return bundle, hashlib.sha256("\n".join(parts).encode()).hexdigest()


def load_same_bundle(path: Path, wanted_hash: str) -> Bundle:
    """The bundle at `path`, which must be the one of the hash.

    Raises: DataError where it is another: its vectors cannot be compared with those of the index.
    """
    bundle, found = load_bundle(path)
    if found != wanted_hash:
        raise DataError(
            f"is another model than the index was made by ({found[:12]}, wanted {wanted_hash[:12]})",
            path=path,
        )
    return bundle


def check_same_text_side(text: ExportedText, bundle: Bundle, words: list[str], index: Path) -> None:
    """Asks both for the vectors of some words. Raises: DataError where they are others."""
    words = words[:_TRIED]
    theirs, ours = text.encode(words), bundle.encode_texts(words)
    if theirs.shape == ours.shape:
        lengths = np.linalg.norm(theirs, axis=1) * np.linalg.norm(ours, axis=1)
        if ((theirs * ours).sum(axis=1) >= _SAME * lengths).all():
            return
    raise DataError("the exported text side is of another model than the index was made by", path=index)


def copy_bundle(source: Path, goal: Path) -> None:
    """Copies the files that a bundle needs to be opened."""
    goal.mkdir()
    for name in _COPIED:
        shutil.copyfile(source / name, goal / name)
