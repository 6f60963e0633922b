"""Does a recipe rank products better that no training saw and no choice was made on?

The products of a real set's training pairs are cut into five folds; those that look alike lie in one. A row of
`ablation.yaml` trains on four folds, keeps its last weights, and ranks the fifth: every text with a right product there
asks for it. Of ikea each pool has up to 6 right products and 30 in all, as the set's own; of grocery, where that is too
easy, a pool is the whole fold. `--hold` also chooses the weights, on a tenth of the four folds (`optimiser.keep`).
Resumable: cells in `folds.jsonl` are not run again. Needs the real sets (`$SHOPWINDOW_SHARED`, default `../shared`).

    python benchmarks/folds.py run --sets ikea grocery --rows bow late default --folds 5
    python benchmarks/folds.py table --base bow
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np

from ablation import OFFICIAL, SHARED, Row, read_grid, seeded_recipe, write_set
from record import commit, machine
from shopwindow.data.dataset import Dataset
from shopwindow.data.outliers import whole_photos
from shopwindow.model.bundle import Bundle
from shopwindow.model.rank import keep_products, score_pools
from shopwindow.model.rerankers import Pool, read_queries
from shopwindow.model.training import train
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.measures import evaluate
from shopwindow.ranking.runs import Run
from shopwindow.ranking.significance import seeds_difference

RESULTS: Final = Path(__file__).parent / "folds.jsonl"
FOLDS: Final = 5


@dataclass(frozen=True)
class Pools:
    """How the pools of a set's folds are made; `alike` is the mean number of products of a look-alike group."""

    alike: int
    size: int | None = None
    most_right: int | None = None


SETS: Final = {"ikea": Pools(4, 30, 6), "grocery": Pools(40)}


