"""How do several processes take the steps of one training together, a device each?

Each encodes its share of a batch's pairs; the vectors are gathered, so that every process sees all negatives and finds
the same loss; gradients are averaged by torch's DistributedDataParallel. Knows no model and no file.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import queue
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, distributed

from shopwindow.files import DataError

_SECONDS: Final = 0.2
"""Between looks at whether a silent process is still alive."""


@dataclass(frozen=True)
class Place:
    """Which of how many processes this is."""

    number: int = 0
    of: int = 1

    @property
    def leads(self) -> bool:
        """Whether it validates, saves and tells."""
        return self.number == 0


def gathered(own: Float[Tensor, "share dimensions"]) -> Float[Tensor, "pairs dimensions"]:
    """The rows of all processes, those of the first first; every process must call it with as many rows.

    Its gradient is that of the own rows times the number of processes: all of them find the same loss of all rows, and
    averaging their gradients, as DistributedDataParallel does, then gives the sum over all rows.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return own
    out: Tensor = _Gather.apply(own)  # type: ignore[no-untyped-call] # torch's
    return out


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        world = distributed.get_world_size()
        return gradients[0].chunk(world)[distributed.get_rank()] * world


def place() -> tuple[int, int]:
    """The number of this process, and of how many."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def summed(own: Tensor) -> Tensor:
    """The sum over all processes, without a gradient; where there is one, its own tensor."""
    if place()[1] == 1:
        return own.detach()
    total = own.detach().clone()
    distributed.all_reduce(total)
    return total


def joined(own: Tensor, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """What all processes have, joined two by two in their order; without a gradient."""
    _, world = place()
    return own if world == 1 else functools.reduce(join, gathered(own.detach()).chunk(world))


def run_together(
    count: int, work: Callable[..., object], *arguments: object, tell: Callable[[Any], None]
) -> None:
    """Calls work(place, say, *arguments) in `count` new processes on this machine and waits for all of them.

    What the first passes to its `say` is handed to `tell`, in this process. Arguments must be picklable. When one fails
    or `tell` raises, all are ended.
    Raises: DataError with the words of a process's own DataError; RuntimeError when a process dies otherwise.
    """
    context = multiprocessing.get_context("spawn")
    said: multiprocessing.Queue[tuple[str, Any]] = context.Queue()
    port, threads = _free_port(), max(1, torch.get_num_threads() // count)
    started = []
    try:
        for number in range(count):
            process = context.Process(
                target=_run, args=(Place(number, count), port, threads, said, work, arguments), daemon=True
            )
            process.start()
            started.append(process)
        _listen(said, started, tell)
    finally:
        for process in started:
            process.kill()  # asked to end, Lightning would first talk to the others, which may have gone
        for process in started:
            process.join()


def _listen(said: Any, started: list[Any], tell: Callable[[Any], None]) -> None:
    done = 0
    while done < len(started):
        try:
            kind, value = said.get(timeout=_SECONDS)
        except queue.Empty:
            dead = [process.exitcode for process in started if process.exitcode]
            if dead:
                raise RuntimeError(f"a process of the training ended with {dead[0]}") from None
            continue
        if kind == "says":
            tell(value)
        elif kind == "wrong":
            raise DataError(value)
        elif kind == "failed":
            raise RuntimeError(f"a process of the training failed: {value}")
        else:
            done += 1


def _run(
    place: Place,
    port: int,
    threads: int,
    said: Any,
    work: Callable[..., object],
    arguments: tuple[object, ...],
) -> None:
    os.environ.update(
        RANK=str(place.number),
        LOCAL_RANK=str(place.number),
        GROUP_RANK="0",
        WORLD_SIZE=str(place.of),
        LOCAL_WORLD_SIZE=str(place.of),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work(place, lambda value: said.put(("says", value)), *arguments)
        said.put(("done", None))
    except DataError as error:
        said.put(("wrong", str(error)))
    except Exception as error:  # the waiting process raises it
        said.put(("failed", repr(error)))


def _end_with_parent() -> None:
    """Ends this process when the one that began it has gone: its files may then be another's to write."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
