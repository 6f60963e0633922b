"""Does the word that names the product look at the box that shows it?

Draws a shop, whose truth says what every box shows, trains a recipe with late interaction, and asks of every right
(query, product) of the test split whose photo has at least two regions where the object word looks: at a box of the
good (of the whole photo where the good has none of its own), of a part of it (a collar, a lace), or elsewhere.
Beside it, as often as it was drawn at random: the share of such boxes in these photos. And the older answer, by
occlusion of the same model's vectors.

    python benchmarks/explanation.py
    python benchmarks/explanation.py --seed 1  # another shop, and another training
    python benchmarks/explanation.py late epochs=8 --shop SHOP --bundle BUNDLE  # what is there already; not recorded
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from record import record
from shopwindow.data.dataset import Dataset
from shopwindow.data.prepare import prepare
from shopwindow.drawn.goods import BY_NAME
from shopwindow.drawn.writing import draw_shop
from shopwindow.model.bundle import Bundle
from shopwindow.model.explanation import Explanation, explain, explain_by_occlusion
from shopwindow.model.recipe import load_recipe
from shopwindow.model.training import train
from shopwindow.model.validation import Validation
from shopwindow.ranking.answers import read_answers

GOOD, PART, ELSEWHERE = "the good", "a part of it", "elsewhere"
PLACES: Final = (GOOD, PART, ELSEWHERE)
WAYS: Final = {"": explain, "occlusion: ": explain_by_occlusion}


def main() -> None:
    """Measures one recipe and records it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", nargs="?", default="late")
    parser.add_argument("changes", nargs="*", help="field=value")
    parser.add_argument("--products", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0, help="of the shop drawn, and of the training")
    parser.add_argument("--shop", type=Path, help="a shop that was drawn already")
    parser.add_argument("--bundle", type=Path, help="a model that was trained on it already")
    options = parser.parse_args()
    changes = dict(change.split("=", 1) for change in [f"seed={options.seed}", *options.changes])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shop = options.shop or folder / "shop"
        if options.shop is None:
            draw_shop(shop, products=options.products, seed=options.seed)
        start = time.monotonic()
        bundle = (
            _trained(folder, shop, options.recipe, changes)
            if options.bundle is None
            else Bundle.load(options.bundle)
        )
        seconds = time.monotonic() - start
        prepare([shop / "test.tsv"], folder / "test")
        figures: dict[str, float | list[float]] = {
            **measure(bundle, Dataset(folder / "test"), shop),
            "valid nDCG@5": bundle.scores["nDCG@5"],
        }
    if options.bundle is None:
        says = " ".join([options.recipe, *options.changes])
        shown = f", {options.products:,} products, seed {options.seed}"
        record(
            f"object words and their boxes: recipe {says}{shown}", {**figures, "training seconds": seconds}
        )
    else:
        print(json.dumps(figures, indent=1))


def measure(bundle: Bundle, test: Dataset, shop: Path) -> dict[str, float]:
    """Where the object words look, as shares, and how many were asked."""
    truth = _truth(shop)
    looked: dict[str, list[str]] = {way: [] for way in WAYS}
    chance: list[float] = []
    for case in right_pairs(test, shop / "test_answer.json"):
        good = truth[case.product_id]
        places = good.places(test.boxes(case.row))
        photo = test.regions(case.row, boxes=bundle.model.needs_boxes)
        asked = False
        for way, explained_by in WAYS.items():
            explanation = explained_by(bundle, case.query, photo)
            word = object_word(explanation, good.kind)
            if word is not None:
                looked[way].append(places[explanation.looks_at(word)])
                asked = True
        if asked:
            chance.append(places.count(GOOD) / len(places))
    return {
        "object words": float(len(chance)),
        **{
            f"{way}share on {place}": looked[way].count(place) / len(looked[way])
            for way in WAYS
            for place in PLACES
        },
        "chance": float(np.mean(chance)),
    }


@dataclass(frozen=True)
class RightPair:
    """A query and a product that answers it; `row` is the product's row in the dataset, as an array of one."""

    query: str
    product_id: int
    row: np.ndarray


def right_pairs(test: Dataset, answers: Path) -> Iterator[RightPair]:
    """The answers whose photos have at least two regions."""
    texts = dict(zip(test.query_ids.tolist(), test.query_texts, strict=True))
    rows = {product_id: row for row, product_id in enumerate(test.product_ids.tolist())}
    for query_id, products in json.loads(answers.read_text()).items():
        for product_id in products:
            row = np.array([rows[product_id]])
            if test.region_counts[row][0] >= 2:
                yield RightPair(texts[int(query_id)], product_id, row)


@dataclass(frozen=True)
class Truth:
    """What a photo shows: the kind of good, and for each box (top, left, bottom, right) its content."""

    kind: str
    shows: dict[tuple[int, ...], str]

    def places(self, boxes: np.ndarray) -> list[str]:
        """For each box of the dataset whether it shows the good, a part of it, or something else."""
        own = any(shown == self.kind for shown in self.shows.values())
        right = {self.kind} if own else {"whole photo"}
        shown = [self.shows[tuple(round(float(side)) for side in box)] for box in boxes]
        return [
            GOOD if one in right else PART if one.startswith(f"{self.kind}:") else ELSEWHERE for one in shown
        ]


def _truth(shop: Path) -> dict[int, Truth]:
    lines = (json.loads(line) for line in (shop / "truth.jsonl").read_text().splitlines())
    return {
        line["product_id"]: Truth(line["kind"], {tuple(one["box"]): one["shows"] for one in line["boxes"]})
        for line in lines
    }


def object_word(explanation: Explanation, kind: str) -> int | None:
    """The place of the last word that is one of the kind's nouns, or the last word of one (`water bottle`)."""
    nouns = {kind, *(noun.split()[-1] for noun in BY_NAME[kind].nouns)}
    places = [place for place, word in enumerate(explanation.words) if word.lower() in nouns]
    return places[-1] if places else None


def _trained(folder: Path, shop: Path, name: str, changes: dict[str, str]) -> Bundle:
    for split in ("train", "valid"):
        prepare([shop / f"{split}.tsv"], folder / split)
    validation = Validation(Dataset(folder / "valid"), read_answers(shop / "valid_answer.json"))
    train(Dataset(folder / "train"), load_recipe(name, changes), folder / "bundle", validation=validation)
    return Bundle.load(folder / "bundle")


if __name__ == "__main__":
    main()
