"""How does a verb's signature become arguments that a shell user expects?

A verb is a function. Its parameters before the `*` are words in order, those after it are options; its docstring
says what each is. A list is several words (`--keep a b`, or `--keep a --keep b`), a bool is a switch. Words stand
before or after options. The parser is argparse; knows no verb.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import inspect
import re
import shutil
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from shopwindow.cli.console import remark
from shopwindow.files import STANDARD_STREAM, DataError, check_apart

Verb = Callable[..., None]
Replaced = typing.Annotated[str, "put in place whole"]
"""A parameter that names what a verb writes: a file, or a directory of which nothing older stays."""
Filled = typing.Annotated[str, "added to"]
"""A parameter that names a directory that a verb adds to."""

_PLACEHOLDERS: Final = {
    "click_columns": "ROLE=COLUMN",
    **dict.fromkeys(("recipe", "table", "collection", "backbone", "detector"), "NAME"),
    **dict.fromkeys(("id", "title", "link", "currency", "score_column"), "COLUMN"),
    "photo": "NAME",
    **dict.fromkeys(("measure", "measures"), "MEASURE"),
    **dict.fromkeys(("smooth", "smooth_regions"), "WEIGHTS"),
    "operator": "NAME[:NUMBERS]",
    "rerank": "NAME|BUNDLE",
    "keep": "RULE",
    "set": "FIELD=VALUE",
    "where": "CONDITION",
    "suggest": "WORDS",
    "host": "HOST",
    "url": "URL",
    "store": "URL",
}
"""What stands for an option's value in the help, where it is a text and no path."""
_NO_PATHS: Final = ("words", "ids", "name")
"""Words of a command that are no paths."""


@dataclass(frozen=True)
class Description:
    """What a docstring says: its first sentence, its paragraphs, and each parameter."""

    summary: str
    paragraphs: tuple[str, ...]
    parameters: dict[str, str]

    @classmethod
    def of(cls, verb: Verb) -> Description:
        """Reads paragraphs, then `Args:` with `name: text` lines.

        >>> def verb(out: str) -> None:
        ...     '''Writes a file.
        ...
        ...     Args:
        ...         out: The file,
        ...             a path.
        ...     '''
        >>> Description.of(verb)
        Description(summary='Writes a file.', paragraphs=('Writes a file.',), parameters={'out': 'The file, a path.'})
        """
        text, _, described = inspect.cleandoc(verb.__doc__ or "").partition("\nArgs:\n")
        paragraphs = tuple(" ".join(part.split()) for part in text.split("\n\n") if part.strip())
        items = re.findall(r"^ {4}(\w+):(.*(?:\n {5,}.*)*)", described, re.MULTILINE)
        return cls(paragraphs[0], paragraphs, {name: " ".join(says.split()) for name, says in items})


