"""How does a shop become a folder of files?

Draws product after product, each from its own seed, featurises the stored photo, and writes the competition's files
whole or not at all. One product's text (its features are 33 KB) is encoded once and waits in a file until all rows are
written: memory does not grow with the shop.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from PIL import Image

from shopwindow.data.competition import HEADER, Row, format_photo
from shopwindow.drawn.catalogue import FEWEST_PRODUCTS, SPLITS, Item, Plan, plan_shop
from shopwindow.drawn.figures import PHOTOS_BY_BOXES, draw_count
from shopwindow.drawn.goods import CATEGORIES
from shopwindow.drawn.photo import draw_photo
from shopwindow.drawn.regions import Detections, detect
from shopwindow.drawn.shop_files import clicks_csv, judgements_csv, prices, products_csv
from shopwindow.files import check_replaceable, whole_directory
from shopwindow.vision.featurise import region_features

MARKER: Final = "drawn.json"
FORMAT: Final = "shopwindow drawn shop 1"
_JPEG_QUALITY: Final = 90
_CROWDED: Final = (41, 60)  # boxes in a photo that cleaning shall drop
_PLAN_SEED, _CROWD_SEED, _PHOTO_SEED, _PRICE_SEED, _TITLE_SEED, _CLICK_SEED = range(6)


@dataclass(frozen=True)
class ShopSummary:
    """What was written."""

    products: int
    regions: int
    train_rows: int
    train_queries: int
    valid_rows: int
    valid_queries: int
    test_rows: int
    test_queries: int
    possessive_rows: int
    crowded_rows: int  # of training
    occurrence_leak: bool

    def __str__(self) -> str:
        lines = [
            f"{self.products:,} products, {self.regions:,} regions ({self.regions / self.products:.2f} a photo)",
            f"train  {self.train_rows:>7,} rows  {self.train_queries:>6,} queries",
            f"valid  {self.valid_rows:>7,} rows  {self.valid_queries:>6,} queries",
            f"test   {self.test_rows:>7,} rows  {self.test_queries:>6,} queries",
        ]
        if self.possessive_rows or self.crowded_rows or self.occurrence_leak:
            leak = ", the occurrence leak" if self.occurrence_leak else ""
            lines.append(
                f"planted: {self.possessive_rows:,} rows with 's, "
                f"{self.crowded_rows:,} rows with more than 40 boxes{leak}"
            )
        return "\n".join(lines)


def draw_shop(
    out: Path,
    *,
    products: int = 3000,
    seed: int = 0,
    possessive_share: float = 0.0,
    crowded_share: float = 0.0,
    occurrence_leak: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ShopSummary:
    """Draws a shop into the folder `out`; the same arguments give the same bytes. About 20 ms a product.

    `possessive_share` of the training rows get queries that begin with `'s`, `crowded_share` of the photos more than
    40 boxes; `occurrence_leak` puts relevant products in one pool each and lets distractors recur over valid and test.
    `progress` is called with (products drawn, products).

    Raises: ValueError for fewer than 60 products or a share outside 0 to 1; DataError when `out` holds other files.
    """
    if products < FEWEST_PRODUCTS:
        raise ValueError(f"a shop needs at least {FEWEST_PRODUCTS} products, not {products}")
    for name, share in (("possessive_share", possessive_share), ("crowded_share", crowded_share)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must be from 0 to 1, not {share}")
    check_replaceable(out, marker=MARKER)
    rng = _generator(seed, _PLAN_SEED)
    plan = plan_shop(products, rng, possessive_share=possessive_share, occurrence_leak=occurrence_leak)
    counts = region_counts(products, crowded_share, _generator(seed, _CROWD_SEED))
    with whole_directory(out, marker=MARKER) as folder:
        _draw_products(folder, plan, counts, seed, progress)
        _write_tables(folder, plan, seed)
        for split in SPLITS:
            _write_rows(folder, plan, split)
        (folder / "products.spool").unlink()
        (folder / "products.offsets.npy").unlink()
        for split, answers in plan.answers.items():
            text = json.dumps({str(query): list(ids) for query, ids in answers.items()})
            (folder / f"{split}_answer.json").write_text(text + "\n", encoding="utf-8")
        table = "".join(f"{number}\t{name}\n" for number, name in enumerate(CATEGORIES))
        (folder / "multimodal_labels.txt").write_text(
            f"category_id\tcategory_name\n{table}", encoding="utf-8"
        )
        summary = _summary(plan, counts, occurrence_leak)
        about = {
            "format": FORMAT,
            "seed": seed,
            "possessive_share": possessive_share,
            "crowded_share": crowded_share,
            **asdict(summary),
        }
        (folder / MARKER).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return summary


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def region_counts(products: int, crowded_share: float, rng: np.random.Generator) -> list[int]:
    """Boxes per product, as often as in the competition; a share of the photos gets more than 40."""
    counts = [min(40, draw_count(PHOTOS_BY_BOXES, rng)) for _ in range(products)]
    for k in rng.permutation(products)[: round(crowded_share * products)]:
        counts[k] = int(rng.integers(_CROWDED[0], _CROWDED[1] + 1))
    return counts


def _draw_products(
    folder: Path, plan: Plan, counts: list[int], seed: int, progress: Callable[[int, int], None] | None
) -> None:
    """Regions, truth, and the spool of encoded products."""
    (folder / "photos").mkdir()
    offsets = [0]
    with (
        (folder / "products.spool").open("wb") as spool,
        (folder / "truth.jsonl").open("w", encoding="utf-8") as truth,
    ):
        for number, item in enumerate(plan.items):
            row, told = _draw_product(folder, item, counts[number], _generator(seed, _PHOTO_SEED, number))
            offsets.append(offsets[-1] + spool.write(format_photo(row).encode("ascii")))
            truth.write(json.dumps(told) + "\n")
            if progress is not None:
                progress(number + 1, len(plan.items))
    np.save(folder / "products.offsets.npy", np.array(offsets, dtype=np.int64))


def _draw_product(
    folder: Path, item: Item, count: int, rng: np.random.Generator
) -> tuple[Row, dict[str, Any]]:
    """Draws and stores one photo; its row has no query yet. Features are those of the stored file."""
    drawn = draw_photo(item.good, rng, regions=count)
    regions = detect(drawn, count, rng)
    stored = io.BytesIO()
    drawn.photo.save(stored, "JPEG", quality=_JPEG_QUALITY)
    (folder / "photos" / f"{item.product_id}.jpg").write_bytes(stored.getvalue())
    pixels = np.asarray(Image.open(stored).convert("RGB"))
    row = Row(
        product_id=item.product_id,
        query_id="",
        query="",
        size=(pixels.shape[0], pixels.shape[1]),
        boxes=regions.boxes,
        features=region_features(pixels, regions.boxes),
        labels=regions.labels,
    )
    return row, _told(item, drawn.scene, regions)


def _told(item: Item, scene: str, regions: Detections) -> dict[str, Any]:
    """The line of truth.jsonl: what the product is, and what each box shows, in the order of the row's boxes."""
    boxes = [
        {"box": [int(side) for side in box], "label": int(label), "shows": shows}
        for box, label, shows in zip(regions.boxes, regions.labels, regions.shows, strict=True)
    ]
    return {
        "product_id": item.product_id,
        "split": item.split,
        **asdict(item.good),
        "scene": scene,
        "boxes": boxes,
    }


