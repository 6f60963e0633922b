"""The engine finds what brute force finds, filters, fuses, explains, and answers bad questions clearly."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shopwindow.data.dataset import Dataset
from shopwindow.files import DataError
from shopwindow.model.bundle import Bundle
from shopwindow.search.building import build_index
from shopwindow.search.conditions import parse_conditions
from shopwindow.search.engine import SearchEngine
from shopwindow.search.hits import Filter, Hit, UnknownProduct
from shopwindow.search.stores.local import LocalStore
from tests.search.catalogue import PRODUCTS, query_of, write_bundle, write_dataset
from tests.search.conftest import Shop


@pytest.fixture(scope="module")
def products(shop: Shop) -> np.ndarray:
    """The vectors of all products by id."""
    return Bundle.load(shop.bundle).encode_dataset(Dataset(shop.dataset))


def brute_force(bundle: Path, products: np.ndarray, words: str, k: int) -> list[Hit]:
    """The best products, one score after the other."""
    query = Bundle.load(bundle).encode_texts([words])[0].astype(np.float64)
    scores = {one: float(sum(query * vector)) for one, vector in enumerate(products.astype(np.float64))}
    best = sorted(scores, key=lambda one: (-scores[one], one))[:k]
    return [Hit(one, scores[one], rank) for rank, one in enumerate(best, start=1)]


def ids(hits: list[Hit]) -> list[int]:
    return [hit.product_id for hit in hits]


@pytest.mark.parametrize("words", ["red shoe", "small blue lamp", "s"])
def test_finds_what_brute_force_finds(
    shop: Shop, engine: SearchEngine, products: np.ndarray, words: str
) -> None:
    wanted = brute_force(shop.bundle, products, words, 10)
    for found in (engine.search(words), engine.search(words, exact=True)):
        assert ids(found) == ids(wanted)
        assert [hit.rank for hit in found] == list(range(1, 11))
        # float64 sums of float32 vectors in another order
        np.testing.assert_allclose([h.score for h in found], [h.score for h in wanted], atol=1e-12)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("hybrid", [False, True])
def test_many_queries_find_what_each_finds(engine: SearchEngine, exact: bool, hybrid: bool) -> None:
    words = ["red shoe", "bag", "red shoe", "green lamp small"]
    for where in (Filter(), Filter(labels=frozenset({3, 17}))):
        many = engine.search_many(words, k=7, exact=exact, hybrid=hybrid, where=where)
        for one, found in zip(words, many, strict=True):
            alone = engine.search(one, k=7, exact=exact, hybrid=hybrid, where=where)
            assert ids(found) == ids(alone)
            # another batch may round the query's vector otherwise in the last bits
            np.testing.assert_allclose([h.score for h in found], [h.score for h in alone], atol=1e-6)
    assert engine.search_many([], k=7, exact=exact, hybrid=hybrid) == []


def test_cells_find_what_they_promise(shop: Shop, engine: SearchEngine, tmp_path: Path) -> None:
    build_index(shop.bundle, shop.dataset, tmp_path / "index", approximate_from=100)
    quick = SearchEngine.open(tmp_path / "index")
    stats = quick.stats()
    assert stats["approximate"] is True
    assert stats["measured"]["recall@10"] >= 0.95
    words = sorted({query_of(one) for one in range(100)})
    pairs = zip(quick.search_many(words), engine.search_many(words), strict=True)
    assert np.mean([len(set(ids(one)) & set(ids(other))) / 10 for one, other in pairs]) >= 0.95
    assert quick.search_many(words, exact=True) == engine.search_many(words, exact=True)


def test_vectors_of_any_length_are_searched_too(shop: Shop, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", normalise=False)
    build_index(bundle, shop.dataset, tmp_path / "index", approximate_from=100)
    products = Bundle.load(bundle).encode_dataset(Dataset(shop.dataset))
    engine = SearchEngine.open(tmp_path / "index")
    assert ids(engine.search("red bag", exact=True)) == ids(brute_force(bundle, products, "red bag", 10))
    assert engine.stats()["measured"]["recall@10"] >= 0.95


def test_tied_products_stand_by_id(shop: Shop, tmp_path: Path) -> None:
    # Every product id divisible by five has the regions of product 5: same vector, same score.
    from shopwindow.data.prepare import prepare
    from tests.data.rows import SIZE, make_line, make_product, write_tsv

    like = make_product(5, 2)
    lines = [
        make_line(
            replace(like, product_id=one) if one % 5 == 0 else make_product(one, 2),
            "red",
            1,
        )
        for one in range(199, -1, -1)
    ]
    prepare([write_tsv(tmp_path / "a.tsv", lines)], tmp_path / "ds", feature_size=SIZE)
    for name, start in (("exact", 1000), ("cells", 100)):
        build_index(shop.bundle, tmp_path / "ds", tmp_path / name, approximate_from=start)
        found = SearchEngine.open(tmp_path / name).similar(5, k=20)
        assert ids(found) == list(range(0, 105, 5))[:1] + list(range(10, 105, 5))
        assert len({hit.score for hit in found}) == 1


def test_filter_leaves_only_products_with_a_label(shop: Shop, engine: SearchEngine) -> None:
    dataset = Dataset(shop.dataset)
    where = Filter(labels=frozenset({3, 17}))
    passing = {one for one in range(PRODUCTS) if {3, 17} & set(dataset.labels(np.array([one])).tolist())}
    assert 0 < len(passing) < PRODUCTS / 2
    for exact in (False, True):
        found = engine.search("red shoe", k=PRODUCTS, where=where, exact=exact)
        assert set(ids(found)) == passing
    everything = engine.search("red shoe", k=PRODUCTS)
    assert ids(found) == [one for one in ids(everything) if one in passing]


def test_filter_by_size_and_by_what_no_product_has(engine: SearchEngine) -> None:
    def asking(*conditions: str) -> Filter:
        return Filter(conditions=parse_conditions(conditions))

    assert len(engine.search("red", k=PRODUCTS, where=asking("image_h>=100", "image_w=80"))) == PRODUCTS
    assert engine.search("red", where=asking("image_h>=101")) == []
    assert engine.search("red", where=asking("image_w>=81"), exact=True) == []
    assert engine.search("red", where=asking("image_w<=79"), hybrid=True) == []
    assert engine.search("red", where=Filter(labels=frozenset({99})), hybrid=True) == []


def test_filtered_cells_find_what_exact_search_finds(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(shop.bundle, shop.dataset, tmp_path / "index", approximate_from=100)
    engine = SearchEngine.open(tmp_path / "index")
    where = Filter(labels=frozenset({3, 17}))
    wanted = engine.search("red shoe", where=where, exact=True)
    assert engine.search("red shoe", where=where) == wanted  # few rows: all are scanned
    monkeypatch.setattr("shopwindow.search.neighbours.FEW_ROWS", 0)
    found = engine.search("red shoe", where=where)
    assert len(found) == 10
    assert len(set(ids(found)) & set(ids(wanted))) >= 8


def test_hybrid_is_reciprocal_rank_fusion_of_both_lists(engine: SearchEngine) -> None:
    words = query_of(11)
    vectors = {hit.product_id: hit.rank for hit in engine.search(words, k=100)}
    store = engine._state.store
    assert isinstance(store, LocalStore)
    texts = store.index.parts[0].texts
    assert texts is not None
    by_text = [product for product, _ in texts.find(words, 100)]
    # BM25's ties stand by product id there too
    ranks = {product: rank for rank, product in enumerate(by_text, start=1)}
    wanted = {
        one: (1 / (60 + vectors[one]) if one in vectors else 0)
        + (1 / (60 + ranks[one]) if one in ranks else 0)
        for one in {*vectors, *ranks}
    }
    found = engine.search(words, k=20, hybrid=True)
    best = sorted(wanted, key=lambda one: (-wanted[one], one))[:20]
    assert ids(found) == best
    np.testing.assert_allclose([hit.score for hit in found], [wanted[one] for one in best])


def test_hybrid_finds_products_known_by_their_text(engine: SearchEngine) -> None:
    words = query_of(11)
    same = [one for one in range(PRODUCTS) if set(query_of(one).split()) == set(words.split())]
    plain = set(ids(engine.search(words, k=len(same))))
    fused = set(ids(engine.search(words, k=len(same), hybrid=True)))
    assert len(fused & set(same)) > len(plain & set(same))


def test_rerank_gives_the_last_word(engine: SearchEngine) -> None:
    asked: list[tuple[str, list[int]]] = []

    def rerank(words: str, products: list[int]) -> list[float]:
        asked.append((words, products))
        return [float(rank) for rank in range(len(products))]

    before = ids(engine.search("red bag", k=50))
    assert ids(engine.search("red bag", k=3, rerank=rerank)) == before[::-1][:3]
    assert asked == [("red bag", before)]
    with pytest.raises(ValueError, match="1 new scores for 50 products"):
        engine.search("red bag", k=3, rerank=lambda *_: [1.0])


def test_similar_products_are_those_of_the_nearest_photos(engine: SearchEngine, products: np.ndarray) -> None:
    scores = products.astype(np.float64) @ products[42].astype(np.float64)
    wanted = [one for one in np.argsort(-scores).tolist() if one != 42][:6]
    found = engine.similar(42, k=6)
    assert ids(found) == wanted
    assert [hit.rank for hit in found] == [1, 2, 3, 4, 5, 6]


def test_region_alone_is_asked_as_a_photo(shop: Shop, engine: SearchEngine) -> None:
    # 7 has four regions, 8 has one: the search by its one region is the search by its photo.
    assert ids(engine.similar_region(8, 0, k=5)) == ids(engine.similar(8, k=5))
    assert engine.similar_region(7, 2, k=5) != engine.similar_region(7, 1, k=5)
    for region in (-1, 4):
        with pytest.raises(ValueError, match="product 7 has regions 0 to 3"):
            engine.similar_region(7, region)


def test_product_is_shown_as_the_dataset_has_it(shop: Shop, engine: SearchEngine) -> None:
    dataset = Dataset(shop.dataset)
    for one in (7, 8, 299):
        view = engine.product(one)
        row = np.array([one])
        assert (view.image_h, view.image_w) == (100, 80)
        np.testing.assert_array_equal(np.array(view.boxes), dataset.boxes(row))
        assert list(view.labels) == dataset.labels(row).tolist()
        names = {0: "shoes", 1: "bags"}
        assert view.label_names == tuple(names.get(label, str(label)) for label in view.labels)
        assert view.texts == (query_of(one),)
    assert engine.product(7).photo == shop.photos.resolve() / "7.jpg"
    assert engine.product(8).photo is None
    assert engine.label_names == {0: "shoes", 1: "bags"}


@pytest.mark.parametrize("product_id", [-1, PRODUCTS, 2**63 - 1, 2**70, -(2**70)])
def test_unknown_product_is_named(engine: SearchEngine, product_id: int) -> None:
    for ask in (
        lambda: engine.product(product_id),
        lambda: engine.similar(product_id),
        lambda: engine.similar_region(product_id, 0),
        lambda: engine.explain("red", product_id),
    ):
        with pytest.raises(UnknownProduct, match=f"no product {product_id} in the index"):
            ask()


@pytest.mark.parametrize("words", ["", " ", "\t\n", "\u3000"])
def test_no_words_are_refused(engine: SearchEngine, words: str) -> None:
    for ask in (
        lambda: engine.search(words),
        lambda: engine.search_many(["red", words]),
        lambda: engine.explain(words, 7),
    ):
        with pytest.raises(ValueError, match="no words"):
            ask()


@pytest.mark.parametrize(
    "words",
    [
        "red " * 2500,
        "a" * 10_000,
        "red\x00\x07\x1bshoe",
        "红色连衣裙",
        "красное платье",
        "حذاء أحمر",
        "👗🔥",
        "\ud800",
        '" OR 1=1 --',
        "words: NEAR(red shoe) * ^ - (",
        "../../etc/passwd",
        "%s {0} \\",
    ],
)
def test_strange_words_are_words(engine: SearchEngine, words: str) -> None:
    nothing_known = len(engine.unknown_words(words)) == len(set(words.split()))
    assert nothing_known == (not {"red", "shoe", "s", "OR"} & set(re.findall(r"\w+", words)))
    for hybrid in (False, True):
        found = engine.search(words, k=5, hybrid=hybrid)
        assert len(found) == (0 if nothing_known else 5)
        assert all(np.isfinite(hit.score) for hit in found)
    explained = engine.explain(words, 7)
    assert all(np.isfinite(explained.weights).ravel())


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(engine: SearchEngine, k: int) -> None:
    for ask in (
        lambda: engine.search("red", k=k),
        lambda: engine.search_many(["red"], k=k),
        lambda: engine.similar(7, k=k),
        lambda: engine.similar_region(7, 0, k=k),
    ):
        with pytest.raises(ValueError, match="at least 1"):
            ask()


def test_huge_k_gives_the_whole_catalogue_once(engine: SearchEngine) -> None:
    for exact in (False, True):
        assert sorted(ids(engine.search("red", k=10**12, exact=exact))) == list(range(PRODUCTS))
    assert len(engine.similar(7, k=10**12)) == PRODUCTS - 1


def test_threads_find_what_one_finds(engine: SearchEngine) -> None:
    words = [query_of(one) for one in range(40)]
    wanted = [engine.search(one, hybrid=True) for one in words]
    wrong: list[str] = []

    def ask() -> None:
        for one, hits in zip(words, wanted, strict=True):
            if engine.search(one, hybrid=True) != hits:
                wrong.append(one)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_vanished_dataset_is_said_where_regions_are_needed(shop: Shop, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(shop.dataset, tmp_path / "ds")
    build_index(shop.bundle, tmp_path / "ds", tmp_path / "index")
    engine = SearchEngine.open(tmp_path / "index")
    write_dataset(tmp_path / "ds", range(10), seed=3)
    with pytest.raises(DataError, match="was replaced since the index was made"):
        engine.explain("red", 7)
    shutil.rmtree(tmp_path / "ds")
    with pytest.raises(DataError, match="no such dataset"):
        engine.similar_region(7, 0)
    assert len(engine.search("red")) == 10
    assert engine.product(7).texts == ()


def test_an_index_opens_without_importing_sympy(late: Shop) -> None:
    """Which takes as long as everything else that opens it."""
    code = (
        "import sys; from shopwindow.search.engine import SearchEngine; SearchEngine.open(sys.argv[1]); "
        "sys.exit('sympy' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(late.index)], env=environment, check=True, timeout=100)
