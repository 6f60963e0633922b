"""Rows like the competition's, as many as wanted: 7 regions, 76 KB of text each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shopwindow.data.competition import HEADER, Row, format_row

REGIONS = 7


def write_rows(path: Path, rows: int, *, seed: int = 0) -> int:
    """A competition file of `rows` different products, about three to a query; gives its bytes."""
    rng = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8") as file:
        file.write("\t".join(HEADER) + "\n")
        for row in range(rows):
            corners = np.sort(rng.uniform(0, 400, (REGIONS, 2, 2)).astype(np.float32), axis=1)
            # Non-negative with many exact zeros, as the detector gives them.
            features = np.maximum(rng.standard_normal((REGIONS, 2048), np.float32), 0)
            query = row // 3
            made = Row(
                product_id=100_000_000 + 7 * row,
                query_id=query,
                query=f"soft blue shoe number {query}",
                size=(400, 400),
                boxes=corners.reshape(REGIONS, 4),
                features=features,
                labels=rng.integers(0, 33, REGIONS),
            )
            file.write(f"{format_row(made)}\n")
    return path.stat().st_size
