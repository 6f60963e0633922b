"""`import shopwindow as sw`: quick to import, takes what one has at hand, says what it wants, prints in a line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import shopwindow as sw
from shopwindow.api import answers_of
from shopwindow.model.exported_text import ExportedText
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.runs import Run, write_run
from shopwindow.search.engine import SearchEngine
from tests.search.conftest import Shop
from tests.search.photographed import PhotoShop

SCORES = {"1": {"7": 0.9, "8": 0.2}, "2": {"8": 0.7, "9": 0.1}}
ANSWERS = {"1": ["7"], "2": ["9"]}


@pytest.fixture(scope="module")
def model(shop: Shop) -> Any:
    return sw.load(shop.bundle)


@pytest.fixture(scope="module")
def index(shop: Shop) -> Any:
    return sw.open(shop.index)


@pytest.fixture
def types_unchecked() -> Iterator[None]:
    """As outside the tests, where types are not checked at run time."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_the_import_loads_nothing_and_is_quick() -> None:
    code = (
        "import sys, time; before = set(sys.modules); start = time.process_time(); import shopwindow as sw; "
        "seconds = time.process_time() - start; assert seconds < 0.1, seconds; "
        "new = {name for name in set(sys.modules) - before if not name.startswith('shopwindow')}; "
        "assert not new & {'numpy', 'torch', 'pyarrow'}, new; assert 'evaluate' in dir(sw); sw.evaluate"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        _ = sw.serach


@pytest.mark.usefixtures("types_unchecked")
def test_one_text_is_one_vector(model: Any, index: Any) -> None:
    several = model.encode_queries(["red lamp", "bag"])
    assert several.shape == (2, 32)
    for one in (
        model.encode_queries("red lamp"),
        model.bundle.encode_texts("red lamp"),
        index.encode_queries("red lamp"),
    ):
        np.testing.assert_allclose(one, several[0], atol=1e-6)  # sums in another order
    np.testing.assert_array_equal(model.encode_queries(pd.Series(["red lamp", "bag"])), several)
    np.testing.assert_array_equal(model.encode_queries(np.array(["red lamp", "bag"])), several)


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (Path("red"), "texts: a PosixPath; wanted a text or a list of texts"),
        (Image.new("RGB", (2, 2)), "texts: an Image; wanted a text"),
        (None, "texts: None; wanted a text"),
        (["red", None], "texts: None at place 1; wanted a text"),
        (pd.Series([1, 2]), "texts: an int at place 0; wanted a text"),
    ],
)
def test_wrong_texts_are_told(model: Any, texts: object, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        model.encode_queries(texts)


@pytest.mark.usefixtures("types_unchecked")
def test_wrong_types_say_what_is_wanted(shop: Shop, index: Any) -> None:
    for call, says in (
        (lambda: sw.load(None), "bundle: None; wanted a path"),  # type: ignore[arg-type] # wrong on purpose
        (lambda: sw.open(7), "index: an int; wanted a path"),  # type: ignore[arg-type] # wrong on purpose
        (lambda: index.search("red", k=5.0), r"k: 5\.0, a float; wanted a whole number"),
        (lambda: index.search(Path("red")), "words: a PosixPath; wanted one text"),
        (lambda: index.search(["red"]), "words: a list; wanted one text"),
        (lambda: index.search(photo=7), "photo: an int; wanted a path, the bytes of a picture, or a PIL"),
        (lambda: sw.evaluate(7, ANSWERS), "run: an int; wanted a path"),
        (lambda: sw.evaluate(SCORES, 7), "answers: an int; wanted a path"),
        (lambda: sw.evaluate({"1": {"7": "much"}}, ANSWERS), "score: could not convert"),
        (lambda: sw.evaluate(([1.5], [7], [0.1]), ANSWERS), "ids: a float at place 0"),
        (lambda: sw.prepare("a.tsv"), "out: None; wanted a path"),
        (lambda: sw.train(shop.dataset, "x", valid=shop.dataset), "valid and answers go together"),
    ):
        with pytest.raises(TypeError, match=says):
            call()


@pytest.mark.usefixtures("types_unchecked")
def test_a_search_gives_the_hits_of_the_engine(shop: Shop, index: Any) -> None:
    hits = index.search("red shoe", k=np.int64(3), where="image_w<=800")
    wanted = SearchEngine.open(shop.index).search("red shoe", k=3)
    assert list(hits) == wanted
    assert hits[0] == wanted[0]
    assert list(hits[1:]) == wanted[1:]
    assert len(index) == 300
    assert pd.DataFrame(hits.to_dicts())["product_id"].tolist() == [hit.product_id for hit in wanted]
    assert repr(hits).startswith("3 hits for 'red shoe'\n  1  ")
    assert repr(index) == f"Index({str(shop.index)!r}, 300 products)"


def test_a_photo_is_a_path_bytes_or_a_picture(photo_shop: PhotoShop, photo_index: Path) -> None:
    index = sw.open(photo_index)
    path = next(iter(photo_shop.photos.values()))
    with Image.open(path) as picture:
        found = [list(index.search(photo=one, k=3)) for one in (path, path.read_bytes(), picture)]
    assert found[0] == found[1]
    assert [hit.product_id for hit in found[2]] == [hit.product_id for hit in found[0]]


def test_a_notebook_shows_photos_and_escapes_what_a_shop_wrote(photo_index: Path) -> None:
    hits = sw.open(photo_index).search("lamp", k=2, exact=True)
    hit, view = hits.shown[0]
    evil = type(hits)("x", ((hit, type(view)(**{**vars(view), "title": "<script>alert(1)</script>"})),))
    shown = evil._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert 'src="data:image/jpeg;base64,' in shown


def test_a_run_is_a_path_a_dict_columns_or_a_table(tmp_path: Path) -> None:
    rows = [(query, product, score) for query, own in SCORES.items() for product, score in own.items()]
    queries, products, scores = (list(column) for column in zip(*rows, strict=True))
    table = pd.DataFrame({"query_id": queries, "product_id": products, "score": scores})
    run = Run.from_arrays(np.array([1, 1, 2, 2]), np.array([7, 8, 8, 9]), np.array(scores))
    write_run(run, tmp_path / "a.run")
    judged = pd.DataFrame({"query_id": [1, 2], "product_id": [7, 9], "grade": [1, 1]})
    forms = (SCORES, (queries, products, scores), table, run, tmp_path / "a.run", str(tmp_path / "a.run"))
    answers = (ANSWERS, {"1": {"7": 1}, "2": {"9": 1}}, judged, judged[["query_id", "product_id"]])
    for form in forms:
        assert sw.evaluate(form, ANSWERS).mean("nDCG@5") == pytest.approx(0.8154648767)
    for form in answers:
        assert sw.evaluate(SCORES, form, measures="hit@1").mean("hit@1") == 0.5
    assert isinstance(answers_of(judged), Answers)


def test_results_print_in_a_line(model: Any, shop: Shop) -> None:
    other = {query: {product: -score for product, score in own.items()} for query, own in SCORES.items()}
    found = sw.evaluate(SCORES, ANSWERS)
    assert repr(found).startswith("Evaluation('run', 2 queries: nDCG@5 0.8155 ± 0.1845, hit@1 0.5000")
    (comparison,) = sw.compare(SCORES, other, ANSWERS)
    assert repr(comparison).startswith("Comparison(nDCG@5: run - other 1 +0.0000 (")
    assert repr(sw.audit(SCORES, ANSWERS)).startswith("Audit(2 queries: No leak found")
    assert repr(model) == f"Model({str(shop.bundle)!r}, 32 values)"
    assert repr(sw.rank(model, shop.dataset)).startswith("Run('shopwindow', ")


def test_an_exported_text_side_takes_one_text(shop: Shop, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from shopwindow.export.onnx import export_text
    from shopwindow.model.bundle import Bundle

    export_text(Bundle.load(shop.bundle), tmp_path / "text")
    text = ExportedText.load(tmp_path / "text")
    (several,) = text.encode_texts(["red lamp"])
    np.testing.assert_array_equal(text.encode_texts("red lamp"), several)


@pytest.mark.usefixtures("types_unchecked")
def test_names_and_numbers_of_wrong_types_are_type_errors(tmp_path: Path) -> None:
    run, answers = {"q": {"a": 1.0}}, {"q": ["a"]}
    for wrong in (None, 5, b"nDCG@5"):
        with pytest.raises(TypeError, match=r"measure: .* wanted a text"):
            sw.evaluate(run, answers, measures=[wrong])  # type: ignore[list-item] # wrong on purpose
    with pytest.raises(TypeError, match="recipe: an int; wanted a text"):
        sw.train(tmp_path, tmp_path.parent / "out", recipe=5)  # type: ignore[arg-type] # wrong on purpose
    with pytest.raises(TypeError, match="settings: a list; wanted a mapping"):
        sw.train(tmp_path, tmp_path.parent / "out", settings=["x"])  # type: ignore[arg-type] # wrong on purpose
    with pytest.raises(TypeError, match="score: int too large"):
        sw.evaluate({"q": {"a": 10**400}}, answers)
