"""Any bytes at all: a reader gives a value or one line that names the file, never another error."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopwindow.files import DataError
from shopwindow.ranking.answers import read_answers
from shopwindow.ranking.measures import evaluate
from shopwindow.ranking.pools import Pools, read_pools
from shopwindow.ranking.runs import Run, read_run, write_run
from shopwindow.ranking.submission import check_submission

CORPUS = [
    b"1\t2\t0.5\n1\t3\t0.25\n",
    b"query_id,product_id,score\n1,2,0.5\n1,3,1e3\n",
    b"\xef\xbb\xbf1 Q0 2 1 0.5 tag\r\n1 Q0 3 2 -0.5 tag\r\n",
    b'"1","2","0.5"\n"1","3,4","1"\n',
    b'1,"2\n,0.5\n',
    b'{"1": [2, 3], "2": []}',
    b'{"1": [2, 3], "2": [',
    b'{"1": {"2": 1}}',
    b'{"1": [NaN]}',
    b'{"1": [1e999]}',
    b'{"1": ["\\ud800"]}',
    b'{"": [1]}',
    b"[[[[1]]]]",
    b"1 0 2 1\n1 0 3 0\n",
    b"query-id,product1,product2,product3,product4,product5\n1,2,3,4,5,6\n",
    b"product_id\timage_h\timage_w\tnum_boxes\tboxes\tfeatures\tclass_labels\tquery\tquery_id\n2\t1\t1\t1\tA\tA\tA\tbag\t1\n",
    "\uff11\t\uff12\t\uff13\n".encode(),  # digits of another script
    b"1\t" + b"9" * 5000 + b"\t1\n",
    b'{"1": [' + b"9" * 5000 + b"]}",
    "1\t2\u00a0\t3\n1\t\u2003\t3\n".encode(),
    b"9223372036854775807\t9223372036854775808\t1\n",
    b"1\t2\t1e400\n",
    b"1\t2\t0x10\n",
    b"1\t2\tinfinity\n",
    b"0\t0\t0\n" * 300 + b"x\ty\tz\n",
    b"\x1f\x8b\x08\x00",
    b"\x00\x01\x02",
    b"\xff\xfe1\x00\t\x002\x00",
    b"\n\n\n",
    b"\r\r\r",
    b"1\t2\t3\r1\t3\t4\r",
    b",,\n,,\n",
    b"score\n1\n",
]
READERS: list[Callable[[Path], object]] = [read_run, read_answers, read_pools, check_submission]


def given_or_named(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for read in READERS:
        said = str(path)
        try:
            read(path)
        except DataError as error:
            said = str(error)
        assert str(path) in said
        assert len(said) < 600
        assert "\n" not in said


@pytest.mark.parametrize("content", CORPUS, ids=range(len(CORPUS)))
def test_every_file_of_the_corpus_is_read_or_named(tmp_path: Path, content: bytes) -> None:
    for changed in (
        content,
        gzip.compress(content),
        gzip.compress(content)[:-3],
        content + content,
        content[:-2],
    ):
        given_or_named(tmp_path / "x", changed)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_files_are_read_or_named(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(CORPUS)))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(place, min(place + 6, len(content))))
        content[place:end] = data.draw(
            st.binary(max_size=4)
            | st.sampled_from([b"\t", b",", b"\n", b'"', b"nan", b"-", b"[", b"}", b"1e5"])
        )
    given_or_named(tmp_path / "x", bytes(content))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_named(tmp_path: Path, content: bytes) -> None:
    given_or_named(tmp_path / "x", content)


@pytest.mark.slow
def test_a_million_lines_are_read_in_seconds_and_an_error_in_the_last_one_is_named(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).random(1_000_000)
    queries, products = np.divmod(np.arange(1_000_000), 1000)
    run = Run.from_arrays(queries, products, scores)
    path = tmp_path / "large.run"
    write_run(run, path)
    start = time.perf_counter()
    again = read_run(path)
    assert time.perf_counter() - start < 30  # 2 s on a quiet machine
    assert again.scores.tobytes() == run.scores.tobytes()
    with path.open("a") as file:
        file.write("999 Q0 999 1 0.5 run\n")
    with pytest.raises(DataError, match="line 1000001, product_id: query 999, product 999 occurs twice"):
        read_run(path)


def test_answers_of_unknown_products_and_unknown_queries_have_their_rules(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"1": [10, 99], "7": [5]}')
    (tmp_path / "r.tsv").write_text("1\t10\t2\n1\t11\t1\n8\t1\t1\n")
    found = evaluate(read_run(tmp_path / "r.tsv"), read_answers(tmp_path / "a.json"))
    # product 99 is an answer that the run does not find, query 7 counts 0, query 8 does not count
    assert found.of("recall@5").tolist() == [0.5, 0.0]
    assert (found.missing.tolist(), found.extra.tolist()) == ([7], [8])


def test_run_of_text_ids_meets_pools_of_integer_ids() -> None:
    pools = Pools.from_arrays(np.array([1, 1]), np.array([10, 9]))
    run = Run.from_arrays(np.array(["1", "x"]), np.array(["9", "9"]), np.ones(2))
    assert Pools.of_run(run).queries.tolist() == ["1", "x"]
    assert pools.product_ids.tolist() == [10, 9]
