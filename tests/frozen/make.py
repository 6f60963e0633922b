"""Makes the data of tests/frozen: what the code of commit 7fa6022 gave. Kept as the record of where it comes from.

Run at that commit, from the repository: `OMP_NUM_THREADS=1 PYTHONPATH=src:. python tests/frozen/make.py`.
With `--sets FOLDER` it makes the figures of the product set `FOLDER/ikea`, which is not in the repository.

The cases are the keys of the data files: commands, wrong commands, files written, requests. Their values are made anew.
`files.json` is input: competition rows from `tests/data/rows.py`, good and spoiled, and broken tables, runs and JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.frozen import adapter, house


def cases() -> dict[str, Any]:
    """The texts and products whose vectors are kept, hashes of the drawn files, counts of the datasets."""
    rows = [line.split("\t") for line in Path("shop/valid.tsv").read_text().splitlines()[1:]]
    texts = [
        *sorted({row[7] for row in rows})[:8],
        "black watch",
        "Long, GREEN dresses!",
        "红色 shoes",
        "zzz",
    ]
    return {
        "texts": texts,
        "products": sorted({int(row[0]) for row in rows})[:12],
        "shop": {name: house.digest(Path("shop", name).read_bytes()) for name in house.SHOP},
        "facts": {name: adapter.dataset_facts(name) for name in ("train", "valid", "test")},
    }


def training(recipe: str) -> dict[str, Any]:
    """Batches, tokens, curves and vectors of a tiny recipe."""
    chosen, steps = house.load("cases.json"), adapter.batches(recipe)
    entry: dict[str, Any] = {
        "batches": {"first": steps[:2], "all": [house.digest(step) for step in steps]},
        "tokens": adapter.tokens(f"bundles/{recipe}", chosen["texts"]),
        "vectors": house.vectors(f"bundles/{recipe}", "valid", chosen),
    }
    for name, dropout in (("dropout", True), ("no_dropout", False)):
        out = f"trained/{recipe}-{name}"
        entry[name] = house.curve(adapter.train(recipe, out, house.weights_of(recipe), dropout=dropout))
        entry[f"{name}_vectors"] = house.vectors(out, "valid", chosen)
    return entry | {"own": house.curve(adapter.train(recipe, f"trained/{recipe}-own", None))}


def write(name: str, content: dict[str, Any] | list[Any]) -> None:
    """One data file, a line for each entry."""
    if isinstance(content, dict):
        lines = [
            f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items()
        ]
    else:
        lines = [json.dumps(value, ensure_ascii=False) for value in content]
    opened, closed = "{}" if isinstance(content, dict) else "[]"
    (house.DATA / name).write_text(f"{opened}\n" + ",\n".join(lines) + f"\n{closed}\n", encoding="utf-8")


def main() -> None:
    """Plays everything in a new folder and writes what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        if "--sets" in sys.argv:
            write("ikea.json", house.real_set(Path(sys.argv[-1])))
            return
        for split in ("draw shop --products 120 --seed 0", "prepare shop/train.tsv --out train"):
            house.play(split.split())
        write(
            "weights.json",
            {name: adapter.write_bundle(name, f"first/{name}", None) for name in adapter.RECIPES},
        )
        write("commands.json", house.play_all())
        write("written.json", {name: house.written(name) for name in house.load("written.json")})
        write("wrong.json", {words: house.play(words.split()) for words in house.load("wrong.json")})
        write("http.json", house.answers([case["request"] for case in house.load("http.json")]))
        write("cases.json", cases())
        write("trainings.json", {recipe: training(recipe) for recipe in adapter.RECIPES})


if __name__ == "__main__":
    main()
