"""What are the choices of a training, and which of them differ from the seed's?

A recipe is a short YAML file of differences from the defaults; the defaults are the seed. Each field
says its unit or range. Knows no tensor, so that the command line can check a recipe at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_type_hints

import yaml

from shopwindow.files import DataError, read_text

Loss = Literal["sigmoid", "softmax"]
Schedule = Literal["constant", "cosine"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]

RECIPES: Final = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """The choices of one training; the defaults are the winning solution's of KDD Cup 2020.

    Raises: ValueError naming the field whose value makes no sense.
    """

    hidden: int = 768
    """Width of both towers and size of the embeddings."""
    layers: int = 4
    heads: int = 12
    inner: int = 3072
    dropout: float = 0.1
    vocabulary: int = 28996
    """At most so many word pieces, where the tokenizer is trained."""
    longest_query: int = 512
    """Tokens, [CLS] and [SEP] counted; longer queries are cut."""
    tokenizer: str | None = None
    """A tokenizer.json, a vocab.txt, or a directory with one; none: trained on the training queries."""
    text_from: str | None = None
    """A BERT-family checkpoint directory that initialises the text tower (its size and tokenizer too)."""
    photo_from: str | None = None
    """A BERT-family checkpoint directory that initialises the layers of the photo tower."""
    features: Literal["raw", "sqrt"] = "raw"
    """How region features enter: as they are, or their square roots (they are not negative)."""
    loss: Loss = "sigmoid"
    normalise: bool = False
    """Whether embeddings have length 1, so that scores are cosines."""
    scale: float = 1.0
    """What scores are multiplied with in the loss; learned when the loss is softmax."""
    batch_size: int = 512
    """Pairs a step; what is left of an epoch is dropped."""
    epochs: int = 14
    learning_rate: float = 2e-5
    weight_decay: float = 0.0
    """Decoupled from the gradient (AdamW); 0 is Adam."""
    adam_epsilon: float = 1e-8
    warmup: float = 0.0
    """Share of the steps in which the learning rate rises from 0."""
    schedule: Schedule = "constant"
    gradient_clip: float = 0.0
    """Largest gradient norm; 0 clips nothing."""
    validations: float = 2.0
    """Validations an epoch; below 1 one every so many epochs."""
    seed: int = 0
    precision: Precision = "auto"
    """auto: bf16-mixed where the device has it, else 16-mixed on a CUDA device, float32 on a CPU."""

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "heads", "inner", "vocabulary", "batch_size", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)}, at least 1 is needed")
        if self.batch_size < 2:
            raise ValueError("batch_size: in-batch negatives need at least 2 pairs")
        if self.longest_query < 3:
            raise ValueError(f"longest_query: {self.longest_query}, at least 3 ([CLS], a word, [SEP])")
        for name in ("learning_rate", "scale", "validations"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)}, more than 0 is needed")
        for name in ("dropout", "warmup"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)}, from 0 to below 1 is needed")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed: {self.seed}, from 0 to below 2^31 is needed")
        for name in ("weight_decay", "adam_epsilon", "gradient_clip"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: {getattr(self, name)}, at least 0 is needed")
        if self.hidden % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide hidden {self.hidden}")

    def differences(self) -> dict[str, Any]:
        """The fields that differ from the defaults."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }

    def to_yaml(self) -> str:
        """The differences as YAML, in the order of the fields."""
        return yaml.safe_dump(self.differences(), sort_keys=False) if self.differences() else "{}\n"


def load_recipe(name: str, changes: Mapping[str, object] | None = None) -> Recipe:
    """The recipe of a name (`seed`, `small`, ...) or of a YAML file, with some fields changed.

    `changes` are values, or texts as typed, read as YAML: `{"hidden": 128}`, `{"hidden": "128"}`.
    Raises: DataError naming file and field for an unknown recipe, a misspelt field or a wrong value.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) or "/" in name else RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.yaml")))
        raise DataError(f"no such recipe; there are {known}, or give a .yaml file", path=name)
    fields = _typed(_mapping(read_text(path), path), path)
    _checked(fields, path)
    for key, text in (changes or {}).items():
        typed = _mapping(f"{key}: {text}", Path("--set")) if isinstance(text, str) else {key: text}
        fields |= _typed(typed, Path("--set"))
    return _checked(fields, Path("--set"))


def _checked(fields: dict[str, Any], path: Path) -> Recipe:
    try:
        return Recipe(**fields)
    except ValueError as error:
        raise DataError(str(error), path=path) from error


def _mapping(text: str, path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"no YAML: {' '.join(str(error).split())}", path=path) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise DataError("a recipe is a list of `field: value`", path=path)
    return values


def _typed(values: dict[str, Any], path: Path) -> dict[str, Any]:
    hints = get_type_hints(Recipe)
    typed = {}
    for key, value in values.items():
        if key not in hints:
            raise DataError(f"no such field; there are {', '.join(hints)}", path=path, field=str(key))
        typed[key] = _convert(value, hints[key], path, key)
    return typed


def _convert(value: Any, hint: Any, path: Path, key: str) -> Any:
    choices = get_args(hint)
    if isinstance(value, str) and hint is float:
        try:
            return float(value)  # YAML reads 1e-4 as text: it wants 1.0e-4
        except ValueError:
            pass
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, bool) and type(value) is hint:
        return value
    if choices and value in choices:
        return value
    if choices and type(None) in choices and (value is None or isinstance(value, str)):
        return value
    wanted = (
        " or ".join(map(str, choices))
        if choices and type(None) not in choices
        else getattr(hint, "__name__", hint)
    )
    raise DataError(f"{value!r}, wanted {wanted}", path=path, field=key)
