"""A training that mines says how many of its negatives are likely true, from hidden pairs, and where it cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shopwindow.cli import main
from shopwindow.data.dataset import Dataset
from shopwindow.data.prepare import prepare
from shopwindow.model.bundle import Bundle
from shopwindow.model.mining import (
    CANNOT_BE_SAID,
    Contamination,
    centres,
    contamination,
    estimate,
    hide_texts,
    known_share,
    mine,
    nearest_texts,
    same_thing,
    summary,
)
from shopwindow.model.recipe import load_recipe
from shopwindow.model.training import train
from shopwindow.model.validation import Validation
from shopwindow.ranking.answers import read_answers
from tests.model.conftest import COLOURS, FEATURES, GOODS, TinyShop
from tests.model.parts import WORDS, linear, part, read_curves, typed
from tests.model.test_mining import clusters
from tests.model.test_training import TINY, KillError, killed_at

MINED: dict[str, Any] = {
    **TINY,
    "parts": [part(WORDS, linear())],
    "batches.order": "neighbours",
    "optimiser.epochs": 4,
}


@pytest.fixture(scope="module")
def two_names(tiny_shop: TinyShop, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The tiny shop's training pairs, each product also known by its good alone, or by another word for its colour."""
    folder = tmp_path_factory.mktemp("two names")
    lines = (tiny_shop.train.path.parent / "train.tsv").read_text().splitlines()
    other = {colour: f"tone{number}" for number, colour in enumerate(COLOURS)}
    out = [lines[0]]
    for place, line in enumerate(lines[1:]):
        *product, query, query_id = line.split("\t")
        colour, good = query.split()
        out.append(line)
        second = f"{other[colour]} {good}" if place % 2 else good
        number = int(query_id) + 100 if place % 2 else 200 + GOODS.index(good)
        out.append("\t".join([*product, second, str(number)]))
    (folder / "train.tsv").write_text("\n".join(out) + "\n")
    prepare([folder / "train.tsv"], folder / "train", feature_size=FEATURES)
    return Dataset(folder / "train")


@pytest.fixture
def validation(tiny_shop: TinyShop) -> Validation:
    return Validation(tiny_shop.valid, read_answers(tiny_shop.answers))


def test_estimate_is_that_of_the_parts_put_together_by_hand() -> None:
    vectors, products, texts, photos, _ = clusters(0.5)
    meanings = np.arange(400)
    found = estimate(vectors, products, texts, photos, meanings, epoch=3, seed=5, count=10, margin=None)
    hidden, relations = hide_texts(texts, photos, meanings, np.random.default_rng([5, 3]))
    relations = relations[np.isin(relations[:, 1], texts[~hidden])]
    table = mine(vectors, products, texts[~hidden], photos[~hidden], meanings, count=10, margin=None)
    everything = nearest_texts(vectors, centres(products, texts, photos, texts=400), 10)
    asked = np.unique(relations[:, 0])
    known = same_thing(texts, photos, meanings)
    assert found.share == contamination(table, relations)
    assert found.known == pytest.approx(known_share(everything[asked], known[asked]))
    assert (found.epoch, found.relations, found.texts, found.why) == (3, len(relations), len(asked), "")


def test_a_sample_is_near_the_whole_and_follows_from_seed_and_epoch() -> None:
    vectors, products, texts, photos, _ = clusters(0.5)

    def asked(epoch: int, at_most: int) -> Contamination:
        meanings = np.arange(400)
        found = estimate(
            vectors, products, texts, photos, meanings, epoch=epoch, seed=1, count=10, at_most=at_most
        )
        return replace(found, seconds=0.0)

    whole, sample = asked(0, 400), asked(0, 150)
    assert sample.texts == 150 < whole.texts
    assert sample.share is not None
    assert sample.share == pytest.approx(whole.share, rel=0.3)
    assert asked(0, 150) == sample
    assert asked(1, 150) != sample


def test_what_cannot_be_said_says_why() -> None:
    vectors = np.eye(4, dtype=np.float32)
    found = estimate(vectors, vectors, np.arange(4), np.arange(4), np.arange(4), epoch=1, seed=0, count=2)
    assert (found.share, found.known, found.why) == (None, None, CANNOT_BE_SAID)
    assert summary([found]) == f"mined negatives: how many are true cannot be said, {CANNOT_BE_SAID}"
    assert summary([]) == ""


def test_texts_of_one_product_each_say_nothing_of_contamination() -> None:
    vectors = np.repeat(
        np.eye(4, dtype=np.float32), 2, axis=0
    )  # texts 0 and 1 are of product 0, 2 and 3 of 1 ...
    photos = np.repeat(np.arange(4), 2)
    found = estimate(
        vectors, np.eye(4, dtype=np.float32), np.arange(8), photos, np.arange(8), epoch=1, seed=0, count=2
    )
    assert (found.share, found.relations, found.why) == (None, 0, CANNOT_BE_SAID)


def test_training_reports_the_contamination_of_each_table_and_keeps_it_over_a_kill(
    two_names: Dataset, validation: Validation, tmp_path: Path
) -> None:
    recipe = load_recipe("small", MINED)
    told_shares: list[float | None] = []
    whole = train(
        two_names,
        recipe,
        tmp_path / "whole",
        validation=validation,
        progress=lambda moment: told_shares.append(moment.contamination),
    )
    found = [Contamination(**one) for one in whole.provenance["contamination"]]
    assert [one.epoch for one in found] == [1, 2, 3]
    shares = [one.share for one in found]
    assert all(share is not None and 0 <= share <= 1 for share in shares)
    assert all(one.known is not None and one.known > 0 and one.relations > 0 for one in found)
    rows = read_curves(tmp_path / "whole")
    steps = whole.provenance["steps"] // recipe.optimiser.epochs
    assert [row.contamination for row in rows] == [None] * steps + [
        share for share in shares for _ in range(steps)
    ]
    assert told_shares == [row.contamination for row in rows]
    with pytest.raises(KillError):
        train(
            two_names,
            recipe,
            tmp_path / "broken",
            validation=validation,
            seconds_between_saves=0.0,
            progress=killed_at(2 * steps + 3),
        )
    broken = train(two_names, recipe, tmp_path / "broken", validation=validation, resume=True)
    kept = [Contamination(**one) for one in broken.provenance["contamination"]]
    assert [replace(one, seconds=0.0) for one in kept] == [replace(one, seconds=0.0) for one in found]
    assert [row.contamination for row in read_curves(tmp_path / "broken")] == [
        row.contamination for row in rows
    ]
    assert (tmp_path / "broken" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()


def test_the_verb_says_it_or_why_not(
    tiny_shop: TinyShop, two_names: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = typed({**MINED, "optimiser.epochs": 2})
    valid = ["--valid", str(tiny_shop.valid.path), "--answers", str(tiny_shop.answers)]
    for name, dataset in (("two", two_names), ("one", tiny_shop.train)):
        main(
            [
                *("train", str(dataset.path), *valid, "--out", str(tmp_path / name)),
                *("--recipe", "small", "--set", *settings),
            ]
        )
    said = capsys.readouterr().out
    assert "are true and not known to be (the last of 1 tables" in said
    assert f"mined negatives: how many are true cannot be said, {CANNOT_BE_SAID}" in said
    assert Bundle.load(tmp_path / "one").provenance["contamination"][0]["share"] is None
