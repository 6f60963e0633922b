"""Which weights of a training are kept: the last, those best on held-out pairs of its own, or on the validation set?

The validation set is measured as often, but chooses only where the recipe says `keep: valid`: a score that chose is
too good. Knows no training step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tokenizers import Tokenizer

from shopwindow.data.dataset import Dataset
from shopwindow.data.held_out import held_out_clicks, hold_out_products
from shopwindow.files import DataError
from shopwindow.model.encoder import PartsEncoder
from shopwindow.model.recipe import Keep
from shopwindow.model.validation import CatalogueValidation, Loss, Result, Validation

PATIENCE: Final = 3
"""Validations without a better score on held-out pairs, after which a training stops."""


@dataclass(frozen=True)
class Measured:
    """One validation: on the validation set and on held-out pairs, None where there is none."""

    valid: Result | None
    held_out: Result | None


@dataclass(frozen=True)
class Choice:
    """What is trained on, what measures it, and which weights are kept."""

    keep: Keep
    dataset: Dataset
    """Without the pairs that are held out."""
    valid: Validation | None
    held_out: CatalogueValidation | None

    @classmethod
    def of(cls, keep: Keep, dataset: Dataset, valid: Validation | None) -> Choice:
        """A shop's held-out clicks are what is held out; else, where it is to choose, a tenth of the products.

        Of too few products none is held out, and the last weights are kept.
        Raises: DataError where a validation set is to choose and there is none.
        """
        clicks = held_out_clicks(dataset)
        if clicks is not None:
            return cls(keep, dataset, valid, CatalogueValidation(dataset, clicks))
        if keep == "held-out":
            if (parted := hold_out_products(dataset)) is not None:
                return cls(keep, parted[0], valid, CatalogueValidation(*parted))
            keep = "last"
        if valid is None and keep == "valid":
            raise DataError(
                "holds no held-out clicks to choose the best weights by: give --valid and --answers, or --set"
                " optimiser.keep=held-out",
                path=dataset.path,
            )
        return cls(keep, dataset, valid, None)

    @property
    def shown(self) -> Validation | CatalogueValidation | None:
        """What a bundle's scores are of: the validation set, where there is one; else held-out pairs, or nothing."""
        return self.valid or self.held_out

    def audit(self) -> dict[str, Any]:
        """The audit of what is shown."""
        return (
            {"verdict": "none, as nothing measured the model"} if self.shown is None else self.shown.audit()
        )

    @property
    def digests(self) -> dict[str, str]:
        """What names the data that measure it, for the identity of a training."""
        shown, held_out = self.shown, self.held_out
        own = {} if shown is None else {"valid": shown.dataset.content_hash, "answers": shown.answers_hash}
        return own if held_out is None else own | {"held out": held_out.answers_hash}

    def measure(self, model: PartsEncoder, tokenizer: Tokenizer, loss: Loss, *, batch_size: int) -> Measured:
        """The model on both."""
        valid, held_out = (
            None if one is None else one.measure(model, tokenizer, loss, batch_size=batch_size)
            for one in (self.valid, self.held_out)
        )
        return Measured(valid, held_out)

    def score(self, measured: Measured) -> float | None:
        """The nDCG@5 that chooses, or is shown where the last weights are kept."""
        first, second = measured.held_out, measured.valid
        if self.keep == "valid":
            first, second = second, first
        result = first or second
        return None if result is None else result.score

    def keeps(self, score: float | None, best: float | None) -> bool:
        """Whether weights of a score take the place of those of the best score so far."""
        return self.keep == "last" or score is None or best is None or score > best

    def stops(self, scores: Sequence[float]) -> bool:
        """Whether a training stops after validations of these scores on held-out pairs."""
        return self.keep == "held-out" and gains_no_more(scores)

    def says(self, score: float | None) -> str:
        """Why weights of a score were kept, in words."""
        if self.keep == "last" or score is None:
            return "the last"
        if self.valid is None or self.keep == "valid":
            by = "the validation set" if self.valid else self._held_out_says
            return f"the best on {by}, whose score is somewhat too good for that"
        by = f"{self._held_out_says} of the training, nDCG@5 {score:.4f}"
        return f"the best on {by}; the validation set chose nothing"

    @property
    def _held_out_says(self) -> str:
        return "" if self.held_out is None else self.held_out.says


def gains_no_more(scores: Sequence[float]) -> bool:
    """Whether the last PATIENCE scores are no better than one before.

    >>> gains_no_more([0.5, 0.6, 0.6, 0.59]), gains_no_more([0.5, 0.6, 0.6, 0.59, 0.6])
    (False, True)
    """
    best = max(range(len(scores)), key=lambda place: scores[place], default=0)
    return len(scores) - 1 - best >= PATIENCE
