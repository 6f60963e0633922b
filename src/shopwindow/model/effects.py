"""Which fields of a recipe change nothing, because of what its other fields say?

So that a mistaken intention is told instead of trained. Never told: `heads`, which must divide `hidden` where there is
a tower, and `validations`, of which there is always one. A loss without steps is told, though the curves show one.
Knows no tensor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from shopwindow.model.recipe import Recipe

_OF_STEPS: Final = (
    "learning_rate",
    "weight_decay",
    "adam_epsilon",
    "warmup",
    "schedule",
    "gradient_clip",
    "average",
    "loss",
    "margin",
    "scale",
    "bias",
    "masking",
    "positives",
    "weighting",
    "naming_loss",
    "dropout",
    "pooled_dropout",
    "order",
    "group",
    "hard",
    "shards_at_once",
    "temper",
    "word_dropout",
    "word_shuffle",
    "chunk",
    "share_masks",
    "compiled",
)


def of_missing_parts(text: str, photo: str) -> set[str]:
    """Fields that may not be set, for want of a tower or a bag, where the sides are these."""
    names = set() if "bert" in photo else {"readout", "boxes"}
    if "bag" not in text:
        names.add("naming_loss")
    return names if "bag" in text and "bag" in photo else names | {"common", "views", "naming"}


def without_effect(recipe: Recipe) -> dict[str, str]:
    """The fields that differ from their defaults and yet have no effect, and what would give each one."""
    changed = {
        field.name for field in dataclasses.fields(recipe) if getattr(recipe, field.name) != field.default
    }
    return {
        name: says
        for matters, says, *names in _rules(recipe)
        if not matters
        for name in names
        if name in changed
    }


def _rules(recipe: Recipe) -> Iterator[tuple[bool, str, *tuple[str, ...]]]:
    """Whether fields matter, what would make them matter, their names."""
    text_tower, photo_tower = "bert" in recipe.text, "bert" in recipe.photo
    text_bag, photo_bag = "bag" in recipe.text, "bag" in recipe.photo
    sized = (text_tower and not recipe.text_from) or (photo_tower and not recipe.photo_from)
    drops = ((text_tower or photo_tower) and (recipe.dropout or not sized)) or (
        photo_bag and recipe.pooled_dropout
    )
    yield (
        text_tower,
        "text must be bert or bag+bert (for its tokenizer alone there is tokenizer)",
        "text_from",
    )
    yield photo_tower, "photo must be bert or bag+bert", "photo_from"
    yield not recipe.text_from, "the checkpoint of text_from says it", "hidden", "longest_query"
    yield sized, "text or photo must have a BERT tower that no checkpoint gives", "layers", "inner", "dropout"
    yield text_tower or photo_tower, "text or photo must have a BERT tower", "compiled"
    yield (
        not (recipe.tokenizer or recipe.text_from),
        "the tokenizer must be trained, neither tokenizer nor text_from given",
        "vocabulary",
        "words",
    )
    yield photo_tower or recipe.late > 0, "photo must be bert or bag+bert, or late more than 0", "features"
    yield recipe.selection == "largest", "selection must be largest", "largest"
    yield photo_bag, "photo must be bag or bag+bert", "views"
    yield photo_bag or recipe.late > 0, "photo must be bag or bag+bert, or late more than 0", "pooled_dropout"
    yield text_bag, "text must be bag or bag+bert", "pair_names", "text_names"
    yield recipe.naming > 0, "naming must be more than 0", "naming_rare"
    for name in ("pair_names", "text_names"):
        switch = getattr(recipe, name) in (0, 1)
        says = "naming must be more than 0; else 0 or 1 says whether they are names"
        yield recipe.naming > 0 or switch, says, name
    yield recipe.loss == "margin", "loss must be margin", "margin"
    yield (
        recipe.loss != "multi-similarity" or recipe.naming_loss > 0,
        "loss must not be multi-similarity, or naming_loss more than 0",
        "scale",
    )
    yield recipe.loss in ("sigmoid", "siglip", "focal"), "loss must be sigmoid, siglip or focal", "bias"
    yield recipe.order != "shuffled", "order must not be shuffled", "group", "hard"
    yield (
        text_tower or recipe.pair_names + recipe.text_names > 0,
        "text must have a BERT tower, or pair_names or text_names be more than 0: a bag of words has no order",
        "word_shuffle",
    )
    yield bool(drops), "something must be dropped, by dropout or pooled_dropout", "share_masks"
    yield recipe.epochs > 0, "epochs must be more than 0", *_OF_STEPS
