"""What is a model that learned nothing? A pretrained pair of towers as a bundle, for a shop without clicks."""

from __future__ import annotations

from pathlib import Path

from shopwindow.data.dataset import Dataset
from shopwindow.files import whole_directory
from shopwindow.model.bundle import MARKER, Bundle
from shopwindow.model.initial import initial_model
from shopwindow.model.pretrained import TextEncoder
from shopwindow.model.recipe import PartRecipe, Recipe


def write_zero_shot(dataset: Dataset, out: str | Path, *, text_tower: TextEncoder | None = None) -> Bundle:
    """Writes the bundle of a dataset's backbone. `text_tower`: what reads texts; None is that of the backbone.

    Raises: DataError where the backbone reads no texts.
    """
    recipe = Recipe(parts=(PartRecipe(pretrained=True),))
    tokenizer, model = initial_model(dataset, recipe, text_tower=text_tower)
    provenance = {"dataset": dataset.content_hash, "trained": False}
    bundle = Bundle(model.eval(), tokenizer, recipe.to_yaml(), provenance)
    with whole_directory(out, marker=MARKER) as folder:
        bundle.save_into(folder)
    return bundle
