"""How the frozen cases are put to the code: the one file here that knows the code's names.

Whoever rebuilds the code rewrites this file; data and asserts stay. `BETTERED` lists what changes on purpose.
"""

from __future__ import annotations

import contextlib
import csv
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import httpx
import numpy as np
import torch
from tokenizers import Tokenizer

import shopwindow.cli
from shopwindow.cli import main
from shopwindow.data.batches import PairBatches
from shopwindow.data.dataset import Dataset
from shopwindow.files import whole_directory
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.model.dual import DualEncoder
from shopwindow.model.initial import initial_model
from shopwindow.model.recipe import Recipe, load_recipe
from shopwindow.search.engine import SearchEngine
from shopwindow.service.app import Service
from tests.service.running import running

Weights = dict[str, np.ndarray]
_VERBS = shopwindow.cli._verbs

BETTERED: dict[str, str] = {}
"""Command as frozen -> what it says now (of an error its line, else its output), where that changed on purpose."""

_ALL = ["vocabulary=300", "batch_size=18", "epochs=1", "validations=1"]
_SIZES = {
    "bow": ["hidden=16", "heads=2"],
    "linear": ["hidden=16", "heads=2"],
    "late": ["hidden=32", "heads=2", "late=8"],
    "default": ["hidden=32", "heads=2", "common=8", "inner=32"],
    "small": ["hidden=16", "heads=2", "inner=32"],
    "seed": ["hidden=16", "layers=2", "heads=2", "inner=32", "learning_rate=0.001"],
}
_NO_DROPOUT = {
    "bow": ["pooled_dropout=0"],
    "linear": ["pooled_dropout=0"],
    "late": ["pooled_dropout=0"],
    "default": ["pooled_dropout=0", "dropout=0"],
    "small": ["dropout=0"],
    "seed": ["dropout=0"],
}
RECIPES = tuple(_SIZES)


def cli(words: list[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command in its spelling of commit 7fa6022."""
    if words[:1] in (
        ["draw"],
        ["demo"],
    ):  # they pass a whole number for a float, which the tests' type checker refuses
        command = [sys.executable, "-m", "shopwindow", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr
    out, err = io.StringIO(), io.StringIO()
    code = 0
    verbs = _VERBS() if not words or words[0] not in _VERBS() else {words[0]: _VERBS()[words[0]]}
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch("shopwindow.cli._verbs", return_value=verbs),  # all parsers take a fifth of a second
    ):
        try:
            main(words)
        except SystemExit as stopped:
            code = int(stopped.code or 0)
    return code, out.getvalue(), err.getvalue()


def plain(answer: object) -> object:
    """A JSON answer in the form of commit 7fa6022 (ids as whole numbers, the same keys)."""
    if isinstance(answer, list):
        return [plain(value) for value in answer]
    if not isinstance(answer, dict):
        return answer
    return {
        key: int(value) if key == "product_id" and isinstance(value, str) else plain(value)
        for key, value in answer.items()
    }


def changes(recipe: str, *, dropout: bool = True) -> list[str]:
    """The words after `--set` that make a recipe tiny, and take its dropout away."""
    return [*_ALL, *_SIZES[recipe], *([] if dropout else _NO_DROPOUT[recipe])]


def write_bundle(recipe: str, out: str, weights: Weights | None) -> dict[str, tuple[list[int], float, float]]:
    """Writes a tiny untrained bundle for the dataset `train`; gives shape, mean and deviation of each weight.

    `weights` replace the parameters; centre, spread and names come from the data.
    """
    tokenizer, model = initial_model(Dataset("train"), _recipe(recipe))
    _set_weights(model, weights or {})
    with whole_directory(Path(out), marker=MARKER) as folder:
        Bundle(model.eval(), tokenizer).save_into(folder)
    return {
        name: (list(value.shape), float(value.mean()), float(value.std(correction=0)))
        for name, parameter in model.named_parameters()
        for value in [parameter.detach()]
    }


def train(recipe: str, out: str, weights: Weights | None, *, dropout: bool = True) -> list[dict[str, str]]:
    """The rows of curves.csv of a tiny training on `train` that begins with these weights, or with its own."""

    def begin(dataset: Dataset, chosen: Recipe) -> tuple[Tokenizer, DualEncoder]:
        tokenizer, model = initial_model(dataset, chosen)
        _set_weights(model, weights or {})
        return tokenizer, model

    words = ["train", "train", "--valid", "valid", "--answers", "shop/valid_answer.json", "--out", out]
    words += ["--recipe", recipe, "--set", *changes(recipe, dropout=dropout)]
    without_plot = mock.patch("shopwindow.model.curves._draw")
    with mock.patch("shopwindow.model.training.initial_model", begin), without_plot:
        code, _, err = cli(words)
    assert code == 0, err
    with (Path(out) / "curves.csv").open() as file:
        return list(csv.DictReader(file))


def batches(recipe: str) -> list[list[tuple[str, int]]]:
    """The pairs of every step of a tiny training: the query's text and the product's id."""
    chosen, dataset = _recipe(recipe), Dataset("train")
    steps = PairBatches(
        dataset,
        batch_size=chosen.batch_size,
        epochs=chosen.epochs,
        seed=chosen.seed,
        order=chosen.order,
        group=chosen.group,
        hard=chosen.hard,
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
    return opened.encode_queries(texts), opened.encode_products(data, rows)


def tokens(bundle: str, texts: list[str]) -> list[list[str]]:
    """The pieces of texts, as a bundle's tokenizer cuts them."""
    return [
        one.tokens for one in Tokenizer.from_file(str(Path(bundle) / "tokenizer.json")).encode_batch(texts)
    ]


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


def _set_weights(model: DualEncoder, weights: Weights) -> None:
    own = dict(model.named_parameters())
    assert not weights or weights.keys() == own.keys()
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(torch.from_numpy(value))
