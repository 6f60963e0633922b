"""Ray, two nodes on this machine: the verbs give what one process gives, though a worker and a node are killed.

Skipped where Ray is missing (`pip install 'shopwindow[ray]'`). Takes minutes: Ray starts slowly.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from shopwindow.cli import main
from shopwindow.data.features import Features
from tests.data.rows import directory_bytes, make_line, make_product, write_tsv
from tests.search.catalogue import query_of, write_bundle
from tests.search.test_building import files_of
from tests.vision.photos import write_shop

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
HEAD, OTHER, PORT = "127.0.0.2", "127.0.0.3", 6417
SECONDS = 300
MEMORY = "--object-store-memory=100000000"


@dataclass
class Cluster:
    """Two nodes, each of one processor, on addresses of this machine alone. Their processes are known by the folder."""

    folder: Path
    logs: list[str] = field(default_factory=list)

    def start(self, *words: str) -> None:
        """Starts a node; again where it does not come up in time, as on a busy machine."""
        command = [str(Path(sys.executable).parent / "ray"), "start", "--num-cpus=1", MEMORY, *words]
        for _ in range(3):
            done = subprocess.run(
                [*command, "--disable-usage-stats"],
                env=self.environment(),
                check=False,
                capture_output=True,
                timeout=SECONDS,
            )
            self.logs.append((done.stdout + done.stderr).decode()[-2000:])
            if done.returncode == 0:
                return
        pytest.fail("\n".join(self.logs))

    def start_head(self) -> None:
        self.start("--head", f"--node-ip-address={HEAD}", f"--port={PORT}", f"--temp-dir={self.folder}",
                   "--include-dashboard=false")  # fmt: skip

    def start_other(self) -> None:
        self.start(f"--address={HEAD}:{PORT}", f"--node-ip-address={OTHER}")

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        return {
            **os.environ,
            "PYTHONPATH": path,
            "RAY_ADDRESS": f"{HEAD}:{PORT}",
            "OMP_NUM_THREADS": "1",
            "RAY_worker_niceness": "0",
        }

    def processes(self, *marks: str) -> list[int]:
        """Processes of the cluster whose command has these marks."""
        found = []
        for one in Path("/proc").iterdir():
            if one.name.isdecimal():
                try:
                    words = (one / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue
                if all(mark in words for mark in marks):
                    found.append(int(one.name))
        return found

    def raylet_of(self, address: str) -> int:
        return self.processes(str(self.folder), "raylet/raylet", f"--node_ip_address={address}")[0]

    def workers_of(self, address: str) -> list[int]:
        """Processes of a node that run a shard now."""
        raylet = self.raylet_of(address)
        return [one for one in self.processes("ray::_call") if parent_of(one) == raylet]

    def stop(self) -> None:
        for one in self.processes(str(self.folder)):
            if one != os.getpid():
                end(one)


def parent_of(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    except OSError:
        return -1


def end(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    pytest.importorskip("ray")
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets have short names
    nodes = Cluster(folder)
    try:
        nodes.start_head()
        nodes.start_other()
        yield nodes
    finally:
        nodes.stop()
        shutil.rmtree(folder, ignore_errors=True)


def over_ray(
    cluster: Cluster, words: list[str], *, meanwhile: Callable[[], bool] | None = None, folder: Path
) -> bool:
    """Runs a verb over the cluster; `meanwhile` is called until it is true. Whether it was."""
    happened = threading.Event()
    command = [sys.executable, "-m", "shopwindow", *words, "--over", "ray"]
    with subprocess.Popen(command, cwd=folder, env=cluster.environment(), stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 2 * SECONDS
        while process.poll() is None and time.monotonic() < until:
            if meanwhile is not None and not happened.is_set() and meanwhile():
                happened.set()
            time.sleep(0.02)
        process.kill()
        assert process.stderr is not None
        assert process.returncode == 0, process.stderr.read().decode()
    return happened.is_set()


def test_a_killed_worker_changes_no_features(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shop(tmp_path / "shop", 60)
    words = ["extract", "shop/photos", "--backbone", "plain"]
    monkeypatch.chdir(tmp_path)
    main([*words, "--out", "one"])

    def kill_a_worker() -> bool:
        busy = cluster.workers_of(HEAD) + cluster.workers_of(OTHER)
        for process in busy[:1]:
            end(process)
        return bool(busy)

    assert over_ray(
        cluster, [*words, "--out", "many", "--shards", "4"], meanwhile=kill_a_worker, folder=tmp_path
    )
    one, many = Features("one"), Features("many")
    assert many.content_hash == one.content_hash
    rows = np.arange(60)
    assert many.regions(rows).features.equal(one.regions(rows).features)
    assert not (tmp_path / "many.shards").exists()


def test_a_killed_node_that_is_replaced_changes_no_dataset_and_no_index(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [make_line(make_product(one, 1 + one % 3), query_of(one), one) for one in range(300)]
    path = write_tsv(tmp_path / "train.tsv", [*lines, *lines[:50]])
    monkeypatch.chdir(tmp_path)
    main(["prepare", path.name, "--out", "one"])

    def kill_the_node() -> bool:
        if not cluster.workers_of(OTHER):
            return False
        end(cluster.raylet_of(OTHER))
        return True

    words = ["prepare", path.name, "--out", "many", "--shards", "5"]
    assert over_ray(cluster, words, meanwhile=kill_the_node, folder=tmp_path)
    assert directory_bytes(tmp_path / "many") == directory_bytes(tmp_path / "one")
    cluster.start_other()
    write_bundle(tmp_path / "bundle")
    main(["index", "make", "bundle", "one", "--out", "one.index"])
    over_ray(
        cluster, ["index", "make", "bundle", "many", "--out", "many.index", "--shards", "2"], folder=tmp_path
    )
    assert_same_index(tmp_path / "many.index", tmp_path / "one.index")


def assert_same_index(index: Path, other: Path) -> None:
    """The same files to the byte, but for the card, which names where the dataset lies."""
    ours, theirs = files_of(index), files_of(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == ["index.json"]
