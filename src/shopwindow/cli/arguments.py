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

from shopwindow.files import DataError


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
                # With a default argparse, and the help, know that it may be left out.
                some: dict[str, Any] = (
                    {"nargs": "+"} if required else {"nargs": "*", "default": parameter.default}
                )
                self.add_argument(name, type=item, help=says.get(name), **some)
            else:
                choice: dict[str, Any] = {"required": True} if required else {"default": parameter.default}
                if option(name) in repeatable:
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
        dashed = [option(name[2:]) if name.startswith("--") else name for name in names]
        return super().add_argument(*dashed, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:  # noqa: ARG002 - jsonargparse gives it
        """Says in one line what is wrong with the words of the command, and exits 2."""
        sys.stderr.write(f"shopwindow: {' '.join(message.split())} (--help says more)\n")
        sys.exit(2)


def at_least(least: int, **options: int | float | None) -> None:
    """Refuses numbers that are too small, by their options' names; None was not given.

    Raises: DataError.

    >>> at_least(1, top=0)
    Traceback (most recent call last):
    shopwindow.files.DataError: --top: 0, at least 1 is wanted
    """
    for name, number in options.items():
        if number is not None and not number >= least:
            raise DataError(f"{number}, at least {least} is wanted", field=option(name))


def only_with(says: str, **options: object) -> None:
    """Refuses what was given (is neither None, False nor empty) where it says nothing, by the options' names.

    Raises: DataError.

    >>> only_with("goes with --rerank", candidates=None, top=5)
    Traceback (most recent call last):
    shopwindow.files.DataError: --top: goes with --rerank
    """
    for name, value in options.items():
        if value is not None and value is not False and value != []:
            raise DataError(says, field=option(name))


def option(name: str) -> str:
    """A parameter's name as it is written on the command line."""
    return "--" + name.replace("_", "-")


def repeatable_options(verb: Callable[..., Any]) -> set[str]:
    """The options of a verb that can be given several times: lists without a default, to which nothing is added.

    >>> def verb(*, keep: list[int] | None = None, measures: list[str] = ["MRR"], out: str = "x") -> None: ...
    >>> repeatable_options(verb)
    {'--keep'}
    """
    parameters = inspect.signature(verb).parameters
    return {
        option(name)
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
