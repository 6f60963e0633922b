"""Does `prepare` take exactly the good rows of hostile files, and store their values as they are written?

Rows of competition files are changed at random: bytes, columns, numbers, base64, ends of lines. A second reader of
plain Python (struct, base64) says what each row is. Every row must be stored as it says, or be rejected with its line.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import struct
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from record import record
from shopwindow.data.competition import HEADER
from shopwindow.data.dataset import REJECTED, Dataset
from shopwindow.data.prepare import prepare

VALUES = 4
ROWS_A_FILE = 50_000
PIECES = [
    *(b"\t", b"\t\t", b"\n", b"\r", b"\r\n", b"\0", b"\xef\xbb\xbf", b"\xff", b"\xed\xa0\x80", b"=", b"=="),
    *(b"A", b" ", b"-", b"+", b"_", b".0", b"e3", b"0", b"nan", b"9" * 30, b'"', "é".encode(), "٣".encode()),
    *(b"\x85", b"\xc2\x85", b"x" * 300),
]
ODD = [
    0.0,
    -0.0,
    65504.0,
    65519.0,
    65520.0,
    1e-8,
    3e-8,
    float("nan"),
    float("inf"),
    -float("inf"),
    1e38,
    2049.0,
]

Good = tuple[str, str, str, tuple[int, int], tuple[float, ...], tuple[float, ...], tuple[int, ...]]


def drawn_row(chance: random.Random) -> bytes:
    """A row of one or two boxes, good but for odd numbers now and then."""
    count = chance.choice((1, 1, 2))
    product = chance.randrange(10**6) if chance.random() < 0.9 else f"SKU-{chance.randrange(10**4)}"
    own = random.Random(str(product))  # the same product has the same photo
    odd = chance.random() < 0.05
    boxes: list[float] = []
    for _ in range(count):
        boxes += [own.randrange(40), own.randrange(40), 50, 60]
    features = [own.random() for _ in range(count * VALUES)]
    labels = [own.randrange(33) for _ in range(count)]
    if odd:
        features[chance.randrange(len(features))] = chance.choice(ODD)
        boxes[chance.randrange(len(boxes))] = chance.choice((0, 50.5, 100, 101, -1, float("nan")))
        labels[0] = chance.choice((0, 65535, 65536, -1, 2**62))
    arrays = (("f", boxes), ("f", features), ("q", labels))
    packed = [base64.b64encode(struct.pack(f"<{len(some)}{kind}", *some)).decode() for kind, some in arrays]
    query = chance.choice((chance.randrange(10**6), f"q{chance.randrange(10**6)}"))
    return "\t".join(
        [str(product), "100", "80", str(count), *packed, f"red bag {query}", str(query)]
    ).encode()


def mutated(row: bytes, chance: random.Random) -> bytes:
    """The row with one to three changes."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        place = chance.randrange(len(row) + 1)
        kind = chance.random()
        if kind < 0.4:
            row = row[:place] + chance.choice(PIECES) + row[place + chance.randrange(3) :]
        elif kind < 0.6:
            row = row[:place] + bytes([chance.randrange(256)]) + row[place + 1 :]
        elif kind < 0.8:
            columns = row.split(b"\t")
            columns[chance.randrange(len(columns))] = chance.choice([*PIECES, chance.choice(columns), b""])
            row = b"\t".join(columns)
        else:
            row = row[:place] + row[place + chance.randrange(1, 9) :]
    return row


def name_of(raw: bytes) -> str | None:
    """The id that a column holds; None where it is none."""
    word = raw.decode().strip()
    return word if 0 < len(word) <= 256 and "\0" not in word else None


def plain_int(raw: bytes) -> int | None:
    """A number of at most 31 bits in plain digits."""
    good = 0 < len(raw) <= 19 and all(48 <= letter <= 57 for letter in raw)
    return int(raw) if good and int(raw) < 2**31 else None


