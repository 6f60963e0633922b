"""What does a shop's dataset say of its products besides features? Titles, photos and columns for an index.

Between a dataset with a catalogue and the files of a segment.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

import pyarrow as pa

from shopwindow.data.dataset import Dataset
from shopwindow.files import DataError
from shopwindow.search.attributes import NUMBER, WORD, Attributes
from shopwindow.search.conditions import Kind
from shopwindow.search.product_table import ProductTable, check_names, check_word
from shopwindow.vision.backbone import GRID_CELL, WHOLE_PHOTO

PLACES: Final = {WHOLE_PHOTO: "whole photo", GRID_CELL: "part"}
"""Names of the labels that every photo's regions have which a backbone encoded."""
Remark = Callable[[str], None]
"""Called with what a user should know, in words."""


def catalogue_of(dataset: Dataset) -> Attributes | None:
    """Columns `title` and `photo` (the first: path or URL) of a dataset's products, by row; None where it has
    neither."""
    titles, photos = dataset.titles, dataset.photo_sources
    if titles is None and photos is None:
        return None
    rows = len(dataset.product_ids)
    shown = {
        "title": [" ".join(title.split()) or None for title in titles or [""] * rows],
        "photo": [sources[0] if sources else None for sources in photos or [()] * rows],
    }
    return Attributes({name: pa.array(values, WORD) for name, values in shown.items()}, rows)


def columns_of(dataset: Dataset, kinds: Mapping[str, Kind], remark: Remark | None) -> ProductTable | None:
    """The other columns of a dataset's catalogue, to filter by; None where there are none.

    A name is spelt as a condition can ask for it: `Unit price` as `Unit_price`. A column of which some value cannot be
    asked for is left out, and a remark says so. `kinds`: of columns that the index has.
    """
    columns: dict[str, pa.Array] = {}
    path, ids = str(dataset.path), dataset.product_ids
    table = pa.table({}) if dataset.columns is None else dataset.columns
    for name in table.column_names:
        spelt = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")[:40]
        try:
            if spelt.lower() in map(str.lower, columns):
                raise ValueError(f"there is another {spelt}")
            check_names([*columns, spelt], path)
            columns[spelt] = _typed(table[name], kinds.get(spelt))
        except (DataError, ValueError, pa.ArrowException) as error:
            if remark is not None:
                problem = error.problem if isinstance(error, DataError) else error
                remark(f"column {name} of the dataset is left out: {problem}")
    return ProductTable(path, ids, Attributes(columns, len(ids))) if columns else None


def _typed(column: pa.ChunkedArray, before: Kind | None) -> pa.Array:
    """A column as an index keeps it. Raises: ValueError for a word that cannot be asked for, and for no value."""
    if column.null_count == len(column):
        raise ValueError("it has no value")
    if before == "word" or pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        words = column.cast(WORD).to_pylist()
        return pa.array([word and (check_word(word.strip()) or None) for word in words], WORD)
    return column.cast(NUMBER).combine_chunks()
