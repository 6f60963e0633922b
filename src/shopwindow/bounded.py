"""How are YAML and npz from elsewhere read, whose few bytes may ask for hours or for all memory?

Beside `files.py`, which does so for text, gzip and JSON. Knows no field and no array's meaning.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from shopwindow.files import DataError, check_ordinary, reading

_UNPACKED_BYTES: Final = 64 * 2**20
_UNPACKED_TIMES: Final = 200
_DEEPEST: Final = 100
"""Lists and mappings within each other in YAML."""


def read_mapping(text: str, path: Path, *, field: str | None = None) -> dict[str, Any]:
    """The mapping that a YAML text says; an empty text is an empty one.

    Raises: DataError for no YAML, no mapping, more than 100 levels, an alias, and a key given twice, of which YAML
    would silently take the last.
    """
    import yaml

    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:  # reading on takes hours
                raise DataError("no YAML: nested too deep", path=path, field=field)
            if isinstance(event, yaml.AliasEvent):
                raise DataError("holds an alias (*name): write the value out", path=path, field=field)
        node, values = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
        _check_once(node, path)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2020-13-45, 0b_
        raise DataError(f"no YAML: {' '.join(str(error).split())[:200]}", path=path, field=field) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise DataError("a list of `field: value` was wanted", path=path, field=field)
    return values


def _check_once(node: Any, path: Path) -> None:
    """Raises: DataError naming line and key for a key that a mapping, at any depth, has twice."""
    import yaml

    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_once(item, path)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        name = str(key.value)
        if name in lines:
            raise DataError(f"given twice, first in line {lines[name]}", path=path, line=line, field=name)
        lines[name] = line
        _check_once(value, path)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz by name.

    Raises: DataError where it is broken, missing, holds objects, or unpacks to more than 64 MB and 200 times its size.
    """
    check_ordinary(path)
    with reading(path):
        try:
            with path.open("rb") as raw, zipfile.ZipFile(raw) as packed:
                size = sum(entry.file_size for entry in packed.infolist())
            if size > max(_UNPACKED_BYTES, _UNPACKED_TIMES * path.stat().st_size):
                raise DataError(f"unpacks to more than {_UNPACKED_TIMES} times its size", path=path)
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except (DataError, OSError):
            raise
        except Exception as error:  # zip and numpy raise many kinds for a broken file
            raise DataError(
                f"no npz of plain arrays: {' '.join(str(error).split())[:200]}", path=path
            ) from error
