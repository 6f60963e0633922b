"""Do the weights of pairs reach the dataset, and is every wrong table told by file, line and field?"""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shopwindow.cli import main
from shopwindow.data import reading
from shopwindow.data.dataset import Dataset
from shopwindow.data.prepare import prepare
from shopwindow.data.weights import WeightTable
from shopwindow.files import DataError
from tests.data.rows import SIZE, directory_bytes, make_line, make_lines, make_product, replaced, write_tsv

HEADER = "product_id\tquery_id\tweight\n"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Three products; pair (5, 9) stands twice, (3, 9) has a photo that is not trained on, (7, 2) is dropped."""
    lines = [
        make_line(make_product(5), "red shoe", 9),
        make_line(make_product(3, 41), "red shoe", 9),
        make_line(make_product(5), "red shoe", 9),
        make_line(make_product(7), "'s shoe", 2),
        make_line(make_product(7), "bag", 4),
    ]
    return write_tsv(tmp_path / "a.tsv", lines)


def table(folder: Path, text: str, name: str = "weights.tsv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_weights_are_stored_beside_the_pairs(shop: Path, tmp_path: Path) -> None:
    text = "weight\tquery_id\tproduct_id\n2.5\t9\t5\n\n7\t9\t3\n3\t2\t7\n"
    report = prepare([shop], tmp_path / "ds", feature_size=SIZE, weights=table(tmp_path, text))
    dataset = Dataset(tmp_path / "ds")
    assert dataset.has_weights
    assert dataset.pair_weights.dtype == np.float32
    assert dataset.pair_weights.tolist() == [2.5, 7, 2.5, 1]
    assert dict(report.weights) == {
        "pairs that have one": 3,
        "pairs without one, 1 each": 1,
        "of pairs that no good row has": 0,
    }
    assert dataset.manifest["report"] == report.to_json()
    assert ("weights: pairs that have one", 3) in report.lines()
    assert not (tmp_path / "ds" / "weights.sqlite").exists()


def test_commas_gzip_crlf_and_a_byte_order_mark_are_read(shop: Path, tmp_path: Path) -> None:
    packed = tmp_path / "weights.csv"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbfproduct_id,query_id,weight\r\n5, 9, 1e3\r\n7,4,0.25\r\n"))
    prepare([shop], tmp_path / "ds", feature_size=SIZE, weights=packed)
    assert Dataset(tmp_path / "ds").pair_weights.tolist() == [1000, 1, 1000, 0.25]


def test_a_dataset_without_weights_is_as_it_was_and_weighs_1_each(shop: Path, tmp_path: Path) -> None:
    prepare([shop], tmp_path / "ds", feature_size=SIZE)
    dataset = Dataset(tmp_path / "ds")
    assert not dataset.has_weights
    assert dataset.pair_weights.tolist() == [1, 1, 1, 1]
    assert "weights" not in dataset.manifest
    assert "weights" not in dataset.manifest["report"]
    assert not (tmp_path / "ds" / "weights.arrow").exists()


def test_content_hash_names_the_weights_too(shop: Path, tmp_path: Path) -> None:
    hashes = set()
    for name, weights in (
        ("none", None),
        ("ones", "5\t9\t1\n"),
        ("twos", "5\t9\t2\n"),
        ("same", "5\t9\t2.0\n"),
    ):
        given = None if weights is None else table(tmp_path, HEADER + weights)
        prepare([shop], tmp_path / name, feature_size=SIZE, weights=given)
        hashes.add(Dataset(tmp_path / name).content_hash)
    assert len(hashes) == 3


def test_several_processes_give_the_bytes_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "RANGE_BYTES", 900)
    source = write_tsv(tmp_path / "a.tsv", make_lines(120))
    rows = "".join(f"{1000 + row}\t{row}\t{1 + row / 7}\n" for row in range(0, 120, 2))
    weights = table(tmp_path, HEADER + rows)
    for count in (1, 2):
        prepare([source], tmp_path / str(count), feature_size=SIZE, processes=count, weights=weights)
    assert directory_bytes(tmp_path / "1") == directory_bytes(tmp_path / "2")
    wanted = [1 + row / 7 if row % 2 == 0 else 1 for row in range(120)]
    np.testing.assert_array_equal(Dataset(tmp_path / "1").pair_weights, np.array(wanted, np.float32))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"weights\.tsv line 1: wanted a header"),
        (
            "5\t9\t2\n",
            r"line 1: wanted a header with the columns product_id, query_id, weight, got: '5\\t9\\t2'",
        ),
        ("product_id\tquery_id\tclicks\n5\t9\t2\n", "line 1: wanted a header"),
        (HEADER, "has a header and no rows"),
        (HEADER + "5\t9\n", "line 2: 2 columns, 3 wanted"),
        (HEADER + "5\t9\t2\t1\n", "line 2: 4 columns, 3 wanted"),
        (HEADER + "5\t9\t2\n \t9\t2\n", "line 3, product_id: is empty"),
        (HEADER + f"5\t{'9' * 257}\t2\n", "line 2, query_id: 257 characters long, at most 256"),
        (
            HEADER + "5\t9\t2\nfive\t9\t2\n",
            "line 3, product_id, query_id: 1 of its 2 pairs .* product five, query 9",
        ),
        (HEADER + "5\t9\tmany\n", "line 2, weight: 'many' is not a number"),
        (HEADER + "5\t9\t\n", "line 2, weight: '' is not a number"),
        (HEADER + "5\t9\t1_0\n", "line 2, weight: '1_0' is not a number"),
        (HEADER + "5\t9\t1,5\n", "line 2, weight: '1,5' is not a number"),
        (HEADER + "5\t9\t0\n", "line 2, weight: 0, more than 0 is needed"),
        (HEADER + "5\t9\t-2\n", "line 2, weight: -2, more than 0 is needed"),
        (HEADER + "5\t9\tnan\n", "line 2, weight: nan, a finite number"),
        (HEADER + "5\t9\tinf\n", "line 2, weight: inf, a finite number"),
        (HEADER + "5\t9\t1e999\n", "line 2, weight: 1e999, a finite number"),
        (HEADER + "5\t9\t1e10\n", "line 2, weight: 1e10, more than 0 is needed: 1e-09 to 1e[+]09"),
        (HEADER + "5\t9\t1e-30\n", "line 2, weight: 1e-30, more than 0"),
        (
            HEADER + "5\t9\t2\n7\t4\t1\n5\t9\t2\n",
            "line 4, product_id, query_id: product 5, query 9 has a weight in line 2",
        ),
        (
            HEADER + "5\t9\t2\n5\t4\t1\n",
            "line 3, product_id, query_id: 1 of its 2 pairs stand in none .* product 5, query 4",
        ),
    ],
)
def test_wrong_tables_are_told_and_leave_nothing(shop: Path, tmp_path: Path, text: str, says: str) -> None:
    weights = table(tmp_path, text)
    with pytest.raises(DataError, match=says) as caught:
        prepare([shop], tmp_path / "ds", feature_size=SIZE, weights=weights)
    assert caught.value.path == str(weights)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tsv", "weights.tsv"]


def test_weights_of_malformed_rows_are_counted_no_error(tmp_path: Path) -> None:
    lines = make_lines(5)
    lines[2] = replaced(lines[2], "boxes", b"?")
    source = write_tsv(tmp_path / "a.tsv", lines)
    weights = table(tmp_path, HEADER + "".join(f"{1000 + row}\t{row}\t2\n" for row in range(5)))
    report = prepare([source], tmp_path / "ds", feature_size=SIZE, allow_malformed=True, weights=weights)
    assert report.weights["of pairs that no good row has"] == 1
    assert Dataset(tmp_path / "ds").pair_weights.tolist() == [2] * 4


def test_broken_weights_of_a_dataset_are_named(shop: Path, tmp_path: Path) -> None:
    for name, weight in (("ds", "2"), ("other", "3")):
        prepare(
            [shop], tmp_path / name, feature_size=SIZE, weights=table(tmp_path, f"{HEADER}5\t9\t{weight}\n")
        )
    shutil.copyfile(tmp_path / "other" / "weights.arrow", tmp_path / "ds" / "weights.arrow")
    with pytest.raises(DataError, match=r"weights\.arrow: other weights than the manifest names"):
        _ = Dataset(tmp_path / "ds").pair_weights
    (tmp_path / "ds" / "weights.arrow").unlink()
    with pytest.raises(DataError, match=r"weights\.arrow: broken or missing"):
        _ = Dataset(tmp_path / "ds").pair_weights
    manifest = json.loads((tmp_path / "ds" / "manifest.json").read_text())
    (tmp_path / "ds" / "manifest.json").write_text(json.dumps({**manifest, "weights": 7}))
    with pytest.raises(DataError, match="weights: names no SHA-256"):
        Dataset(tmp_path / "ds")


def test_a_pair_asked_for_twice_has_its_weight_twice(tmp_path: Path) -> None:
    with WeightTable(table(tmp_path, HEADER + "1\t2\t3\n2\t1\t4\n"), tmp_path) as weights:
        assert [weights.of(1, 2), weights.of(1, 2), weights.of(1, 1)] == [3, 3, None]
        count, error = weights.unmet()
        assert count == 1
        assert "product 2, query 1" in str(error)
        assert weights.of(2, 1) == 4
        assert weights.unmet() == (0, None)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.tsv"]


def test_the_verb_takes_weights(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["prepare", str(shop), "--feature-size", str(SIZE), "--out", str(tmp_path / "ds"), "--weights"]
    main([*given, str(table(tmp_path, HEADER + "5\t9\t2\n"))])
    assert "weights: pairs that have one" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main([*given, str(table(tmp_path, HEADER + "5\t9\tmany\n"))])
    assert stopped.value.code == 2
    assert "weights.tsv line 2, weight: 'many' is not a number" in capsys.readouterr().err
    assert Dataset(tmp_path / "ds").pair_weights.tolist() == [2, 1, 2, 1]


def test_an_id_that_changed_its_spelling_is_told(tmp_path: Path) -> None:
    rows = [f"{row},{row},2" for row in range(10)] + ["1E+01,10,2"]
    (tmp_path / "w.csv").write_text("product_id,query_id,weight\n" + "\n".join(rows))
    with pytest.raises(DataError, match=r"w\.csv line 12, product_id: '1E\+01' among integers"):
        WeightTable(tmp_path / "w.csv", tmp_path).__enter__()
