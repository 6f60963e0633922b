"""What is recorded can be printed: each question has one table, and its question names its size."""

from __future__ import annotations

import doctest
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import ablation
import prepare
import record
import run_all

SIZES = ("--products", "--pools", "--seed-pools", "--rows", "--pairs")
SIZELESS = (
    "one query",
    "ikea, one thread",
    "grocery, one thread",
    "rows of 76 KB, one shard",
    "products of 128 features",
    "photos of 16 x 16 px",
)
"""In questions of such a script whose size no option sets."""


def stored() -> list[str]:
    return record.RESULTS.read_text(encoding="utf-8").splitlines()


def line(question: str, **more: Any) -> str:
    entry = {"question": question, "command": "python benchmarks/a.py", "figures": {"rows/s": 1.0}, **more}
    return json.dumps(entry)


def test_a_recorded_answer_is_one_line_rounded_to_four_digits(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Path(record.__file__).with_name("encode.py")
    monkeypatch.setattr(sys, "argv", [str(script), "--pools", "3"])
    record.record("how many?", {"one": 12.34567, "some": [0.000123456, 2.0]})
    entry = json.loads(results.read_text())
    assert entry["command"] == "python benchmarks/encode.py --pools 3"
    assert entry["figures"] == {"one": 12.35, "some": [0.0001235, 2.0]}


def test_no_path_of_a_machine_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    script = str(record.ROOT / "benchmarks" / "photos.py")
    monkeypatch.setattr(sys, "argv", [script, "--photos", "/home/me/shops/grocery/photos", "--count", "9"])
    assert record.command() == "python benchmarks/photos.py --photos grocery/photos --count 9"
    assert not [
        text for text in stored() if any(word[:1] == "/" for word in json.loads(text)["command"].split())
    ]


def test_the_latest_answer_stands_unless_it_is_off_the_page() -> None:
    lines = [line("a", figures={"x": 1}), line("b"), line("a", figures={"x": 2}), line("b", off_page="why")]
    latest = record.latest_of(lines)
    assert list(latest) == ["a", "b"]
    assert latest["a"]["figures"] == {"x": 2}
    assert latest["b"]["figures"] == {"rows/s": 1.0}
    assert not record.latest_of([line("c", off_page="measured in another way")])


def test_every_stored_question_names_the_sizes_that_its_command_names() -> None:
    checked = 0
    for entry in map(json.loads, stored()):
        words = entry["command"].split()
        named = [int(words[words.index(size) + 1]) for size in SIZES if size in words]
        if named and not any(part in entry["question"] for part in SIZELESS):
            assert any(f"{one:,}" in entry["question"] for one in named), entry["question"]
            checked += 1
    assert checked > 5


def test_a_table_has_its_command_and_the_median_of_every_figure() -> None:
    given = {
        "commit": "abc",
        "date": "2026-01-02T03:04",
        "machine": "a CPU",
        "figures": {"x": [3.0, 1.0, 2.0]},
    }
    rows = record.table(json.loads(line("how fast?", **given))).splitlines()
    assert rows[1] == "## How fast?"
    assert rows[3].startswith("`python benchmarks/a.py`, commit abc, 2026-01-02, a CPU.")
    assert rows[-1] == "| x | 2 (1 to 3) |"


def test_the_study_is_printed_with_rows_that_left_the_grid() -> None:
    rows = ablation.table()
    in_grid = {row.name for row in ablation.read_grid()}
    assert any(row.startswith("| default |") for row in rows)
    assert "tempered" not in in_grid
    tempered = [row.split(" | ") for row in rows if row.startswith("| tempered |")]
    assert [cells[2] for cells in tempered] == ["**0.885** (0.885)", "**0.767** (0.767)"]
    assert [cells[5] for cells in tempered] == ["-0.042", "+0.000"]


def test_the_benchmarks_of_make_bench_are_there_and_know_their_options() -> None:
    for name, options in run_all.BENCHMARKS.items():
        text = (run_all.FOLDER / name).read_text(encoding="utf-8")
        for option in options:
            if option.startswith("--"):
                assert f'"{option}"' in text, (name, option)


@pytest.mark.parametrize("module", [record, prepare])
def test_examples_hold(module: Any) -> None:
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize("status", [0, 3])
def test_the_times_of_all_scripts_are_recorded_where_none_failed(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    (tmp_path / "first.py").write_text(f"raise SystemExit({status})")
    (tmp_path / "second.py").write_text("open(__file__ + '.ran', 'w')")
    monkeypatch.setattr(run_all, "FOLDER", tmp_path)
    monkeypatch.setattr(run_all, "BENCHMARKS", {"first.py": (), "second.py": ()})
    monkeypatch.setattr(sys, "argv", [run_all.__file__])
    if status:
        with pytest.raises(SystemExit):
            run_all.main()
        assert not results.exists()
    else:
        run_all.main()
        figures = json.loads(results.read_text())["figures"]
        assert list(figures) == ["first", "second", "all"]
        assert figures["all"] == pytest.approx(figures["first"] + figures["second"], rel=1e-3)
    assert (tmp_path / "second.py.ran").exists()
