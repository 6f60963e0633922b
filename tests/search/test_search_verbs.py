"""index and search at the command line: what they print, and one clear line for wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shopwindow.cli import main
from shopwindow.data.dataset import Dataset
from shopwindow.ranking.measures import Measure, evaluate
from shopwindow.ranking.runs import read_run
from shopwindow.search.engine import SearchEngine
from shopwindow.search.evaluation import default_measures, rank_catalogue
from tests.search.catalogue import PRODUCTS, query_of, write_dataset
from tests.search.conftest import Shop


def run(*words: object) -> None:
    main([str(word) for word in words])


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as left:
        run(*words)
    assert left.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    return lines[-1]


def test_index_then_search_then_change(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = tmp_path / "index"
    run("index", shop.bundle, shop.dataset, "--out", index, "--labels", shop.labels, "--photos", shop.photos)
    said = capsys.readouterr().out
    assert (
        "300 products in 1 segments; float32, 32 of 32 values; 128 bytes a product; recall@10 1.000" in said
    )
    run("search", index, "red", "shoe", "--top", 3, "--json")
    hits = json.loads(capsys.readouterr().out)
    wanted = SearchEngine.open(index).search("red shoe", k=3)
    assert [hit["product_id"] for hit in hits] == [hit.product_id for hit in wanted]
    run("index", "--delete", index, "--ids", *[hit["product_id"] for hit in hits])
    run("index", write_dataset(tmp_path / "more", range(400, 410)), "--add", index)
    run("index", "--compact", index)
    run("index", "--check", index)
    said = capsys.readouterr().out
    assert "307 products in 1 segments" in said
    assert "vectors within" in said
    run("search", index, "red shoe", "--top", 3)
    table = capsys.readouterr().out
    assert len(table.strip().splitlines()) == 4
    assert not any(str(hit["product_id"]) in table.split() for hit in hits)


def test_small_codes_and_smoothing_by_option(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--precision", "binary", "--rescore", "int8", "--approximate-from", 100, "--smooth", "0.9,0.1"]
    run("index", shop.bundle, shop.dataset, "--out", tmp_path / "index", *options)
    assert "binary, 32 of 32 values; 4 bytes a product and 32 for re-scoring" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["index"], "one of --out, --add, --delete, --compact, --update, --check"),
        (["index", "a", "--out", "x"], "1 paths given"),
        (["index", "a", "b", "--out", "x", "--add", "y"], "one of --out"),
        (["index", "a", "b", "--out", "x"], "no bundle"),
        (["index", "--check", "nowhere"], "no index"),
        (["search", "nowhere", "red"], "no index"),
        (["search", "{index}"], "either words or --queries"),
        (["search", "{index}", " "], "no words to search for"),
        (["search", "{index}", "red", "--top", "0"], "at least 1 is wanted"),
        (["search", "{index}", "red", "--run", "x"], "--run: goes with --queries"),
        (["search", "{index}", "red", "--answers", "x"], "--answers: goes with --queries"),
        (["search", "{index}", "red", "--measures", "MRR"], "--measures: goes with --queries"),
        (["search", "{index}", "--queries", "{dataset}"], "--answers to measure"),
        (["index", "--delete", "{index}", "--ids", "777"], "no product 777 in the index"),
        (["index", "{bundle}", "{dataset}", "--out", "x", "--smooth", "a,b"], "wanted numbers with commas"),
        (["index", "{bundle}", "{dataset}", "--out", "x", "--dimensions", "0"], "at least 1"),
    ],
)
def test_wrong_input_is_one_line(
    shop: Shop,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"index": shop.index, "dataset": shop.dataset, "bundle": shop.bundle}
    assert says in refusal(capsys, *(word.format(**places) for word in words))


def test_whole_catalogue_is_measured_as_a_written_run_is(
    shop: Shop, engine: SearchEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = Dataset(shop.dataset)
    pairs = zip(dataset.pair_queries.tolist(), dataset.pair_products.tolist(), strict=True)
    answers: dict[str, list[int]] = {}
    for query, product in pairs:
        answers.setdefault(str(dataset.query_ids[query]), []).append(int(dataset.product_ids[product]))
    (tmp_path / "answers.json").write_text(json.dumps(answers))
    options = ["--queries", shop.dataset, "--answers", tmp_path / "answers.json", "--top", 20, "--json"]
    run("search", shop.index, *options, "--run", tmp_path / "search.run")
    said = json.loads(capsys.readouterr().out)
    from shopwindow.ranking.answers import read_answers

    found = evaluate(
        read_run(tmp_path / "search.run"), read_answers(tmp_path / "answers.json"), default_measures(20)
    )
    assert said["scores"] == {str(measure): found.mean(measure) for measure in default_measures(20)}
    assert said["catalogue"] == PRODUCTS
    by_hand = [
        len({hit.product_id for hit in engine.search(text, k=10)} & set(answers[str(query)]))
        / len(answers[str(query)])
        for query, text in zip(dataset.query_ids, dataset.query_texts, strict=True)
    ]
    assert said["scores"]["recall@10"] == pytest.approx(np.mean(by_hand))


def test_run_of_the_catalogue_is_what_each_query_finds(engine: SearchEngine) -> None:
    texts = [query_of(one) for one in (3, 4)]
    found = rank_catalogue(engine, np.array([5, 2]), texts, k=6)
    assert found.products_of(1).tolist() == [hit.product_id for hit in engine.search(texts[0], k=6)]
    assert default_measures(5) == (Measure("recall", 5), Measure("MRR", 5), Measure("nDCG", 5))
