"""How do words become vectors without torch? By the directory that `shopwindow export onnx` writes, an index's `text`.

```
text.json         format, sizes, rules of spelling, precision; the marker
text.onnx         tokens [texts, longest] and lengths [texts], or names [texts, most], or all -> vectors [texts, values]
tokenizer.json
keys.npy          where the text side has a bag: the numbers of its names, rising (int64)
tower.*           where it has a pretrained part (`exported_tower.py`): its vectors go into text.onnx
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
from shopwindow.model.exported_tower import ExportedTower, open_graph, open_tokenizer
from shopwindow.model.text_side import as_texts
from shopwindow.model.tokenizer_files import in_known_case, known_pieces

MARKER: Final = "text.json"
FORMAT: Final = "shopwindow text 1"
GRAPH: Final = "text.onnx"
KEYS: Final = "keys.npy"
TOKENIZER: Final = "tokenizer.json"
TEXTS_AT_ONCE: Final = 64
_FIELDS: Final = {
    "dimensions": int,
    "longest": int,
    "query_rules": list[str],
    "tower": bool,
    "bag": dict | None,
}
_MOST: Final = 2**20
_FIRST_PAIR: Final = np.int64(1 << 24)


class ExportedText:
    """The text half of an `Encoder`, a `TextSide`, from ONNX. Made by `load`; may be asked from several threads."""

    def __init__(
        self,
        card: dict[str, Any],
        session: Any,
        tokenizer: Tokenizer,
        keys: np.ndarray | None,
        pretrained: ExportedTower | None = None,
    ) -> None:
        self.dimensions: int = card["dimensions"]
        self.longest: int = card["longest"]
        self._rules = choose_query_rules(card["query_rules"])
        self._tower: bool = card["tower"]
        self._bag: dict[str, bool] | None = card["bag"]
        self._session = session
        self._tokenizer = tokenizer
        self._keys = keys
        self._pretrained = pretrained

    @classmethod
    def load(cls, path: str | Path, *, threads: int = 1) -> ExportedText:
        """Opens a directory that `shopwindow export onnx` wrote; the graph runs on so many threads.

        Raises: DataError naming file and field of what is missing or broken, ImportError without onnxruntime.
        """
        path = Path(path)
        card = _read_card(path)
        session = open_graph(path / GRAPH, threads=threads)
        found = session.get_outputs()[0].shape
        if found[-1:] != [card["dimensions"]]:
            problem = f"{card['dimensions']}, the graph gives {found}"
            raise DataError(problem, path=path / MARKER, field="dimensions")
        tokenizer = open_tokenizer(path / TOKENIZER)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        keys = _read_keys(path / KEYS) if card["bag"] else None
        pretrained = ExportedTower.load(path, threads=threads) if card.get("pretrained") else None
        return cls(card, session, tokenizer, keys, pretrained)

    def encode_texts(self, texts: str | Sequence[str]) -> Float32[np.ndarray, "*texts dimensions"]:
        """The vectors of texts, in their order; of one text the one vector. Those of `Bundle.encode_texts`, up to
        rounding. Raises: TypeError as `as_texts`."""
        asked = as_texts(texts)
        vectors = self.encode_tokens(self.tokenise(asked), asked)
        return vectors[0] if isinstance(texts, str) else vectors

    def encode_tokens(
        self,
        tokens: list[Int64[np.ndarray, " _"]],
        texts: list[str] | None = None,
    ) -> Float32[np.ndarray, "texts dimensions"]:
        """The vectors of texts from their tokens, in their order. `texts`: the same as typed, which a pretrained part
        reads.

        Raises: ValueError where it reads them and they are missing.
        """
        if self._pretrained is not None and texts is None:
            raise ValueError("a pretrained part reads words, not tokens: they are missing")
        out = np.empty((len(tokens), self.dimensions), np.float32)
        order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
        for start in range(0, len(order), TEXTS_AT_ONCE):
            rows = order[start : start + TEXTS_AT_ONCE]
            inputs = self._inputs([tokens[row] for row in rows])
            if self._pretrained is not None and texts is not None:
                inputs["pretrained"] = self._pretrained.encode_texts([texts[row] for row in rows])
            (out[rows],) = self._session.run(None, inputs)
        return out

    def knows(self, words: list[str]) -> list[bool]:
        """Of which words the model has learned something, as `Bundle.knows` says."""
        if self._pretrained is not None:
            return [True] * len(words)
        pieces = known_pieces(self._tokenizer, self.tokenise(words))
        if self._tower or self._keys is None:
            return [bool(some) for some in pieces]
        return [bool(np.isin(some, self._keys).any()) for some in pieces]

    def reads(self, tokens: Int64[np.ndarray, " tokens"]) -> bool:
        """Whether any token of a text stands for something; to a pretrained part all texts do."""
        return bool(self._pretrained or known_pieces(self._tokenizer, [tokens])[0])

    def tokenise(self, texts: list[str]) -> list[Int64[np.ndarray, " _"]]:
        """The tokens of each text, those of `Bundle.tokenise`."""
        by_rules = [normalise(text, self._rules) for text in texts] if self._rules else texts
        spelled = in_known_case(self._tokenizer, by_rules)
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
