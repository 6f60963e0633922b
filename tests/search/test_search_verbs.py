"""index and search at the command line: what they print, and one clear line for wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shopwindow.cli import main
from shopwindow.cli.console import AlignedTable
from shopwindow.data.dataset import Dataset
from shopwindow.ranking.operators import Operator
from shopwindow.ranking.runs import read_run
from shopwindow.search.building import delete_products
from shopwindow.search.engine import SearchEngine
from shopwindow.search.evaluation import default_measures, rank_catalogue
from shopwindow.search.hits import Filter
from tests.search.catalogue import query_of, write_dataset
from tests.search.conftest import Shop, give_columns


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
    run(
        "index",
        "make",
        shop.bundle,
        shop.dataset,
        "--out",
        index,
        "--labels",
        shop.labels,
        "--photos",
        shop.photos,
    )
    said = capsys.readouterr().out
    assert "300 products in 1 segment\nvectors of 32 values, 128 bytes a product\nrecall@10 1.000" in said
    run("search", index, "red", "shoe", "--top", 3, "--json")
    hits = json.loads(capsys.readouterr().out)
    wanted = SearchEngine.open(index).search("red shoe", k=3)
    assert [hit["product_id"] for hit in hits] == [str(hit.product_id) for hit in wanted]
    run("index", "delete", index, *[hit["product_id"] for hit in hits])
    run("index", "add", index, write_dataset(tmp_path / "more", range(400, 410)))
    run("index", "compact", index)
    run("index", "check", index)
    said = capsys.readouterr().out
    assert "297 products in 1 segment (1 with deleted products)\n" in said
    assert "307 products in 2 segments (1 with deleted products)\n" in said
    assert "307 products in 1 segment\n" in said
    assert "vectors within" in said
    run("search", index, "red shoe", "--top", 3)
    table = capsys.readouterr().out
    assert len(table.strip().splitlines()) == 4
    assert not any(hit["product_id"] in table.split() for hit in hits)


def test_cells_and_smoothing_by_option(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--approximate-from", 100, "--smooth", "0.9,0.1"]
    run("index", "make", shop.bundle, shop.dataset, "--out", tmp_path / "index", *options)
    assert "32 values, 168 bytes a product\nrecall@10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["index"], "index: one of make, add, delete, compact, update, check is wanted"),
        (["index", "make", "a", "--out", "x"], "arguments are required: DATASET"),
        (["index", "make", "a", "b"], "arguments are required: --out"),
        (["index", "make", "a", "b", "--out", "x"], "no bundle"),
        (["index", "check", "nowhere"], "no index"),
        (["search", "nowhere", "red"], "no index"),
        (["search", "{index}"], "either words or --photo, or --queries"),
        (["search", "{index}", " "], "no words to search for"),
        (["search", "{index}", "red", "--top", "0"], "--top: 0, at least 1 is wanted"),
        (["search", "{index}", "red", "--candidates", "5"], "--candidates: goes with --rerank"),
        (["search", "{index}", "red", "--run", "x"], "--run: goes with --queries"),
        (["search", "{index}", "--queries", "{dataset}"], "--run: --queries needs it"),
        (["search", "{index}", "--queries", "{dataset}", "--run", "x", "--json"], "--json: goes with words"),
        (["search", "{index}", "--queries", "nowhere", "--run", "x"], "nowhere: no such file"),
        (["index", "delete", "{index}", "777"], "no product 777 in the index"),
        (
            ["index", "make", "{bundle}", "{dataset}", "--out", "x", "--smooth", "a,b"],
            "wanted numbers with commas",
        ),
        (
            ["index", "make", "a", "b", "--out", "x", "--approximate-from", "-1"],
            "--approximate-from: -1, at least 1",
        ),
        (["index", "add", "x", "a", "--precision", "int8"], "--precision: no such option"),
        (["index", "compact", "x", "--texts", "a"], "--texts: no such option"),
        (["serve", "{index}", "--threads", "0"], "--threads: 0, at least 1 is wanted"),
        (["serve", "{index}", "--seconds", "0"], "--seconds: 0.0, more than 0 is wanted"),
        (["serve", "{index}", "--seconds", "nan"], "nan"),
        (["serve", "{index}", "--requests-at-once", "0"], "--requests-at-once: 0, at least 1"),
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


def test_texts_are_counted_where_products_are_added_without(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = tmp_path / "index"
    some = write_dataset(tmp_path / "some", range(20))
    run("index", "make", shop.bundle, some, "--out", index, "--texts", some)
    assert "20 products in 1 segment, 20 with known texts\n" in capsys.readouterr().out
    run("index", "add", index, write_dataset(tmp_path / "more", range(15, 30)))
    assert (
        "30 products in 2 segments (1 with deleted products), 15 with known texts\n"
        in capsys.readouterr().out
    )
    run("index", "compact", index)
    assert "30 products in 1 segment, 15 with known texts\n" in capsys.readouterr().out
    assert SearchEngine.open(index).stats()["products_with_texts"] == 15


def test_unknown_words_and_labels_are_said_beside_the_output(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    run("search", shop.index, "ξένη", "red", "λέξη", "--top", 2)
    said = capsys.readouterr()
    assert said.err == "shopwindow: not known to the model: ξένη λέξη\n"
    assert len(said.out.splitlines()) == 3
    for more in ([], ["--hybrid"], ["--exact"], ["--rerank", "expand"]):
        run("search", shop.index, "ξένη", "λέξη", *more)
        said = capsys.readouterr()
        assert said == ("", "shopwindow: no word of the query is known to the model: ξένη λέξη\n")
    run("search", shop.index, "red", "--labels", 99, 98, "--json")
    said = capsys.readouterr()
    assert said == ("[]\n", "shopwindow: no product has a region of label 99 or 98\n")


def test_texts_alone_find_words_that_the_model_does_not_know(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from shopwindow.data.prepare import prepare
    from tests.data.rows import SIZE, make_line, make_product, write_tsv

    lines = [make_line(make_product(one, 2), "λέξη" if one == 3 else "red", one) for one in range(9)]
    prepare([write_tsv(tmp_path / "a.tsv", lines)], tmp_path / "ds", feature_size=SIZE)
    run(
        "index", "make", shop.bundle, tmp_path / "ds", "--out", tmp_path / "index", "--texts", tmp_path / "ds"
    )
    capsys.readouterr()
    run("search", tmp_path / "index", "λέξη", "--hybrid", "--json")
    said = capsys.readouterr()
    assert [hit["product_id"] for hit in json.loads(said.out)] == ["3"]
    assert (
        said.err == "shopwindow: no word of the query is known to the model: λέξη; found by full text alone\n"
    )


def test_run_of_many_queries_is_written_and_told(
    shop: Shop, engine: SearchEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, table = tmp_path / "a.run", tmp_path / "queries.tsv"
    table.write_text("query_id\tquery\n7\tred shoe\n3\tλέξη\n5\tbag\n")
    for options, asked in (
        (["--hybrid"], {"hybrid": True}),
        (["--labels", 3, 17], {"where": Filter(frozenset({3, 17}))}),
        (
            ["--exact", "--rerank", "expand", "--candidates", 40],
            {"rerank": Operator.parse("expand"), "candidates": 40},
        ),
    ):
        run("search", shop.index, "--queries", table, "--run", out, "--top", 6, *options)
        said = capsys.readouterr()
        passing = "40 products that pass (of 300)" if "where" in asked else "300 products"
        assert said.out == f"{out}: 2 queries, the first 6 of {passing}\n"
        assert said.err == "shopwindow: 1 query finds nothing: the run leaves them out\n"
        found = read_run(out)
        assert found.queries.tolist() == [5, 7]
        for place, words in enumerate(("bag", "red shoe")):
            hits = engine.search(words, k=6, **asked)
            assert found.products_of(place).tolist() == [hit.product_id for hit in hits]
    table.write_text("query_id\tquery\n3\tλέξη\n")
    out.unlink()
    with pytest.raises(SystemExit) as left:
        run("search", shop.index, "--queries", table, "--run", out)
    assert left.value.code == 2
    assert "none of the queries finds anything: no run is written" in capsys.readouterr().err
    assert not out.exists()
    run("search", shop.index, "--queries", shop.dataset, "--run", "-", "--top", 1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(Dataset(shop.dataset).query_ids)
    assert all(line.endswith(" index") for line in lines)


def test_words_that_no_product_has_are_told_with_those_most_like_them(
    own_index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{one},{('red', 'dark red', 'blue', 'b', 'c', 'grün')[one % 6]}" for one in range(60)]
    give_columns(own_index, "product_id,colour", *lines)
    delete_products(own_index, list(range(3, 60, 6)))  # those of b
    run("search", own_index, "red", "--where", "colour=RED")
    wanted = "no product has colour=RED; words of colour: red, dark red, blue, grün, c"
    assert capsys.readouterr().err == f"shopwindow: no product passes --where\nshopwindow: {wanted}\n"
    run("search", own_index, "red", "--where", "colour=b|x", "image_w<=1")
    assert "no product has colour=b|x; words of colour: blue, " in capsys.readouterr().err
    run("search", own_index, "red", "--where", "colour=RED|red", "image_w<=1")
    assert capsys.readouterr().err == "shopwindow: no product passes --where\n"
    run("search", own_index, "red", "--where", "colour=gru\u0308n", "--json")
    assert len(json.loads(capsys.readouterr().out)) == 10


def test_words_after_options_are_words(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    run("search", shop.index, "red", "shoe", "--top", 3, "--where", "image_w<=800", "--json")
    wanted = capsys.readouterr().out
    run("search", shop.index, "--where", "IMAGE_W<801", "red", "--top", 3, "shoe", "--json")
    assert capsys.readouterr().out == wanted
    run("search", shop.index, "--labels", 0, 1, "red", "--json", "shoe")
    assert len(json.loads(capsys.readouterr().out)) == 10
    assert "--where: condition 'red'" in refusal(capsys, "search", shop.index, "--where", "red")


def test_words_and_names_with_brackets_are_shown_as_they_are(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index, labels = tmp_path / "index", tmp_path / "labels.txt"
    labels.write_text(
        "category_id\tcategory_name\n" + "".join(f"{one}\t[bold]A[/bold]:bag:\n" for one in range(64))
    )
    columns = tmp_path / "columns.csv"
    columns.write_text("product_id,size\n" + "".join(f"{one},[/x]\n" for one in shop.ids))
    run("index", "make", shop.bundle, shop.dataset, "--out", index, "--labels", labels, "--columns", columns)
    capsys.readouterr()
    run("search", index, "red", "--top", 2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all("[bold]A[/bold]:bag:" in line and "size [/x]" in line for line in lines[1:])


def test_a_table_keeps_each_cell_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    table = AlignedTable(["[red]", "n"])
    table.add_row("a\nb\x1b[31m", "[/]")
    table.show()
    assert capsys.readouterr().out == "[red]           n\na\\nb\\x1b[31m  [/]\n"


def test_help_says_what_may_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("search", "--help")
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("usage: shopwindow ")
    assert "[INDEX] [WORDS ...]" in said
    assert "WORDS What a shopper would type. options:" in said


def test_run_of_the_catalogue_is_what_each_query_finds(engine: SearchEngine) -> None:
    texts = [query_of(one) for one in (3, 4)]
    found = rank_catalogue(engine, np.array([5, 2]), texts, k=6)
    assert found.products_of(1).tolist() == [hit.product_id for hit in engine.search(texts[0], k=6)]
    wanted = "nDCG@10 hit@1 recall@10 recall@100 MRR@200"
    assert " ".join(map(str, default_measures(200))) == wanted
    assert " ".join(map(str, default_measures(5))) == "nDCG@5 hit@1 recall@5 MRR@5"
