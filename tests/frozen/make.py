"""Plays all frozen cases with today's code and writes what they give: `python tests/frozen/make.py FOLDER`.

`data/` holds what the code of commit 7fa6022 gave, made by this script with that commit's `adapter.py`. The cases are
the keys of the data files: commands, wrong commands, files written, requests. `files.json` is input: competition rows
from `tests/data/rows.py`, good and spoiled, and broken tables, runs and JSON. With `--sets SETS` it plays the sample of
the product set `SETS/ikea`, which is not in the repository. A process of its own: the tests check types as they run,
which would take most of the time.
"""

from __future__ import annotations

import json
import os
import sys
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


def main() -> None:
    """Plays everything in a folder's `house` and writes what came of it beside that."""
    out = Path(sys.argv[1]).resolve()
    (out / "house").mkdir(parents=True)
    os.chdir(out / "house")
    if "--sets" in sys.argv:
        write(out, "ikea.json", house.real_set(Path(sys.argv[-1])))
        return
    write(out, "commands.json", house.play_all())
    write(out, "written.json", {name: house.written(name) for name in house.load("written.json")})
    write(out, "wrong.json", {words: wrong(words) for words in house.load("wrong.json")})
    write(out, "http.json", house.answers([case["request"] for case in house.load("http.json")]))
    write(out, "cases.json", cases())
    write(out, "trainings.json", {recipe: training(recipe) for recipe in adapter.RECIPES})


def wrong(words: str) -> dict[str, Any]:
    """What a wrong command says."""
    said = house.play(words.split())
    house.tidy()
    return said


def write(out: Path, name: str, content: object) -> None:
    """Writes a value as JSON."""
    (out / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
