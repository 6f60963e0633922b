"""What does the text of a recipe file say? YAML, one `field: value` each, no field twice. Knows no field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from shopwindow.files import DataError


def read_mapping(text: str, path: Path) -> dict[str, Any]:
    """The values by field; of an empty text none.

    Raises: DataError for what is no YAML or no mapping, and naming key and line for a key given twice, of which YAML
    would silently take the last.
    """
    try:
        node, values = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2020-13-45, 0b_
        raise DataError(f"no YAML: {' '.join(str(error).split())[:200]}", path=path) from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not isinstance(node, yaml.MappingNode):
        raise DataError("a recipe is a list of `field: value`", path=path)
    seen: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in seen:
            raise DataError(
                f"given twice, first in line {seen[key.value]}", path=path, line=line, field=key.value
            )
        seen[key.value] = line
    return values
