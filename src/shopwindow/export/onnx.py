"""How does the text side of a model become an ONNX graph?

Built node by node, with the operators' own names, from the weights: padded inside (a graph knows no packing), the last
layer for the first token alone, as the towers do it. `exported_text.py` reads what is written here. Knows no photos.

Source: https://onnx.ai/onnx/operators/ (opset 20).

Legend of axes: texts, tokens = of the longest text, names = of the text with the most.
"""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float32
from tokenizers import Tokenizer
from torch import Tensor

from shopwindow.files import whole_directory
from shopwindow.model.bags import WordBag
from shopwindow.model.bundle import Bundle
from shopwindow.model.encoder import PartsEncoder
from shopwindow.model.exported_text import FORMAT, GRAPH, KEYS, MARKER, TOKENIZER, ExportedText
from shopwindow.model.pretrained import PretrainedTexts
from shopwindow.model.towers import NORM_EPSILON, Layer, TextTower

_OPSET: Final = 20
_IR_VERSION: Final = 10
_MOST_BYTES: Final = 2**31 - 2**20
"""What one ONNX file may have."""


ALLOWED: Final = {"float32": 1e-3, "int8": 1e-2}
"""The most that 1 - cosine may be of any text tried."""
_TRIED: Final = 256
_MOST_WORDS: Final = 8


