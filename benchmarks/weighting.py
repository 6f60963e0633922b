"""Is weighting pairs by clicks worth anything, when some clicks are wrong?

None of the real sets has clicks, so they are simulated on one of them: every true pair has 1 + Poisson(`--right`)
clicks, and beside a share of them stands a wrong pair, the same query and another product, with 1 + Poisson(`--wrong`)
clicks. Trained on are these pairs without their weights, with them (linear, log), only those of at least three clicks,
and, for the most that could be had, the true pairs alone. The validation set is as it is. Needs the real sets.

    python benchmarks/weighting.py ikea bow
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from real_sets import SHARED, last_score
from record import record
from shopwindow.data.dataset import Dataset
from shopwindow.data.prepare import prepare
from shopwindow.model.recipe import load_recipe
from shopwindow.model.training import train
from shopwindow.model.validation import Validation
from shopwindow.ranking.answers import read_answers

FEWEST_CLICKS: Final = 3
WAYS: Final = {
    "clicks, weighting none": ("clicks", "none"),
    "clicks, weighting linear": ("clicks", "linear"),
    "clicks, weighting log": ("clicks", "log"),
    f"pairs of {FEWEST_CLICKS} clicks or more": ("often", "none"),
    "true pairs alone": ("true", "none"),
}


def main() -> None:
    """Simulates, trains every way, and records."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set")
    parser.add_argument("recipe")
    parser.add_argument("changes", nargs="*", help="field=value")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--noise", type=float, default=0.5, help="wrong pairs for each true one, at most 1")
    parser.add_argument("--right", type=float, default=6.0)
    parser.add_argument("--wrong", type=float, default=0.5)
    options = parser.parse_args()
    changes = dict(change.split("=", 1) for change in options.changes)
    sets = SHARED / "sets"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        command = [sys.executable, str(sets / "make_tsv.py"), str(sets / options.set), "--out", str(folder)]
        subprocess.run(command, check=True, capture_output=True)
        figures: dict[str, list[float]] = {name: [] for name in WAYS}
        prepare([folder / "valid.tsv"], folder / "valid")
        validation = Validation(Dataset(folder / "valid"), read_answers(folder / "valid_answer.json"))
        for seed in range(options.seeds):
            pairs = simulate(folder, np.random.default_rng(seed), options.noise, options.right, options.wrong)
            for name, (data, weighting) in WAYS.items():
                recipe = load_recipe(options.recipe, {**changes, "seed": str(seed), "weighting": weighting})
                train(Dataset(folder / data), recipe, folder / "bundle", validation=validation)
                figures[name].append(last_score(folder / "bundle"))
                print(seed, name, f"{figures[name][-1]:.4f}", flush=True)
    says = " ".join([options.recipe, *options.changes])
    clicks = f"1 + Poisson({options.right:g}) and 1 + Poisson({options.wrong:g}) clicks"
    noise = f"{options.noise:g} wrong pairs a true one, {clicks}"
    record(
        f"simulated clicks: {options.set}, recipe {says}, {noise}",
        {**figures, "pairs": float(pairs), "load of the machine": os.getloadavg()[0]},
    )


def simulate(folder: Path, rng: np.random.Generator, noise: float, right: float, wrong: float) -> int:
    """Writes and prepares the datasets clicks, often and true; gives how many pairs the first has."""
    header, *lines = (folder / "train.tsv").read_text().splitlines()
    rows = [line.rsplit("\t", 2) for line in lines]
    products = [product for product, _, _ in rows]
    ids = [int(product.split("\t", 1)[0]) for product in products]
    known = {(product, query) for product, (_, query, _) in zip(ids, rows, strict=True)}
    pairs = [(place, query, number, 1 + rng.poisson(right)) for place, (_, query, number) in enumerate(rows)]
    true = len(pairs)
    for _, query, number in rows:
        if rng.random() >= noise:
            continue
        place = int(rng.integers(len(rows)))
        if (ids[place], query) not in known:
            known.add((ids[place], query))
            pairs.append((place, query, number, 1 + rng.poisson(wrong)))
    for name, kept in (
        ("clicks", pairs),
        ("often", [pair for pair in pairs if pair[3] >= FEWEST_CLICKS]),
        ("true", pairs[:true]),
    ):
        rows_kept = [f"{products[place]}\t{query}\t{number}" for place, query, number, _ in kept]
        (folder / f"{name}.tsv").write_text("\n".join([header, *rows_kept]) + "\n")
        weights = [f"{ids[place]}\t{number}\t{clicks}" for place, _, number, clicks in kept]
        table = "\n".join(["product_id\tquery_id\tweight", *weights]) + "\n"
        (folder / "weights.tsv").write_text(table)
        prepare([folder / f"{name}.tsv"], folder / name, weights=folder / "weights.tsv")
    return len(pairs)


if __name__ == "__main__":
    main()
