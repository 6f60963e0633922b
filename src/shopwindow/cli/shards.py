"""The options of verbs that can be done in shards: `--shard`, `--merge`, `--shards` and `--over`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shopwindow.cli.arguments import at_least, optional_libraries
from shopwindow.cli.console import say
from shopwindow.files import STANDARD_STREAM, DataError, real_path
from shopwindow.processors import processors
from shopwindow.shards import (
    MOST_SHARDS,
    Processes,
    Work,
    cut,
    do_shard,
    finished,
    here,
    items_of,
    map_shards,
    place_of,
    work_folder,
)

_MOST_PROCESSES: Final = 256


@dataclass(frozen=True)
class ShardOptions:
    """What was asked for: one shard (`shard`), the joining of all (`merge`), or both over several workers (`over`)."""

    shard: str | None = None
    merge: bool = False
    shards: int | None = None
    over: str | None = None

    def __post_init__(self) -> None:
        at_least(1, shards=self.shards)
        if self.shards is not None and self.shards > MOST_SHARDS:
            raise DataError(f"{self.shards}, at most {MOST_SHARDS:,}", field="--shards")
        given = [name for name in ("shard", "merge", "over") if getattr(self, name)]
        if len(given) > 1:
            raise DataError(f"does not go with --{given[1]}", field=f"--{given[0]}")
        if self.shards is not None and self.over is None:
            raise DataError("goes with --over", field="--shards")
        _over(self.over)

    @property
    def given(self) -> bool:
        """Whether the work is to be done in shards."""
        return bool(self.shard or self.merge or self.over)

    def threads(self, threads: int | None) -> int | None:
        """Threads of each worker: as given, else the machine's processors shared among the workers here, and one over
        Ray; None, all of them, for one shard alone."""
        if threads is not None or self.over is None:
            return threads
        kind, count = _over(self.over)
        return max(1, processors() // count) if kind == "processes" else 1

    def run(
        self, verb: str, work: Work, out: str, *, threads: int | None = None, gpus: float = 0.0
    ) -> list[Path]:
        """The folders of all shards, finished, in order, to be joined; none where one shard alone was asked for.

        Raises: DataError as `map_shards` and `finished`.
        """
        if out == STANDARD_STREAM:
            raise DataError("shards need a name for what is written, not -", field="--out")
        goal = real_path(out)
        if self.shard:
            number, count = place_of(self.shard, os.environ)
            shard = cut(work, goal, count)[number - 1]
            do_shard(work, shard)
            say(f"shard {shard}: {items_of(shard.path):,} {work.things}, in {work_folder(goal)}")
            return []
        if self.over:
            from shopwindow.cli.progress import counting

            shards = cut(work, goal, self.shards or min(MOST_SHARDS, max(1, work.usual_count())))
            with optional_libraries(), counting(verb, "shards") as tell:
                map_shards(work, shards, over=self._engine(threads or 1, gpus), progress=tell)
        return finished(work, goal)

    def _engine(self, threads: int, gpus: float) -> Callable[..., Any]:
        kind, count = _over(self.over)
        if kind == "ray":
            from shopwindow.over_ray import OverRay

            address = self.over if self.over and "://" in self.over else ""
            return OverRay(address, processors=threads, gpus=gpus)
        return Processes(count) if count > 1 else here


def _over(text: str | None) -> tuple[str, int]:
    """The kind and the number of workers. Raises: DataError.

    >>> _over("processes:4"), _over("ray")
    (('processes', 4), ('ray', 0))
    """
    kind, _, count = (text or "processes:1").partition(":")
    if kind == "ray" and (not count or count.startswith("//")):
        return kind, 0
    if kind == "processes" and not count:
        return kind, processors()
    if kind == "processes" and count.isdecimal() and 1 <= int(count) <= _MOST_PROCESSES:
        return kind, int(count)
    wanted = f"processes, processes:N (1 to {_MOST_PROCESSES}), ray or ray://HOST:PORT"
    raise DataError(f"{text!r}, wanted {wanted}", field="--over")