@dataclass(frozen=True)
class Apart:
    """How far exported vectors point from the bundle's: the largest and the mean of 1 - cosine, over so many texts."""

    worst: float
    mean: float
    texts: int


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """onnxruntime tells the root logger that graphs should be optimised first: ours is written as it should be."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def export_text(bundle: Bundle, path: str | Path, *, int8: bool = False) -> Apart:
    """Writes the text side of a bundle as a directory, whole or not at all, as `write_text_side` says.

    Raises: as `write_text_side`, DataError as `whole_directory`.
    """
    with whole_directory(path, marker=MARKER) as folder:
        return write_text_side(bundle, folder, int8=int8)


def write_text_side(bundle: Bundle, folder: Path, *, int8: bool = False) -> Apart:
    """Fills an empty folder for `ExportedText` with the text side of a bundle; its vectors are those of
    `encode_texts`. Gives how nearly: it is opened and asked for texts of 1 to 8 words of the vocabulary, drawn at
    random.

    `int8`: tables by rows, matrices by columns (7 bits, so that no processor's sums overflow), what flows through them
    at run time, by the largest value of a batch: a text's vector then depends a little on its company.

    The text tower of a pretrained part stands beside as `export_tower` writes it, in float32.

    Raises: ImportError without the extra `onnx`, ValueError for a pretrained text tower that cannot be exported, for
    more than 2 GiB or a text whose vector is further off than `ALLOWED`.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError("ONNX needs the extra `onnx`: pip install 'shopwindow[onnx]'") from error
    model = bundle.model
    if model.pretrained_texts:
        _export_pretrained(model, folder)
    graph = _Graph(onnx, int8=int8)
    _text_side(graph, model)
    made = graph.model(model.dimensions)
    if made.ByteSize() > _MOST_BYTES:
        raise ValueError(f"the graph has {made.ByteSize()} bytes; one ONNX file holds 2 GiB")
    if int8 and model.text_towers:
        from onnxruntime import quantization

        with tempfile.NamedTemporaryFile(suffix=".onnx") as whole:
            onnx.save(made, whole.name)
            with _without_advice():
                quantization.quantize_dynamic(
                    whole.name,
                    folder / GRAPH,
                    op_types_to_quantize=["MatMul"],
                    per_channel=True,
                    reduce_range=True,
                    extra_options={"MatMulConstBOnly": True},
                )
    else:
        onnx.save(made, folder / GRAPH)
    bundle.tokenizer.save(str(folder / TOKENIZER))
    if model.names is not None:
        np.save(folder / KEYS, _array(model.names.keys), allow_pickle=False)
    precision = "int8" if int8 else "float32"
    card = {"format": FORMAT, **_card(model), "precision": precision}
    (folder / MARKER).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    texts = some_texts(bundle.tokenizer)
    apart = how_far_apart(ExportedText.load(folder).encode_texts(texts), bundle.encode_texts(texts))
    if not apart.worst <= ALLOWED[precision]:
        raise ValueError(
            f"{precision}: the vector of a text is {apart.worst:.2g} off (1 - cosine; mean {apart.mean:.2g}), "
            f"at most {ALLOWED[precision]:g} is allowed; nothing was written"
        )
    return apart


def _export_pretrained(model: PartsEncoder, folder: Path) -> None:
    from shopwindow.vision.transformers import PhotoAndTextModel

    tower = model.pretrained_texts[0].tower
    if not isinstance(tower, PhotoAndTextModel):
        raise ValueError(
            "the text tower of the pretrained part is none of transformers, so it is not exported"
        )
    from shopwindow.export.text_tower import export_tower

    export_tower(tower, folder)


def some_texts(tokenizer: Tokenizer) -> list[str]:
    """Texts of 1 to 8 words of a vocabulary, drawn at random, each time the same."""
    rng = np.random.default_rng(0)
    words = sorted(word for word in tokenizer.get_vocab() if word.isalnum())
    return (
        [" ".join(rng.choice(words, rng.integers(1, _MOST_WORDS + 1))) for _ in range(_TRIED)]
        if words
        else []
    )


def how_far_apart(found: Float32[np.ndarray, "texts dim"], wanted: Float32[np.ndarray, "texts dim"]) -> Apart:
    """1 - cosine of vectors row by row; of a pair that is zero on both sides (no known word) nothing is counted."""
    one, other = found.astype(np.float64), wanted.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    counted = (one != 0).any(axis=1) | (other != 0).any(axis=1)
    cosines = (one * other).sum(axis=1)[counted] / np.maximum(lengths[counted], 1e-300)
    apart = np.maximum(1 - cosines, 0)  # not the -1e-16 of rounding
    if not len(apart):
        return Apart(0.0, 0.0, 0)
    return Apart(float(apart.max()), float(apart.mean()), len(apart))


def _card(model: PartsEncoder) -> dict[str, Any]:
    return {
        "dimensions": model.dimensions,
        "longest": model.longest,
        "query_rules": [rule.name for rule in model.query_rules],
        "tower": bool(model.text_towers),
        "bag": None if model.names is None else {"pairs": any(bag.pairs for bag in model.word_bags)},
        "pretrained": bool(model.pretrained_texts),
    }


class _Graph:
    """Nodes and weights of a graph that is being built. A value is known by its name."""

    def __init__(self, onnx: Any, *, int8: bool) -> None:
        self._onnx = onnx
        self._int8 = int8
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._inputs: list[Any] = []

    def input(self, name: str, *axes: str | int, floats: bool = False) -> str:
        """A tensor of int64, or of float32, that comes from outside."""
        kind = self._onnx.TensorProto.FLOAT if floats else self._onnx.TensorProto.INT64
        self._inputs.append(self._onnx.helper.make_tensor_value_info(name, kind, list(axes)))
        return name

    def constant(self, values: Any, kind: type = np.float32) -> str:
        """Weights, or a number."""
        name = f"w{len(self._weights)}"
        self._weights.append(self._onnx.numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def integers(self, *values: int) -> str:
        """A row of int64."""
        return self.constant(values, np.int64)

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """The one output of an operator."""
        name = f"v{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(operator, inputs, [name], **attributes))
        return name

    def rows(self, table: Float32[np.ndarray, "rows width"], chosen: str) -> str:
        """Rows of a table; as int8 each row has its own scale."""
        if not self._int8:
            return self.node("Gather", self.constant(table), chosen)
        scales = np.maximum(np.abs(table).max(axis=1, keepdims=True) / 127, 1e-30)
        codes = self.constant(np.rint(table / scales), np.int8)
        values = self.node("Cast", self.node("Gather", codes, chosen), to=self._onnx.TensorProto.FLOAT)
        return self.node("Mul", values, self.node("Gather", self.constant(scales), chosen))

    def model(self, dimensions: int) -> Any:
        """The finished model; its output is the last node's."""
        helper, floats = self._onnx.helper, self._onnx.TensorProto.FLOAT
        self._nodes[-1].output[0] = "vectors"
        out = helper.make_tensor_value_info("vectors", floats, ["texts", dimensions])
        graph = helper.make_graph(self._nodes, "text", self._inputs, [out], self._weights)
        imports = [helper.make_opsetid("", _OPSET)]
        made = helper.make_model(
            graph, opset_imports=imports, ir_version=_IR_VERSION, producer_name="shopwindow"
        )
        self._onnx.checker.check_model(made)
        return made


def _text_side(graph: _Graph, model: PartsEncoder) -> None:
    """`PartsEncoder.encode_text`."""
    names = None if model.names is None else graph.input("names", "texts", "names")
    tokens = lengths = None
    if model.text_towers:
        tokens, lengths = graph.input("tokens", "texts", "tokens"), graph.input("lengths", "texts")
    shares = model.shares().tolist()
    parts = []
    for part, share in zip(model.parts, shares, strict=True):
        vectors = ""
        for gate, component in zip([None, *part.text.gates], part.text.components, strict=True):
            if isinstance(component, WordBag):
                assert model.names is not None
                assert names is not None
                own = _bag(graph, component, names, len(model.names.keys))
            elif isinstance(component, PretrainedTexts):
                own = graph.input("pretrained", "texts", component.width, floats=True)
            else:
                assert isinstance(component, TextTower)
                assert tokens is not None
                assert lengths is not None
                own = _tower(graph, component, tokens, lengths)
            if gate is not None:
                own = graph.node("Mul", own, graph.constant(_array(gate)))
            vectors = graph.node("Add", vectors, own) if vectors else own
        parts.append(_unit(graph, vectors, share**0.5) if model.normalise else vectors)
    if len(parts) > 1:
        graph.node("Concat", *parts, axis=1)


def _unit(graph: _Graph, vectors: str, length: float) -> str:
    """Each made of so much length."""
    lengths = graph.node("ReduceL2", vectors, graph.integers(1), keepdims=1)
    unit = graph.node("Div", vectors, graph.node("Max", lengths, graph.constant(1e-12)))
    return graph.node("Mul", unit, graph.constant(length))


def _bag(graph: _Graph, bag: WordBag, names: str, count: int) -> str:
    """Names that the bag does not know, and what pads, are rows of zeros."""
    table = _array(bag.weight)
    zeros = np.zeros((count + 1 - len(table), table.shape[1]), np.float32)
    rows = graph.rows(np.vstack([table, zeros]), names)
    return graph.node("ReduceSum", rows, graph.integers(1), keepdims=0)


def _tower(graph: _Graph, tower: TextTower, tokens: str, lengths: str) -> str:
    longest = graph.node("Gather", graph.node("Shape", tokens), graph.integers(1))
    embeddings = tower.embeddings
    places = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
    first_places = graph.node(
        "Slice", graph.constant(_array(places)), graph.integers(0), longest, graph.integers(0)
    )
    hidden = graph.node("Add", graph.rows(_array(embeddings.word_embeddings.weight), tokens), first_places)
    hidden = _normed(graph, hidden, embeddings.LayerNorm)
    mask = _mask(graph, lengths, longest)
    *lower, last = tower.encoder.layer
    for layer in lower:
        hidden = _layer(graph, layer, hidden, hidden, mask)
    start, end, axis = graph.integers(0), graph.integers(1), graph.integers(1)
    first = _layer(graph, last, graph.node("Slice", hidden, start, end, axis), hidden, mask)
    return graph.node(
        "Tanh", _linear(graph, graph.node("Squeeze", first, graph.integers(1)), tower.pooler.dense)
    )


def _mask(graph: _Graph, lengths: str, longest: str) -> str:
    """0 where a text has a token, very low where it has none: [texts, 1, 1, tokens]."""
    end = graph.node("Squeeze", longest, graph.integers(0))
    places = graph.node("Range", graph.constant(0, np.int64), end, graph.constant(1, np.int64))
    there = graph.node("Less", places, graph.node("Unsqueeze", lengths, graph.integers(1)))
    cells = graph.node("Where", there, graph.constant(0.0), graph.constant(-1e30))
    return graph.node("Unsqueeze", cells, graph.integers(1, 2))


def _layer(graph: _Graph, layer: Any, asking: str, hidden: str, mask: str) -> str:
    assert isinstance(layer, Layer)
    attention = layer.attention
    heads = attention.self.heads
    width = attention.self.query.out_features // heads
    split = graph.integers(0, 0, heads, width)

    def projected(tokens: str, linear: Any, order: tuple[int, ...]) -> str:
        parts = graph.node("Reshape", _linear(graph, tokens, linear), split)
        return graph.node("Transpose", parts, perm=order)

    query = projected(asking, attention.self.query, (0, 2, 1, 3))
    key = projected(hidden, attention.self.key, (0, 2, 3, 1))
    value = projected(hidden, attention.self.value, (0, 2, 1, 3))
    asked = graph.node("Mul", graph.node("MatMul", query, key), graph.constant(width**-0.5))
    weights = graph.node("Softmax", graph.node("Add", asked, mask), axis=-1)
    mixed = graph.node("Transpose", graph.node("MatMul", weights, value), perm=(0, 2, 1, 3))
    mixed = _linear(graph, graph.node("Reshape", mixed, graph.integers(0, 0, -1)), attention.output.dense)
    attended = _normed(graph, graph.node("Add", asking, mixed), attention.output.LayerNorm)
    wide = graph.node("Gelu", _linear(graph, attended, layer.intermediate.dense))
    out = _linear(graph, wide, layer.output.dense)
    return _normed(graph, graph.node("Add", attended, out), layer.output.LayerNorm)


def _linear(graph: _Graph, values: str, linear: Any) -> str:
    product = graph.node("MatMul", values, graph.constant(_array(linear.weight).T.copy()))
    return graph.node("Add", product, graph.constant(_array(linear.bias)))


def _normed(graph: _Graph, values: str, norm: Any) -> str:
    weight, bias = graph.constant(_array(norm.weight)), graph.constant(_array(norm.bias))
    return graph.node("LayerNormalization", values, weight, bias, axis=-1, epsilon=NORM_EPSILON)


def _array(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array
