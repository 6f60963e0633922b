"""Do competition files become the right dataset, and is every wrong file told in one line?"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopwindow.data import competition, reading
from shopwindow.data import prepare as stage
from shopwindow.data.cleaning import RULES, Report, choose_rules
from shopwindow.data.competition import Reason
from shopwindow.data.dataset import Dataset
from shopwindow.files import DataError
from tests.data.rows import (
    HEADER_LINE,
    SIZE,
    directory_bytes,
    make_line,
    make_lines,
    make_product,
    replaced,
    write_tsv,
)
from tests.data.test_competition import BROKEN


def prepare(*sources: Path, out: Path, rules: tuple[str, ...] = (), allow: bool = False) -> Report:
    """prepare at the feature size of these tests; `rules` are kept out."""
    return stage.prepare(sources, out, feature_size=SIZE, rules=choose_rules(rules), allow_malformed=allow)


def rejected(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# What is stored


def test_products_and_queries_are_stored_once_and_every_row_is_a_pair(tmp_path: Path) -> None:
    one, two = make_product(5, 2), make_product(3, 3)
    lines = [
        make_line(one, "red shoe", 9),
        make_line(two, "red shoe", 9),
        make_line(one, "bag", 4),
        make_line(one, "bag", 4),
    ]
    report = prepare(write_tsv(tmp_path / "a.tsv", lines), out=tmp_path / "ds")
    dataset = Dataset(tmp_path / "ds")
    assert dataset.product_ids.tolist() == [5, 3]
    assert dataset.query_ids.tolist() == [9, 4]
    assert dataset.query_texts == ["red shoe", "bag"]
    assert dataset.pair_products.tolist() == [0, 1, 0, 0]
    assert dataset.pair_queries.tolist() == [0, 0, 1, 1]
    assert dataset.region_counts.tolist() == [2, 3]
    assert (report.rows, report.pairs, report.products, report.queries, report.regions) == (4, 4, 2, 2, 5)
    assert dataset.manifest["report"] == report.to_json()


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "a.tsv", [*make_lines(300), BROKEN["no box"][0]])
    prepare(source, out=tmp_path / "one")
    prepare(source, out=tmp_path / "two")
    assert directory_bytes(tmp_path / "one") == directory_bytes(tmp_path / "two")


def test_rows_in_one_file_or_split_over_two_are_the_same_content(tmp_path: Path) -> None:
    lines = make_lines(50)
    prepare(write_tsv(tmp_path / "all.tsv", lines), out=tmp_path / "one")
    parts = [write_tsv(tmp_path / "a.tsv", lines[:20]), write_tsv(tmp_path / "b.tsv", lines[20:])]
    prepare(*parts, out=tmp_path / "two")
    one, two = directory_bytes(tmp_path / "one"), directory_bytes(tmp_path / "two")
    assert one.pop("manifest.json") != two.pop("manifest.json")  # it names the files
    assert one == two
    assert Dataset(tmp_path / "one").content_hash == Dataset(tmp_path / "two").content_hash


def test_content_hash_tells_rows_apart(tmp_path: Path) -> None:
    lines = make_lines(3)
    many = make_line(make_product(77, 41), "many boxes", 77)
    hashes = set()
    for number, (rows, kept) in enumerate(
        [
            (lines, ()),
            (lines[::-1], ()),
            (lines[:2], ()),
            ([*lines[:2], replaced(lines[2], "query", b"other")], ()),
            ([*lines[:2], replaced(lines[2], "query_id", b"99")], ()),
            ([*lines, many], ()),
            ([*lines, many], ("many_boxes",)),
        ]
    ):
        out = tmp_path / str(number)
        prepare(write_tsv(tmp_path / "a.tsv", rows), out=out, rules=kept)
        hashes.add(Dataset(out).content_hash)
    assert len(hashes) == 7


# Cleaning


def test_possessive_queries_are_dropped_and_counted(tmp_path: Path) -> None:
    lines = [
        make_line(make_product(1), "'s perfume", 1),
        make_line(make_product(2), "men's shoe", 2),
        make_line(make_product(3), "'sole", 3),
        make_line(make_product(4), "' shoe", 4),
    ]
    source = write_tsv(tmp_path / "a.tsv", lines)
    report = prepare(source, out=tmp_path / "ds")
    assert Dataset(tmp_path / "ds").query_texts == ["men's shoe", "' shoe"]
    assert (report.rows, report.pairs, report.rules) == (4, 2, {"possessive": 2})
    assert Dataset(tmp_path / "ds").product_ids.tolist() == [2, 4]
    assert prepare(source, out=tmp_path / "all", rules=("possessive",)).pairs == 4


def test_more_than_40_boxes_are_stored_but_not_trained_on(tmp_path: Path) -> None:
    lines = [make_line(make_product(boxes, boxes), "shoe", 1) for boxes in (40, 41)]
    source = write_tsv(tmp_path / "a.tsv", lines)
    report = prepare(source, out=tmp_path / "ds")
    assert Dataset(tmp_path / "ds").pair_training.tolist() == [True, False]
    assert (report.pairs, report.training_pairs, report.rules) == (2, 1, {"many_boxes": 1})
    prepare(source, out=tmp_path / "all", rules=("many_boxes",))
    assert Dataset(tmp_path / "all").pair_training.tolist() == [True, True]


def test_unknown_rule_is_named() -> None:
    with pytest.raises(ValueError, match="no cleaning rule 'posessive'; there are: many_boxes, possessive"):
        choose_rules(("posessive",))
    assert choose_rules(()) == RULES


def test_report_adds_up_and_survives_json(tmp_path: Path) -> None:
    lines = [*make_lines(400), make_line(make_product(1), "'s", 9999), BROKEN["label -1"][0], b"\n"]
    report = prepare(write_tsv(tmp_path / "a.tsv", lines), out=tmp_path / "ds")
    assert report.rows == 403 == report.pairs + report.rules["possessive"] + report.malformed_rows
    assert json.loads(json.dumps(report.to_json())) == report.to_json()
    assert dict(report.lines())["malformed: unknown label"] == 1


# Malformed rows


@pytest.mark.parametrize("name", BROKEN)
def test_malformed_row_is_rejected_by_line_and_reason_and_the_others_stay(name: str, tmp_path: Path) -> None:
    line, reason, field = BROKEN[name]
    lines = make_lines(120)
    source = write_tsv(tmp_path / "a.tsv", [*lines[:50], line.rstrip(b"\n") + b"\n", *lines[50:]])
    report = prepare(source, out=tmp_path / "ds")
    assert report.malformed == {reason: 1}
    (entry,) = rejected(tmp_path / "ds" / "rejected.jsonl")
    assert (entry["file"], entry["line"], entry["reason"], entry["field"]) == (str(source), 52, reason, field)
    assert report.pairs == 120


def test_conflicts_of_ids_keep_the_first_and_reject_the_second(tmp_path: Path) -> None:
    first = make_line(make_product(5), "shoe", 1)
    lines = [
        *make_lines(300, first=10),
        first,
        make_line(make_product(5, seed=1), "shoe", 1),
        replaced(first, "image_h", b"101"),
        make_line(make_product(6), "boot", 1),
    ]
    report = prepare(write_tsv(tmp_path / "a.tsv", lines), out=tmp_path / "ds", allow=True)
    assert report.malformed == {Reason.PRODUCT_CONFLICT: 2, Reason.QUERY_CONFLICT: 1}
    entries = rejected(tmp_path / "ds" / "rejected.jsonl")
    assert [(entry["line"], entry["field"]) for entry in entries] == [
        (303, "product_id"),
        (304, "product_id"),
        (305, "query_id"),
    ]
    assert entries[2]["detail"] == "1: 'shoe', now 'boot'"
    dataset = Dataset(tmp_path / "ds")
    assert 6 not in dataset.product_ids
    np.testing.assert_array_equal(dataset.boxes(np.array([300])), make_product(5).boxes)
    assert dataset.product_ids[300] == 5


def test_one_per_cent_malformed_is_accepted_and_more_is_not(tmp_path: Path) -> None:
    bad = BROKEN["no box"][0]
    assert prepare(write_tsv(tmp_path / "a.tsv", [*make_lines(99), bad]), out=tmp_path / "ds").pairs == 99
    source = write_tsv(tmp_path / "b.tsv", [*make_lines(98), bad])
    before = directory_bytes(tmp_path / "ds")
    with pytest.raises(
        DataError, match=r"b\.tsv line 100: 1 of 99 rows .*: 1 num_boxes not positive"
    ) as caught:
        prepare(source, out=tmp_path / "ds")
    assert caught.value.line == 100
    assert directory_bytes(tmp_path / "ds") == before
    (entry,) = rejected(tmp_path / "ds.rejected.jsonl")
    assert entry["line"] == 100
    assert prepare(source, out=tmp_path / "ds", allow=True).malformed_rows == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tsv", "b.tsv", "ds"]


def test_hopeless_files_are_not_read_to_their_end(tmp_path: Path) -> None:
    paths = [write_tsv(tmp_path / f"{name}.tsv", [b"x\n"] * 20_000) for name in "abc"]
    with pytest.raises(DataError, match=r"a\.tsv line 2: 1000 of 1000 rows read are malformed \(100"):
        prepare(*paths, out=tmp_path / "ds")
    with pytest.raises(DataError, match=r"no row is left to store of 60000"):
        prepare(*paths, out=tmp_path / "ds", allow=True)


def test_bad_beginning_of_a_good_file_does_not_stop_it(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "a.tsv", [*[b"x\n"] * 10, *make_lines(1200)])
    assert prepare(source, out=tmp_path / "ds").pairs == 1200


# Files


def plain(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


ROWS = b"".join(make_lines(5))


@pytest.mark.parametrize(
    "data",
    [
        HEADER_LINE + ROWS,
        codecs.BOM_UTF8 + HEADER_LINE + ROWS,
        (HEADER_LINE + ROWS).replace(b"\n", b"\r\n"),
        (HEADER_LINE + ROWS).rstrip(b"\n"),
        gzip.compress(HEADER_LINE + ROWS),
        gzip.compress(HEADER_LINE) + gzip.compress(ROWS),
    ],
    ids=["plain", "BOM", "CRLF", "no final newline", "gzip", "gzip in two members"],
)
def test_file_is_read_however_it_is_written(data: bytes, tmp_path: Path) -> None:
    prepare(plain(tmp_path / "a.tsv", HEADER_LINE + ROWS), out=tmp_path / "wanted")
    prepare(plain(tmp_path / "b.tsv", data), out=tmp_path / "got")
    wanted, got = directory_bytes(tmp_path / "wanted"), directory_bytes(tmp_path / "got")
    assert wanted.pop("manifest.json").replace(b"a.tsv", b"b.tsv") == got.pop("manifest.json")
    assert wanted == got


def test_standard_input_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(HEADER_LINE + ROWS)))
    assert prepare(Path("-"), out=tmp_path / "ds").pairs == 5


def other_columns() -> bytes:
    return HEADER_LINE.replace(b"query_id", b"qid") + ROWS


WRONG_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "the file is empty"),
    "only a header": (lambda: HEADER_LINE, "no row is left to store of 0: there were none"),
    "only dropped rows": (
        lambda: HEADER_LINE + make_line(make_product(1), "'s", 1),
        "no row is left to store of 1: 1 by rule possessive",
    ),
    "no header": (lambda: ROWS, "line 1: no competition file"),
    "other columns": (other_columns, "line 1: no competition file"),
    "commas": (lambda: (HEADER_LINE + ROWS).replace(b"\t", b","), "line 1: no competition file"),
    "UTF-16": (lambda: (HEADER_LINE + ROWS).decode().encode("utf-16"), "line 1: no competition file"),
    "binary": (lambda: os.urandom(10_000).replace(b"\x1f\x8b", b""), "line 1: no competition file"),
    "zeros": (lambda: bytes(1_000_000), "line 1: no competition file"),
    "cut gzip": (lambda: gzip.compress(HEADER_LINE + ROWS)[:-50], "broken gzip"),
    "gzip of garbage": (lambda: gzip.compress(HEADER_LINE)[:10] + b"\xff" * 100, "broken gzip"),
    "gzip with a flipped byte": (
        lambda: gzip.compress(HEADER_LINE + ROWS)[:-8] + bytes(8),
        "broken gzip",
    ),
    "gzip of nothing": (lambda: gzip.compress(b""), "the file is empty"),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_wrong_file_is_a_data_error_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    data, problem = WRONG_FILES[name]
    source = plain(tmp_path / "a.tsv", data())
    with pytest.raises(DataError, match=problem) as caught:
        prepare(source, out=tmp_path / "ds", rules=())
    assert caught.value.path == str(source)
    assert len(str(caught.value)) < 600
    assert [path.name for path in tmp_path.iterdir()] == ["a.tsv"]


def test_missing_file_and_directory_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.tsv: no such file"):
        prepare(tmp_path / "no.tsv", out=tmp_path / "ds")
    with pytest.raises(DataError, match="is a directory, a file was wanted"):
        prepare(tmp_path, out=tmp_path / "ds")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_told(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "a.tsv", make_lines(3))
    source.chmod(0)
    with pytest.raises(DataError, match=r"a\.tsv: may not be read"):
        prepare(source, out=tmp_path / "ds")


def test_other_feature_size_is_told_by_every_row(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "a.tsv", make_lines(3))
    with pytest.raises(DataError, match="byte length does not fit num_boxes"):
        stage.prepare([source], tmp_path / "ds", feature_size=2048)
    assert rejected(tmp_path / "ds.rejected.jsonl")[0]["detail"] == "32 bytes, 1 boxes need 8192"


def test_wrong_arguments_are_value_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no file"):
        prepare(out=tmp_path / "ds")
    with pytest.raises(ValueError, match="feature size 0"):
        stage.prepare([tmp_path / "a.tsv"], tmp_path / "ds", feature_size=0)


def test_endless_line_is_one_malformed_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (competition, reading):
        monkeypatch.setattr(module, "LONGEST_LINE", 2000)
    source = write_tsv(
        tmp_path / "a.tsv", [*make_lines(60), b"7" * 100_000 + b"\n", *make_lines(60, first=60)]
    )
    report = prepare(source, out=tmp_path / "ds")
    assert (report.pairs, report.malformed) == (120, {Reason.LINE_TOO_LONG: 1})
    assert rejected(tmp_path / "ds" / "rejected.jsonl")[0]["line"] == 62


def test_progress_reaches_all_bytes_and_rows(tmp_path: Path) -> None:
    packed = plain(tmp_path / "b.tsv.gz", gzip.compress(HEADER_LINE + b"".join(make_lines(600, first=600))))
    sources = [write_tsv(tmp_path / "a.tsv", make_lines(600)), packed]
    total = sum(path.stat().st_size for path in sources)
    seen: list[tuple[int, int, int]] = []
    stage.prepare(sources, tmp_path / "ds", feature_size=SIZE, progress=lambda *now: seen.append(now))
    assert seen == sorted(seen)
    assert seen[-1] == (1200, total, total)
    assert [rows for rows, _, _ in seen] == [250, 500, 750, 1000, 1200]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 3000), st.binary(max_size=30), st.integers(0, 500), st.booleans())
def test_damaged_file_is_prepared_or_a_data_error(
    tmp_path: Path, place: int, garbage: bytes, removed: int, packed: bool
) -> None:
    good = HEADER_LINE + ROWS
    data = gzip.compress(good) if packed else good
    place %= len(data)
    source = plain(tmp_path / "a.tsv", data[:place] + garbage + data[place + removed :])
    try:
        report = prepare(source, out=tmp_path / "ds", allow=True)
    except DataError:
        return
    assert report.pairs == len(Dataset(tmp_path / "ds").pair_products) >= 1


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("shorter", [True, False])
def test_a_file_that_changes_while_it_is_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int, shorter: bool
) -> None:
    source = write_tsv(tmp_path / "a.tsv", make_lines(60))
    monkeypatch.setattr(stage, "_ROWS_BETWEEN_PROGRESS", 10)

    def change(rows: int, *_: int) -> None:
        if rows == 10:
            os.truncate(source, source.stat().st_size + (-1 if shorter else 1))

    with pytest.raises(DataError, match=r"a\.tsv: was changed while it was read"):
        stage.prepare(
            [source],
            tmp_path / "ds",
            feature_size=SIZE,
            processes=processes,
            allow_malformed=True,
            progress=change,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.tsv"]


def test_a_file_named_as_standard_input_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tsv(tmp_path / "-", make_lines(5))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(HEADER_LINE + b"".join(make_lines(3)))))
    assert prepare(Path("-"), out=tmp_path / "ds").rows == 3


def test_a_name_that_no_file_can_have_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        prepare(tmp_path / ("a" * 300), out=tmp_path / "ds")
