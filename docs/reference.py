"""Which pages of the reference follow from the code? Verbs, recipe fields, HTTP endpoints, Python names, glossary.

They are made when the site is built, so they are never stale; mkdocs calls `on_files`. Nothing here is committed text.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, cast, get_args, get_type_hints
from unittest.mock import create_autospec

from shopwindow.cli import VERBS, parser_of
from shopwindow.model.cross_recipe import CrossRecipe
from shopwindow.model.recipe import Recipe
from shopwindow.service.app import Service
from shopwindow.service.live import Engine

DOCS: Final = Path(__file__).parent
MODULES: Final = {
    "Data": ["data.prepare", "data.dataset", "data.regions", "data.clicks", "data.shop"],
    "Photos": ["vision.extract", "vision.backbone"],
    "Models": ["model.recipe", "model.training", "model.bundle", "model.rank", "model.rerankers"],
    "Measuring": [
        "ranking.runs",
        "ranking.answers",
        "ranking.measures",
        "ranking.significance",
        "ranking.audit",
        "ranking.fusion",
    ],
    "Search": ["search.building", "search.engine", "search.hits", "search.conditions"],
    "Service": ["service.app", "service.limits"],
}
_PAGES: Final = {
    "commands": "commands.md",
    "recipe-fields": "recipes.md",
    "http-api": "http.md",
    "python-names": "api.md",
    "glossary": "glossary.md",
}
"""The made pages by the sections of `reference.md`, which say in the repository where else to look."""
_SECTION: Final = re.compile(r"\(((?:\.\./)*)reference\.md#([\w-]+)\)")
_GENERATED: Final = "<!-- made by docs/reference.py -->\n\n"


def pages() -> dict[str, str]:
    """The text of each page by its path in the site."""
    made = {
        "commands.md": commands(),
        "recipes.md": recipes(),
        "http.md": http(),
        "api.md": python(),
        "glossary.md": glossary(),
    }
    return {f"reference/{name}": _GENERATED + text for name, text in made.items()}


def on_files(files: Any, config: Any) -> Any:
    """Gives mkdocs the pages besides those that lie in the folder."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts the README's table of recipes where a page wants it, so that it is written once. Sections of
    `reference.md` are linked as the pages that are made here."""
    linked = _SECTION.sub(lambda link: f"({link[1]}reference/{_PAGES[link[2]]})", markdown)
    return linked.replace("<!-- recipes -->", recipe_table())


def recipe_table() -> str:
    """The table of the README that says which recipe to take when."""
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| recipe \| take this when .*?(?=\n\n)", readme, re.MULTILINE | re.DOTALL)
    return str(table)


def commands() -> str:
    """Every verb, from its own parser: what it does, an example, its arguments with their defaults."""
    lines = ["# Commands", "", "`shopwindow VERB --help` says the same in the terminal.", ""]
    for group, verbs in VERBS.items():
        lines += [f"## {group}", ""]
        for name, (_, example) in verbs.items():
            parser, _verb = parser_of(name)
            lines += [f"### {name}", "", _prose(parser.description or ""), ""]
            lines += ["```console", f"$ shopwindow {example}", "```", "", *_arguments(parser), ""]
    return "\n".join(lines)


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    actions = [action for action in parser._actions if action.dest != "help"]
    if not actions:
        return
    yield from ("| argument | meaning |", "|---|---|")
    for action in actions:
        name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
        value = action.metavar if action.option_strings and action.nargs != 0 else None
        says = (action.help or "").replace("%%", "%")
        yield f"| `{f'{name} {value}' if isinstance(value, str) else name}` | {_cell(says)} |"


def recipes() -> str:
    """Every field of every group of a recipe, with its default and what it means."""
    lines = ["# Recipe fields", ""]
    lines += [
        "`train --set NAME=VALUE` takes the dotted names. [Choose a recipe](../how-to/recipe.md) says which",
        "",
    ]
    lines[-2] += " recipe to begin with."
    for title, root in (("A recipe", Recipe), ("A recipe of a cross-encoder", CrossRecipe)):
        lines += [f"## {title}", "", _first(root), ""]
        for dotted, group in groups(root):
            lines += [f"### {dotted or 'top'}", "", _first(group), ""]
            lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
            lines += [
                f"| `{name}` | {kind} | {usual} | {says} |" for name, kind, usual, says in fields_of(group)
            ]
            lines.append("")
    return "\n".join(lines)


def groups(root: type, name: str = "") -> Iterator[tuple[str, type]]:
    """The groups of fields below a recipe, by dotted name; those without fields of plain values are left out."""
    hints = get_type_hints(root)
    if any(True for _ in fields_of(root)):
        yield name, root
    for field in dataclasses.fields(root):
        for inner in (hints[field.name], *get_args(hints[field.name])):
            if dataclasses.is_dataclass(inner) and isinstance(inner, type):
                several = ".0" if get_args(hints[field.name])[-1:] == (Ellipsis,) else ""
                yield from groups(inner, f"{name}.{field.name}{several}".lstrip("."))


def fields_of(group: type) -> Iterator[tuple[str, str, str, str]]:
    """Name, type, default and meaning of each field that holds a plain value."""
    hints, said = get_type_hints(group), meanings(group)
    for field in dataclasses.fields(group):
        hint = hints[field.name]
        if any(dataclasses.is_dataclass(one) for one in (hint, *get_args(hint))):
            continue
        usual = "" if field.default is dataclasses.MISSING else f"`{_written(field.default)}`"
        yield field.name, _cell(_type(hint)), usual, _cell(said.get(field.name, ""))


def meanings(group: type) -> dict[str, str]:
    """What the text below each field of a dataclass says, those of the classes before it too."""
    said: dict[str, str] = {}
    for owner in reversed(group.__mro__[:-1]):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        body = cast(ast.ClassDef, tree).body
        for field, text in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                name, value = cast(ast.Name, field.target).id, cast(ast.Constant, text.value).value
                said[name] = " ".join(str(value).split())
    return said


def http() -> str:
    """Every endpoint, from the service's own OpenAPI description, with a request as curl sends it."""
    opened = Service(create_autospec(Engine, instance=True)).api.openapi()
    lines = ["# HTTP API", "", opened["info"]["description"], ""]
    lines += ["A running service shows the same at `/docs`, and for programs at `/openapi.json`.", ""]
    for path, methods in opened["paths"].items():
        for method, about in methods.items():
            lines += [f"## {method.upper()} {path}", "", about.get("description", ""), ""]
            lines += ["```sh", _curl(path, method, about, opened), "```", ""]
            lines += _parameters(about, opened)
            lines += _response(about, opened)
    return "\n".join(lines)


