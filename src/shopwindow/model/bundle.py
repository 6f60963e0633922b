"""What is a trained model on disk, and how is it used again?

A bundle is a directory with everything that turns words and photos into vectors: weights, tokenizer,
sizes; and what a reader wants to know: recipe, provenance, scores, curves. Knows no training.

```
bundle.json         format, parts and sizes, backbone of the features, provenance, scores, audit of the validation set
model.safetensors   weights
tokenizer.json
recipe.yaml         how it was trained: all fields
curves.csv, .png    loss and score over the steps
modules.json        lets sentence-transformers open the directory (sentence_encoder.py)
```
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float32, Int64
from tokenizers import Tokenizer
from torch import nn

from shopwindow.data.dataset import Dataset
from shopwindow.data.regions import Regions, TitleTokens
from shopwindow.files import DataError, check_fields, check_whole, read_card, read_text, scores_of
from shopwindow.model.bags import Names, PooledRegions, TitleWords, WordBag
from shopwindow.model.checkpoint import check_weighed, load_weights, save_weights
from shopwindow.model.encoder import (
    Part,
    PartsEncoder,
    Side,
    encode_products,
    encode_regions,
    encode_texts,
    encode_tokens,
    knows,
    read_products,
    read_titles,
    tokenise,
)
from shopwindow.model.given import WEIGHTS
from shopwindow.model.late import LateInteraction
from shopwindow.model.pretrained import PretrainedTexts, TextEncoder, WholePhotos
from shopwindow.model.rank import rank_pools
from shopwindow.model.recipe import Reads
from shopwindow.model.rerankers import Reranker, own_reranker
from shopwindow.model.text_side import as_texts
from shopwindow.model.tokenizer_files import TOKENIZER_FILE, known_pieces, load_tokenizer
from shopwindow.model.towers import EncoderSize, PhotoTower, TextTower
from shopwindow.ranking.runs import Run

MARKER: Final = "bundle.json"
FORMAT: Final = "shopwindow bundle 3"
MODULES: Final = "modules.json"
_MODULES: Final = [
    {"idx": 0, "name": "0", "path": "", "type": "shopwindow.export.sentence_encoder.TextModule"}
]
_MODEL_FIELDS: Final = {
    "parts": list[dict],  # type: ignore[type-arg] # for isinstance, which takes no arguments of a type
    "query_rules": list[str],
    "skip": list[int],
    "largest": int | None,
    "names": int | None,
    "late": dict | None,
}
_BARE: Final[dict[type[nn.Module], str]] = {
    TitleWords: "title words",
    PretrainedTexts: "pretrained texts",
    WholePhotos: "whole photos",
}
"""The kinds of components that have no sizes of their own."""


@dataclass
class Bundle:
    """A trained model ready for use: an `Encoder`.

    `provenance`: what made it (dataset content hashes, steps, versions). `scores`: what it reached on the
    validation set, by measure. `audit`: what could be scored on that set without reading a query.
    """

    model: PartsEncoder
    tokenizer: Tokenizer
    recipe: str = "{}\n"
    provenance: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)
    _titles: WeakKeyDictionary[Dataset, TitleTokens | None] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False, compare=False
    )

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str | torch.device = "cpu",
        text_tower: TextEncoder | None = None,
    ) -> Bundle:
        """Opens a bundle; its parts are built from the sizes it holds, whatever recipes say today.

        `text_tower`: what a pretrained part reads texts with; None opens that of its backbone when a text comes.
        Raises: DataError naming file and field of a bundle that is missing, broken or of another format.
        """
        path = Path(path)
        card = _read_card(path)
        card = {"provenance": {}, "scores": {}, "audit": {}, **card}
        check_fields(card, {"provenance": dict, "audit": dict}, path / MARKER)
        backbone = card.get("backbone")
        if not isinstance(backbone, dict | None):
            raise DataError("not of the kind of a backbone", path=path / MARKER, field="backbone")
        model = _build_as_weighed(card.get("model"), path, backbone=backbone, text_tower=text_tower)
        load_weights(model, path / WEIGHTS)
        tokenizer = load_tokenizer(path / TOKENIZER_FILE)
        if max(tokenizer.get_vocab().values()) >= model.vocabulary:
            raise DataError(
                f"more pieces than the {model.vocabulary} of the model", path=path / TOKENIZER_FILE
            )
        return cls(
            model=model.to(device).eval(),
            tokenizer=tokenizer,
            recipe=read_text(path / "recipe.yaml"),
            provenance=card["provenance"],
            scores=scores_of(card, path / MARKER),
            audit=card["audit"],
        )

    def save_into(self, folder: Path) -> None:
        """Writes the bundle's files into a folder, its marker last."""
        save_weights(self.model, folder / WEIGHTS)
        self.tokenizer.save(str(folder / TOKENIZER_FILE))
        (folder / "recipe.yaml").write_text(self.recipe, encoding="utf-8")
        (folder / MODULES).write_text(json.dumps(_MODULES, indent=1) + "\n", encoding="utf-8")
        card = {
            "format": FORMAT,
            "model": describe(self.model),
            "backbone": self.model.backbone,
            "provenance": self.provenance,
            "scores": self.scores,
            "audit": self.audit,
        }
        (folder / MARKER).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")

    @property
    def dimensions(self) -> int:
        """Values of a vector."""
        return self.model.dimensions

    @property
    def longest(self) -> int:
        """The most tokens of a text."""
        return self.model.longest

    @property
    def backbone(self) -> dict[str, Any] | None:
        """The spec of what made the features that the model takes; None where that is not known."""
        return self.model.backbone

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over what determines the vectors: parts, their weights, spelling of texts, choice of regions."""
        whole = hashlib.sha256()
        card = {key: value for key, value in describe(self.model).items() if key != "late"}
        whole.update(json.dumps(card, sort_keys=True).encode())
        whole.update(self.tokenizer.to_str().encode())
        if self.backbone is not None:
            whole.update(str(self.backbone.get("fingerprint")).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            if name.startswith(("parts.", "names.")):
                whole.update(name.encode())
                whole.update(tensor.cpu().contiguous().numpy().tobytes())
        return whole.hexdigest()

    def encode_texts(self, texts: str | Sequence[str]) -> Float32[np.ndarray, "*texts values"]:
        """The vectors of queries, in their order; of one text the one vector. Raises: TypeError as `as_texts`."""
        vectors = encode_texts(self.model, self.tokenizer, as_texts(texts))
        return vectors[0] if isinstance(texts, str) else vectors

    def tokenise(self, texts: list[str]) -> list[Int64[np.ndarray, " _"]]:
        """The tokens of each text, as `encoder.tokenise` says."""
        return tokenise(self.model, self.tokenizer, texts)

    def encode_tokens(
        self, tokens: list[Int64[np.ndarray, " _"]], texts: list[str] | None = None
    ) -> Float32[np.ndarray, "texts hidden"]:
        """The vectors of texts from their tokens, as `encoder.encode_tokens` says."""
        return encode_tokens(self.model, tokens, texts)

    def encode_products(self, regions: Regions) -> Float32[np.ndarray, "products values"]:
        """The vectors of products in memory, in their order. Raises: ValueError as `encoder.encode_regions`."""
        return encode_regions(self.model, regions)

    def titles(self, dataset: Dataset) -> TitleTokens | None:
        """The titles of a dataset's products as the model reads them, tokenised once; None where it reads none."""
        if dataset not in self._titles:
            self._titles[dataset] = read_titles(self.model, self.tokenizer, dataset)
        return self._titles[dataset]

    def regions(self, dataset: Dataset, rows: Int64[np.ndarray, " products"]) -> Regions:
        """All that the model reads of products of a dataset."""
        return read_products(self.model, dataset, rows, self.titles(dataset))

    def only(self, *reads: Reads) -> Bundle:
        """The bundle of some of the parts, as `PartsEncoder.only` says: what photo or title alone are worth."""
        return Bundle(self.model.only(*reads), self.tokenizer, self.recipe, self.provenance)

    def encode_dataset(
        self,
        dataset: Dataset,
        products: Int64[np.ndarray, " products"] | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Float32[np.ndarray, "products values"]:
        """The vectors of products of a dataset: of some of its rows, or of all.

        `progress` is called with products done and products in all.
        Raises: ValueError where features are not what the model takes.
        """
        titles = self.titles(dataset)
        return encode_products(self.model, dataset, products, titles=titles, progress=progress)

    def knows(self, words: list[str]) -> list[bool]:
        """Of which words the model has learned something, as `encoder.knows` says."""
        return knows(self.model, self.tokenizer, words)

    def reads(self, tokens: Int64[np.ndarray, " tokens"]) -> bool:
        """Whether any token of a text stands for something; to a pretrained part all texts do."""
        return bool(self.model.pretrained_texts or known_pieces(self.tokenizer, [tokens])[0])

    @property
    def reranker(self) -> Reranker | None:
        """What scores a pool by more than the vectors, learned with them; None: their dot product is the score."""
        return own_reranker(self.model)

    @property
    def needs_boxes(self) -> bool:
        """Whether regions must come with boxes and labels."""
        return self.model.needs_boxes

    def rank(
        self, dataset: Dataset, *, smooth: tuple[float, ...] | None = None, name: str = "shopwindow"
    ) -> Run:
        """The score of every candidate of every query of a dataset, as `rank_pools` gives it with its own reranker."""
        return rank_pools(self, dataset, reranker=self.reranker, smooth=smooth, name=name)


def _build_as_weighed(
    described: Any, path: Path, *, backbone: dict[str, Any] | None, text_tower: TextEncoder | None
) -> PartsEncoder:
    """The model that a card describes, once it is sure that its weights are no more than the file of weights holds.

    Raises: DataError for a description that is none, or of another size.
    """
    check_fields(described, _MODEL_FIELDS, path / MARKER)
    check_whole(described, ("feature_size", "vocabulary", "longest"), path / MARKER, least=1)
    try:
        check_weighed(lambda: build(described), path / WEIGHTS)
        model = build(described, backbone=backbone, text_tower=text_tower)
        if any(not isinstance(part.share, str) and not 0 < part.share < math.inf for part in model.parts):
            raise ValueError("a share is above 0")
        return model
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
        OverflowError,
        RuntimeError,
    ) as error:
        problem = f"wrong sizes: {' '.join(str(error).split())[:200]}"
        raise DataError(problem, path=path / MARKER, field="model") from error


