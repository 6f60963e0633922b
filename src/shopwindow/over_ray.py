"""How do shards go over a Ray cluster? As plain tasks: Ray places them, and starts them anew where a node is lost.

The folder of the shards lies where every node can read and write it. Nothing of a shard travels but its name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shopwindow.files import DataError
from shopwindow.shards import Done, Shard

_RETRIES: Final = 3
"""Of a task whose process or node was lost."""
_AHEAD: Final = 2
"""Tasks in flight for each that the cluster can run at once."""
_SECONDS: Final = 5.0


@dataclass(frozen=True)
class OverRay:
    """A cluster that is up: `address` is `ray://HOST:PORT` (Ray's client), `HOST:PORT`, or "" for the one that
    RAY_ADDRESS names or that runs here; where there is none, one is started on this machine for the time being.

    `processors` and `gpus` are what a task asks for.
    """

    address: str = ""
    processors: int = 1
    gpus: float = 0.0

    def __call__(self, do: Callable[[Shard], str], shards: Sequence[Shard]) -> Iterator[Done]:
        """Each shard once, in the order in which they end.

        Raises: DataError for no cluster at the address, or one that never has what a task asks for; ImportError where
        Ray is missing.
        """
        ray = _ray()
        if not ray.is_initialized():
            _connect(ray, self.address)
        self._check_has(ray.cluster_resources())
        task = ray.remote(num_cpus=self.processors, num_gpus=self.gpus, max_retries=_RETRIES)(_call)
        work, folder = ray.put(do), os.getcwd()  # noqa: PTH109 - a text to send
        left = list(reversed(shards))
        running: dict[Any, Shard] = {}
        try:
            while left or running:
                for _ in range(min(len(left), self._most(ray) - len(running))):
                    shard = left.pop()
                    running[task.remote(work, shard, folder)] = shard
                ended, _ = ray.wait(list(running), num_returns=1, timeout=_SECONDS)
                for reference in ended:
                    yield running.pop(reference), _result(ray, reference)
        finally:
            for reference in running:
                ray.cancel(reference)

    def _most(self, ray: Any) -> int:
        """Tasks in flight at most; nodes may come and go."""
        return _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 0)) // self.processors)

    def _check_has(self, has: dict[str, float]) -> None:
        """Raises: DataError where no task could ever run."""
        if has.get("CPU", 0) < self.processors or has.get("GPU", 0) < self.gpus:
            wanted = f"{self.processors} processors" + (f" and {self.gpus:g} GPUs" if self.gpus else "")
            raise DataError(f"the cluster has no node for {wanted}", field="--over")


def _call(do: Callable[[Shard], str], shard: Shard, folder: str) -> str:
    """In a process of Ray: its own current folder is another, and names may be relative to ours."""
    try:
        os.chdir(folder)
    except OSError:
        return f"{folder}: this node does not have the folder where the command was given; all nodes must share it"
    return do(shard)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ImportError("Ray is not installed: pip install 'shopwindow[ray]'") from error
    return ray


def _connect(ray: Any, address: str) -> None:
    try:
        ray.init(address=address or None, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"no Ray cluster at {address or 'RAY_ADDRESS'}: {reason}", field="--over") from error


def _result(ray: Any, reference: Any) -> str:
    try:
        return str(ray.get(reference))
    except ray.exceptions.RayError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return f"Ray: {lines[-1] if lines else type(error).__name__}"
