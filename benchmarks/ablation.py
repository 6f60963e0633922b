"""What is a recipe, or one of its ingredients, worth on the real sets and on a drawn shop?

Trains every row of a grid with several seeds and keeps the nDCG@5 of every query of the validation set. The weights are
those after the last step: the validation set chooses nothing. A row differs from its base by one thing, so the two are
compared by the paired test over queries and seeds. Resumable: rows in `ablation.jsonl` are not run again. The finished
study (docs/study.md) has more rows; their recipes are in the grid of commit 7fa6022. Needs the real sets
(`$SHOPWINDOW_SHARED`, default `../shared`), but for `drawn`, a drawn shop of 3,000 products.

    python benchmarks/ablation.py run --sets ikea grocery drawn --seeds 3 [--rows linear bow ...]
    python benchmarks/ablation.py table
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from record import ROOT, commit, machine
from shopwindow.data.dataset import Dataset
from shopwindow.data.prepare import prepare
from shopwindow.drawn.writing import draw_shop
from shopwindow.model.recipe import Recipe, load_recipe
from shopwindow.model.training import train
from shopwindow.model.validation import Validation
from shopwindow.ranking.answers import read_answers
from shopwindow.ranking.measures import Measure, evaluate
from shopwindow.ranking.significance import Difference, seeds_difference

FOLDER: Final = Path(__file__).parent
GRID: Final = FOLDER / "ablation.yaml"
RESULTS: Final = FOLDER / "ablation.jsonl"
SHARED: Final = Path(os.environ.get("SHOPWINDOW_SHARED", ROOT / ".." / "shared"))
OFFICIAL: Final = Measure.parse("nDCG@5")
ONLY_AT_THE_END: Final = 1e-6  # validations an epoch
DRAWN: Final = "drawn"
BASE: Final = "linear"


@dataclass(frozen=True)
class Row:
    """One line of the grid: a recipe with fields changed; `base` is the row it differs from by one thing."""

    name: str
    recipe: str
    changes: dict[str, Any]
    base: str | None
    says: str


def main() -> None:
    """Runs or shows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--sets", nargs="+", default=["ikea", "grocery"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", nargs="+", help="names; all where none is given")
    options = parser.parse_args()
    if options.what == "table":
        print("\n".join(table()))
        return
    rows = [row for row in read_grid() if not options.rows or row.name in options.rows]
    for product_set in options.sets:
        if product_set != DRAWN and not (SHARED / "sets" / product_set).is_dir():
            print(f"skipped: no real set at {SHARED / 'sets' / product_set}")
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write_set(product_set, folder)
            for seed in range(options.seeds):
                for row in rows:
                    if (product_set, row.name, seed) not in done():
                        run_one(product_set, row, seed, folder)


def read_grid() -> list[Row]:
    """The rows of `ablation.yaml`, each recipe checked."""
    rows = []
    for name, values in yaml.safe_load(GRID.read_text(encoding="utf-8")).items():
        row = Row(
            name,
            values.get("recipe", BASE),
            values.get("set", {}),
            values.get("base", BASE),
            values["says"],
        )
        seeded_recipe(row, 0)
        rows.append(row)
    return rows


def write_set(name: str, folder: Path) -> None:
    """Writes and prepares a real set, or a drawn shop."""
    if name == DRAWN:
        draw_shop(folder / "shop", products=3000, seed=0)
        for file in ("train.tsv", "valid.tsv", "valid_answer.json"):
            (folder / "shop" / file).rename(folder / file)
    else:
        command = [sys.executable, str(SHARED / "sets" / "make_tsv.py"), str(SHARED / "sets" / name)]
        subprocess.run([*command, "--out", str(folder)], check=True, capture_output=True)
    for split in ("train", "valid"):
        prepare([folder / f"{split}.tsv"], folder / split)


def seeded_recipe(row: Row, seed: int) -> Recipe:
    """The recipe that a row trains with one seed."""
    same = {"optimiser.seed": seed, "optimiser.validations": ONLY_AT_THE_END}
    return load_recipe(row.recipe, row.changes | same)