class VerbParser(argparse.ArgumentParser):
    """The parser of one verb; its help ends with an example."""

    def __init__(self, name: str, verb: Verb, *, example: str) -> None:
        says = Description.of(verb)
        width = max(40, min(110, shutil.get_terminal_size().columns) - 2)
        super().__init__(
            prog=name,
            description="\n\n".join(textwrap.fill(part, width) for part in says.paragraphs).replace(
                "%", "%%"
            ),
            epilog=f"example:\n  {example}".replace("%", "%%"),
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
                prog, max_help_position=28, width=width
            ),
            allow_abbrev=False,
            add_help=False,
        )
        words, options = self.add_argument_group("arguments"), self.add_argument_group("options")
        usage, self._repeatable = [name], set[str]()
        self._fits: dict[str, Callable[[str], bool]] = {}
        hints = typing.get_type_hints(inspect.unwrap(verb))
        self._outputs = _outputs(verb)
        for parameter in inspect.signature(verb).parameters.values():
            settings = _settings(parameter, hints[parameter.name], says.parameters.get(parameter.name, ""))
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
                words.add_argument(parameter.name, **settings)
                usage.append(
                    {"+": "{0} ...", "*": "[{0} ...]", "?": "[{0}]"}.get(
                        settings.get("nargs", ""), "{0}"
                    ).format(settings["metavar"])
                )
                continue
            action = options.add_argument(option(parameter.name), **settings)
            if settings.get("action") == "extend":
                self._repeatable.add(option(parameter.name))
                self._fits[option(parameter.name)] = _fitting(settings)
            if action.required:
                usage.append(f"{option(parameter.name)} {settings['metavar']}")
        options.add_argument("--help", "-h", action="help", help="Show this help.")
        self.usage = " ".join([*usage, "[options]"]).replace("%", "%%")
        # argparse would name the options that are missing first, and the words only where no option is.
        self._wanted = [action for action in self._actions if action.required]
        for action in self._wanted:
            action.required = False

    def read(self, words: Sequence[str]) -> dict[str, Any]:
        """The arguments of the verb.

        Raises: DataError for an option that is given twice where it takes one value, and for an empty name.
        """
        words = self._spread(words)
        before = list(words)[: words.index("--")] if "--" in words else words
        given = [word.partition("=")[0] for word in before if word.startswith("--")]
        for name in given:
            if name not in self._option_string_actions:
                self.error(f"{name}: no such option{meant(name, self._option_string_actions)}")
            if given.count(name) > 1 and name not in self._repeatable:
                raise DataError("is given twice", field=name)
        arguments = vars(self.parse_intermixed_args(words))
        missing = [
            action.option_strings[0] if action.option_strings else str(action.metavar)
            for action in self._wanted
            if arguments[action.dest] is None
        ]
        if missing:
            self.error(f"the following arguments are required: {', '.join(missing)}")
        self._check_named(arguments)
        self._check_apart(arguments)
        return arguments

    def _check_named(self, arguments: dict[str, Any]) -> None:
        """Raises: DataError for an empty name, which the system takes for the current folder."""
        for action in self._actions:
            value = arguments.get(action.dest)
            is_path = action.metavar in ("PATH", "COLUMN")
            is_empty = is_path and "" in value if isinstance(value, list) else value == ""
            if is_empty and (is_path or not action.option_strings):
                raise DataError(
                    "is empty, a name was wanted", field=(action.option_strings or [str(action.metavar)])[0]
                )

    def _check_apart(self, arguments: dict[str, Any]) -> None:
        """Raises: DataError for an output that is an input or another output, lies inside one, or would replace what
        holds one."""
        inputs = [
            path
            for action in self._actions
            if action.dest not in self._outputs
            for path in _paths(action, arguments.get(action.dest))
        ]
        replaced = {name: arguments[name] for name, kind in self._outputs.items() if kind is Replaced}
        for name, kind in self._outputs.items():
            if arguments[name] is not None:
                others = [out for other, out in replaced.items() if other != name and out is not None]
                field = next(action for action in self._actions if action.dest == name)
                shown = (field.option_strings or [str(field.metavar)])[0]
                check_apart(arguments[name], [*inputs, *others], field=shown, replaces=kind is Replaced)

    def _spread(self, words: Sequence[str]) -> list[str]:
        """The words with each value of a list bound to its option, so that a value that cannot be one is a word of the
        command: `--where 'price<40' lamp` has a condition and a word."""
        spread: list[str] = []
        name, taken = "", 0
        for place, word in enumerate(words):
            if word == "--":
                return [*spread, *words[place:]]
            fits = self._fits.get(name)
            if word.startswith("--") or fits is None or (taken and not fits(word)):
                name, taken = (word if word.startswith("--") else ""), 0
                spread.append(word)
            elif not fits(word):  # the first value: the verb says what is wrong with it
                spread.append(word)
                name = ""
            else:
                if not taken:
                    spread.pop()
                spread.append(f"{name}={word}")
                taken += 1
        return spread

    def error(self, message: str) -> NoReturn:
        """Says in one line what is wrong with the words of the command, and exits 2."""
        wrong_usage(message.removeprefix("argument "))


def wrong_usage(message: str) -> NoReturn:
    """Says in one line what is wrong with the words of the command, and exits 2."""
    remark(f"{' '.join(message.split())} (--help says more)")
    sys.exit(2)


