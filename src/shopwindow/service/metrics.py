"""What has the service done so far? Its Prometheus metrics, each with a name that begins with `shopwindow_`.

Knows no endpoint.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

MEDIA_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
BUCKETS_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The metrics of one service since it started. `products` says how many products the index has now.

    `requests` and `seconds` are labelled by a route's pattern such as `/products/{product_id}`, never by a path.
    """

    def __init__(self, products: Callable[[], int]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # it has no types
        registry = self._registry = CollectorRegistry()
        self.inside = 0
        self.dropped_log_lines: Callable[[], int] = lambda: 0
        self.requests = Counter(
            "shopwindow_requests_total",
            "Requests answered.",
            ["method", "route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "shopwindow_request_seconds",
            "Time to the end of the response.",
            ["route"],
            buckets=BUCKETS_SECONDS,
            registry=registry,
        )
        self.refused = Counter(
            "shopwindow_refused_total", "Requests refused by auth or limits.", ["reason"], registry=registry
        )
        self.swaps = Counter(
            "shopwindow_index_swaps_total", "Times the index was opened anew.", ["outcome"], registry=registry
        )
        for outcome in ("done", "failed"):
            self.swaps.labels(outcome)
        self.queries = Counter(
            "shopwindow_queries_total", "Queries answered, each of a batch.", registry=registry
        )
        gauges: tuple[tuple[str, str, Callable[[], int]], ...] = (
            ("requests_inside", "Requests being answered now.", lambda: self.inside),
            ("log_lines_dropped", "Log lines that nobody took.", self._dropped),
            ("index_products", "Products in the index.", products),
            ("resident_memory_bytes", "Memory of the process.", resident_memory_bytes),
        )
        for name, description, figure in gauges:
            Gauge(f"shopwindow_{name}", description, registry=registry).set_function(figure)

    def _dropped(self) -> int:
        return self.dropped_log_lines()

    def text(self) -> bytes:
        """All metrics in Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry)


def resident_memory_bytes() -> int:
    """The memory that this process holds now; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