def main() -> None:
    """Runs or shows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--rows", nargs="+", default=["bow", "late", "default"])
    parser.add_argument("--folds", type=int, default=FOLDS, help="run so many of the five")
    parser.add_argument("--hold", action="store_true")
    parser.add_argument("--base", default="bow")
    options = parser.parse_args()
    if options.what == "table":
        print("\n".join(table(options.base)))
        return
    rows = [row for row in read_grid() if row.name in options.rows]
    for name in options.sets:
        if not (SHARED / "sets" / name).is_dir():
            print(f"skipped: no real set at {SHARED / 'sets' / name}")
            continue
        with tempfile.TemporaryDirectory() as scratch:
            write_set(name, Path(scratch))
            dataset = Dataset(Path(scratch) / "train")
            for fold in range(options.folds):
                for row in rows:
                    key = f"{row.name}, held out" if options.hold else row.name
                    if (name, key, fold) not in {(one["set"], one["row"], one["fold"]) for one in lines()}:
                        run_one(name, row, key, fold, dataset)


def run_one(name: str, row: Row, key: str, fold: int, dataset: Dataset) -> None:
    """Trains on four folds, ranks the fifth, and appends a line."""
    products = np.unique(dataset.pair_products[dataset.pair_training])
    inside = products[folds_of(dataset, products, SETS[name].alike) == fold]
    texts, queries, candidates, right = pools_of(dataset, inside, SETS[name], np.random.default_rng(fold))
    recipe = seeded_recipe(row, fold)
    if key != row.name:
        recipe = replace(recipe, optimiser=replace(recipe.optimiser, keep="held-out", validations=0.2))
    start = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        bundle = train(dataset.without(inside), recipe, Path(scratch) / "bundle")
    seconds = time.process_time() - start
    run = ranked(bundle, dataset, texts, queries, candidates)
    answers = Answers.from_arrays(
        queries[right], dataset.product_ids[candidates[right]], np.ones(int(right.sum()), np.int64)
    )
    values = evaluate(run, answers, [OFFICIAL]).of(OFFICIAL)
    line = {
        "set": name,
        "row": key,
        "fold": fold,
        "recipe": row.recipe,
        "changes": row.changes,
        "kept": bundle.provenance["kept"],
        "commit": commit(),
        "machine": machine(),
        "seconds": round(seconds, 1),
        "nDCG@5": [round(float(value), 4) for value in values],
    }
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(f"{name} {key} fold {fold}: {values.mean():.4f} in {seconds:.0f} s", flush=True)


def folds_of(dataset: Dataset, products: np.ndarray, alike: int) -> np.ndarray:
    """The fold of each product: those of one cluster of whole photos have the same."""
    vectors = whole_photos(dataset, products)
    clusters = faiss.Kmeans(
        vectors.shape[1], len(products) // alike, niter=15, seed=1, min_points_per_centroid=1
    )
    clusters.train(vectors)
    cluster = clusters.index.search(vectors, 1)[1][:, 0]
    fold: np.ndarray = np.random.default_rng(12345).permutation(cluster.max() + 1)[cluster] % FOLDS
    return fold


def pools_of(
    dataset: Dataset, products: np.ndarray, pools: Pools, rng: np.random.Generator
) -> tuple[
    list[str], np.ndarray, np.ndarray, np.ndarray
]:  # texts; of each candidate its text, product, whether right
    """Who asks, and among which products."""
    right: dict[str, set[int]] = {}
    rows = np.isin(dataset.pair_products, products)
    for query, product in zip(dataset.pair_queries[rows], dataset.pair_products[rows], strict=True):
        right.setdefault(dataset.query_texts[query], set()).add(int(product))
    texts, columns = sorted(right), []
    for number, text in enumerate(texts):
        own = sorted(right[text])
        if pools.most_right is not None and len(own) > pools.most_right:
            own = sorted(rng.choice(own, pools.most_right, replace=False).tolist())
        others = np.setdiff1d(products, list(right[text]))
        if pools.size is not None:
            others = rng.choice(others, min(pools.size - len(own), len(others)), replace=False)
        candidates = np.concatenate([own, others]).astype(np.int64)
        columns.append(
            np.stack([np.full(len(candidates), number), candidates, np.arange(len(candidates)) < len(own)])
        )
    queries, candidates, is_right = np.concatenate(columns, axis=1)
    return texts, queries, candidates, is_right.astype(bool)


def ranked(
    bundle: Bundle, dataset: Dataset, texts: list[str], queries: np.ndarray, candidates: np.ndarray
) -> Run:
    """The run of a bundle over pools, with its own reranker."""
    used, places = np.unique(candidates, return_inverse=True)
    kept = keep_products(bundle.reranker, dataset, used, boxes=bundle.needs_boxes)
    pool = Pool(dataset.product_ids[used], bundle.encode_dataset(dataset, used), kept)
    scores = score_pools(read_queries(texts, bundle), queries, pool, places, bundle.reranker)
    return Run.from_arrays(queries, dataset.product_ids[candidates], scores)


def lines() -> list[dict[str, Any]]:
    """What was measured."""
    if not RESULTS.is_file():
        return []
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]


def table(base: str) -> list[str]:
    """Each row beside the base, over the folds that both have, as Markdown; last the mean over the sets."""
    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    for line in lines():
        found.setdefault(line["row"], {}).setdefault(line["set"], {})[line["fold"]] = line["nDCG@5"]
    out = [
        "| row | set | folds, queries | nDCG@5 | base | difference | 95 % interval | p |",
        "|---" * 8 + "|",
    ]
    for row, sets in found.items():
        for name, own in sorted(sets.items()):
            theirs = found.get(base, {}).get(name, {})
            folds = sorted(own.keys() & theirs.keys())
            if row == base or not folds:
                continue
            mine, beside = (
                np.concatenate([values[fold] for fold in folds])[None] for values in (own, theirs)
            )
            difference = seeds_difference(mine, beside)
            cells = [
                row,
                name,
                f"{len(folds)}, {mine.shape[1]}",
                f"{mine.mean():.3f}",
                f"{beside.mean():.3f}",
            ]
            interval = f"{difference.low:+.3f} to {difference.high:+.3f}"
            out += [
                "| "
                + " | ".join([*cells, f"{difference.mean:+.3f}", interval, f"{difference.p_value:.3f}"])
                + " |"
            ]
    return out


if __name__ == "__main__":
    main()