def meant(word: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown word: the known word that is most like it, if any is.

    >>> meant("serach", ["train", "search"])
    '; did you mean search?'
    """
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


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


def numbers(text: str | None, *, field: str, such_as: str) -> tuple[float, ...] | None:
    """Finite numbers with commas between; None of None.

    Raises: DataError naming the option.

    >>> numbers("0.8,0.2", field="--smooth", such_as="0.8,0.2")
    (0.8, 0.2)
    """
    if text is None:
        return None
    try:
        found = tuple(float(word) for word in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(abs(number) < float("inf") for number in found):
        raise DataError(f"{text!r}, wanted numbers with commas such as {such_as}", field=field)
    return found


@contextlib.contextmanager
def optional_libraries() -> Iterator[None]:
    """Turns the error of a library that is not installed, which names the extra, into one line of the command."""
    try:
        yield
    except ImportError as error:
        raise ValueError(str(error)) from error


def option(name: str) -> str:
    """A parameter's name as it is written on the command line."""
    return "--" + name.replace("_", "-")


def _settings(parameter: inspect.Parameter, hint: Any, says: str) -> dict[str, Any]:
    """How argparse is to read one parameter of a verb."""
    required = parameter.default is inspect.Parameter.empty
    is_option = parameter.kind is inspect.Parameter.KEYWORD_ONLY
    settings: dict[str, Any] = {} if required else {"default": parameter.default}
    if hint is bool:
        return {"action": "store_true", "help": _escaped(says)}
    kind, is_list = _kind(hint)
    choices = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else None
    if choices:
        settings["choices"], settings["metavar"] = choices, "{" + ",".join(choices) + "}"
    else:
        settings["type"] = {int: _whole_number, float: _number}.get(kind, str)
        settings["metavar"] = _placeholder(parameter.name, kind) if is_option else parameter.name.upper()
    if is_list:
        settings["nargs"] = "+" if is_option or required else "*"
        if is_option and parameter.default in (None, inspect.Parameter.empty):
            settings["action"] = "extend"
    elif not is_option and not required:
        settings["nargs"] = "?"
    if is_option and required:
        settings["required"] = True
    elif parameter.default is not None and not required:
        shown = " ".join(parameter.default) if is_list else parameter.default
        says = f"{says} (default: {shown})"
    return {**settings, "help": _escaped(says)}


def _outputs(verb: Verb) -> dict[str, object]:
    """The parameters that name what a verb writes: `Replaced` or `Filled`."""
    hints = typing.get_type_hints(inspect.unwrap(verb), include_extras=True)
    return {
        name: kind
        for name, hint in hints.items()
        for kind in (Replaced, Filled)
        if kind in (hint, *typing.get_args(hint))
    }


def _paths(action: argparse.Action, value: object) -> list[str]:
    """The files and directories that the value of an argument names. What may be a name is a path where it is a
    directory with a card."""
    words = [word for word in (value if isinstance(value, list) else [value]) if isinstance(word, str)]
    if action.dest in _NO_PATHS:
        return []
    if str(action.metavar).startswith("NAME"):
        return [word for word in words if any(Path(word).glob("*.json"))]
    if action.option_strings and action.metavar != "PATH":
        return []
    several = [part for word in words for part in (word, *word.split(","))]  # as evaluate reads seeds
    return [word for word in several if word and word != STANDARD_STREAM]


def _fitting(settings: dict[str, Any]) -> Callable[[str], bool]:
    """Whether a word can be a value of a list: a number, a condition, FIELD=VALUE; any can be another text."""
    kind, placeholder = settings.get("type", str), settings["metavar"]
    if kind is not str:
        return lambda word: _reads(kind, word)
    if placeholder == "CONDITION":
        return lambda word: bool(set(word) & set("<=>"))
    return (lambda word: "=" in word) if "=" in placeholder else lambda _: True


def _reads(kind: Callable[[str], Any], word: str) -> bool:
    try:
        kind(word)
    except argparse.ArgumentTypeError:
        return False
    return True


def _kind(hint: Any) -> tuple[Any, bool]:
    """What one value is, without None, and whether there are several.

    >>> _kind(list[int] | None)
    (<class 'int'>, True)
    """
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(one for one in typing.get_args(hint) if one is not types.NoneType)
    if typing.get_origin(hint) is list:
        return typing.get_args(hint)[0], True
    return hint, False


def _placeholder(name: str, kind: type) -> str:
    if kind is str:
        return _PLACEHOLDERS.get(name, "PATH")
    return "N" if kind is int else "NUMBER"


def _escaped(says: str) -> str:
    return says.replace("%", "%%")


def _whole_number(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r}, a whole number is wanted") from None
    if abs(number) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text[:40]}, a whole number of at most 18 digits is wanted")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}, a number is wanted") from None