def _write_tables(folder: Path, plan: Plan, seed: int) -> None:
    """What the shop knows besides photos: its own files, and their columns as the competition's products have them."""
    costs = prices(len(plan.items), _generator(seed, _PRICE_SEED))
    rows = (
        f"{item.product_id},{price:.2f},{item.good.colour},{item.good.material}\n"
        for item, price in zip(plan.items, costs, strict=True)
    )
    tables = {
        "columns.csv": f"product_id,price,colour,material\n{''.join(rows)}",
        "products.csv": products_csv(plan, costs, _generator(seed, _TITLE_SEED)),
        "clicks.csv": clicks_csv(plan, _generator(seed, _CLICK_SEED)),
        "judgements.csv": judgements_csv(plan),
    }
    for name, text in tables.items():
        (folder / name).write_text(text, encoding="utf-8")


def _write_rows(folder: Path, plan: Plan, split: str) -> None:
    offsets = np.load(folder / "products.offsets.npy")
    with (folder / "products.spool").open("rb") as spool, (folder / f"{split}.tsv").open("wb") as file:
        file.write(("\t".join(HEADER) + "\n").encode("ascii"))
        for line in _lines(plan, split, spool, offsets.tolist()):
            file.write(line)


def _lines(plan: Plan, split: str, spool: BinaryIO, offsets: list[int]) -> Iterator[bytes]:
    for row in plan.rows[split]:
        spool.seek(offsets[row.item])
        columns = spool.read(offsets[row.item + 1] - offsets[row.item])
        yield columns + f"\t{row.text}\t{row.query_id}\n".encode()


def _summary(plan: Plan, counts: list[int], occurrence_leak: bool) -> ShopSummary:
    rows = plan.rows
    return ShopSummary(
        products=len(plan.items),
        regions=sum(counts),
        train_rows=len(rows["train"]),
        train_queries=len({row.text for row in rows["train"]}),
        valid_rows=len(rows["valid"]),
        valid_queries=len(plan.answers["valid"]),
        test_rows=len(rows["test"]),
        test_queries=len(plan.answers["test"]),
        possessive_rows=sum(row.text.startswith("'s") for row in rows["train"]),
        crowded_rows=sum(counts[row.item] > 40 for row in rows["train"]),
        occurrence_leak=occurrence_leak,
    )
