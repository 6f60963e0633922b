"""The documentation holds: links lead somewhere, commands can be typed, the reference is complete, the site builds."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from shopwindow.cli import VERBS, parser_of
from shopwindow.model.cross_recipe import CrossRecipe
from shopwindow.model.recipe import RECIPES, Recipe
from tests.docs import pages

REFERENCE = pages.DOCS / "reference.py"
ABBREVIATED = re.compile(r"[\[\]]|\.\.\.|\||^\S+ \S+ INDEX")


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The module that makes the pages of the reference."""
    spec = importlib.util.spec_from_file_location("reference", REFERENCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def texts(reference: ModuleType) -> dict[Path, str]:
    """The text of every page by its path, those of the reference too."""
    made = {pages.DOCS / name: text for name, text in reference.pages().items()}
    return {path: path.read_text(encoding="utf-8") for path in pages.written()} | made


def test_every_link_leads_to_a_page_or_a_file(texts: dict[Path, str]) -> None:
    lost = []
    for page, text in texts.items():
        for link in pages.links(text):
            place, _, anchor = link.partition("#")
            goal = (page.parent / place).resolve() if place else page
            is_there = goal in texts or goal.exists()
            if not is_there or (anchor and goal in texts and anchor not in pages.anchors(texts[goal])):
                lost.append(f"{page.name}: {link}")
    assert lost == []


def test_every_page_of_the_site_has_a_place_in_the_menu(texts: dict[Path, str]) -> None:
    menu = re.findall(
        r"[\w/-]+\.md", (pages.ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2]
    )
    assert sorted(menu) == sorted(
        str(path.relative_to(pages.DOCS)) for path in texts if pages.DOCS in path.parents
    )


@pytest.mark.parametrize("page", pages.written(), ids=lambda page: page.name)
def test_every_command_can_be_typed(page: Path) -> None:
    names = [name for group in VERBS.values() for name in group]
    for command in pages.commands(page.read_text(encoding="utf-8")):
        if ABBREVIATED.search(re.sub(r"'[^']*'|\"[^\"]*\"", "", command)):
            continue  # a synopsis, as in data.md
        words = shlex.split(command)[1:]
        name = next((one for one in names if words[: len(one.split())] == one.split()), None)
        assert name is not None, command
        parser, _ = parser_of(name)
        try:
            parser.read(words[len(name.split()) :])
        except SystemExit:
            pytest.fail(f"cannot be typed: {command}")


def test_the_reference_has_every_verb_and_option(reference: ModuleType) -> None:
    page = reference.commands()
    for group in VERBS.values():
        for name in group:
            section = page.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
            parser, _ = parser_of(name)
            for action in parser._actions:
                shown = action.option_strings[0] if action.option_strings else str(action.metavar)
                assert shown == "--help" or f"`{shown}" in section, f"{name} {shown}"


@pytest.mark.parametrize("root", [Recipe, CrossRecipe])
def test_the_reference_has_every_field_with_its_meaning(reference: ModuleType, root: type) -> None:
    page = reference.recipes()
    groups = dict(reference.groups(root))
    assert len(groups) > 4
    seen: set[type] = set()
    for dotted, group in groups.items():
        assert f"\n### {dotted}\n" in page
        for name, _, _, says in reference.fields_of(group):
            assert says, f"{group.__name__}.{name} has no text below it"
            assert f"| `{name}` |" in page
        seen.add(group)
    assert {field.name for field in dataclasses.fields(root)} <= {name.split(".")[0] for name in groups}


def test_the_reference_has_every_endpoint_and_word(reference: ModuleType) -> None:
    page = reference.http()
    for endpoint in (
        "GET /search",
        "POST /search/photo",
        "GET /suggest",
        "GET /photos/{product_id}",
        "GET /metrics",
    ):
        assert f"\n## {endpoint}\n" in page
    assert "curl -H 'Content-Type: application/json' -d '{\"queries\":" in page
    words = reference.glossary()
    assert "\n| backbone |" in words
    assert "\n| tower; late interaction |" in words
    for modules in reference.MODULES.values():
        for module in modules:
            assert importlib.util.find_spec(f"shopwindow.{module}") is not None


def test_links_to_the_reference_lead_to_its_pages_in_the_site(reference: ModuleType) -> None:
    shown = reference.on_page_markdown("[HTTP API](../reference.md#http-api), [words](reference.md#glossary)")
    assert shown == "[HTTP API](../reference/http.md), [words](reference/glossary.md)"
    for page in pages.DOCS.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert "reference/" not in " ".join(pages.links(text)), (
            f"{page.name}: leads nowhere in the repository"
        )


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    if any(importlib.util.find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings")):
        pytest.skip("no mkdocs here; `make docs` brings it")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path / "site"),
    ]
    paths = os.pathsep.join([str(pages.ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=pages.ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("index.html", "reference/commands.html", "reference/recipes.html", "reference/api.html"):
        assert (tmp_path / "site" / name).is_file()
    hosts = set(
        re.findall(r'(?:src|href)="https?://([^/"]+)', (tmp_path / "site" / "index.html").read_text())
    )
    assert hosts <= {"squidfunk.github.io"}  # the theme's own line at the foot


def test_the_menu_is_yaml_that_mkdocs_reads() -> None:
    settings = yaml.safe_load((pages.ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert settings["strict"] is True
    assert settings["hooks"] == ["docs/reference.py"]


def test_the_table_of_recipes_is_written_once_and_names_each(reference: ModuleType) -> None:
    page = (pages.DOCS / "how-to" / "recipe.md").read_text(encoding="utf-8")
    assert "| `default` |" not in page
    shown = reference.on_page_markdown(page)
    known = {path.stem for path in RECIPES.glob("*.yaml")}
    assert known == {name for name in known if f"| `{name}` |" in shown}
    assert all(path.stem.removesuffix("-small") in page for path in (RECIPES / "cross").glob("*.yaml"))
