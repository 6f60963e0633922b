"""A bundle, a dataset and an index of it, made once."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from shopwindow.search.building import build_index
from shopwindow.search.engine import SearchEngine
from tests.search.catalogue import PRODUCTS, write_bundle, write_dataset


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


@pytest.fixture
def own_index(shop: Shop, tmp_path: Path) -> Path:
    """A copy of the index, to be changed."""
    shutil.copytree(shop.index, tmp_path / "index")
    return tmp_path / "index"
