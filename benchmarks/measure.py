"""What do evaluating and comparing two large runs cost: 10,000 queries of 1,000 candidates, 10,000 resamples?

Beside it pytrec_eval on a tenth of the queries, its input already in its own dictionaries.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytrec_eval

from record import record, run_measured
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.measures import DEFAULT_MEASURES, Measure, evaluate
from shopwindow.ranking.runs import Run
from shopwindow.ranking.significance import System, compare

QUERIES, CANDIDATES, TIMES = 10_000, 1_000, 3


def main() -> None:
    """Measures in a process of its own, and records."""
    if sys.argv[1:] == ["once"]:
        compare_once()
        return
    costs = [run_measured([sys.executable, str(Path(__file__).resolve()), "once"]) for _ in range(TIMES)]
    record(
        "measuring: two runs of 10,000 x 1,000 candidates made, evaluated (6 measures) and compared (10,000 resamples)",
        {
            "seconds, process start and random scores included": [cost.seconds for cost in costs],
            "processor seconds": [cost.processor_seconds for cost in costs],
            "private memory, MB": [cost.private_mb for cost in costs],
        },
    )
    ours, theirs = zip(*(against_pytrec_eval() for _ in range(TIMES)), strict=True)
    record(
        "measuring: nDCG@5 of 1,000 x 1,000 candidates, from arrays",
        {
            "seconds": list(ours),
            "pytrec_eval: seconds": list(theirs),
            "times faster": [other / mine for mine, other in zip(ours, theirs, strict=True)],
        },
    )


def made(queries: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Queries, products, scores, and which rows are answers (1 %)."""
    generator = np.random.default_rng(seed)
    ids = np.repeat(np.arange(queries), CANDIDATES)
    right = np.random.default_rng(99).random(len(ids)) < 0.01
    return ids, np.tile(np.arange(CANDIDATES) * 7, queries), generator.random(len(ids)) + 0.5 * right, right


def compare_once() -> None:
    """Two runs from arrays to tests."""
    systems = []
    for seed in (1, 2):
        ids, products, scores, right = made(QUERIES, seed)
        answers = Answers.from_arrays(ids[right], products[right])
        run = Run.from_arrays(ids, products, scores, name=f"run {seed}")
        systems.append(System(run.name, (evaluate(run, answers, DEFAULT_MEASURES),)))
    compare(systems[0], systems[1:], np.random.default_rng(0))


def against_pytrec_eval() -> tuple[float, float]:
    """Seconds of both; they must agree."""
    ids, products, scores, right = made(QUERIES // 10, 1)
    start = time.perf_counter()
    answers = Answers.from_arrays(ids[right], products[right])
    mine = evaluate(Run.from_arrays(ids, products, scores), answers, [Measure("nDCG", 5)])
    ours = time.perf_counter() - start
    qrels: dict[str, dict[str, int]] = {}
    run: dict[str, dict[str, float]] = {}
    rows = zip(ids.tolist(), products.tolist(), scores.tolist(), right.tolist(), strict=True)
    for query, product, score, answer in rows:
        run.setdefault(str(query), {})[str(product)] = score
        if answer:
            qrels.setdefault(str(query), {})[str(product)] = 1
    start = time.perf_counter()
    found = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.5"}).evaluate(run)
    theirs = time.perf_counter() - start
    mean = np.mean([values["ndcg_cut_5"] for values in found.values()])
    if abs(mine.mean("nDCG@5") - mean) > 1e-6:
        raise AssertionError(f"{mine.mean('nDCG@5')} and {mean} differ")
    return ours, theirs


if __name__ == "__main__":
    main()
