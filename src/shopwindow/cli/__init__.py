"""The command line: one verb per stage. It composes the rooms and holds no logic of its own.

A verb is a function: its signature and docstring are the command (`arguments.py`). Its module is imported when it is
called, and heavy rooms inside it, so that `shopwindow --help` answers at once.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from typing import Any, Final, NoReturn, cast

from shopwindow.cli.arguments import Description, Verb, VerbParser, meant, wrong_usage
from shopwindow.cli.console import remark
from shopwindow.cli.threads import wait_passively
from shopwindow.files import DataError
from shopwindow.objects import is_object

WRONG_INPUT: Final = 2
_CANNOT_TAKE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""A file that cannot take more is a DataError before it comes here: what is left is standard output."""

VERBS: Final = {
    "Begin": {
        "demo": ("demo:demo", "demo --out demo --serve"),
        "shop": ("shop:shop", "shop products.csv --photos photos --clicks clicks.csv --out myshop"),
        "draw": ("demo:draw", "draw shop --products 500"),
    },
    "Learn": {
        "extract": ("extract:extract", "extract products.csv --photos photos --out features"),
        "prepare": ("prepare:prepare", "prepare train.tsv --out train"),
        "train": ("learn:train", "train train --valid valid --answers valid_answer.json --out bundle"),
        "rank": ("learn:rank", "rank bundle valid --out valid.run"),
    },
    "Measure": {
        "evaluate": ("measure:evaluate", "evaluate valid.run valid_answer.json --pools valid.tsv"),
        "audit": ("audit:audit", "audit --pools valid.tsv --answers valid_answer.json --run valid.run"),
        "report": ("report:report", "report valid.run --answers valid_answer.json --out report.html"),
        "fuse": ("fuse:fuse", "fuse a.run b.run --out fused.run --weights 2 1"),
        "submit": ("fuse:submit", "submit valid.run --pools valid.tsv --out submission.csv"),
    },
    "Search": {
        "index make": ("index:make", "index make bundle valid --out index --photos photos"),
        "index add": ("index:add", "index add index more"),
        "index delete": ("index:delete", "index delete index 17 18"),
        "index compact": ("index:compact", "index compact index"),
        "index update": ("index:update", "index update index --columns prices.csv"),
        "index check": ("index:check", "index check index"),
        "search": ("search:search", "search index red lamp --top 3 --where 'price<=20'"),
        "serve": ("serve:serve", "serve index --port 8000"),
        "sync": ("sync:sync", "sync myshop --store postgresql://me@localhost/shop"),
        "key": ("serve:key", "key alice --keys keys.txt"),
    },
    "Export": {
        "export parquet": ("export:parquet", "export parquet index --out vectors.parquet"),
        "export pgvector": (
            "export:pgvector",
            "export pgvector index --url postgresql://me@localhost/shop --table products",
        ),
        "export qdrant": (
            "export:qdrant",
            "export qdrant index --url http://localhost:6333 --collection products",
        ),
        "export lance": ("export:lance", "export lance index --url lance://shop.lance"),
        "export milvus": ("export:milvus", "export milvus index --url milvus://localhost:19530"),
        "export onnx": ("export:onnx", "export onnx bundle --out text"),
        "export bert": ("export:bert", "export bert bundle --out tower --tower photo"),
    },
}
"""The verbs in groups: each with its function (module:name) and an example."""
_OF_SHOP: Final = frozenset({"bundle", "dataset", "index"})
"""Parameters of verbs that are named as what they take of a shop's folder."""


def main(arguments: list[str] | None = None) -> None:
    """Runs one verb; exits 0 when done, 2 on wrong input with one line saying what and where."""
    wait_passively()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an ascii terminal, a file name that is no UTF-8
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            _run(sys.argv[1:] if arguments is None else arguments)
        finally:  # also where a verb ends by itself, as --help does
            sys.stdout.flush()
    except (DataError, ValueError) as error:
        _end(str(error), WRONG_INPUT)
    except BrokenPipeError:
        _drop_output()
        sys.exit(1)
    except OSError as error:
        _end(_system_problem(error), WRONG_INPUT)
    except RecursionError:
        _end("nested too deep", WRONG_INPUT)
    except MemoryError:
        _end("the memory is full", WRONG_INPUT)
    except KeyboardInterrupt:
        _end("interrupted", 130)


