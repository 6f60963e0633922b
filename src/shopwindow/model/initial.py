"""What does a model know before its first step? Random weights by the recipe's seed, or a checkpoint's."""

from __future__ import annotations

import math

import numpy as np
import torch
from tokenizers import Tokenizer

from shopwindow.data.dataset import Dataset
from shopwindow.data.queries import choose_query_rules, normalise
from shopwindow.files import DataError
from shopwindow.model.bagged import bags
from shopwindow.model.checkpoint import BertCheckpoint
from shopwindow.model.dual import DualEncoder
from shopwindow.model.given import check_pieces, of_field
from shopwindow.model.recipe import Recipe
from shopwindow.model.tokenizer_files import load_tokenizer
from shopwindow.model.tokens import train_tokenizer
from shopwindow.model.towers import EncoderSize, PhotoTower, TextTower


def initial_model(dataset: Dataset, recipe: Recipe) -> tuple[Tokenizer, DualEncoder]:
    """The tokenizer and the model before the first step.

    Sizes are the recipe's, where a tower starts from a checkpoint the checkpoint's; the photo tower is as wide
    as the text tower. torch's generator is left as it was.
    Raises: DataError for a dataset without a pair to train on, and a tokenizer or checkpoint that cannot be used;
    ValueError for towers of two widths.
    """
    if not dataset.pair_training.any():
        raise DataError("holds no pair to train on", path=dataset.path)
    tokenizer = _tokenizer(dataset, recipe)
    vocabulary, longest = max(tokenizer.get_vocab().values()) + 1, recipe.longest_query
    text_size = _tower_size(recipe, recipe.width)
    text_from = _opened(recipe.text_from, "text_from")
    if text_from is not None:
        check_pieces(tokenizer, text_from.vocabulary, text_from.path)
        text_size, vocabulary, longest = text_from.size, text_from.vocabulary, text_from.longest
    photo_from = _opened(recipe.photo_from, "photo_from")
    photo_size = photo_from.size if photo_from else _tower_size(recipe, text_size.hidden)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        text = TextTower(text_size, vocabulary=vocabulary, longest=longest) if "bert" in recipe.text else None
        photo = None
        if "bert" in recipe.photo:
            photo = PhotoTower(
                photo_size, feature_size=dataset.feature_size, readout=recipe.readout, boxes=recipe.boxes
            )
        bag, views, late = bags(dataset, recipe, tokenizer, text_size.hidden, vocabulary, longest)
        model = DualEncoder(
            text,
            photo,
            bag=bag,
            views=views,
            late=late,
            common=recipe.common,
            longest=longest,
            vocabulary=vocabulary,
            normalise=recipe.normalise,
            features=recipe.features,
            selection=recipe.selection,
            largest=recipe.largest,
            query_rules=recipe.rule_names,
            scale=recipe.scale,
            bias=recipe.bias,
        )
    if text_from is not None and text is not None:
        with of_field("text_from"):
            text_from.load_into(text)
    if photo_from is not None and photo is not None:
        with of_field("photo_from"):
            photo_from.load_into(photo)
    return tokenizer, model


def _opened(path: str | None, field: str) -> BertCheckpoint | None:
    with of_field(field):
        return BertCheckpoint(path) if path else None


def _tokenizer(dataset: Dataset, recipe: Recipe) -> Tokenizer:
    given = recipe.tokenizer or recipe.text_from
    if given is not None:
        with of_field("tokenizer" if recipe.tokenizer else "text_from"):
            return load_tokenizer(given)
    texts = dataset.query_texts
    trained_on = np.unique(dataset.pair_queries[dataset.pair_training]).tolist()
    rules = choose_query_rules(recipe.rule_names)
    return train_tokenizer(
        (normalise(texts[row], rules) for row in trained_on), vocabulary=recipe.vocabulary, words=recipe.words
    )


def _tower_size(recipe: Recipe, width: int) -> EncoderSize:
    """The heads are the recipe's where they divide the width: a checkpoint's may be another, and a bag has none."""
    heads = recipe.heads if width % recipe.heads == 0 else math.gcd(width, recipe.heads)
    return EncoderSize(width, recipe.layers, heads, recipe.inner, recipe.dropout)
