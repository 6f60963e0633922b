"""How the frozen cases are put to the code: the one file here that knows the code's names.

Cases are spelled as at commit 7fa6022; `cli` spells them anew. `BETTERED` lists what changed on purpose.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import numpy as np
import torch
from tokenizers import Tokenizer

from shopwindow.cli import main
from shopwindow.data.batches import PairBatches
from shopwindow.data.dataset import Dataset
from shopwindow.files import whole_directory
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.model.encoder import PartsEncoder
from shopwindow.model.initial import initial_model
from shopwindow.model.recipe import Recipe, load_recipe
from shopwindow.search.engine import SearchEngine
from shopwindow.service.app import Service
from tests.service.running import running

Weights = dict[str, np.ndarray]

BETTERED: dict[str, Any] = json.loads(
    (Path(__file__).parent / "data" / "bettered.json").read_text(encoding="utf-8")
)
"""Case -> the whole answer to it where that changed on purpose.

- Ids are any text: `x12` is legal, JSON has text (`plain` turns it back), `/products/red` is unknown, not wrong.
- Indexes keep float32 vectors; `--precision` and its kin are gone, summaries name values and bytes.
- Ties of a shortcut are exact expectations: audits lose the noise of drawn ties (0.01 in these few queries). Ties no
  longer take numbers of the generator, so intervals are of other resamples, means of all else equal. Verdicts name p.
- Sub-verbs, nested recipe fields and a parser of plain words say errors anew.
- A photo can be asked with: `search` without anything names it. `prepare` takes --features instead of a TSV;
  the demo is a shop of photos. `index make --photos` counts photos; verdicts name Holm; metrics count lost log lines.
- What an index holds is said in lines of plain words; rows of other products are no remark; tables show file names;
  nDCG-ones@5 is no default measure. `price<20` is a condition. "GREEN" is read as "green" where that is known, in the
  vectors of `trainings.json`.
- `prepare` counts pairs to learn from only where there are some. Outputs that are inputs, or hold them, are told first.
- Rerankers go by name: `ways.rerankers`, "a reranker of its own". The recipe `shop` is named among the others.
"""

_ALL = ["text.vocabulary=300", "batches.size=18", "optimiser.epochs=1", "optimiser.validations=1"]
_TOWER = {"heads": 2, "inner": 32}
_SIZES: dict[str, list[str]] = {
    "bow": ["parts.0.width=16"],
    "linear": ["parts.0.width=16"],
    "late": ["parts.0.width=16", "parts.1.width=16", "late.width=8"],
    "default": [
        "parts.0.width=16",
        "parts.1.width=16",
        *(f"parts.1.photo.transformer.{name}={value}" for name, value in _TOWER.items()),
        "parts.2.width=8",
    ],
    "small": ["parts.0.width=16"],
    "seed": ["parts.0.width=16", "optimiser.learning_rate=0.001"],
}
for _recipe_name, _tower in (("small", _TOWER), ("seed", _TOWER | {"layers": 2})):
    for _side in ("text", "photo"):
        _SIZES[_recipe_name] += [
            f"parts.0.{_side}.transformer.{name}={value}" for name, value in _tower.items()
        ]
_NO_DROPOUT = {
    "bow": ["parts.0.photo.linear.dropout=0"],
    "linear": ["parts.0.photo.linear.dropout=0"],
    "late": ["parts.0.photo.linear.dropout=0", "parts.1.photo.linear.dropout=0", "late.dropout=0"],
    "default": [
        *(f"parts.{part}.photo.linear.dropout=0" for part in range(3)),
        "parts.1.photo.transformer.dropout=0",
    ],
    "small": [f"parts.0.{side}.transformer.dropout=0" for side in ("text", "photo")],
    "seed": [f"parts.0.{side}.transformer.dropout=0" for side in ("text", "photo")],
}
RECIPES = tuple(_SIZES)
FILES = {
    "recipe.yaml": "parts:\n- width: 16\n  text: {transformer: {layers: many}}\n  photo: {transformer: {}}\n"
}
"""Inputs that are spelled anew: their fields are nested."""
_NEW_FIELDS = {
    "batch_size": "batches.size",
    "learning_rate": "optimiser.learning_rate",
    "epochs": "optimiser.epochs",
    "query_rules": "text.rules",
}


def spelled_anew(words: list[str]) -> list[str]:
    """A command of commit 7fa6022 in today's spelling."""
    verb = words[0] if words else ""
    if verb == "train" and "--set" in words:
        start = words.index("--set") + 1
        words = [word.replace("=shout", "=[shout]") for word in words]
        pairs = [word.partition("=") for word in words[start:]]
        return [
            *words[:start],
            *(_NEW_FIELDS.get(name, name) + equals + value for name, equals, value in pairs),
        ]
    if verb == "export-text":
        return ["export", "onnx", *words[1:]]
    if verb == "export":
        return ["export", "bert", *words[1:]]
    if verb == "export-vectors":
        return ["export", words[words.index("--to") + 1], words[1]]
    return _index(words) if verb == "index" else words


def _index(words: list[str]) -> list[str]:
    words = ["--no-kept-regions" if word == "--no-late-regions" else word for word in words]
    if "int8" in words:  # gone; the other precisions are cases of what is refused
        words = [word for word in words if word not in ("--precision", "int8")]
    for verb in ("add", "delete", "compact", "update", "check"):
        if f"--{verb}" in words:
            place = words.index(f"--{verb}")
            rest = [*words[1:place], *words[place + 2 :]]
            ids = [word for word in rest if word != "--ids"] if verb == "delete" else rest
            return ["index", verb, words[place + 1], *ids]
    return ["index", "make", *words[1:]]


