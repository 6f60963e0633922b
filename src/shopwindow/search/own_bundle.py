"""Is this the bundle that an index was made by?

An index is opened and searched without torch (`exported_text.py`); only what needs the model itself imports this.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Final

from shopwindow.files import DataError
from shopwindow.model.bundle import MARKER, Bundle, describe
from shopwindow.model.given import WEIGHTS
from shopwindow.model.tokenizer_files import TOKENIZER_FILE
from shopwindow.search.index import hash_file

_COPIED: Final = (WEIGHTS, TOKENIZER_FILE, "recipe.yaml", MARKER)


def load_bundle(path: Path) -> tuple[Bundle, str]:
    """A bundle and its hash: over weights, tokenizer and sizes; not over its scores.

    `Bundle.fingerprint` names the vectors alone. The hash covers the reranker too: an index keeps regions made by it.

    Raises: DataError as `Bundle.load`.
    """
    bundle = Bundle.load(path)
    sizes = json.dumps(describe(bundle.model), sort_keys=True)
    parts = [hash_file(path / WEIGHTS), hash_file(path / TOKENIZER_FILE), sizes]
    if bundle.backbone is not None:
        parts.append(str(bundle.backbone.get("fingerprint")))
    return bundle, hashlib.sha256("\n".join(parts).encode()).hexdigest()


def load_same_bundle(path: Path, wanted_hash: str) -> Bundle:
    """The bundle at `path`, which must be the one of the hash.

    Raises: DataError where it is another: its vectors cannot be compared with those of the index.
    """
    bundle, bundle_hash = load_bundle(path)
    if bundle_hash != wanted_hash:
        raise DataError(
            f"is another model than the index was made by ({bundle_hash[:12]}, wanted {wanted_hash[:12]})",
            path=path,
        )
    return bundle


def copy_bundle(source: Path, goal: Path) -> None:
    """Copies the files that a bundle needs to be opened."""
    goal.mkdir()
    for name in _COPIED:
        shutil.copyfile(source / name, goal / name)
