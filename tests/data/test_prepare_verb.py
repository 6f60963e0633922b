"""Does `shopwindow prepare` say what it did, show progress, and end every error in one line and exit 2?"""

from __future__ import annotations

import os
import pty
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from shopwindow.cli import main
from shopwindow.data.dataset import Dataset
from tests.data.rows import SIZE, make_line, make_lines, make_product, write_tsv
from tests.data.test_competition import BROKEN

SIZE_OPTION = ["--feature-size", str(SIZE)]


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error of a command that exits 2."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return line


def test_report_is_printed_as_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [*make_lines(200), make_line(make_product(1), "'s", 900), BROKEN["empty line"][0]]
    sources = [write_tsv(tmp_path / "a.tsv", lines[:100]), write_tsv(tmp_path / "b.tsv", lines[100:])]
    main(["prepare", *map(str, sources), "--out", str(tmp_path / "ds"), *SIZE_OPTION])
    printed = capsys.readouterr().out
    for row in (
        "rows read 202",
        "query begins with 's: row dropped 1",
        "malformed: wrong number of columns 1",
        "pairs kept 200",
    ):
        assert row in " ".join(printed.replace("│", " ").split())
    assert printed.splitlines()[-1] == f"dataset: {tmp_path / 'ds'}"
    assert len(Dataset(tmp_path / "ds").pair_products) == 200


def test_rules_can_be_kept_out(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "a.tsv", [make_line(make_product(1, 41), "'s", 1)])
    keep = ["--keep", "possessive", "many_boxes"]
    main(["prepare", str(source), "--out", str(tmp_path / "ds"), *keep, *SIZE_OPTION])
    assert Dataset(tmp_path / "ds").pair_training.tolist() == [True]


def test_malformed_rows_are_allowed_by_a_switch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_tsv(tmp_path / "a.tsv", [*make_lines(10), BROKEN["label -1"][0]])
    command = ["prepare", str(source), "--out", str(tmp_path / "ds"), *SIZE_OPTION]
    line = fails(command, capsys)
    assert line.startswith(f"shopwindow: {source} line 12: 1 of 11 rows read are malformed (9.1%")
    assert "--allow-malformed" in line
    assert "1 unknown label" in line
    main([*command, "--allow-malformed"])
    assert len(Dataset(tmp_path / "ds").pair_products) == 10


def test_every_wrong_input_is_one_line_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = str(write_tsv(tmp_path / "a.tsv", make_lines(3)))
    (tmp_path / "empty.tsv").touch()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.tex").touch()
    out = ["--out", str(tmp_path / "ds"), *SIZE_OPTION]
    for arguments, problem in [
        ([str(tmp_path / "no.tsv"), *out], "no such file"),
        ([good, str(tmp_path / "no.tsv"), *out], "no such file"),
        ([str(tmp_path / "theirs"), *out], "is a directory"),
        ([str(tmp_path / "empty.tsv"), *out], "the file is empty"),
        ([good, *out, "--keep", "everything"], "no cleaning rule 'everything'"),
        ([good, "--out", str(tmp_path / "ds"), "--feature-size", "0"], "feature size 0"),
        ([good, "--out", str(tmp_path / "theirs"), *SIZE_OPTION], "holds other files"),
        ([good, "--out", good, *SIZE_OPTION], "is the same place as"),
        ([good, "--out", f"{good}/ds", *SIZE_OPTION], "lies inside"),
        ([good, "--out", "/", *SIZE_OPTION], "lies inside /, which is replaced"),
        ([good, "--out", str(tmp_path / ("x" * 300)), *SIZE_OPTION], "File name too long"),
    ]:
        assert problem in fails(["prepare", *arguments], capsys)
    assert not (tmp_path / "ds").exists()


@pytest.mark.parametrize(
    "arguments", [["a.tsv"], ["--out", "ds"], ["a.tsv", "--out", "ds", "--feature-size", "big"], ["-x"]]
)
def test_wrong_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["prepare", *arguments])
    assert exit_.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("shopwindow: ")
    assert said.count("\n") == 1


def test_progress_is_plain_lines_where_there_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shopwindow.cli.progress.SECONDS_BETWEEN_LINES", 0.0)
    source = write_tsv(tmp_path / "a.tsv", make_lines(600))
    main(["prepare", str(source), "--out", str(tmp_path / "ds"), *SIZE_OPTION])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("prepare: 250 rows, ")
    assert not lines[0].endswith(" left")  # of the first step nothing can be promised
    assert lines[1].endswith(" s left")
    assert " rows/s, " in lines[0]
    assert " MB/s" in lines[0]


def test_progress_is_a_bar_on_a_terminal(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "a.tsv", make_lines(600))
    command = [sys.executable, "-m", "shopwindow", "prepare", str(source), "--out", str(tmp_path / "ds")]
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    done = subprocess.run(
        [*command, *SIZE_OPTION], stdout=theirs, stderr=theirs, env=environment, check=False
    )
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0, shown
    assert "600 rows" in shown
    assert "━" in shown


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys, contextlib, shopwindow.cli as cli\n"
        "with contextlib.suppress(SystemExit): cli.main(['--help'])\n"
        "print(sorted({'numpy', 'torch', 'pyarrow', 'lightning', 'rich', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "usage" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_small_files_are_prepared_and_opened_without_torch(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "a.tsv", make_lines(3))
    code = (
        "import sys, shopwindow.cli as cli\n"
        "from shopwindow.data.dataset import Dataset\n"
        f"cli.main(['prepare', {str(source)!r}, '--out', {str(tmp_path / 'ds')!r}])\n"
        f"assert len(Dataset({str(tmp_path / 'ds')!r}).query_texts) == 3\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_answers_at_once() -> None:
    def processor_seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-m", "shopwindow", "--help"], check=True, capture_output=True)
        assert b"prepare" in done.stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # 0.3 s on a quiet machine; processor time, because other tests share the cores.
    assert min(processor_seconds() for _ in range(3)) < 0.8