def read_plainly(line: bytes) -> Good | None:
    """What a row is by the format's words alone; None where it is malformed."""
    columns = line.split(b"\t")
    if len(columns) != len(HEADER):
        return None
    columns[8] = columns[8].rstrip(b"\r\n")
    try:
        product, query_id, query = name_of(columns[0]), name_of(columns[8]), columns[7].decode()
        arrays = [base64.b64decode(column, validate=True) for column in columns[4:7]]
    except ValueError:
        return None
    height, width, count = map(plain_int, columns[1:4])
    if product is None or query_id is None or not query.strip() or not height or not width or not count:
        return None
    if [len(some) for some in arrays] != [16 * count, 4 * VALUES * count, 8 * count]:
        return None
    boxes = struct.unpack(f"<{4 * count}f", arrays[0])
    features = struct.unpack(f"<{VALUES * count}f", arrays[1])
    labels = struct.unpack(f"<{count}q", arrays[2])
    for top, left, bottom, right in zip(*(boxes[axis::4] for axis in range(4)), strict=True):
        if not (0 <= top <= bottom <= height and 0 <= left <= right <= width):
            return None
    if not all(abs(value) < 65520 for value in features) or not all(0 <= label < 2**16 for label in labels):
        return None
    return product, query_id, query, (height, width), boxes, features, labels


def expected(lines: list[bytes]) -> tuple[dict[str, Good], list[tuple[str, str]], list[int]]:
    """What the dataset must hold: products and pairs in their order; and the numbers of the lines to reject."""
    products: dict[str, Good] = {}
    queries: dict[str, str] = {}
    pairs, rejected = [], []
    for number, line in enumerate(lines, start=2):
        row = read_plainly(line)
        if row is not None:
            same = stored(products.get(row[0], row)) == stored(row)
            if same and queries.get(row[1], row[2]) == row[2]:
                products.setdefault(row[0], row)
                queries.setdefault(row[1], row[2])
                pairs.append((row[0], row[1]))
                continue
        rejected.append(number)
    return products, pairs, rejected


def stored(row: Good) -> tuple[object, ...]:
    """What of a product is stored: its features in half precision."""
    return row[3], row[4], struct.pack(f"<{len(row[5])}e", *row[5]), row[6]


def check(folder: Path, lines: list[bytes]) -> int:
    """How many of the lines were stored. Raises: AssertionError where the dataset is not what it must be."""
    products, pairs, rejected = expected(lines)
    told = [json.loads(line)["line"] for line in (folder / REJECTED).read_text().splitlines()]
    assert told == rejected, sorted(set(told) ^ set(rejected))[:5]
    dataset = Dataset(folder)
    assert [str(name) for name in dataset.product_ids.tolist()] == list(products)
    product_ids, query_ids = dataset.product_ids.astype(str), dataset.query_ids.astype(str)
    assert product_ids[dataset.pair_products].tolist() == [product for product, _ in pairs]
    assert query_ids[dataset.pair_queries].tolist() == [query for _, query in pairs]
    regions = dataset.regions(np.arange(len(products)), boxes=True)
    features = b"".join(struct.pack(f"<{len(row[5])}e", *row[5]) for row in products.values())
    assert np.asarray(regions.features).astype("<f2").tobytes() == features
    boxes = b"".join(struct.pack(f"<{len(row[4])}f", *row[4]) for row in products.values())
    assert np.asarray(regions.boxes).astype("<f4").tobytes() == boxes
    assert np.asarray(regions.labels).tolist() == [label for row in products.values() for label in row[6]]
    return len(pairs)


def main() -> None:
    """Prepares and checks file after file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    chance, stored_rows, seconds, lines_read = random.Random(20), 0, time.process_time(), 0
    with tempfile.TemporaryDirectory() as folder:
        while lines_read < rows:
            text = b"\n".join(
                mutated(row, chance) if chance.random() < 0.6 else row
                for row in (drawn_row(chance) for _ in range(min(ROWS_A_FILE, rows - lines_read)))
            )
            lines = text.removesuffix(b"\n").split(b"\n")
            (Path(folder) / "rows.tsv").write_bytes("\t".join(HEADER).encode() + b"\n" + text)
            prepare(
                [Path(folder) / "rows.tsv"],
                Path(folder) / "out",
                feature_size=VALUES,
                rules=(),
                allow_malformed=True,
            )
            stored_rows += check(Path(folder) / "out", lines)
            lines_read += len(lines)
            sys.stderr.write(f"{lines_read} rows\n")
    record(
        f"fuzz of prepare's reader: at least {rows:,} rows of hostile files against a second reader",
        {
            "rows": lines_read,
            "stored as written": stored_rows,
            "rejected with their line": lines_read - stored_rows,
            "crashes and wrong values": 0,
            "processor seconds": time.process_time() - seconds,
        },
    )


if __name__ == "__main__":
    main()
