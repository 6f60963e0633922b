"""The first products of a search, scored anew, score what `rank` gives the same pool."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shopwindow.cli import main
from shopwindow.data.dataset import Dataset
from shopwindow.data.prepare import prepare
from shopwindow.data.regions import Regions
from shopwindow.files import DataError
from shopwindow.model.bundle import Bundle
from shopwindow.model.rank import rank_pools
from shopwindow.model.rerankers import Pool, Query, find
from shopwindow.ranking.runs import Run
from shopwindow.search.building import build_index
from shopwindow.search.engine import SearchEngine
from shopwindow.search.evaluation import rank_catalogue
from shopwindow.search.hits import Hit
from tests.data.rows import SIZE, make_line, make_product, write_tsv
from tests.search.catalogue import PRODUCTS, write_dataset
from tests.search.conftest import Shop

WORDS = ["red shoe", "small lamp", "green bag summer"]
ROUNDING = 2**-12
"""Of a late score whose regions are kept in float16: share 0.5 x 2^-11, what rounding takes of a cosine at most."""
OPERATORS = ["smooth", "expand:3,2", "reciprocal:10,4,0.3"]


def pool_run(shop: Shop, folder: Path, words: str, hits: list[Hit], rerank: str) -> Run:
    """What `rank` gives the products of hits as the pool of the words."""
    lines = [
        make_line(make_product(hit.product_id, 1 + hit.product_id % 4, seed=seed_of(shop, hit)), words, 1)
        for hit in hits
    ]
    prepare([write_tsv(folder / "pool.tsv", lines)], folder / "pool", feature_size=SIZE)
    bundle = Bundle.load(shop.bundle)
    return rank_pools(bundle, Dataset(folder / "pool"), reranker=find(rerank, bundle))


def seed_of(shop: Shop, hit: Hit) -> int:
    """The products from 290 on of the shop with late interaction are those of its second dataset."""
    return 5 if hit.product_id >= 290 and shop.index.parent.name.startswith("late") else 0


def assert_same_order(hits: list[Hit], run: Run, within: float = 2e-5) -> None:
    assert [hit.product_id for hit in hits] == run.products_of(0).tolist()
    # rank sums float32 numbers in float32, search in float64
    scores = dict(zip(run.product_ids.tolist(), run.scores.tolist(), strict=True))
    for hit in hits:
        assert hit.score == pytest.approx(scores[hit.product_id], abs=within)


@pytest.mark.parametrize("words", WORDS)
def test_late_scores_are_those_of_rank(late: Shop, tmp_path: Path, words: str) -> None:
    engine = SearchEngine.open(late.index)
    plain = engine.search(words, k=60)
    hits = engine.search(words, k=60, rerank="late", candidates=60)
    assert {hit.product_id for hit in plain} == {hit.product_id for hit in hits}
    assert any(hit.product_id >= 290 for hit in hits)
    assert [hit.product_id for hit in plain] != [hit.product_id for hit in hits]
    assert_same_order(hits, pool_run(late, tmp_path, words, plain, "late"), ROUNDING)


@pytest.mark.parametrize("text", OPERATORS)
def test_operator_scores_are_those_of_rank(
    shop: Shop, engine: SearchEngine, tmp_path: Path, text: str
) -> None:
    for number, words in enumerate(WORDS):
        (tmp_path / str(number)).mkdir()
        plain = engine.search(words, k=40)
        hits = engine.search(words, k=40, rerank=text, candidates=40)
        assert_same_order(hits, pool_run(shop, tmp_path / str(number), words, plain, text))


@pytest.mark.parametrize("how", ["late", "smooth"])
def test_many_and_the_catalogues_run_are_what_each_search_gives(shop: Shop, late: Shop, how: str) -> None:
    engine = SearchEngine.open((late if how == "late" else shop).index)
    for exact in (False, True):
        many = engine.search_many(WORDS, k=5, rerank=how, candidates=30, exact=exact)
        run = rank_catalogue(engine, np.arange(3), WORDS, k=5, rerank=how, candidates=30, exact=exact)
        for query, (words, hits) in enumerate(zip(WORDS, many, strict=True)):
            alone = engine.search(words, k=5, rerank=how, candidates=30, exact=exact)
            assert [hit.product_id for hit in hits] == [hit.product_id for hit in alone]
            assert run.products_of(query).tolist() == [hit.product_id for hit in alone]


def test_hybrid_candidates_get_the_scores_of_the_pool(engine: SearchEngine) -> None:
    fused = engine.search("red shoe", k=20, hybrid=True)
    hits = engine.search("red shoe", k=20, hybrid=True, rerank="smooth:1", candidates=20)
    assert {hit.product_id for hit in hits} == {hit.product_id for hit in fused}
    plain = {hit.product_id: hit.score for hit in engine.search("red shoe", k=PRODUCTS)}
    assert [hit.score for hit in hits] == pytest.approx([plain[hit.product_id] for hit in hits], abs=1e-6)


def test_candidates_say_how_many_are_scored_anew(engine: SearchEngine) -> None:
    how = "smooth:0.5,0.5"
    first = {hit.product_id for hit in engine.search("red", k=7)}
    assert {hit.product_id for hit in engine.search("red", k=3, rerank=how, candidates=7)} <= first
    assert {hit.product_id for hit in engine.search("red", k=7, rerank=how, candidates=1)} == first
    with pytest.raises(ValueError, match="candidates 0: at least 1"):
        engine.search("red", rerank=how, candidates=0)


@pytest.mark.parametrize("text", ["late", "expand"])
def test_reranking_that_does_not_fit_the_model_is_refused(shop: Shop, late: Shop, text: str) -> None:
    engine = SearchEngine.open((shop if text == "late" else late).index)
    says = "has no reranker of its own" if text == "late" else "takes no operator, only late"
    with pytest.raises(ValueError, match=says):
        engine.search("red", rerank=text)
    with pytest.raises(ValueError, match=says):
        engine.search_many(["red", "shoe"], rerank=text)


class FewestRegions:
    """A reranker of one's own: keeps the regions as they are, and prefers products with few."""

    name = "fewest"
    kept_values = SIZE

    def keep(self, regions: Regions) -> Regions | None:
        return regions

    def score(self, query: Query, pool: Pool) -> np.ndarray:
        assert pool.kept is not None
        assert query.text == "red shoe"
        assert query.tokens.size > 2
        return -pool.kept.counts.numpy().astype(np.float64)


