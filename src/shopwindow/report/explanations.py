"""Which word looks at which box, as lines of JSON and as pictures.

Writes what `model/explanation.py` finds. Knows no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np

from shopwindow.data.dataset import Dataset
from shopwindow.files import find_photo, whole_directory
from shopwindow.model.explanation import Explained, Explanation
from shopwindow.report.word_boxes import draw_word_boxes

MARKER: Final = "explanations.json"


def write_explanations(
    found: Iterable[Explained], dataset: Dataset, out: str | Path, *, photos: str | Path | None
) -> None:
    """Writes a directory, whole or not at all: `explanations.jsonl`, one line each, and a picture each,
    QUERY-RANK-PRODUCT.png, over the photo where the folder `photos` has it (PRODUCT_ID.jpg, .jpeg, .png, .webp).

    Raises: DataError where `out` holds other files, or the disk is full.
    """
    with whole_directory(out, marker=MARKER) as folder:
        with (folder / "explanations.jsonl").open("w", encoding="utf-8") as lines:
            for one in found:
                line = _record(one, dataset)
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
                explanation = one.explanation
                picture = folder / f"{line['query_id']}-{one.rank}-{line['product_id']}.png"
                draw_word_boxes(
                    find_photo(photos, line["product_id"]),
                    tuple(line["image_size"]),
                    [tuple(box) for box in line["boxes"]],
                    explanation.words,
                    line["looks_at"],
                    [row[box] for row, box in zip(explanation.weights, line["looks_at"], strict=True)],
                    f"{line['product_id']}, place {one.rank}, {_score_line(explanation)}",
                    picture,
                )
        (folder / MARKER).write_text(
            json.dumps({"format": "shopwindow explanations 1"}) + "\n", encoding="utf-8"
        )


def _score_line(explanation: Explanation) -> str:
    if explanation.late_score is None:
        return f"score {explanation.score:.3f}"
    parts = f"vectors {explanation.vector_score:.3f} + late {explanation.late_score:.3f}"
    return f"score {explanation.score:.3f} = {parts}"


def _record(one: Explained, dataset: Dataset) -> dict[str, Any]:
    rows = np.array([one.product])
    return {
        "query_id": int(dataset.query_ids[one.query]),
        "query": dataset.query_texts[one.query],
        "product_id": int(dataset.product_ids[one.product]),
        "rank": one.rank,
        "image_size": dataset.image_sizes(rows)[0].tolist(),
        "boxes": dataset.boxes(rows).tolist(),
        "labels": dataset.labels(rows).tolist(),
        **one.explanation.to_json(),
    }
