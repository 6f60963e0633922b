"""The check tells a changed model from a damaged or lossy index."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from shopwindow.files import DataError
from shopwindow.model.bundle import Bundle
from shopwindow.search.building import add_products, build_index, delete_products
from shopwindow.search.golden import AT, Golden, check, choose_texts
from shopwindow.search.index import OpenIndex
from tests.search.catalogue import write_dataset
from tests.search.conftest import Shop, give_columns


def test_untouched_index_passes(shop: Shop) -> None:
    verdict = check(OpenIndex.open(shop.index), Bundle.load(shop.bundle))
    assert verdict.problems == ()
    assert verdict.score_error == 0
    assert verdict.recall == 1
    assert 100 < verdict.queries <= 200


def test_changed_index_passes_with_its_own_golden_answers(own_index: Path, tmp_path: Path) -> None:
    add_products(own_index, write_dataset(tmp_path / "more", range(280, 320), seed=5))
    assert check(OpenIndex.open(own_index), Bundle.load(own_index / "bundle")).problems == ()


def test_changed_model_is_told_as_the_models(shop: Shop) -> None:
    bundle = Bundle.load(shop.bundle)
    with torch.no_grad():
        bundle.model.text_towers[0].pooler.dense.weight.mul_(1.5)
    problems = check(OpenIndex.open(shop.index), bundle).problems
    assert [problem.split(":")[0] for problem in problems] == ["model"]


def test_damaged_vectors_are_told_as_the_indexs(own_index: Path) -> None:
    vectors = next(own_index.glob("segments/*/vectors.npy"))
    content = bytearray(vectors.read_bytes())
    content[-4000:] = bytes(4000)  # the last products' vectors are 0 now
    vectors.write_bytes(content)
    problems = check(OpenIndex.open(own_index), Bundle.load(own_index / "bundle")).problems
    assert problems[0].startswith("index: exact scores differ")


def test_lost_recall_is_told_as_the_indexs(shop: Shop, tmp_path: Path) -> None:
    build_index(shop.bundle, shop.dataset, tmp_path / "index", approximate_from=100)
    index = OpenIndex.open(tmp_path / "index")
    parts = tuple(dataclasses.replace(part, probes=1) for part in index.parts)
    fewer = dataclasses.replace(index, parts=parts)
    verdict = check(fewer, Bundle.load(shop.bundle))
    assert verdict.recall < verdict.recall_before - 0.02
    assert [problem.split(" ")[1] for problem in verdict.problems] == [f"recall@{AT}"]


def test_changed_columns_and_deletions_pass(priced_index: Path) -> None:
    delete_products(priced_index, [3, 7])
    give_columns(priced_index, "product_id,Price:number", "4,2")
    assert check(OpenIndex.open(priced_index), Bundle.load(priced_index / "bundle")).problems == ()


@pytest.mark.parametrize(
    ("name", "is_lost"),
    [
        ("values.arrow", True),
        ("texts.sqlite", True),
        ("values.arrow", False),
        ("texts.sqlite", False),
        ("boxes.npy", False),
        ("labels.npy", False),
    ],
)
def test_a_file_lost_or_changed_is_told(priced_index: Path, name: str, is_lost: bool) -> None:
    file = next(priced_index.glob(f"segments/*/{name}"))
    content = file.read_bytes()
    file.unlink()
    if not is_lost:
        other = content.replace(b"red", b"rad") if name == "values.arrow" else content[:-1] + b"\1"
        assert other != content
        file.write_bytes(other)
    problems = check(OpenIndex.open(priced_index), Bundle.load(priced_index / "bundle")).problems
    says = (
        f"index: segments/{file.parent.name}: a file is lost or not as it was written; make the index again"
    )
    assert problems == (says,)


def test_changed_golden_queries_are_told(own_index: Path) -> None:
    file = next(own_index.glob("golden-*"))
    golden = Golden.read(file)
    others = dataclasses.replace(golden, scores=golden.scores + 1e-9)
    others.write(own_index)
    (own_index / others.name).replace(file)
    problems = check(OpenIndex.open(own_index), Bundle.load(own_index / "bundle")).problems
    assert problems == (f"index: {file.name}: a file is lost or not as it was written; make the index again",)


@pytest.mark.parametrize("cut", [0, 10, -10])
def test_broken_golden_file_is_named(own_index: Path, cut: int) -> None:
    golden = next(own_index.glob("golden-*"))
    golden.write_bytes(golden.read_bytes()[:cut])
    with pytest.raises(DataError, match="golden"):
        check(OpenIndex.open(own_index), Bundle.load(own_index / "bundle"))


def test_golden_queries_read_back_as_written(tmp_path: Path) -> None:
    golden = Golden(
        ("red", "红", "\ud800x"),
        np.ones((3, 4), np.float32),
        np.zeros((3, AT), np.int64),
        np.full((3, AT), -np.inf),
    )
    read = Golden.read(tmp_path / golden.write(tmp_path))
    assert read.texts == golden.texts
    np.testing.assert_array_equal(read.scores, golden.scores)


def test_chosen_texts_are_different_ones_in_a_fixed_order() -> None:
    texts = [f"query {n % 500}" for n in range(5000)]
    chosen = choose_texts(texts, np.random.default_rng(0))
    assert len(set(chosen)) == len(chosen) == 200
    assert chosen == choose_texts(texts[::-1], np.random.default_rng(0))
    assert choose_texts(["a", "a"], np.random.default_rng(0)) == ["a"]


def test_without_any_query_words_of_any_shop_are_asked() -> None:
    some = choose_texts([], np.random.default_rng(0))
    assert len(some) > 5
    assert choose_texts(["red bag", "red bag"], np.random.default_rng(0)) == ["red bag"]
