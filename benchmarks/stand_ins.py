"""What takes the place of two small packages on a machine that has torch and no network, so that the project imports?

`jaxtyping` writes shapes in annotations, with which nothing computes; `pybase64` decodes competition files, which no
GPU benchmark reads. Where the packages are there, they are taken.
"""

from __future__ import annotations

import base64
import importlib.util
import sys
import types
from typing import Any, Final

NAMES: Final = ("jaxtyping", "pybase64")


def missing() -> list[str]:
    """Which of the two are not installed, nor stood in for."""
    return [
        name for name in NAMES if sys.modules.get(name) is None and importlib.util.find_spec(name) is None
    ]


def stand_in(names: list[str]) -> None:
    """Puts something in their place. It has to come before the project is imported."""
    for name in names:
        sys.modules[name] = _shapes() if name == "jaxtyping" else _decoder()


def _shapes() -> types.ModuleType:
    module = types.ModuleType("jaxtyping")
    anything = type("Anything", (), {"__class_getitem__": classmethod(lambda own, _: own)})

    def found(name: str) -> type:
        if name.startswith("_"):  # where a file or a specification is looked for, there is none
            raise AttributeError(name)
        return anything

    vars(module)["__getattr__"] = found
    return module


def _decoder() -> types.ModuleType:
    module = types.ModuleType("pybase64")
    functions: dict[str, Any] = {"b64decode": base64.b64decode, "b64encode": base64.b64encode}
    vars(module).update(functions)
    return module
