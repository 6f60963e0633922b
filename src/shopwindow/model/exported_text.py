"""How do words become vectors where there is no torch? By the directory that `shopwindow export onnx` writes.

```
text.json         format, sizes, rules of spelling, precision; the marker
text.onnx         tokens [texts, longest] and lengths [texts], or names [texts, most], or all -> vectors [texts, values]
tokenizer.json
keys.npy          where the text side has a bag: the numbers of its names, rising (int64)
```

Everything outside the graph is here: spelling, tokens, and which rows of the bag's table a query's names are. Needs
numpy, tokenizers and onnxruntime; another language needs these hundred lines. Knows no bundle and no photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, Int64
from tokenizers import Tokenizer

from shopwindow.data.queries import choose_query_rules, composed, normalise
from shopwindow.files import DataError, check_fields, read_card

MARKER: Final = "text.json"
FORMAT: Final = "shopwindow text 1"
GRAPH: Final = "text.onnx"
KEYS: Final = "keys.npy"
TOKENIZER: Final = "tokenizer.json"
TEXTS_AT_ONCE: Final = 64
_FIELDS: Final = {"dimensions": int, "longest": int, "query_rules": list, "tower": bool, "bag": dict | None}
_MOST: Final = 2**20
_FIRST_PAIR: Final = np.int64(1 << 24)


class ExportedText:
    """The text half of an `Encoder`, from ONNX. Made by `load`; may be asked from several threads."""

    def __init__(
        self, card: dict[str, Any], session: Any, tokenizer: Tokenizer, keys: np.ndarray | None
    ) -> None:
        self.dimensions: int = card["dimensions"]
        self.longest: int = card["longest"]
        self._rules = choose_query_rules(card["query_rules"])
        self._tower: bool = card["tower"]
        self._bag: dict[str, bool] | None = card["bag"]
        self._session = session
        self._tokenizer = tokenizer
        self._keys = keys

    @classmethod
    def load(cls, path: str | Path, *, threads: int = 1) -> ExportedText:
        """Opens a directory that `shopwindow export onnx` wrote; the graph runs on so many threads.

        Raises: DataError naming file and field of what is missing or broken, ImportError without onnxruntime.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError("ONNX needs the extra `onnx`: pip install 'shopwindow[onnx]'") from error
        path = Path(path)
        card = _read_card(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        try:
            session = onnxruntime.InferenceSession(
                str(path / GRAPH), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the library has its own class for every fault
            raise DataError(f"no graph: {' '.join(str(error).split())[:200]}", path=path / GRAPH) from error
        try:
            tokenizer = Tokenizer.from_file(str(path / TOKENIZER))
        except Exception as error:  # the library raises bare Exception for every broken file
            raise DataError(f"no tokenizer file: {error}", path=path / TOKENIZER) from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(card, session, tokenizer, _read_keys(path / KEYS) if card["bag"] else None)

    def encode_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "texts dimensions"]:
        """The vectors of texts, in their order; those of `Bundle.encode_texts`, up to rounding."""
        return self.encode_tokens(self._tokenise(texts))

    def encode_tokens(self, tokens: list[Int64[np.ndarray, " _"]]) -> Float32[np.ndarray, "texts dimensions"]:
        """The vectors of texts from their tokens, those of `Bundle.tokenise`, in their order."""
        out = np.empty((len(tokens), self.dimensions), np.float32)
        order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
        for start in range(0, len(order), TEXTS_AT_ONCE):
            rows = order[start : start + TEXTS_AT_ONCE]
            (out[rows],) = self._session.run(None, self._inputs([tokens[row] for row in rows]))
        return out

    def _tokenise(self, texts: Sequence[str]) -> list[Int64[np.ndarray, " _"]]:
        spelled = [normalise(text, self._rules) for text in texts] if self._rules else list(texts)
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(list(map(composed, spelled)))]
        longest = self.longest
        return [
            np.array(ids if len(ids) <= longest else [*ids[: longest - 1], ids[-1]], np.int64) for ids in rows
        ]

    def _inputs(self, tokens: list[Int64[np.ndarray, " _"]]) -> dict[str, np.ndarray]:
        inputs = {}
        if self._tower:
            inputs["tokens"] = _padded(tokens, 0)
            inputs["lengths"] = np.array([len(row) for row in tokens], np.int64)
        if self._bag is not None and self._keys is not None:
            names_of_texts = [names_of(row, pairs=self._bag["pairs"]) for row in tokens]
            # One row more than there are names: zeros, for what pads and for names that are not known.
            inputs["names"] = _padded(
                [_rows_of(names, self._keys) for names in names_of_texts], len(self._keys)
            )
        return inputs


def names_of(tokens: Int64[np.ndarray, " tokens"], *, pairs: bool) -> Int64[np.ndarray, " names"]:
    """The names in one query as numbers, as `bags.names_of` has them.

    >>> names_of(np.array([2, 7, 3]), pairs=True).tolist()
    [2, 7, 3, 50331655, 134217731]
    """
    return np.concatenate([tokens, (tokens[:-1] + 1) * _FIRST_PAIR + tokens[1:]]) if pairs else tokens


def _rows_of(
    names: Int64[np.ndarray, " names"], keys: Int64[np.ndarray, " keys"]
) -> Int64[np.ndarray, " names"]:
    rows = np.minimum(np.searchsorted(keys, names), len(keys) - 1)
    return np.where(keys[rows] == names, rows, len(keys))


def _padded(rows: list[Int64[np.ndarray, " _"]], filling: int) -> Int64[np.ndarray, "texts longest"]:
    out = np.full((len(rows), max(map(len, rows))), filling, np.int64)
    for place, row in zip(out, rows, strict=True):
        place[: len(row)] = row
    return out


def _read_card(path: Path) -> dict[str, Any]:
    if not (path / MARKER).is_file():
        raise DataError(f"no exported text side (a directory with {MARKER})", path=path)
    card = read_card(path / MARKER, format=FORMAT, made_by="export onnx")
    check_fields(card, _FIELDS, path / MARKER)
    bag, rules = card["bag"], card["query_rules"]
    if bag is not None:
        check_fields(bag, {"pairs": bool}, path / MARKER)
    for field in ("dimensions", "longest"):
        if not 0 < card[field] < _MOST:
            raise DataError(
                f"{str(card[field])[:40]}, from 1 to {_MOST} was wanted", path=path / MARKER, field=field
            )
    try:
        choose_query_rules(rules)
    except ValueError as error:
        raise DataError(str(error)[:200], path=path / MARKER, field="query_rules") from error
    return card


def _read_keys(path: Path) -> Int64[np.ndarray, " keys"]:
    try:
        keys: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"broken or missing: {error}", path=path) from error
    if keys.ndim != 1 or keys.dtype != np.int64 or len(keys) == 0:
        raise DataError(f"{keys.dtype} of shape {list(keys.shape)}, wanted a row of int64", path=path)
    return keys
