"""Shards: cut without gaps, done once, tried again, named where they fail, and refused where they do not belong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopwindow.cli import main
from shopwindow.files import DataError
from shopwindow.shards import (
    CARD,
    Processes,
    Shard,
    cut,
    do_shard,
    finished,
    forget,
    here,
    items_of,
    map_shards,
    place_of,
    work_folder,
)
from tests.data.rows import make_lines, write_tsv


@dataclass(frozen=True)
class Letters:
    """Writes a letter in each shard. Shard `bad` fails as often as `times` says; `dies` kills its process once."""

    log: str
    letter: str = "a"
    bad: int = 0
    times: int = 0
    dies: int = 0
    things: str = "letters"

    def usual_count(self) -> int:
        return 3

    def settings(self) -> dict[str, Any]:
        return {"verb": "letters", "letter": self.letter}

    def do(self, shard: Shard) -> int:
        with Path(self.log).open("a", encoding="utf-8") as file:
            file.write(f"{shard.number}\n")
        tries = Path(self.log).read_text(encoding="utf-8").split().count(str(shard.number))
        if shard.number == self.bad and tries <= self.times:
            raise DataError("is bad", path="input", line=shard.number)
        if shard.number == self.dies and tries == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        (shard.path / "letters.txt").write_text(self.letter, encoding="utf-8")
        return 1


def letters(tmp_path: Path, **options: Any) -> Letters:
    return Letters(str(tmp_path / "log"), **options)


def done_by(tmp_path: Path) -> list[str]:
    return (tmp_path / "log").read_text(encoding="utf-8").split()


@given(st.integers(0, 1000), st.integers(1, 50), st.integers(1, 40))
def test_all_rows_are_in_one_shard_each(total: int, count: int, unit: int) -> None:
    rows = [Shard(number, count, Path()).rows(total, unit=unit) for number in range(1, count + 1)]
    assert [row for some in rows for row in some] == list(range(total))
    assert all(some.start % unit == 0 or not some for some in rows)
    sizes = [len(some) for some in rows]
    assert max(sizes) - min(sizes) <= 2 * unit


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/100000", "a/b", "slurm"])
def test_a_place_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="--shard"):
        place_of(text, {})


def test_finished_shards_are_skipped_and_counted(tmp_path: Path) -> None:
    work, told = letters(tmp_path), []
    shards = cut(work, tmp_path / "out", 3)
    do_shard(work, shards[1])
    map_shards(work, shards, over=here, progress=lambda done, total: told.append((done, total)))
    map_shards(work, shards, over=here)
    assert done_by(tmp_path) == ["2", "1", "3"]
    assert told == [(2, 3), (3, 3)]
    assert [items_of(path) for path in finished(work, tmp_path / "out")] == [1, 1, 1]
    other = letters(tmp_path, letter="b")
    do_shard(other, cut(other, tmp_path / "out", 2)[0])
    forget(finished(work, tmp_path / "out"))
    assert [path.name[:14] for path in work_folder(tmp_path / "out").iterdir()] == ["00001-of-00002"]
    forget([cut(other, tmp_path / "out", 2)[0].path])
    assert not work_folder(tmp_path / "out").exists()


def test_a_failed_shard_is_tried_again_after_the_others(tmp_path: Path) -> None:
    work = letters(tmp_path, bad=1, times=1)
    map_shards(work, cut(work, tmp_path / "out", 3), over=here)
    assert done_by(tmp_path) == ["1", "2", "3", "1"]


def test_a_shard_that_fails_twice_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    work = letters(tmp_path, bad=2, times=2)
    shards = cut(work, tmp_path / "out", 3)
    with pytest.raises(DataError, match=r"1 of 3 shards failed: 2/3; .*shard 2/3 says: input line 2: is bad"):
        map_shards(work, shards, over=here)
    with pytest.raises(DataError, match="shards are missing: 2/3"):
        finished(work, tmp_path / "out")
    map_shards(work, shards, over=here)
    assert done_by(tmp_path) == ["1", "2", "3", "2", "2"]
    assert len(finished(work, tmp_path / "out")) == 3


def test_a_killed_process_costs_its_own_shard_alone(tmp_path: Path) -> None:
    work = letters(tmp_path, dies=2)
    map_shards(work, cut(work, tmp_path / "out", 5), over=Processes(2))
    assert sorted(done_by(tmp_path)) == ["1", "2", "2", "3", "4", "5"]
    assert len(finished(work, tmp_path / "out")) == 5


def test_shards_of_other_settings_and_broken_ones_are_refused(tmp_path: Path) -> None:
    work, out = letters(tmp_path), tmp_path / "out"
    with pytest.raises(DataError, match="no finished shard"):
        finished(work, out)
    shards = cut(work, out, 2)
    map_shards(work, shards, over=here)
    other = letters(tmp_path, letter="b")
    with pytest.raises(DataError, match='letter was "a", now "b"'):
        finished(other, out)
    # One that was renamed to pass for another's.
    stranger = cut(other, out, 2)[0].path
    shards[0].path.rename(stranger)
    do_shard(other, cut(other, out, 2)[1])
    with pytest.raises(DataError, match="other settings than its name says"):
        finished(other, out)
    stranger.rename(shards[0].path)
    (shards[1].path / "letters.txt").write_text("aa", encoding="utf-8")
    with pytest.raises(DataError, match=r"letters\.txt: 2 bytes, 1 were written"):
        finished(work, out)
    card = shards[1].path / CARD
    card.write_text(json.dumps({"format": "shopwindow shard 0"}), encoding="utf-8")
    with pytest.raises(DataError, match="shopwindow shard 1"):
        finished(work, out)


def test_work_that_was_cut_twice_is_joined_by_the_whole_set(tmp_path: Path) -> None:
    work, out = letters(tmp_path), tmp_path / "out"
    do_shard(work, cut(work, out, 5)[3])
    map_shards(work, cut(work, out, 2), over=here)
    assert [path.name[:14] for path in finished(work, out)] == ["00001-of-00002", "00002-of-00002"]


def test_a_shard_that_was_killed_is_no_finished_one(tmp_path: Path) -> None:
    """From outside: the process of `--shard` is killed between its file and its card."""
    script = (
        "import time, sys; from pathlib import Path; from tests.test_shards import Letters; "
        "from shopwindow.shards import cut, do_shard\n"
        "class Slow(Letters):\n"
        "    def do(self, shard):\n"
        "        super().do(shard); print('written', flush=True); time.sleep(60); return 1\n"
        "work = Slow(sys.argv[1]); do_shard(work, cut(work, Path(sys.argv[2]), 2)[0])\n"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "log"), str(tmp_path / "out")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        work, started = letters(tmp_path), time.monotonic()
        shard = cut(work, tmp_path / "out", 2)[0]
        assert not shard.is_finished()
        process.kill()
    do_shard(work, shard)
    assert time.monotonic() - started < 10
    assert done_by(tmp_path) == ["1", "1"]
    assert shard.is_finished()


def test_ray_that_is_missing_is_named_with_its_extra(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    path = write_tsv(tmp_path / "a.tsv", make_lines(5))
    with pytest.raises(SystemExit) as stop:
        main(["prepare", str(path), "--out", str(tmp_path / "out"), "--over", "ray"])
    assert stop.value.code == 2
    assert "pip install 'shopwindow[ray]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--over", "spark"], "--over: 'spark', wanted processes"),
        (["--shards", "3"], "--shards: goes with --over"),
        (["--shard", "1/2", "--merge"], "--shard: does not go with --merge"),
        (["--over", "ray", "--processes", "2"], "--processes: goes without shards"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_tsv(tmp_path / "a.tsv", make_lines(5))
    with pytest.raises(SystemExit):
        main(["prepare", str(path), "--out", str(tmp_path / "out"), *words])
    assert says in capsys.readouterr().err
