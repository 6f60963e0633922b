"""What do the recipes reach on the two real product sets, and how long does it take?

Writes the sets' competition files, prepares, trains with several seeds, ranks with and without smoothing, and
measures, beside random order and the oracle. Needs the real sets (`$SHOPWINDOW_SHARED`, default `../shared`).

    python benchmarks/real_sets.py ikea small epochs=30
    python benchmarks/real_sets.py grocery seed hidden=192 --seeds 1
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from record import ROOT, record
from shopwindow.data.dataset import Dataset
from shopwindow.data.prepare import prepare
from shopwindow.model.recipe import load_recipe
from shopwindow.model.smoothing import SEED_WEIGHTS
from shopwindow.model.training import train
from shopwindow.model.validation import Validation
from shopwindow.model.watch import Moment
from shopwindow.ranking.answers import read_answers
from shopwindow.ranking.measures import evaluate
from shopwindow.ranking.pools import oracle_run, random_run, read_pools

SHARED = Path(os.environ.get("SHOPWINDOW_SHARED", ROOT / ".." / "shared"))
OFFICIAL = "nDCG@5"


def main() -> None:
    """Runs one recipe on one set and records it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set")
    parser.add_argument("recipe")
    parser.add_argument("changes", nargs="*", help="field=value")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    sets = SHARED / "sets"
    if not (sets / options.set).is_dir():
        print(f"skipped: no real set at {sets / options.set}")
        return
    changes = dict(change.split("=", 1) for change in options.changes)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        command = [sys.executable, str(sets / "make_tsv.py"), str(sets / options.set), "--out", str(folder)]
        subprocess.run(command, check=True, capture_output=True)
        figures = measure(folder, options.recipe, changes, range(options.seeds))
    says = " ".join([options.recipe, *options.changes])
    record(f"real photos: {options.set}, recipe {says}", figures)


def measure(folder: Path, name: str, changes: dict[str, str], seeds: range) -> dict[str, float | list[float]]:
    """The scores of every seed, official nDCG@5, and what they took."""
    for split in ("train", "valid"):
        prepare([folder / f"{split}.tsv"], folder / split)
    pairs, valid = Dataset(folder / "train"), Dataset(folder / "valid")
    answers, pools = read_answers(folder / "valid_answer.json"), read_pools(folder / "valid.tsv")
    validation = Validation(valid, answers)
    columns: dict[str, list[float]] = {
        key: [] for key in (OFFICIAL, "nDCG-ones@5", "smoothed nDCG@5", "last nDCG@5")
    }
    columns |= {"training seconds": [], "best epoch": []}
    for seed in seeds:
        recipe = load_recipe(name, {**changes, "seed": seed})
        start = time.monotonic()
        bundle = train(pairs, recipe, folder / f"bundle{seed}", validation=validation, progress=_tell)
        columns["training seconds"].append(time.monotonic() - start)
        plain = evaluate(bundle.rank(valid), answers)
        columns[OFFICIAL].append(plain.mean(OFFICIAL))
        columns["nDCG-ones@5"].append(plain.mean("nDCG-ones@5"))
        columns["smoothed nDCG@5"].append(
            evaluate(bundle.rank(valid, smooth=SEED_WEIGHTS), answers).mean(OFFICIAL)
        )
        columns["last nDCG@5"].append(last_score(folder / f"bundle{seed}"))
        columns["best epoch"].append(
            bundle.provenance["best_step"] / (bundle.provenance["steps"] / recipe.epochs)
        )
    chance = [
        evaluate(random_run(pools, np.random.default_rng(seed)), answers).mean(OFFICIAL) for seed in range(20)
    ]
    best = evaluate(oracle_run(pools, answers), answers).mean(OFFICIAL)
    return {**columns, "random nDCG@5": float(np.mean(chance)), "oracle nDCG@5": best}


def last_score(bundle: Path) -> float:
    """What a training's last validation scored: picked by no validation."""
    from shopwindow.model.state import read_curves

    return [row.valid_score for row in read_curves(bundle) if row.valid_score is not None][-1]


def _tell(moment: Moment) -> None:
    if moment.step % 100 == 0:
        print(
            f"  step {moment.step}/{moment.steps}, {moment.pairs_per_second:.0f} pairs/s, best {moment.best}",
            flush=True,
        )


if __name__ == "__main__":
    main()
