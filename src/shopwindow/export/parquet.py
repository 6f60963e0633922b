"""How do the vectors of an index become a Parquet file, which nearly everything reads?

Living products only, a segment at a time. Knows no query.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shopwindow.files import whole_file
from shopwindow.search.stores.rows import (
    ARROW_TYPES,
    Progress,
    Rows,
    describe_vectors,
    open_for_export,
    rows_of,
)

METADATA: Final = b"shopwindow"
"""The key of the file's metadata that holds `describe_vectors` as JSON."""
_ROWS_AT_ONCE: Final = 65_536


def write_parquet(index: str | Path, out: str | Path, *, progress: Progress | None = None) -> int:
    """Writes the vectors of all living products, whole or not at all; gives how many.

    Columns: `product_id` int64 (string where some id is no integer), `vector` a fixed-size list of float32, `image_h`
    and `image_w` int32 (px), `labels` a list of int32, `texts` a list of strings. Then the shop's own, float64 or
    string, null where a product has no value. The metadata names bundle and state.
    Raises: DataError as `open_for_export`, or where `out` cannot be written.
    """
    opened = open_for_export(index)
    schema = pa.schema(
        [
            ("product_id", pa.string() if opened.has_text_ids else pa.int64()),
            ("vector", pa.list_(pa.float32(), opened.manifest.hidden)),
            ("image_h", pa.int32()),
            ("image_w", pa.int32()),
            ("labels", pa.list_(pa.int32())),
            ("texts", pa.list_(pa.string())),
            *((name, ARROW_TYPES[kind]) for name, kind in opened.manifest.columns.items()),
        ],
        metadata={METADATA: json.dumps(describe_vectors(opened))},
    )
    count = 0
    with whole_file(out) as partial, pq.ParquetWriter(partial, schema) as writer:
        for rows in rows_of(opened, _ROWS_AT_ONCE):
            writer.write_batch(_batch(rows, schema))
            count += len(rows.ids)
            if progress is not None:
                progress(count, len(opened))
    return count


def _batch(rows: Rows, schema: pa.Schema) -> pa.RecordBatch:
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array(rows.vectors.reshape(-1)), type=schema.field("vector").type
    )
    height, width = np.ascontiguousarray(rows.sizes.T)
    columns = [pa.array(rows.ids), vectors, pa.array(height), pa.array(width)]
    columns += [pa.array(some, type=schema.field(name).type) for name, some in _lists(rows)]
    return pa.record_batch([*columns, *rows.values.values()], schema=schema)


def _lists(rows: Rows) -> list[tuple[str, list[list[int]] | list[list[str]]]]:
    return [("labels", rows.labels), ("texts", rows.texts)]
