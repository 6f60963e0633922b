"""A frozen pretrained pair of towers is a part: exactly zero-shot alone, and each text is read once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shopwindow.data.dataset import Dataset
from shopwindow.data.regions import Regions
from shopwindow.export.onnx import export_text
from shopwindow.files import DataError
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.model.encoder import check_features
from shopwindow.model.initial import initial_model
from shopwindow.model.pretrained import PretrainedTexts, WholePhotos, open_text_tower
from shopwindow.model.recipe import Recipe, load_recipe
from shopwindow.model.training import train
from shopwindow.model.validation import Validation
from shopwindow.model.zero_shot import write_zero_shot
from shopwindow.ranking.answers import read_answers
from tests.model.catalogues import BACKBONE, FakeTower, with_catalogue
from tests.model.conftest import FEATURES, TinyShop
from tests.model.parts import WORDS, linear, part

RULES = ["lower", "punctuation"]


def recipe_of(*parts: dict[str, Any]) -> Recipe:
    own = {"text.vocabulary": 200, "text.rules": RULES, "batches.size": 30, "optimiser.epochs": 2}
    return load_recipe("bow", {**own, "parts": list(parts)})


def learned(**own: Any) -> dict[str, Any]:
    return part(WORDS, linear("unit", "first"), 8, **own)


@pytest.fixture(scope="module")
def shop(tiny_shop: TinyShop, tmp_path_factory: pytest.TempPathFactory) -> TinyShop:
    folder = tmp_path_factory.mktemp("encoded")
    return replace(
        tiny_shop,
        train=with_catalogue(tiny_shop.train, folder / "train", backbone=BACKBONE),
        valid=with_catalogue(tiny_shop.valid, folder / "valid", backbone=BACKBONE),
    )


def trained(shop: TinyShop, recipe: Recipe, out: Path, tower: FakeTower) -> Bundle:
    validation = Validation(shop.valid, read_answers(shop.answers))
    return train(shop.train, recipe, out, validation=validation, device="cpu", text_tower=tower)


def zero_shot(dataset: Dataset, tower: FakeTower) -> np.ndarray:
    """The cosines of all queries with the first regions, by numpy."""
    firsts = [dataset.regions(np.array([row])).features[0].numpy() for row in range(len(dataset.product_ids))]
    photos = np.stack(firsts).astype(np.float64)
    photos /= np.linalg.norm(photos, axis=1, keepdims=True)
    cosines: np.ndarray = tower.encode_texts(dataset.query_texts).astype(np.float64) @ photos.T
    return cosines


@pytest.mark.parametrize("parts", [[{"pretrained": True}], [learned(share=0), {"pretrained": True}]])
def test_without_a_share_of_learned_parts_the_ranking_is_zero_shot(
    shop: TinyShop, tmp_path: Path, parts: list[dict[str, Any]]
) -> None:
    tower = FakeTower(FEATURES)
    bundle = trained(shop, recipe_of(*parts), tmp_path / "bundle", tower)
    wanted = zero_shot(shop.valid, tower)
    run = bundle.rank(shop.valid)
    order = {identifier: row for row, identifier in enumerate(shop.valid.product_ids.tolist())}
    queries = {identifier: row for row, identifier in enumerate(shop.valid.query_ids.tolist())}
    for place, query in enumerate(run.queries.tolist()):
        ids = run.product_ids[run.offsets[place] : run.offsets[place + 1]].tolist()
        scores = run.scores[run.offsets[place] : run.offsets[place + 1]]
        by_hand = wanted[queries[int(query)]][[order[one] for one in ids]]
        np.testing.assert_allclose(scores, by_hand, atol=1e-6)
        assert (np.diff(by_hand) < 1e-6).all()


def test_a_text_is_encoded_once_as_typed(shop: TinyShop, tmp_path: Path) -> None:
    tower = FakeTower(FEATURES)
    bundle = trained(
        shop, recipe_of(learned(), {"pretrained": True, "share": "learned"}), tmp_path / "b", tower
    )
    assert sorted(tower.asked) == sorted(set(shop.train.query_texts) | set(shop.valid.query_texts))
    bundle.encode_texts(["Red Shoe!", "red shoe", "Red Shoe!"])
    assert tower.asked[-1] == "Red Shoe!"
    one, two = bundle.encode_texts(["Red Shoe!", "red shoe"])
    assert np.array_equal(one[:8], two[:8])  # by the rules of spelling one query
    assert not np.allclose(one[8:], two[8:])
    assert len(tower.asked) == len(set(tower.asked))


def test_a_learned_share_moves_and_the_tower_does_not(shop: TinyShop, tmp_path: Path) -> None:
    recipe, tower = recipe_of(learned(), {"pretrained": True, "share": "learned"}), FakeTower(FEATURES)
    before = initial_model(shop.train, recipe, text_tower=tower)[1]
    bundle = trained(shop, recipe, tmp_path / "bundle", tower)
    assert bundle.model.parts[1].width == FEATURES
    assert [name for name, _ in bundle.model.parts[1].named_parameters()] == ["log_share"]
    assert bundle.model.shares()[1].item() != pytest.approx(before.shares()[1].item(), abs=1e-4)
    alone = bundle.only("pretrained")
    wanted = zero_shot(shop.valid, tower)
    found = alone.encode_texts(shop.valid.query_texts) @ alone.encode_dataset(shop.valid).T
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_fixed_share_leaves_the_loss_to_the_parts_that_learn(shop: TinyShop) -> None:
    model = initial_model(
        shop.train, recipe_of(learned(share=3.0), {"pretrained": True}), text_tower=FakeTower(FEATURES)
    )[1]
    vectors = model.encode_photo(shop.valid.regions(np.arange(3), boxes=True))
    ((weight, own),) = model.by_part(vectors)
    assert weight == 1.0
    torch.testing.assert_close(own, vectors[:, :8] / 0.75**0.5)
    torch.testing.assert_close(model.shares(), torch.tensor([0.75, 0.25]))


def test_a_bundle_keeps_the_backbone_and_refuses_another(
    shop: TinyShop, tiny_shop: TinyShop, tmp_path: Path
) -> None:
    tower = FakeTower(FEATURES)
    bundle = trained(shop, recipe_of(learned(), {"pretrained": True}), tmp_path / "bundle", tower)
    assert json.loads((tmp_path / "bundle" / MARKER).read_text())["backbone"] == BACKBONE
    loaded = Bundle.load(tmp_path / "bundle", text_tower=tower)
    assert loaded.fingerprint == bundle.fingerprint
    assert np.array_equal(loaded.encode_texts(["lamp"]), bundle.encode_texts(["lamp"]))
    assert np.array_equal(loaded.encode_dataset(shop.valid), bundle.encode_dataset(shop.valid))
    with pytest.raises(
        ValueError, match=r"made by a backbone that is not known, .* those of the backbone fake"
    ):
        loaded.encode_dataset(tiny_shop.valid)
    other = with_catalogue(tiny_shop.valid, tmp_path / "other", backbone={"name": "fake", "fingerprint": "0"})
    with pytest.raises(ValueError, match=r"made by the backbone fake \(0\)"):
        check_features(loaded.model, other)
    with pytest.raises(DataError, match="the training's are of the backbone fake"):
        train(
            shop.train,
            recipe_of(learned()),
            tmp_path / "no",
            validation=Validation(other, read_answers(shop.answers)),
            device="cpu",
        )
    loaded.model.backbone = {**BACKBONE, "fingerprint": "0"}
    again = Bundle(loaded.model, loaded.tokenizer)
    assert again.fingerprint != bundle.fingerprint


def test_without_a_text_tower_the_part_is_left_out(tiny_shop: TinyShop, tmp_path: Path) -> None:
    encoded = with_catalogue(
        tiny_shop.train, tmp_path / "a", backbone={"name": "precomputed", "fingerprint": "p"}
    )
    for dataset in (tiny_shop.train, encoded):
        model = initial_model(dataset, recipe_of(learned(), {"pretrained": True}))[1]
        assert model.reads == {"photo"}
    assert open_text_tower(None) is None
    with pytest.raises(DataError, match="there is nothing for pretrained"):
        initial_model(tiny_shop.train, recipe_of({"pretrained": True}))


def test_all_words_are_known_and_a_foreign_text_tower_is_not_exported(shop: TinyShop, tmp_path: Path) -> None:
    tokenizer, model = initial_model(
        shop.train, recipe_of(learned(), {"pretrained": True}), text_tower=FakeTower(FEATURES)
    )
    bundle = Bundle(model.eval(), tokenizer)
    assert bundle.knows(["qqq", "red"]) == [True, True]
    assert bundle.reads(bundle.tokenise(["qqq"])[0])
    assert bundle.encode_texts([]).shape == (0, 8 + FEATURES)
    with pytest.raises(ValueError, match="reads words, not tokens"):
        bundle.encode_tokens(bundle.tokenise(["red"]))
    with pytest.raises(ValueError, match="is none of transformers, so it is not exported"):
        export_text(bundle, tmp_path / "text")


def test_a_product_of_several_photos_is_the_mean_of_their_first_regions() -> None:
    features = torch.tensor([[2.0, 0], [9, 9], [0, 4], [0, 3], [9, 9]])
    photos = torch.tensor([0, 0, 1, 0, 0])
    regions = Regions(features, torch.tensor([3, 2]), photos=photos)
    wanted = torch.tensor([[0.5**0.5, 0.5**0.5], [0, 1.0]])
    torch.testing.assert_close(WholePhotos()(regions), wanted)
    torch.testing.assert_close(WholePhotos()(replace(regions, photos=None))[0], torch.tensor([1.0, 0]))
    same = replace(regions, photos=torch.zeros(5, dtype=torch.int64))  # each product begins anew
    assert same.photo_starts.tolist() == [0, 3]


def test_a_tower_of_another_size_or_none_is_refused() -> None:
    with pytest.raises(ValueError, match="gives 3 values, features of photos have 4"):
        PretrainedTexts(4, None, FakeTower(3))(["red"])
    with pytest.raises(ValueError, match="reads no text"):
        PretrainedTexts(4, None)(["red"])


def test_pretrained_parts_alone_need_no_pairs(shop: TinyShop) -> None:
    dataset = Dataset(shop.train.path)
    dataset.pair_training = np.zeros_like(dataset.pair_training)
    tower = FakeTower(FEATURES)
    tokenizer, model = initial_model(dataset, recipe_of({"pretrained": True}), text_tower=tower)
    found = Bundle(model.eval(), tokenizer).rank(shop.valid)
    assert len(found) == len(
        np.unique(np.stack([shop.valid.pair_queries, shop.valid.pair_products]), axis=1).T
    )
    with pytest.raises(DataError, match="holds no pair to train on"):
        initial_model(dataset, recipe_of(learned(), {"pretrained": True}), text_tower=tower)


def test_a_bundle_that_learned_nothing_ranks_as_the_towers_do(shop: TinyShop, tmp_path: Path) -> None:
    tower = FakeTower(FEATURES)
    write_zero_shot(shop.train, tmp_path / "bundle", text_tower=tower)
    bundle = Bundle.load(tmp_path / "bundle", text_tower=tower)
    scores = bundle.encode_texts(shop.train.query_texts) @ bundle.encode_dataset(shop.train).T
    np.testing.assert_allclose(scores, zero_shot(shop.train, tower), atol=1e-5)


def test_without_a_text_tower_there_is_no_zero_shot(shop: TinyShop, tmp_path: Path) -> None:
    plain = with_catalogue(
        shop.train, tmp_path / "plain", backbone={"name": "precomputed", "fingerprint": "f"}
    )
    with pytest.raises(DataError, match="there is nothing for pretrained"):
        write_zero_shot(plain, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
