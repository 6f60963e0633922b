"""How is long work done in shards, here, by several processes, or by any number of machines?

A work is cut into shards. Each is done alone and leaves a folder in `OUT.shards`, named by its number and by what it
was made of; its card is written last. What is finished is skipped. When all are there, the verb itself joins them.
Knows no verb; Ray is in `over_ray.py`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import multiprocessing
import multiprocessing.connection
import os
import queue
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from shopwindow.files import DataError, alone, check_fields, check_writable, read_card, whole_file

CARD: Final = "shard.json"
FORMAT: Final = "shopwindow shard 1"
MOST_SHARDS: Final = 99_999
TRIES: Final = 2
_NAME: Final = re.compile(r"([0-9]{5})-of-([0-9]{5})-([0-9a-f]{12})")
_WAIT_SECONDS: Final = 10.0
"""For whoever is at the same shard: a process that is being killed."""
_MOST_NAMED: Final = 20
_MOST_ITEMS_NAMED: Final = 8

Done = tuple["Shard", str]
"""A shard that was tried, and why it failed; "" where it is finished."""


@runtime_checkable
class Work(Protocol):
    """What is cut into shards. It travels to other processes and machines, so it holds names and numbers alone."""

    @property
    def things(self) -> str:
        """What a shard has, as products."""
        ...

    def usual_count(self) -> int:
        """Into how many shards it is cut where nobody says."""
        ...

    def settings(self) -> dict[str, Any]:
        """All that decides what a shard holds, input and choices, as JSON."""
        ...

    def do(self, shard: Shard) -> int:
        """Fills the folder `shard.path`; gives how many things the shard has."""
        ...


@dataclass(frozen=True)
class Shard:
    """One of `count` shards, numbered from 1, and the folder where it is to lie."""

    number: int
    count: int
    path: Path

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def rows(self, total: int, *, unit: int = 1) -> range:
        """Its stretch of `total` rows. All shards together have each row once; stretches begin at multiples of `unit`.

        >>> [Shard(number, 3, Path()).rows(10, unit=2) for number in (1, 2, 3)]
        [range(0, 2), range(2, 6), range(6, 10)]
        """
        units = -(-total // unit)
        begin, end = (unit * (units * number // self.count) for number in (self.number - 1, self.number))
        return range(min(begin, total), min(end, total))

    def is_finished(self) -> bool:
        """Whether its card is written."""
        return (self.path / CARD).is_file()


def place_of(text: str, environment: Mapping[str, str]) -> tuple[int, int]:
    """The number and the count that `3/10` or `slurm` (an array's SLURM_ARRAY_TASK_ID) name.

    Raises: DataError.

    >>> place_of("3/10", {})
    (3, 10)
    >>> place_of("slurm", {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "4"})
    (3, 4)
    """
    if text == "slurm":
        try:
            task, first, count = (
                int(environment[f"SLURM_ARRAY_TASK_{name}"]) for name in ("ID", "MIN", "COUNT")
            )
        except (KeyError, ValueError) as error:
            problem = "slurm, but this is no task of a Slurm array (sbatch --array=1-N)"
            raise DataError(problem, field="--shard") from error
        number = task - first + 1
    else:
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if match is None:
            raise DataError(f"{text!r}, wanted I/N such as 3/10, or slurm", field="--shard")
        number, count = int(match[1]), int(match[2])
    if not 1 <= number <= count <= MOST_SHARDS:
        raise DataError(f"{number}/{count}: from 1/N to N/N, at most {MOST_SHARDS:,}", field="--shard")
    return number, count


def work_folder(out: Path) -> Path:
    """Where the shards of `out` lie."""
    return out.with_name(f"{out.name}.shards")


def cut(work: Work, out: Path, count: int) -> list[Shard]:
    """The shards of a work whose result is to be `out`. Raises: DataError as `work.settings`."""
    name = _fingerprint(work.settings())
    folder = work_folder(out)
    return [Shard(at, count, folder / f"{at:05d}-of-{count:05d}-{name}") for at in range(1, count + 1)]


def do_shard(work: Work, shard: Shard) -> None:
    """Does one shard; nothing where it is finished. A second process at the same shard waits some seconds.

    Raises: DataError where another process is at it, or the input is another than it was when the shards were cut.
    """
    if shard.is_finished():
        return
    settings = work.settings()
    if not shard.path.name.endswith(_fingerprint(settings)):
        raise DataError(
            "the input or the settings are others here than where the work was cut", path=shard.path
        )
    card_path = check_writable(shard.path / CARD)
    with alone(card_path, wait_seconds=_WAIT_SECONDS):
        if shard.is_finished():
            return
        items = work.do(shard)
        card = {"format": FORMAT, "settings": settings, "items": items, "files": _sizes(shard.path)}
        with whole_file(card_path) as partial:
            partial.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def map_shards(
    work: Work,
    shards: Sequence[Shard],
    *,
    over: Callable[[Callable[[Shard], str], Sequence[Shard]], Iterator[Done]],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Does all shards that are not finished. One that fails is tried once more at the end; the others go on.

    `over` calls a function on shards somewhere: `here`, `Processes`, `OverRay`.

    Raises: DataError naming the shards that failed twice. The same call goes on with them.
    """
    waiting = [shard for shard in shards if not shard.is_finished()]
    failed: dict[Shard, str] = {}
    for _ in range(TRIES):
        failed = {}
        for shard, problem in over(functools.partial(_tried, work), waiting):
            if problem:
                failed[shard] = problem
            if progress is not None:
                progress(sum(one.is_finished() for one in shards), len(shards))
        waiting = list(failed)
    if failed:
        first, problem = next(iter(failed.items()))
        raise DataError(
            f"{len(failed)} of {len(shards)} shards failed: {_named(failed)}; the others are kept, and the same "
            f"command goes on; shard {first} says: {problem}",
            path=first.path.parent,
        )


def _tried(work: Work, shard: Shard) -> str:
    """Why a shard failed; "" where it is finished."""
    try:
        do_shard(work, shard)
    except (DataError, ValueError, OSError, ImportError, MemoryError) as error:
        return str(error) or type(error).__name__
    return ""


def here(do: Callable[[Shard], str], shards: Sequence[Shard]) -> Iterator[Done]:
    """One shard after the other, in this process."""
    for shard in shards:
        yield shard, do(shard)


@dataclass(frozen=True)
class Processes:
    """As many shards at a time as there are processes. A process that is killed costs its own shard alone."""

    count: int

    def __call__(self, do: Callable[[Shard], str], shards: Sequence[Shard]) -> Iterator[Done]:
        """Each shard once, in the order in which they end."""
        check_main_guard()
        left: queue.SimpleQueue[Shard] = queue.SimpleQueue()
        for shard in shards:
            left.put(shard)
        done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        threads = [
            threading.Thread(target=_work_off, args=(do, left, done), daemon=True)
            for _ in range(min(self.count, len(shards)))
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in shards:
                yield done.get()
        finally:  # interrupted: what has not begun does not begin any more
            with contextlib.suppress(queue.Empty):
                while True:
                    left.get_nowait()


def _work_off(
    do: Callable[[Shard], str], left: queue.SimpleQueue[Shard], done: queue.SimpleQueue[Done]
) -> None:
    """Does what is left, a shard at a time, in a process of its own; in a new one where that was killed."""
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as open_process:
        process = None
        while True:
            try:
                shard = left.get_nowait()
            except queue.Empty:
                return
            if process is None:
                process = ProcessPoolExecutor(1, context, initializer=end_with_parent)
                open_process.enter_context(process)
            try:
                problem = process.submit(do, shard).result()
            except BrokenProcessPool:
                problem, process = "its process ended early; is the memory full?", None
            except Exception as error:  # of the code itself: it must not stop the others
                problem = f"{type(error).__name__}: {error}"
            done.put((shard, problem))


def finished(work: Work, out: Path) -> list[Path]:
    """The folders of all shards of a work, in order. Where it was cut twice, into 2 and into 5, one whole set is taken.

    Raises: DataError naming the shards that are missing, that are of other settings, or whose files are not whole.
    """
    folder, settings = work_folder(out), work.settings()
    own: dict[int, dict[int, Path]] = {}
    others = []
    for path in sorted(folder.glob("*-of-*")):
        match = _NAME.fullmatch(path.name)
        if match is not None and (path / CARD).is_file():
            if match[3] == _fingerprint(settings):
                own.setdefault(int(match[2]), {})[int(match[1])] = path
            else:
                others.append(path)
    for count, shards in own.items():
        if len(shards) == count:
            paths = [shards[number] for number in range(1, count + 1)]
            for path in paths:
                _check_card(path, settings)
            return paths
    raise DataError("; ".join(_gaps(own) + _strangers(others, settings)), path=folder)


def forget(shards: Sequence[Path]) -> None:
    """Takes away shards that were joined, and all others of the same settings; the folder too, where none is left."""
    folder, fingerprint = shards[0].parent, shards[0].name.rpartition("-")[2]
    for path in folder.glob(f"*-{fingerprint}"):
        shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _gaps(own: Mapping[int, Mapping[int, Path]]) -> list[str]:
    if not own:
        return ["holds no finished shard of these settings; --shard I/N makes them"]
    says = []
    for count, shards in own.items():
        missing = [f"{number}/{count}" for number in range(1, count + 1) if number not in shards]
        says.append(f"shards are missing: {_named(missing)}")
    return says


def _strangers(others: Sequence[Path], settings: Mapping[str, Any]) -> list[str]:
    """What differs in shards of other settings."""
    if not others:
        return []
    card = read_card(others[0] / CARD, format=FORMAT, made_by="VERB --shard I/N")
    check_fields(card, {"settings": dict}, others[0] / CARD)
    was = card["settings"]
    differing = [name for name in settings if was.get(name) != settings[name]]
    says = ", ".join(
        f"{name} was {_short(was.get(name))}, now {_short(settings[name])}" for name in differing
    )
    return [f"{len(others)} shards are of other settings, such as {others[0].name}: {says}"]


def _check_card(path: Path, settings: Mapping[str, Any]) -> None:
    card = read_card(path / CARD, format=FORMAT, made_by="VERB --shard I/N")
    check_fields(card, {"settings": dict, "items": int, "files": dict}, path / CARD)
    if card["settings"] != settings:
        raise DataError("is of other settings than its name says; remove it and make it again", path=path)
    sizes = _sizes(path)
    for name, size in card["files"].items():
        if sizes.get(name) != size:
            problem = (
                f"{name}: {sizes.get(name, 'no')} bytes, {size} were written; remove it and make it again"
            )
            raise DataError(problem, path=path)


def items_of(path: Path) -> int:
    """How many things a finished shard has."""
    return int(read_card(path / CARD, format=FORMAT, made_by="VERB --shard I/N")["items"])


def link_or_copy(path: Path, out: Path) -> None:
    """A file of a shard under another name: linked where the file system can."""
    try:
        os.link(path, out)
    except OSError:
        shutil.copyfile(path, out)


def emptied(path: Path) -> Path:
    """A new folder in place of what an earlier try left."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file below a folder but the card and what is hidden."""
    return {
        name: path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and (name := path.relative_to(folder).as_posix()) != CARD
        and not path.name.startswith(".")
    }


def _fingerprint(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def _named(shards: Iterator[Any] | Sequence[Any] | Mapping[Any, Any]) -> str:
    names = [str(shard) for shard in shards]
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def check_main_guard() -> None:
    """Raises: ValueError in a script that fresh interpreters could not import without running it."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is None or getattr(main, "__spec__", None) is not None:
        return
    with contextlib.suppress(OSError):
        if b"__main__" not in Path(file).read_bytes():
            raise ValueError(
                f'several processes import {file} anew: put its work under `if __name__ == "__main__":`, or ask for one'
            )


def end_with_parent() -> None:
    """What a process of ours does first: it leaves Ctrl-C to the one that started it, and ends when that is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
