"""Wrong words, ids, files and numbers at the index's, the engine's and the command's door: each a clear answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from shopwindow.cli import main
from shopwindow.files import DataError, whole_directory
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.search.arrays import save_array
from shopwindow.search.building import add_products, build_index, compact_index, delete_products
from shopwindow.search.engine import SearchEngine
from shopwindow.search.hits import UnknownProduct
from shopwindow.search.index import MANIFEST
from tests.search.catalogue import PRODUCTS, write_bundle, write_dataset
from tests.search.conftest import Shop
from tests.search.test_building import files_of


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    assert left.value.code == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    return said


@pytest.mark.parametrize(
    ("words", "known"),
    [
        (["red " * 2500], True),
        (["a" * 10_000], False),
        (["red\x07\x1b[31mshoe"], True),
        (["红色连衣裙"], False),
        (["👗🔥"], False),
        (["\udcff"], False),  # a byte of the shell that is no UTF-8
        (
            ["'; DROP TABLE product; --"],
            True,
        ),  # capitals are read in small letters: pieces of table are known
        (["../../etc/passwd"], False),
        (["%s", "{0}", "$(id)"], True),
    ],
)
@pytest.mark.parametrize("options", [[], ["--hybrid"], ["--exact"], ["--rerank", "expand"]])
def test_strange_words_find_products_or_are_said_to_be_unknown(
    shop: Shop, capsys: pytest.CaptureFixture[str], words: list[str], known: bool, options: list[str]
) -> None:
    main(["search", str(shop.index), *words, "--json", "--top", "3", *options])
    said = capsys.readouterr()
    assert [hit["rank"] for hit in json.loads(said.out)] == ([1, 2, 3] if known else [])
    assert ("no word of the query is known to the model" in said.err) != known
    assert len(said.err.splitlines()) <= 1


@pytest.mark.parametrize("top", ["0", "-3", "1.5", "many", "1e3"])
def test_top_that_is_no_count_is_refused(shop: Shop, capsys: pytest.CaptureFixture[str], top: str) -> None:
    assert "shopwindow: " in refusal(capsys, "search", shop.index, "red", f"--top={top}")


def test_huge_top_gives_everything_once(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    main(["search", str(shop.index), "red", "--json", "--top", str(10**18)])
    hits = json.loads(capsys.readouterr().out)
    assert sorted(int(hit["product_id"]) for hit in hits) == list(range(PRODUCTS))


@pytest.mark.parametrize("product_id", [777, -1, 2**63, -(2**80)])
def test_unknown_id_deletes_nothing(
    own_index: Path, capsys: pytest.CaptureFixture[str], product_id: int
) -> None:
    before = files_of(own_index)
    with pytest.raises(UnknownProduct):
        delete_products(own_index, [3, product_id])
    said = refusal(capsys, "index", "delete", own_index, 3, product_id)
    assert said.endswith(f"no product {product_id} in the index")
    assert files_of(own_index) == before


def test_no_ids_change_nothing(own_index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_of(own_index)
    assert "arguments are required: IDS" in refusal(capsys, "index", "delete", own_index)
    with pytest.raises(ValueError, match="no product ids to delete"):
        delete_products(own_index, [])
    assert files_of(own_index) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["compact", "{index}", "3"], "unrecognized arguments: 3"),
        (["delete", "{index}", "3", "--photos", "."], "--photos: no such option"),
        (["add", "{index}", "{dataset}", "--smooth", "0.9,0.1"], "--smooth: no such option"),
        (["add", "{index}", "{dataset}", "--no-kept-regions"], "--no-kept-regions: no such option"),
        (
            ["make", "{bundle}", "{dataset}", "--out", "x", "--no-kept-regions"],
            "this model has no reranker of its own",
        ),
        (["check", "{index}", "--texts", "{dataset}"], "--texts: no such option"),
        (
            ["make", "{bundle}", "{dataset}", "--out", "x", "--photos", "nowhere"],
            "nowhere: no such folder of photos",
        ),
        (["make", "{bundle}", "{dataset}", "--out", "x", "--labels", "nowhere"], "nowhere: no such file"),
        (["make", "{bundle}", "{dataset}", "--out", "x", "--texts", "nowhere"], "nowhere: no such dataset"),
        (
            ["make", "{bundle}", "{dataset}", "--out", "x", "--smooth-regions", "nan"],
            "--smooth-regions: 'nan'",
        ),
        (["make", "{bundle}", "{bundle}", "--out", "x"], "no dataset"),
        (["add", "{bundle}", "{dataset}"], "no index"),
    ],
)
def test_options_that_do_not_fit_are_one_line_and_nothing_is_written(
    shop: Shop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = files_of(shop.index)
    places = {"index": shop.index, "dataset": shop.dataset, "bundle": shop.bundle}
    assert says in refusal(capsys, "index", *(word.format(**places) for word in words))
    assert list(tmp_path.iterdir()) == []
    assert files_of(shop.index) == before


def test_model_of_no_numbers_makes_no_index(shop: Shop, tmp_path: Path) -> None:
    bundle = Bundle.load(write_bundle(tmp_path / "good"))
    with torch.no_grad():
        next(bundle.model.photo_towers[0].parameters()).fill_(float("nan"))
    with whole_directory(tmp_path / "bad", marker=MARKER) as folder:
        bundle.save_into(folder)
    with pytest.raises(DataError, match="the model's vector is not finite"):
        build_index(tmp_path / "bad", shop.dataset, tmp_path / "index")
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("probes", 0),
        ("probes", "many"),
        ("hidden", -1),
        ("hidden", 31),
        ("revision", None),
        ("unit", "yes"),
        ("bundle_hash", 7),
        ("label_names", {"shoes": "0"}),
        ("sources", [{"path": "x"}]),
        ("smooth", 3),
        ("kept_regions", 1),
        ("kept_regions", True),
    ],
)
def test_index_of_wrong_values_is_refused_by_all(own_index: Path, name: str, value: object) -> None:
    content = json.loads((own_index / MANIFEST).read_text()) | {name: value}
    (own_index / MANIFEST).write_text(json.dumps(content))
    before = files_of(own_index)
    doors: list[Callable[[], object]] = [
        lambda: SearchEngine.open(own_index),
        lambda: delete_products(own_index, [3]),
        lambda: compact_index(own_index),
    ]
    for door in doors:
        with pytest.raises(DataError):
            door()
    assert files_of(own_index) == before


@pytest.mark.parametrize("name", ["boxes", "labels", "region_bounds", "sizes", "ids", "vectors"])
def test_segment_whose_files_do_not_belong_together_is_refused(own_index: Path, name: str) -> None:
    segment = next((own_index / "segments").iterdir())
    array = np.load(segment / f"{name}.npy")
    save_array(segment / f"{name}.npy", array[:-1])
    with pytest.raises(DataError):
        SearchEngine.open(own_index)


@pytest.mark.parametrize("content", [b"", b"not a photo", b"\xff\xd8\xff\xe0 cut short"])
def test_missing_or_corrupt_photos_do_not_stop_a_search(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    build_index(shop.bundle, shop.dataset, tmp_path / "index", photos=photos)
    for one in range(0, PRODUCTS, 2):
        (photos / f"{one}.jpg").write_bytes(content)
    main(["search", str(tmp_path / "index"), "red", "--json", "--top", "50"])
    for hit in json.loads(capsys.readouterr().out):
        assert hit["photo"] == (
            None if int(hit["product_id"]) % 2 else str(photos / f"{hit['product_id']}.jpg")
        )
    for path in photos.iterdir():
        path.unlink()
    photos.rmdir()
    main(["search", str(tmp_path / "index"), "red", "--json"])
    assert {hit["photo"] for hit in json.loads(capsys.readouterr().out)} == {None}


def test_truncated_dataset_is_not_added(shop: Shop, own_index: Path, tmp_path: Path) -> None:
    before = files_of(own_index)
    more = write_dataset(tmp_path / "more", range(400, 404))
    shard = next(more.glob("products-*.arrow"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"products-\d+\.arrow"):
        add_products(own_index, more)
    assert files_of(own_index) == before
