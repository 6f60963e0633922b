"""Small competition files made by hand: what the tests of this folder are fed with."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from shopwindow.data.competition import HEADER, Row, format_row

SIZE = 8
"""Values of a feature: 2048 would only make the tests slow."""

HEADER_LINE = "\t".join(HEADER).encode() + b"\n"


def make_product(product_id: int | str, regions: int = 2, *, size: int = SIZE, seed: int = 0) -> Row:
    """A product of 100 x 80 px with well-formed boxes, labels and features; its query is still empty."""
    rng = np.random.default_rng(
        [zlib.crc32(product_id.encode()) if isinstance(product_id, str) else product_id, seed]
    )
    top, left = rng.integers(0, 50, (2, regions))
    boxes = np.stack([top, left, top + 50, left + 30], axis=1).astype(np.float32)
    features = rng.exponential(size=(regions, size)).astype(np.float32)
    return Row(product_id, 0, "", (100, 80), boxes, features, rng.integers(0, 33, regions))


def make_line(product: Row, query: str = "red shoe", query_id: int | str = 1) -> bytes:
    """The row of a competition file for a pair."""
    return f"{format_row(replace(product, query=query, query_id=query_id))}\n".encode()


def make_lines(count: int, *, first: int = 0) -> list[bytes]:
    """`count` good rows, each with its own product and query."""
    return [
        make_line(make_product(1000 + row, 1 + row % 3), f"query number {row}", row)
        for row in range(first, first + count)
    ]


def replaced(line: bytes, field: str, value: bytes) -> bytes:
    """The line with another value in one column."""
    columns = line.rstrip(b"\n").split(b"\t")
    columns[HEADER.index(field)] = value
    return b"\t".join(columns) + b"\n"


def write_tsv(path: Path, lines: Iterable[bytes]) -> Path:
    """A competition file with these rows."""
    path.write_bytes(HEADER_LINE + b"".join(lines))
    return path


def directory_bytes(path: Path) -> dict[str, bytes]:
    """Every file of a directory, by name."""
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}
