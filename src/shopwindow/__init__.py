"""shopwindow finds the product in the picture: learns, ranks, measures, searches.

`import shopwindow as sw` offers the functions of `api.py` and loads nothing heavy: each is imported when it is first
named. docs/design.md names the rooms and which way they look; each verb of the command line composes them in `cli`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shopwindow.api import audit, compare, evaluate, extract, load, open, prepare, rank, train

__version__ = "0.2.0"
__all__ = ["audit", "compare", "evaluate", "extract", "load", "open", "prepare", "rank", "train"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'shopwindow' has no attribute {name!r}")
    from shopwindow import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
