"""How does a verb's signature become arguments that a shell user expects?

jsonargparse makes one argument per parameter. Here are the three habits of a shell that it lacks: a list
is given as several words (`TSV TSV ...`, `--keep a b`, or `--keep a --keep b`), a switch needs no value
(`--allow-malformed`), and the names of options have dashes. Knows no verb.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable
from typing import Any, NoReturn

from docstring_parser import parse
from jsonargparse import ArgumentParser


class VerbParser(ArgumentParser):
    """The parser of the command line and of each verb."""

    def add_function_arguments(self, function: Callable[..., Any], *args: Any, **options: Any) -> list[str]:
        """Adds a verb's parameters: lists as several words, the others as jsonargparse does."""
        # Resolved here: jsonargparse would run the `if TYPE_CHECKING` imports of the verb's module.
        function = inspect.unwrap(function)
        function.__annotations__ = typing.get_type_hints(function)
        items = _list_items(function)
        repeatable = repeatable_options(function)
        added = super().add_function_arguments(function, *args, **{**options, "skip": set(items)})
        says = {
            parameter.arg_name: parameter.description for parameter in parse(function.__doc__ or "").params
        }
        for name, item in items.items():
            parameter = inspect.signature(function).parameters[name]
            required = parameter.default is inspect.Parameter.empty
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
                self.add_argument(name, type=item, nargs="+" if required else "*", help=says.get(name))
            else:
                choice: dict[str, Any] = {"required": True} if required else {"default": parameter.default}
                if f"--{name.replace('_', '-')}" in repeatable:
                    choice["action"] = "extend"
                self.add_argument(f"--{name}", type=item, nargs="+", help=says.get(name), **choice)
        return [*added, *items]

    def add_argument(self, *names: str, **options: Any) -> Any:
        """Adds one argument: names of options with dashes, a bool that is off as a switch."""
        if options.get("type") is bool and options.get("default") is False:
            del options["type"]
            options["action"] = "store_true"
        if not names[0].startswith("-"):
            options.setdefault("metavar", names[0].upper())
        dashed = [name.replace("_", "-") if name.startswith("--") else name for name in names]
        return super().add_argument(*dashed, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:  # noqa: ARG002 - jsonargparse gives it
        """Says in one line what is wrong with the words of the command, and exits 2."""
        sys.stderr.write(f"shopwindow: {' '.join(message.split())} (--help says more)\n")
        sys.exit(2)


def repeatable_options(verb: Callable[..., Any]) -> set[str]:
    """The options of a verb that can be given several times: lists without a default, to which nothing is added.

    >>> def verb(*, keep: list[int] | None = None, measures: list[str] = ["MRR"], out: str = "x") -> None: ...
    >>> repeatable_options(verb)
    {'--keep'}
    """
    parameters = inspect.signature(verb).parameters
    return {
        f"--{name.replace('_', '-')}"
        for name in _list_items(verb)
        if parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        and parameters[name].default in (None, inspect.Parameter.empty)
    }


def _list_items(function: Callable[..., Any]) -> dict[str, type]:
    """The parameters of a function that are lists, and of what.

    >>> def verb(files: list[str], *, keep: list[int] | None = None, out: str = "x") -> None: ...
    >>> _list_items(verb)
    {'files': <class 'str'>, 'keep': <class 'int'>}
    """
    items = {}
    for name, kind in typing.get_type_hints(function).items():
        if typing.get_origin(kind) in (typing.Union, types.UnionType):
            kind = next(one for one in typing.get_args(kind) if one is not types.NoneType)
        if name != "return" and typing.get_origin(kind) is list:
            items[name] = typing.get_args(kind)[0]
    return items
