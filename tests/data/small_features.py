"""FEATURES without a backbone: a few products with regions of random values, written by the format's own rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shopwindow.data.features import CATALOGUE, CATALOGUE_FIELDS, FORMAT, MANIFEST, content_hash, photo_schema

SIZE = 8
BACKBONE = {"name": "drawn", "fingerprint": "f00d"}


def write_features(
    folder: Path,
    ids: list[str],
    *,
    titles: list[str] | None = None,
    columns: dict[str, list[Any]] | None = None,
    features: np.ndarray | None = None,
) -> Path:
    """A photo of two regions for every product; `features` are those of the whole photos."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    count = len(ids)
    values = generator.normal(size=(count, 2, SIZE)).astype(np.float16)
    if features is not None:
        values[:, 0] = features
    box = [[0.0, 0.0, 10.0, 20.0], [1.0, 2.0, 5.0, 6.0]]
    rows: dict[str, list[Any]] = {
        "key": [f"k{row}" for row in range(count)],
        "height": [10] * count,
        "width": [20] * count,
        "features": [[list(region) for region in photo] for photo in values],
        "boxes": [box] * count,
        "labels": [[0, 1]] * count,
    }
    schema = photo_schema(SIZE)
    photos = [pa.array(rows[one.name], one.type) for one in schema]
    _write(folder / "photos-00000.arrow", pa.table(photos, schema=schema))
    own: list[list[Any]] = [
        ids,
        titles or [""] * count,
        [[f"/photos/{one}.jpg"] for one in ids],
        [[key] for key in rows["key"]],
    ]
    arrays = [pa.array(column, kind) for column, (_, kind) in zip(own, CATALOGUE_FIELDS, strict=True)]
    names = [name for name, _ in CATALOGUE_FIELDS]
    others = pa.table(columns or {})
    _write(
        folder / CATALOGUE, pa.Table.from_arrays([*arrays, *others.columns], [*names, *others.column_names])
    )
    manifest = {
        "format": FORMAT,
        "detector": None,
        "backbone": BACKBONE,
        "feature_size": SIZE,
        "label_count": 2,
        "content_hash": content_hash(folder / CATALOGUE, BACKBONE, None),
        "shards": ["photos-00000.arrow"],
        "counts": {},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


def _write(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table.combine_chunks())
