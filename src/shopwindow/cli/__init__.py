"""The command line: one verb per stage. It composes the rooms and holds no logic of its own.

A verb is a function: its signature and docstring are the command (jsonargparse). Heavy rooms are
imported inside the verbs, so that `shopwindow --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from shopwindow.files import DataError

WRONG_INPUT = 2


def _verbs() -> dict[str, Any]:
    from shopwindow.cli import audit, fuse, learn, measure, prepare, report, search, serve, shop, vectors

    return {
        "demo": shop.demo,
        "draw": shop.draw,
        "prepare": prepare.prepare,
        "train": learn.train,
        "rank": learn.rank,
        "export": learn.export,
        "export-text": learn.export_text,
        "evaluate": measure.evaluate,
        "audit": audit.audit,
        "fuse": fuse.fuse,
        "report": report.report,
        "submit": fuse.submit,
        "index": search.index,
        "search": search.search,
        "export-vectors": vectors.export_vectors,
        "serve": serve.serve,
        "key": serve.key,
    }


def main(arguments: list[str] | None = None) -> None:
    """Runs one verb; exits 0 when done, 2 on wrong input with one line saying what and where."""
    from jsonargparse import auto_cli, set_parsing_settings

    from shopwindow.cli.arguments import VerbParser

    set_parsing_settings(docstring_parse_attribute_docstrings=False)
    try:
        _refuse_repeated(sys.argv[1:] if arguments is None else arguments)
        auto_cli(_verbs(), args=arguments, as_positional=True, parser_class=VerbParser, prog="shopwindow")
    except (DataError, ValueError) as error:
        print(f"shopwindow: {error}", file=sys.stderr)  # noqa: T201 - the one place that speaks of errors
        sys.exit(WRONG_INPUT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("shopwindow: interrupted", file=sys.stderr)  # noqa: T201 - as above
        sys.exit(130)


def _refuse_repeated(words: list[str]) -> None:
    """An option given twice would silently be the second one alone, where it does not take several values."""
    from shopwindow.cli.arguments import repeatable_options

    verbs = _verbs()
    several = repeatable_options(verbs[words[0]]) if words and words[0] in verbs else set()
    options = [word.partition("=")[0] for word in words if word.startswith("--") and len(word) > 2]
    for option in options:
        if options.count(option) > 1 and option not in several:
            raise DataError("is given twice", field=option)
