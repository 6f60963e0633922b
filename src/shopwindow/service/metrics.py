"""What has the service done so far? Counters and one histogram, told in the text format of Prometheus.

Touched from the event loop only, so there is nothing to lock. Knows no endpoint.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (text format 0.0.4).
"""

from __future__ import annotations

import bisect
import os
from collections import Counter
from pathlib import Path
from typing import Final

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The figures of one service since it started."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.refused: Counter[str] = Counter()
        self.swaps: Counter[str] = Counter()
        self.queries = 0
        self.inside = 0
        self.products = 0
        self._seconds: dict[str, list[int]] = {}
        self._sums: Counter[str] = Counter()

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one answered request. `route` is a pattern such as `/products/{product_id}`, never a path."""
        self.requests[method, route, status] += 1
        cells = self._seconds.setdefault(route, [0] * (len(BUCKETS_SECONDS) + 1))
        cells[bisect.bisect_left(BUCKETS_SECONDS, seconds)] += 1
        self._sums[route] += seconds  # type: ignore[assignment] # a Counter adds floats as well

    def text(self) -> str:
        """All figures, in Prometheus' text format."""
        lines = _family("requests_total", "counter", "Requests answered.")
        for (method, route, status), value in sorted(self.requests.items()):
            lines.append(_sample("requests_total", value, method=method, route=route, status=str(status)))
        lines += _family("request_seconds", "histogram", "Time to the end of the answer.")
        for route, cells in sorted(self._seconds.items()):
            lines += _histogram(route, cells, self._sums[route])
        lines += _family("refused_total", "counter", "Requests turned away at the door, by reason.")
        lines += [
            _sample("refused_total", value, reason=name) for name, value in sorted(self.refused.items())
        ]
        lines += _family("index_swaps_total", "counter", "Times the index was opened anew, by outcome.")
        lines += [_sample("index_swaps_total", self.swaps[name], outcome=name) for name in ("done", "failed")]
        for name, kind, says, figure in (
            ("queries_total", "counter", "Queries answered, each of a batch.", self.queries),
            ("requests_inside", "gauge", "Requests being answered now.", self.inside),
            ("index_products", "gauge", "Products in the index.", self.products),
            ("resident_memory_bytes", "gauge", "Memory of the process.", resident_memory_bytes()),
        ):
            lines += [*_family(name, kind, says), _sample(name, figure)]
        return "\n".join(lines) + "\n"


def resident_memory_bytes() -> int:
    """The memory that this process holds now; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _family(name: str, kind: str, says: str) -> list[str]:
    return [f"# HELP shopwindow_{name} {says}", f"# TYPE shopwindow_{name} {kind}"]


def _sample(name: str, value: int | float, **labels: str) -> str:
    """One line.

    >>> _sample("requests_total", 3, route='/a"b')
    'shopwindow_requests_total{route="/a\\\\"b"} 3'
    """
    escaped = (
        (key, text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
        for key, text in labels.items()
    )
    inside = ",".join(f'{key}="{text}"' for key, text in escaped)
    return f"shopwindow_{name}{{{inside}}} {value:g}" if inside else f"shopwindow_{name} {value:.17g}"


def _histogram(route: str, cells: list[int], total_seconds: int | float) -> list[str]:
    lines, below = [], 0
    for bound, cell in zip((*map(str, BUCKETS_SECONDS), "+Inf"), cells, strict=True):
        below += cell
        lines.append(_sample("request_seconds_bucket", below, route=route, le=bound))
    lines.append(_sample("request_seconds_sum", total_seconds, route=route))
    lines.append(_sample("request_seconds_count", below, route=route))
    return lines
