"""A bundle, a dataset and an index of it, made once."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image

from shopwindow.search.building import add_products, build_index
from shopwindow.search.engine import SearchEngine
from shopwindow.search.index import MANIFEST
from shopwindow.search.index_columns import update_columns
from tests.search.catalogue import PRODUCTS, write_bundle, write_dataset, write_late_bundle
from tests.search.columns import write_columns
from tests.search.photographed import PhotoShop, make_shop


@dataclass(frozen=True)
class Shop:
    """Where everything of the catalogue lies."""

    bundle: Path
    dataset: Path
    photos: Path
    labels: Path
    index: Path

    @property
    def ids(self) -> list[int]:
        """The products of the index."""
        return list(range(PRODUCTS))


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("catalogue")
    (folder / "photos").mkdir()
    Image.new("RGB", (80, 100)).save(folder / "photos" / "7.jpg")
    (folder / "labels.txt").write_text("category_id\tcategory_name\n0\tshoes\n1\tbags\n")
    bundle = write_bundle(folder / "bundle")
    dataset = write_dataset(folder / "dataset", range(PRODUCTS))
    build_index(
        bundle,
        dataset,
        folder / "index",
        photos=folder / "photos",
        texts=dataset,
        labels=folder / "labels.txt",
    )
    return Shop(bundle, dataset, folder / "photos", folder / "labels.txt", folder / "index")


@pytest.fixture(scope="session")
def engine(shop: Shop) -> SearchEngine:
    return SearchEngine.open(shop.index)


@pytest.fixture(scope="session")
def photo_shop(tmp_path_factory: pytest.TempPathFactory) -> PhotoShop:
    return make_shop(tmp_path_factory.mktemp("photographed"))


@pytest.fixture(scope="session")
def photo_index(photo_shop: PhotoShop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of a shop's photos."""
    out = tmp_path_factory.mktemp("photo-index") / "index"
    build_index(photo_shop.bundle, photo_shop.dataset, out)
    return out


@pytest.fixture(scope="session")
def late(tmp_path_factory: pytest.TempPathFactory, shop: Shop) -> Shop:
    """The shop with a model of late interaction, and its index: two datasets, one added later."""
    folder = tmp_path_factory.mktemp("late")
    bundle = write_late_bundle(folder / "bundle")
    build_index(bundle, shop.dataset, folder / "index")
    add_products(folder / "index", write_dataset(folder / "more", range(290, 320), seed=5))
    return replace(shop, bundle=bundle, index=folder / "index")


@pytest.fixture
def own_index(shop: Shop, tmp_path: Path) -> Path:
    """A copy of the index, to be changed."""
    shutil.copytree(shop.index, tmp_path / "index")
    return tmp_path / "index"


def give_columns(index: Path, *lines: str) -> Path:
    """The index with the columns of a table of these lines."""
    table = index.with_name("columns.csv")
    table.write_text("\n".join(lines) + "\n")
    update_columns(index, table)
    return index


def name_column(index: Path, name: str) -> Path:
    """The index with a column of words of this name, though `index` would refuse it; no product has a value in it."""
    content = json.loads((index / MANIFEST).read_text())
    (index / MANIFEST).write_text(json.dumps({**content, "columns": {name: "word"}}))
    return index


@pytest.fixture
def priced_index(own_index: Path, tmp_path: Path) -> Path:
    """With a column of numbers and one of words, names that SQL must quote, and a second segment without any."""
    add_products(own_index, write_dataset(tmp_path / "more", range(295, 305), seed=5))
    words = ("red", "dark 'green'", "")
    lines = [f"{one},{one / 4 if one % 3 else ''},{words[one % 3]}" for one in range(0, 290, 2)]
    return give_columns(own_index, "product_id,Price:number,order:word", *lines)


@pytest.fixture(scope="session")
def tabled(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with columns, exact, and beside it one with cells, `cells`."""
    folder = tmp_path_factory.mktemp("columns")
    columns = write_columns(folder / "columns.csv", range(PRODUCTS))
    for name, start in (("index", 10_000), ("cells", 100)):
        build_index(
            shop.bundle,
            shop.dataset,
            folder / name,
            texts=shop.dataset,
            columns=columns,
            approximate_from=start,
        )
    return folder


@pytest.fixture
def tabled_index(tabled: Path, tmp_path: Path) -> Path:
    shutil.copytree(tabled / "index", tmp_path / "index")
    return tmp_path / "index"