def describe(model: PartsEncoder) -> dict[str, Any]:
    """The sizes and switches from which `build` makes the same model without its weights."""
    late = None
    if model.late is not None:
        late = {"width": model.late.width, "dropout": model.late.dropout.p}
    return {
        "feature_size": model.feature_size,
        "vocabulary": model.vocabulary,
        "longest": model.longest,
        "query_rules": [rule.name for rule in model.query_rules],
        "skip": list(model.skip),
        "largest": model.largest,
        "names": None if model.names is None else len(model.names.keys),
        "late": late,
        "parts": [
            {
                "width": part.width,
                "share": part.share,
                "normalise": part.normalise,
                "text": [_describe(component) for component in part.text.components],
                "photo": [_describe(component) for component in part.photo.components],
            }
            for part in model.parts
        ],
    }


def build(
    card: dict[str, Any],
    *,
    backbone: dict[str, Any] | None = None,
    text_tower: TextEncoder | None = None,
) -> PartsEncoder:
    """A model of the described sizes, with random weights.

    Raises: KeyError, TypeError or ValueError where the description is not one of `describe`.
    """
    feature_size, late = card["feature_size"], card["late"]
    pretrained = PretrainedTexts(feature_size, backbone, text_tower)
    parts = [_built_part(part, feature_size, pretrained) for part in card["parts"]]
    return PartsEncoder(
        parts,
        feature_size=feature_size,
        vocabulary=card["vocabulary"],
        longest=card["longest"],
        names=None if card["names"] is None else Names(card["names"]),
        late=None if late is None else LateInteraction(card["vocabulary"], feature_size, **late),
        skip=tuple(card["skip"]),
        largest=card["largest"],
        query_rules=tuple(card["query_rules"]),
        backbone=backbone,
    )


