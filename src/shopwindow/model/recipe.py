"""What are the choices of a training, and which of them differ from the seed's?

A recipe is a short YAML file of differences from the defaults, which are the seed, or from its `base`, another recipe.
Each field says its unit or range. Knows no tensor, so that the command line can check a recipe at once.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_type_hints

import yaml

from shopwindow.data.queries import choose_query_rules
from shopwindow.files import DataError, read_text
from shopwindow.model.effects import of_missing_parts, without_effect
from shopwindow.model.recipe_yaml import read_mapping

MOST: Final = {
    **dict.fromkeys(("hidden", "inner", "late", "common"), 1 << 16),
    **dict.fromkeys(("layers", "heads"), 1 << 10),
    **dict.fromkeys(("vocabulary", "batch_size", "chunk", "longest_query"), 1 << 24),
}
"""More than that no machine holds; of all other whole numbers 2^31 - 1."""

Loss = Literal["sigmoid", "softmax", "siglip", "margin", "multi-similarity", "focal"]
Side = Literal["bert", "bag", "bag+bert"]
Pool = Literal["first", "mean", "max"]
Look = Literal["unit", "standard"]
Weighting = Literal["none", "linear", "log"]
Schedule = Literal["constant", "cosine"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True)
class View:
    """One way in which a bag looks at a photo. It prints and parses as LOOK:POOLS, such as `unit:first+mean`."""

    look: Look
    pools: tuple[Pool, ...]

    @classmethod
    def parse(cls, text: str) -> View:
        """
        >>> View.parse("standard:first+max")
        View(look='standard', pools=('first', 'max'))

        Raises: ValueError for another look, another pool, a pool named twice.
        """
        look, _, named = text.strip().partition(":")
        pools = named.split("+")
        if (
            look not in get_args(Look)
            or len(set(pools)) < len(pools)
            or not set(pools) <= set(get_args(Pool))
        ):
            wanted = f"{' or '.join(get_args(Look))}, a colon, and {', '.join(get_args(Pool))} joined by +"
            raise ValueError(f"views: {text.strip()!r}, wanted {wanted}")
        return cls(look, tuple(pool for pool in get_args(Pool) if pool in pools))  # type: ignore[arg-type] # checked

    def __str__(self) -> str:
        return f"{self.look}:{'+'.join(self.pools)}"


RECIPES: Final = Path(__file__).parent / "recipes"
PATHS: Final = ("tokenizer", "text_from", "photo_from")
"""The fields that name a file or a directory."""
BASE: Final = "base"
"""The key of a file that names the recipe whose fields it changes."""


@dataclass(frozen=True)
class Recipe:
    """The choices of one training; the defaults are the winning solution's of KDD Cup 2020.

    Raises: ValueError naming the field whose value makes no sense.
    """

    hidden: int = 768
    """Size of the vectors, without a common part; divided by the number of views, width of both towers. Of text_from it
    is the checkpoint's width times the number of views."""
    layers: int = 4
    heads: int = 12
    inner: int = 3072
    dropout: float = 0.1
    text: Side = "bert"
    """What reads a query: a BERT tower, a bag of its names (words, pairs of words, the whole), or the bag and, through
    a gate that is 0 at first, the tower."""
    photo: Side = "bert"
    """What looks at a photo: a BERT tower over its regions, a linear map of its pooled regions, or both."""
    vocabulary: int = 28996
    """At most so many word pieces, where the tokenizer is trained."""
    words: Literal["pieces", "whole"] = "pieces"
    """What a trained tokenizer knows: pieces of words (WordPiece), or whole words only."""
    longest_query: int = 512
    """Tokens, [CLS] and [SEP] counted; longer queries are cut."""
    query_rules: str = ""
    """Names of rules of normalisation with commas (data/queries.py): lower,punctuation,plural ..."""
    tokenizer: str | None = None
    """A tokenizer.json, a vocab.txt, or a directory with one; none: trained on the training queries. Paths, those of
    the next two fields too, are relative to the recipe file's folder, or, typed, to where they are typed."""
    text_from: str | None = None
    """A BERT-family checkpoint directory that initialises the text tower (its size and tokenizer too)."""
    photo_from: str | None = None
    """A BERT-family checkpoint directory that initialises the layers of the photo tower."""
    features: Literal["raw", "sqrt"] = "raw"
    """How region features enter: as they are, or their square roots (they are not negative)."""
    selection: Literal["all", "goods", "largest"] = "all"
    """Which regions are looked at: all, without face, arm, hair and hand, or the largest ones."""
    largest: int = 4
    """How many regions a photo keeps where the largest are selected."""
    boxes: bool = False
    """Whether the photo's BERT tower is told where each region is and what the detector calls it."""
    readout: Literal["first", "cls", "attention"] = "first"
    """What of the photo's BERT tower speaks for it: the first region, a learned token, or a weighted mean."""
    views: str = "unit:first+mean"
    """How the bag looks at a photo, one view or several with commas; each has an equal share of the width, a loss of
    its own, and together they are one vector. A BERT tower stands beside the last view. A view is LOOK:POOLS. Looks:
    unit (square roots, regions and the pooled whole of length 1) or standard (values as they are, each divided by its
    standard deviation). Pools: first, mean and max of the regions, joined by +."""
    common: int = 0
    """Width of a part that all views share: words alone against the mean region (unit:mean). Its cosine, times a
    learned share, is added to each view's, so that it learns what they leave; 0: there is none."""
    pooled_dropout: float = 0.5
    """Share of the pooled values dropped while training."""
    pair_names: float = 0.5
    """Weight of pairs of neighbouring words among the names of a query, in the closed form of naming; without it only
    whether they are names: 0 or 1."""
    text_names: float = 1.0
    """The same of the whole query."""
    naming: float = 0.0
    """Ridge of the closed form that gives the bags their first weights (model/naming.py); 0: they are random."""
    naming_rare: float = 0.65
    """How much rare names count in it: an answer is weighted by count^-naming_rare."""
    naming_loss: float = 0.0
    """Weight of a second loss: the photo's vector must name the words of its query (multi-label)."""
    late: int = 0
    """Width of the late interaction's vectors; 0: there is none."""
    loss: Loss = "sigmoid"
    margin: float = 0.05
    """Of the cosine, where the loss is margin."""
    masking: Literal["none", "same", "known", "words"] = "none"
    """Which cells of a batch are no negatives (model/negatives.py)."""
    positives: Literal["diagonal", "all"] = "diagonal"
    """Which cells are right: the batch's pairs, or all that are known."""
    weighting: Weighting = "none"
    """How often a right cell counts in the loss, of a dataset whose pairs have weights w (prepare --weights): once
    (none), w times (linear), or log2(1 + w) times (log; for clicks: 1, 3 and 7 clicks count 1, 2 and 3 times). Right
    cells off the diagonal and known pairs too; the loss of names and the closed form take every pair once. Of the
    losses that are means over right cells (softmax, margin) only what pairs of a batch weigh beside each other matters;
    in the others much weight tips the balance against the wrong cells."""
    normalise: bool = False
    """Whether embeddings have length 1, so that scores are cosines."""
    scale: float = 1.0
    """What scores are multiplied with in the loss (not in multi-similarity); learned unless it is sigmoid or focal."""
    bias: float = 0.0
    """What is added to scores in the loss; learned where it is siglip, which wants some -10 to begin with."""
    order: Literal["shuffled", "nouns", "words", "attributes", "neighbours"] = "shuffled"
    """Which pairs lie in one batch (data/batches.py); neighbours are mined with the model itself, anew each epoch."""
    group: int = 8
    """Pairs that lie side by side for being alike."""
    hard: float = 1.0
    """Share of the pairs that lie in such groups, more than 0: with none the order is shuffled."""
    temper: float = 1.0
    """A text with n pairs keeps n^temper of them an epoch; at 0 each text has one."""
    shards_at_once: int = 0
    """Products files (about 1 GB each) whose pairs are shuffled together, for data larger than memory; 0: all."""
    word_dropout: float = 0.0
    """Probability with which each word of a training query is left out."""
    word_shuffle: float = 0.0
    """Probability with which the words before the head noun are put in another order."""
    batch_size: int = 512
    """Pairs a step; what is left of an epoch is dropped."""
    chunk: int = 0
    """Pairs encoded at a time, scores in blocks: large batches in little memory, each vector made twice; 0: all pairs
    at once. It is also what dropout is seeded by, so another chunk is another training."""
    share_masks: bool = False
    """Whether equal queries, and equal products, of a batch (a chunk) are encoded once where dropout is on too: they
    then share a mask. On a side without dropout they always are."""
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
    average: float = 0.0
    """Decay of the exponential mean of the weights that is validated and kept; 0: the weights themselves."""
    validations: float = 2.0
    """Validations an epoch; below 1 one every so many epochs."""
    seed: int = 0
    compiled: bool = False
    """Whether torch.compile fuses the small operations of the encoders; worth it on a GPU only."""
    precision: Precision = "auto"
    """auto: bf16-mixed where the device has it, else 16-mixed on a CUDA device, float32 on a CPU."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{field.name}: {value}, a finite number is needed")
            if isinstance(value, int) and value > (most := MOST.get(field.name, (1 << 31) - 1)):
                raise ValueError(f"{field.name}: more than {most:,}")
        for name in ("hidden", "layers", "heads", "inner", "vocabulary", "batch_size", "largest"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)}, at least 1 is needed")
        if self.batch_size < 2:
            raise ValueError("batch_size: in-batch negatives need at least 2 pairs")
        if self.longest_query < 3:
            raise ValueError(f"longest_query: {self.longest_query}, at least 3 ([CLS], a word, [SEP])")
        for name in ("learning_rate", "scale", "validations"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)}, more than 0 is needed")
        for name in ("dropout", "warmup", "pooled_dropout", "average", "word_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)}, from 0 to below 1 is needed")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed: {self.seed}, from 0 to below 2^31 is needed")
        if not 0 <= self.word_shuffle <= 1:
            raise ValueError(f"word_shuffle: {self.word_shuffle}, from 0 to 1 is needed")
        if not 0 < self.hard <= 1:
            raise ValueError(f"hard: {self.hard}, above 0 and at most 1 is needed; none: order shuffled")
        if self.shards_at_once < 0 or (self.shards_at_once and self.order != "shuffled"):
            raise ValueError(
                f"shards_at_once: {self.shards_at_once}, at least 0 is needed, with the order shuffled alone"
            )
        if not 0 <= self.temper <= 1:
            raise ValueError(f"temper: {self.temper}, from 0 to 1 is needed")
        if self.group < 2:
            raise ValueError(f"group: {self.group}, at least 2 is needed")
        for name in (
            "weight_decay",
            "adam_epsilon",
            "gradient_clip",
            "naming",
            "naming_rare",
            "naming_loss",
            "pair_names",
            "text_names",
            "late",
            "margin",
            "chunk",
            "common",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: {getattr(self, name)}, at least 0 is needed")
        self._check_parts()
        width = self.width if "bert" in self.text + self.photo else self.hidden
        if width % self.heads and not self.text_from:
            view = "" if width == self.hidden else f" / {len(self.view_list)} views"
            raise ValueError(f"heads: {self.heads} does not divide hidden {self.hidden}{view}")

    def _check_parts(self) -> None:
        """Fields that only make sense together."""
        views = self.view_list
        if self.hidden % len(views) and not self.text_from:
            raise ValueError(f"views: {len(views)}, they do not divide hidden {self.hidden}")
        bags = "bag" in self.text and "bag" in self.photo
        if len(views) > 1 and not (bags and self.normalise):
            raise ValueError("views: several need a bag on both sides, and normalise")
        if self.common and not (bags and self.normalise and self.epochs):
            raise ValueError("common: needs a bag on both sides, normalise, and at least one epoch")
        try:
            choose_query_rules(self.rule_names)
        except ValueError as error:
            raise ValueError(f"query_rules: {error}") from error
        if self.epochs < (0 if self.naming else 1):
            raise ValueError(
                f"epochs: {self.epochs}, at least 1 is needed (0 where naming gives the weights)"
            )
        if self.naming and not ("bag" in self.text and "bag" in self.photo):
            raise ValueError("naming: gives both bags their weights; text and photo must have one")
        if self.positives == "all" and self.masking == "none":
            raise ValueError(
                "positives: all, but masking none calls them negatives; choose same, known or words"
            )
        if self.naming_loss and "bag" not in self.text:
            raise ValueError("naming_loss: the names are those of the text's bag; text must have one")
        if (self.boxes or self.readout != "first") and "bert" not in self.photo:
            raise ValueError("boxes, readout: of the photo's BERT tower; photo must have one")
        if self.chunk and self.late:
            raise ValueError("chunk: late interaction takes a whole batch at once; one of them must be 0")
        if self.share_masks and (self.word_dropout or self.word_shuffle):
            raise ValueError(
                "share_masks: equal queries are worded differently; word_dropout, word_shuffle must be 0"
            )
        if self.loss in ("margin", "multi-similarity") and not self.normalise:
            raise ValueError(f"loss: {self.loss} is one of cosines; normalise must be true")

    @property
    def rule_names(self) -> tuple[str, ...]:
        """The names of the query rules."""
        return tuple(name.strip() for name in self.query_rules.split(",") if name.strip())

    @property
    def width(self) -> int:
        """Values of one view of a photo, and of a tower, which stands beside the last view."""
        return self.hidden // len(self.view_list)

    @property
    def view_list(self) -> tuple[View, ...]:
        """The views of the photo's bag, in their order.

        Raises: ValueError for one that is none.
        """
        return tuple(View.parse(text) for text in self.views.split(","))

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

    A file may say `base`: another recipe, a name or a path from the file's folder on, whose fields it changes.
    `changes` are values, or texts as typed, read as YAML: `{"hidden": 128}`, `{"hidden": "128"}`. Paths come out
    absolute: those of a file are relative to its folder, those of `changes` to the working directory. A field that is
    set and has no effect is refused; one that a change leaves without effect goes back to its default.
    Raises: DataError naming file and field for an unknown recipe, a misspelt field, a wrong or idle value.
    """
    fields = _fields(_file_of(name), ())
    own: dict[str, Any] = {}
    for key, text in (changes or {}).items():
        typed = read_mapping(f"{key}: {text}", Path("--set")) if isinstance(text, str) else {key: text}
        own |= _typed(typed, Path("--set"))
    return Recipe(**_over(fields, own, Path("--set"), Path()))