def _end(problem: str, status: int) -> NoReturn:
    remark(problem)
    sys.exit(status)


def _system_problem(error: OSError) -> str:
    """What the system could not do, in words."""
    reason = error.strerror or str(error)
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {reason}"
    if error.errno in _CANNOT_TAKE:
        _drop_output()
        return f"standard output: cannot be written: {reason}"
    return reason


def _drop_output() -> None:
    """Sends what is left of standard output nowhere, so that the end of the process does not fail on it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parser_of(name: str) -> tuple[VerbParser, Verb]:
    """The parser of a verb, and the verb."""
    place, example = {name: verb for group in VERBS.values() for name, verb in group.items()}[name]
    verb = _function(place)
    return VerbParser(f"shopwindow {name}", verb, example=f"shopwindow {example}"), verb


def _run(words: list[str]) -> None:
    if words[:1] == ["--version"]:
        from shopwindow import __version__

        sys.stdout.write(f"shopwindow {__version__}\n")
        return
    if words[:1] in (["--help"], ["-h"]):
        sys.stdout.write(_help())
        return
    names = [name for group in VERBS.values() for name in group]
    nouns = {name.split()[0] for name in names if " " in name}
    if words[:1] and words[0] in nouns and words[1:2] in (["--help"], ["-h"]):
        sys.stdout.write(_help(words[0]))
        return
    name = _named(words, names, nouns)
    parser, verb = parser_of(name)
    arguments = _within_shops(parser.read(words[len(name.split()) :]))
    if any(map(is_object, _texts(arguments))):
        from shopwindow.cli.objects import on_this_machine

        with on_this_machine(name, arguments) as local:
            verb(**local)
    else:
        verb(**arguments)


def _texts(arguments: dict[str, Any]) -> list[Any]:
    """All values, those of lists one by one."""
    return [one for value in arguments.values() for one in (value if isinstance(value, list) else [value])]


def _within_shops(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a verb; a folder of `shopwindow shop` stands for the bundle, dataset or index within."""
    from shopwindow.shop.stages import part_of

    given = {name: arguments[name] for name in _OF_SHOP & arguments.keys() if arguments[name]}
    return arguments | {name: part_of(place, name) for name, place in given.items() if not is_object(place)}


def _named(words: list[str], names: list[str], nouns: set[str]) -> str:
    """The verb that a command begins with; exits 2 where there is none."""
    if not words:
        wrong_usage("a verb is wanted, such as demo")
    noun = words[0]
    if noun not in nouns:
        if noun not in names:
            known = [*names, *nouns, "--help", "--version"]
            wrong_usage(f"{noun}: no such verb{meant(noun, known)}")
        return noun
    known = [name.split()[1] for name in names if name.startswith(f"{noun} ")]
    one_of = f"one of {', '.join(known)} is wanted"
    if len(words) == 1:
        wrong_usage(f"{noun}: {one_of}")
    if words[1] not in known:
        wrong_usage(f"{noun} {words[1]}: no such verb{meant(words[1], known) or f'; {one_of}'}")
    return f"{noun} {words[1]}"


def _help(noun: str = "") -> str:
    """The verbs in groups with a sentence each; of a noun, its verbs."""
    import shutil
    import textwrap

    width = max(60, min(110, shutil.get_terminal_size().columns))
    lines = [f"usage: shopwindow {noun or 'VERB'} ...", ""]
    for group, verbs in VERBS.items():
        shown = {name: place for name, (place, _) in verbs.items() if name.startswith(noun)}
        if not shown:
            continue
        lines.append(group)
        for name, place in shown.items():
            says = Description.of(_function(place)).summary
            lines += textwrap.wrap(says, width, initial_indent=f"  {name:<17}", subsequent_indent=" " * 19)
        lines.append("")
    lines += [
        "`shopwindow VERB --help` says more, with an example; `shopwindow --version` names the version.",
        "",
    ]
    return "\n".join(lines)


def _function(place: str) -> Verb:
    module, name = place.split(":")
    return cast(Verb, getattr(importlib.import_module(f"shopwindow.cli.{module}"), name))
