"""The built wheel and source archive hold what a user needs, and the wheel runs where nothing else of ours is."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

import pytest

import shopwindow

ROOT: Final = Path(__file__).parents[1]
EXTRAS: Final = {
    *(
        "dev",
        "docs",
        "export",
        "lance",
        "milvus",
        "notebooks",
        "onnx",
        "photos",
        "postgres",
        "qdrant",
        "ray",
        "serve",
    ),
    "transformers",
}
NEEDED: Final = (
    "shopwindow/py.typed",
    "shopwindow/seed.py",
    "shopwindow/model/recipes/default.yaml",
    "shopwindow/model/recipes/cross/uniter.yaml",
    "shopwindow/service/page/index.html",
    "shopwindow/service/page/docs.html",
    "shopwindow/service/page/app.js",
    "shopwindow/service/page/style.css",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel and a source archive, made from the files that git knows."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("no setuptools here")
    out, copy = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("copy")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout")
    for name in listed.stdout.decode().rstrip("\0").split("\0"):
        if (ROOT / name).is_file() and name.startswith(("src/", "pyproject", "README", "LICENSE")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    script = f"from setuptools.build_meta import *; build_wheel({str(out)!r}); build_sdist({str(out)!r})"
    subprocess.run([sys.executable, "-c", script], cwd=copy, check=True, capture_output=True)
    return out


@pytest.mark.slow
def test_wheel_and_archive_hold_page_recipes_and_types(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    (archive,) = built.glob("*.tar.gz")
    assert wheel.name == f"shopwindow-{shopwindow.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    with tarfile.open(archive) as file:
        sources = {name.partition("/")[2] for name in file.getnames()}
    assert set(NEEDED) <= names
    assert {f"src/{name}" for name in NEEDED} | {"README.md", "LICENSE", "pyproject.toml"} <= sources
    ours = {
        str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*") if path.suffix in PACKED
    }
    assert ours <= names


PACKED: Final = {".py", ".yaml", ".html", ".js", ".css", ".typed"}


@pytest.mark.slow
def test_the_wheel_runs_in_an_empty_environment(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path)
        metadata = file.read(next(name for name in file.namelist() if name.endswith("METADATA"))).decode()
    assert set(re.findall(r"^Provides-Extra: (.*)$", metadata, re.MULTILINE)) == EXTRAS
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "shopwindow", "--version"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"shopwindow {shopwindow.__version__}\n"
    where = [sys.executable, "-c", "import shopwindow; print(shopwindow.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(tmp_path)


def test_the_version_stands_in_one_place_and_heads_the_changelog() -> None:
    first = re.search(r"^## (\S+), (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first is not None
    assert first[1] == shopwindow.__version__
    assert (
        re.search(r"^version *=(?! *\{ *attr)", (ROOT / "pyproject.toml").read_text(), re.MULTILINE) is None
    )
