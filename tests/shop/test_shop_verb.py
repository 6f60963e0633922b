"""The one command: a shop's own files in, a searched and measured shop out; what is done is kept."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from shopwindow.cli import main
from shopwindow.data.dataset import Dataset
from shopwindow.data.features import Features
from shopwindow.drawn.writing import draw_shop
from shopwindow.search.engine import SearchEngine

PRODUCTS = 90
QUICK = ["--backbone", "plain", "--recipe", "bow", "--set", "optimiser.epochs=2", "parts.0.width=32"]
STAGES = ["features", "dataset", "bundle", "index"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "shop"
    draw_shop(folder, products=PRODUCTS, seed=3)
    return folder


@pytest.fixture(scope="module")
def made(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop with clicks and judgements, which tests copy before they change it."""
    out = tmp_path_factory.mktemp("made") / "myshop"
    shop(drawn, out, "--clicks", str(drawn / "clicks.csv"), "--judgements", str(drawn / "judgements.csv"))
    return out


def shop(drawn: Path, out: Path, *options: str) -> None:
    main(["shop", str(drawn / "products.csv"), "--out", str(out), *QUICK, *options])


def states(out: Path) -> dict[str, int]:
    return {name: (out / name).stat().st_ino for name in STAGES}


def test_the_shop_is_searched_by_words_and_shows_titles(made: Path) -> None:
    engine = SearchEngine.open(made / "index")
    hits = engine.with_views(engine.search("red bag", k=3))
    assert len(hits) == 3
    titles = dict(
        zip(Features(made / "features").ids.tolist(), Features(made / "features").titles or [], strict=True)
    )
    assert all(hit.view is not None and hit.view.title == titles[hit.product_id] for hit in hits)


def test_hits_show_no_labels_where_every_photo_has_the_same(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["search", str(made), "red", "bag", "--top", "1"])
    assert capsys.readouterr().out.split()[:6] == ["rank", "product", "title", "score", "values", "photo"]


def test_the_folder_of_a_shop_stands_for_its_index_bundle_and_dataset(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["index", "check", str(made)])
    assert "golden queries: vectors within" in capsys.readouterr().out
    main(["export", "parquet", str(made), "--out", str(tmp_path / "vectors.parquet")])
    main(["index", "make", str(made), str(made), "--out", str(tmp_path / "index")])
    assert f"{PRODUCTS} products in 1 segment" in capsys.readouterr().out
    main(["rank", str(made), str(made), "--out", str(tmp_path / "x.run")])
    assert (tmp_path / "x.run").read_text().count("\n") == len(Dataset(made / "dataset").pair_products)


