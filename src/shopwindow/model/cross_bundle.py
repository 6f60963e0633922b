"""What is a trained cross-encoder on disk, and how does it score pairs?

A directory beside the bundles of encoders, with a marker of its own: a cross-encoder gives no vectors, so nothing that
wants an `Encoder` may open it.

```
cross.json          format, kind, sizes, names of labels, provenance, scores
model.safetensors   weights
tokenizer.json
recipe.yaml         how it was trained: all fields
curves.csv, .png    loss and score over the steps
```
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float64, Int64
from tokenizers import Tokenizer
from torch import Tensor

from shopwindow.data.queries import choose_query_rules, normalise
from shopwindow.data.regions import Regions
from shopwindow.files import DataError, check_fields, read_card, read_text, scores_of
from shopwindow.model.checkpoint import check_weighed, load_weights, save_weights
from shopwindow.model.cross import OscarRegions
from shopwindow.model.cross_heads import KINDS, CrossModel
from shopwindow.model.cross_inputs import TagTable, join_pairs
from shopwindow.model.encoder import TOKENS_AT_ONCE, at_rest
from shopwindow.model.given import WEIGHTS
from shopwindow.model.packing import Lengths
from shopwindow.model.tokenizer_files import TOKENIZER_FILE, load_tokenizer
from shopwindow.model.tokens import tokenize
from shopwindow.model.towers import EncoderSize

MARKER: Final = "cross.json"
FORMAT: Final = "shopwindow cross-encoder 1"
_FIELDS: Final = {
    "model": dict,
    "label_names": dict,
    "query_rules": list[str],
    "provenance": dict,
    "scores": dict,
}


@dataclass
class CrossBundle:
    """A trained cross-encoder ready for use.

    `label_names`: what Oscar's tags are. `query_rules`: how queries are spelled before they are tokenised.
    """

    model: CrossModel
    tokenizer: Tokenizer
    label_names: dict[int, str] = field(default_factory=dict)
    query_rules: tuple[str, ...] = ()
    recipe: str = "{}\n"
    provenance: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path, *, device: str | torch.device = "cpu") -> CrossBundle:
        """Opens a cross-encoder.

        Raises: DataError naming file and field of one that is missing, broken or of another format.
        """
        path = Path(path)
        card = _read_card(path)
        try:
            check_weighed(lambda: build(card["model"]), path / WEIGHTS)
            model = build(card["model"])
            names = {int(label): str(name) for label, name in card["label_names"].items()}
            rules = tuple(rule.name for rule in choose_query_rules(card["query_rules"]))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
            raise DataError(f"wrong sizes: {repr(error)[:200]}", path=path / MARKER, field="model") from error
        load_weights(model, path / WEIGHTS)
        return cls(
            model.to(device).eval(),
            load_tokenizer(path / TOKENIZER_FILE),
            names,
            rules,
            read_text(path / "recipe.yaml"),
            card["provenance"],
            scores_of(card, path / MARKER),
        )

    def save_into(self, folder: Path) -> None:
        """Writes its files into a folder, the marker last."""
        save_weights(self.model, folder / WEIGHTS)
        self.tokenizer.save(str(folder / TOKENIZER_FILE))
        (folder / "recipe.yaml").write_text(self.recipe, encoding="utf-8")
        card = {
            "format": FORMAT,
            "model": describe(self.model),
            "label_names": {str(label): name for label, name in self.label_names.items()},
            "query_rules": list(self.query_rules),
            "provenance": self.provenance,
            "scores": self.scores,
        }
        (folder / MARKER).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over what determines the scores."""
        card = [describe(self.model), sorted(self.label_names.items()), self.query_rules]
        whole = hashlib.sha256(json.dumps(card, sort_keys=True).encode())
        whole.update(self.tokenizer.to_str().encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            whole.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        return whole.hexdigest()

    @cached_property
    def tags(self) -> TagTable | None:
        """The names of labels as tokens; None for UNITER, which reads none."""
        return TagTable.of(self.tokenizer, self.label_names) if self.model.kind == "oscar" else None

    def tokenise(self, texts: Sequence[str]) -> tuple[Int64[Tensor, " tokens"], Lengths]:
        """The tokens of queries end to end, and how many each has."""
        return tokenize(self.tokenizer, self.spelled(texts), longest=self.model.body.longest)

    def spelled(self, texts: Sequence[str]) -> list[str]:
        """The texts as the rules spell them."""
        rules = choose_query_rules(self.query_rules)
        return [normalise(text, rules) for text in texts]

    @torch.inference_mode()
    def score(
        self, tokens: Int64[Tensor, " tokens"], lengths: Lengths, regions: Regions
    ) -> Float64[np.ndarray, " pairs"]:
        """How well each tokenised query fits the product of its place; higher is better. Some pairs at a time."""
        scores = np.empty(len(lengths))
        texts = torch.split(tokens, lengths.tolist())
        with at_rest(self.model):
            for some in by_size(lengths + regions.counts):
                rows = torch.from_numpy(some)
                pairs = join_pairs(
                    torch.cat([texts[row] for row in some]),
                    lengths[rows],
                    regions.take(rows).to(self.model.device),
                    tags=self.tags,
                    longest=self.model.body.longest,
                )
                scores[some] = self.model.score(pairs).double().cpu().numpy()
        return scores


def by_size(sizes: Lengths, most: int = TOKENS_AT_ONCE) -> list[Int64[np.ndarray, " some"]]:
    """Rows in batches of at most `most` slots (one row at least), those of similar size together."""
    order = np.argsort(sizes.numpy(), kind="stable")
    batch = np.cumsum(sizes.numpy()[order]) // most
    return np.split(order, np.flatnonzero(np.diff(batch)) + 1) if len(order) else []


def describe(model: CrossModel) -> dict[str, Any]:
    """The sizes that `build` needs."""
    body, heads = model.body, model.heads
    regions = body.regions
    return {
        "kind": model.kind,
        "size": dataclasses.asdict(body.size),
        "feature_size": model.feature_size,
        "vocabulary": body.vocabulary,
        "longest": body.longest,
        "heads": list(heads),
        "classes": len(heads["classes"].out.bias) if "classes" in heads else 1,  # type: ignore[union-attr, arg-type] # a Linear
        "contrasts": len(heads["contrast"].bias) if "contrast" in heads else 1,  # type: ignore[arg-type] # the same
        "region_norm": not isinstance(regions, OscarRegions) or regions.LayerNorm is not None,
    }


def build(card: dict[str, Any]) -> CrossModel:
    """A model of the described sizes, with random weights.

    Raises: KeyError, TypeError or ValueError where the description is not one of `describe`.
    """
    own = dict(card)
    if own["kind"] not in KINDS:
        raise ValueError(f"kind {own['kind']!r}, wanted {' or '.join(KINDS)}")
    return CrossModel(own.pop("kind"), EncoderSize(**own.pop("size")), **own)


def _read_card(path: Path) -> dict[str, Any]:
    if not (path / MARKER).is_file():
        raise DataError(
            f"no cross-encoder (a directory with {MARKER} that `shopwindow train --recipe uniter` writes)",
            path=path,
        )
    card = read_card(path / MARKER, format=FORMAT, made_by="train")
    check_fields(card, _FIELDS, path / MARKER)
    return card
