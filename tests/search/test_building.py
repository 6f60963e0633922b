"""An index appears whole or not at all, changes from one whole state to the next, and is resumed after a kill."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from shopwindow.files import DataError, alone
from shopwindow.search.building import (
    add_products,
    build_index,
    compact_index,
    delete_products,
    read_label_names,
)
from shopwindow.search.conditions import parse_conditions
from shopwindow.search.encoding import forget_encoded
from shopwindow.search.engine import SearchEngine
from shopwindow.search.hits import Filter, ProductId, SearchRequest, UnknownProduct
from shopwindow.search.index import MANIFEST, OpenIndex
from tests.search.catalogue import PRODUCTS, write_bundle, write_dataset
from tests.search.conftest import Shop

WORDS = ["red shoe", "small lamp", "green bag summer", "blue"]


def answers(index: Path, *, exact: bool = True) -> list[list[tuple[ProductId, float]]]:
    """What an index says to some words: ids, and scores as far as float32 vectors carry them."""
    hits = SearchEngine.open(index).search_many(WORDS, k=50, exact=exact)
    return [[(hit.product_id, round(hit.score, 5)) for hit in some] for some in hits]


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_equal_input_gives_equal_bytes(shop: Shop, tmp_path: Path) -> None:
    for name in ("a", "b"):
        build_index(shop.bundle, shop.dataset, tmp_path / name, approximate_from=100)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_added_and_replaced_products_are_as_in_an_index_made_at_once(
    shop: Shop, own_index: Path, tmp_path: Path
) -> None:
    # 290 to 299 get other regions, 300 to 309 are new.
    more = write_dataset(tmp_path / "more", range(290, 310), seed=5)
    made = add_products(own_index, more, texts=more)
    assert made.revision == 2
    engine = SearchEngine.open(own_index)
    assert engine.stats()["products"] == 310
    assert engine.stats()["segments"] == 2
    assert len({hit.product_id for hit in engine.search("red", k=1000)}) == 310
    build_index(shop.bundle, more, tmp_path / "alone")
    fresh = dict(answers(tmp_path / "alone")[0])
    found = {h.product_id: round(h.score, 5) for h in engine.search(WORDS[0], k=1000)}
    old = {h.product_id: round(h.score, 5) for h in SearchEngine.open(shop.index).search(WORDS[0], k=1000)}
    for one in range(310):
        assert found[one] == (fresh[one] if one >= 290 else old[one])
    assert engine.explain("red", 305).score == pytest.approx(
        next(h.score for h in engine.search("red", k=1000) if h.product_id == 305), abs=1e-6
    )


def test_deleted_products_are_gone_everywhere(own_index: Path) -> None:
    engine = SearchEngine.open(own_index)
    gone = [hit.product_id for hit in engine.search("red shoe", k=5)]
    delete_products(own_index, gone[:3])
    delete_products(own_index, gone[3:])
    assert engine.reload()
    assert engine.stats()["products"] == PRODUCTS - 5
    for exact in (False, True):
        assert not set(gone) & {hit.product_id for hit in engine.search("red shoe", k=1000, exact=exact)}
    assert not set(gone) & {hit.product_id for hit in engine.search("red shoe", k=1000, hybrid=True)}
    with pytest.raises(UnknownProduct):
        engine.product(gone[0])


def test_unknown_product_is_not_deleted_and_nothing_changes(own_index: Path) -> None:
    before = files_of(own_index)
    with pytest.raises(UnknownProduct, match="no product 777 in the index"):
        delete_products(own_index, [5, 777])
    with pytest.raises(DataError, match="no product would be left"):
        delete_products(own_index, list(range(PRODUCTS)))
    assert files_of(own_index) == before


@pytest.mark.parametrize("approximate_from", [50, 1000])
def test_compacting_changes_no_answer(shop: Shop, tmp_path: Path, approximate_from: int) -> None:
    index = tmp_path / "index"
    build_index(shop.bundle, shop.dataset, index, texts=shop.dataset, approximate_from=approximate_from)
    more = write_dataset(tmp_path / "more", range(290, 310), seed=5)
    add_products(index, more, texts=more)
    delete_products(index, [0, 1, 305])
    before = SearchEngine.open(index)
    made = compact_index(index)
    after = SearchEngine.open(index)
    assert len(made.parts) == 1
    assert after.stats()["products"] == before.stats()["products"] == 307
    some = Filter(conditions=parse_conditions(["image_h>=1"]))
    labelled = Filter(labels=frozenset({0, 1}))
    ways: tuple[dict[str, Any], ...] = (
        {},
        {"hybrid": True},
        {"hybrid": True, "where": some},
        {"hybrid": True, "where": labelled},
        {"rerank": "smooth:0.7,0.2,0.1"},
        {"hybrid": True, "rerank": "smooth:0.7,0.2,0.1"},
    )
    for way in ways:
        asked = [SearchRequest(words, k=50, exact=True, **way) for words in (*WORDS, "red shoe bag", "Red")]
        assert before.search_many(asked) == after.search_many(asked), way
    assert after.product(299) == before.product(299)
    assert after.product(12).texts == before.product(12).texts != ()


def test_whole_segment_deleted_is_left_out(own_index: Path, tmp_path: Path) -> None:
    add_products(own_index, write_dataset(tmp_path / "more", range(400, 410)))
    made = delete_products(own_index, list(range(400, 410)))
    assert len(made.parts) == 1
    assert len(list((own_index / "segments").iterdir())) == 1


def test_readers_see_the_old_state_or_the_new_one(own_index: Path, tmp_path: Path) -> None:
    engine = SearchEngine.open(own_index)
    more = write_dataset(tmp_path / "more", range(400, 440))
    sizes, wrong, done = set(), [], threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                engine.reload()
                found = [hit.product_id for hit in engine.search("red", k=1000)]
                fresh = OpenIndex.open(own_index)
                sizes.update([len(found), len(fresh)])
            except Exception as error:
                wrong.append(repr(error))
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(4):
            add_products(own_index, more)
            delete_products(own_index, list(range(400, 440)))
            compact_index(own_index)
    finally:
        done.set()
        reader.join()
    assert wrong == []
    assert sizes <= {PRODUCTS, PRODUCTS + 40}


def test_open_engine_goes_on_when_its_files_are_replaced(shop: Shop, own_index: Path, tmp_path: Path) -> None:
    engine = SearchEngine.open(own_index)
    before = engine.search("red shoe", k=50, hybrid=True)
    version = engine.version
    assert engine.reload() is False
    build_index(shop.bundle, write_dataset(tmp_path / "few", range(30)), own_index)
    assert engine.search("red shoe", k=50, hybrid=True) == before
    assert engine.version == version
    assert engine.reload() is True
    assert len(engine.search("red shoe", k=50)) == 30
    assert engine.version != version


def test_broken_new_state_leaves_the_old_one_open(own_index: Path) -> None:
    engine = SearchEngine.open(own_index)
    (own_index / MANIFEST).write_text("{")
    with pytest.raises(DataError, match="broken JSON"):
        engine.reload()
    assert len(engine.search("red")) == 10


def test_second_indexer_is_refused(shop: Shop, tmp_path: Path) -> None:
    refusals = []

    def again(done: int, total: int) -> None:
        with pytest.raises(DataError, match="another process is writing it") as caught:
            build_index(shop.bundle, shop.dataset, tmp_path / "index")
        refusals.append(caught)

    build_index(shop.bundle, shop.dataset, tmp_path / "index", progress=again)
    assert refusals


def test_interrupted_encoding_goes_on_where_it_was(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shopwindow.search.encoding.ENCODED_AT_ONCE", 64)
    build_index(shop.bundle, shop.dataset, tmp_path / "undisturbed")

    def interrupt(done: int, total: int) -> None:
        if done == 128:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(shop.bundle, shop.dataset, tmp_path / "index", progress=interrupt)
    assert not (tmp_path / "index").exists()
    kept = tmp_path / "index.indexing" / "vectors.f32"
    with kept.open("ab") as file:
        file.write(b"torn")  # a kill within a write
    steps: list[int] = []
    build_index(shop.bundle, shop.dataset, tmp_path / "index", progress=lambda done, _: steps.append(done))
    assert steps == [192, 256, 300]
    assert files_of(tmp_path / "index") == files_of(tmp_path / "undisturbed")
    assert not kept.parent.exists()


def test_what_waits_is_left_to_the_next_one_that_began(tmp_path: Path) -> None:
    waits = tmp_path / "index.indexing"
    waits.mkdir()
    with alone(tmp_path / "index"):
        forget_encoded(tmp_path / "index")
        assert waits.is_dir()
    forget_encoded(tmp_path / "index")
    assert not waits.exists()


def test_encodings_of_another_model_are_not_taken(shop: Shop, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    other = write_bundle(tmp_path / "other", seed=1)
    with pytest.raises(KeyboardInterrupt):
        build_index(other, shop.dataset, tmp_path / "index", progress=interrupt)
    build_index(shop.bundle, shop.dataset, tmp_path / "index")
    assert answers(tmp_path / "index") == answers(shop.index)


def test_other_bundle_is_refused(shop: Shop, own_index: Path, tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "other", seed=1)
    with pytest.raises(DataError, match="is another model than the index was made by"):
        SearchEngine.open(own_index, bundle=other)
    assert SearchEngine.open(own_index, bundle=shop.bundle).search("red")
    shutil.rmtree(own_index / "bundle")
    shutil.copytree(other, own_index / "bundle")
    with pytest.raises(DataError, match="is another model"):
        SearchEngine.open(own_index)


def test_foreign_directory_is_not_replaced(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "thesis.tex").write_text("words")
    with pytest.raises(DataError, match=r"holds other files \(no index\.json of shopwindow's\)"):
        build_index(shop.bundle, shop.dataset, tmp_path / "index")
    with pytest.raises(DataError, match="no index"):
        add_products(tmp_path / "index", shop.dataset)
    with pytest.raises(DataError, match="no index"):
        compact_index(tmp_path / "no")
    assert [path.name for path in (tmp_path / "index").iterdir()] == ["thesis.tex"]


INDEX = (
    "import sys; from shopwindow.search.building import build_index, add_products; a = sys.argv[1:];"
    "build_index(*a) if len(a) == 3 else add_products(*a)"
)


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [0.0005, 0.01, 0.03])
def test_full_disk_is_one_clear_line_and_leaves_the_old_index(
    shop: Shop, own_index: Path, tmp_path: Path, megabytes: float
) -> None:
    before = files_of(own_index)
    size = int(megabytes * 2**20)
    for words in ([str(shop.bundle), str(shop.dataset), str(own_index)], [str(own_index), str(shop.dataset)]):
        run = subprocess.run(
            [sys.executable, "-c", INDEX, *words],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        )
        assert run.returncode == 1
        assert re.search(r"DataError: .*: cannot be written: ", run.stderr.splitlines()[-1])
        assert files_of(own_index) == before
        assert not (tmp_path / ".index.partial").exists()


@pytest.mark.parametrize("cut", [0, 1, 40, -1, -100])
def test_truncated_file_is_named(own_index: Path, cut: int) -> None:
    segment = next((own_index / "segments").iterdir())
    golden = next(own_index.glob("golden-*"))
    for path in sorted(
        [*segment.iterdir(), own_index / MANIFEST, own_index / "bundle" / "model.safetensors"]
    ):
        content = path.read_bytes()
        path.write_bytes(content[:cut] if cut else b"")
        if len(content[:cut]) > 0 and path.suffix == ".json" and cut == -1:
            path.write_bytes(content)  # only the last line end was lost
            continue
        if path.suffix == ".sqlite" and cut < 0:  # SQLite reads pages, and these not
            path.write_bytes(content)
            continue
        with pytest.raises(DataError, match=re.escape(path.name)):
            SearchEngine.open(own_index).search("red", hybrid=True)
        path.write_bytes(content)
    assert SearchEngine.open(own_index).search("red")
    assert golden.is_file()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"format": "shopwindow index 1"},
            "but 'shopwindow index 1'; make it again with `shopwindow index make`",
        ),
        ({"format": "something else"}, "not of the format"),
        ({"parts": [{"name": "../../x", "products": 3}]}, "a part named"),
        ({"parts": [{"name": "nothing", "products": 3}]}, "a segment is missing"),
        ({"parts": 3}, "missing or wrong"),
        ({"unknown": 1}, "missing or wrong"),
    ],
)
def test_foreign_index_is_refused(own_index: Path, change: dict[str, object], says: str) -> None:
    content = json.loads((own_index / MANIFEST).read_text()) | change
    (own_index / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(DataError, match=says):
        SearchEngine.open(own_index)


def test_dataset_of_other_features_is_refused(shop: Shop, tmp_path: Path) -> None:
    from shopwindow.data.prepare import prepare
    from tests.data.rows import make_line, make_product, write_tsv

    source = write_tsv(tmp_path / "a.tsv", [make_line(make_product(1, size=5))])
    prepare([source], tmp_path / "ds", feature_size=5)
    with pytest.raises(ValueError, match="features of 5 values, the model takes 8"):
        build_index(shop.bundle, tmp_path / "ds", tmp_path / "index")


def test_one_product_is_an_index_too(shop: Shop, tmp_path: Path) -> None:
    build_index(shop.bundle, write_dataset(tmp_path / "ds", [7]), tmp_path / "index", approximate_from=1)
    engine = SearchEngine.open(tmp_path / "index")
    assert [hit.product_id for hit in engine.search("red")] == [7]
    assert engine.similar(7) == []


def test_a_small_shop_never_loads_faiss(shop: Shop, tmp_path: Path) -> None:
    program = f"""
import sys
from shopwindow.search.building import build_index
from shopwindow.search.engine import SearchEngine
for start in (1000, 100):
    build_index({str(shop.bundle)!r}, {str(shop.dataset)!r}, {str(tmp_path / "index")!r}, approximate_from=start)
    assert SearchEngine.open({str(tmp_path / "index")!r}).search("red")
    print("faiss" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True"]


def test_label_names_by_line(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("category_id\tcategory_name\n0\tshoes\n\n31\thair\n")
    assert read_label_names(tmp_path / "labels.txt") == {0: "shoes", 31: "hair"}
    (tmp_path / "labels.txt").write_text("category_id\tcategory_name\nshoes\n")
    with pytest.raises(DataError, match="line 2: a number, a tab and a name"):
        read_label_names(tmp_path / "labels.txt")
