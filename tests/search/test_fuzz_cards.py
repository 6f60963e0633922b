"""Manifests and cards with any value at all: an index or bundle opens, or one line names the file."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from shopwindow.data.dataset import Dataset
from shopwindow.files import DataError
from shopwindow.model.bundle import Bundle
from shopwindow.report.sources import provenance
from shopwindow.search.engine import SearchEngine
from tests.search.conftest import Shop

GONE = object()
"""In place of a value: it is taken away."""
HOSTILE: list[Any] = [
    None,
    True,
    -1,
    0,
    2,
    10**13,
    10**400,
    0.5,
    1e308,
    "",
    "x",
    "../../etc",
    "/etc/passwd",
    "\ud800",
    [],
    {},
    [[[]]],
    {"x": 1},
    ["x"],
    GONE,
]


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a JSON value."""
    yield above
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in pairs:
        yield from places(below, (*above, key))


def changed(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    """The content with one value replaced, or taken away."""
    if not place:
        return value
    content = json.loads(json.dumps(content))
    inside = content
    for key in place[:-1]:
        inside = inside[key]
    if value is GONE:
        del inside[place[-1]]
    else:
        inside[place[-1]] = value
    return content


def opened_or_named(open_it: Any, path: Path, named: Path | None = None) -> None:
    """Raises: AssertionError where an error names neither the file, nor its folder, nor `named`."""
    try:
        open_it()
    except DataError as error:
        said = str(error)
        assert path.name in said or str(named or path.parent) in said, said
        assert "\n" not in said
        assert len(said) < 700, said


@pytest.fixture(scope="module")
def own(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("fuzz")
    for name in ("bundle", "dataset", "index"):
        shutil.copytree(getattr(shop, name), folder / name)
    return Shop(folder / "bundle", folder / "dataset", shop.photos, shop.labels, folder / "index")


def fuzz(path: Path, open_it: Any, named: Path | None = None) -> None:
    """Opens a card with every value of it changed in turn; with all values of HOSTILE where `make fuzz` asks for it."""
    whole = path.read_text()
    content, some = json.loads(whole), random.Random(0)
    everywhere = list(places(content))
    number = min(len(HOSTILE), max(1, EXAMPLES // len(everywhere)))
    try:
        for place in everywhere:
            for value in some.sample(HOSTILE if place else HOSTILE[:-1], number if place else 1):
                path.write_text(json.dumps(changed(content, place, value)))
                try:
                    opened_or_named(open_it, path, named)
                except Exception as error:
                    error.add_note(f"{path.name}: {place} is {value!r}")
                    raise
    finally:
        path.write_text(whole)


EXAMPLES = int(os.environ.get("SHOPWINDOW_FUZZ_EXAMPLES", "25"))
"""`make fuzz` asks for more."""
FUZZ = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
    database=None,
)


def test_cards_of_bundles(own: Shop) -> None:
    def open_it() -> None:
        Bundle.load(own.bundle).encode_texts(["red bag"])
        provenance([], seed=0, bundle=str(own.bundle))

    fuzz(own.bundle / "bundle.json", open_it)


def test_a_card_of_many_layers_is_refused_before_any_is_built(own: Shop) -> None:
    path = own.bundle / "bundle.json"
    whole = path.read_text()
    size = next(place for place in places(json.loads(whole)) if place[-1:] == ("layers",))
    try:
        path.write_text(json.dumps(changed(json.loads(whole), size, 10**13)))
        with pytest.raises(DataError, match=r"bundle\.json, model: .*layers: 10000000000000, at most 1000"):
            Bundle.load(own.bundle)
    finally:
        path.write_text(whole)


def test_manifests_of_indexes(own: Shop) -> None:
    def open_it() -> None:
        engine = SearchEngine.open(own.index)
        engine.with_views(engine.search("red bag", k=3))
        engine.stats()

    fuzz(own.index / "index.json", open_it)
    (card,) = (own.index / "segments").glob("*/*.json")
    fuzz(card, open_it)


def test_manifests_of_datasets(own: Shop) -> None:
    def open_it() -> None:
        dataset = Dataset(own.dataset)
        assert len(dataset.query_texts) >= 0
        dataset.regions(np.array([0]))

    fuzz(own.dataset / "manifest.json", open_it)


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a": 1' + "0" * 5000 + "}", '{"format": ', "\0", "[]", "1", '"x"']
)
def test_what_is_no_card_is_named(own: Shop, text: str) -> None:
    for folder, name, open_it in (
        (own.bundle, "bundle.json", Bundle.load),
        (own.index, "index.json", SearchEngine.open),
        (own.dataset, "manifest.json", Dataset),
    ):
        path = folder / name
        whole = path.read_text()
        path.write_text(text)
        try:
            with pytest.raises(DataError, match=name):
                open_it(folder)
        finally:
            path.write_text(whole)


def test_no_manifest_reads_a_file_elsewhere(own: Shop, tmp_path: Path) -> None:
    path = own.index / "index.json"
    whole = path.read_text()
    for field in ("golden",):
        content = json.loads(whole)
        content[field] = "../../../etc/passwd"
        path.write_text(json.dumps(content))
        try:
            with pytest.raises(DataError, match=r"a part named '\.\./"):
                SearchEngine.open(own.index)
        finally:
            path.write_text(whole)
