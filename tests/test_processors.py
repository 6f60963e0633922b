"""How many processors, and which threads: by affinity, by the quota of a cgroup, by what the user says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shopwindow.cli import main
from shopwindow.processors import cgroup_quota, processors


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_lowest_quota_of_version_2_counts(tmp_path: Path) -> None:
    write(tmp_path / "own", "0::/shop/worker\n")
    write(tmp_path / "cgroup/cpu.max", "max 100000\n")
    write(tmp_path / "cgroup/shop/cpu.max", "150000 100000\n")
    write(tmp_path / "cgroup/shop/worker/cpu.max", "400000 100000\n")
    assert cgroup_quota(tmp_path / "cgroup", tmp_path / "own") == 1.5


def test_the_quota_of_version_1_counts(tmp_path: Path) -> None:
    write(tmp_path / "own", "4:memory:/shop\n3:cpu,cpuacct:/shop\n")
    write(tmp_path / "cgroup/cpu/shop/cpu.cfs_quota_us", "200000\n")
    write(tmp_path / "cgroup/cpu/shop/cpu.cfs_period_us", "100000\n")
    write(tmp_path / "cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    write(tmp_path / "cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert cgroup_quota(tmp_path / "cgroup", tmp_path / "own") == 2.0


def test_without_cgroups_nothing_limits(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path, tmp_path / "own") is None
    write(tmp_path / "own", "nonsense\n0::/\n")
    assert cgroup_quota(tmp_path, tmp_path / "own") is None
    assert processors() >= 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_affinity_counts() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from shopwindow.processors import *"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(processors())"], check=True, capture_output=True
    )
    assert done.stdout == b"1\n"


def test_threads_are_said_to_the_libraries_before_torch(tmp_path: Path) -> None:
    """The verb ends on the missing dataset; what it said before is what torch would read."""
    code = (
        "import os, sys\nfrom shopwindow.cli import main\n"
        "try: main(['index', 'make', 'none', 'none', '--out', 'out', *sys.argv[1:]])\nexcept SystemExit: pass\n"
        "print(os.environ['OMP_NUM_THREADS'], os.environ['OMP_WAIT_POLICY'])"
    )
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "KMP_"))}

    def said(environment: dict[str, str], *words: str) -> str:
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        return done.stdout.strip()

    assert said(own, "--threads", "3") == "3 passive"
    assert said(own) == f"{processors()} passive"
    assert said({**own, "OMP_NUM_THREADS": "5", "OMP_WAIT_POLICY": "active"}) == "5 active"


def test_no_thread_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["rank", "bundle", "dataset", "--out", "a.run", "--threads", "0"])
    assert capsys.readouterr().err == "shopwindow: --threads: 0, at least 1 is wanted\n"
