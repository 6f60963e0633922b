"""What does a model know before its first step? Random weights by the recipe's seed, a checkpoint's, and what the
training data say: which names there are, how regions are centred, how many labels occur."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Int64
from tokenizers import Tokenizer
from torch import nn

from shopwindow.data.dataset import Dataset
from shopwindow.data.queries import choose_query_rules, normalise
from shopwindow.files import DataError
from shopwindow.model.bags import (
    INITIAL_SPREAD,
    Names,
    PooledRegions,
    TitleWords,
    WordBag,
    known_names,
    pooled_statistics,
)
from shopwindow.model.checkpoint import BertCheckpoint
from shopwindow.model.encoder import Part, PartsEncoder, Side
from shopwindow.model.given import check_pieces, of_field
from shopwindow.model.late import LateInteraction
from shopwindow.model.pretrained import PretrainedTexts, TextEncoder, WholePhotos, open_text_tower
from shopwindow.model.recipe import PartRecipe, Recipe, TextRecipe, TransformerRecipe
from shopwindow.model.tokenizer_files import SPECIAL_TOKENS, load_tokenizer
from shopwindow.model.tokens import tokenize, train_tokenizer
from shopwindow.model.towers import EncoderSize, PhotoTower, TextTower

MOST_PRODUCTS: Final = 200_000
"""From which regions are centred; of more a sample."""
SIGLIP_BIAS: Final = -10.0
"""Of the paper: at first nearly every cell is wrong."""
_SAMPLE: Final = 7


def initial_model(
    dataset: Dataset, recipe: Recipe, *, text_tower: TextEncoder | None = None
) -> tuple[Tokenizer, PartsEncoder]:
    """The tokenizer and the model before the first step. torch's generator is left as it was.

    Parts of titles are left out where the dataset has none, pretrained ones where its backbone reads no text.
    `text_tower`: what a pretrained part reads texts with; None is that of the dataset's backbone.

    Raises: DataError for a dataset without a pair to train on, but for pretrained parts alone; without a word where a
    part has a bag of words; for a tokenizer, checkpoint or backbone that cannot be used; where no part is left.
    """
    if text_tower is None and any(part.pretrained for part in recipe.parts):
        text_tower = open_text_tower(dataset.backbone)
    recipe = _fitting(recipe, dataset, text_tower)
    if not dataset.pair_training.any() and not all(part.pretrained for part in recipe.parts):
        raise DataError("holds no pair to train on", path=dataset.path)
    text_from = _opened(recipe.text_transformers)
    photo_from = _opened(recipe.photo_transformers)
    first = next(iter(text_from.values()), None)
    known_texts = _texts(dataset, recipe)
    tokenizer = _tokenizer(known_texts, recipe.text, first)
    vocabulary = max(tokenizer.get_vocab().values()) + 1
    longest = min([recipe.text.longest, *(checkpoint.longest for checkpoint in text_from.values())])
    for checkpoint in text_from.values():
        check_pieces(tokenizer, checkpoint.vocabulary, checkpoint.path)
        vocabulary = max(vocabulary, checkpoint.vocabulary)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.optimiser.seed)
        texts = [_text_tower(i, part, text_from, vocabulary, longest) for i, part in enumerate(recipe.parts)]
        labels = (
            _label_count(dataset) if any(own.boxes for own in recipe.photo_transformers.values()) else None
        )
        photos = [
            _photo_tower(i, part, photo_from, dataset.feature_size, labels)
            for i, part in enumerate(recipe.parts)
        ]
        learned = _Learned(dataset, known_texts, tokenizer, longest)
        names, bags = learned.bags(recipe.parts)
        views = [learned.view(part) for part in recipe.parts]
        late = None
        if recipe.late is not None:
            late = learned.late(recipe.late.width, recipe.late.dropout, vocabulary)
        components = zip(bags, texts, views, photos, strict=True)
        model = PartsEncoder(
            [
                _part(part, *own, dataset, text_tower)
                for part, own in zip(recipe.parts, components, strict=True)
            ],
            feature_size=dataset.feature_size,
            vocabulary=vocabulary,
            longest=longest,
            names=names,
            late=late,
            skip=recipe.regions.skip,
            largest=recipe.regions.largest,
            query_rules=recipe.text.rules,
            scale=recipe.loss.scale,
            bias=SIGLIP_BIAS if recipe.loss.name == "siglip" else 0.0,
            backbone=dataset.backbone,
        )
    _load(model, text_from, photo_from)
    return tokenizer, model


def _fitting(recipe: Recipe, dataset: Dataset, text_tower: TextEncoder | None) -> Recipe:
    """The recipe without the parts that the dataset has nothing for."""
    there = {"photo": True, "title": any(dataset.titles or ()), "pretrained": text_tower is not None}
    parts = tuple(part for part in recipe.parts if there[part.reads])
    try:
        return replace(recipe, parts=parts)
    except ValueError as error:
        missing = sorted({part.reads for part in recipe.parts if not there[part.reads]})
        raise DataError(f"{error}; there is nothing for {', '.join(missing)}", path=dataset.path) from error


def _texts(dataset: Dataset, recipe: Recipe) -> list[str]:
    """What words are learned from, as the rules spell it: the training queries, and the titles where a part reads
    them, each once."""
    used = np.unique(dataset.pair_queries[dataset.pair_training]).tolist()
    texts = [dataset.query_texts[row] for row in used]
    if any(part.title is not None for part in recipe.parts):
        texts += dict.fromkeys(title for title in dataset.titles or () if title.strip())
    rules = choose_query_rules(recipe.text.rules)
    return [normalise(text, rules) for text in texts]


def _opened(transformers: Mapping[str, TransformerRecipe]) -> dict[str, BertCheckpoint]:
    """The checkpoints by the dotted names of their transformers."""
    opened = {}
    for name, transformer in transformers.items():
        if transformer.checkpoint is not None:
            with of_field(f"{name}.checkpoint"):
                opened[name] = BertCheckpoint(transformer.checkpoint)
    return opened


def _load(
    model: PartsEncoder, text_from: dict[str, BertCheckpoint], photo_from: dict[str, BertCheckpoint]
) -> None:
    """Puts the weights of the checkpoints into their transformers, the last components of their sides."""
    for name, checkpoint in (text_from | photo_from).items():
        part = model.parts[int(name.split(".")[1])]
        tower = (part.text if name in text_from else part.photo).components[-1]
        assert isinstance(tower, TextTower | PhotoTower)
        with of_field(f"{name}.checkpoint"):
            checkpoint.load_into(tower)


def _part(
    part: PartRecipe,
    bag: WordBag | None,
    text: TextTower | None,
    view: PooledRegions | None,
    photo: PhotoTower | None,
    dataset: Dataset,
    text_tower: TextEncoder | None,
) -> Part:
    width = part.width
    text_side: list[nn.Module | None] = [bag, text]
    photo_side: list[nn.Module | None] = [view, photo]
    if part.pretrained:
        width = dataset.feature_size
        text_side, photo_side = [PretrainedTexts(width, dataset.backbone, text_tower)], [WholePhotos()]
    elif part.title is not None and bag is not None:
        photo_side = [TitleWords(bag)]
    return Part(width, _side(*text_side), _side(*photo_side), share=part.share, normalise=part.normalise)


def _side(*components: nn.Module | None) -> Side:
    return Side(*(component for component in components if component is not None))


def _text_tower(
    number: int, part: PartRecipe, given: dict[str, BertCheckpoint], vocabulary: int, longest: int
) -> TextTower | None:
    if part.text.transformer is None:
        return None
    checkpoint = given.get(f"parts.{number}.text.transformer")
    size = _size(part.width, part.text.transformer, checkpoint)
    if checkpoint is not None:
        return TextTower(size, vocabulary=checkpoint.vocabulary, longest=checkpoint.longest)
    return TextTower(size, vocabulary=vocabulary, longest=longest)


def _photo_tower(
    number: int, part: PartRecipe, given: dict[str, BertCheckpoint], feature_size: int, labels: int | None
) -> PhotoTower | None:
    transformer = part.photo.transformer
    if transformer is None:
        return None
    size = _size(part.width, transformer, given.get(f"parts.{number}.photo.transformer"))
    return PhotoTower(
        size,
        feature_size=feature_size,
        readout=transformer.readout,
        labels=labels if transformer.boxes else None,
    )


def _size(width: int, own: TransformerRecipe, checkpoint: BertCheckpoint | None) -> EncoderSize:
    if checkpoint is not None:
        return checkpoint.size
    return EncoderSize(width, own.layers, own.heads, own.inner, own.dropout)


def _label_count(dataset: Dataset) -> int:
    """The largest label of the training products, plus one."""
    products = np.unique(dataset.pair_products[dataset.pair_training])
    largest = 0
    for start in range(0, len(products), MOST_PRODUCTS):
        largest = max(largest, int(dataset.labels(products[start : start + MOST_PRODUCTS]).max(initial=0)))
    return largest + 1


def _tokenizer(texts: list[str], text: TextRecipe, checkpoint: BertCheckpoint | None) -> Tokenizer:
    if text.tokenizer is not None:
        with of_field("text.tokenizer"):
            return load_tokenizer(text.tokenizer)
    if checkpoint is not None:
        with of_field("text.tokenizer"):
            return load_tokenizer(checkpoint.path)
    return train_tokenizer(texts, vocabulary=text.vocabulary)


class _Learned:
    """What the training pairs of a dataset say about bags, views and late interaction; `texts` about bags."""

    def __init__(self, dataset: Dataset, texts: list[str], tokenizer: Tokenizer, longest: int) -> None:
        self._dataset = dataset
        self._texts = texts
        self._tokenizer = tokenizer
        self._longest = longest
        numbers = (tokenizer.token_to_id(token) for token in SPECIAL_TOKENS)
        self._special = frozenset(number for number in numbers if number is not None)

    def bags(self, parts: tuple[PartRecipe, ...]) -> tuple[Names | None, list[WordBag | None]]:
        """The names of the texts, and the bag of words of each part; none where no part has one."""
        words = [part.text.words for part in parts]
        if not any(words):
            return None, [None] * len(parts)
        try:
            keys = known_names(
                *tokenize(self._tokenizer, self._texts, longest=self._longest),
                pairs=any(own is not None and own.pairs for own in words),
                ignored=self._special,
            )
        except ValueError as error:
            raise DataError(str(error), path=self._dataset.path) from error
        names = Names(len(keys))
        names.keys.copy_(keys)
        widths = [0 if own is None else part.width for part, own in zip(parts, words, strict=True)]
        # Drawn as one: a part has the same first weights whether its names are pairs too or single tokens alone.
        whole = torch.empty(len(keys), sum(widths)).normal_(std=INITIAL_SPREAD)
        drawn = torch.split(whole, widths, dim=1)
        bags = [
            None
            if own is None
            else WordBag(vectors if own.pairs else vectors[: names.words], pairs=own.pairs)
            for own, vectors in zip(words, drawn, strict=True)
        ]
        return names, bags

    def view(self, part: PartRecipe) -> PooledRegions | None:
        """The linear view of a part, centred."""
        own = part.photo.linear
        if own is None:
            return None
        size = self._dataset.feature_size
        view = PooledRegions(part.width, size, look=own.look, pools=own.pools, dropout=own.dropout)
        pooled_statistics(view, self._dataset, self._products())
        return view

    def late(self, width: int, dropout: float, vocabulary: int) -> LateInteraction:
        """The late interaction; special tokens do not count, regions are centred."""
        size = self._dataset.feature_size
        late = LateInteraction(vocabulary, size, width=width, dropout=dropout)
        late.words[sorted(self._special)] = False
        mean = PooledRegions(width, size, look="unit", pools=("mean",), dropout=0.0)
        pooled_statistics(mean, self._dataset, self._products())
        late.centre.copy_(mean.centre)
        return late

    def _products(self) -> Int64[np.ndarray, " products"]:
        """The training products, or a sample of many."""
        products = np.unique(self._dataset.pair_products[self._dataset.pair_training])
        if len(products) <= MOST_PRODUCTS:
            return products
        rng = np.random.default_rng(_SAMPLE)
        return np.sort(rng.choice(products, MOST_PRODUCTS, replace=False))
