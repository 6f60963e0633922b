"""A search on the command line reads words without torch, and finds what torch finds."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from shopwindow.cli import main
from shopwindow.files import DataError
from shopwindow.model.exported_text import ExportedText
from shopwindow.search.building import add_products, build_index, compact_index
from shopwindow.search.engine import SearchEngine
from shopwindow.search.golden import check
from shopwindow.search.index import TEXT_SIDE, OpenIndex
from shopwindow.search.own_bundle import load_same_bundle
from tests.search.catalogue import write_dataset
from tests.search.conftest import Shop

HEAVY = ("torch", "lightning", "faiss", "scipy", "matplotlib", "pandas")
QUERIES = ("red shoe", "small summer lamp", "Red SHOE", "bag zzz", "\ud800 bag")


@pytest.fixture(scope="module")
def quick(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index as the command line makes it."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    out = tmp_path_factory.mktemp("quick") / "index"
    main(["index", "make", str(shop.bundle), str(shop.dataset), "--out", str(out)])
    return out


def modules_after(code: str) -> list[str]:
    """Which heavy modules a new process has imported after some code."""
    ends = f"\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    command = [sys.executable, "-c", code + ends]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()[-1].split()


def test_scores_and_order_are_those_of_torch(quick: Path) -> None:
    slow, fast = SearchEngine.open(quick), SearchEngine.open(quick, quick=True)
    assert isinstance(fast._state.words, ExportedText)
    for words in QUERIES:
        wanted, found = slow.search(words, k=20), fast.search(words, k=20)
        assert [hit.product_id for hit in found] == [hit.product_id for hit in wanted]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in wanted], abs=1e-5)
        assert fast.unknown_words(words) == slow.unknown_words(words)
    assert fast.explain("red shoe", 7) == slow.explain("red shoe", 7)
    assert fast.stats() == slow.stats()


def test_no_heavy_library_is_imported(quick: Path) -> None:
    search = f"from shopwindow.cli import main\nmain(['search', {str(quick)!r}, 'red', 'shoe', '--json'])"
    assert modules_after(search) == []
    for words in ("['--help']", "['--version']"):
        assert modules_after(f"from shopwindow.cli import main\nmain({words})") == []


def test_evaluating_runs_imports_no_torch(tmp_path: Path) -> None:
    (tmp_path / "a.run").write_text("1 Q0 7 1 0.5 a\n1 Q0 8 2 0.4 a\n")
    (tmp_path / "answers.json").write_text('{"1": [7]}')
    words = ["evaluate", str(tmp_path / "a.run"), str(tmp_path / "answers.json")]
    assert "torch" not in modules_after(f"from shopwindow.cli import main\nmain({words!r})")


def test_without_a_text_side_torch_reads_the_words(shop: Shop) -> None:
    engine = SearchEngine.open(shop.index, quick=True)
    assert engine._state.text_side is None
    assert engine.search("red shoe") == SearchEngine.open(shop.index).search("red shoe")


def test_a_changed_text_side_is_refused(quick: Path, tmp_path: Path) -> None:
    broken = tmp_path / "index"
    subprocess.run(["cp", "-r", str(quick), str(broken)], check=True)
    with (broken / TEXT_SIDE / "text.onnx").open("ab") as file:
        file.write(b"more")
    with pytest.raises(DataError, match="not as it was written"):
        SearchEngine.open(broken, quick=True)
    opened = OpenIndex.open(broken)
    verdict = check(opened, load_same_bundle(broken / "bundle", opened.manifest.bundle_hash))
    assert verdict.changed == (TEXT_SIDE,)


def test_changes_of_an_index_keep_its_text_side(quick: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    subprocess.run(["cp", "-r", str(quick), str(index)], check=True)
    add_products(index, write_dataset(tmp_path / "more", range(400, 410)))
    assert SearchEngine.open(index, quick=True)._state.text_side is not None
    compact_index(index)
    assert SearchEngine.open(index, quick=True)._state.text_side is not None


def test_a_text_side_that_cannot_be_exported_is_left_out_with_a_remark(shop: Shop, tmp_path: Path) -> None:
    def refuse(bundle: object, folder: Path) -> None:
        (folder / "half").write_text("x")
        raise ValueError("too large")

    told: list[str] = []
    out = tmp_path / "index"
    made = build_index(shop.bundle, shop.dataset, out, text_side=refuse, remark=told.append)
    assert made.text_side is None
    assert not (out / TEXT_SIDE).exists()
    assert told == ["searches will load torch: too large"]
    assert dataclasses.replace(OpenIndex.open(out).manifest, recall={}).text_side is None
