"""How many processors may this process use? In a container fewer than the machine has.

Source: https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max), and cgroup-v1's cpu.cfs_quota_us.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUP: Final = Path("/proc/self/cgroup")


def processors() -> int:
    """The processors that this process may run on, at least 1: by its affinity, and by the quota of its cgroup."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    return count if quota is None else max(1, min(count, int(quota)))


def cgroup_quota(cgroups: Path = _CGROUPS, own: Path = _OWN_CGROUP) -> float | None:
    """Processors' time that the cgroup of this process, or one above it, allows; None where nothing limits it."""
    quotas = []
    for folder in _own_folders(cgroups, _lines(own)):
        words = " ".join(_lines(folder / "cpu.max")).split()
        if not words:
            words = [*_lines(folder / "cpu.cfs_quota_us"), *_lines(folder / "cpu.cfs_period_us")]
        if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def _own_folders(cgroups: Path, lines: list[str]) -> list[Path]:
    """The folders of the cgroups of `/proc/self/cgroup`, and of those above them."""
    folders = []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers or "cpu" in controllers.split(","):
            top = cgroups / "cpu" if controllers else cgroups
            inner = top / path.strip("/")
            folders += [inner, *(above for above in inner.parents if above.is_relative_to(top))]
    return folders


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split("\n")[:-1]
    except (OSError, ValueError):
        return []
