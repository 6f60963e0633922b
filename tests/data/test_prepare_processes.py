"""Do several processes give the bytes of one, whatever the lines are, and what is left when one is killed?"""

from __future__ import annotations

import gzip
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopwindow.cli import main
from shopwindow.data import reading
from shopwindow.data.cleaning import choose_rules
from shopwindow.data.competition import MalformedRow, Reason
from shopwindow.data.prepare import prepare
from shopwindow.data.reading import CheckedLine
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


def every_kind() -> list[bytes]:
    """Good rows, repeated rows, conflicts far apart, rows that rules drop, and every malformed row, mixed."""
    good = make_lines(250)
    odd = [line.rstrip(b"\n") + b"\n" for line, _, _ in BROKEN.values()]
    conflicts = [replaced(good[1], "image_h", b"101"), replaced(good[2], "query", b"another")]
    dropped = [make_line(make_product(7, 41), "shoe", 9001), make_line(make_product(8), "'s", 9002)]
    lines = [*good, *odd, *good[:30], *dropped, *dropped]
    random.Random(0).shuffle(lines)
    return [*good[:5], *lines, *conflicts, good[0].rstrip(b"\n")]


@pytest.mark.parametrize(("processes", "range_bytes"), [(2, 700), (3, 20_000)])
def test_several_processes_give_the_bytes_of_one(
    processes: int, range_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "RANGE_BYTES", range_bytes)
    one = write_tsv(tmp_path / "a.tsv", every_kind())
    packed = tmp_path / "b.tsv"
    packed.write_bytes(gzip.compress(HEADER_LINE + b"".join(make_lines(20, first=240))))
    three = write_tsv(tmp_path / "c.tsv", [*make_lines(40, first=245), b"7" * 3000 + b"\n", *make_lines(9)])
    for kept in ((), ("possessive", "many_boxes")):
        said: dict[int, list[tuple[int, int, int]]] = {1: [], processes: []}
        for count, told in said.items():
            prepare(
                [one, packed, three],
                tmp_path / f"by {count}",
                feature_size=SIZE,
                rules=choose_rules(kept),
                allow_malformed=True,
                processes=count,
                progress=lambda *now, told=told: told.append(now),
            )
        alone = directory_bytes(tmp_path / "by 1")
        assert b'"line"' in alone["rejected.jsonl"]
        assert directory_bytes(tmp_path / f"by {processes}") == alone
        assert said[1] == said[processes]
    assert not multiprocessing.active_children()


def malformed(line: bytes) -> MalformedRow:
    """A mark of the line, where only lines are compared."""
    return MalformedRow(Reason.COLUMNS, "line", repr(line))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 12), max_size=12),
    st.booleans(),
    st.integers(1, 30),
    st.integers(3, 9),
)
def test_ranges_have_every_line_once_with_its_end(
    lengths: list[int], ended: bool, size: int, longest: int
) -> None:
    data = b"head\n" + b"\n".join(b"x" * length for length in lengths) + b"\n" * ended
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tsv"
        path.write_bytes(data)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reading, "LONGEST_LINE", longest)
            patch.setattr(reading, "RANGE_BYTES", size)
            patch.setattr(reading, "_checked", lambda line, end, _: CheckedLine(malformed(line), end))
            got: list[object] = []
            for start in range(5, len(data), size):
                found = reading.read_range(path, start, min(start + size, len(data)), 5, 1)
                got += [(str(one.row), one.end) for one in found]
    whole = data[5:].splitlines(keepends=True)
    ends = np.cumsum([5, *map(len, whole)])[1:].tolist()
    assert got == [(str(malformed(line[: longest + 1])), end) for line, end in zip(whole, ends, strict=True)]


def test_a_file_of_malformed_rows_alone_is_told_as_by_one_process(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "a.tsv", [b"x\n"] * 5_000)
    told = []
    for processes in (1, 2):
        with pytest.raises(DataError, match=r"a\.tsv line 2: 1000 of 1000 rows read") as caught:
            prepare([source], tmp_path / "ds", feature_size=SIZE, processes=processes)
        told.append((str(caught.value), (tmp_path / "ds.rejected.jsonl").read_bytes()))
    assert told[0] == told[1]


