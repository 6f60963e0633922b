"""Are the files that a recipe names there and of the right kind, and do the devices fit it?

Asked before any data is opened, so that a wrong path costs no minute; so it imports no torch. What only the weights
themselves can tell (shapes, part of a layer) is checked when they are loaded, in `checkpoint.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from shopwindow.data.grouping import Order
from shopwindow.files import DataError, check_ordinary, parse_json, read_text, reading
from shopwindow.model.recipe import PartRecipe, TextRecipe, TransformerRecipe
from shopwindow.model.tokenizer_files import load_tokenizer, tokenizer_file

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
NORM_EPSILON: Final = 1e-12

_PREFIXES: Final = ("bert.", "model.", "encoder.bert.", "0.auto_model.")
_OLD_NAMES: Final = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
_SIZES: Final = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
)


def check_given(text: TextRecipe, parts: Sequence[PartRecipe]) -> None:
    """Raises: DataError naming the field of the recipe, the file and what is wrong with it."""
    vocabularies = {}
    for name, width, transformer in _transformers(parts):
        if transformer.checkpoint is None:
            continue
        with of_field(f"{name}.checkpoint"):
            config = check_checkpoint(Path(transformer.checkpoint))
            if config["hidden_size"] != width:
                raise DataError(
                    f"{config['hidden_size']}, the part's width is {width}: set it to the checkpoint's",
                    path=Path(transformer.checkpoint) / CONFIG,
                    field="hidden_size",
                )
        if ".text." in name:
            vocabularies[transformer.checkpoint] = config["vocab_size"]
    given = text.tokenizer or next(iter(vocabularies), None)
    if given is not None:
        with of_field("text.tokenizer"):
            tokenizer = load_tokenizer(given)
            for checkpoint, vocabulary in vocabularies.items():
                check_pieces(tokenizer, vocabulary, checkpoint)


def hash_given(text: TextRecipe, parts: Sequence[PartRecipe]) -> str:
    """SHA-256 of what a training takes from the files that a recipe names; empty where it names none."""
    given = [
        (name, transformer.checkpoint)
        for name, _, transformer in _transformers(parts)
        if transformer.checkpoint is not None
    ]
    paths = [Path(folder) / file for _, folder in given for file in (CONFIG, WEIGHTS)]
    if spelled := text.tokenizer or next((folder for name, folder in given if ".text." in name), None):
        paths.append(tokenizer_file(spelled))
    whole = hashlib.sha256()
    check_ordinary(*paths)
    for path in paths:
        with reading(path), path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest() if paths else ""


def _transformers(parts: Sequence[PartRecipe]) -> Iterator[tuple[str, int, TransformerRecipe]]:
    """Dotted name, width and fields of each transformer, those of the text sides first."""
    for side in ("text", "photo"):
        for number, part in enumerate(parts):
            transformer: TransformerRecipe | None = getattr(part, side).transformer
            if transformer is not None:
                yield f"parts.{number}.{side}.transformer", part.width, transformer


def check_pieces(tokenizer: Tokenizer, vocabulary: int, checkpoint: str | Path) -> None:
    """Raises: DataError where a tokenizer has numbers that a checkpoint of so many pieces has no vectors for."""
    pieces = max(tokenizer.get_vocab().values()) + 1
    if pieces > vocabulary:
        raise DataError(
            f"the tokenizer has {pieces} pieces, the checkpoint {vocabulary}",
            path=checkpoint,
        )


def check_devices(devices: int, *, size: int, order: Order, late: bool) -> None:
    """Raises: DataError where so many devices cannot share batches of that size and order."""
    if devices < 1:
        raise DataError(f"{devices}, at least 1 is needed", field="devices")
    if devices > 1 and (late or order == "neighbours"):
        raise DataError("late interaction and the order neighbours need one device", field="devices")
    if size % devices:
        raise DataError(f"{devices}, they do not divide batches.size {size}", field="devices")


@contextlib.contextmanager
def of_field(name: str) -> Iterator[None]:
    """Has a DataError inside the block say which field of the recipe led to it."""
    try:
        yield
    except DataError as error:
        raise DataError(str(error), field=name) from error


def check_checkpoint(path: Path) -> dict[str, Any]:
    """The configuration of a BERT-family checkpoint directory whose weights are there, with all of its layers.

    Raises: DataError naming the file, and the field of the configuration that is missing or cannot be honoured.
    """
    config = _read_config(path)
    weights = path / WEIGHTS
    if not weights.is_file():
        pickled = (path / "pytorch_model.bin").is_file()
        hint = "; pytorch_model.bin is a pickle, which is never loaded: save it as safetensors"
        raise DataError(f"missing{hint if pickled else ''}", path=weights)
    try:
        with safe_open(weights, framework="numpy") as file:
            names = {bert_name(name) for name in file.keys()}  # noqa: SIM118 - no dictionary
    except (SafetensorError, OSError) as error:
        raise DataError(f"broken weights: {error}", path=weights) from error
    for layer in range(config["num_hidden_layers"]):
        prefix = f"encoder.layer.{layer}"
        if not any(name.startswith(f"{prefix}.") for name in names):
            raise DataError(
                f"the checkpoint lacks it, {CONFIG} says {config['num_hidden_layers']} layers",
                path=weights,
                field=prefix,
            )
    return config


def bert_name(name: str) -> str:
    """A parameter's name as BERT's own classes have it.

    >>> bert_name("bert.encoder.layer.0.output.LayerNorm.gamma")
    'encoder.layer.0.output.LayerNorm.weight'
    """
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    for old, new in _OLD_NAMES.items():
        if name.endswith(old):
            name = name.removesuffix(old) + new
    return name


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not folder.is_dir():
        problem = "a file, a checkpoint is a directory" if folder.exists() else "no such checkpoint directory"
        raise DataError(problem, path=folder)
    config = parse_json(read_text(path), path)
    if not isinstance(config, dict):
        raise DataError("no JSON object", path=path)
    for field in _SIZES:
        value = config.get(field)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise DataError(
                f"{value!r}, wanted an integer above 0: no BERT configuration", path=path, field=field
            )
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    if hidden % heads:
        raise DataError(f"{heads} must divide hidden_size {hidden}", path=path, field="num_attention_heads")
    honoured = {
        "hidden_act": ("gelu", config.get("hidden_act", "gelu")),
        "position_embedding_type": ("absolute", config.get("position_embedding_type", "absolute")),
        "layer_norm_eps": (NORM_EPSILON, config.get("layer_norm_eps", NORM_EPSILON)),
    }
    for field, (ours, theirs) in honoured.items():
        if theirs != ours:
            raise DataError(f"{theirs!r}, only {ours!r} is built here", path=path, field=field)
    return config
