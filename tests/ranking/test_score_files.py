"""Score files and answers as other systems write them: each is the same run, or is named with line and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shopwindow.cli.systems import overlap_notes, read_queries, read_scores
from shopwindow.data.weights import WeightTable
from shopwindow.files import DataError
from shopwindow.ranking.answers import read_answers
from shopwindow.ranking.pools import read_pools
from shopwindow.ranking.runs import Run, read_run

ROWS = [("1", "7", 0.5), ("1", "8", 0.75), ("2", "8", -1.0)]


def rows(run: Run) -> list[tuple[str, str, float]]:
    queries = [
        query
        for query, count in zip(run.queries, run.offsets[1:] - run.offsets[:-1], strict=True)
        for _ in range(count)
    ]
    return sorted(zip(map(str, queries), map(str, run.product_ids), run.scores.tolist(), strict=True))


def made(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        "query_id,product_id,prediction\n1,7,0.5\n1,8,0.75\n2,8,-1\n",
        "query-id\tproduct-id\ttwo words\n1\t7\t0.5\n1\t8\t0.75\n2\t8\t-1\n",
        "qid;docno;sim\n1;7;0.5\n1;8;0.75\n2;8;-1\n",
        "1;7;0.5\n1;8;0.75\n2;8;-1\n",
        "score,query_id,product_id\n0.5,1,7\n0.75,1,8\n-1,2,8\n",
        "\ufeffquery_id,product_id,score\r\r\n1,7,0.5\r\r\n1,8,0.75\r\r\n2,8,-1\r\r\n",
        'query_id,product_id,title,score\n1,7,"a, ""b""\nand c",0.5\n1,8,"x",0.75\n2,8,,-1\n',
        json.dumps({"1": {"7": 0.5, "8": 0.75}, "2": {"8": -1}}, indent=1),
        "1,\"[[0.5, '7'], [0.75, '8']]\"\n2,\"[[-1.0, '8']]\"\n",
        "1,[[0.5,'7'],[0.75,'8']]\n2,[[-1,'8']]\n",
        "1\t[(0.5, 7), (0.75, 8)]\n2\t[(-1, 8)]\n",
    ],
)
def test_one_run_in_many_forms(tmp_path: Path, content: str) -> None:
    assert rows(read_run(made(tmp_path / "a", content))) == ROWS


def test_parquet_is_a_run_too(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "q_id": [1, 1, 2],
        "doc_id": ["7", "8", "8"],
        "score": [0.5, 0.75, -1.0],
        "rank": [1, 2, 3],
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert rows(read_scores(str(tmp_path / "a.parquet"))) == ROWS
    for wrong, says in (
        ({"a": [1]}, "were wanted"),
        ({**columns, "doc_id": ["7", None, "8"]}, "row 2: is empty"),
    ):
        pq.write_table(pa.table({name: values[:3] for name, values in wrong.items()}), tmp_path / "b.parquet")
        with pytest.raises(DataError, match=says):
            read_scores(str(tmp_path / "b.parquet"))
    made(tmp_path / "c.parquet", b"PAR1 and nothing")
    with pytest.raises(DataError, match="broken Parquet"):
        read_scores(str(tmp_path / "c.parquet"))


def test_a_submission_is_a_run(tmp_path: Path) -> None:
    path = made(tmp_path / "s.csv", "query-id,product1,product2\n1,8,7\n2,9,8\n")
    assert rows(read_run(path)) == [("1", "7", 0.5), ("1", "8", 1.0), ("2", "8", 0.5), ("2", "9", 1.0)]


def test_the_column_of_the_scores_can_be_named(tmp_path: Path) -> None:
    text = "query_id,product_id,Score-A,score_b\n1,7,0.5,3\n1,8,0.75,2\n2,8,-1,1\n"
    path = made(tmp_path / "a.csv", text)
    assert rows(read_run(path, score_column="score-a")) == ROWS
    with pytest.raises(
        DataError, match=r"line 1: no column score; --score-column NAME takes one of: score_a, score_b"
    ):
        read_run(path)
    with pytest.raises(DataError, match="line 1: a header was wanted that names query_id, product_id, other"):
        read_run(path, score_column="other")


def test_a_cell_may_be_longer_than_the_csv_module_takes(tmp_path: Path) -> None:
    text = f'query_id,product_id,features,score\n1,7,"{"A" * 140_000}",0.5\n'
    path = made(tmp_path / "a.csv", text)
    assert rows(read_run(path)) == [("1", "7", 0.5)]
    assert len(read_pools(path)) == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("query_id,product_id,score,score\n1,7,1,2\n", "line 1: column 'score' stands twice in the header"),
        ("query_id,product_id,Product-ID,score\n1,7,1,2\n", "line 1: column 'product_id' stands twice"),
        ('query_id,product_id,score\n1,"7,1\n1,8,2\n', "line 2: no CSV: unexpected end of data"),
        ('query_id,product_id,score\n1,7,1\n1,"8"x,2\n', "line 3: no CSV: "),
        ("1;2;3,1;2\n", "line 1: wanted 3"),
        ("1;2,5;3,1\n", "line 1: commas and semicolons both part it into a row: give a header"),
        ('{"1": {"7": "x"}}', 'query 1: product 7: "x" is no score'),
        ('{"1": [7]}', "query 1: {product: score} was wanted, got \\[7\\]"),
        ('{"1": {"7": 1, "7": 2}}', "query 7: occurs twice"),
        ('{"1": {"7": NaN}}', "query 1, score: nan cannot be ranked"),
        ('{"1": {"7": 1' + "0" * 400 + "}}", "query 1: product 7: the score is too large"),
        ('{"1": {"7": 1' + "0" * 5000 + "}}", "broken JSON: Exceeds the limit"),
        ("[" * 10 + '{"1":', "line 1: wanted 3"),
        ('{"1": ' + "[" * 200_000, "broken JSON: nested too deep"),
        ("1,[[0.5,'7']]\n2,nothing\n", "line 2: query,\\[\\[score,'product'\\],...\\] was wanted"),
        ("1,[[0.5,'7'],[x,'8']]\n", "line 1: \\[score,'product'\\] was wanted, got"),
        ("query-id,product1\n1,2,3\n", "line 2: 2 products, the header has 1"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, content: str, says: str) -> None:
    path = made(tmp_path / "a", content)
    with pytest.raises(DataError, match=says) as caught:
        read_run(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("other", ["101.0", "1E+08", "1.01e+2"])
def test_ids_that_changed_their_spelling_are_named(tmp_path: Path, other: str) -> None:
    table = made(tmp_path / "a.csv", f"query_id,product_id,score\n1,100,1\n1,{other},2\n2,102,1\n")
    for read in (read_run, read_pools):
        with pytest.raises(DataError, match=r"line 3, product_id: '.*' among integers"):
            read(table)
    lists = made(tmp_path / "a.json", json.dumps({"1": ["100", other], "2": ["102"]}))
    with pytest.raises(DataError, match="among integers"):
        read_answers(lists)
    grades = made(tmp_path / "b.json", json.dumps({"1": {"100": 1, other: 1}, "2": {"102": 1}}))
    for read_json in (read_answers, read_run):
        with pytest.raises(DataError, match=r"query 1, product_id: '.*' among integers"):
            read_json(grades)


def test_text_ids_beside_numbers_stay_text(tmp_path: Path) -> None:
    path = made(tmp_path / "a.csv", "1,00123,1\n1,1E5,2\n1,v1.0,2\n1,1.0,4\n1,7,3\n")
    assert sorted(map(str, read_run(path).product_ids)) == ["00123", "1.0", "1E5", "7", "v1.0"]


@pytest.mark.parametrize(
    "content",
    [
        "query-id\tcorpus-id\tscore\n1\t7\t2\n2\t8\t0\n",
        "query_id,product_id,relevance\n1,7,2\n2,8,0\n",
        '{"1": {"7": 2}, "2": {"8": 0}}',
        "1 0 7 2\n2 0 8 0\n",
    ],
)
def test_answers_in_many_forms(tmp_path: Path, content: str) -> None:
    answers = read_answers(made(tmp_path / "a", content))
    assert answers.queries.tolist() == [1, 2]
    assert answers.grades.tolist() == [2.0, 0.0]
    assert answers.counts.tolist() == [1, 0]


def test_a_run_is_not_taken_for_answers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 1"):
        read_answers(made(tmp_path / "a", "query_id,product_id,score\n1,7,0.5\n"))


@pytest.mark.parametrize(
    "content",
    [
        "product_id;query_id;weight\n7;1;2\n",
        '"product_id","query_id","weight"\r\r\n"7","1","2"\r\r\n',
        "Product-ID\tquery_id\tweight\n7\t1\t2\n",
    ],
)
def test_weights_are_read_by_the_same_rules(tmp_path: Path, content: str) -> None:
    with WeightTable(made(tmp_path / "a", content), tmp_path) as weights:
        assert weights.of(7, 1) == 2.0


def test_queries_are_read_by_the_same_rules(tmp_path: Path) -> None:
    for content in (
        'query_id,query\n1,"red, ""big"" bag"\n',
        '1\tred, "big" bag\n',
        'query_id\tquery\n1\tred, "big" bag\n',
    ):
        ids, texts = read_queries(str(made(tmp_path / "a", content)))
        assert (ids.tolist(), texts) == ([1], ['red, "big" bag'])


def test_runs_that_hardly_share_products_are_remarked_on(tmp_path: Path) -> None:
    one = read_run(made(tmp_path / "one", "1,100,1\n1,101,2\n2,100,1\n"))
    floats = read_run(made(tmp_path / "floats", "1,100.0,1\n1,101.0,2\n2,100.0,1\n"))
    other = read_run(made(tmp_path / "other", "3,100.0,1\n"))
    (note,) = overlap_notes([one, floats, other, one])
    assert note.startswith("floats and one share 0 of 3 products under the same queries")


def test_a_header_of_very_many_columns_is_told_at_once(tmp_path: Path) -> None:
    same = made(tmp_path / "a.csv", ",".join(["a"] * 200_000) + "\n")
    other = made(
        tmp_path / "b.csv", "query_id,product_id," + ",".join(f"c{one}" for one in range(200_000)) + "\n"
    )
    for path in (same, other):
        with pytest.raises(DataError) as told:
            read_run(path)
        assert len(str(told.value)) < 1000