def test_a_reranker_of_ones_own_gets_what_it_keeps_product_by_product(late: Shop) -> None:
    engine = SearchEngine.open(late.index)  # keeps regions for another reranker, so the datasets are read
    hits = engine.search("red shoe", k=60, rerank=FewestRegions(), candidates=60)
    plain = [hit.product_id for hit in engine.search("red shoe", k=60)]
    regions = {one: len(engine.product(one).boxes) for one in plain}
    assert [hit.product_id for hit in hits] == sorted(plain, key=lambda one: (regions[one], one))
    assert [hit.score for hit in hits] == [-regions[hit.product_id] for hit in hits]
    assert any(hit.product_id >= 290 for hit in hits)


def test_a_search_tokenises_its_words_once(late: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, asked = SearchEngine.open(late.index), list[list[str]]()
    tokenise = Bundle.tokenise

    def counted(self: Bundle, texts: list[str]) -> list[np.ndarray]:
        asked.append(texts)
        return tokenise(self, texts)

    monkeypatch.setattr(Bundle, "tokenise", counted)
    assert engine.search("red shoe", rerank="late")
    assert asked == [["red shoe"]]


def test_late_scores_of_raw_regions_do_not_mix_with_vectors_of_smoothed_ones(
    late: Shop, tmp_path: Path
) -> None:
    weights = (0.7, 0.2, 0.1)
    build_index(late.bundle, late.dataset, tmp_path / "index", smooth_regions=weights, kept_regions=False)
    engine = SearchEngine.open(tmp_path / "index")
    assert engine.search("red")
    with pytest.raises(ValueError, match="vectors of this index are of smoothed regions"):
        engine.search("red", rerank="late")


def test_vanished_regions_are_said(late: Shop, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "ds", range(20))
    build_index(late.bundle, dataset, tmp_path / "index", kept_regions=False)
    engine = SearchEngine.open(tmp_path / "index")
    open_before = SearchEngine.open(tmp_path / "index")
    wanted = open_before.search("red", rerank="late")
    write_dataset(dataset, range(20), seed=9)
    with pytest.raises(DataError, match="was replaced since the index was made"):
        engine.search("red", rerank="late")
    assert open_before.search("red", rerank="late") == wanted  # its files are still mapped


def test_late_is_offered_only_of_the_regions_that_were_indexed(late: Shop, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", range(40))
    build_index(late.bundle, dataset, tmp_path / "index", kept_regions=False)
    before, blind = SearchEngine.open(tmp_path / "index"), SearchEngine.open(tmp_path / "index")
    assert before.stats()["rerankers"] == ["late"]
    shutil.rmtree(dataset)
    write_dataset(dataset, range(40), seed=9)
    assert before.stats()["rerankers"] == ["late"]
    assert before.search("red", rerank="late")
    assert blind.stats()["rerankers"] == []
    with pytest.raises(DataError, match="was replaced since the index was made"):
        blind.search("red", rerank="late")
    shutil.rmtree(dataset)
    assert SearchEngine.open(tmp_path / "index").stats()["rerankers"] == []


def test_verb_reranks_and_measures(late: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["search", str(late.index), "red", "shoe", "--rerank", "late", "--candidates", "30", "--json"])
    hits = json.loads(capsys.readouterr().out)
    wanted = SearchEngine.open(late.index).search("red shoe", rerank="late", candidates=30)
    assert [(one["product_id"], one["score"]) for one in hits] == [
        (str(h.product_id), h.score) for h in wanted
    ]
    words = [
        "--queries",
        str(late.dataset),
        "--rerank",
        "late",
        "--top",
        "5",
        "--run",
        str(tmp_path / "a.run"),
    ]
    main(["search", str(late.index), *words])
    assert " index_late\n" in (tmp_path / "a.run").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["red", "--rerank", "nearest"], "or late, where the model has it"),
        (["red", "--rerank", "expand:0,1"], "at least 1"),
        (["red", "--rerank", "late"], "this model has no reranker of its own"),
        (["red", "--rerank", "expand", "--candidates", "0"], "--candidates: 0, at least 1"),
    ],
)
def test_wrong_reranking_is_one_line(
    shop: Shop, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["search", str(shop.index), *words])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1
