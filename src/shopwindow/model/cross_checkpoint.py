"""How does a published cross-encoder, or a BERT, give a model its weights?

The original files of UNITER and Oscar are one dictionary of tensors each. Names are mapped to ours; sizes follow from
the tensors. A pickle is read by torch's reader of plain tensors alone (`weights_only`). Knows no bundle.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from shopwindow.files import DataError, check_ordinary
from shopwindow.model.checkpoint import BertCheckpoint
from shopwindow.model.cross import OSCAR_GEOMETRY, Kind
from shopwindow.model.cross_heads import KINDS, CrossModel, Head
from shopwindow.model.towers import EncoderSize

HEAD_WIDTH: Final = 64
"""Of every published model. Tensors do not tell it."""
_WORDS: Final = {
    "cls.predictions.transform.": "heads.words.transform.",
    "cls.predictions.bias": "heads.words.bias",
}
_NAMES: Final[dict[Kind, dict[str, str]]] = {
    "uniter": _WORDS
    | {
        "uniter.embeddings.": "body.embeddings.",
        "uniter.encoder.": "body.encoder.",
        "uniter.pooler.": "body.pooler.",
        "uniter.img_embeddings.img_linear.": "body.regions.features.",
        "uniter.img_embeddings.img_layer_norm.": "body.regions.features_norm.",
        "uniter.img_embeddings.pos_linear.": "body.regions.geometry.",
        "uniter.img_embeddings.pos_layer_norm.": "body.regions.geometry_norm.",
        "uniter.img_embeddings.mask_embedding.weight": "body.regions.mask",
        "uniter.img_embeddings.LayerNorm.": "body.regions.LayerNorm.",
        "rank_output.": "heads.rank.",
        "itm_output.": "heads.match.",
        "feat_regress.net.0.": "heads.features.transform.dense.",
        "feat_regress.net.2.": "heads.features.transform.LayerNorm.",
        "feat_regress.bias": "heads.features.bias",
        "region_classifier.net.0.": "heads.classes.transform.dense.",
        "region_classifier.net.2.": "heads.classes.transform.LayerNorm.",
        "region_classifier.net.3.": "heads.classes.out.",
    },
    "oscar": _WORDS
    | {
        "bert.embeddings.": "body.embeddings.",
        "bert.encoder.": "body.encoder.",
        "bert.pooler.": "body.pooler.",
        "bert.img_embedding.": "body.regions.features.",
        "bert.LayerNorm.": "body.regions.LayerNorm.",
        "classifier.": "heads.match.",
        "cls.seq_relationship.": "heads.contrast.",
    },
}
"""Beginnings of the originals' names, and of ours. Copies that the originals store of tied weights are not listed."""
_OLD_ENDINGS: Final = {"gamma": "weight", "beta": "bias"}


def own_name(name: str, kind: Kind) -> str | None:
    """Our name of an original parameter; None of one that no part of ours has.

    >>> own_name("uniter.img_embeddings.pos_linear.weight", "uniter")
    'body.regions.geometry.weight'
    """
    for theirs, ours in _NAMES[kind].items():
        if name.startswith(theirs):
            before, _, last = name.removeprefix(theirs).rpartition(".")
            rest = ".".join(part for part in (before, _OLD_ENDINGS.get(last, last)) if part)
            return ours + rest
    return None


def load_original(
    path: str | Path, kind: Kind, *, attention_heads: int | None = None, dropout: float = 0.1
) -> CrossModel:
    """The model of a file that the original code of UNITER or Oscar wrote, with the heads that it holds.

    UNITER's file without a rank head gives it that of matches. `attention_heads`: null is one for each 64 of the width.
    Tensors of tasks that are not ours are left aside.
    Raises: DataError for a file that is broken, or lacks a tensor of the encoder or part of a head; it names them.
    """
    path = Path(path)
    tensors = _own_tensors(_read(path), kind)
    try:
        model = _sized(tensors, kind, attention_heads, dropout)
    except KeyError as error:
        raise DataError(f"no {kind} model: {error.args[0]} is missing", path=path) from error
    except ValueError as error:
        raise DataError(str(error), path=path) from error
    if kind == "uniter" and "heads.match.weight" in tensors and "heads.rank.weight" not in tensors:
        tensors["heads.rank.weight"] = tensors["heads.match.weight"][1:]
        tensors["heads.rank.bias"] = tensors["heads.match.bias"][1:]
    wanted = model.state_dict()
    if missing := [name for name in wanted if name not in tensors]:
        raise DataError(f"{len(missing)} tensors are missing: {_listed(missing)}", path=path)
    for name, tensor in wanted.items():
        if tensors[name].shape != tensor.shape:
            raise DataError(
                f"shape {list(tensors[name].shape)}, wanted {list(tensor.shape)}", path=path, field=name
            )
    model.load_state_dict({name: tensors[name] for name in wanted})
    return model.eval()


def start_from_bert(model: CrossModel, path: str | Path) -> list[str]:
    """Gives a model the words, layers and pooler of a BERT checkpoint; the names of the encoder's tensors that stay.

    Raises: DataError where the checkpoint is none, lacks a layer, or has another size.
    """
    return BertCheckpoint(path).load_into(model.body)


def _own_tensors(tensors: Mapping[str, Tensor], kind: Kind) -> dict[str, Tensor]:
    """The tensors that we have, by our names, float32. Of UNITER's two mask rows one is always zero and left out."""
    named = ((own_name(name, kind), tensor) for name, tensor in tensors.items())
    own = {name: tensor.float() for name, tensor in named if name is not None}
    if "body.regions.mask" in own:
        own["body.regions.mask"] = own["body.regions.mask"][1]
    return own


def _sized(tensors: dict[str, Tensor], kind: Kind, attention_heads: int | None, dropout: float) -> CrossModel:
    """A model of the sizes that the tensors have. Raises: KeyError naming a tensor that is missing."""
    words = tensors["body.embeddings.word_embeddings.weight"]
    hidden = words.shape[1]
    layers = {name.split(".")[3] for name in tensors if name.startswith("body.encoder.layer.")}
    heads: list[Head] = [head for head in KINDS[kind] if any(n.startswith(f"heads.{head}.") for n in tensors)]
    if kind == "uniter" and "match" in heads and "rank" not in heads:
        heads.append("rank")
    size = EncoderSize(
        hidden,
        max(1, len(layers)),
        attention_heads or max(1, hidden // HEAD_WIDTH),
        tensors["body.encoder.layer.0.intermediate.dense.weight"].shape[0],
        dropout,
    )
    features = tensors["body.regions.features.weight"].shape[1]
    return CrossModel(
        kind,
        size,
        feature_size=features - (OSCAR_GEOMETRY if kind == "oscar" else 0),
        vocabulary=words.shape[0],
        longest=tensors["body.embeddings.position_embeddings.weight"].shape[0],
        heads=heads,
        classes=tensors["heads.classes.out.weight"].shape[0] if "classes" in heads else 1,
        contrasts=tensors["heads.contrast.weight"].shape[0] if "contrast" in heads else 1,
        region_norm="body.regions.LayerNorm.weight" in tensors,
    )


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a pickle of nothing but tensors."""
    check_ordinary(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(
            f"broken, or more than tensors: {' '.join(str(error).split())[:200]}", path=path
        ) from error
    if not isinstance(values, Mapping) or not all(isinstance(one, Tensor) for one in values.values()):
        raise DataError("no dictionary of tensors", path=path)
    return dict(values)


def _listed(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
