"""Weights of a model with late interaction are the parts of its score; any other model's come by occlusion."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shopwindow.data.queries import normalise
from shopwindow.data.regions import Regions
from shopwindow.files import DataError
from shopwindow.model.bundle import Bundle
from shopwindow.model.encoder import encode_photos
from shopwindow.model.explanation import (
    MOST_WORDS,
    Explanation,
    explain,
    explain_by_occlusion,
    explain_run,
)
from shopwindow.model.initial import initial_model
from shopwindow.model.recipe import load_recipe
from shopwindow.model.tokens import tokenize
from shopwindow.report.explanations import MARKER, write_explanations
from tests.model.conftest import FEATURES, TinyShop
from tests.model.parts import LATE_PARTS


def untrained(tiny_shop: TinyShop, changes: dict[str, Any] | None = None) -> Bundle:
    tiny = {"parts": LATE_PARTS, "late.width": 16, "text.vocabulary": 60}
    recipe = load_recipe("late", {**tiny, **(changes or {})})
    torch.manual_seed(5)
    tokenizer, model = initial_model(tiny_shop.train, recipe)
    if model.late is not None:
        torch.nn.init.normal_(model.late.importance.weight)
    return Bundle(model.eval(), tokenizer)


@pytest.fixture(scope="module")
def bundle(tiny_shop: TinyShop) -> Bundle:
    return untrained(tiny_shop)


@pytest.fixture
def photo() -> Regions:
    rng = np.random.default_rng(1)
    return Regions(torch.from_numpy(rng.random((4, FEATURES)).astype(np.float32)), torch.tensor([4]))


def late_score(bundle: Bundle, query: str, photo: Regions) -> float:
    tokens, lengths = tokenize(bundle.tokenizer, [query], longest=bundle.model.longest)
    with torch.inference_mode():
        return float(bundle.model.late_scores(tokens, lengths, photo)[0, 0])


def test_weights_are_the_words_share_of_the_late_score(bundle: Bundle, photo: Regions) -> None:
    late = bundle.model.late
    assert late is not None
    found = explain(bundle, "red  blue", photo)
    assert found.words == ("red", "blue")
    tokens = [bundle.tokenizer.token_to_id(word) for word in found.words]
    assert None not in tokens
    importance = late.importance.weight.detach()[tokens, 0].exp().double()
    shares = importance / importance.sum()
    with torch.inference_mode():
        cosines = late.fits(torch.tensor(tokens), photo).double()
    wanted = 0.5 * shares[:, None] * cosines  # the share of the second score begins with a half
    np.testing.assert_allclose(found.weights, wanted.numpy(), atol=1e-6)
    assert found.method == "late interaction"
    np.testing.assert_allclose(found.word_weights, 0.5 * shares.numpy(), atol=1e-6)
    assert found.fits is not None
    np.testing.assert_allclose(np.array(found.fits, float), cosines.numpy(), atol=1e-6)
    for word in range(2):
        assert found.looks_at(word) == int(cosines[word].argmax())
    parts = sum(max(row) for row in found.weights)
    assert parts == pytest.approx(late_score(bundle, "red blue", photo), abs=1e-6)
    assert found.late_score == pytest.approx(parts, abs=1e-6)
    vectors = float(bundle.encode_texts(["red  blue"])[0] @ encode_photos(bundle.model, photo)[0])
    assert found.vector_score == pytest.approx(vectors, abs=1e-6)
    assert found.score == pytest.approx(vectors + parts, abs=1e-6)


def test_score_is_that_of_the_ranking(bundle: Bundle, tiny_shop: TinyShop) -> None:
    run = bundle.rank(tiny_shop.valid)
    explained = list(explain_run(bundle, tiny_shop.valid, run, queries=3, top=4))
    assert [one.rank for one in explained] == [1, 2, 3, 4] * 3
    for one in explained:
        query, product = (
            int(tiny_shop.valid.query_ids[one.query]),
            int(tiny_shop.valid.product_ids[one.product]),
        )
        row = (run.query_ids == query) & (run.product_ids == product)
        assert one.explanation.score == pytest.approx(float(run.scores[row][0]), abs=1e-6)
        assert len(one.explanation.weights[0]) == tiny_shop.valid.region_counts[one.product]


@pytest.mark.parametrize(
    "query", ["redbluelamp shoe", "RED, -- shoe's !", "?!", "红色 bag裙", "xyzzy", "shoe " * 300]
)
def test_words_one_by_one_have_the_tokens_of_the_whole_query(
    bundle: Bundle, photo: Regions, query: str
) -> None:
    late, tokenizer, rules = bundle.model.late, bundle.tokenizer, bundle.model.query_rules
    assert late is not None
    found = explain(bundle, query, photo)
    ids = tokenizer.encode(normalise(query, rules), add_special_tokens=False).ids
    tokens = torch.tensor(ids[: bundle.model.longest - 2])
    tokens = tokens[late.words[tokens]]
    with torch.inference_mode():
        shares = 0.5 * late.weights(tokens, torch.zeros_like(tokens), 1)
        wanted = (shares[:, None] * late.fits(tokens, photo)).sum(0)
    if len(found.words) < MOST_WORDS:  # else the words left out have their share
        np.testing.assert_allclose(np.sum(found.weights, axis=0), wanted.numpy(), atol=1e-6)
    vectors = float(bundle.encode_texts([query])[0] @ encode_photos(bundle.model, photo)[0])
    second = late_score(bundle, normalise(query, rules), photo)
    assert found.score == pytest.approx(vectors + second, abs=1e-6)


def test_pieces_of_a_word_are_summed(bundle: Bundle, photo: Regions) -> None:
    late = bundle.model.late
    assert late is not None
    encoding = bundle.tokenizer.encode("redblue shoe", add_special_tokens=False)
    pieces = [token for token, word in zip(encoding.ids, encoding.word_ids, strict=True) if word == 0]
    assert len(pieces) > 1
    assert late.words[pieces].all()
    with torch.inference_mode():
        shares = 0.5 * late.weights(
            torch.tensor(encoding.ids), torch.zeros(len(encoding.ids), dtype=torch.int64), 1
        )
        parts = shares[:, None] * late.fits(torch.tensor(encoding.ids), photo)
    found = explain(bundle, "redblue shoe", photo)
    np.testing.assert_allclose(found.weights[0], parts[: len(pieces)].sum(0).numpy(), atol=1e-6)
    np.testing.assert_allclose(found.weights[1], parts[len(pieces) :].sum(0).numpy(), atol=1e-6)


def test_sign_between_words_is_a_word_without_weight(bundle: Bundle, photo: Regions) -> None:
    with_sign, without = explain(bundle, "red - shoe", photo), explain(bundle, "red shoe", photo)
    assert with_sign.words == ("red", "-", "shoe")
    assert with_sign.weights[1] == (0.0,) * 4
    assert with_sign.weights[0] == without.weights[0]
    assert with_sign.score == pytest.approx(without.score, abs=1e-6)


def test_unknown_words_have_no_weight(bundle: Bundle, photo: Regions) -> None:
    found = explain(bundle, "\u2603 red", photo)
    assert found.weights[0] == (0.0,) * 4
    assert any(found.weights[1])
    assert found.word_weights[0] == 0
    assert found.fits is not None
    assert found.fits[0] == (None,) * 4
    assert explain(bundle, "\u2603", photo).weights == ((0.0,) * 4,)


def test_long_queries_keep_the_weights_of_the_whole(bundle: Bundle, photo: Regions) -> None:
    found = explain(bundle, "red " * 1000, photo)
    assert len(found.words) == len(found.weights) == MOST_WORDS
    read = bundle.model.longest - 2  # tokens of the query that the model reads
    single = np.array(explain(bundle, "red", photo).weights[0])
    np.testing.assert_allclose(found.weights[0], single / read, atol=1e-7)


def test_regions_that_are_not_selected_have_0_and_no_word_looks_at_them(tiny_shop: TinyShop) -> None:
    bundle = untrained(tiny_shop, {"regions.skip": [29, 30, 31, 32]})
    late = bundle.model.late
    assert late is not None
    token = bundle.tokenizer.token_to_id("red")
    late.centre.zero_()
    # features that fit "red" worst
    towards = (torch.linalg.pinv(late.region.weight) @ late.word.weight[token]).detach()
    regions = torch.stack([towards, -towards, -towards, -towards])
    photo = Regions(
        regions.sign() * regions.square(),  # they enter as signed roots
        torch.tensor([4]),
        labels=torch.tensor([29, 28, 28, 30]),  # a face, two goods, an arm
    )
    found = explain(bundle, "red", photo)
    assert found.weights[0][0] == found.weights[0][3] == 0
    assert found.weights[0][1] == found.weights[0][2] < 0
    assert found.looks_at(0) == 1
    assert found.to_json()["looks_at"] == [1]
    assert found.fits is not None
    assert [fit is None for fit in found.fits[0]] == [True, False, False, True]
    assert found.fits[0][1] == found.fits[0][2] == found.weights[0][1] / found.word_weights[0]


def test_model_without_late_interaction_is_asked_by_occlusion(bundle: Bundle, photo: Regions) -> None:
    plain = Bundle(copy.deepcopy(bundle.model), bundle.tokenizer)
    plain.model.late = None
    found = explain(plain, "red shoe", photo)
    assert explain_by_occlusion(bundle, "red shoe", photo) == found

    def score(words: str, *regions: int) -> float:
        seen = photo.take_regions(torch.tensor(regions), torch.tensor([len(regions)]))
        return float(bundle.encode_texts([words])[0] @ encode_photos(bundle.model, seen)[0])

    for region in range(4):
        rest = [other for other in range(4) if other != region]
        whole = score("red shoe", 0, 1, 2, 3) - score("shoe", 0, 1, 2, 3)
        wanted = whole - score("red shoe", *rest) + score("shoe", *rest)
        assert found.weights[0][region] == pytest.approx(wanted, abs=2e-6)  # four float32 scores
        assert found.word_weights[0] == pytest.approx(whole, abs=1e-6)
    told = found.to_json()
    assert (told["method"], told["late_score"], told["fits"]) == ("occlusion", None, None)
    assert told["vector_score"] == told["score"]


def test_of_equal_weights_the_first_region_is_looked_at() -> None:
    explanation = Explanation(("a",), ((0.1, 0.7, 0.7),), 1.0)
    assert explanation.looks_at(0) == 1
    assert replace(explanation, seen=(0, 2)).looks_at(0) == 2


def test_no_words_and_two_photos_are_refused(bundle: Bundle, photo: Regions) -> None:
    with pytest.raises(ValueError, match="no words"):
        explain(bundle, "  ", photo)
    with pytest.raises(ValueError, match="2 photos"):
        explain(bundle, "red", replace(photo, counts=torch.tensor([2, 2])))


@pytest.mark.parametrize(("queries", "top"), [(0, 1), (1, 0)])
def test_numbers_below_1_are_refused(bundle: Bundle, tiny_shop: TinyShop, queries: int, top: int) -> None:
    run = bundle.rank(tiny_shop.valid)
    with pytest.raises(ValueError, match="at least 1"):
        list(explain_run(bundle, tiny_shop.valid, run, queries=queries, top=top))


def test_explanations_are_written_with_a_picture_each(
    bundle: Bundle, tiny_shop: TinyShop, tmp_path: Path
) -> None:
    valid = tiny_shop.valid
    explained = list(explain_run(bundle, valid, bundle.rank(tiny_shop.valid), queries=2, top=2))
    photo_of = int(valid.product_ids[explained[0].product])
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (30, 20), (1, 2, 250)).save(tmp_path / "photos" / f"{photo_of}.png")
    write_explanations(explained, valid, tmp_path / "out", photos=tmp_path / "photos")
    lines = [json.loads(line) for line in (tmp_path / "out" / "explanations.jsonl").read_text().splitlines()]
    assert len(lines) == 4
    for line, one in zip(lines, explained, strict=True):
        assert (line["query_id"], line["product_id"], line["rank"]) == (
            int(valid.query_ids[one.query]),
            int(valid.product_ids[one.product]),
            one.rank,
        )
        assert line["words"] == list(one.explanation.words)
        assert line["weights"] == [list(row) for row in one.explanation.weights]
        assert line["image_size"] == [20, 30]
        assert line["boxes"] == [[0, 0, 20, 30]] * len(line["labels"])
        with Image.open(
            tmp_path / "out" / f"{line['query_id']}-{one.rank}-{line['product_id']}.png"
        ) as opened:
            blue = (np.asarray(opened) == (1, 2, 250)).all(axis=2).any()
            assert blue == (line["product_id"] == photo_of)
    assert len(list((tmp_path / "out").iterdir())) == 4 + 2
    assert (tmp_path / "out" / MARKER).is_file()


def test_nothing_is_written_where_a_picture_fails(
    bundle: Bundle, tiny_shop: TinyShop, tmp_path: Path
) -> None:
    valid = tiny_shop.valid
    explained = list(explain_run(bundle, valid, bundle.rank(tiny_shop.valid), queries=1, top=2))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / f"{valid.product_ids[explained[1].product]}.jpg").write_bytes(b"broken")
    with pytest.raises(DataError, match="cannot be read as a photo"):
        write_explanations(explained, valid, tmp_path / "out", photos=tmp_path / "photos")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(("out", ".out.partial"))] == []


def test_older_explanations_are_replaced_and_nobody_elses_files(
    bundle: Bundle, tiny_shop: TinyShop, tmp_path: Path
) -> None:
    run = bundle.rank(tiny_shop.valid)
    for top in (3, 1):
        found = explain_run(bundle, tiny_shop.valid, run, queries=1, top=top)
        write_explanations(found, tiny_shop.valid, tmp_path / "out", photos=None)
        assert len(list((tmp_path / "out").glob("*.png"))) == top
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="holds other files"):
        write_explanations([], tiny_shop.valid, tmp_path / "mine", photos=None)
