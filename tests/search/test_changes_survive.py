"""Whatever happens to a change of an index, its directory holds the old state or the new one, whole.

Changes run in processes of their own, forked from one that has everything imported. They are killed (SIGKILL) at one
call into the file system after the other, run against each other, and run out of disk.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shopwindow.cli import main
from shopwindow.search.building import add_products, build_index, compact_index, delete_products
from shopwindow.search.engine import SearchEngine
from shopwindow.search.hits import Hit
from shopwindow.search.index import Manifest
from tests.search.catalogue import write_dataset
from tests.search.conftest import Shop
from tests.search.test_building import WORDS, files_of

pytestmark = pytest.mark.slow
CHANGES = ("add", "delete", "compact")
REFUSED, DONE = 2, 0


@pytest.fixture(scope="module")
def processes() -> Any:
    """Makes processes that need not import anything first."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, late: Shop) -> Path:
    """An index of two segments that keeps regions, some products deleted, and `more`, a dataset beside it."""
    folder = tmp_path_factory.mktemp("changes")
    index = folder / "index"
    build_index(late.bundle, write_dataset(folder / "few", range(40)), index, approximate_from=20)
    add_products(index, write_dataset(folder / "some", range(35, 50), seed=3))
    delete_products(index, [0, 1])
    write_dataset(folder / "more", range(45, 60), seed=5)
    shutil.copytree(index / "bundle", folder / "bundle")  # an index is not made of the one that it replaces
    return folder


def words_of(change: str, index: Path, start: Path) -> list[str]:
    """The command of a change."""
    return {
        "add": ["index", "add", str(index), str(start / "more"), "--texts", str(start / "more")],
        "delete": ["index", "delete", str(index), "2", "3", "40"],
        "compact": ["index", "compact", str(index)],
        "build": ["index", "make", str(start / "bundle"), str(start / "more"), "--out", str(index)],
    }[change]