def _curl(path: str, method: str, about: dict[str, Any], opened: dict[str, Any]) -> str:
    place = path.replace("{product_id}", "SKU-0042")
    asked = [one for one in about.get("parameters", []) if one["in"] == "query" and one["required"]]
    query = "&".join(f"{one['name']}=red+striped+dress" for one in asked)
    url = f"'http://127.0.0.1:8000{place}{f'?{query}' if query else ''}'"
    if method == "get":
        return f"curl {url}"
    if "application/json" not in about["requestBody"]["content"]:
        return f"curl -H 'Content-Type: image/jpeg' --data-binary @photo.jpg {url}"
    schema = _resolved(about["requestBody"]["content"]["application/json"]["schema"], opened)
    needed = {name: _example(schema["properties"][name], opened) for name in schema["required"]}
    return f"curl -H 'Content-Type: application/json' -d '{json.dumps(needed)}' {url}"


def _parameters(about: dict[str, Any], opened: dict[str, Any]) -> list[str]:
    rows = [(one["name"], one["schema"]) for one in about.get("parameters", [])]
    body = about.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None:
        rows += _resolved(body["schema"], opened)["properties"].items()
    if not rows:
        return []
    table = ["| parameter | default | meaning |", "|---|---|---|"]
    for name, schema in rows:
        usual = f"`{json.dumps(schema['default'])}`" if schema.get("default") not in (None, []) else ""
        table.append(f"| `{name}` | {usual} | {_cell(schema.get('description', ''))} |")
    return [*table, ""]


def _response(about: dict[str, Any], opened: dict[str, Any]) -> list[str]:
    content = about["responses"].get("200", {}).get("content", {})
    if "application/json" not in content:
        return []
    example = _example(content["application/json"]["schema"], opened)
    return ["```json", json.dumps(example, indent=2, ensure_ascii=False), "```", ""]


def _resolved(schema: dict[str, Any], opened: dict[str, Any]) -> dict[str, Any]:
    return opened["components"]["schemas"][schema["$ref"].split("/")[-1]] if "$ref" in schema else schema


def _example(schema: dict[str, Any], opened: dict[str, Any]) -> Any:
    """A value of a schema: its own example, else one made of its parts."""
    schema = _resolved(schema, opened)
    if schema.get("examples"):
        return schema["examples"][0]
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], opened)
    if schema.get("type") == "array":
        return [_example(schema["items"], opened)]
    if "properties" in schema:
        return {name: _example(one, opened) for name, one in schema["properties"].items()}
    plain = {"string": "text", "integer": 1, "number": 1.0, "boolean": True, "object": {}}
    return schema.get("default", plain.get(schema.get("type", "")))


def python() -> str:
    """The public modules; mkdocstrings fills in what their docstrings say."""
    lines = ["# Python names", "", "[From Python](../python.md) shows how they are used together.", ""]
    for room, modules in MODULES.items():
        lines += [f"## {room}", "", *(f"::: shopwindow.{module}\n" for module in modules)]
    return "\n".join(lines)


def glossary() -> str:
    """The table of words of the design page, a row a word, in alphabetical order."""
    table = (DOCS / "design.md").read_text(encoding="utf-8").partition("\n## Words\n")[2].strip()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()[2:]
        if "|" in line
    ]
    lines = ["# Glossary", "", "Words of this project. Words of the field have their usual meaning.", ""]
    lines += ["| word | meaning |", "|---|---|"]
    lines += [f"| {word} | {meaning} |" for word, meaning in sorted(rows)]
    return "\n".join([*lines, ""])


def _first(group: type) -> str:
    return " ".join((inspect.getdoc(group) or "").partition("\n\n")[0].split())


def _type(hint: Any) -> str:
    words = getattr(hint, "__args__", ())
    if words and all(isinstance(one, str) for one in words):
        return " or ".join(words)
    plain = re.sub(r"typing\.|<class '(\w+)'>", r"\1", str(hint))
    for literal in re.findall(r"Literal\[([^\]]*)\]", plain):
        plain = plain.replace(f"Literal[{literal}]", literal.replace("'", "").replace(", ", " or "))
    return plain.replace("NoneType", "null").replace("None", "null").replace(" | ", " or ")


def _written(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _prose(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
