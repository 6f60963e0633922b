"""An index of products with titles: found by them, explained with them; a region of a photo has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shopwindow.data.dataset import Dataset
from shopwindow.files import whole_directory
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.model.initial import initial_model
from shopwindow.model.recipe import load_recipe
from shopwindow.search.building import build_index
from shopwindow.search.engine import SearchEngine
from shopwindow.search.golden import check
from shopwindow.search.index import OpenIndex
from tests.data.rows import SIZE
from tests.model.catalogues import BACKBONE, FakeTower, titles_of, with_catalogue
from tests.model.parts import SINGLE, WORDS, linear, part
from tests.search.conftest import Shop

PARTS = [part(WORDS, linear(), 16), {"width": 16, "text": SINGLE, "title": {"words": {}}}]


@pytest.fixture(scope="module")
def titled(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset of titles, a bundle that reads them, and their index."""
    folder = tmp_path_factory.mktemp("titled")
    plain = Dataset(shop.dataset)
    dataset = with_catalogue(plain, folder / "dataset", titles=titles_of(plain), backbone=BACKBONE)
    tokenizer, model = initial_model(dataset, load_recipe("bow", {"parts": PARTS}))
    with whole_directory(folder / "bundle", marker=MARKER) as made:
        Bundle(model.eval(), tokenizer).save_into(made)
    for smooth, name in ((None, "index"), ((1.0,), "smoothed")):
        build_index(folder / "bundle", folder / "dataset", folder / name, smooth_regions=smooth)
    return folder


@pytest.mark.parametrize("name", ["index", "smoothed"])
def test_titles_are_searched_and_explained(titled: Path, name: str) -> None:
    bundle, dataset = Bundle.load(titled / "bundle"), Dataset(titled / "dataset")
    engine = SearchEngine.open(titled / name)
    titles = dataset.titles
    assert titles is not None
    (first,) = engine.search(titles[7], k=1)
    assert titles[int(dataset.product_ids.tolist().index(first.product_id))] == titles[7]
    wanted = bundle.encode_texts([titles[7]]) @ bundle.encode_dataset(dataset).T
    assert first.score == pytest.approx(float(wanted.max()), abs=1e-6)
    assert engine.explain(titles[7], first.product_id).score == pytest.approx(first.score, abs=1e-6)
    assert check(OpenIndex.open(titled / name), bundle).problems == ()


def test_a_region_of_a_photo_has_no_title(titled: Path) -> None:
    bundle, dataset = Bundle.load(titled / "bundle"), Dataset(titled / "dataset")
    regions = dataset.regions(np.array([7]))
    one = bundle.encode_products(regions)[0]
    assert not one[16:].any()
    assert bundle.encode_dataset(dataset, np.array([7]))[0, 16:].any()
    single = np.flatnonzero(dataset.region_counts == 1)[1]
    alone = bundle.encode_products(dataset.regions(np.array([single])))[0]
    hits = SearchEngine.open(titled / "index").similar_region(dataset.product_ids[single].item(), 0, k=3)
    others = bundle.encode_dataset(dataset) @ alone
    others[single] = -1
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(others)[::-1][:3], atol=1e-6)


def test_a_pretrained_part_is_searched_by_words_as_typed(
    titled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = FakeTower(SIZE)
    monkeypatch.setattr("shopwindow.model.pretrained.open_text_tower", lambda spec: tower if spec else None)
    recipe = load_recipe("bow", {"parts": [{"pretrained": True}]})
    dataset = Dataset(titled / "dataset")
    tokenizer, model = initial_model(dataset, recipe, text_tower=tower)
    with whole_directory(tmp_path / "bundle", marker=MARKER) as made:
        Bundle(model.eval(), tokenizer).save_into(made)
    build_index(tmp_path / "bundle", titled / "dataset", tmp_path / "index")
    engine = SearchEngine.open(tmp_path / "index")
    (hit,) = engine.search("Never Seen!", k=1)
    features = np.stack([dataset.regions(np.array([row])).features[0].numpy() for row in range(300)])
    unit = features.astype(np.float64) / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    cosines = unit @ tower.encode_texts(["Never Seen!"])[0]
    assert hit.product_id == dataset.product_ids[int(cosines.argmax())]
    assert hit.score == pytest.approx(float(cosines.max()), abs=1e-6)
    assert engine.unknown_words("Never Seen!") == ()
    np.testing.assert_array_equal(engine.encode(["Never Seen!"])[0], tower.encode_texts(["Never Seen!"])[0])


def test_titles_are_suggested_and_mistyped_words_of_them_met(titled: Path) -> None:
    engine, dataset = SearchEngine.open(titled / "index"), Dataset(titled / "dataset")
    assert dataset.titles is not None
    known = engine.suggest("vintag", k=5)
    assert len(known) == 5
    assert set(known) <= set(dataset.titles)
    assert engine.correct("vinatge thing") == "vintage thing"
    assert engine.correct("vintage") is None
    counts = engine.label_counts
    for label in list(counts)[:3]:
        has = [label in engine.product(one).labels for one in dataset.product_ids.tolist()]
        assert counts[label] == sum(has)
