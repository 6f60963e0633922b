"""Are scores alike on a validation set and on a test set that nobody has looked at, and how soon is the best one there?

Several drawn shops, each with a training, a validation and a test part of products of its own. A recipe is trained with
the checkpoint that is best on valid kept, as one does; then both parts are ranked. How far the two scores of one model
are apart is compared with the standard error that their queries alone give. The paired question, which of two recipes
is ahead, is asked on both parts too.

    python benchmarks/stability.py --shops 4 --recipes default bow
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from record import Figures, record
from shopwindow.data.dataset import Dataset
from shopwindow.data.prepare import prepare
from shopwindow.drawn.writing import draw_shop
from shopwindow.model.recipe import load_recipe
from shopwindow.model.smoothing import SEED_WEIGHTS
from shopwindow.model.training import train
from shopwindow.model.validation import Validation
from shopwindow.ranking.answers import Answers, read_answers
from shopwindow.ranking.measures import Measure, evaluate

OFFICIAL: Final = Measure.parse("nDCG@5")
PARTS: Final = ("valid", "test")


@dataclass
class Seen:
    """What one recipe reached, shop by shop."""

    scores: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})
    errors: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})
    smoothed: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})
    seconds: list[float] = field(default_factory=list)
    share_of_steps: list[float] = field(default_factory=list)
    pairs: list[float] = field(default_factory=list)


def main() -> None:
    """Draws, trains, ranks, records."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shops", type=int, default=4)
    parser.add_argument("--products", type=int, default=3000)
    parser.add_argument("--recipes", nargs="+", default=["default", "bow"])
    options = parser.parse_args()
    seen = {name: Seen() for name in options.recipes}
    for shop in range(options.shops):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            draw_shop(folder / "shop", products=options.products, seed=shop)
            for part in ("train", *PARTS):
                prepare([folder / "shop" / f"{part}.tsv"], folder / part)
            for name, found in seen.items():
                measure(folder, name, found)
    for name, found in seen.items():
        record(f"valid and test of drawn shops, recipe {name}", figures(found))
    if len(seen) == 2:
        first, second = seen.values()
        differences: Figures = {
            f"{part}: {' over '.join(seen)}": [
                mine - theirs for mine, theirs in zip(first.scores[part], second.scores[part], strict=True)
            ]
            for part in PARTS
        }
        record(f"valid and test of drawn shops, {' over '.join(seen)}", differences)


def measure(folder: Path, name: str, found: Seen) -> None:
    """One recipe on one shop."""
    answers: dict[str, Answers] = {
        part: read_answers(folder / "shop" / f"{part}_answer.json") for part in PARTS
    }
    started = time.monotonic()
    bundle = train(
        Dataset(folder / "train"),
        load_recipe(name, {"validations": 1.0}),
        folder / name,
        validation=Validation(Dataset(folder / "valid"), answers["valid"]),
    )
    found.seconds.append(time.monotonic() - started)
    made = bundle.provenance
    found.share_of_steps.append(made["best_step"] / made["steps"])
    found.pairs.append(float(made["best_step"] * load_recipe(name).batch_size))
    for part in PARTS:
        dataset = Dataset(folder / part)
        plain = evaluate(bundle.rank(dataset), answers[part])
        found.scores[part].append(plain.mean(OFFICIAL))
        found.errors[part].append(plain.standard_error(OFFICIAL))
        smoothed = evaluate(bundle.rank(dataset, smooth=SEED_WEIGHTS), answers[part])
        found.smoothed[part].append(smoothed.mean(OFFICIAL) - plain.mean(OFFICIAL))


def figures(found: Seen) -> Figures:
    """What is recorded of one recipe."""
    apart = [test - valid for valid, test in zip(*found.scores.values(), strict=True)]
    errors = [float(np.hypot(*pair)) for pair in zip(*found.errors.values(), strict=True)]
    return {
        "valid nDCG@5": found.scores["valid"],
        "test nDCG@5": found.scores["test"],
        "test less valid": apart,
        "the same in standard errors of their queries": [
            one / error for one, error in zip(apart, errors, strict=True)
        ],
        "valid: smoothed regions less plain": found.smoothed["valid"],
        "test: smoothed regions less plain": found.smoothed["test"],
        "best checkpoint: share of the steps": found.share_of_steps,
        "best checkpoint: pairs seen": found.pairs,
        "seconds of training": found.seconds,
        "load of the machine": os.getloadavg()[0],
    }


if __name__ == "__main__":
    main()
