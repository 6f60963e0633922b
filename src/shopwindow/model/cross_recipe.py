"""What are the choices of one training of a cross-encoder?

YAML of nested fields, read as the recipes of encoders are (`recipe.py`); the files lie in `recipes/cross/`. Knows no
tensor, so that the command line can refuse at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from shopwindow.bounded import read_mapping
from shopwindow.files import DataError, read_text
from shopwindow.model.recipe import RECIPES, TYPED, TextRecipe, read_group

CROSS_RECIPES: Final = RECIPES / "cross"
RankLoss = Literal["margin", "match", "softmax"]


@dataclass(frozen=True)
class CrossModelRecipe:
    """The transformer over words and regions. The defaults are BERT base's."""

    kind: Literal["uniter", "oscar"] = "uniter"
    """uniter reads regions with their boxes. oscar reads the names of their labels too."""
    width: int = 768
    """Values of a token or region inside."""
    layers: int = 12
    """Layers of attention and a feed-forward network."""
    heads: int = 12
    """Heads of attention; they divide the width."""
    inner: int = 3072
    """Values inside the feed-forward network."""
    dropout: float = 0.1
    """Share of values dropped while training."""
    region_norm: bool = True
    """Whether Oscar's regions pass a LayerNorm."""
    checkpoint: str | None = None
    """A BERT directory, which gives sizes, words and layers; or a file of the original code, which gives everything."""

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "inner"):
            _check(self, name, least=1)
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads}, must divide width {self.width}")
        _check(self, "dropout", least=0, below=1)


@dataclass(frozen=True)
class PretrainRecipe:
    """Learning from right pairs alone: what is hidden must be found, what does not fit must be seen."""

    epochs: int = 10
    """0 leaves the pre-training out."""
    hidden_words: float = 0.15
    """Share of the tokens of a pair that are hidden; at least one is."""
    hidden_regions: float = 0.15
    """Share of the regions of a pair that are hidden; at least one is."""
    alignment: float = 0.1
    """Weight of the transport of words to regions beside UNITER's matching."""

    def __post_init__(self) -> None:
        _check(self, "epochs", "alignment", least=0)
        _check(self, "hidden_words", "hidden_regions", least=0, below=1)


@dataclass(frozen=True)
class RankRecipe:
    """Learning to rank: right pairs against products, and texts, that only nearly fit."""

    epochs: int = 10
    """How often every pair is seen."""
    depth: int = 100
    """Negatives come from so many best of the first stage, known pairs left out; without one they are any."""
    easy_epochs: int = 0
    """Epochs before the first stage is asked: negatives are any. Random weights learn little from hard ones."""
    drawn: int = 7
    """Negatives drawn for a right pair, in each direction."""
    negatives: int = 7
    """The hardest of those, which are learned from."""
    loss: RankLoss = "softmax"
    """margin: UNITER's. match: Oscar's two classes. softmax: the right one among its negatives."""
    margin: float = 0.2
    """By how much a right pair must be better, with the loss margin."""

    def __post_init__(self) -> None:
        _check(self, "epochs", "negatives", least=1)
        _check(self, "easy_epochs", least=0)
        _check(self, "drawn", least=self.negatives)
        _check(self, "depth", least=self.drawn)
        _check(self, "margin", least=0, below=1)


@dataclass(frozen=True)
class CrossBatchesRecipe:
    """Which pairs a step takes."""

    size: int = 64
    """Pairs a step."""
    chunk: int = 16
    """Groups of a right pair and its negatives computed at a time: bounds the memory, and seeds the dropout."""

    def __post_init__(self) -> None:
        _check(self, "size", least=2)
        _check(self, "chunk", least=1)


@dataclass(frozen=True)
class CrossOptimiserRecipe:
    """How the weights follow the loss: AdamW, a linear rise of the rate and a half cosine, in each phase."""

    learning_rate: float = 5e-5
    """Largest rate of AdamW."""
    weight_decay: float = 0.01
    """Decoupled from the gradient."""
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises from 0."""
    gradient_clip: float = 1.0
    """Largest gradient norm; 0 clips nothing."""
    seed: int = 0
    """Of first weights, batches, negatives and dropout."""

    def __post_init__(self) -> None:
        _check(self, "learning_rate", "weight_decay", "gradient_clip", least=0)
        _check(self, "warmup", least=0, below=1)
        _check(self, "seed", least=0, below=2**31)


@dataclass(frozen=True)
class CrossRecipe:
    """The choices of one training. Raises: ValueError naming the field whose value makes no sense."""

    model: CrossModelRecipe = field(default_factory=CrossModelRecipe)
    text: TextRecipe = field(default_factory=TextRecipe)
    batches: CrossBatchesRecipe = field(default_factory=CrossBatchesRecipe)
    pretrain: PretrainRecipe = field(default_factory=PretrainRecipe)
    rank: RankRecipe = field(default_factory=RankRecipe)
    optimiser: CrossOptimiserRecipe = field(default_factory=CrossOptimiserRecipe)

    def to_yaml(self) -> str:
        """All fields as YAML, which `load_cross_recipe` reads."""
        fields = dataclasses.asdict(self)
        fields["text"]["rules"] = list(fields["text"]["rules"])
        return yaml.safe_dump(fields, sort_keys=False)


def names_cross_recipe(name: str) -> bool:
    """Whether a recipe's name, or the YAML file it names, is one of a cross-encoder: it has a `model`."""
    if (CROSS_RECIPES / f"{name}.yaml").is_file():
        return True
    path = Path(name)
    return (
        path.suffix in (".yaml", ".yml") and path.is_file() and "model" in read_mapping(read_text(path), path)
    )


def load_cross_recipe(name: str, changes: Mapping[str, object] | None = None) -> CrossRecipe:
    """The recipe of a name (`uniter-small`, ...) or of a YAML file, with some fields changed.

    `changes` are values by dotted name, or texts as typed, read as YAML.
    Raises: DataError with file and dotted field for an unknown recipe or field, or a wrong value.
    """
    path = CROSS_RECIPES / f"{name}.yaml"
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in CROSS_RECIPES.glob("*.yaml")))
        raise DataError(f"no such recipe; there are {known}, or give a .yaml file", path=name)
    fields = read_mapping(read_text(path), path)
    recipe = read_group(CrossRecipe, fields, path, "")
    if not changes:
        return recipe
    for dotted, value in changes.items():
        typed = (
            read_mapping(f"value: {value}", TYPED, field=dotted)["value"] if isinstance(value, str) else value
        )
        _put(fields, dotted.split("."), typed, dotted)
    return read_group(CrossRecipe, fields, TYPED, "")


def _put(fields: dict[str, Any], names: list[str], value: object, dotted: str) -> None:
    for name in names[:-1]:
        fields = fields.setdefault(name, {})
        if not isinstance(fields, dict):
            raise DataError("leads through a value", path=TYPED, field=dotted)
    fields[names[-1]] = value


def _check(group: object, *names: str, least: int, below: int | None = None) -> None:
    for name in names:
        value = getattr(group, name)
        if not value >= least or (below is not None and not value < below) or value > 2**31:
            upper = "" if below is None else f" to below {below}"
            raise ValueError(f"{name}: {value}, from {least}{upper} is needed")
