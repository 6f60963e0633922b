"""Runs: read in every shape, kept in ranking order, written without loss; wrong ones are named by line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopwindow.files import DataError
from shopwindow.ranking.runs import Run, read_run, write_run

Rows = list[tuple[object, object, float]]


def rows(run: Run) -> Rows:
    return list(zip(run.query_ids.tolist(), run.product_ids.tolist(), run.scores.tolist(), strict=True))


def made(tmp_path: Path, content: str | bytes, name: str = "a.tsv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


COUNTED: Rows = [(1, 30, 2.0), (1, 9, 1.5), (1, 100, 1.5), (2, 9, -1.0)]
TABLE = "1\t100\t1.5\n2\t9\t-1\n1\t9\t1.5\n1\t30\t2\n"


def test_higher_score_comes_first_and_tied_scores_rank_by_product_id(tmp_path: Path) -> None:
    run = read_run(made(tmp_path, TABLE))
    assert rows(run) == COUNTED
    assert run.ranks.tolist() == [1, 2, 3, 1]
    assert run.offsets.tolist() == [0, 3, 4]
    assert run.products_of(0).tolist() == [30, 9, 100]
    assert run.product_ids.dtype == np.int64


@pytest.mark.parametrize(
    "content",
    [
        TABLE,
        TABLE.replace("\t", ","),
        TABLE.replace("\t", "  "),
        TABLE.replace("\n", "\r\n"),
        "\ufeff" + TABLE,
        "\n" + TABLE.replace("\n", "\n\n"),
        TABLE.rstrip("\n"),
        "query_id\tproduct_id\tscore\n" + TABLE,
        "Query-ID,product-id,score\n" + TABLE.replace("\t", ", "),
        'query_id,product_id,score\n"1","100",1.5\n"2",9,-1\n1,9,"1.5"\n1,30,2\n',
        "score\tnote\tproduct_id\tquery_id\n1.5\ta\t100\t1\n-1\tb\t9\t2\n1.5\t\t9\t1\n2\td\t30\t1\n",
        "1 Q0 100 1 1.5 tag\n2 Q0 9 1 -1 tag\n1 Q0 9 77 1.5 tag,1\n1 Q0 30 99 2e0 tag\n",
    ],
)
def test_one_run_reads_the_same_in_every_shape(tmp_path: Path, content: str) -> None:
    assert rows(read_run(made(tmp_path, content))) == COUNTED
    assert rows(read_run(made(tmp_path, gzip.compress(content.encode()), "b.tsv.gz"))) == COUNTED


def test_ids_of_other_systems_are_text(tmp_path: Path) -> None:
    run = read_run(made(tmp_path, "q10 Q0 d1 1 2.0 x\nq9 Q0 007 1 2.0 x\n"))
    assert rows(run) == [("q10", "d1", 2.0), ("q9", "007", 2.0)]


def test_integers_with_leading_zeros_or_beyond_64_bits_are_text(tmp_path: Path) -> None:
    run = read_run(made(tmp_path, "07 99999999999999999999 1\n7 1 1\n"))
    assert rows(run) == [("07", "99999999999999999999", 1.0), ("7", "1", 1.0)]


def test_one_text_id_late_in_a_long_file_makes_the_column_text(tmp_path: Path) -> None:
    lines = [f"{row} {row} 0.5" for row in range(1000)] + ["x 1 0.5"]
    run = read_run(made(tmp_path, "\n".join(lines)))
    assert run.queries.dtype.kind == "U"
    assert run.product_ids.dtype == np.int64
    assert set(run.queries.tolist()) == {"x", *map(str, range(1000))}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("query_id,product_id,score\n", "has a header and no rows"),
        ("1\t2\n", "line 1: wanted 3 (query_id product_id score) or 6 (TREC"),
        ("1 2 3 4\n", "got 1 by tabs, 1 by commas, 1 by semicolons, 4 by spaces"),
        (
            "a,b,c\n1,2,3\n",
            "line 1, score: 'c' is not a number (a header would name query_id product_id score)",
        ),
        ("1\t2\t0.5\n1,3,0.5\n", "line 2: fields are parted by commas, in the first line by tabs"),
        ("1\t2\t0.5\n1\t3\n", "line 2: 2 fields parted by tabs, the first line has 3"),
        ("1\t2\t0.5\n\n1\t3\tx\n", "line 3, score: 'x' is not a number"),
        ("1\t2\t0.5\n1\t3\t1_0\n", "line 2, score: '1_0' is not a number"),
        ("1\t2\t0.5\n\n1\t3\tnan\n", "line 3, score: nan cannot be ranked"),
        ("1\t2\t0.5\n1\t3\t-inf\n", "line 2, score: -inf cannot be ranked"),
        (
            "1\t2\t0.5\n\n\n1\t3\t1\n1\t2\t0.5\n",
            "line 5, product_id: query 1, product 2 occurs twice in the run",
        ),
        ("1\t2\t0.5\n \t2\t0.5\n", "line 2, query_id: is empty"),
        ("1\t2\t0.5\n1\t\t0.5\n", "line 2, product_id: is empty"),
        ("1\t2\t0.5\n1\t" + "x" * 300 + "\t0.5\n", "line 2, product_id: 300 characters long"),
        (b"1\t2\t0.5\n1\t\xff\t0.5\n", "line 2: not UTF-8"),
        (b"1\t2\t0.5\n1\t\x00\t0.5\n", "line 2: holds a NUL"),
        (gzip.compress(b"1\t2\t0.5\n" * 99, mtime=0)[:-9], "broken gzip"),
    ],
)
def test_wrong_run_is_named_by_file_and_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = made(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_run(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_wrong_columns_are_wrong_arguments() -> None:
    one, two = np.array([1]), np.array([1, 2])
    with pytest.raises(
        (ValueError, TypeError)
    ):  # by the shapes of the signature while tests run, else by value
        Run.from_arrays(one, two, np.zeros(2))
    with pytest.raises(ValueError, match="integers or strings"):
        Run.from_arrays(two / 2, two, np.zeros(2))
    with pytest.raises(ValueError, match="occurs twice"):
        Run.from_arrays(np.array([3, 3]), np.array([4, 4]), np.zeros(2))


def test_empty_columns_make_a_run_without_queries() -> None:
    run = Run.from_arrays(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    assert len(run) == 0
    assert len(run.queries) == 0


pairs = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.integers(0, 2**62),
        st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 0.5]),
    ),
    min_size=1,
    unique_by=lambda row: row[:2],
)


def of_rows(found: list[tuple[int, int, float]]) -> Run:
    queries, products, scores = (np.array(column) for column in zip(*found, strict=True))
    return Run.from_arrays(queries, products, scores)


@given(pairs, st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter_and_is_the_sorted_one(
    found: list[tuple[int, int, float]], random: object
) -> None:
    expected = sorted(found, key=lambda row: (row[0], -row[2], row[1]))
    assert rows(of_rows(found)) == expected
    random.shuffle(found)  # type: ignore[attr-defined]
    assert rows(of_rows(found)) == expected


@given(found=pairs)
def test_written_run_reads_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, found: list[tuple[int, int, float]]
) -> None:
    path = tmp_path_factory.mktemp("runs") / "a.run"
    run = of_rows(found)
    write_run(run, path)
    again = read_run(path)
    assert rows(again) == rows(run)
    assert again.scores.tobytes() == run.scores.tobytes()
    assert again.name == "a"


def test_id_with_white_space_cannot_be_written(tmp_path: Path) -> None:
    run = Run.from_arrays(np.array(["a b"]), np.array([1]), np.ones(1))
    with pytest.raises(ValueError, match="'a b' holds white space"):
        write_run(run, tmp_path / "a.run")
    assert not list(tmp_path.iterdir())


def test_ties_among_many_queries_rank_by_product_id() -> None:
    generator = np.random.default_rng(0)
    queries = generator.integers(0, 70_000, 100_000)
    products = np.arange(100_000)
    scores = generator.integers(0, 2, 100_000).astype(float)
    run = Run.from_arrays(queries, products, scores)
    order = np.lexsort((products, -scores, queries))
    assert run.product_ids.tolist() == products[order].tolist()
