"""The small catalogue under other ids: an index whose products have text for a name."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np

from shopwindow.search.building import compact_index
from shopwindow.search.index import SEGMENTS, OpenIndex, Part, named_by_content
from shopwindow.search.segment import write_segment
from shopwindow.search.texts import TEXTS_FILE, write_texts


def sku(product_id: int) -> str:
    """The text that stands for a product; the order is the same."""
    return f"SKU-{product_id:04}"


def give_text_ids(index: Path, *, approximate: bool = False) -> Path:
    """The index of one segment with `sku` of its ids."""
    opened = OpenIndex.open(index)
    ((part,), (old,)) = opened.parts, opened.manifest.parts
    columns = part.segment.columns
    ids = np.array([sku(one) for one in columns.ids.tolist()])
    folder = index / SEGMENTS / ".new"
    folder.mkdir()
    write_segment(
        folder,
        part.segment.vectors(np.arange(len(ids))),
        dataclasses.replace(columns, ids=ids),
        approximate=approximate,
        attributes=part.segment.attributes,
    )
    if part.texts is not None:
        write_texts(folder / TEXTS_FILE, (list(part.texts.of(one)) for one in columns.ids.tolist()))
    shutil.rmtree(index / SEGMENTS / old.name)
    parts = (Part(named_by_content(folder).name, len(ids)),)
    dataclasses.replace(opened.manifest, parts=parts).write(index)
    compact_index(index)  # measures anew, so that the golden queries know the ids
    return index
