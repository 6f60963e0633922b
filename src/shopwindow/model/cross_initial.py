"""Where does the training of a cross-encoder begin?

With random weights, with a BERT's words and layers, or with a model of the original code. Knows no steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from shopwindow.data.dataset import Dataset
from shopwindow.data.queries import choose_query_rules, normalise
from shopwindow.files import DataError
from shopwindow.model.checkpoint import BertCheckpoint
from shopwindow.model.cross_checkpoint import load_original, start_from_bert
from shopwindow.model.cross_heads import KINDS, CrossModel
from shopwindow.model.cross_recipe import CrossRecipe
from shopwindow.model.given import check_pieces, of_field
from shopwindow.model.tokenizer_files import load_tokenizer
from shopwindow.model.tokens import train_tokenizer
from shopwindow.model.towers import EncoderSize

BERT_WIDTH: Final = 768


def names_of_labels(dataset: Dataset, given: Mapping[int, str]) -> dict[int, str]:
    """A name for each label of a dataset: the one given, or `label` and its number."""
    return {label: given.get(label, f"label{label}") for label in range(dataset.label_count)}


def initial_cross(
    dataset: Dataset, recipe: CrossRecipe, label_names: Mapping[int, str]
) -> tuple[Tokenizer, CrossModel]:
    """The tokenizer and the model that a training begins with.

    Raises: DataError naming the field of the recipe whose file is missing or does not fit.
    """
    own = recipe.model
    path = None if own.checkpoint is None else Path(own.checkpoint)
    original = bert = None
    with of_field("model.checkpoint"):
        if path is not None and path.is_dir():
            bert = BertCheckpoint(path)
        elif path is not None:
            original = load_original(path, own.kind, dropout=own.dropout)
    tokenizer = _tokenizer(dataset, recipe, label_names, path if bert is not None else None)
    size = EncoderSize(own.width, own.layers, own.heads, own.inner, own.dropout)
    vocabulary, longest = max(tokenizer.get_vocab().values()) + 1, recipe.text.longest
    if bert is not None:
        size, vocabulary, longest = bert.size, bert.vocabulary, bert.longest
    if original is not None:
        body = original.body
        size, vocabulary, longest = body.size, body.vocabulary, body.longest
    if path is not None:
        check_pieces(tokenizer, vocabulary, path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.optimiser.seed)
        model = CrossModel(
            own.kind,
            size,
            feature_size=dataset.feature_size,
            vocabulary=vocabulary,
            longest=longest,
            heads=KINDS[own.kind],
            classes=dataset.label_count + 1,
            region_norm=own.region_norm,
        )
    if path is None:
        keep_gain(model)
    if bert is not None:
        with of_field("model.checkpoint"):
            start_from_bert(model, bert.path)
    if original is not None:
        _copy(original, model, own.checkpoint)
    return tokenizer, model


@torch.no_grad()
def keep_gain(model: CrossModel) -> None:
    """Widens random first weights so that a narrow model multiplies as much as one of BERT's width.

    BERT's spread is made for 768. On a tiny shop a model of width 32 stays 80 steps and more at the loss of chance with
    it, and leaves that after 40 with this.
    """
    factor = (BERT_WIDTH / model.body.size.hidden) ** 0.5
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.mul_(factor)


def _copy(original: CrossModel, model: CrossModel, path: str | None) -> None:
    """Gives the encoder all of the original's weights, and each head of equal shape its own."""
    theirs, ours = original.state_dict(), model.state_dict()
    for name, tensor in ours.items():
        if name.startswith("body.regions.LayerNorm.") and name not in theirs:
            continue  # an Oscar pre-trained without it begins with ones and zeros, as in the original
        fits = name in theirs and theirs[name].shape == tensor.shape
        if not fits and name.startswith("body."):
            raise DataError(
                f"{name}: {list(theirs[name].shape) if name in theirs else 'missing'}, wanted {list(tensor.shape)}",
                path=path,
                field="model.checkpoint",
            )
        if fits:
            tensor.copy_(theirs[name])


def _tokenizer(
    dataset: Dataset, recipe: CrossRecipe, label_names: Mapping[int, str], bert: Path | None
) -> Tokenizer:
    """That of the recipe or of the BERT; else one trained on the training queries and, for tags, the labels' names."""
    given = recipe.text.tokenizer or bert
    if given is not None:
        with of_field("text.tokenizer"):
            return load_tokenizer(given)
    if recipe.model.checkpoint is not None:
        raise DataError("missing: a file of the original code has none", field="text.tokenizer")
    texts, rules = dataset.query_texts, choose_query_rules(recipe.text.rules)
    rows = np.unique(dataset.pair_queries[dataset.pair_training]).tolist()
    names = label_names.values() if recipe.model.kind == "oscar" else ()
    learned = [*(normalise(texts[row], rules) for row in rows), *names]
    return train_tokenizer(learned, vocabulary=recipe.text.vocabulary)
