"""How do the vectors of an index get into another system? As a Parquet file: product_id, vector.

Living products only, as finely as the index keeps them, a segment at a time. Knows no query.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shopwindow.files import whole_file
from shopwindow.search.index import OpenIndex

_ROWS_AT_ONCE: Final = 65_536


def write_parquet(index: str | Path, out: str | Path) -> int:
    """Writes the vectors of all living products, whole or not at all; gives how many.

    Columns: `product_id` int64, `vector` a fixed-size list of float32.
    Raises: DataError for no index, or where `out` cannot be written.
    """
    opened = OpenIndex.open(index)
    hidden, count = opened.manifest.hidden, 0
    vector = pa.list_(pa.float32(), hidden)
    schema = pa.schema([("product_id", pa.int64()), ("vector", vector)])
    with whole_file(out) as partial, pq.ParquetWriter(partial, schema) as writer:
        for part in opened.parts:
            rows = np.arange(len(part.segment)) if part.live is None else np.flatnonzero(part.live)
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                chosen = rows[start : start + _ROWS_AT_ONCE]
                values = pa.array(np.ascontiguousarray(part.segment.vectors(chosen)).reshape(-1))
                ids = pa.array(np.ascontiguousarray(part.segment.columns.ids[chosen]))
                columns = [ids, pa.FixedSizeListArray.from_arrays(values, type=vector)]
                writer.write_batch(pa.record_batch(columns, schema=schema))
                count += len(chosen)
    return count
