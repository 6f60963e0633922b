"""What an index keeps of regions scores what the datasets score, through every change, and is checked like vectors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shopwindow.cli import main
from shopwindow.data.dataset import Dataset
from shopwindow.files import DataError, whole_directory
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.model.rank import keep_products
from shopwindow.model.rerankers import Pool, find, read_queries
from shopwindow.search.arrays import save_array
from shopwindow.search.building import add_products, build_index, compact_index, delete_products
from shopwindow.search.engine import SearchEngine
from shopwindow.search.golden import check
from shopwindow.search.hits import Hit
from shopwindow.search.index import MANIFEST, OpenIndex
from shopwindow.search.index_columns import update_columns
from shopwindow.search.kept_regions import BOUNDS_FILE, REGIONS_FILE
from shopwindow.search.smoothing import SmoothedRegions
from tests.search.catalogue import write_dataset
from tests.search.conftest import Shop
from tests.search.test_building import files_of
from tests.search.test_reranking import ROUNDING, WORDS

EVERY = 400
FEW = 30


def late_hits(index: Path, words: str) -> list[Hit]:
    return SearchEngine.open(index).search(words, k=EVERY, rerank="late", candidates=EVERY, exact=True)


def assert_same_scores(index: Path, other: Path) -> None:
    for words in WORDS[1:]:
        found = {hit.product_id: hit.score for hit in late_hits(index, words)}
        wanted = {hit.product_id: hit.score for hit in late_hits(other, words)}
        plain = SearchEngine.open(other).search(words, k=EVERY, exact=True)
        assert found == pytest.approx(wanted, abs=ROUNDING)
        assert wanted != pytest.approx({hit.product_id: hit.score for hit in plain}, abs=100 * ROUNDING)


def says_kept(index: Path) -> bool:
    """What `index.json` says."""
    return bool(json.loads((index / MANIFEST).read_text())["kept_regions"])


@pytest.fixture(scope="module")
def small(late: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The shop with late interaction and few products."""
    folder = tmp_path_factory.mktemp("small")
    dataset = write_dataset(folder / "dataset", range(FEW))
    build_index(late.bundle, dataset, folder / "index")
    return replace(late, dataset=dataset, index=folder / "index")


@pytest.fixture
def late_index(small: Shop, tmp_path: Path) -> Path:
    """A copy of the index of a model with late interaction, to be changed."""
    shutil.copytree(small.index, tmp_path / "late")
    return tmp_path / "late"


def test_kept_regions_score_as_the_datasets_do_after_every_change(late: Shop, tmp_path: Path) -> None:
    kept, read = tmp_path / "kept", tmp_path / "read"
    first = write_dataset(tmp_path / "first", range(30))
    for index, keeps in ((kept, None), (read, False)):
        build_index(late.bundle, first, index, approximate_from=20, kept_regions=keeps)
    more, again = (write_dataset(tmp_path / f"m{seed}", range(25, 40), seed=seed) for seed in (5, 6))
    (tmp_path / "t.csv").write_text("product_id,price\n4,2\n28,3\n")
    changes: list[Callable[[Path], object]] = [
        lambda index: index,
        lambda index: add_products(index, more),
        lambda index: delete_products(index, [0, 5, 26, 39]),
        lambda index: add_products(index, again),
        lambda index: update_columns(index, tmp_path / "t.csv"),
        lambda index: delete_products(index, range(20, 40)),
        lambda index: add_products(index, more),
        compact_index,
    ]
    for change in changes:
        change(kept)
        change(read)
        assert (says_kept(kept), says_kept(read)) == (True, False)
        assert_same_scores(kept, read)
    bundle = Bundle.load(late.bundle)
    assert check(OpenIndex.open(kept), bundle).problems == ()
    assert check(OpenIndex.open(read), bundle).reranked_error is None
    assert len(OpenIndex.open(kept).parts) == 1


def test_kept_regions_are_those_that_the_model_makes(small: Shop, late_index: Path) -> None:
    compact_index(late_index)
    part = OpenIndex.open(late_index).parts[0]
    assert part.segment.kept is not None
    bundle, dataset = Bundle.load(small.bundle), Dataset(small.dataset)
    for row, product in enumerate(dataset.product_ids.tolist()):
        kept = keep_products(bundle.reranker, dataset, np.array([row]), boxes=False)
        assert kept is not None
        place = part.segment.rows_of(np.array([product]))
        found = part.segment.kept.take(place).regions
        np.testing.assert_allclose(found.astype(np.float32), kept.features.numpy(), atol=2**-12 + 1e-6)


