"""A shop's held-out clicks rank its whole catalogue, as a run of every pair would, and in little memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shopwindow.cli import main
from shopwindow.data.clicks import read_judgements
from shopwindow.data.dataset import Dataset
from shopwindow.data.features import Features
from shopwindow.data.held_out import held_out_clicks
from shopwindow.data.shop import prepare_shop
from shopwindow.files import DataError
from shopwindow.model import validation as rules
from shopwindow.model.bundle import Bundle
from shopwindow.model.initial import initial_model
from shopwindow.model.recipe import Recipe, load_recipe
from shopwindow.model.rerankers import Pool, read_queries
from shopwindow.model.training import train
from shopwindow.model.validation import CatalogueValidation
from shopwindow.ranking.answers import Answers
from shopwindow.ranking.measures import evaluate
from shopwindow.ranking.runs import Run
from tests.data.small_features import SIZE, write_features
from tests.model.parts import part, transformer

THINGS = ("mug", "lamp", "chair", "table", "bowl", "shelf")
COLOURS = ("red", "blue", "green", "white")
TINY: dict[str, Any] = {
    "parts": [part(transformer(inner=48, dropout=0.0), transformer(inner=48, dropout=0.0))],
    "batches.size": 40,
    "text.vocabulary": 100,
    "optimiser.epochs": 60,
    "optimiser.learning_rate": 0.005,
    "optimiser.validations": 0.1,
}


def tiny(recipe: str = "small", **changes: object) -> Recipe:
    return load_recipe(recipe, {**TINY, **changes})


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """120 products of 24 kinds, each with features of its colour and thing, and clicks on most over ten days."""
    folder = tmp_path_factory.mktemp("shop")
    generator = np.random.default_rng(1)
    kinds = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
    names = [kinds[row % len(kinds)] for row in range(120)]
    of_word = {word: generator.normal(size=SIZE) for word in (*COLOURS, *THINGS)}
    features = np.array([sum(of_word[word] for word in name.split()) for name in names])
    features += 0.1 * generator.normal(size=features.shape)
    ids = [f"SKU-{row:03}" for row in generator.permutation(len(names))]
    path = write_features(folder / "features", ids, features=features)
    rows = [f"2026-06-{1 + row % 10:02},{names[row]},{ids[row]}" for row in range(len(names)) if row % 7]
    (folder / "clicks.csv").write_text("date,query,sku\n" + "\n".join(rows) + "\n")
    prepare_shop(Features(path), folder / "clicks.csv", folder / "dataset")
    return Dataset(folder / "dataset")


def of_clicks(dataset: Dataset, **most: int) -> CatalogueValidation:
    held_out = held_out_clicks(dataset)
    assert held_out is not None
    return CatalogueValidation(dataset, held_out, **most)


def no_loss(*_: torch.Tensor) -> float:
    return 0.5


def measured_by_hand(dataset: Dataset, bundle: Bundle, products: np.ndarray) -> dict[str, float]:
    """The measures of a run that scores every pair of a held-out query and these products."""
    path = dataset.held_out("valid")
    assert path is not None
    held_out = read_judgements(path, dataset.product_ids)
    asked = read_queries(held_out.texts, bundle)
    vectors, reranker = bundle.encode_dataset(dataset, products), bundle.reranker
    kept = None if reranker is None else reranker.keep(dataset.regions(products, boxes=True))
    pool = Pool(dataset.product_ids[products], vectors, kept)
    scores = [vectors @ query.vector if reranker is None else reranker.score(query, pool) for query in asked]
    run = Run.from_arrays(
        np.repeat(np.arange(len(asked)), len(products)),
        np.tile(dataset.product_ids[products], len(asked)),
        np.concatenate(scores).astype(np.float64),
    )
    answers = Answers.from_arrays(held_out.queries, dataset.product_ids[held_out.products], held_out.grades)
    result = evaluate(run, answers)
    return {str(measure): result.mean(measure) for measure in result.measures}


def test_it_measures_as_a_run_of_all_pairs_would(shop: Dataset) -> None:
    tokenizer, model = initial_model(shop, tiny())
    result = of_clicks(shop).measure(model, tokenizer, no_loss, batch_size=4)
    expected = measured_by_hand(shop, Bundle(model, tokenizer), np.arange(120))
    assert result.scores == pytest.approx(expected, abs=1e-9)
    assert (result.score, result.loss) == (result.scores["nDCG@5"], 0.5)


def test_blocks_of_queries_change_nothing(shop: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, model = initial_model(shop, tiny())
    whole = of_clicks(shop).measure(model, tokenizer, no_loss, batch_size=4)
    monkeypatch.setattr(rules, "_SCORES_AT_ONCE", 1)
    assert of_clicks(shop).measure(model, tokenizer, no_loss, batch_size=4) == whole


def test_late_interaction_scores_the_first_again(shop: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, model = initial_model(shop, tiny("late"))
    monkeypatch.setattr(rules, "RERANKED", 120)
    result = of_clicks(shop).measure(model, tokenizer, no_loss, batch_size=4)
    bundle = Bundle(model, tokenizer)
    assert bundle.reranker is not None
    assert result.scores == pytest.approx(measured_by_hand(shop, bundle, np.arange(120)), abs=1e-9)
    monkeypatch.setattr(rules, "RERANKED", 2)
    first = of_clicks(shop).measure(model, tokenizer, no_loss, batch_size=4)
    assert first.scores != result.scores


def test_of_a_large_catalogue_a_fixed_sample_with_all_relevant_is_ranked(shop: Dataset) -> None:
    tokenizer, model = initial_model(shop, tiny())
    validation = of_clicks(shop, most_products=40)
    path = shop.held_out("valid")
    assert path is not None
    relevant = read_judgements(path, shop.product_ids).products
    products = validation._products
    assert (len(products), set(relevant.tolist()) - set(products.tolist())) == (40, set())
    assert (products == of_clicks(shop, most_products=40)._products).all()
    result = validation.measure(model, tokenizer, no_loss, batch_size=4)
    expected = measured_by_hand(shop, Bundle(model, tokenizer), products)
    assert result.scores == pytest.approx(expected, abs=1e-9)
    queries = len(set(read_judgements(path, shop.product_ids).queries.tolist()))
    says = (
        f"none, as there are no pools: {queries} held-out queries rank a fixed sample of 40 of 120 products"
    )
    assert validation.audit() == {"verdict": says}
    few = of_clicks(shop, most_queries=3)
    assert few.audit()["verdict"].endswith("3 held-out queries rank all 120 products")
    few.measure(model, tokenizer, no_loss, batch_size=4)


def test_training_learns_from_clicks_alone(
    shop: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = json.dumps(TINY["parts"])
    options = [f"{name}={value}" for name, value in TINY.items() if name != "parts"]
    command = ["train", str(shop.path), "--out", str(tmp_path / "bundle"), "--recipe", "small"]
    main([*command, "--device", "cpu", "--set", f"parts={settings}", *options])
    bundle = Bundle.load(tmp_path / "bundle")
    assert bundle.scores["recall@5"] > 0.5  # five of 120 at random: 0.04
    says = "none, as there are no pools: 21 held-out queries rank all 120 products"
    assert bundle.audit == {"verdict": says}
    printed = capsys.readouterr().out
    assert "validation: nDCG@5 " in printed
    assert "audit of" not in printed  # it needs pools
    assert bundle.provenance["valid"] == bundle.provenance["dataset"] == shop.content_hash
    again = train(shop, tiny(), tmp_path / "bundle", resume=True)
    assert again.scores == bundle.scores


def test_what_is_missing_is_one_line(
    shop: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in shop.path.iterdir():
        (bare / file.name).symlink_to(file)
    manifest = {key: value for key, value in shop.manifest.items() if key != "held_out"}
    (bare / "manifest.json").unlink()
    (bare / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        DataError,
        match="bare: holds no held-out clicks to choose the best weights by: give --valid and --answers",
    ):
        train(Dataset(bare), tiny(**{"optimiser.keep": "valid"}), tmp_path / "bundle")
    with pytest.raises(SystemExit):
        main(["train", str(bare), "--out", str(tmp_path / "b"), "--valid", str(bare)])
    assert capsys.readouterr().err == "shopwindow: --valid, --answers: go together: give both or neither\n"