def _describe(component: nn.Module) -> dict[str, Any]:
    """One component of a side: its kind and what `_built` needs to know."""
    if isinstance(component, WordBag):
        return {"kind": "words", "names": len(component.weight), "pairs": component.pairs}
    if isinstance(component, TextTower):
        sizes = {"vocabulary": component.vocabulary, "longest": component.longest}
        return {"kind": "text transformer", "size": dataclasses.asdict(component.size), **sizes}
    if isinstance(component, PooledRegions):
        dropout = component.dropout.p
        return {"kind": "linear", "look": component.look, "pools": list(component.pools), "dropout": dropout}
    if not isinstance(component, PhotoTower):
        return {"kind": _BARE[type(component)]}
    own = {"readout": component.readout, "labels": component.label_count}
    return {"kind": "region transformer", "size": dataclasses.asdict(component.size), **own}


def _built_part(own: dict[str, Any], feature_size: int, pretrained: PretrainedTexts) -> Part:
    width = own["width"]
    if type(width) is not int or width < 1 or type(own["normalise"]) is not bool:
        raise ValueError(f"a part of width {str(width)[:40]}")
    text = Side(
        *(
            pretrained if each["kind"] == _BARE[PretrainedTexts] else _built(each, width, feature_size)
            for each in own["text"]
        )
    )
    bags = [component for component in text.components if isinstance(component, WordBag)]
    photo = Side(
        *(
            TitleWords(bags[0])
            if bags and each["kind"] == _BARE[TitleWords]
            else _built(each, width, feature_size)
            for each in own["photo"]
        )
    )
    return Part(width, text, photo, share=own["share"], normalise=own["normalise"])


def _built(own: dict[str, Any], width: int, feature_size: int) -> nn.Module:
    kind, own = own["kind"], {key: value for key, value in own.items() if key != "kind"}
    if kind == "words":
        return WordBag(torch.zeros(own["names"], width), pairs=own["pairs"])
    if kind == "linear":
        return PooledRegions(width, feature_size, **(own | {"pools": tuple(own["pools"])}))
    if kind == _BARE[WholePhotos]:
        return WholePhotos()
    own["size"] = EncoderSize(**own["size"])
    if own["size"].hidden != width:
        raise ValueError(f"a part of width {width}, its transformer has {own['size'].hidden}")
    if kind == "text transformer":
        return TextTower(**own)
    if kind == "region transformer":
        return PhotoTower(feature_size=feature_size, **own)
    raise ValueError(f"component {kind!r} is not known")


def _read_card(path: Path) -> dict[str, Any]:
    if not (path / MARKER).is_file():
        raise DataError(f"no bundle (a directory with {MARKER} that `shopwindow train` writes)", path=path)
    return read_card(path / MARKER, format=FORMAT, made_by="train")
