"""How do words become the vectors of a pretrained text tower where there is no torch? By what `export onnx` writes.

```
tower.json             settings of the tokens; the marker
tower.onnx             input_ids and, where asked for, attention_mask [texts, tokens] -> unit vectors [texts, values]
tower-tokenizer.json
```

It reads the words as typed, as `PretrainedTexts` does. Needs numpy, tokenizers and onnxruntime.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float32
from tokenizers import Tokenizer

from shopwindow.files import DataError, read_card

TOWER: Final = "tower.json"
TOWER_FORMAT: Final = "shopwindow text tower 1"
TOWER_GRAPH: Final = "tower.onnx"
TOWER_TOKENIZER: Final = "tower-tokenizer.json"
_FIELDS: Final = {"longest": int, "padding": int, "padding_side": str, "always_longest": bool, "values": int}
_TEXTS_AT_ONCE: Final = 64


class ExportedTower:
    """A `TextEncoder` from ONNX; may be asked from several threads."""

    def __init__(self, card: dict[str, Any], session: Any, tokenizer: Tokenizer) -> None:
        self.values: int = card["values"]
        self._session = session
        self._inputs = [one.name for one in session.get_inputs()]
        self._tokenizer = tokenizer
        tokenizer.enable_truncation(card["longest"])
        length = card["longest"] if card["always_longest"] else None
        tokenizer.enable_padding(direction=card["padding_side"], pad_id=card["padding"], length=length)

    @classmethod
    def load(cls, path: str | Path, *, threads: int = 1) -> ExportedTower:
        """Opens a directory that holds a tower; the graph runs on so many threads.

        Raises: DataError naming file and field of what is missing or broken, ImportError without onnxruntime.
        """
        path = Path(path)
        card = read_card(path / TOWER, format=TOWER_FORMAT, made_by="export onnx")
        for name, kind in _FIELDS.items():
            if type(card.get(name)) is not kind or (kind is int and card[name] < 0):
                raise DataError("missing, or of another kind", path=path / TOWER, field=name)
        if card["padding_side"] not in ("left", "right"):
            raise DataError("is neither left nor right", path=path / TOWER, field="padding_side")
        session = open_graph(path / TOWER_GRAPH, threads=threads)
        return cls(card, session, open_tokenizer(path / TOWER_TOKENIZER))

    def encode_texts(self, texts: list[str]) -> Float32[np.ndarray, "texts values"]:
        """Unit vectors; a text longer than the tower takes is cut."""
        out = np.empty((len(texts), self.values), np.float32)
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for start in range(0, len(order), _TEXTS_AT_ONCE):
            rows = order[start : start + _TEXTS_AT_ONCE]
            found = self._tokenizer.encode_batch([texts[row] for row in rows])
            tokens = {
                "input_ids": np.array([one.ids for one in found], np.int64),
                "attention_mask": np.array([one.attention_mask for one in found], np.int64),
            }
            (out[rows],) = self._session.run(None, {name: tokens[name] for name in self._inputs})
        return out


def open_graph(path: Path, *, threads: int) -> Any:
    """A session of onnxruntime. Raises: DataError for what is no graph, ImportError without onnxruntime."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("ONNX needs the extra `onnx`: pip install 'shopwindow[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library has its own class for every fault
        raise DataError(f"no graph: {' '.join(str(error).split())[:200]}", path=path) from error


def open_tokenizer(path: Path) -> Tokenizer:
    """Raises: DataError for what is no tokenizer file."""
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for every broken file
        raise DataError(f"no tokenizer file: {error}", path=path) from error
