"""What do pool operators and fused seeds add to a trained model, on the real sets?

Trains a recipe with three seeds, ranks the valid pools plainly, with the seed's smoothing of regions, with every pool
operator, and with the three seeds fused; each beside the plain one in the same run by the paired test, seed by seed.
Smoothing also in its catalogue form: neighbours among all products of the set instead of the pool's. Operators on
vectors are left out where late interaction gives a second score. Needs the real sets.

    python benchmarks/pool_operators.py ikea default
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from ablation import ONLY_AT_THE_END, write_set
from real_sets import SHARED
from record import record
from shopwindow.data.dataset import Dataset
from shopwindow.model.bundle import Bundle
from shopwindow.model.rank import candidate_pairs, rank_pools, score_pairs
from shopwindow.model.recipe import load_recipe
from shopwindow.model.smoothing import SEED_WEIGHTS
from shopwindow.model.training import train
from shopwindow.model.validation import Validation
from shopwindow.ranking.answers import Answers, read_answers
from shopwindow.ranking.fusion import fuse
from shopwindow.ranking.measures import Evaluation, evaluate
from shopwindow.ranking.operators import Operator, smooth_vectors
from shopwindow.ranking.runs import Run
from shopwindow.ranking.significance import System, seeds_difference

SEEDS = 3
OPERATORS = ("smooth", "expand", "reciprocal")


def main() -> None:
    """Runs one recipe on one set and records it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set")
    parser.add_argument("recipe")
    parser.add_argument("changes", nargs="*", help="field=value")
    options = parser.parse_args()
    if not (SHARED / "sets" / options.set).is_dir():
        print(f"skipped: no real set at {SHARED / 'sets' / options.set}")
        return
    changes = dict(change.split("=", 1) for change in options.changes)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_set(options.set, folder)
        answers = read_answers(folder / "valid_answer.json")
        bundles = [train_one(folder, options.recipe, changes, seed, answers) for seed in range(SEEDS)]
        figures = measure(bundles, Dataset(folder / "valid"), answers)
    record(f"pool operators: {options.set}, recipe {' '.join([options.recipe, *options.changes])}", figures)


def train_one(folder: Path, name: str, changes: dict[str, str], seed: int, answers: Answers) -> Bundle:
    """A bundle of the weights after the last step."""
    recipe = load_recipe(name, {**changes, "seed": seed, "validations": ONLY_AT_THE_END})
    validation = Validation(Dataset(folder / "valid"), answers)
    return train(Dataset(folder / "train"), recipe, folder / f"bundle{seed}", validation=validation)


def measure(bundles: list[Bundle], valid: Dataset, answers: Answers) -> dict[str, float | list[float]]:
    """nDCG@5 of every way over the seeds, and difference, interval and p against plain ranking."""
    ways: dict[str, list[Run]] = {"plain": [bundle.rank(valid) for bundle in bundles]}
    ways["regions smoothed in the pool"] = [bundle.rank(valid, smooth=SEED_WEIGHTS) for bundle in bundles]
    if bundles[0].model.late is None:
        ways["vectors smoothed in the catalogue"] = [catalogue_smoothed(bundle, valid) for bundle in bundles]
    for name in OPERATORS if bundles[0].model.late is None else ():
        operator = Operator.parse(name)
        ways[f"{name} (vectors, in the pool)"] = [
            rank_pools(bundle.model, bundle.tokenizer, valid, operator=operator) for bundle in bundles
        ]
    plain = System("plain", evaluated(ways["plain"], answers))
    figures: dict[str, float | list[float]] = {}
    for name, runs in ways.items():
        system = System(name, evaluated(runs, answers))
        figures[f"{name}: nDCG@5"] = system.of("nDCG@5").mean(axis=1).tolist()
        if name != "plain":
            figures |= against(system, plain, name)
    fused = System("fused", evaluated([fuse(ways["plain"], method="zscore")], answers))
    figures["three seeds fused: nDCG@5"] = fused.mean("nDCG@5")
    first = System("the first seed", plain.evaluations[:1])
    return figures | against(fused, first, "three seeds fused, over the first seed")


def evaluated(runs: list[Run], answers: Answers) -> tuple[Evaluation, ...]:
    """Each run measured."""
    return tuple(evaluate(run, answers) for run in runs)


def against(system: System, plain: System, name: str) -> dict[str, float | list[float]]:
    """Difference, interval and p of nDCG@5; the i-th rankings of both are of one model."""
    told = seeds_difference(system.of("nDCG@5"), plain.of("nDCG@5"), matched=True)
    return {
        f"{name}: difference": told.mean,
        f"{name}: 95 % from": told.low,
        f"{name}: 95 % to": told.high,
        f"{name}: p": told.p_value,
    }


def catalogue_smoothed(bundle: Bundle, valid: Dataset) -> Run:
    """Every product's vector leans on its nearest among all products of the set."""
    queries, products = candidate_pairs(valid)
    words = bundle.encode_texts(valid.query_texts)
    photos = smooth_vectors(bundle.encode_products(valid), SEED_WEIGHTS)
    scores = score_pairs(words, photos.astype(np.float32), queries, products)
    return Run.from_arrays(valid.query_ids[queries], valid.product_ids[products], scores, name="smoothed")


if __name__ == "__main__":
    main()
