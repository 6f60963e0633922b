"""What is recorded comes to the page: every size has a table of its own, and every ratio is among the ratios."""

from __future__ import annotations

import doctest
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import make_results
import prepare
import record
import run_all

SIZES = ("--products", "--pools", "--seed-pools", "--rows", "--pairs")
SIZELESS = ("one query", "ikea, one thread", "grocery, one thread")
"""In questions of such a script whose size no option sets."""


def stored() -> list[dict[str, Any]]:
    return [json.loads(line) for line in record.RESULTS.read_text(encoding="utf-8").splitlines()]


def page() -> str:
    """The latest tables and ratios of the stored results."""
    latest = make_results.latest_of(record.RESULTS.read_text(encoding="utf-8").splitlines())
    tables = "".join(make_results.table(entry) for entry in latest.values())
    return make_results.ratios_table(make_results.ratios_of(latest)) + tables


def line(question: str, **more: Any) -> str:
    entry = {"question": question, "command": "python benchmarks/a.py", "figures": {"rows/s": 1.0}, **more}
    return json.dumps(entry)


def test_a_recorded_answer_is_one_line_rounded_to_four_digits(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Path(record.__file__).with_name("rank.py")
    monkeypatch.setattr(sys, "argv", [str(script), "--pools", "3"])
    record.record("how many?", {"one": 12.34567, "some": [0.000123456, 2.0]})
    entry = json.loads(results.read_text())
    assert entry["command"] == "python benchmarks/rank.py --pools 3"
    assert entry["figures"] == {"one": 12.35, "some": [0.0001235, 2.0]}


def test_the_latest_answer_stands_unless_it_is_off_the_page() -> None:
    lines = [line("a", figures={"x": 1}), line("b"), line("a", figures={"x": 2}), line("b", off_page="why")]
    latest = make_results.latest_of(lines)
    assert list(latest) == ["a", "b"]
    assert latest["a"]["figures"] == {"x": 2}
    assert latest["b"]["figures"] == {"rows/s": 1.0}
    assert not make_results.latest_of([line("c", off_page="measured in another way")])


def test_every_stored_question_says_the_sizes_that_its_command_names() -> None:
    checked = 0
    for entry in stored():
        words = entry["command"].split()
        named = [int(words[words.index(size) + 1]) for size in SIZES if size in words]
        if named and not any(part in entry["question"] for part in SIZELESS):
            assert any(f"{one:,}" in entry["question"] for one in named), entry["question"]
            checked += 1
    assert checked > 5


def test_every_recorded_share_and_times_is_among_the_ratios() -> None:
    latest = make_results.latest_of(record.RESULTS.read_text(encoding="utf-8").splitlines())
    rows = make_results.ratios_table(make_results.ratios_of(latest)).splitlines()
    wanted = [
        (question, name)
        for question, entry in latest.items()
        for name in entry["figures"]
        if ("share" in name and "share on" not in name) or "times" in name
    ]
    assert any("bare map" in name for _, name in wanted)
    for question, name in wanted:
        assert sum(row.startswith(f"| {question} | {name} |") for row in rows) == 1, (question, name)


def test_a_word_that_holds_times_is_no_ratio() -> None:
    names = {"a share of it": 1.0, "3 times": 2.0, "shares": 3.0, "timestamps": 4.0, "share on the good": 5.0}
    found = make_results.ratios_of({"q": {"figures": names}})
    assert [name for _, name, _ in found] == ["a share of it", "3 times"]


def test_no_table_stands_twice_on_the_page() -> None:
    headings = [row for row in page().splitlines() if row.startswith("###")]
    assert len(headings) == len(set(headings)) > 30


def test_bars_have_names_of_their_own_and_are_drawn(tmp_path: Path) -> None:
    one = {"figures": {"times faster": [2.0, 3.0, 4.0]}}
    ratios = make_results.ratios_of({"smoothing: 300 regions": one, "smoothing: 1,000 regions": one})
    bars = make_results.faster_of(ratios)
    assert [name for name, _ in bars] == [
        "smoothing: 300 regions: times faster",
        "smoothing: 1,000 regions: times faster",
    ]
    make_results.draw(ratios, tmp_path / "bars.png")
    assert (tmp_path / "bars.png").stat().st_size > 1000


def test_every_script_is_a_benchmark_or_said_not_to_be() -> None:
    names = {script.name for script in run_all.benchmarks()}
    present = {script.name for script in run_all.FOLDER.glob("*.py")}
    assert names | run_all.NO_BENCHMARKS == present
    assert not names & run_all.NO_BENCHMARKS
    assert set(run_all.SMALLER) <= names


def test_the_smaller_sizes_are_options_of_their_scripts_and_rounds_stay_three() -> None:
    for name, options in run_all.SMALLER.items():
        text = (run_all.FOLDER / name).read_text(encoding="utf-8")
        for option in options:
            if option.startswith("--"):
                assert f'"{option}"' in text, (name, option)
        assert "--rounds" not in options
    step = (run_all.FOLDER / "step.py").read_text(encoding="utf-8")
    assert '"--rounds", type=int, default=3' in step


def test_what_all_scripts_took_is_their_sum() -> None:
    assert run_all.in_all({"rank": 2.0, "step": 3.5}) == {"rank": 2.0, "step": 3.5, "all": 5.5}


@pytest.mark.parametrize("module", [record, prepare])
def test_examples_hold(module: Any) -> None:
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize("status", [0, 3])
def test_what_scripts_took_is_recorded_where_none_failed_and_the_page_is_made_either_way(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "first.py").write_text(f"raise SystemExit({status})")
    (folder / "second.py").write_text("open(__file__ + '.ran', 'w')")
    (folder / "make_results.py").write_text("open(__file__ + '.ran', 'w')")
    monkeypatch.setattr(run_all, "FOLDER", folder)
    monkeypatch.setattr(sys, "argv", [run_all.__file__])
    if status:
        with pytest.raises(SystemExit) as ended:
            run_all.main()
        assert ended.value.code == 1
        assert not results.exists()
    else:
        run_all.main()
        entry = json.loads(results.read_text())
        assert entry["question"] == "make bench: seconds of each script"
        assert list(entry["figures"]) == ["first", "second", "all"]
        assert entry["figures"]["all"] == pytest.approx(
            entry["figures"]["first"] + entry["figures"]["second"], rel=1e-3
        )
    assert sorted(path.name for path in folder.glob("*.ran")) == ["make_results.py.ran", "second.py.ran"]
