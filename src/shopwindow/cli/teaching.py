"""What `train --teacher` and `rank --pools-from` read: runs that teach, and pools for a teacher to rank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shopwindow.data.dataset import Dataset
    from shopwindow.model.pools import PairRows
    from shopwindow.model.recipe import Recipe
    from shopwindow.model.teacher import Teacher

NEAREST = 100
OTHERS = 100
"""Products of a query's pool, where nothing else is asked for."""


def load_taught_recipe(name: str, changes: dict[str, str], runs: Sequence[str] | None) -> Recipe:
    """The recipe, with a group teacher where runs are given and it has none."""
    from shopwindow.model.recipe import load_recipe

    if runs and load_recipe(name).teacher is None and "teacher" not in changes:
        changes = {"teacher": "{}", **changes}
    return load_recipe(name, changes)


def read_teacher(runs: Sequence[str] | None, dataset: Dataset) -> Teacher | None:
    """The opinion of some runs, None where none is given."""
    from shopwindow.model.teacher import Teacher
    from shopwindow.ranking.runs import read_run

    return Teacher.of([read_run(run) for run in runs], dataset) if runs else None


def pools_from(place: str, dataset: Dataset, *, nearest: int | None, others: int | None) -> PairRows:
    """The pools that the model of an index, or a bundle, makes for the training queries of a dataset."""
    from shopwindow.model.bundle import MARKER, Bundle
    from shopwindow.model.pools import training_pools
    from shopwindow.search.index import BUNDLE

    folder = Path(place)
    bundle = Bundle.load(folder if (folder / MARKER).is_file() else folder / BUNDLE)
    return training_pools(
        bundle,
        dataset,
        first=NEAREST if nearest is None else nearest,
        others=OTHERS if others is None else others,
    )