def test_searching_needs_no_dataset_and_explaining_says_that_it_does(small: Shop, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", range(40))
    build_index(small.bundle, dataset, tmp_path / "index")
    wanted = late_hits(tmp_path / "index", "red shoe")
    shutil.rmtree(dataset)
    engine = SearchEngine.open(tmp_path / "index")
    assert late_hits(tmp_path / "index", "red shoe") == wanted
    assert engine.stats()["rerankers"] == ["late"]
    for asks in (lambda: engine.explain("red", 3), lambda: engine.similar_region(3, 0)):
        with pytest.raises(DataError, match=r"no such dataset.*bring it back there, or make the index again"):
            asks()


def test_an_index_without_kept_regions_reads_the_dataset_and_stays_so(small: Shop, tmp_path: Path) -> None:
    index = tmp_path / "index"
    build_index(small.bundle, small.dataset, index, kept_regions=False)
    assert len(late_hits(index, "red shoe")) == FEW
    add_products(index, write_dataset(tmp_path / "more", range(FEW, 40)))
    assert not says_kept(index)
    assert len(late_hits(index, "red shoe")) == 40


def test_an_open_engine_goes_on_and_reloads(small: Shop, late_index: Path, tmp_path: Path) -> None:
    engine = SearchEngine.open(late_index)
    wanted = engine.search("red shoe", rerank="late")
    add_products(late_index, write_dataset(tmp_path / "more", range(FEW), seed=8))
    compact_index(late_index)
    assert engine.search("red shoe", rerank="late") == wanted
    assert engine.reload()
    assert engine.search("red shoe", rerank="late") != wanted


def test_only_regions_that_the_model_looks_at_are_kept(small: Shop, tmp_path: Path) -> None:
    bundle = Bundle.load(small.bundle)
    bundle.model.largest = 2
    with whole_directory(tmp_path / "bundle", marker=MARKER) as folder:
        bundle.save_into(folder)
    for name, keeps in (("kept", None), ("read", False)):
        build_index(tmp_path / "bundle", small.dataset, tmp_path / name, kept_regions=keeps)
    assert_same_scores(tmp_path / "kept", tmp_path / "read")
    segment = OpenIndex.open(tmp_path / "kept").parts[0].segment
    assert segment.kept is not None
    shown = np.diff(segment.columns.region_bounds)
    np.testing.assert_array_equal(segment.kept.counts, np.minimum(shown, 2))


def test_smoothed_regions_are_kept_smoothed(small: Shop, tmp_path: Path) -> None:
    weights, words = (0.6, 0.3, 0.1), "red shoe"
    build_index(small.bundle, small.dataset, tmp_path / "index", smooth_regions=weights)
    bundle, dataset = Bundle.load(small.bundle), Dataset(small.dataset)
    rows = np.arange(FEW)
    photos = SmoothedRegions.of(dataset, weights, tmp_path).photos(rows, boxes=False)
    reranker, (query,) = find("late", bundle), read_queries([words], bundle)
    pool = Pool(dataset.product_ids, bundle.encode_products(photos), reranker.keep(photos))
    scores = reranker.score(query, pool)
    wanted = dict(zip(dataset.product_ids.tolist(), scores.tolist(), strict=True))
    found = {hit.product_id: hit.score for hit in late_hits(tmp_path / "index", words)}
    assert found == pytest.approx(wanted, abs=ROUNDING)


@pytest.mark.parametrize(("name", "lost"), [("vectors.f32", 5), (REGIONS_FILE, 7), (BOUNDS_FILE, 1), ("", 0)])
def test_interrupted_encoding_goes_on_behind_what_is_whole_in_all_files(
    small: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, lost: int
) -> None:
    monkeypatch.setattr("shopwindow.search.encoding.ENCODED_AT_ONCE", 8)
    build_index(small.bundle, small.dataset, tmp_path / "undisturbed")

    def interrupt(done: int, total: int) -> None:
        if done == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(small.bundle, small.dataset, tmp_path / "index", progress=interrupt)
    waits = {BOUNDS_FILE: "kept_counts.i64", REGIONS_FILE: "kept_regions.f16"}.get(name, name)
    if name:
        file = tmp_path / "index.indexing" / waits
        file.write_bytes(file.read_bytes()[:-lost])
    else:  # a kill between the files
        with (tmp_path / "index.indexing" / "kept_regions.f16").open("ab") as file_:
            file_.write(bytes(500))
    steps: list[int] = []
    build_index(small.bundle, small.dataset, tmp_path / "index", progress=lambda done, _: steps.append(done))
    assert steps[0] == (24 if not name else 16)  # a broken batch is encoded again, with equal bits
    assert files_of(tmp_path / "index") == files_of(tmp_path / "undisturbed")


def test_another_choice_does_not_take_what_waits(small: Shop, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for keeps in (False, None):
        with pytest.raises(KeyboardInterrupt):
            build_index(
                small.bundle, small.dataset, tmp_path / "index", kept_regions=keeps, progress=interrupt
            )
    build_index(small.bundle, small.dataset, tmp_path / "index")
    assert check(OpenIndex.open(tmp_path / "index"), Bundle.load(small.bundle)).problems == ()


@pytest.mark.parametrize("name", [BOUNDS_FILE, REGIONS_FILE])
@pytest.mark.parametrize("cut", [0, 1, 40, -1, -100, None])
def test_truncated_or_missing_file_is_named(late_index: Path, name: str, cut: int | None) -> None:
    file = next(late_index.glob(f"segments/*/{name}"))
    content = file.read_bytes()
    file.unlink()
    if cut is not None:
        file.write_bytes(content[:cut])
    with pytest.raises(DataError, match=name):
        SearchEngine.open(late_index)


@pytest.mark.parametrize("name", [BOUNDS_FILE, REGIONS_FILE, "vectors.npy"])
@pytest.mark.parametrize("place", [0, 8, 20, 60])
def test_a_damaged_header_is_named(late_index: Path, name: str, place: int) -> None:
    file = next(late_index.glob(f"segments/*/{name}"))
    content = bytearray(file.read_bytes())
    content[place] ^= 0x15
    file.unlink()  # a link: the original stays
    file.write_bytes(content)
    with pytest.raises(DataError, match=name):
        SearchEngine.open(late_index)


@pytest.mark.parametrize("name", [BOUNDS_FILE, "region_bounds.npy"])
@pytest.mark.parametrize(("row", "value"), [(0, -3), (0, 1), (1, -1), (2, 1 << 60), (-1, 0)])
def test_bounds_that_divide_nothing_are_named(late_index: Path, name: str, row: int, value: int) -> None:
    file = next(late_index.glob(f"segments/*/{name}"))
    bounds = np.load(file)
    bounds[row] = value
    file.unlink()  # a link: the original stays
    save_array(file, bounds)
    with pytest.raises(DataError, match=name):
        SearchEngine.open(late_index)


@pytest.mark.parametrize("name", [BOUNDS_FILE, REGIONS_FILE])
@pytest.mark.parametrize("change", [lambda a: a[:-1], lambda a: a.astype(np.float32), lambda a: a[..., None]])
def test_files_that_do_not_belong_together_are_refused(
    late_index: Path, name: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    file = next(late_index.glob(f"segments/*/{name}"))
    array = change(np.load(file))
    file.unlink()  # a link: the original stays
    save_array(file, array)
    with pytest.raises(DataError, match="kept_"):
        SearchEngine.open(late_index)


def test_an_index_that_says_otherwise_than_its_segments_is_refused(late_index: Path) -> None:
    content = json.loads((late_index / MANIFEST).read_text())
    (late_index / MANIFEST).write_text(json.dumps({**content, "kept_regions": None}))
    with pytest.raises(DataError, match="regions for re-ranking, the index says none"):
        SearchEngine.open(late_index)


def test_check_tells_damaged_regions_and_a_changed_model(small: Shop, late_index: Path) -> None:
    bundle = Bundle.load(small.bundle)
    compact_index(late_index)
    verdict = check(OpenIndex.open(late_index), bundle)
    assert verdict.problems == ()
    assert verdict.reranked_error == 0
    assert bundle.model.late is not None
    with torch.no_grad():
        bundle.model.late.share.mul_(1.01)
    problems = check(OpenIndex.open(late_index), bundle).problems
    assert [problem.split(":")[0] for problem in problems] == ["re-ranking"]
    file = next(late_index.glob(f"segments/*/{REGIONS_FILE}"))
    save_array(file, -np.load(file))
    problems = check(OpenIndex.open(late_index), Bundle.load(small.bundle)).problems
    assert [problem.split(":")[0] for problem in problems] == ["re-ranking", "index"]
    assert f"segments/{file.parent.name}: a file is lost or not as it was written" in problems[1]


def test_regions_of_no_numbers_make_no_index(small: Shop, tmp_path: Path) -> None:
    bundle = Bundle.load(small.bundle)
    assert bundle.model.late is not None
    with torch.no_grad():
        bundle.model.late.region.weight.fill_(torch.nan)
    with whole_directory(tmp_path / "bundle", marker=MARKER) as folder:
        bundle.save_into(folder)
    with pytest.raises(DataError, match="the model's region is not finite"):
        build_index(tmp_path / "bundle", small.dataset, tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_verb_says_what_regions_take(small: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = str(tmp_path / "index")
    dataset = Dataset(small.dataset)
    mean = round(16 * len(dataset.boxes(np.arange(FEW))) / FEW)  # 8 values of 2 bytes a region
    main(["index", "make", str(small.bundle), str(small.dataset), "--out", index])
    assert (
        f", 128 bytes a product; regions for --rerank late: {mean} bytes a product\n"
        in capsys.readouterr().out
    )
    main(["index", "check", index])
    assert ", re-ranked scores within 0, recall@10 1.000" in capsys.readouterr().out
    main(["index", "make", str(small.bundle), str(small.dataset), "--out", index, "--no-kept-regions"])
    assert "regions for" not in capsys.readouterr().out
    assert SearchEngine.open(index).stats()["kept_region_bytes_per_product"] == 0