def cli(words: list[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command in its spelling of commit 7fa6022."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(spelled_anew(words))
        except SystemExit as stopped:
            code = int(stopped.code or 0)
    return code, out.getvalue(), err.getvalue()


def plain(answer: object) -> object:
    """A JSON answer in the form of commit 7fa6022: ids as whole numbers, the same keys. Without titles, and whether a
    photo can be asked with, which say nothing there; without prices apart from the other values, counts and roles."""
    if isinstance(answer, list):
        return [plain(value) for value in answer]
    if not isinstance(answer, dict):
        return answer
    counted = ("count",) if "label" in answer else ()
    priced = ("price",) if "values" in answer else ()
    new = ("link", "currency", "did_you_mean", "counts", "role", *counted, *priced)
    return {
        key: int(value)
        if key in ("product_id", "query_id") and isinstance(value, str) and value.isdecimal()
        else plain(value)
        for key, value in answer.items()
        if (key, value) not in (("title", None), ("photo", False)) and key not in new
    }


def changes(recipe: str, *, dropout: bool = True) -> list[str]:
    """The words after `--set` that make a recipe tiny, and take its dropout away."""
    return [*_ALL, *_SIZES[recipe], *([] if dropout else _NO_DROPOUT[recipe])]


def write_bundle(recipe: str, out: str, weights: Weights) -> None:
    """Writes a tiny untrained bundle of these weights for the dataset `train`.

    Centre, spread and names come from the data.
    """
    tokenizer, model = initial_model(Dataset("train"), _recipe(recipe))
    _set_weights(model, weights)
    with whole_directory(Path(out), marker=MARKER) as folder:
        Bundle(model.eval(), tokenizer).save_into(folder)


def train(recipe: str, out: str, weights: Weights | None, *, dropout: bool = True) -> list[dict[str, str]]:
    """The rows of curves.csv of a tiny training on `train` that begins with these weights, or with its own."""

    def begin(dataset: Dataset, chosen: Recipe, **own: Any) -> tuple[Tokenizer, PartsEncoder]:
        tokenizer, model = initial_model(dataset, chosen, **own)
        if weights is not None:
            _set_weights(model, weights)
        return tokenizer, model

    words = ["train", "train", "--valid", "valid", "--answers", "shop/valid_answer.json", "--out", out]
    words += ["--recipe", recipe, "--set", *changes(recipe, dropout=dropout)]
    with mock.patch("shopwindow.model.training.initial_model", begin):
        code, _, err = cli(words)
    assert code == 0, err
    with (Path(out) / "curves.csv").open() as file:
        return list(csv.DictReader(file))


def batches(recipe: str) -> list[list[tuple[str, int]]]:
    """The pairs of every step of a tiny training: the query's text and the product's id."""
    chosen, dataset = _recipe(recipe), Dataset("train")
    steps = PairBatches(
        dataset,
        batch_size=chosen.batches.size,
        epochs=chosen.optimiser.epochs,
        seed=chosen.optimiser.seed,
        order=chosen.batches.order,
        hard=chosen.batches.hard,
    )
    texts, ids = dataset.query_texts, dataset.product_ids
    return [
        [(texts[query], int(ids[row])) for query, row in zip(step.queries, step.products, strict=True)]
        for step in steps
    ]


def vectors(
    bundle: str, texts: list[str], dataset: str, products: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of texts, and of some products of a dataset, by a bundle."""
    opened, data = Bundle.load(bundle), Dataset(dataset)
    rows = np.array([data.product_ids.tolist().index(product) for product in products])
    return opened.encode_texts(texts), opened.encode_dataset(data, rows)


def tokens(bundle: str, texts: list[str]) -> list[list[str]]:
    """The pieces of texts, as a bundle's tokenizer cuts them."""
    tokenizer = Tokenizer.from_file(str(Path(bundle) / "tokenizer.json"))
    return [encoding.tokens for encoding in tokenizer.encode_batch(texts)]


def dataset_facts(dataset: str) -> dict[str, object]:
    """What a prepared dataset counts."""
    data = Dataset(dataset)
    return {
        "pairs": len(data.pair_products),
        "training": int(data.pair_training.sum()),
        "queries": len(data.query_texts),
        "products": len(data.product_ids),
        "feature_size": data.feature_size,
    }


@contextlib.contextmanager
def service(index: str) -> Iterator[httpx.Client]:
    """A client of the service over an index."""
    with running(Service(SearchEngine.open(index), suggestions=["black watch"])) as client:
        yield client


def _recipe(name: str) -> Recipe:
    return load_recipe(name, dict(word.split("=") for word in changes(name)))


def _set_weights(model: PartsEncoder, weights: Weights) -> None:
    """Gives each parameter its value from weights under the names of commit 7fa6022. All of them are used."""
    used = set()
    columns = 0  # of the one table of word vectors that all parts shared

    def old(name: str, choose: Callable[[np.ndarray], np.ndarray] = lambda value: value) -> np.ndarray:
        used.add(name)
        return choose(weights[name])

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            place = name.split(".")
            if place[0] != "parts":
                value = old(name)
            elif place[2] == "log_share":
                value = old("log_share")
            elif place[3] == "gates":
                value = old(f"{place[2]}_gate")
            elif name.endswith("text.components.0.weight") and "bag.weight" in weights:
                rows, width = parameter.shape
                start = columns
                value = old("bag.weight", lambda table: table[:rows, start : start + width])  # noqa: B023 - called at once
                columns += width
            elif place[2] == "photo" and place[4] == "0" and "views.0.dense.weight" in weights:
                value = old(f"views.{place[1]}." + ".".join(place[5:]))
            else:
                value = old(f"{place[2]}." + ".".join(place[5:]))
            parameter.copy_(torch.from_numpy(np.asarray(value)).reshape(parameter.shape))
    assert used == weights.keys()