def test_only_a_header_and_a_missing_file_are_told(tmp_path: Path) -> None:
    source = tmp_path / "a.tsv"
    source.write_bytes(HEADER_LINE.rstrip(b"\n"))
    with pytest.raises(DataError, match="no row is left to store of 0"):
        prepare([source], tmp_path / "ds", processes=2)
    with pytest.raises(DataError, match="no such file"):
        prepare([tmp_path / "no.tsv"], tmp_path / "ds", processes=2)
    for processes in (0, 65):
        with pytest.raises(ValueError, match=f"processes: {processes}, from 1 to 64"):
            prepare([source], tmp_path / "ds", processes=processes)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tsv"]


def test_a_killed_reader_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "RANGE_BYTES", 2000)
    source = write_tsv(tmp_path / "a.tsv", make_lines(2_000))

    def kill_one(rows: int, done: int, total: int) -> None:
        child = multiprocessing.active_children()[0].pid
        assert child is not None
        os.kill(child, signal.SIGKILL)
        time.sleep(0.2)

    with pytest.raises(DataError, match=r"a\.tsv: a process that read it ended early"):
        prepare([source], tmp_path / "ds", feature_size=SIZE, processes=2, progress=kill_one)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tsv"]
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_killed_at_random_moments_then_repeated_gives_the_same_bytes(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "a.tsv", make_lines(8_000))
    prepare([source], tmp_path / "wanted", feature_size=SIZE)
    wanted = directory_bytes(tmp_path / "wanted")
    code = (
        "import sys; from shopwindow.data import reading; from shopwindow.data.prepare import prepare\n"
        "reading.RANGE_BYTES = 20_000\n"
        f"prepare([sys.argv[1]], sys.argv[2], feature_size={SIZE}, processes=2)"
    )
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "ds")]
    moments = random.Random(1)
    inside = 0
    for _ in range(5):
        run = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not (tmp_path / ".ds.partial").exists() and run.poll() is None:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 2))
        inside += (tmp_path / ".ds.partial").exists()
        run.kill()
        run.wait()
        if (tmp_path / "ds").exists():
            assert directory_bytes(tmp_path / "ds") == wanted
    assert inside >= 2
    subprocess.run(command, check=True)
    assert directory_bytes(tmp_path / "ds") == wanted
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tsv", "ds", "wanted"]
    deadline = time.monotonic() + 20
    while mappings(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not mappings(tmp_path)


def mappings(folder: Path) -> list[str]:
    """What living readers, also those of a killed process, have mapped below a folder."""
    found = []
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            found += [
                line for line in maps.read_text().splitlines() if f"{folder}/" in line and "spool" in line
            ]
        except OSError:
            continue
    return found


def test_a_million_processes_are_refused_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_tsv(tmp_path / "a.tsv", make_lines(3))
    with pytest.raises(SystemExit) as ended:
        main(["prepare", str(source), "--out", str(tmp_path / "ds"), "--processes", "1000000"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "shopwindow: processes: 1000000, from 1 to 64 are wanted\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.tsv"]


def test_the_verb_takes_processes(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "a.tsv", make_lines(100))
    command = ["prepare", str(source), "--feature-size", str(SIZE), "--out"]
    main([*command, str(tmp_path / "one")])
    main([*command, str(tmp_path / "two"), "--processes", "2"])
    assert directory_bytes(tmp_path / "one") == directory_bytes(tmp_path / "two")


def test_a_script_without_main_guard_is_told_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("no competition file\n")
    script = tmp_path / "script.py"
    script.write_text(
        "from shopwindow.data.prepare import prepare\nprepare(['a.tsv'], 'out', processes=2)\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"ValueError: several processes import {script} anew: put its work"
    )
    assert done.stderr.count("Traceback") == 1
