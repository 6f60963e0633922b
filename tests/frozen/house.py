"""The drawn house in which frozen cases are played: how it is laid out, and when two answers are the same."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from tests.frozen import adapter

DATA = Path(__file__).parent / "data"
SCORES = 1e-6
SHOP = ("train.tsv", "valid.tsv", "test.tsv", "valid_answer.json", "columns.csv", "multimodal_labels.txt")
_NUMBER = re.compile(r"-?\d+\.\d+(?:e[-+]?\d+)?|-?\d+e[-+]?\d+")
_MASKED = [(re.compile(r"\b\d+(\.\d+)? s\b"), "N s"), (re.compile(r" {2,}"), "  ")]


def load(name: str) -> Any:
    """A data file's content."""
    return json.loads((DATA / name).read_text(encoding="utf-8"))


def digest(content: object) -> str:
    """A short hash of bytes, or of a value's JSON."""
    raw = content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode()
    return hashlib.sha256(raw).hexdigest()[:24]


def drawn_weights(spec: dict[str, tuple[list[int], float, float]]) -> dict[str, np.ndarray]:
    """Weights that follow from their names: normal, of the given mean and deviation, four times as wide as at first.

    A scalar is its mean; the gate of a tower, 0 at first, is 0.7; a constant matrix varies by 0.3.
    """
    weights = {}
    for name, (shape, mean, deviation) in spec.items():
        noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
        spread = 4 * deviation or (0.3 if len(shape) == 2 else 0.0)
        weights[name] = np.asarray(0.7 if name.endswith("_gate") else mean + spread * noise, np.float32)
    return weights


def weights_of(recipe: str) -> dict[str, np.ndarray]:
    """The frozen first weights of a tiny recipe."""
    return drawn_weights(load("weights.json")[recipe])


def write_files() -> None:
    """Writes the small inputs, good and broken, into the current folder."""
    for name, content in load("files.json").items():
        Path(name).write_text(adapter.FILES.get(name, content), encoding="utf-8", newline="")


def write_bundles() -> None:
    """Writes a bundle of frozen weights for every recipe."""
    for recipe in adapter.RECIPES:
        adapter.write_bundle(recipe, f"bundles/{recipe}", weights_of(recipe))


def play_all() -> dict[str, Any]:
    """What every frozen command gives now, played in order in the current folder; `#2` plays one again."""
    write_files()
    said: dict[str, Any] = {}
    for key in load("commands.json"):
        if key.startswith("index") and not Path("bundles").exists():
            write_bundles()
        said[key] = play(key.partition("#")[0].split())
    return said


def curve(rows: list[dict[str, str]]) -> dict[str, list[float]]:
    """Losses and rates of all steps, and what the last validation says."""
    names = ("learning_rate", "train_loss", "false_negatives")
    steps = {name: [float(row[name]) for row in rows] for name in names}
    return steps | {"valid": [float(rows[-1]["valid_loss"]), float(rows[-1]["valid_score"])]}


def answers(requests: list[list[Any]]) -> list[dict[str, Any]]:
    """Each request (index, method, path and a body) with what the service says."""
    found = []
    for index in dict.fromkeys(request[0] for request in requests):
        with adapter.service(index) as client:
            for request in (one for one in requests if one[0] == index):
                method, path, body = (*request[1:], None)[:3]
                found.append({"request": request, "answer": ask(client, method, path, body)})
    return found


def vectors(bundle: str, dataset: str, cases: dict[str, Any]) -> dict[str, list[Any]]:
    """Vectors of the cases' texts and products."""
    texts, products = adapter.vectors(bundle, cases["texts"], dataset, cases["products"])
    return {"texts": np.round(texts, 8).tolist(), "products": np.round(products, 8).tolist()}


def real_set(sets: Path) -> dict[str, Any]:
    """What preparing, auditing and 20 steps on a sample of a real product set give, in the current folder."""
    made = [sys.executable, str(sets / "make_tsv.py"), str(sets / "ikea"), "--out", "shop"]
    subprocess.run(
        [*made, "--train-rows", "362", "--valid-queries", "20"], check=True, stdout=subprocess.DEVNULL
    )
    cases: dict[str, list[Any]] = {"texts": [], "products": []}
    for row in (line.split("\t") for line in Path("shop/valid.tsv").read_text().splitlines()[1::37]):
        cases["texts"].append(row[7])
        cases["products"].append(int(row[0]))
    audit = "audit --pools shop/valid.tsv --answers shop/valid_answer.json --json"
    commands = [*(f"prepare shop/{split}.tsv --out {split}" for split in ("train", "valid")), audit]
    said = {words: play(words.split()) for words in commands}
    curves, found = {}, {}
    for recipe in ("bow", "default"):
        curves[recipe] = curve(adapter.train(recipe, f"trained/{recipe}", None))
        found[recipe] = vectors(f"trained/{recipe}", "valid", cases)
    return {"said": said, "facts": adapter.dataset_facts("train"), "curves": curves, "vectors": found}