def _file_of(name: str, *, folder: Path = Path()) -> Path:
    path = folder / name if name.endswith((".yaml", ".yml")) or "/" in name else RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.yaml")))
        raise DataError(f"no such recipe; there are {known}, or give a .yaml file", path=name)
    return path


def _fields(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """What a recipe file sets: its base's fields, its own over them. `above`: the files whose base it is."""
    own = read_mapping(read_text(path), path)
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
            names = " -> ".join(one.name for one in (*chain, file))
            raise DataError(f"a circle: {names}", path=path, field=BASE)
        inherited = _fields(file, chain)
    return _over(inherited, _typed(own, path), path, path.parent)


def _over(inherited: dict[str, Any], own: dict[str, Any], path: Path, folder: Path) -> dict[str, Any]:
    """The inherited fields with a file's own over them, without those that have no effect; own paths are relative to
    the folder."""
    fields = inherited | own
    for name in of_missing_parts(fields.get("text", Recipe.text), fields.get("photo", Recipe.photo)) - set(
        own
    ):
        fields.pop(name, None)
    for name, says in without_effect(_checked(fields, path)).items():
        if name in own:
            raise DataError(f"{fields[name]!r} has no effect: {says}", path=path, field=name)
        del fields[name]
    return fields | {name: _located(folder / own[name]) for name in PATHS if own.get(name)}


def _located(path: Path) -> str:
    """Absolute; links stay, for the name of what they lead to may say less (blobs of a cache of checkpoints)."""
    return os.path.abspath(path)  # noqa: PTH100 - Path.resolve follows links


def _checked(fields: dict[str, Any], path: Path) -> Recipe:
    try:
        return Recipe(**fields)
    except ValueError as error:
        raise DataError(str(error), path=path) from error


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
        try:
            return float(value)
        except OverflowError as error:
            raise DataError("more than a float holds", path=path, field=key) from error
    if hint in (int, float, bool, str) and type(value) is hint:
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
