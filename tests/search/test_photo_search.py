"""A photo finds the products like it; an index of a shop's photos knows titles, prices and where photos lie."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shopwindow.cli import main
from shopwindow.data.regions import Regions
from shopwindow.files import DataError
from shopwindow.search.building import add_products, build_index, compact_index
from shopwindow.search.conditions import parse_conditions
from shopwindow.search.engine import SearchEngine
from shopwindow.search.hits import Filter, SearchRequest
from shopwindow.search.index import MANIFEST, OpenIndex
from shopwindow.search.photos import PhotoSide, weighted_sum
from shopwindow.vision.pictures import UnreadablePicture
from shopwindow.vision.plain import Plain
from tests.search.conftest import Shop
from tests.search.photographed import PRODUCTS, PhotoShop, write_photo_bundle


@pytest.fixture(scope="module")
def photo_engine(photo_index: Path) -> SearchEngine:
    return SearchEngine.open(photo_index)


def content_of(photo_shop: PhotoShop, row: int) -> tuple[str, bytes]:
    """The id and the photo of a product."""
    product_id, path = list(photo_shop.photos.items())[row]
    return product_id, path.read_bytes()


def test_a_products_own_photo_finds_it_first_and_then_what_is_like_it(
    photo_engine: SearchEngine, photo_shop: PhotoShop
) -> None:
    for row in (0, 7, PRODUCTS - 1):
        product_id, content = content_of(photo_shop, row)
        hits = photo_engine.search(SearchRequest(photo=photo_engine.encode_photo(content), k=6))
        assert hits[0].product_id == product_id
        assert hits[0].score == pytest.approx(1.0, abs=1e-4)
        assert [hit.product_id for hit in hits[1:]] == [
            hit.product_id for hit in photo_engine.similar(product_id, k=5)
        ]


def test_words_narrow_a_photo_by_their_share(photo_engine: SearchEngine, photo_shop: PhotoShop) -> None:
    _, content = content_of(photo_shop, 3)
    photo, words = photo_engine.encode_photo(content), photo_shop.titles[list(photo_shop.titles)[9]]

    def scores(request: SearchRequest) -> dict[str, float]:
        return {hit.product_id: hit.score for hit in photo_engine.search(request)}

    by_words = scores(SearchRequest(words, k=PRODUCTS))
    by_photo = scores(SearchRequest(photo=photo, k=PRODUCTS))
    for share in (0.0, 0.3, 1.0):
        both = scores(SearchRequest(words, photo=photo, share=share, k=PRODUCTS))
        assert both == pytest.approx(
            {one: share * by_words[one] + (1 - share) * by_photo[one] for one in by_words}, abs=1e-5
        )
    assert scores(SearchRequest(words, photo=photo, k=PRODUCTS)) == scores(
        SearchRequest(words, photo=photo, share=0.5, k=PRODUCTS)
    )
    assert list(by_words) != list(by_photo)


def test_words_that_the_model_does_not_know_leave_the_photo(
    photo_engine: SearchEngine, photo_shop: PhotoShop
) -> None:
    photo = photo_engine.encode_photo(content_of(photo_shop, 3)[1])
    assert photo_engine.search(SearchRequest("\u7ea2", photo=photo)) == photo_engine.search(
        SearchRequest(photo=photo)
    )


def test_a_sum_counts_both_vectors_as_long() -> None:
    words, photo = np.array([3, 0], np.float32), np.array([0, 0.5], np.float32)
    assert weighted_sum(words, photo, 0.25).tolist() == [0.25, 0.75]


def test_filters_work_as_for_words(photo_engine: SearchEngine, photo_shop: PhotoShop) -> None:
    photo = photo_engine.encode_photo(content_of(photo_shop, 3)[1])
    where = Filter(conditions=parse_conditions(["Unit_price<=9"]))
    hits = photo_engine.search(SearchRequest(photo=photo, where=where, k=PRODUCTS))
    assert {hit.product_id for hit in hits} == {one for one, price in photo_shop.prices.items() if price <= 9}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"product": "01"}, "a photo and a product"),
        ({"words": "red", "hybrid": True}, "not with a photo"),
        ({"words": "red", "rerank": "late"}, "not with a photo"),
        ({"words": "red", "share": 1.5}, "share 1.5"),
        ({"words": "red", "share": float("nan")}, "share nan"),
    ],
)
def test_what_does_not_go_with_a_photo(
    photo_engine: SearchEngine, photo_shop: PhotoShop, settings: dict[str, object], says: str
) -> None:
    photo = photo_engine.encode_photo(content_of(photo_shop, 3)[1])
    with pytest.raises(ValueError, match=says):
        SearchRequest(photo=photo, **settings)  # type: ignore[arg-type]


def test_hostile_pictures_are_refused(photo_engine: SearchEngine, photo_shop: PhotoShop) -> None:
    _, content = content_of(photo_shop, 0)
    large = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(large, "PNG")
    for bad, says in (
        (b"", "empty"),
        (content[: len(content) // 2], "truncated"),
        (b"GIF89a" + b"\0" * 20, "."),
        (b"no picture", "no picture"),
        (large.getvalue(), "50,000,000"),
    ):
        with pytest.raises(UnreadablePicture, match=says):
            photo_engine.encode_photo(bad)


class _Counted(Plain):
    """A backbone that counts how often it is opened."""

    opened = 0

    def __init__(self) -> None:
        type(self).opened += 1


def test_a_backbone_is_opened_once_for_all_threads_and_states(
    photo_index: Path, photo_shop: PhotoShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shopwindow.vision.plain.Plain", _Counted)
    engine = SearchEngine.open(photo_index)
    assert _Counted.opened == 0
    barrier = threading.Barrier(4)
    _, content = content_of(photo_shop, 2)

    def ask(_: int) -> np.ndarray:
        barrier.wait(10)
        return engine.at_rest().encode_photo(content).vector

    with ThreadPoolExecutor(4) as threads:
        vectors = list(threads.map(ask, range(4)))
    assert _Counted.opened == 1
    assert all((vector == vectors[0]).all() for vector in vectors)


class _Other(Plain):
    """A backbone of the same size in another space."""

    def spec(self) -> dict[str, object]:
        return {**super().spec(), "name": "other", "fingerprint": "0" * 64}

    def encode(self, pictures: Sequence[Image.Image]) -> Regions:
        regions = super().encode(pictures)
        return replace(regions, features=-regions.features)


def test_another_backbone_is_refused(photo_index: Path) -> None:
    with pytest.raises(DataError, match=r"was made by backbone plain .* the one given is other"):
        SearchEngine.open(photo_index, backbone=_Other())


def test_a_backbone_that_encodes_otherwise_now_is_refused(photo_shop: PhotoShop) -> None:
    spec = Plain().spec()
    side = PhotoSide({**spec, "probe": [-value for value in spec["probe"]]})
    with pytest.raises(DataError, match="a library has changed"):
        side.regions(content_of(photo_shop, 0)[1])


def test_an_index_without_photos_says_what_it_needs(engine: SearchEngine, photo_shop: PhotoShop) -> None:
    assert engine.stats()["by_photo"] is False
    with pytest.raises(ValueError, match="search by photo needs an index made from photos"):
        engine.encode_photo(content_of(photo_shop, 0)[1])
    elsewhere = PhotoSide({**Plain().spec(), "name": "precomputed"})
    with pytest.raises(ValueError, match="search by photo needs an index made from photos"):
        elsewhere.regions(content_of(photo_shop, 0)[1])


def test_titles_columns_and_photos_come_from_the_dataset(
    photo_engine: SearchEngine, photo_shop: PhotoShop, photo_index: Path
) -> None:
    assert [(column.name, column.kind) for column in photo_engine.columns] == [("Unit_price", "number")]
    for product_id, path in photo_shop.photos.items():
        view = photo_engine.product(product_id)
        assert (view.title, view.photo, view.photo_url) == (photo_shop.titles[product_id], path, None)
        assert view.values == {"Unit_price": photo_shop.prices[product_id]}
        assert view.texts == ()
        assert set(view.label_names) == {"whole photo", "part"}
    assert photo_engine.label_names == {}
    numbers = OpenIndex.open(photo_index).numbers()
    assert (numbers["products_with_titles"], numbers["products_with_texts"]) == (PRODUCTS, 0)


def test_a_column_that_cannot_be_asked_for_is_named(photo_shop: PhotoShop, tmp_path: Path) -> None:
    remarks: list[str] = []
    build_index(photo_shop.bundle, photo_shop.dataset, tmp_path / "index", remark=remarks.append)
    assert remarks == [
        "column note of the dataset is left out: 'a|b' cannot be asked for: a word holds no | and begins with no ="
    ]


def test_titles_and_known_texts_are_one_full_text(photo_shop: PhotoShop, tmp_path: Path) -> None:
    index = tmp_path / "index"
    build_index(photo_shop.bundle, photo_shop.dataset, index, texts=photo_shop.dataset)
    engine = SearchEngine.open(index)
    product_id = next(iter(photo_shop.titles))
    view = engine.product(product_id)
    assert view.title == photo_shop.titles[product_id]
    assert view.texts
    for _ in range(2):
        hits = engine.search(view.title, hybrid=True, k=PRODUCTS)
        assert {hit.product_id for hit in hits[:5]} & {
            one for one, title in photo_shop.titles.items() if title == view.title
        }
        compact_index(index)
        engine.reload()
        assert engine.product(product_id) == view


def test_products_of_another_backbone_are_refused(
    photo_shop: PhotoShop, photo_index: Path, shop: Shop, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"features of .* the model takes"):
        add_products(photo_index, shop.dataset)
    for number, spec in enumerate((_Other().spec(), None)):
        other = write_photo_bundle(tmp_path / f"bundle-{number}", ["red shoe"], spec)
        with pytest.raises(ValueError, match=r"were made by the backbone plain .*, the model takes those of"):
            build_index(other, photo_shop.dataset, tmp_path / "index")


def test_a_segment_of_another_backbone_is_refused(photo_shop: PhotoShop, tmp_path: Path) -> None:
    index = tmp_path / "index"
    build_index(photo_shop.bundle, photo_shop.dataset, index)
    content = json.loads((index / MANIFEST).read_text())
    content["backbone"]["fingerprint"] = "0" * 64
    (index / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(DataError, match="made with another backbone than the index says"):
        SearchEngine.open(index)


def test_the_verb_searches_by_a_photo_and_in_a_shops_folder(
    photo_shop: PhotoShop, photo_index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "myshop"
    folder.mkdir()
    (folder / "shop.json").write_text("{}")
    (folder / "index").symlink_to(photo_index)
    product_id, path = list(photo_shop.photos.items())[5]
    main(["search", str(folder), "--photo", str(path), "--top", "3", "--json"])
    hits = json.loads(capsys.readouterr().out)
    assert hits[0]["product_id"] == product_id
    assert (hits[0]["title"], hits[0]["photo"]) == (photo_shop.titles[product_id], str(path))
    main(["search", str(folder), "red", "shoe", "--photo", str(path), "--share", "0.2"])
    assert "title" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["{photos}", "--photo", "{broken}"],
            "broken.jpg: is no photo that can be read: no picture of a known",
        ),
        (["{photos}", "--photo", "{photo}", "--share", "2"], "--share: goes with words and --photo"),
        (["{photos}", "red", "--photo", "{photo}", "--share", "2"], "share 2.0: 0 to 1 is wanted"),
        (["{photos}", "red", "--photo", "{photo}", "--hybrid"], "hybrid and rerank go with words"),
        (["{words}", "--photo", "{photo}"], "search by photo needs an index made from photos"),
        (["{photos}", "--photo", "/no/such.jpg"], "/no/such.jpg: no such file"),
    ],
)
def test_wrong_photos_are_one_line(
    photo_shop: PhotoShop,
    photo_index: Path,
    shop: Shop,
    tmp_path: Path,
    words: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "broken.jpg").write_text("no picture")
    places = {
        "photos": photo_index,
        "words": shop.index,
        "broken": tmp_path / "broken.jpg",
        "photo": next(iter(photo_shop.photos.values())),
    }
    with pytest.raises(SystemExit) as error:
        main(["search", *(word.format(**places) for word in words)])
    assert error.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