def test_both_tables_end_with_a_sentence_and_a_difference_of_the_two_is_told(
    drawn: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "again"
    shutil.copytree(made, out)
    shop(drawn, out, "--clicks", str(drawn / "clicks.csv"), "--judgements", str(drawn / "judgements.csv"))
    said = " ".join(capsys.readouterr().out.split())
    verdicts = json.loads((out / "shop.json").read_text())["verdicts"]
    sentences = [verdict["sentence"] for verdict in verdicts.values()]
    assert all(" ".join(sentence.split()) in said for sentence in sentences)
    served = {verdict["serve"] for verdict in verdicts.values()}
    assert served <= {"full text over titles", "trained", "trained + full text"}
    assert ("The two tables name different systems." in said) is (len(served) > 1)


def test_every_way_to_rank_is_in_the_table_with_its_interval_and_test(made: Path) -> None:
    verdicts = json.loads((made / "shop.json").read_text())["verdicts"]
    assert list(verdicts) == ["judgements", "test"]
    for verdict in verdicts.values():
        names = [system["name"] for system in verdict["systems"]]
        assert names == ["random", "popularity", "full text over titles", "trained", "trained + full text"]
        best = max(verdict["systems"], key=lambda system: system["nDCG@5"])
        for system in verdict["systems"]:
            assert system["low"] <= system["nDCG@5"] <= system["high"]
            assert system is best or system["best_other"] == best["name"]
            assert 0 <= system["p"] <= 1
    assert "erve" in verdicts["test"]["sentence"]


def test_what_is_made_of_the_same_is_kept(
    drawn: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "again"
    shutil.copytree(made, out)
    before, verdicts = states(out), json.loads((out / "shop.json").read_text())["verdicts"]
    shop(drawn, out, "--clicks", str(drawn / "clicks.csv"), "--judgements", str(drawn / "judgements.csv"))
    assert states(out) == before
    assert json.loads((out / "shop.json").read_text())["verdicts"] == verdicts
    assert capsys.readouterr().out.count("kept, nothing it is made of has changed") == 3


def test_another_recipe_trains_anew_and_prepares_nothing(drawn: Path, made: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    shutil.copytree(made, out)
    before = states(out)
    files = ["--clicks", str(drawn / "clicks.csv"), "--judgements", str(drawn / "judgements.csv")]
    shop(drawn, out, *files, "--set", "optimiser.seed=1")
    after = states(out)
    assert after["dataset"] == before["dataset"]
    assert after["bundle"] != before["bundle"]
    assert after["index"] != before["index"]


def test_a_new_photo_costs_one_photo(
    drawn: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, out = tmp_path / "own", tmp_path / "again"
    shutil.copytree(drawn, own)
    shutil.copytree(made, out)
    with (own / "products.csv").open("a", newline="") as file:
        csv.writer(file).writerow(["NEW-1", "Alder bag", "photos/new.jpg", "9.99", "red", "canvas"])
    photo = next((drawn / "photos").iterdir()).read_bytes()
    (own / "photos" / "new.jpg").write_bytes(photo + b"\0")  # other bytes, the same picture
    shop(own, out, "--clicks", str(own / "clicks.csv"))
    assert "photos encoded by this run 1" in " ".join(capsys.readouterr().out.split())
    assert "NEW-1" in Dataset(out / "dataset").product_ids.tolist()


def test_without_clicks_titles_teach_and_judgements_measure(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "myshop"
    shop(drawn, out, "--judgements", str(drawn / "judgements.csv"))
    said = capsys.readouterr().out
    assert "No clicks were given: phrases of the titles are the queries." in said
    verdicts = json.loads((out / "shop.json").read_text())["verdicts"]
    assert list(verdicts) == ["judgements"]
    assert " ".join(verdicts["judgements"]["sentence"].split()) in " ".join(said.split())


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line of a command that is refused before anything is written."""
    out = words[words.index("--out") + 1]
    with pytest.raises(SystemExit) as stopped:
        main(["shop", *words])
    assert stopped.value.code == 2
    assert not Path(out).exists()
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--clicks", "nope.csv"], "nope.csv"),
        (["--clicks", "products.csv"], "products.csv line 1: no column of the queries"),
        (["--judgements", "nope.csv"], "nope.csv"),
        (["--recipe", "shpo"], "no such recipe"),
        (["--set", "optimizer.epochs=1"], "optimizer"),
        (["--id", "Artikel"], "Artikel"),
        (["--backbone", "lite1"], "no backbone 'lite1': there are lite0, plain"),
    ],
)
def test_wrong_input_is_refused_before_photos_are_encoded(
    drawn: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(drawn)
    assert says in refused(capsys, "products.csv", "--out", str(tmp_path / "out"), *options)


def test_photos_alone_need_a_backbone_that_reads_text(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(drawn / "photos"), "--out", str(tmp_path / "out"), "--backbone", "plain"]
    assert "there are neither clicks nor titles" in refused(capsys, *words)


def test_too_few_judged_queries_end_with_an_index_and_no_table(
    drawn: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, few = tmp_path / "again", tmp_path / "few.csv"
    shutil.copytree(made, out)
    product = Dataset(out / "dataset").product_ids[0]
    few.write_text(f"query,id,relevant\nred bag,{product},1\nblue cap,{product},0\n")
    shop(drawn, out, "--clicks", str(drawn / "clicks.csv"), "--judgements", str(few))
    said = capsys.readouterr().out
    assert "judgements.csv: 1 query has no right product, and cannot be measured" in said
    assert "judgements.csv: 1 query, too few to compare anything" in said
    assert list(json.loads((out / "shop.json").read_text())["verdicts"]) == ["test"]


def test_a_folder_of_other_files_is_left_alone(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        shop(drawn, tmp_path)
    assert stopped.value.code == 2
    assert "holds other files" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]
