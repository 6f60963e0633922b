"""What is known of products besides their photos? Named columns of numbers and words, to filter by and to show.

In memory Arrow arrays, on disk one Arrow file of a segment, mapped, whose rows are those of the segment. A product may
lack any value. A shop's table is read by product_table.py. Knows no vector and no state of an index.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64

from shopwindow.files import DataError
from shopwindow.search.conditions import Condition, Kind
from shopwindow.search.hits import ColumnView, Value

ATTRIBUTES_FILE: Final = "values.arrow"
OWN_COLUMNS: Final = ("product_id", "vector", "image_h", "image_w", "labels", "texts")
"""What every index has or every export writes; no column of a shop has such a name."""
MOST_WORDS_SHOWN: Final = 30
NUMBER: Final = pa.float64()
WORD: Final = pa.string()
TYPES: Final[Mapping[Kind, pa.DataType]] = {"number": NUMBER, "word": WORD}
_KINDS: Final[Mapping[pa.DataType, Kind]] = {NUMBER: "number", WORD: "word"}


@dataclass(frozen=True)
class Attributes:
    """Columns of `rows` products by name, each an array of NUMBER or WORD with nulls where there is no value."""

    columns: Mapping[str, pa.Array]
    rows: int

    def __len__(self) -> int:
        return self.rows

    @property
    def kinds(self) -> dict[str, Kind]:
        """What each column holds."""
        return {name: _KINDS[column.type] for name, column in self.columns.items()}

    @property
    def valued(self) -> Bool[np.ndarray, " products"]:
        """Which products have a value in some column."""
        some = np.zeros(self.rows, bool)
        for column in self.columns.values():
            some |= column.is_valid().to_numpy(zero_copy_only=False)
        return some

    def of(self, row: int) -> dict[str, Value]:
        """The values of one product, those that it has."""
        values = {name: column[row].as_py() for name, column in self.columns.items()}
        return {name: value for name, value in values.items() if value is not None}

    def take(self, rows: Int64[np.ndarray, " chosen"]) -> Attributes:
        """The chosen products, in the order given; -1 stands for one without values."""
        chosen = pa.array(rows, mask=rows < 0)
        return Attributes({name: column.take(chosen) for name, column in self.columns.items()}, len(rows))

    def passing(self, condition: Condition) -> Bool[np.ndarray, " products"]:
        """Which products pass a condition; none where no such column is.

        Raises: ValueError for a condition that does not fit the column.
        """
        column = self.columns.get(condition.column)
        if column is None:
            return np.zeros(self.rows, bool)
        return condition.holds(column)

    def words(self, name: str, rows: Int64[np.ndarray, " some"]) -> set[str]:
        """The words that some products have in a column; none where it is of numbers or there is none."""
        if self.kinds.get(name) != "word":
            return set()
        return set(pc.unique(self.columns[name].take(pa.array(rows)).drop_null()).to_pylist())

    def write(self, path: Path) -> None:
        """Writes an Arrow file. Raises: OSError where the disk is full."""
        batch = pa.record_batch(dict(self.columns))
        buffer = pa.BufferOutputStream()
        with pa.ipc.new_file(buffer, batch.schema) as file:
            file.write_batch(batch)
        path.write_bytes(buffer.getvalue())

    @classmethod
    def open_if_there(cls, path: Path) -> Attributes | None:
        """Maps a file, None where there is none. Raises: as `open`."""
        return cls.open(path) if path.is_file() else None

    @classmethod
    def open(cls, path: Path) -> Attributes:
        """Maps a file. Raises: DataError where it is broken."""
        try:
            with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
                if file.num_record_batches != 1:
                    raise DataError(f"{file.num_record_batches} batches of values, 1 was wanted", path=path)
                batch = file.get_batch(0)
            batch.validate(full=True)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"broken values: {error}", path=path) from error
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        for name, column in columns.items():
            if column.type not in _KINDS:
                raise DataError(f"{column.type} is neither numbers nor words", path=path, field=name)
        return cls(columns, batch.num_rows)

    @classmethod
    def join(cls, parts: Sequence[Attributes]) -> Attributes:
        """The products of several, end to end, with every column that any of them has."""
        kinds: dict[str, pa.DataType] = {}
        for part in parts:
            kinds.update({name: column.type for name, column in part.columns.items()})
        columns = {
            name: pa.concat_arrays(
                [part.columns.get(name, pa.nulls(len(part), kind)).cast(kind) for part in parts]
            )
            for name, kind in kinds.items()
        }
        return cls(columns, sum(map(len, parts)))


def nothing_known(products: int) -> Attributes:
    """So many products without any column."""
    return Attributes({}, products)


def summarise(kinds: Mapping[str, Kind], parts: Sequence[Attributes]) -> tuple[ColumnView, ...]:
    """What each column offers to filter by: its range, or its words: how many, and the most frequent in order."""
    return tuple(
        _range(name, parts) if kind == "number" else _frequent(name, parts) for name, kind in kinds.items()
    )


def _range(name: str, parts: Sequence[Attributes]) -> ColumnView:
    ends = [pc.min_max(part.columns[name]).as_py() for part in parts if name in part.columns]
    lowest = [one["min"] for one in ends if one["min"] is not None]
    highest = [one["max"] for one in ends if one["max"] is not None]
    return ColumnView(name, "number", min(lowest, default=None), max(highest, default=None), ())


def _frequent(name: str, parts: Sequence[Attributes]) -> ColumnView:
    counts: Counter[str] = Counter()
    for part in parts:
        if name in part.columns:
            counted = pc.value_counts(part.columns[name].drop_null())
            counts.update(dict(zip(*(some.to_pylist() for some in counted.flatten()), strict=True)))
    best = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_WORDS_SHOWN]
    words, numbers = tuple(word for word, _ in best), tuple(number for _, number in best)
    return ColumnView(name, "word", words=words, counts=numbers, count=len(counts))
