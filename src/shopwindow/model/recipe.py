"""What are the choices of one training?

A recipe is a YAML file of nested fields. A file may name a `base`, another recipe, and say only what differs.
`default`, `late` and the others lie in `recipes/`. The dataclasses here say what each field means; only `load_recipe`,
`initial.py` and `training.py` ever see a whole recipe. Knows no tensor, so that the command line can refuse at once.
"""

from __future__ import annotations

import dataclasses
import math
import os
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from shopwindow.bounded import read_mapping
from shopwindow.data.grouping import Order
from shopwindow.data.queries import choose_query_rules
from shopwindow.files import DataError, read_text

LossName = Literal["sigmoid", "softmax", "siglip", "margin", "multi-similarity", "focal"]
Masking = Literal["none", "same", "known"]
Weighting = Literal["none", "linear", "log"]
TeacherLoss = Literal["kl", "margin-mse"]
Pool = Literal["first", "mean", "max"]
Look = Literal["unit", "standard"]
Readout = Literal["first", "attention"]
Schedule = Literal["constant", "cosine"]
Keep = Literal["held-out", "last", "valid"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
Learned = Literal["learned"]
Reads = Literal["photo", "title", "pretrained"]

RECIPES: Final = Path(__file__).parent / "recipes"
BASE: Final = "base"
"""The key of a file that names the recipe it differs from."""
TYPED: Final = Path("--set")
LARGEST: Final = 1 << 24
"""No count, width or size is larger."""
PATHS: Final = ("tokenizer", "checkpoint")
"""The fields that name a file or a folder."""


@dataclass(frozen=True)
class TextRecipe:
    """How queries become tokens."""

    tokenizer: str | None = None
    """A tokenizer.json, a vocab.txt, or a folder with one. Null: that of the first text checkpoint, else one is trained
    on the training queries. A path of a recipe file is relative to the file, a typed one to the working directory."""
    vocabulary: int = 28996
    """Most word pieces of a tokenizer that is trained."""
    longest: int = 512
    """Most tokens of a query, [CLS] and [SEP] counted; longer queries are cut."""
    rules: tuple[str, ...] = ()
    """Rules of normalisation (data/queries.py): lower, punctuation, plural ..."""

    def __post_init__(self) -> None:
        _check_range(self, 1, "vocabulary")
        _check_range(self, 3, "longest")  # [CLS], a word, [SEP]
        try:
            choose_query_rules(self.rules)
        except ValueError as error:
            raise ValueError(f"rules: {error}") from error


@dataclass(frozen=True)
class WordsRecipe:
    """A bag of words: a query's vector is the sum of the vectors of its names."""

    pairs: bool = True
    """Whether pairs of neighbouring tokens are names too."""


@dataclass(frozen=True)
class TransformerRecipe:
    """A BERT encoder, as wide as its part. The defaults are the seed's."""

    layers: int = 4
    """Layers of attention and a feed-forward network."""
    heads: int = 12
    """Heads of attention; they divide the width of the part."""
    inner: int = 3072
    """Values inside the feed-forward network."""
    dropout: float = 0.1
    """Share of values dropped while training."""
    checkpoint: str | None = None
    """A BERT-family checkpoint folder that gives the sizes above and the first weights. Its width is the part's."""

    def __post_init__(self) -> None:
        _check_range(self, 1, "layers", "heads", "inner")
        _check_share(self, "dropout")
        if self.checkpoint is not None:
            for name in ("layers", "heads", "inner", "dropout"):
                if (value := getattr(self, name)) != getattr(TransformerRecipe, name):
                    raise ValueError(
                        f"{name}: {value}, but the checkpoint says it; set {{checkpoint: DIR}} alone"
                    )


@dataclass(frozen=True)
class RegionTransformerRecipe(TransformerRecipe):
    """A BERT encoder over the regions of a product."""

    readout: Readout = "first"
    """What gives the vector: the first region, or the mean of all regions by learned weights."""
    boxes: bool = False
    """Whether each region carries its box and its label."""


@dataclass(frozen=True)
class LinearRecipe:
    """A linear view: a linear map of pooled regions."""

    look: Look = "unit"
    """unit: square roots, regions and the pooled whole of length 1. standard: values by their standard deviation."""
    pools: tuple[Pool, ...] = ("first", "mean")
    """Which of first, mean and max of the regions are joined."""
    dropout: float = 0.5
    """Share of the pooled values dropped while training."""

    def __post_init__(self) -> None:
        if not self.pools or len(set(self.pools)) < len(self.pools):
            raise ValueError(f"pools: {list(self.pools)}, wanted first, mean, max, each at most once")
        _check_share(self, "dropout")


@dataclass(frozen=True)
class TextSideRecipe:
    """What reads a query: the words, or the transformer, or both, the transformer through a gate that is 0 at first."""

    words: WordsRecipe | None = None
    """The bag of words; null: none."""
    transformer: TransformerRecipe | None = None
    """The transformer over tokens; null: none."""


@dataclass(frozen=True)
class PhotoSideRecipe:
    """What looks at a product: the linear view, or the transformer, or both, the transformer through a gate."""

    linear: LinearRecipe | None = None
    """The linear view; null: none."""
    transformer: RegionTransformerRecipe | None = None
    """The transformer over regions; null: none."""


@dataclass(frozen=True)
class TitleWordsRecipe:
    """The bag of words of the part's text side, which reads the title too."""


@dataclass(frozen=True)
class TitleSideRecipe:
    """What reads a product's title."""

    words: TitleWordsRecipe


@dataclass(frozen=True)
class PartRecipe:
    """One part of the vectors. Parts are laid end to end; the score is the sum of their dot products.

    It has a text side, and a photo or a title; or it is pretrained, and has none of these.
    """

    text: TextSideRecipe = TextSideRecipe()
    photo: PhotoSideRecipe = PhotoSideRecipe()
    title: TitleSideRecipe | None = None
    """Left out where the dataset has no titles."""
    pretrained: bool = False
    """Whether the part is both towers of the dataset's backbone, frozen; as wide as its features. Left out where the
    backbone reads no text."""
    width: int = 768
    """Values of the part in a vector."""
    share: float | Learned = 1.0
    """Share of the score. A learned one is, at first, half of all fixed ones together. Each part with a fixed share
    has a loss of its own, on its own cosine and those of the learned ones. A part of share 0 learns nothing."""
    normalise: bool = True
    """Whether the part has a fixed length, so that its score is a cosine. Only a single part may have none."""

    def __post_init__(self) -> None:
        _check_range(self, 1, "width")
        if self.share != "learned" and not 0 <= self.share < math.inf:
            raise ValueError(f"share: {self.share}, wanted 0 or more, or learned")
        self._check_sides()
        for side, transformer in (("text", self.text.transformer), ("photo", self.photo.transformer)):
            if transformer is not None and transformer.checkpoint is None and self.width % transformer.heads:
                raise ValueError(
                    f"{side}.transformer.heads: {transformer.heads}, must divide width {self.width}"
                )

    @property
    def reads(self) -> Reads:
        """What of a product the part reads."""
        return "pretrained" if self.pretrained else "title" if self.title is not None else "photo"

    def _check_sides(self) -> None:
        no_text, no_photo = self.text == TextSideRecipe(), self.photo == PhotoSideRecipe()
        if self.pretrained:
            if not (no_text and no_photo and self.title is None and self.width == PartRecipe.width):
                raise ValueError("pretrained: true, so text, photo, title and width must be left out")
            if not self.normalise:
                raise ValueError("normalise: false, a pretrained part needs true")
            return
        if no_text:
            raise ValueError("text: empty, wanted words, transformer or both")
        if self.title is None and no_photo:
            raise ValueError("photo: empty, wanted linear, transformer or both; or a title instead")
        if self.title is not None and not no_photo:
            raise ValueError("title: beside a photo; a part reads one of them, so make it two parts")
        if self.title is not None and self.text.words is None:
            raise ValueError("title.words: they are those of the text side, which has none")


def _seed_parts() -> tuple[PartRecipe, ...]:
    text = TextSideRecipe(transformer=TransformerRecipe())
    return (PartRecipe(text, PhotoSideRecipe(transformer=RegionTransformerRecipe()), normalise=False),)


@dataclass(frozen=True)
class RegionsRecipe:
    """Which regions of a product are looked at. A product that would lose all of them keeps all."""

    skip: tuple[int, ...] = ()
    """Labels of regions that are left out; the competition's face, arm, hair, hand are 29 to 32."""
    largest: int | None = None
    """How many regions of largest area a product keeps; null: all."""

    def __post_init__(self) -> None:
        if self.largest is not None:
            _check_range(self, 1, "largest")


@dataclass(frozen=True)
class LossRecipe:
    """How wrong a batch is. The defaults are the seed's."""

    name: LossName = "sigmoid"
    """What compares the scores of a batch with what is right (model/losses.py)."""
    scale: float = 1.0
    """What scores are multiplied by (not in multi-similarity); learned unless the loss is sigmoid or focal."""
    masking: Masking = "none"
    """Which cells of a batch are not negatives: none; those of an equal text or product; known pairs too."""
    weighting: Weighting = "none"
    """How often a pair of weight w counts (prepare --weights): once, w times (linear), or log2(1 + w) times (log)."""

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale: {self.scale}, more than 0 is needed")


@dataclass(frozen=True)
class BatchesRecipe:
    """Which pairs a step takes."""

    size: int = 512
    """Pairs a step; what is left of an epoch is dropped."""
    order: Order = "shuffled"
    """Which pairs lie in one batch (data/batches.py). Neighbours are mined with the model itself, anew each epoch."""
    hard: float = 1.0
    """Share of the pairs that lie beside others like them, where the order is not shuffled."""
    chunk: int = 0
    """Pairs encoded at a time, scores in blocks: large batches in little memory; 0: all at once. Dropout is seeded by
    the chunk, so another chunk is another training."""
    shards_at_once: int = 0
    """Products files (about 1 GB each) whose pairs are shuffled together, for data larger than memory; 0: all."""

    def __post_init__(self) -> None:
        _check_range(self, 2, "size")  # in-batch negatives
        _check_range(self, 0, "chunk", "shards_at_once")
        if not 0 < self.hard <= 1:
            raise ValueError(f"hard: {self.hard}, above 0 and at most 1 is needed; none: order shuffled")
        if self.shards_at_once and self.order != "shuffled":
            raise ValueError(f"shards_at_once: {self.shards_at_once}, wants the order shuffled")


@dataclass(frozen=True)
class OptimiserRecipe:
    """How the weights follow the loss. The defaults are the seed's: Adam, a constant rate."""

    epochs: int = 14
    """How often every pair is seen."""
    learning_rate: float = 2e-5
    """Largest rate of Adam."""
    weight_decay: float = 0.0
    """Decoupled from the gradient (AdamW); 0 is Adam."""
    warmup: float = 0.0
    """Share of the steps in which the learning rate rises from 0."""
    schedule: Schedule = "constant"
    """How the rate goes on after the warm-up: stays, or falls to 0 as a half cosine."""
    gradient_clip: float = 0.0
    """Largest gradient norm; 0 clips nothing."""
    average: float = 0.0
    """Decay of the exponential mean of the weights that is validated and kept; 0: the weights themselves."""
    validations: float = 2.0
    """Validations an epoch; below 1 one every so many epochs."""
    keep: Keep = "valid"
    """Which weights are kept: the last; those best on held-out pairs of the training itself; or, as the seed does,
    those best on the validation set, whose score is then too good."""
    seed: int = 0
    """Of first weights, batches and dropout."""
    precision: Precision = "auto"
    """auto: bf16-mixed where the device has it, else 16-mixed on a CUDA device, float32 on a CPU."""
    compiled: bool = False
    """Whether torch.compile fuses small operations; worth it on a GPU only."""

    def __post_init__(self) -> None:
        _check_range(self, 1, "epochs")
        _check_range(self, 0, "weight_decay", "gradient_clip")
        _check_share(self, "warmup", "average")
        for name in ("learning_rate", "validations"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: {getattr(self, name)}, more than 0 is needed")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed: {self.seed}, from 0 to below 2^31 is needed")


@dataclass(frozen=True)
class LateRecipe:
    """Late interaction: a second score, words against regions, for pools and explanations."""

    width: int = 128
    """Values of a word's and a region's vector."""
    dropout: float = 0.5
    """Share of the values of a region dropped while training."""

    def __post_init__(self) -> None:
        _check_range(self, 1, "width")
        _check_share(self, "dropout")


@dataclass(frozen=True)
class TeacherRecipe:
    """How a model learns from a teacher's run (train --teacher)."""

    name: TeacherLoss = "kl"
    """kl: the teacher's softmax over the cells of a row that it knows; margin-mse: by how much one leads another."""
    share: float = 0.5
    """Of the loss; the rest is the usual one."""
    temperature: float = 0.5
    """What the teacher's scores, of standard deviation 1 a query, are divided by: lower is more sure."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share: {self.share}, above 0 and at most 1 is needed")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature: {self.temperature}, more than 0 is needed")


@dataclass(frozen=True)
class Recipe:
    """The choices of one training; the defaults are the winning solution's of KDD Cup 2020.

    Raises: ValueError naming the field whose value makes no sense.
    """

    text: TextRecipe = field(default_factory=TextRecipe)
    parts: tuple[PartRecipe, ...] = field(default_factory=_seed_parts)
    regions: RegionsRecipe = field(default_factory=RegionsRecipe)
    late: LateRecipe | None = None
    teacher: TeacherRecipe | None = None
    loss: LossRecipe = field(default_factory=LossRecipe)
    batches: BatchesRecipe = field(default_factory=BatchesRecipe)
    optimiser: OptimiserRecipe = field(default_factory=OptimiserRecipe)

    def __post_init__(self) -> None:
        if not any(part.share != "learned" and part.share > 0 for part in self.parts):
            raise ValueError("parts: at least one with a fixed share above 0 is needed")
        if len(self.parts) > 1 and not all(part.normalise for part in self.parts):
            raise ValueError("parts: several need normalise true")
        if self.loss.name in ("margin", "multi-similarity") and not self.parts[0].normalise:
            raise ValueError(f"loss.name: {self.loss.name} is one of cosines; parts.0.normalise must be true")
        if self.batches.chunk and self.late is not None:
            raise ValueError(
                "batches.chunk: late interaction takes a whole batch at once; chunk must be 0, or late null"
            )
        if self.batches.chunk and self.teacher is not None:
            raise ValueError(
                "batches.chunk: a teacher looks at a whole batch at once; chunk must be 0, or teacher null"
            )

    @property
    def text_transformers(self) -> dict[str, TransformerRecipe]:
        """The transformers of the text sides, by their dotted names."""
        named = {f"parts.{i}.text.transformer": part.text.transformer for i, part in enumerate(self.parts)}
        return {name: own for name, own in named.items() if own is not None}

    @property
    def photo_transformers(self) -> dict[str, RegionTransformerRecipe]:
        """The same of the photo sides."""
        named = {f"parts.{i}.photo.transformer": part.photo.transformer for i, part in enumerate(self.parts)}
        return {name: own for name, own in named.items() if own is not None}

    @property
    def needs_boxes(self) -> bool:
        """Whether regions must come with boxes, labels, and the number of their photo."""
        chosen = bool(self.regions.skip) or self.regions.largest is not None
        chosen = chosen or any(part.pretrained for part in self.parts)
        return chosen or any(transformer.boxes for transformer in self.photo_transformers.values())

    def to_yaml(self) -> str:
        """All fields as YAML, which `load_recipe` reads."""
        return yaml.safe_dump(_plain(dataclasses.asdict(self)), sort_keys=False)


def load_recipe(name: str, changes: Mapping[str, object] | None = None) -> Recipe:
    """The recipe of a name (`seed`, `small`, ...) or of a YAML file, with some fields changed.

    `changes` are values by dotted name, or texts as typed, read as YAML: `{"parts.0.width": 64, "late": "null"}`. A
    mapping replaces the whole group. Paths come out absolute.
    Raises: DataError with file and dotted field for an unknown recipe or field, or a wrong value.
    """
    fields = _fields_of(_file_of(name), ())
    for dotted, value in (changes or {}).items():
        typed = _parsed(value, dotted) if isinstance(value, str) else value
        _put(fields, dotted, _with_paths(typed, Path(), dotted.rpartition(".")[2]))
    path = TYPED if changes else Path(name)
    return read_group(Recipe, fields, path, "")


def _file_of(name: str, *, folder: Path = Path()) -> Path:
    path = folder / name if name.endswith((".yaml", ".yml")) or "/" in name else RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.yaml")))
        raise DataError(f"no such recipe; there are {known}, or give a .yaml file", path=name)
    return path


def _fields_of(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """What a recipe file sets, over what its base sets. `above`: the files whose base it is."""
    own = _with_paths(read_mapping(read_text(path), path), path.parent)
    inherited: dict[str, Any] = {}
    if BASE in own:
        base, chain = own.pop(BASE), (*above, path.resolve())
        if not isinstance(base, str):
            raise DataError(f"{base!r}, wanted a recipe's name or a .yaml file", path=path, field=BASE)
        try:
            file = _file_of(base, folder=path.parent)
        except DataError as error:
            raise DataError(str(error), path=path, field=BASE) from error
        if file.resolve() in chain:
            names = " -> ".join(link.name for link in (*chain, file))
            raise DataError(f"a circle: {names}", path=path, field=BASE)
        inherited = _fields_of(file, chain)
    fields = _over(inherited, own)
    read_group(Recipe, fields, path, "")  # refused here, where the file can be named
    return fields


def _over(inherited: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A file's own fields over the inherited ones: groups field by field, lists and values whole."""
    merged = dict(inherited)
    for key, value in own.items():
        before = merged.get(key)
        merged[key] = _over(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


def _put(fields: dict[str, Any], dotted: str, value: Any) -> None:
    """Sets the field of a dotted name, such as `parts.0.width`.

    Raises: DataError where the name leads through something that is not there.
    """
    *groups, last = dotted.split(".")
    place: Any = fields
    for depth, name in enumerate(groups):
        if depth == 0 and name not in fields:
            fields[name] = _plain(dataclasses.asdict(Recipe())).get(name)
        place = _step(place, name, ".".join(groups[: depth + 1]))
    if isinstance(place, list):
        _step(place, last, dotted)
        place[int(last)] = value
    else:
        place[last] = value


def _step(place: Any, name: str, so_far: str) -> Any:
    if isinstance(place, list):
        if not name.isdecimal() or int(name) >= len(place):
            raise DataError(f"wanted a number below {len(place)}", path=TYPED, field=so_far)
        return place[int(name)]
    below = place.get(name, {}) if isinstance(place, dict) else None
    if not isinstance(below, dict | list):
        raise DataError("not in this recipe; set it whole, as {field: value, ...}", path=TYPED, field=so_far)
    if isinstance(place, dict):
        place[name] = below
    return below


def _parsed(text: str, dotted: str) -> Any:
    return read_mapping(f"value: {text}", TYPED, field=dotted)["value"]


def _with_paths(value: Any, folder: Path, key: str = "") -> Any:
    """The same with every path absolute; links stay, for the name of what they lead to may say less."""
    if isinstance(value, dict):
        return {own: _with_paths(below, folder, str(own)) for own, below in value.items()}
    if isinstance(value, list):
        return [_with_paths(below, folder) for below in value]
    if key in PATHS and isinstance(value, str):
        return os.path.abspath(folder / value)  # noqa: PTH100 - Path.resolve follows links
    return value


Group = TypeVar("Group")


def read_group(kind: type[Group], values: Any, path: Path, dotted: str) -> Group:
    """The dataclass of a mapping. Raises: DataError with file and dotted field."""
    if not isinstance(values, dict):
        raise DataError(
            f"{values!r}, wanted fields: {', '.join(get_type_hints(kind))}", path=path, field=dotted or None
        )
    hints = get_type_hints(kind)
    typed = {}
    for key, value in values.items():
        name = f"{dotted}.{key}" if dotted else str(key)
        if key not in hints:
            raise DataError(f"no such field; there are {', '.join(hints)}", path=path, field=name)
        typed[key] = _convert(value, hints[key], path, name)
    required = [
        own.name
        for own in dataclasses.fields(kind)  # type: ignore[arg-type] # only dataclasses come here
        if own.default is dataclasses.MISSING and own.default_factory is dataclasses.MISSING
    ]
    for name in required:
        if name not in typed:
            raise DataError("missing", path=path, field=f"{dotted}.{name}")
    try:
        return kind(**typed)
    except ValueError as error:
        name, _, problem = str(error).partition(": ") if ": " in str(error) else ("", "", str(error))
        place = ".".join(part for part in (dotted, name) if part)
        raise DataError(problem, path=path, field=place) from error


def _convert(value: Any, hint: Any, path: Path, name: str) -> Any:
    """The value as the type of its field. Raises: DataError that says what was got and what is wanted."""
    if dataclasses.is_dataclass(hint):
        return read_group(hint, value, path, name)  # type: ignore[arg-type] # a class, not an instance
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise DataError(f"{value!r}, wanted a list", path=path, field=name)
        return tuple(_convert(item, get_args(hint)[0], path, f"{name}.{i}") for i, item in enumerate(value))
    if get_origin(hint) in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        matching = [kind for kind in kinds if get_origin(kind) is Literal and value in get_args(kind)]
        return _convert(value, (matching or kinds)[0], path, name)
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
        raise DataError(f"{value!r}, wanted {' or '.join(map(str, get_args(hint)))}", path=path, field=name)
    if hint is float and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-4 as text: it wants 1.0e-4
        except (TypeError, ValueError):
            pass
        except OverflowError as error:
            raise DataError("more than a float holds", path=path, field=name) from error
    if type(value) is hint:
        return value
    raise DataError(f"{value!r}, wanted {hint.__name__}", path=path, field=name)


def _plain(value: Any) -> Any:
    """The same without tuples, as YAML writes it."""
    if isinstance(value, dict):
        return {key: _plain(below) for key, below in value.items()}
    return [_plain(below) for below in value] if isinstance(value, tuple | list) else value


def _check_range(group: object, least: int, *names: str) -> None:
    for name in names:
        value = getattr(group, name)
        if not least <= value <= LARGEST:
            raise ValueError(f"{name}: {value}, from {least} to {LARGEST} is needed")


def _check_share(group: object, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(group, name) < 1:
            raise ValueError(f"{name}: {getattr(group, name)}, from 0 to below 1 is needed")
