"""A training learns, is repeatable, and goes on after a kill as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shopwindow.data.batches import PairBatches
from shopwindow.data.competition import HEADER, Row, format_photo
from shopwindow.data.dataset import Dataset
from shopwindow.data.prepare import prepare
from shopwindow.files import DataError, alone
from shopwindow.model.bundle import Bundle
from shopwindow.model.recipe import Recipe, load_recipe
from shopwindow.model.steps import learning_rate
from shopwindow.model.tokens import train_tokenizer
from shopwindow.model.training import train
from shopwindow.model.validation import Validation
from shopwindow.model.watch import Moment, validation_steps
from shopwindow.ranking.answers import read_answers
from tests.model.conftest import FEATURES, TinyShop
from tests.model.parts import part, read_curves, transformer, typed

TINY: dict[str, Any] = {
    "parts": [part(transformer(inner=48, dropout=0.1), transformer(inner=48, dropout=0.1))],
    "batches.size": 30,
    "text.vocabulary": 200,
    "optimiser.epochs": 8,
    "optimiser.learning_rate": 0.005,
    "optimiser.validations": 0.5,
}
DROPPING = {"parts": [part(transformer(inner=48, dropout=0.2), transformer(inner=48, dropout=0.2))]}
FOUR = {**DROPPING, "optimiser.epochs": 4}
ONE = {"optimiser.epochs": 1}


@pytest.fixture
def validation(tiny_shop: TinyShop) -> Validation:
    return Validation(tiny_shop.valid, read_answers(tiny_shop.answers))


def tiny_recipe(changes: dict[str, Any] | None = None) -> Recipe:
    return load_recipe("small", {**TINY, **(changes or {})})


class KillError(Exception):
    """Stands for a kill: ends a training at a step, with nothing cleaned up by us."""


def killed_at(step: int) -> Callable[[Moment], None]:
    def progress(moment: Moment) -> None:
        if moment.step == step:
            raise KillError

    return progress


def test_training_learns_the_tiny_shop(tiny_shop: TinyShop, validation: Validation, tmp_path: Path) -> None:
    bundle = train(
        tiny_shop.train, tiny_recipe({"optimiser.epochs": 24}), tmp_path / "bundle", validation=validation
    )
    assert bundle.scores["nDCG@5"] > 0.8  # random order scores about 0.25
    rows = read_curves(tmp_path / "bundle")
    validated = [row for row in rows if row.valid_score is not None]
    assert [row.step for row in validated] == list(range(12, 145, 12))
    last, first = validated[-1].train_loss, rows[0].train_loss
    assert last is not None
    assert first is not None
    assert last < first
    assert bundle.scores["nDCG@5"] == validated[-1].valid_score
    assert (tmp_path / "bundle" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "bundle.training").exists()
    assert Bundle.load(tmp_path / "bundle").audit["random"] == pytest.approx(0.25, abs=0.15)


@pytest.mark.parametrize(
    "recipe", [{"loss.name": "softmax"}, {"loss": {"name": "sigmoid"}, "parts.0.normalise": False}]
)
def test_equal_seeds_give_equal_weights(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path, recipe: dict[str, Any]
) -> None:
    chosen = tiny_recipe({"optimiser.epochs": 2, **recipe})
    weights = []
    for name in ("one", "two"):
        train(tiny_shop.train, chosen, tmp_path / name, validation=validation)
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    other = tiny_recipe({"optimiser.epochs": 2, "optimiser.seed": 1, **recipe})
    train(tiny_shop.train, other, tmp_path / "three", validation=validation)
    assert (tmp_path / "three" / "model.safetensors").read_bytes() != weights[0]


@pytest.fixture(scope="module")
def undisturbed(tiny_shop: TinyShop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "bundle"
    validation = Validation(tiny_shop.valid, read_answers(tiny_shop.answers))
    train(tiny_shop.train, tiny_recipe(FOUR), out, validation=validation)
    return out


@pytest.mark.parametrize("step", [1, 11, 12, 13, 24])
def test_resumed_training_equals_an_undisturbed_one(
    tiny_shop: TinyShop, validation: Validation, undisturbed: Path, tmp_path: Path, step: int
) -> None:
    recipe, out = tiny_recipe(FOUR), tmp_path / "broken"
    with pytest.raises(KillError):
        train(
            tiny_shop.train,
            recipe,
            out,
            validation=validation,
            seconds_between_saves=0.0,
            progress=killed_at(step),
        )
    assert not out.exists()
    steps: list[int] = []
    resumed = train(
        tiny_shop.train,
        recipe,
        out,
        validation=validation,
        resume=True,
        progress=lambda moment: steps.append(moment.step),
    )
    assert steps == list(range(step + 1, 25))
    assert resumed.scores == Bundle.load(undisturbed).scores
    assert (out / "model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()


def test_resume_with_nothing_to_resume_begins(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path
) -> None:
    bundle = train(tiny_shop.train, tiny_recipe(ONE), tmp_path / "b", validation=validation, resume=True)
    again = train(tiny_shop.train, tiny_recipe(ONE), tmp_path / "b", validation=validation, resume=True)
    assert again.provenance == bundle.provenance


def test_resume_with_another_recipe_is_refused(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path
) -> None:
    with pytest.raises(KillError):
        train(
            tiny_shop.train,
            tiny_recipe(),
            tmp_path / "b",
            validation=validation,
            seconds_between_saves=0.0,
            progress=killed_at(3),
        )
    with pytest.raises(DataError, match="another recipe"):
        train(
            tiny_shop.train,
            tiny_recipe({"optimiser.epochs": 9}),
            tmp_path / "b",
            validation=validation,
            resume=True,
        )
    train(tiny_shop.train, tiny_recipe(ONE), tmp_path / "b", validation=validation)
    assert not (tmp_path / "b.training").exists()


def test_an_interrupted_training_goes_on_without_being_asked(
    tiny_shop: TinyShop, validation: Validation, undisturbed: Path, tmp_path: Path
) -> None:
    recipe, out, steps = tiny_recipe(FOUR), tmp_path / "b", list[int]()
    with pytest.raises(KillError):
        train(
            tiny_shop.train,
            recipe,
            out,
            validation=validation,
            seconds_between_saves=0.0,
            progress=killed_at(7),
        )
    train(
        tiny_shop.train, recipe, out, validation=validation, progress=lambda moment: steps.append(moment.step)
    )
    assert steps[0] == 8
    assert (out / "model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()


def test_a_second_training_of_one_bundle_is_refused(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path
) -> None:
    with alone(tmp_path / "b.training"), pytest.raises(DataError, match="another process"):
        train(tiny_shop.train, tiny_recipe(), tmp_path / "b", validation=validation)


def test_a_place_that_may_not_be_written_is_named_before_the_training(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="holds other files"):
        train(
            tiny_shop.train,
            tiny_recipe(),
            tmp_path / "mine",
            validation=validation,
            progress=killed_at(1),
        )


def test_folders_of_others_beside_the_bundle_are_not_removed(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path
) -> None:
    (tmp_path / "b.training").mkdir()
    (tmp_path / "b.training" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"holds notes\.txt, which no training wrote"):
        train(tiny_shop.train, tiny_recipe(), tmp_path / "b", validation=validation)
    assert (tmp_path / "b.training" / "notes.txt").read_text() == "mine"


def test_a_diverging_training_says_so(tiny_shop: TinyShop, validation: Validation, tmp_path: Path) -> None:
    recipe = tiny_recipe({"optimiser.learning_rate": 1e30, "optimiser.gradient_clip": 0.0})
    with pytest.raises(DataError, match=r"lower optimiser\.learning_rate"):
        train(tiny_shop.train, recipe, tmp_path / "b", validation=validation)


def test_features_of_two_sizes_are_named_before_the_training(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path
) -> None:
    product = Row(
        1,
        1,
        "",
        (9, 9),
        np.zeros((1, 4), np.float32),
        np.ones((1, FEATURES + 1), np.float32),
        np.zeros(1, np.int64),
    )
    row = f"{format_photo(product)}\tred shoe\t1\n"
    (tmp_path / "other.tsv").write_text("\t".join(HEADER) + "\n" + row * 40)
    prepare([tmp_path / "other.tsv"], tmp_path / "other", feature_size=FEATURES + 1)
    with pytest.raises(DataError, match=f"features of {FEATURES} values"):
        train(
            Dataset(tmp_path / "other"),
            tiny_recipe(),
            tmp_path / "b",
            validation=validation,
            progress=killed_at(1),
        )


def test_ctrl_c_in_a_step_is_a_keyboard_interrupt(
    tiny_shop: TinyShop, validation: Validation, undisturbed: Path, tmp_path: Path
) -> None:
    def interrupt(moment: Moment) -> None:
        if moment.step == 5:
            raise KeyboardInterrupt

    recipe, out = tiny_recipe(FOUR), tmp_path / "b"
    with pytest.raises(KeyboardInterrupt):
        train(
            tiny_shop.train,
            recipe,
            out,
            validation=validation,
            seconds_between_saves=0.0,
            progress=interrupt,
        )
    train(tiny_shop.train, recipe, out, validation=validation)
    assert (out / "model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()


def test_broken_state_is_named(tiny_shop: TinyShop, validation: Validation, tmp_path: Path) -> None:
    folder = tmp_path / "b.training" / "last"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text('{"identity": {')
    with pytest.raises(DataError, match="broken JSON"):
        train(tiny_shop.train, tiny_recipe(), tmp_path / "b", validation=validation, resume=True)


def test_a_tokenizer_that_changed_begins_the_training_anew(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path
) -> None:
    """Weights of one tokenizer's numbers with another's: a model that reads other words than it learned."""
    given = tmp_path / "tokenizer.json"
    texts = tiny_shop.train.query_texts
    train_tokenizer(texts, vocabulary=200).save(str(given))
    recipe, out = tiny_recipe({"optimiser.epochs": 4, "text.tokenizer": str(given)}), tmp_path / "b"
    often = {"validation": validation, "seconds_between_saves": 0.0}
    with pytest.raises(KillError):
        train(tiny_shop.train, recipe, out, progress=killed_at(5), **often)  # type: ignore[arg-type] # two kinds of values
    train_tokenizer(texts, vocabulary=30).save(str(given))
    with pytest.raises(DataError, match="begun with another tokenizer or checkpoint"):
        train(tiny_shop.train, recipe, out, validation=validation, resume=True)
    steps: list[int] = []
    train(
        tiny_shop.train, recipe, out, validation=validation, progress=lambda moment: steps.append(moment.step)
    )
    assert steps[0] == 1


@pytest.mark.parametrize("name", ["bow", "default", "small"])
def test_a_dataset_of_no_training_pair_is_named(
    tiny_shop: TinyShop, validation: Validation, name: str, tmp_path: Path
) -> None:
    product = Row(
        1,
        1,
        "",
        (9, 9),
        np.zeros((41, 4), np.float32),
        np.ones((41, FEATURES), np.float32),
        np.zeros(41, np.int64),
    )
    (tmp_path / "a.tsv").write_text("\t".join(HEADER) + f"\n{format_photo(product)}\tred shoe\t1\n")
    prepare([tmp_path / "a.tsv"], tmp_path / "many", feature_size=FEATURES)
    with pytest.raises(DataError, match="many: holds no pair to train on"):
        train(Dataset(tmp_path / "many"), load_recipe(name), tmp_path / "b", validation=validation)


def test_too_few_pairs_are_named(tiny_shop: TinyShop, validation: Validation, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="180 training pairs do not fill a batch of 512"):
        train(tiny_shop.train, tiny_recipe({"batches.size": 512}), tmp_path / "b", validation=validation)


def test_validation_without_an_answer_is_named(tiny_shop: TinyShop, tmp_path: Path) -> None:
    (tmp_path / "answers.json").write_text(json.dumps({"1": [2]}))
    with pytest.raises(DataError, match="none of its"):
        Validation(tiny_shop.valid, read_answers(tmp_path / "answers.json"))


def test_bundle_opens_and_encodes_as_trained(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path
) -> None:
    bundle = train(tiny_shop.train, tiny_recipe(ONE), tmp_path / "b", validation=validation)
    opened = Bundle.load(tmp_path / "b")
    texts = ["red shoe", "blue lamp", "red shoe", "never seen"]
    vectors = opened.encode_texts(texts)
    assert np.array_equal(vectors, bundle.encode_texts(texts))
    assert vectors.shape == (4, 32)
    assert np.array_equal(vectors[0], vectors[2])
    rows = np.array([5, 3, 3])
    products = opened.encode_dataset(tiny_shop.valid, rows)
    np.testing.assert_allclose(products, opened.encode_dataset(tiny_shop.valid)[rows], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(products, axis=1), 1, atol=1e-5)
    assert opened.encode_texts([]).shape == (0, 32)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("bundle.json", "{", "broken JSON"),
        (
            "bundle.json",
            "{}",
            "not of the format 'shopwindow bundle 3' but None; make it again with `shopwindow train`",
        ),
        ("bundle.json", '{"format": "shopwindow bundle 2"}', "but 'shopwindow bundle 2'; make"),
        ("model.safetensors", "abc", "model.safetensors has 3 bytes"),
        ("tokenizer.json", "", "no tokenizer file"),
    ],
)
def test_broken_bundles_are_named(
    tiny_shop: TinyShop, validation: Validation, tmp_path: Path, name: str, content: str, says: str
) -> None:
    train(tiny_shop.train, tiny_recipe(ONE), tmp_path / "b", validation=validation)
    (tmp_path / "b" / name).write_text(content)
    with pytest.raises(DataError, match=says) as caught:
        Bundle.load(tmp_path / "b")
    assert name in str(caught.value)


def test_every_epoch_visits_every_pair_once_in_its_own_order(tiny_shop: TinyShop) -> None:
    batches = PairBatches(tiny_shop.train, batch_size=45, epochs=2, seed=3)
    pairs = [batches.pairs_of(step) for step in range(batches.steps)]
    first, second = np.concatenate(pairs[:4]), np.concatenate(pairs[4:])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(180))
    assert first.tolist() != second.tolist()
    for step, batch in enumerate(batches):
        assert np.array_equal(batch.products, tiny_shop.train.pair_products[pairs[step]])
        assert np.array_equal(batch.regions.counts, tiny_shop.train.region_counts[batch.products])
    resumed = PairBatches(tiny_shop.train, batch_size=45, epochs=2, seed=3, start=6)
    assert [batch.products.tolist() for batch in resumed] == [
        tiny_shop.train.pair_products[rows].tolist() for rows in pairs[6:]
    ]


def test_leaving_the_batches_early_stops_the_reader(tiny_shop: TinyShop) -> None:
    iterator = iter(PairBatches(tiny_shop.train, batch_size=30, epochs=50, seed=0))
    next(iterator)
    iterator.close()  # type: ignore[attr-defined] # a generator


def test_learning_rate_rises_then_falls_along_a_cosine() -> None:
    rates = [learning_rate(step, 100, highest=1.0, warmup=0.1, schedule="cosine") for step in range(100)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] < 0.001
    assert rates[:10] == sorted(rates[:10])
    assert {
        learning_rate(step, 100, highest=2e-5, warmup=0.0, schedule="constant") for step in range(100)
    } == {2e-5}


def test_validations_are_even_and_end_with_the_last_step() -> None:
    assert validation_steps(2.0, 14, 7) == [4, 7, 10, 14]
    assert validation_steps(100.0, 3, 3) == [1, 2, 3]
    assert validation_steps(0.25, 10, 1) == [4, 8, 10]


@pytest.mark.slow
def test_killed_trainings_finish_when_the_command_is_given_again(tiny_shop: TinyShop, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "shopwindow", "train", str(tiny_shop.train.path)),
        *("--valid", str(tiny_shop.valid.path), "--answers", str(tiny_shop.answers)),
        *("--recipe", "small", "--set", *typed(TINY), "--resume"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole = [*command, "--out", str(tmp_path / "whole")]
    started = time.monotonic()
    subprocess.run(whole, check=True, env=environment, capture_output=True, timeout=120)
    seconds = time.monotonic() - started
    broken = [*command, "--out", str(tmp_path / "broken")]
    rng = np.random.default_rng(0)
    for _ in range(2):
        process = subprocess.Popen(
            broken, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(float(rng.uniform(0.4, 0.9)) * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "broken").exists() or (tmp_path / "broken" / "bundle.json").is_file()
    subprocess.run(broken, check=True, env=environment, capture_output=True, timeout=120)
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "broken"))
    assert one == two
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "whole"]