def run_one(product_set: str, row: Row, seed: int, folder: Path) -> None:
    """Trains, measures, and appends a line."""
    recipe = seeded_recipe(row, seed)
    valid, answers = Dataset(folder / "valid"), read_answers(folder / "valid_answer.json")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "bundle"
        bundle = train(Dataset(folder / "train"), recipe, out, validation=Validation(valid, answers))
        seconds = time.monotonic() - start
    evaluation = evaluate(bundle.rank(valid), answers)
    known = set(Dataset(folder / "train").query_texts)
    texts = dict(zip(valid.query_ids.tolist(), valid.query_texts, strict=True))
    line = {
        "set": product_set,
        "row": row.name,
        "seed": seed,
        "recipe": row.recipe,
        "changes": row.changes,
        "commit": commit(),
        "machine": machine(),
        "seconds": round(seconds, 1),
        "steps": bundle.provenance["steps"],
        "false_negatives_a_batch": bundle.provenance["false_negatives_a_batch"],
        "queries": [int(query) for query in evaluation.queries],
        "seen": [texts[int(query)] in known for query in evaluation.queries],
        "nDCG@5": [round(float(value), 4) for value in evaluation.of(OFFICIAL)],
    }
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(
        f"{product_set} {row.name} seed {seed}: {np.mean(line['nDCG@5']):.4f} in {seconds:.0f} s", flush=True
    )


def lines() -> list[dict[str, Any]]:
    """What was measured."""
    if not RESULTS.is_file():
        return []
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]


def done() -> set[tuple[str, str, int]]:
    """Which (set, row, seed) stand in the results."""
    return {(line["set"], line["row"], line["seed"]) for line in lines()}


def table() -> list[str]:
    """The results as Markdown: one table a set, each row beside its base, one that left the grid beside `linear`."""
    grid = {row.name: row for row in read_grid()}
    out = []
    for product_set, found in _found().items():
        counts = f"{len(next(iter(found.values()))[0]['queries'])} queries"
        out += [f"### {product_set}, {counts}", ""]
        out += ["| row | what | nDCG@5 (seeds) | seen texts | unseen | difference | 95 % interval | p | s |"]
        out += ["|---|---|---|---|---|---|---|---|---|"]
        for name, own in sorted(found.items(), key=lambda item: -float(_values(item[1]).mean())):
            row = grid.get(name, Row(name, BASE, {}, BASE, "(docs/study.md)"))
            out += [_table_row(row, own, found)]
        out += [""]
    return out


def _found() -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The runs of every set by row, in the order of their seeds."""
    out: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for line in sorted(lines(), key=lambda line: (line["set"], line["seed"])):
        out.setdefault(line["set"], {}).setdefault(line["row"], []).append(line)
    return out


def _difference(own: list[dict[str, Any]], base: list[dict[str, Any]]) -> Difference:
    """The paired difference, over the seeds that both have."""
    seeds = sorted({run["seed"] for run in own} & {run["seed"] for run in base})
    mine, theirs = (_values([run for run in runs if run["seed"] in seeds]) for runs in (own, base))
    return seeds_difference(mine, theirs)


def _values(runs: list[dict[str, Any]]) -> np.ndarray:
    return np.array([run["nDCG@5"] for run in runs])


def _table_row(row: Row, own: list[dict[str, Any]], found: dict[str, list[dict[str, Any]]]) -> str:
    values, seen = _values(own), np.array(own[0]["seen"])
    scores = ", ".join(f"{score:.3f}" for score in values.mean(axis=1))
    unseen = f"{values[:, ~seen].mean():.3f}" if not seen.all() else ""
    cells = [
        row.name,
        row.says,
        f"**{values.mean():.3f}** ({scores})",
        f"{values[:, seen].mean():.3f}",
        unseen,
    ]
    if row.base is not None and row.base != row.name and row.base in found:
        difference = _difference(own, found[row.base])
        beside = "" if row.base == BASE else f" to {row.base}"
        cells += [
            f"{difference.mean:+.3f}{beside}",
            f"{difference.low:+.3f} to {difference.high:+.3f}",
            f"{difference.p_value:.3f}",
        ]
    else:
        cells += ["", "", ""]
    timed = [run["seconds"] for run in own if run["seconds"] is not None]  # none of a run that was held up
    cells.append(f"{np.median(timed):.0f}" if timed else "")
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
