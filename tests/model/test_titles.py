"""A product's title is a side of its own: read by the words of its part, and apart from the photo."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shopwindow.files import DataError
from shopwindow.model.bags import TitleWords, WordBag
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.model.encoder import Part, PartsEncoder, Side, read_titles
from shopwindow.model.explanation import explain
from shopwindow.model.initial import initial_model
from shopwindow.model.negatives import KnownPairs, choose_cells
from shopwindow.model.recipe import Recipe, load_recipe
from shopwindow.model.steps import batch_loss
from shopwindow.model.tokens import tokenize
from shopwindow.model.training import train
from shopwindow.model.validation import Validation
from shopwindow.ranking.answers import read_answers
from tests.model.catalogues import titles_of, with_catalogue
from tests.model.conftest import TinyShop
from tests.model.parts import SINGLE, WORDS, linear, part

PHOTO = part(WORDS, linear("unit", "first", "mean", dropout=0.0), 16)
TITLE = {"width": 8, "text": WORDS, "title": {"words": {}}}
UNTITLED = np.arange(0, 60, 4)
TITLED = np.setdiff1d(np.arange(60), UNTITLED)


def recipe_of(*parts: dict[str, object], **changes: object) -> Recipe:
    own = {"text.vocabulary": 200, "batches.size": 30, "optimiser.epochs": 2, "parts": list(parts)}
    return load_recipe("bow", {**own, **changes})


@pytest.fixture(scope="module")
def shop(tiny_shop: TinyShop, tmp_path_factory: pytest.TempPathFactory) -> TinyShop:
    """The tiny shop with titles; every fourth product has none."""
    folder = tmp_path_factory.mktemp("titled")
    return replace(
        tiny_shop,
        train=with_catalogue(tiny_shop.train, folder / "train", titles=titles_of(tiny_shop.train)),
        valid=with_catalogue(tiny_shop.valid, folder / "valid", titles=titles_of(tiny_shop.valid)),
    )


@pytest.fixture(scope="module")
def bundle(shop: TinyShop) -> Bundle:
    tokenizer, model = initial_model(shop.train, recipe_of(PHOTO, TITLE))
    return Bundle(model.eval(), tokenizer)


def test_the_title_is_read_by_the_weights_of_the_text_side(bundle: Bundle) -> None:
    text, title = bundle.model.parts[1].text.components[0], bundle.model.parts[1].photo.components[0]
    assert isinstance(text, WordBag)
    assert isinstance(title, TitleWords)
    assert title.reads_like(text)
    assert list(title.parameters()) == []
    assert not [name for name in bundle.model.state_dict() if name.startswith("parts.1.photo")]
    other = WordBag(torch.zeros(3, 8), pairs=True)
    with pytest.raises(ValueError, match="read by the bag of words of its own part"):
        Part(8, Side(text), Side(TitleWords(other)))


def test_words_of_titles_alone_are_known_and_equal_words_match_before_the_first_step(
    bundle: Bundle, shop: TinyShop
) -> None:
    assert bundle.knows(["vintage", "red", "qqq"]) == [True, True, False]
    titles = shop.valid.titles
    assert titles is not None
    words, products = (
        vectors[:, 16:] for vectors in (bundle.encode_texts(titles), bundle.encode_dataset(shop.valid))
    )
    np.testing.assert_allclose((words * products).sum(1)[TITLED], 0.5, atol=1e-6)
    assert not products[UNTITLED].any()


def test_a_product_without_a_title_has_zeros_there_and_all_gradients_are_finite(
    bundle: Bundle, shop: TinyShop
) -> None:
    model = bundle.model
    regions = bundle.regions(shop.valid, np.arange(8))
    tokens, lengths = tokenize(bundle.tokenizer, [*["red shoe"] * 7, "qqq"], longest=model.longest)
    text, photo = model.encode_text(tokens, lengths), model.encode_photo(regions)
    assert photo[::4, 16:].eq(0).all()
    numbers = torch.arange(8)
    cells = choose_cells(numbers, numbers, masking="none", known=KnownPairs(numbers.numpy(), numbers.numpy()))
    loss = batch_loss(model, "softmax", text, photo, cells)
    loss.backward()
    title = model.word_bags[1].weight.grad
    assert title is not None
    assert title.any()
    assert all(own.grad is None or bool(own.grad.isfinite().all()) for own in model.parameters())
    model.zero_grad()
    bare = replace(regions, titles=None)
    assert model.encode_photo(bare)[:, 16:].eq(0).all()


def test_each_part_learns_as_if_it_were_alone(bundle: Bundle, shop: TinyShop) -> None:
    model, rows = bundle.model, np.arange(12)
    regions = bundle.regions(shop.valid, rows)
    texts = [shop.valid.query_texts[row % len(shop.valid.query_texts)] for row in rows]
    tokens, lengths = tokenize(bundle.tokenizer, texts, longest=model.longest)
    numbers = torch.arange(12)
    cells = choose_cells(numbers, numbers, masking="none", known=KnownPairs(numbers.numpy(), numbers.numpy()))

    def gradients(own: PartsEncoder, place: int) -> list[torch.Tensor]:
        with torch.no_grad():
            own.log_scale.fill_(1.0)
        loss = batch_loss(own, "softmax", own.encode_text(tokens, lengths), own.encode_photo(regions), cells)
        return list(torch.autograd.grad(loss, list(own.parts[place].parameters())))

    for place, reads in enumerate(("photo", "title")):
        alone = gradients(model.only(reads), 0)  # type: ignore[arg-type] # one of two
        for one, two in zip(gradients(model, place), alone, strict=True):
            torch.testing.assert_close(2 * one, two, atol=1e-6, rtol=1e-5)


def test_some_parts_alone_are_what_the_score_owes_them(bundle: Bundle, shop: TinyShop) -> None:
    words, products = bundle.encode_texts(shop.valid.query_texts), bundle.encode_dataset(shop.valid)
    whole = words @ products.T
    owed = {}
    for reads, columns in (("photo", slice(16)), ("title", slice(16, None))):
        own = bundle.only(reads)  # type: ignore[arg-type] # one of two
        owed[reads] = own.encode_texts(shop.valid.query_texts) @ own.encode_dataset(shop.valid).T
        np.testing.assert_allclose(owed[reads] / 2, words[:, columns] @ products[:, columns].T, atol=1e-6)
    np.testing.assert_allclose(owed["photo"] / 2 + owed["title"] / 2, whole, atol=1e-6)
    photo = bundle.only("photo")
    regions = bundle.regions(shop.valid, np.arange(60))
    bare = photo.encode_products(replace(regions, titles=None))
    assert np.array_equal(photo.encode_products(regions), bare)
    np.testing.assert_allclose(
        bundle.encode_products(replace(regions, titles=None))[:, :16] * 2**0.5, bare, atol=1e-6
    )
    assert photo.titles(shop.valid) is None
    assert bundle.only("photo", "title").fingerprint == bundle.only("title", "photo").fingerprint
    with pytest.raises(ValueError, match="pretrained: this model reads photo, title"):
        bundle.only("pretrained")


def test_all_ways_to_a_products_vector_read_its_title(bundle: Bundle, shop: TinyShop) -> None:
    wanted = bundle.encode_dataset(shop.valid)
    rows = np.array([5, 4, 7])
    regions = bundle.regions(shop.valid, rows)
    np.testing.assert_allclose(bundle.encode_dataset(shop.valid, rows), wanted[rows], atol=1e-6)
    np.testing.assert_allclose(bundle.encode_products(regions), wanted[rows], atol=1e-6)
    plain, smoothed = bundle.rank(shop.valid), bundle.rank(shop.valid, smooth=(1.0,))
    assert plain.product_ids.tolist() == smoothed.product_ids.tolist()
    np.testing.assert_allclose(plain.scores, smoothed.scores, atol=1e-6)
    query = bundle.encode_texts(["red shoe"])[0]
    explained = explain(bundle, "red shoe", bundle.regions(shop.valid, np.array([5])))
    assert explained.score == pytest.approx(float(query @ wanted[5]), abs=1e-6)


def test_a_title_is_cut_where_a_query_is(shop: TinyShop, tiny_shop: TinyShop, tmp_path: Path) -> None:
    tokenizer, model = initial_model(shop.train, recipe_of(TITLE, **{"text.longest": 4}))
    long = ["red shoe " * 9, " \t", "", "red"] * 15
    titles = read_titles(model, tokenizer, with_catalogue(tiny_shop.valid, tmp_path / "long", titles=long))
    assert titles is not None
    assert titles.lengths.tolist() == [4, 0, 0, 3] * 15
    assert titles.take(torch.tensor([0])).tokens.tolist() == titles.tokens[:4].tolist()


def test_without_titles_the_part_is_left_out(tiny_shop: TinyShop, tmp_path: Path) -> None:
    empty = with_catalogue(
        tiny_shop.train, tmp_path / "empty", titles=[""] * len(tiny_shop.train.product_ids)
    )
    alone = initial_model(tiny_shop.train, recipe_of(PHOTO))[1]
    for dataset in (tiny_shop.train, empty):
        model = initial_model(dataset, recipe_of(PHOTO, TITLE))[1]
        assert model.reads == {"photo"}
        assert all(map(torch.equal, model.state_dict().values(), alone.state_dict().values()))
    with pytest.raises(DataError, match=r"at least one with a fixed share .* there is nothing for title"):
        initial_model(empty, recipe_of(TITLE))


def test_a_training_reads_titles_and_says_what_it_left_out(
    shop: TinyShop, tiny_shop: TinyShop, tmp_path: Path
) -> None:
    recipe = recipe_of(PHOTO, TITLE, {"width": 4, "text": SINGLE, "title": {"words": {}}, "share": "learned"})
    answers = read_answers(shop.answers)
    trained = train(
        shop.train, recipe, tmp_path / "a", validation=Validation(shop.valid, answers), device="cpu"
    )
    chunked = replace(recipe, batches=replace(recipe.batches, chunk=8))
    other = train(
        shop.train, chunked, tmp_path / "b", validation=Validation(shop.valid, answers), device="cpu"
    )
    assert trained.provenance["left_out"] == []
    assert trained.scores["nDCG@5"] > 0.5
    np.testing.assert_allclose(
        trained.encode_dataset(shop.valid), other.encode_dataset(shop.valid), atol=1e-4
    )
    loaded = Bundle.load(tmp_path / "a")
    assert np.array_equal(loaded.encode_dataset(shop.valid), trained.encode_dataset(shop.valid))
    assert json.loads((tmp_path / "a" / MARKER).read_text())["backbone"] is None
    title = loaded.model.parts[2].photo.components[0]
    assert isinstance(title, TitleWords)
    assert title.reads_like(loaded.model.parts[2].text.components[0])
    untitled = Validation(tiny_shop.valid, answers)
    bare = train(tiny_shop.train, recipe, tmp_path / "c", validation=untitled, device="cpu")
    assert bare.provenance["left_out"] == ["title"]
    assert bare.model.reads == {"photo"}