def bettered(key: str, want: Any) -> Any:
    """The frozen answer to a case, or what it was bettered to on purpose."""
    return adapter.BETTERED.get(key, want)


def tidy() -> None:
    """Takes away what a wrong command wrote although it should have failed, so that the next ones are not misled."""
    for path in Path().glob("x*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def play(words: list[str]) -> dict[str, Any]:
    """What a command gives: exit code, output and lines of errors.

    The folder is HERE, times are N, columns stand two spaces apart.
    """
    code, out, err = adapter.cli(words)
    lines = [line for line in err.splitlines(keepends=True) if line.startswith("shopwindow: ")]
    return {"exit": code, "out": _parsed(_masked(out)), "err": _masked("".join(lines))}


def written(name: str) -> object:
    """A file that a command wrote; lines of JSON as values."""
    text = _masked(Path(name).read_text(encoding="utf-8"))
    return [_parsed(line) for line in text.splitlines()] if name.endswith(".jsonl") else text


def _parsed(text: str) -> object:
    return adapter.plain(json.loads(text)) if text.startswith(("{\n", "[\n", '{"')) else text


def _masked(text: str) -> str:
    text = text.replace(str(Path.cwd()), "HERE")
    for pattern, instead in _MASKED:
        text = pattern.sub(instead, text)
    return text


def ask(client: Any, method: str, path: str, body: object) -> dict[str, Any]:
    """Status, kind and content of an HTTP answer; a photo is its hash, metrics are their names."""
    answer = client.request(method, path, json=body)
    kind = answer.headers.get("content-type", "").split(";")[0]
    if kind.endswith("json"):
        content: object = _without_version(adapter.plain(answer.json()))
    elif path == "/metrics":
        content = sorted(
            {line.split("{")[0].split(" ")[0] for line in answer.text.splitlines() if line[0] != "#"}
        )
    else:
        content = digest(answer.content)
    return {"status": answer.status_code, "kind": kind, "content": content}


def _without_version(content: object) -> object:
    """The state of an index has a name of its own each time; so has a request."""
    if isinstance(content, dict):
        return {
            key: "*" if key in ("version", "instance", "request_id") else _without_version(value)
            for key, value in content.items()
        }
    return content


def difference(got: Any, want: Any, where: str = "", tolerance: float = SCORES) -> str:
    """Where two answers differ first; empty where they are the same. Order and text are exact."""
    if isinstance(want, dict) and isinstance(got, dict):
        if got.keys() != want.keys():
            return f"{where}: keys {sorted(got)}, wanted {sorted(want)}"
        pairs = [(got[key], want[key], f"{where}.{key}") for key in want]
    elif isinstance(want, list) and isinstance(got, list):
        if len(got) != len(want):
            return f"{where}: {len(got)} values, wanted {len(want)}"
        pairs = [
            (one, other, f"{where}[{row}]") for row, (one, other) in enumerate(zip(got, want, strict=True))
        ]
    elif isinstance(want, str) and isinstance(got, str):
        return _text_difference(got, want, where)
    elif type(want) is float and isinstance(got, int | float):
        close = math.isclose(got, want, rel_tol=tolerance, abs_tol=tolerance)
        return "" if close else f"{where}: {got}, wanted {want}"
    else:
        return "" if got == want and type(got) is type(want) else f"{where}: {got!r}, wanted {want!r}"
    return next((found for pair in pairs if (found := difference(*pair, tolerance))), "")


def _text_difference(got: str, want: str, where: str) -> str:
    """Text is equal but for numbers with a point: those may differ by the tolerance, or in their last printed place."""
    if _NUMBER.sub("#", got) != _NUMBER.sub("#", want):
        return f"{where}: {got!r}, wanted {want!r}"
    for one, other in zip(_NUMBER.findall(got), _NUMBER.findall(want), strict=True):
        places = len(other.partition("e")[0].partition(".")[2])
        step = 1.01 * 10.0**-places if "e" not in other else 0.0
        if abs(float(one) - float(other)) > max(SCORES, step):
            return f"{where}: {one}, wanted {other}, in {got!r}"
    return ""
