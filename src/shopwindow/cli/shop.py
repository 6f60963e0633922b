"""`shopwindow shop`: a shop's own files in, a searched and measured shop out. It composes the other verbs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shopwindow.files import DataError

if TYPE_CHECKING:
    from rich.console import Console

    from shopwindow.shop.stages import Stages
    from shopwindow.shop.verdict import Verdict


def shop(
    products: str,
    *,
    out: str,
    photos: str | None = None,
    clicks: str | None = None,
    judgements: str | None = None,
    backbone: str | None = None,
    detector: str | None = None,
    recipe: str = "shop",
    set: list[str] | None = None,
    id: str | None = None,
    title: str | None = None,
    photo: str | None = None,
    allow_unreadable: bool = False,
) -> None:
    """Turn a shop's photos, products and clicks into a search that is measured; then `shopwindow serve OUT`.

    Photos are encoded, clicks cleaned and split, a model trained, an index made. A table compares it with simpler
    ways to rank on clicks that it never saw. What is done is kept: the same command again does only what changed.

    Args:
        products: The table of products (CSV, TSV, Parquet, JSONL): id, title, photo and any other columns. Or a folder
            of photos named after their products.
        out: The folder for everything.
        photos: The folder of the photos, where the table has no column of them or names them relative to it.
        clicks: The click log: query, id, and any of clicks, date, position, impressions. Without it the titles teach.
        judgements: Grades by people, for measuring only: query, id, relevant.
        backbone: What encodes photos: lite0 (the default), plain (needs no package), an ONNX description (.yaml), or a
            model of transformers by folder or hub id.
        detector: What finds boxes in photos: a YOLOX file (.onnx) or an object detector of transformers.
        recipe: How to train.
        set: Fields of the recipe changed, by dotted name.
        id: The column of ids, where it has an unusual name.
        title: The same of titles.
        photo: The same of photos.
        allow_unreadable: Go on where more than 1 % of the photos cannot be read.
    """
    from shopwindow.cli.console import standard_output
    from shopwindow.shop.stages import Stages

    started, console, stages = time.monotonic(), standard_output(), Stages(Path(out))
    names = {"id": id, "title": title, "photo": photo}
    _extract(stages, console, products, photos, backbone, detector, names, allow_unreadable)
    _prepare(stages, console, clicks)
    _train(stages, console, recipe, set)
    _index(stages, console)
    verdicts = _measure(stages, console, judgements)
    stages.finish({"products": str(products), "verdicts": verdicts})
    console.print(f"\nsearch page: shopwindow serve {out}", soft_wrap=True)
    console.print(f"{time.monotonic() - started:.0f} s in all", style="dim")
