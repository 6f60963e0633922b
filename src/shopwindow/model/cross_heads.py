"""What does a cross-encoder say of a pair, of a hidden word, of a hidden region?

Small maps on top of the encoder, and the model that holds both. A published checkpoint has some of the heads; a model
is built with those that it needs. Knows no loss and no file.

Source: as `cross.py`; the transform before words is BERT's (Devlin et al. 2018).

Legend of axes: pairs; hidden = width of the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from shopwindow.model.cross import CrossEncoder, CrossPairs, Kind, OscarRegions, UniterRegions
from shopwindow.model.towers import NORM_EPSILON, EncoderSize, initialise

Head = Literal["rank", "match", "contrast", "words", "features", "classes"]
KINDS: Final[dict[Kind, tuple[Head, ...]]] = {
    "uniter": ("rank", "match", "words", "features", "classes"),
    "oscar": ("match", "contrast", "words"),
}
"""The heads that each model may have."""
CONTRASTS: Final = 3
"""Oscar's pair is right, has wrong tags, or has wrong words."""


class Transform(nn.Module):
    """BERT's transform before a prediction: linear, GELU, LayerNorm."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps=NORM_EPSILON)

    def forward(self, hidden: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows hidden"]:
        out: Tensor = self.LayerNorm(functional.gelu(self.dense(hidden)))
        return out


class Tied(nn.Module):
    """Predictions whose last map is a weight of the encoder's own input, and a bias: of words, or of features."""

    def __init__(self, hidden: int, values: int) -> None:
        super().__init__()
        self.transform = Transform(hidden)
        self.bias = nn.Parameter(torch.zeros(values))

    def forward(
        self, hidden: Float[Tensor, "rows hidden"], tied: Float[Tensor, "values hidden"]
    ) -> Float[Tensor, "rows values"]:
        return functional.linear(self.transform(hidden), tied, self.bias)


class Classes(nn.Module):
    """The class of a region, 0 the background."""

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.transform = Transform(hidden)
        self.out = nn.Linear(hidden, classes)

    def forward(self, hidden: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows classes"]:
        out: Tensor = self.out(self.transform(hidden))
        return out


class CrossModel(nn.Module):
    """A cross-encoder with heads.

    `classes`: of regions, the background counted. `contrasts`: kinds of pairs that Oscar tells apart while it is
    pre-trained. `region_norm`: whether Oscar's regions pass a LayerNorm.
    Raises: ValueError for a head that the kind of model does not have.
    """

    def __init__(
        self,
        kind: Kind,
        size: EncoderSize,
        *,
        feature_size: int,
        vocabulary: int,
        longest: int = 512,
        heads: Sequence[Head] = ("match",),
        classes: int = 1,
        contrasts: int = CONTRASTS,
        region_norm: bool = True,
    ) -> None:
        super().__init__()
        if foreign := sorted(set(heads) - set(KINDS[kind])):
            raise ValueError(f"{kind} has no head {foreign[0]}, only {', '.join(KINDS[kind])}")
        self.kind: Kind = kind
        self.feature_size = feature_size
        regions = (
            UniterRegions(size, feature_size=feature_size)
            if kind == "uniter"
            else OscarRegions(size, feature_size=feature_size, norm=region_norm)
        )
        self.body = CrossEncoder(size, regions, vocabulary=vocabulary, longest=longest)
        made: dict[Head, Callable[[], nn.Module]] = {
            "rank": lambda: nn.Linear(size.hidden, 1),
            "match": lambda: nn.Linear(size.hidden, 2),
            "contrast": lambda: nn.Linear(size.hidden, contrasts),
            "words": lambda: Tied(size.hidden, vocabulary),
            "features": lambda: Tied(size.hidden, feature_size),
            "classes": lambda: Classes(size.hidden, classes),
        }
        self.heads = nn.ModuleDict({head: made[head]() for head in KINDS[kind] if head in heads})
        self.heads.apply(initialise)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.body.pooler.dense.weight.device

    def score(self, pairs: CrossPairs) -> Float[Tensor, " pairs"]:
        """How well each pair fits; higher is better.

        UNITER: the rank head. Oscar: the difference of its two classes, whose logistic function is the probability of a
        match.
        """
        pooled = self.body.pooled(pairs)
        if self.kind == "uniter":
            ranked: Tensor = self.heads["rank"](pooled)
            return ranked[:, 0]
        matched: Tensor = self.heads["match"](pooled)
        return matched[:, 1] - matched[:, 0]

    def word_scores(self, hidden: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows vocabulary"]:
        """Logits of the word that stands at each place."""
        out: Tensor = self.heads["words"](hidden, self.body.embeddings.word_embeddings.weight)
        return out

    def feature_values(self, hidden: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows values"]:
        """The features that a region is thought to have."""
        out: Tensor = self.heads["features"](hidden, self.body.regions.features.weight.T)
        return out

    @torch.no_grad()
    def rank_as_match(self) -> None:
        """Gives the rank head the weights of the class that says match. A copy: afterwards the two learn apart."""
        rank, match = self.heads["rank"], self.heads["match"]
        assert isinstance(rank, nn.Linear)
        assert isinstance(match, nn.Linear)
        rank.weight.copy_(match.weight[1:])
        rank.bias.copy_(match.bias[1:])