def run_change(words: list[str], index: Path, kill_at: int, seen: Any) -> None:
    """Runs a change in this process; kills it at the `kill_at`-th call about the index's folder. Counts them."""
    count = 0

    def count_or_die(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        about = event.startswith(("os.", "shutil.")) or event == "open" or arguments[-1:] == ("renameat2",)
        if not about or not any(str(index.parent) in str(one) or one == "renameat2" for one in arguments):
            return
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    sys.addaudithook(count_or_die)
    main(words)
    seen.value = count


def outcome(processes: Any, words: list[str], index: Path, kill_at: int = -1) -> tuple[int, int]:
    """How a change in a process of its own ended, and how many calls it made."""
    seen = processes.Value("i", -1)
    process = processes.Process(target=run_change, args=(words, index, kill_at, seen))
    process.start()
    process.join()
    return process.exitcode, seen.value


@pytest.mark.parametrize("change", [*CHANGES, "build"])
def test_killed_at_any_call_leaves_the_old_state_or_the_new(
    processes: Any, start: Path, tmp_path: Path, change: str
) -> None:
    index = tmp_path / "shop" / "index"
    words = words_of(change, index, start)
    shutil.copytree(start / "index", index)
    old = files_of(index)
    ended, calls = outcome(processes, words, index)
    assert ended == DONE
    new = files_of(index)
    assert old != new
    assert calls > 20
    moments = np.random.default_rng(len(change)).integers(0, calls, 2).tolist()
    found = []
    for moment in sorted({*moments, *range(calls - 8, calls)}):
        shutil.rmtree(index.parent)
        shutil.copytree(start / "index", index)
        ended, _ = outcome(processes, words, index, moment)
        assert ended == -signal.SIGKILL
        left = files_of(index)
        assert left in (old, new), f"killed at call {moment} of {calls}"
        found.append(left == new)
        if left == old:
            assert outcome(processes, words, index)[0] == DONE
            assert files_of(index) == new
            # what the kill left is cleared
            assert [path.name for path in index.parent.iterdir()] == ["index"]
    assert {*found} == {False, True}
    assert found == sorted(found)  # old until one moment, new from then on


def wait_inside(words: list[str], inside: Any, leave: Any) -> None:
    """Runs a change that stops while it holds the index's lock."""

    def stop(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.mkdir" and "partial" in str(arguments[0]) and not inside.is_set():
            inside.set()
            leave.recv()

    sys.addaudithook(stop)
    main(words)


@contextlib.contextmanager
def held(processes: Any, words: list[str]) -> Iterator[BaseProcess]:
    # a pipe, not a second event: setting one waits for its waiters to wake, killed ones too
    inside, (leave, let) = processes.Event(), processes.Pipe(duplex=False)
    process = processes.Process(target=wait_inside, args=(words, inside, leave))
    process.start()
    assert inside.wait(60)
    try:
        yield process
    finally:
        let.send(None)
        process.join()


@pytest.mark.parametrize("change", [*CHANGES, "build"])
def test_second_writer_is_refused_and_the_first_ends_well(
    processes: Any, start: Path, tmp_path: Path, change: str, capfd: pytest.CaptureFixture[str]
) -> None:
    index = tmp_path / "index"
    shutil.copytree(start / "index", index)
    with held(processes, words_of("delete", index, start)) as first:
        with pytest.raises(SystemExit) as left:
            main(words_of(change, index, start))
        assert left.value.code == REFUSED
        said = capfd.readouterr().err.strip()
        assert said == f"shopwindow: {index}: another process is writing it"
    assert first.exitcode == DONE
    engine = SearchEngine.open(index)
    assert engine.stats()["products"] == 45
    main(words_of("compact", index, start))


def test_killed_writer_keeps_nobody_out(processes: Any, start: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    shutil.copytree(start / "index", index)
    with held(processes, words_of("compact", index, start)) as first:
        first.kill()
        first.join()
        main(words_of("delete", index, start))
    assert first.exitcode == -signal.SIGKILL
    assert SearchEngine.open(index).stats()["products"] == 45


def delete_until_done(index: Path, product_id: int) -> None:
    """Deletes a product, again and again while others write."""
    from shopwindow.files import DataError

    for _ in range(2000):
        try:
            delete_products(index, [product_id])
            return
        except DataError as error:
            if "another process is writing it" not in str(error):
                raise
            threading.Event().wait(0.01)
    sys.exit(1)


def test_no_change_of_many_writers_is_lost(processes: Any, start: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    shutil.copytree(start / "index", index)
    writers = [processes.Process(target=delete_until_done, args=(index, one)) for one in (5, 6, 7, 41)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [DONE] * 4
    engine = SearchEngine.open(index)
    found = {hit.product_id for hit in engine.search("red", k=1000)}
    assert found == set(range(2, 50)) - {5, 6, 7, 41}
    assert engine.version.split("-")[0] == "7"  # three changes before


def cycle(index: Path, start: Path) -> Iterator[Manifest]:
    """Changes that end in the products and vectors of the beginning; a pause after each."""
    yield add_products(index, start / "more")
    yield delete_products(index, list(range(45, 60)))
    yield compact_index(index)
    yield add_products(index, start / "some")
    yield compact_index(index)


def run_cycles(index: Path, start: Path, times: int) -> None:
    """Several cycles, one after the other."""
    for _ in range(times):
        assert len(list(cycle(index, start))) == 5


Answer = tuple[tuple[Hit, ...], ...]


def answer(engine: SearchEngine) -> Answer:
    """What one state says to all words: every product with its score."""
    return tuple(tuple(hits) for hits in engine.search_many(WORDS, k=1000, exact=True))


def test_reader_sees_one_state_after_the_other_and_no_mixture(
    processes: Any, start: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    shutil.copytree(start / "index", index)
    known = {answer(SearchEngine.open(index))}
    for _ in cycle(index, start):
        known.add(answer(SearchEngine.open(index)))
    assert len(known) >= 3
    writer = processes.Process(target=run_cycles, args=(index, start, 4))
    engine = SearchEngine.open(index)
    seen, versions = set(), set()
    writer.start()
    while writer.is_alive():
        engine.reload()
        seen.add(answer(engine))
        versions.add(engine.version)
        seen.add(answer(SearchEngine.open(index)))  # a reader that comes in between
    writer.join()
    assert writer.exitcode == DONE
    assert seen <= known
    assert len(versions) > 2


def run_short_of_disk(words: list[str], size: int, said: Path) -> None:
    """Runs a command that may write no file beyond a size, as on a full disk; its errors go into a file."""
    with said.open("w") as file:
        os.dup2(file.fileno(), 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    main(words)


@pytest.mark.parametrize("size", [250, 1000, 3000])
@pytest.mark.parametrize("change", [*CHANGES, "build"])
def test_full_disk_is_one_clear_line_and_the_old_state(
    processes: Any, start: Path, tmp_path: Path, change: str, size: int
) -> None:
    index, said = tmp_path / "index", tmp_path / "said"
    shutil.copytree(start / "index", index)
    before = files_of(index)
    process = processes.Process(target=run_short_of_disk, args=(words_of(change, index, start), size, said))
    process.start()
    process.join()
    assert files_of(index) == before
    assert not (tmp_path / ".index.partial").exists()
    assert process.exitcode == REFUSED
    assert re.fullmatch(rf"shopwindow: {tmp_path}/\S+: cannot be written: .*\n", said.read_text())
