"""Makes the data of tests/frozen: what the code of commit 7fa6022 gave. Kept as the record of where it comes from.

Run at that commit, from the repository: `OMP_NUM_THREADS=1 PYTHONPATH=src:. python tests/frozen/make.py`.
With `--sets FOLDER` it adds figures of the product set `FOLDER/ikea`, which is not in the repository.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.data.rows import HEADER_LINE, make_line, make_lines, make_product, replaced
from tests.frozen import adapter, house

DRAWN = [
    "draw shop --products 120 --seed 0",
    "prepare shop/train.tsv --out train",
    "prepare shop/valid.tsv --out valid",
    "prepare shop/test.tsv --out test --processes 1",
]
INDEXES = [
    "index bundles/default train --out default.index --photos shop/photos --texts train"
    " --labels shop/multimodal_labels.txt --columns shop/columns.csv",
    "index valid --add default.index --columns shop/columns.csv",
    "index bundles/late train --out late.index --texts train --columns shop/columns.csv",
    "index test --add late.index",
    "index bundles/bow train --out bow.index --precision int8 --smooth 0.8,0.2",
    "index bundles/linear train --out cells.index --approximate-from 20",
]
SAID = [
    "rank bundles/default valid --out default.run",
    "rank bundles/default valid --out default-smooth.run --smooth 0.7,0.2,0.1",
    "rank bundles/default valid --out default-reciprocal.run --operator reciprocal",
    "rank bundles/default valid --out default-expand.run --operator expand:3,2",
    "rank bundles/late valid --out late.run --explain why --explain-queries 3 --explain-top 2 --photos shop/photos",
    "rank bundles/late valid --out late-smooth.run --smooth 0.7,0.2,0.1",
    "rank bundles/default test --out default-test.run",
    *(f"rank bundles/{name} valid --out {name}.run" for name in ("bow", "linear", "small", "seed")),
    "evaluate default.run shop/valid_answer.json",
    "evaluate default.run shop/valid_answer.json --pools shop/valid.tsv --against late.run bow.run --resamples 500",
    "evaluate late.run shop/valid_answer.json --json --measures nDCG@5 MRR hit@1",
    "evaluate late.run,small.run shop/valid_answer.json --measures nDCG@5",
    "audit --pools shop/valid.tsv --answers shop/valid_answer.json --json",
    "audit --pools shop/valid.tsv --answers shop/valid_answer.json --also shop/test.tsv --run default.run late.run",
    "audit --pools shop/valid.tsv --answers shop/valid_answer.json --dataset valid --train train --json",
    "fuse default.run late.run --out fused.run --answers shop/valid_answer.json",
    "fuse default.run late.run bow.run --out rrf.run --method rrf --weights 1 2 1",
    "fuse default.run late.run --out learned.run --learn shop/valid_answer.json --folds 4",
    "submit default-test.run --out submission.csv --pools shop/test.tsv",
    "submit --check submission.csv --pools shop/test.tsv",
    "search default.index black watch",
    "search default.index black watch --json --top 5",
    "search default.index green leather shoes --json --top 5 --where price<=30 colour=green|black",
    "search default.index table lamp --json --top 5 --hybrid",
    "search default.index table lamp --json --top 5 --labels 1 2",
    "search default.index table lamp --json --top 5 --rerank expand:5,3 --candidates 20",
    "search late.index black star glass mug --json --top 5",
    "search late.index black star glass mug --json --top 5 --rerank late --candidates 30",
    "search late.index black star glass mug --json --top 5 --rerank smooth --hybrid",
    "search late.index long dress --json --top 5 --where image_h>=300 --exact",
    "search bow.index canvas shoes --json --top 5",
    "search bow.index canvas shoes --json --top 5 --exact",
    "search cells.index canvas shoes --json --top 5",
    "search cells.index canvas shoes --json --top 5 --exact",
    "search late.index --queries valid --run catalogue.run --top 7 --rerank late",
    "evaluate late.index shop/valid_answer.json --queries valid --top 20",
    "evaluate default.index shop/valid_answer.json --queries valid --hybrid --against late.index --resamples 200",
    "export-text bundles/bow --out bow.onnx",
    "index --check default.index",
    "index --delete bow.index --ids 100000091 100000119",
    "search bow.index canvas shoes --json --top 3",
    "index --compact bow.index",
    "search bow.index canvas shoes --json --top 3",
    "index --update late.index --columns other.csv",
    "search late.index black --json --top 3 --where size=small",
    "prepare small.tsv --out small --feature-size 8",
    "prepare small.tsv --out small-kept --feature-size 8 --keep possessive many_boxes",
    "prepare small.tsv --out weighted --feature-size 8 --weights weights.tsv",
    "prepare broken.tsv --out broken --feature-size 8 --allow-malformed",
]
FILES = [
    *(f"{name}.run" for name in adapter.RECIPES),
    "default-smooth.run",
    "default-reciprocal.run",
    "default-expand.run",
    "late-smooth.run",
    "fused.run",
    "rrf.run",
    "learned.run",
    "catalogue.run",
    "submission.csv",
    "why/explanations.jsonl",
]
WRONG = [
    "",
    "trian",
    "prepare",
    "prepare no.tsv --out x",
    "prepare shop --out x",
    "prepare empty.tsv --out x",
    "prepare small.tsv --out x --feature-size 0",
    "prepare small.tsv --out x --feature-size big",
    "prepare small.tsv --out x --feature-size 9",
    "prepare small.tsv --out x --feature-size 8 --keep everything",
    "prepare small.tsv --out shop --feature-size 8",
    "prepare small.tsv --out small.tsv",
    "prepare broken.tsv --out x --feature-size 8",
    "prepare header.tsv --out x --feature-size 8",
    "prepare small.tsv --out x --feature-size 8 --weights bad-weights.tsv",
    "prepare small.tsv --out x --feature-size 8 --feature-size 8",
    *(f"prepare broken-{name}.tsv --out x --feature-size 8" for name in ("boxes", "count", "base64", "label", "id")),
    "train no-data --valid valid --answers shop/valid_answer.json --out x",
    "train train --valid no-data --answers shop/valid_answer.json --out x",
    "train train --valid valid --answers no.json --out x",
    "train train --valid valid --answers broken.json --out x",
    "train train --valid valid --answers shop/valid_answer.json --out shop",
    "train train --valid valid --answers shop/valid_answer.json --out x --recipe nice",
    "train train --valid valid --answers shop/valid_answer.json --out x --recipe recipe.yaml",
    "train train --valid valid --answers shop/valid_answer.json --out x --set hidden",
    "train train --valid valid --answers shop/valid_answer.json --out x --set hiden=3",
    "train train --valid valid --answers shop/valid_answer.json --out x --set batch_size=1",
    "train train --valid valid --answers shop/valid_answer.json --out x --set batch_size=9999",
    "train train --valid valid --answers shop/valid_answer.json --out x --set learning_rate=fast",
    "train train --valid valid --answers shop/valid_answer.json --out x --set epochs=-1",
    "train train --valid valid --answers shop/valid_answer.json --out x --set query_rules=shout",
    "train train --valid valid --answers shop/valid_answer.json --out x --devices 0",
    "train train --valid valid --answers shop/valid_answer.json --out x --device tpu",
    "train train --valid small --answers shop/valid_answer.json --out x --recipe bow",
    "rank no-bundle valid --out x.run",
    "rank bundles/bow no-data --out x.run",
    "rank bundles/bow small --out x.run",
    "rank bundles/bow valid --out x.run --smooth a,b",
    "rank bundles/bow valid --out x.run --operator magic",
    "rank bundles/bow valid --out x.run --operator expand:-1,3",
    "rank bundles/bow valid --out x.run --explain why2",
    "rank bundles/late valid --out x.run --photos shop/photos",
    "rank bundles/late valid --out x.run --explain why2 --explain-top 0",
    "rank bundles/late valid --out x.run --explain why2 --photos nowhere",
    "evaluate no.run shop/valid_answer.json",
    "evaluate broken.run shop/valid_answer.json",
    "evaluate twice.run shop/valid_answer.json",
    "evaluate default.run broken.json",
    "evaluate default.run shop/valid_answer.json --measures nDGC@5",
    "evaluate default.run shop/valid_answer.json --hybrid",
    "evaluate default.index shop/valid_answer.json",
    "evaluate default.run shop/valid_answer.json --resamples 0",
    "audit --pools no.tsv --answers shop/valid_answer.json",
    "audit --pools shop/valid.tsv --answers shop/valid_answer.json --train train --measure x",
    "audit --pools shop/valid.tsv --answers shop/valid_answer.json --run default.run --fail-above 0.0",
    "fuse default.run --out x.run",
    "fuse default.run late.run --out x.run --weights 1",
    "fuse default.run late.run --out x.run --method best",
    "submit no.run --out x.csv",
    "submit --check small.tsv",
    "export bundles/bow --out x",
    "export-vectors default.index --to parquet",
    "index bundles/bow train",
    "index bundles/bow --out x.index",
    "index bundles/bow bundles/bow --out x.index",
    "index bundles/bow small --out x.index",
    "index bundles/bow train --out x.index --photos nowhere",
    "index bundles/bow train --out x.index --precision int4",
    "index bundles/bow train --out x.index --columns broken.csv",
    "index bundles/bow train --out x.index --no-late-regions",
    "index --delete late.index --ids 5",
    "index --delete late.index",
    "index --compact late.index --ids 3",
    "index --update late.index",
    "index --check bundles/bow",
    "index train --add bundles/bow",
    "search no.index red",
    "search late.index",
    "search late.index red --top 0",
    "search late.index red --where price<20",
    "search late.index red --where weight<=20",
    "search late.index red --where price<=1 --exact",
    "search late.index 红色连衣裙",
    "search default.index red --rerank late",
    "search default.index red --rerank magic",
    "search default.index red --candidates 5",
    "search bow.index red --hybrid",
    "search late.index --queries valid",
    "serve no.index",
    "serve late.index --port 99999",
    "serve late.index --host 0.0.0.0",
    "serve late.index --threads 0",
    "key ann --keys shop",
    "draw x --products 5",
    "demo --products 5 --out x",
]
HTTP: list[list[Any]] = [
    ["default.index", "GET", "/search?q=black+watch&k=5"],
    ["default.index", "GET", "/search?q=green+shoes&k=5&where=price%3C%3D30&where=colour%3Dgreen%7Cblack"],
    ["default.index", "GET", "/search?q=table+lamp&k=4&label=2&label=1"],
    ["default.index", "GET", "/search?q=table+lamp&k=4&hybrid=true&exact=true"],
    ["default.index", "GET", "/search?q=table+lamp&k=4&rerank=expand%3A5%2C3&candidates=20"],
    ["default.index", "GET", "/search?q=%E7%BA%A2%E8%89%B2"],
    ["default.index", "GET", "/search?q="],
    ["default.index", "GET", "/search?q=red&k=0"],
    ["default.index", "GET", "/search?q=red&where=price%3C20"],
    ["default.index", "GET", "/search?q=red&where=weight%3C%3D20"],
    ["default.index", "GET", "/search?q=red&rerank=late"],
    ["default.index", "GET", "/search?q=red&colour=red"],
    ["default.index", "POST", "/search", {"queries": ["black watch", "long dress"], "k": 3}],
    ["default.index", "POST", "/search", {"queries": [], "k": 3}],
    ["default.index", "POST", "/search", {"query": "red"}],
    ["default.index", "GET", "/products/100000091"],
    ["default.index", "GET", "/products/7"],
    ["default.index", "GET", "/products/red"],
    ["default.index", "GET", "/products/100000091/similar?k=4"],
    ["default.index", "GET", "/products/100000091/similar?k=4&region=1&where=price%3E%3D10"],
    ["default.index", "GET", "/products/100000091/similar?region=77"],
    ["default.index", "GET", "/products/100000091/explain?q=black+watch"],
    ["default.index", "GET", "/photos/100000091"],
    ["default.index", "GET", "/photos/7"],
    ["default.index", "GET", "/index"],
    ["default.index", "GET", "/healthz"],
    ["default.index", "GET", "/readyz"],
    ["default.index", "GET", "/nowhere"],
    ["default.index", "DELETE", "/search"],
    ["default.index", "GET", "/metrics"],
    ["late.index", "GET", "/search?q=black+star+glass+mug&k=4"],
    ["late.index", "GET", "/search?q=black+star+glass+mug&k=4&rerank=late&candidates=30"],
    ["late.index", "GET", "/products/100000091/explain?q=black+star+mug"],
    ["late.index", "GET", "/products/100000091/similar?k=4&region=0"],
    ["late.index", "GET", "/photos/100000091"],
    ["late.index", "GET", "/index"],
]


def files() -> dict[str, str]:
    """Small inputs, good and broken, by name."""
    good = make_lines(12)
    crowded = make_line(make_product(2000, 41), "crowded photo", 50)
    possessive = make_line(make_product(2001, 2), "'s shirt", 51)
    spoiled = {
        "boxes": replaced(good[3], "boxes", good[1].split(b"\t")[4]),
        "count": replaced(good[3], "num_boxes", b"9"),
        "base64": replaced(good[3], "features", b"A*A="),
        "label": make_line(make_product(2002, 2)).replace(b"\n", b"\textra\n"),
        "id": replaced(good[3], "product_id", b"-4"),
    }

    def table(*lines: bytes) -> str:
        return (HEADER_LINE + b"".join(lines)).decode()

    return {
        "small.tsv": table(*good, crowded, possessive, good[0]),
        "broken.tsv": table(*good[:3], *spoiled.values(), *good[4:]),
        **{f"broken-{name}.tsv": table(*good[:2], line) for name, line in spoiled.items()},
        "header.tsv": table(*good).replace("query_id", "quary_id"),
        "empty.tsv": "",
        "weights.tsv": "product_id\tquery_id\tweight\n1000\t0\t3\n1001\t1\t0.5\n",
        "bad-weights.tsv": "product_id\tquery_id\tweight\n1000\t0\t-3\n",
        "broken.json": '{"1": [2, 3], "2": [',
        "broken.run": "1 Q0 2 1 0.5 tag\n1 Q0 3 2 much tag\n",
        "twice.run": "1 Q0 2 1 0.5 tag\n1 Q0 2 2 0.4 tag\n",
        "broken.csv": "product_id,price:number\n100000091,12\n100000119,cheap\n",
        "other.csv": "product_id,size,price\n100000091,small,3\n100000119,large,4\n",
        "recipe.yaml": "hidden: 16\nlayers: many\n",
    }


def trainings() -> dict[str, Any]:
    """Curves, batches, tokens and vectors of every tiny recipe."""
    cases = house.load("cases.json")
    found: dict[str, Any] = {}
    for recipe in adapter.RECIPES:
        steps = adapter.batches(recipe)
        entry: dict[str, Any] = {
            "batches": {"first": steps[:2], "all": [house.digest(step) for step in steps]},
            "tokens": adapter.tokens(f"bundles/{recipe}", cases["texts"]),
            "vectors": house.vectors(f"bundles/{recipe}", "valid", cases),
        }
        for name, dropout in (("dropout", True), ("no_dropout", False)):
            out = f"trained/{recipe}-{name}"
            entry[name] = house.curve(adapter.train(recipe, out, house.weights_of(recipe), dropout=dropout))
            entry[f"{name}_vectors"] = house.vectors(out, "valid", cases)
        entry["own"] = house.curve(adapter.train(recipe, f"trained/{recipe}-own", None))
        found[recipe] = entry
    return found


def write(name: str, content: object) -> None:
    """One data file, a line for each entry."""
    rows = content.items() if isinstance(content, dict) else enumerate(content)  # type: ignore[arg-type]
    keyed = isinstance(content, dict)
    lines = [(f"{json.dumps(key)}: " if keyed else "") + json.dumps(value, ensure_ascii=False) for key, value in rows]
    opened, closed = "{}" if keyed else "[]"
    text = opened + "\n" + ",\n".join(lines) + "\n" + closed + "\n"
    (house.DATA / name).write_text(text, encoding="utf-8")


def main() -> None:
    """Plays everything in a new folder and writes what came of it."""
    house.DATA.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        if "--sets" in sys.argv:
            write("ikea.json", house.real_set(Path(sys.argv[-1])))
            return
        write("files.json", files())
        house.write_files()
        said = {words: house.play(words.split()) for words in DRAWN}
        spec = {recipe: adapter.write_bundle(recipe, f"bundles/{recipe}", None) for recipe in adapter.RECIPES}
        write("weights.json", spec)
        house.write_bundles()
        for words in [*INDEXES, *SAID]:
            said[f"{words}#2" if words in said else words] = house.play(words.split())
        write("commands.json", said)
        write("written.json", {name: house.written(name) for name in FILES})
        write("wrong.json", {words: house.play(words.split()) for words in WRONG})
        write("http.json", house.answers(HTTP))
        queries = sorted({line.split("\t")[7] for line in Path("shop/valid.tsv").read_text().splitlines()[1:]})
        products = sorted({int(line.split("\t")[0]) for line in Path("shop/valid.tsv").read_text().splitlines()[1:]})
        texts = [*queries[:8], "black watch", "Long, GREEN dresses!", "红色 shoes", "zzz"]
        shop = {name: house.digest(Path("shop", name).read_bytes()) for name in house.SHOP}
        facts = {name: adapter.dataset_facts(name) for name in ("train", "valid", "test")}
        write("cases.json", {"texts": texts, "products": products[:12], "shop": shop, "facts": facts})
        write("trainings.json", trainings())


if __name__ == "__main__":
    main()
