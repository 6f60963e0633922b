"""evaluate on an index: the whole catalogue is ranked by the engine and measured as any run is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shopwindow.cli import main
from shopwindow.data.dataset import Dataset
from shopwindow.ranking.answers import read_answers
from shopwindow.ranking.measures import Measure, evaluate
from shopwindow.ranking.runs import read_run
from shopwindow.search.building import build_index, delete_products
from shopwindow.search.engine import SearchEngine
from tests.search.catalogue import PRODUCTS
from tests.search.conftest import Shop, give_columns


def run(*words: object) -> None:
    main([str(word) for word in words])


@pytest.fixture(scope="module")
def right(shop: Shop) -> dict[str, list[int]]:
    """The products that each query is known to match."""
    dataset = Dataset(shop.dataset)
    answers: dict[str, list[int]] = {}
    for query, product in zip(dataset.pair_queries.tolist(), dataset.pair_products.tolist(), strict=True):
        answers.setdefault(str(dataset.query_ids[query]), []).append(int(dataset.product_ids[product]))
    return answers


@pytest.fixture(scope="module")
def answers(right: dict[str, list[int]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("answers") / "answers.json"
    path.write_text(json.dumps(right))
    return path


def test_whole_catalogue_is_measured_as_a_written_run_is(
    shop: Shop,
    engine: SearchEngine,
    right: dict[str, list[int]],
    answers: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "search.run"
    run("search", shop.index, "--queries", shop.dataset, "--top", 20, "--run", out)
    capsys.readouterr()
    run("evaluate", shop.index, answers, "--queries", shop.dataset, "--top", 20, "--json")
    said = json.loads(capsys.readouterr().out)
    (system,) = said["systems"]
    assert list(system["measures"]) == ["nDCG@10", "hit@1", "recall@10", "recall@20", "MRR@20"]
    measures = [Measure.parse(name) for name in system["measures"]]
    found = evaluate(read_run(out), read_answers(answers), measures)
    for measure in measures:
        assert system["measures"][str(measure)]["mean"] == found.mean(measure)
    dataset = Dataset(shop.dataset)
    by_hand = [
        len({hit.product_id for hit in engine.search(text, k=10)} & set(right[str(query)]))
        / len(right[str(query)])
        for query, text in zip(dataset.query_ids, dataset.query_texts, strict=True)
    ]
    assert system["measures"]["recall@10"]["mean"] == pytest.approx(np.mean(by_hand))
    assert said["audit"] is None
    assert said["notes"] == [f"index ranks the first 20 of {PRODUCTS} products"]


def test_settings_of_one_index_are_tested_against_each_other(
    shop: Shop, answers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_index(shop.bundle, shop.dataset, tmp_path / "leant", smooth=(0.3, 0.7))
    asked = ["--queries", shop.dataset, "--measures", "nDCG", "recall@10"]
    run("evaluate", shop.index, answers, *asked, "--hybrid", "--against", shop.index, tmp_path / "leant")
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "measure index hybrid index leant"
    assert [line.split()[0] for line in lines[1:3]] == ["nDCG@100", "recall@10"]
    assert f"index hybrid ranks the first 100 of {PRODUCTS} products" in lines
    assert "index hybrid against index" in lines
    assert "index hybrid against leant" in lines
    assert (
        sum(line.startswith("nDCG@100: the difference is significant") for line in lines) == 2
    )  # texts are the answers here
    plain, hybrid = (
        evaluate_alone(shop, answers, tmp_path / f"{name}.run", *options)
        for name, options in (("plain", []), ("hybrid", ["--hybrid"]))
    )
    capsys.readouterr()
    run("evaluate", shop.index, answers, *asked, "--hybrid", "--against", tmp_path / "plain.run", "--json")
    said = json.loads(capsys.readouterr().out)
    assert said["comparisons"][1]["difference"] == pytest.approx(hybrid - plain)


def evaluate_alone(shop: Shop, answers: Path, out: Path, *options: str) -> float:
    """recall@10 of a written run."""
    run("search", shop.index, "--queries", shop.dataset, "--run", out, *options)
    return evaluate(read_run(out), read_answers(answers), [Measure("recall", 10)]).mean("recall@10")


def test_only_judged_queries_are_asked_and_lost_answers_are_told(
    own_index: Path, right: dict[str, list[int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queries = tmp_path / "queries.tsv"
    queries.write_text("1\tred shoe\n2\tλέξη\n3\tbag\n")
    (tmp_path / "answers.json").write_text(json.dumps({"1": [4, 5], "2": [6]}))
    delete_products(own_index, [5])
    run("evaluate", own_index, tmp_path / "answers.json", "--queries", queries, "--top", 299)
    said = capsys.readouterr().out
    assert "judged queries that are not in the run, counted 0: 1, the first is 2" in said
    assert "index ranks all 299 products; 1 of 3 answers is not in the index" in said
    assert "recall@100" in said
    assert "MRR@299" in said


@pytest.mark.parametrize(
    ("condition", "ranked", "shallow"),
    [
        ("price>=2", "all 13 products that pass (of 300)", "at most 13 products of a query are ranked"),
        ("price=2", "1 product that passes (of 300)", "at most 1 product of a query is ranked"),
        ("price=1", "the first 100 of 287 products that pass (of 300)", None),
    ],
)
def test_how_many_products_pass_is_told(
    own_index: Path,
    shop: Shop,
    answers: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    condition: str,
    ranked: str,
    shallow: str | None,
) -> None:
    give_columns(
        own_index,
        "product_id,price",
        *(f"{one},{3 if one < 12 else 2 if one == 12 else 1}" for one in shop.ids),
    )
    asked = ["--queries", shop.dataset, "--where", condition]
    run("evaluate", own_index, answers, *asked)
    lines = capsys.readouterr().out.splitlines()
    assert f"index {condition} ranks {ranked}" in lines
    assert [
        line.partition(": ")[0] for line in lines if line.endswith("recall@100, MRR@100 see no more")
    ] == ([shallow] if shallow else [])
    run("search", own_index, *asked, "--run", tmp_path / "a.run")
    assert capsys.readouterr().out.endswith(f" queries, {ranked}\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["{index}", "{answers}"], "--queries: an index needs it"),
        (["{index}", "{answers}", "--queries", "{dataset}", "--pools", "x"], "--pools: goes with runs"),
        (["{index}", "{answers}", "--queries", "{dataset}", "--also", "x"], "--also: goes with runs"),
        (["a.run", "{answers}", "--queries", "{dataset}"], "--queries: goes with an index"),
        (["a.run", "{answers}", "--top", "5"], "--top: goes with an index"),
        (["a.run", "{answers}", "--hybrid"], "--hybrid: says how RUN is asked where it is an index"),
        (["a.run", "{answers}", "--labels", "3"], "--labels: says how RUN is asked"),
        (
            ["{index}", "{answers}", "--queries", "{dataset}", "--candidates", "9"],
            "--candidates: goes with --rerank",
        ),
        (["{index}", "{answers}", "--queries", "{dataset}", "--top", "0"], "--top: 0, at least 1"),
        (
            ["{index}", "{answers}", "--queries", "{dataset}", "--top", "5", "--measures", "nDCG@50"],
            "--top: nDCG@50 reads 50 places of a ranking, 5 are ranked",
        ),
        (["{dataset}", "{answers}", "--queries", "{dataset}"], "no index"),
        (["{index}", "{answers}", "--queries", "{index}"], "no dataset"),
        (["{index}", "{answers}", "--queries", "other.tsv"], "other.tsv: no query of it is in the answers"),
        (["{index}", "{answers}", "--queries", "twice.tsv"], "twice.tsv line 2: query 1 stands there twice"),
        (["{index}", "{answers}", "--queries", "broken.tsv"], "broken.tsv line 1: a query_id, a tab"),
        (["{index}", "{answers}", "--queries", "empty.tsv"], "empty.tsv: holds no query"),
    ],
)
def test_wrong_input_is_one_line(
    shop: Shop,
    answers: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.run").write_text("10000 Q0 1 1 1 a\n")
    Path("other.tsv").write_text("1\tred\n")
    Path("twice.tsv").write_text("1\tred\n1\tblue\n")
    Path("broken.tsv").write_text("1 red\n")
    Path("empty.tsv").write_text("query_id\tquery\n")
    places = {"index": shop.index, "dataset": shop.dataset, "answers": answers}
    with pytest.raises(SystemExit) as left:
        run("evaluate", *(word.format(**places) for word in words))
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line


def test_ranking_as_deep_as_the_deepest_measure(
    shop: Shop, answers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("evaluate", shop.index, answers, "--queries", shop.dataset, "--measures", "recall@250", "MRR")
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert lines[1:3] == ["recall@250", "MRR@250"]
