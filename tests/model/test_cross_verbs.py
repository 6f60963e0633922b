"""The commands that train a cross-encoder, re-rank with it and search with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shopwindow.cli import main
from shopwindow.cli.serve import reranking_of
from shopwindow.model.cross_reranker import CrossReranker
from shopwindow.ranking.answers import read_answers
from shopwindow.ranking.measures import Measure, evaluate
from shopwindow.ranking.runs import read_run
from shopwindow.search.engine import SearchEngine
from shopwindow.service.app import Service
from tests.model.conftest import TinyShop
from tests.model.test_cross_training import LEARNS, TINY
from tests.service.running import running

FIRST = 8


@pytest.fixture(scope="module")
def models(tiny_shop: TinyShop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `first`, a bundle, and `cross`, a cross-encoder whose negatives are of it."""
    folder = tmp_path_factory.mktemp("models")
    data = [
        str(tiny_shop.train.path),
        "--valid",
        str(tiny_shop.valid.path),
        "--answers",
        str(tiny_shop.answers),
    ]
    few = ("batches.size=32", "optimiser.epochs=2", "optimiser.validations=0.5")
    main(["train", *data, "--out", str(folder / "first"), "--recipe", "linear", "--set", *few])
    changes = [f"{name}={value}" for name, value in (TINY | LEARNS).items()]
    of_first = ("--first-stage", str(folder / "first"), "--device", "cpu")
    main(
        [
            "train",
            *data,
            "--out",
            str(folder / "cross"),
            "--recipe",
            "oscar-small",
            *of_first,
            "--set",
            *changes,
        ]
    )
    return folder


def test_a_run_is_reranked(models: Path, tiny_shop: TinyShop, capsys: pytest.CaptureFixture[str]) -> None:
    valid, runs = str(tiny_shop.valid.path), models / "runs"
    runs.mkdir()
    main(["rank", str(models / "first"), valid, "--out", str(runs / "plain.trec")])
    again = ("--rerank", str(models / "cross"), "--first", str(FIRST))
    main(["rank", str(models / "first"), valid, "--out", str(runs / "again.trec"), *again])
    plain, reranked = (read_run(runs / f"{name}.trec") for name in ("plain", "again"))
    for index in range(len(plain.queries)):
        before, after = (run.products_of(index).tolist() for run in (plain, reranked))
        assert before[FIRST:] == after[FIRST:]
        assert set(before[:FIRST]) == set(after[:FIRST])
    answers = read_answers(tiny_shop.answers)
    assert evaluate(reranked, answers).mean(Measure("nDCG", 5)) > 0.7
    assert any((plain.products_of(i) != reranked.products_of(i)).any() for i in range(len(plain.queries)))


def test_a_search_is_reranked(models: Path, tiny_shop: TinyShop, capsys: pytest.CaptureFixture[str]) -> None:
    index = models / "index"
    main(["index", "make", str(models / "first"), str(tiny_shop.valid.path), "--out", str(index)])
    capsys.readouterr()
    hits = []
    for options in ([], ["--rerank", str(models / "cross"), "--candidates", "12"]):
        main(["search", str(index), "red", "shoe", "--top", "12", "--json", *options])
        hits.append(json.loads(capsys.readouterr().out))
    plain, reranked = ([hit["product_id"] for hit in found] for found in hits)
    assert set(plain) == set(reranked)
    assert plain != reranked


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--recipe", "uniter-small", "--devices", "2"], "--devices: 2, a cross-encoder trains on 1"),
        (["--recipe", "uniter-small", "--set", "rank.depth=1"], "rank.depth: 1, from 7"),
        (
            ["--recipe", "small", "--first-stage", "x"],
            "--first-stage: goes with the recipe of a cross-encoder",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    words: list[str], says: str, tiny_shop: TinyShop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = [
        str(tiny_shop.train.path),
        "--valid",
        str(tiny_shop.valid.path),
        "--answers",
        str(tiny_shop.answers),
    ]
    with pytest.raises(SystemExit) as ended:
        main(["train", *data, "--out", str(tmp_path / "out"), *words])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_a_cross_encoder_teaches_a_model_of_one_vector(
    models: Path, tiny_shop: TinyShop, capsys: pytest.CaptureFixture[str]
) -> None:
    train, first, run = str(tiny_shop.train.path), str(models / "first"), str(models / "teacher.run")
    pools = ("--pools-from", first, "--nearest", "12", "--others", "6")
    again = ("--rerank", str(models / "cross"), "--first", "30")
    main(["rank", first, train, "--out", run, *pools, *again])
    taught = read_run(run)
    assert len(taught.queries) == len(tiny_shop.train.query_ids)
    assert 18 <= taught.depth <= 30
    data = [train, "--valid", str(tiny_shop.valid.path), "--answers", str(tiny_shop.answers)]
    few = ("batches.size=32", "optimiser.epochs=2", "optimiser.validations=0.5")
    words = ["train", *data, "--out", str(models / "pupil"), "--recipe", "linear", "--set", *few]
    main([*words, "teacher.temperature=0.4", "--teacher", run, run])
    pupil = json.loads((models / "pupil" / "bundle.json").read_text())
    assert pupil["provenance"]["teacher"]
    assert "temperature: 0.4" in (models / "pupil" / "recipe.yaml").read_text()
    for wrong, says in (
        (["rank", first, train, "--out", run, "--others", "3"], "goes with --pools-from"),
        ([*words, "teacher={}"], "the group teacher and a teacher's run go together"),
        ([*words[:-5], "oscar-small", "--teacher", run], "not with a cross-encoder"),
        ([*words, "batches.chunk=8", "--teacher", run], "a teacher looks at a whole batch"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(wrong)
        assert stopped.value.code == 2
        assert says in capsys.readouterr().err.replace("\n", " ")


def test_a_service_reranks_every_search_by_words(
    models: Path, tiny_shop: TinyShop, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    index = tmp_path / "index"
    main(["index", "make", str(models / "first"), str(tiny_shop.valid.path), "--out", str(index)])
    engine = SearchEngine.open(index)
    reranking = reranking_of(str(models / "cross"), 12, 60_000)
    assert isinstance(reranking.how, CrossReranker)
    assert reranking.how.budget_seconds == 60
    wanted = engine.search("red shoe", k=10, rerank=reranking.how, candidates=12)
    with running(Service(engine, reranking=reranking)) as client:
        for hits in (
            client.get("/search", params={"q": "red shoe", "k": 10}).json()["hits"],
            client.post("/search", json={"queries": ["red shoe"], "k": 10}).json()["answers"][0]["hits"],
        ):
            assert [hit["product_id"] for hit in hits] == [str(hit.product_id) for hit in wanted]
            assert [hit["score"] for hit in hits] == pytest.approx([hit.score for hit in wanted], abs=1e-5)
        own = client.get("/search", params={"q": "red shoe", "k": 10, "rerank": "smooth"}).json()["hits"]
        plain = engine.search("red shoe", k=10, rerank="smooth")
        assert [hit["product_id"] for hit in own] == [str(hit.product_id) for hit in plain]
        assert client.get(f"/products/{wanted[0].product_id}/similar").status_code == 200
    assert [hit.product_id for hit in wanted] != [hit.product_id for hit in engine.search("red shoe", k=10)]
    for words, says in (
        (["--budget", "50"], "--budget: goes with --rerank"),
        (["--rerank", "expand", "--budget", "50"], "--budget: goes with a cross-encoder"),
        (["--rerank", "magic"], "operator 'magic'"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["serve", str(index), *words])
        assert stopped.value.code == 2
        assert says in capsys.readouterr().err
