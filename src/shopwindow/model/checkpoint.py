"""How do a BERT checkpoint and a tower become each other?

Reads and writes the directory form that the BERT family shares: config.json, model.safetensors,
vocabulary. Only safetensors: no pickle is ever loaded. Knows no bundle.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from shopwindow.files import DataError, check_ordinary, whole_directory
from shopwindow.model.given import CONFIG, WEIGHTS, bert_name, check_checkpoint
from shopwindow.model.tokenizer_files import TOKENIZER_FILE, VOCABULARY_FILE
from shopwindow.model.towers import NORM_EPSILON, EncoderSize, PhotoTower, TextTower

PROJECTION: Final = "projection.safetensors"
TOWER: Final = "shopwindow.json"


class BertCheckpoint:
    """A BERT-family checkpoint directory, opened: its sizes and its tensors by BERT's names.

    Raises: DataError naming the file and the field that is missing or cannot be honoured.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        config = check_checkpoint(self.path)
        self.size = EncoderSize(
            hidden=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            inner=config["intermediate_size"],
            dropout=float(config.get("hidden_dropout_prob", 0.1)),
        )
        self.vocabulary: int = config["vocab_size"]
        self.longest: int = config["max_position_embeddings"]
        self._tensors = _read_tensors(self.path / WEIGHTS)

    def load_into(self, tower: nn.Module) -> list[str]:
        """Copies what the tower can take; gives the names of its parameters that the checkpoint lacks.

        A photo tower takes layers, pooler and LayerNorm. Raises: DataError for a tensor of another shape,
        or when an encoder layer is missing.
        """
        missing = []
        with torch.no_grad():
            for name, parameter in tower.named_parameters():
                tensor = self._tensors.get(name)
                if tensor is None:
                    missing.append(name)
                elif tensor.shape != parameter.shape:
                    raise DataError(
                        f"shape {list(tensor.shape)}, the tower has {list(parameter.shape)}",
                        path=self.path / WEIGHTS,
                        field=name,
                    )
                else:
                    parameter.copy_(tensor)
        if lacking := [name for name in missing if name.startswith("encoder.")]:
            raise DataError("the checkpoint lacks it", path=self.path / WEIGHTS, field=lacking[0])
        return missing


def write_tower(tower: TextTower | PhotoTower, tokenizer: Tokenizer, path: str | Path) -> None:
    """Writes a tower as a checkpoint directory that `transformers.BertModel.from_pretrained` opens.

    The photo tower's layers go with word, position and type embeddings of zeros: feed it `inputs_embeds` =
    the regions through the linear map in `projection.safetensors`. The directory appears whole or not at all.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tower.state_dict().items()}
    with whole_directory(path, marker=TOWER) as folder:
        if isinstance(tower, TextTower):
            vocabulary, longest = tower.vocabulary, tower.longest
            tokenizer.save(str(folder / TOKENIZER_FILE))
            words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
            lines = "".join(f"{word}\n" for word, _ in words)
            (folder / VOCABULARY_FILE).write_text(lines, encoding="utf-8")
        else:
            vocabulary, longest = 1, 512
            projection = {name: tensors.pop(name) for name in list(tensors) if name.startswith("projection.")}
            write_tensors(projection, folder / PROJECTION)
            for name, rows in (("word", vocabulary), ("position", longest), ("token_type", 2)):
                tensors[f"embeddings.{name}_embeddings.weight"] = torch.zeros(rows, tower.size.hidden)
        write_tensors(tensors, folder / WEIGHTS)
        config = _config(tower.size, vocabulary=vocabulary, longest=longest)
        (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        (folder / TOWER).write_text(json.dumps({"format": "shopwindow tower 1"}) + "\n", encoding="utf-8")


def check_weighed(build: Callable[[], nn.Module], path: Path) -> None:
    """Builds a model without memory, to learn whether its weights are no more than a file of weights holds.

    Raises: ValueError where they are more, and what `build` raises.
    """
    with torch.device("meta"), _WithoutDrawing():  # takes no memory, whatever a card says
        values = sum(tensor.numel() for tensor in build().state_dict().values())
    held = path.stat().st_size if path.is_file() else values
    if values > held:
        raise ValueError(f"{values:,} values, {path.name} has {held:,} bytes")


class _WithoutDrawing(TorchFunctionMode):
    """Tensors on `meta` get no initial values: to draw or count them there torch imports sympy, for half a second."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """What the function gives, an empty tensor for `arange`, the tensor itself for `normal_`."""
        if func is torch.arange:
            return torch.empty(*args, dtype=torch.int64, device="meta")
        if func in (Tensor.normal_, nn.init.normal_):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def load_weights(module: nn.Module, path: Path) -> None:
    """Fills a module with the tensors of a safetensors file, all of them and no others.

    Raises: DataError where the file is broken or holds other names or shapes.
    """
    check_ordinary(path)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"broken or missing weights: {error}", path=path) from error
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise DataError(f"weights do not fit: {' '.join(str(error).split())[:300]}", path=path) from error


def save_weights(module: nn.Module, path: Path) -> None:
    """Writes a module's tensors as safetensors."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    write_tensors(tensors, path)


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Writes tensors as safetensors, as an ordinary file: a full disk is an OSError, the mode is the usual one."""
    path.write_bytes(save(tensors, metadata={"format": "pt"}))


def _config(size: EncoderSize, *, vocabulary: int, longest: int) -> dict[str, Any]:
    return {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": size.inner,
        "hidden_act": "gelu",
        "hidden_dropout_prob": size.dropout,
        "attention_probs_dropout_prob": size.dropout,
        "layer_norm_eps": NORM_EPSILON,
        "max_position_embeddings": longest,
        "type_vocab_size": 2,
        "vocab_size": vocabulary,
        "pad_token_id": 0,
    }


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"broken weights: {error}", path=path) from error
    return {bert_name(name): tensor for name, tensor in tensors.items()}
