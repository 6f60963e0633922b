"""What is a trained model on disk, and how is it used again?

A bundle is a directory with everything that turns words and photos into vectors: weights, tokenizer,
sizes; and what a reader wants to know: recipe, provenance, scores, curves. Knows no training.

```
bundle.json         format, sizes of the towers, provenance, scores, audit of the validation set
model.safetensors   weights
tokenizer.json
recipe.yaml         how it was trained (differences from the defaults)
curves.csv, .png    loss and score over the steps
modules.json        lets sentence-transformers open the directory (sentence_encoder.py)
```
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float32, Int64
from tokenizers import Tokenizer

from shopwindow.data.dataset import Dataset
from shopwindow.data.regions import Regions
from shopwindow.files import DataError, read_text
from shopwindow.model.bags import PooledRegions, WordBag
from shopwindow.model.checkpoint import load_weights, save_weights
from shopwindow.model.dual import (
    DualEncoder,
    encode_in_pieces,
    encode_products,
    encode_regions,
    encode_texts,
    encode_tokens,
    known_pieces,
    knows,
    tokenise,
)
from shopwindow.model.given import WEIGHTS
from shopwindow.model.late import LateInteraction
from shopwindow.model.rank import rank_pools
from shopwindow.model.recipe import View
from shopwindow.model.rerankers import Reranker, own_reranker
from shopwindow.model.tokenizer_files import TOKENIZER_FILE, load_tokenizer
from shopwindow.model.towers import EncoderSize, PhotoTower, TextTower
from shopwindow.ranking.runs import Run

MARKER: Final = "bundle.json"
FORMAT: Final = "shopwindow bundle 2"
MODULES: Final = "modules.json"
_MODULES: Final = [
    {"idx": 0, "name": "0", "path": "", "type": "shopwindow.export.sentence_encoder.TextModule"}
]


@dataclass
class Bundle:
    """A trained model ready for use.

    `provenance`: what made it (dataset content hashes, steps, versions). `scores`: what it reached on the
    validation set, by measure. `audit`: what could be scored on that set without reading a query.
    """

    model: DualEncoder
    tokenizer: Tokenizer
    recipe: str = "{}\n"
    provenance: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path, *, device: str | torch.device = "cpu") -> Bundle:
        """Opens a bundle; its towers are built from the sizes it holds, whatever recipes say today.

        Raises: DataError naming file and field of a bundle that is missing, broken or of another format.
        """
        path = Path(path)
        card = _read_card(path)
        try:
            model = build(card["model"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"wrong sizes: {error}", path=path / MARKER, field="model") from error
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
            provenance=card.get("provenance", {}),
            scores=card.get("scores", {}),
            audit=card.get("audit", {}),
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
            "provenance": self.provenance,
            "scores": self.scores,
            "audit": self.audit,
        }
        (folder / MARKER).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")

    def encode_queries(self, texts: list[str]) -> Float32[np.ndarray, "texts hidden"]:
        """The vectors of queries, in their order."""
        return encode_texts(self.model, self.tokenizer, texts)

    def tokenise(self, texts: list[str]) -> list[Int64[np.ndarray, " _"]]:
        """The tokens of each text, as `dual.tokenise` says."""
        return tokenise(self.model, self.tokenizer, texts)

    def encode_tokens(self, tokens: list[Int64[np.ndarray, " _"]]) -> Float32[np.ndarray, "texts hidden"]:
        """The vectors of texts from their tokens, in their order."""
        return encode_tokens(self.model, tokens)

    def knows(self, words: list[str]) -> list[bool]:
        """Of which words the model has learned something, as `dual.knows` says."""
        return knows(self.model, self.tokenizer, words)

    def reads(self, tokens: Int64[np.ndarray, " tokens"]) -> bool:
        """Whether any token of a text stands for something."""
        return bool(known_pieces(self.tokenizer, [tokens])[0])

    @property
    def reranker(self) -> Reranker | None:
        """What scores a pool by more than the vectors, learned with them; None: their dot product is the score."""
        return own_reranker(self.model)

    @property
    def needs_boxes(self) -> bool:
        """Whether regions must come with boxes and labels."""
        return self.model.needs_boxes

    def encode_products(
        self,
        photos: Dataset | Regions | Sequence[np.ndarray],
        products: Int64[np.ndarray, " products"] | None = None,
    ) -> Float32[np.ndarray, "products hidden"]:
        """The vectors of products: of a dataset (`products` are some of its rows; all of them when none are named), or
        of regions in memory, also as one array [regions, features] each.

        Raises: ValueError where features are not of the model's size, and as `dual.encode_regions`.
        """
        if isinstance(photos, Dataset):
            return self.encode_dataset(photos, products)
        if products is not None:
            raise ValueError("products are rows of a dataset; give the photos that are wanted")
        if isinstance(photos, Regions):
            return encode_in_pieces(self.model, photos)
        return encode_regions(self.model, photos)

    def encode_dataset(
        self,
        dataset: Dataset,
        products: Int64[np.ndarray, " products"] | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Float32[np.ndarray, "products hidden"]:
        """The vectors of products of a dataset: of some of its rows, or of all.

        `progress` is called with products done and products in all.
        Raises: ValueError where features are not of the model's size.
        """
        return encode_products(self.model, dataset, products, progress=progress)

    def rank(
        self, dataset: Dataset, *, smooth: tuple[float, ...] | None = None, name: str = "shopwindow"
    ) -> Run:
        """The score of every candidate of every query of a dataset, as `rank_pools` gives it with its own reranker."""
        return rank_pools(self, dataset, reranker=self.reranker, smooth=smooth, name=name)


def describe(model: DualEncoder) -> dict[str, Any]:
    """The sizes and switches from which `build` makes the same model without its weights."""
    card: dict[str, Any] = {
        "longest": model.longest,
        "vocabulary": model.vocabulary,
        "feature_size": model.feature_size,
        "dimensions": model.dimensions,
        "normalise": model.normalise,
        "features": model.features,
        "selection": model.selection,
        "largest": model.largest,
        "query_rules": [rule.name for rule in model.query_rules],
    }
    if model.text is not None:
        card["text"] = dataclasses.asdict(model.text.size)
    if model.photo is not None:
        card["photo"] = {
            **dataclasses.asdict(model.photo.size),
            "readout": model.photo.readout,
            "boxes": model.photo.boxes,
        }
    if model.bag is not None:
        card["bag"] = {"names": len(model.bag.keys), "pairs": model.bag.pairs, "texts": model.bag.texts}
    if model.common:
        card["common"] = model.common
    if len(model.views):
        card["views"] = [{"view": str(view.view), "dropout": view.dropout_share} for view in model.views]
    if model.late is not None:
        card["late"] = {"width": model.late.width, "dropout": model.late.dropout.p}
    return card


def build(card: dict[str, Any]) -> DualEncoder:
    """A model of the described sizes, with random weights.

    Raises: KeyError, TypeError or ValueError where the description is not one of `describe`.
    """
    longest, vocabulary = card["longest"], card["vocabulary"]
    feature_size, dimensions = card["feature_size"], card["dimensions"]
    text = photo = bag = late = None
    common = card.get("common", 0)
    if "text" in card:
        text = TextTower(EncoderSize(**card["text"]), vocabulary=vocabulary, longest=longest)
    if "photo" in card:
        size = dict(card["photo"])
        readout, boxes = size.pop("readout"), size.pop("boxes")
        photo = PhotoTower(EncoderSize(**size), feature_size=feature_size, readout=readout, boxes=boxes)
    if "bag" in card:
        bag = WordBag(dimensions, **card["bag"], common=common)
    looks = card.get("views", [])
    widths = [(dimensions - common) // max(1, len(looks) - bool(common))] * len(looks)
    if common:
        widths[-1] = common
    views = [
        PooledRegions(width, feature_size, View.parse(one["view"]), dropout=one["dropout"])
        for width, one in zip(widths, looks, strict=True)
    ]
    if "late" in card:
        late = LateInteraction(vocabulary, feature_size, **card["late"])
    return DualEncoder(
        text,
        photo,
        bag=bag,
        views=views,
        late=late,
        common=common,
        longest=longest,
        vocabulary=vocabulary,
        normalise=card["normalise"],
        features=card["features"],
        selection=card["selection"],
        largest=card["largest"],
        query_rules=tuple(card["query_rules"]),
    )


def _read_card(path: Path) -> dict[str, Any]:
    if not (path / MARKER).is_file():
        raise DataError(f"no bundle (a directory with {MARKER} that `shopwindow train` writes)", path=path)
    try:
        card = json.loads(read_text(path / MARKER))
    except json.JSONDecodeError as error:
        raise DataError(f"no JSON: {error}", path=path / MARKER) from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise DataError(f"not of the format {FORMAT!r}", path=path / MARKER)
    return card
