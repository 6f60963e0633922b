"""What is left when prepare is killed, the disk is full, two run at once, or the input is large?"""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shopwindow.data.prepare import prepare
from shopwindow.files import DataError
from tests.data.rows import SIZE, directory_bytes, make_line, make_lines, make_product, write_tsv

RUN = "import sys; from shopwindow.data.prepare import prepare; prepare(sys.argv[2:], sys.argv[1], feature_size={size})"


def start(out: Path, source: Path, size: int = SIZE, **options: object) -> subprocess.Popen[str]:
    """prepare in its own process."""
    command = [sys.executable, "-c", RUN.format(size=size), str(out), str(source)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return] # options


def finish(run: subprocess.Popen[str]) -> str:
    """Its last line of errors, once it has ended."""
    return (run.communicate()[1].splitlines() or [""])[-1]


def wait_for(path: Path, run: subprocess.Popen[str]) -> None:
    """Until the path is there or the process has ended."""
    while not path.exists() and run.poll() is None:
        time.sleep(0.002)


@pytest.mark.slow
def test_killed_at_random_moments_then_repeated_gives_the_same_bytes(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "a.tsv", make_lines(8_000))
    run = start(tmp_path / "undisturbed", source)
    wait_for(tmp_path / ".undisturbed.partial", run)
    began = time.monotonic()
    assert finish(run) == ""
    seconds = time.monotonic() - began
    wanted = directory_bytes(tmp_path / "undisturbed")

    moments = random.Random(0)
    killed_inside = 0
    for _ in range(10):
        run = start(tmp_path / "ds", source)
        wait_for(tmp_path / ".ds.partial", run)
        time.sleep(moments.uniform(0.0, 0.9) * seconds)
        killed_inside += (tmp_path / ".ds.partial").exists()
        run.kill()
        finish(run)
        if (tmp_path / "ds").exists():  # killed when it was done
            assert directory_bytes(tmp_path / "ds") == wanted
    assert killed_inside >= 3
    assert finish(start(tmp_path / "ds", source)) == ""
    assert directory_bytes(tmp_path / "ds") == wanted
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tsv", "ds", "undisturbed"]


@pytest.mark.slow
def test_killed_while_replacing_leaves_the_old_or_the_new_dataset(tmp_path: Path) -> None:
    old = write_tsv(tmp_path / "old.tsv", make_lines(10))
    new = write_tsv(tmp_path / "new.tsv", make_lines(3000))
    prepare([old], tmp_path / "ds", feature_size=SIZE)
    before = directory_bytes(tmp_path / "ds")
    run = start(tmp_path / "ds", new)
    wait_for(tmp_path / ".ds.partial", run)
    run.kill()
    finish(run)
    assert directory_bytes(tmp_path / "ds") == before
    assert finish(start(tmp_path / "ds", new)) == ""
    assert directory_bytes(tmp_path / "ds") != before


def test_interrupted_by_the_user_leaves_nothing(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "a.tsv", make_lines(300))

    def interrupt(rows: int, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare([source], tmp_path / "ds", feature_size=SIZE, progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tsv"]


def test_second_prepare_of_one_dataset_is_refused(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "a.tsv", make_lines(300))
    refusals = []

    def prepare_again(rows: int, done: int, total: int) -> None:
        with pytest.raises(DataError, match="another process is writing it") as caught:
            prepare([source], tmp_path / "ds", feature_size=SIZE)
        refusals.append(caught)

    assert prepare([source], tmp_path / "ds", feature_size=SIZE, progress=prepare_again).pairs == 300
    assert refusals


def test_foreign_directory_is_not_replaced(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "a.tsv", make_lines(3))
    (tmp_path / "ds").mkdir()
    (tmp_path / "ds" / "thesis.tex").write_text("words")
    with pytest.raises(DataError, match=r"holds other files \(no manifest\.json of shopwindow's\)"):
        prepare([source], tmp_path / "ds", feature_size=SIZE)
    assert (tmp_path / "ds" / "thesis.tex").read_text() == "words"


def at_most(megabytes: float) -> Callable[[], None]:
    """Run in the child: files may not grow beyond this, which to a program is a full disk."""
    size = int(megabytes * 2**20)
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("megabytes", [0.001, 0.1, 0.3])
def test_full_disk_is_one_clear_line_and_leaves_the_old_dataset(tmp_path: Path, megabytes: float) -> None:
    prepare([write_tsv(tmp_path / "old.tsv", make_lines(3))], tmp_path / "ds", feature_size=SIZE)
    before = directory_bytes(tmp_path / "ds")
    source = write_tsv(tmp_path / "a.tsv", make_lines(5_000))
    run = start(tmp_path / "ds", source, preexec_fn=at_most(megabytes))
    assert re.search(r"DataError: .*ds: cannot be written: ", finish(run))
    assert run.returncode == 1
    assert directory_bytes(tmp_path / "ds") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tsv", "ds", "old.tsv"]


PEAK = "; print(max(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')))"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    def peak_kilobytes(rows: int) -> int:
        regions = make_product(1, 7, size=2048)
        source = tmp_path / f"{rows}.tsv"
        columns = make_line(regions).split(b"\t", 1)[1]
        write_tsv(source, (b"%d\t%s" % (row, columns) for row in range(rows)))
        command = [sys.executable, "-c", RUN.format(size=2048) + PEAK, str(tmp_path / "ds"), str(source)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    few, many = peak_kilobytes(2_000), peak_kilobytes(5_000)
    # 3,000 more products are 225 MB of text and 84 MB of regions.
    assert many - few < 20_000
    assert many < 450_000  # 0.3 GB of them is torch


def test_termination_leaves_what_the_next_run_clears(tmp_path: Path) -> None:
    source = tmp_path / "pipe"
    os.mkfifo(source)
    run = start(tmp_path / "ds", source)
    with source.open("wb") as pipe:
        pipe.write(write_tsv(tmp_path / "a.tsv", make_lines(10)).read_bytes())
        pipe.flush()
        while not (tmp_path / ".ds.partial").exists():
            time.sleep(0.005)
        run.send_signal(signal.SIGTERM)
        finish(run)
    assert not (tmp_path / "ds").exists()
    prepare([tmp_path / "a.tsv"], tmp_path / "ds", feature_size=SIZE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tsv", "ds", "pipe"]
