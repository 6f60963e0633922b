"""Which word of a query looks at which box of a photo?

Two answers. A model with late interaction has the weights itself: the cosine of every word with every region, times
the word's weight. Any other model is asked by occlusion:
weight[w, r] = s(all) - s(without w) - s(without r) + s(without both).
That is how much of the score word w and region r give together beyond what each gives alone. A photo with a single
region has none left without it; there the word's whole contribution, s(all) - s(without w), goes to that region.

Source: late interaction is ColBERT's (late.py); the second difference is the pairwise interaction of Grabisch and
Roubens 1999, and occlusion that of Zeiler and Fergus 2013.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import torch
from jaxtyping import Float64

from shopwindow.data.dataset import Dataset
from shopwindow.data.queries import QueryRule, composed
from shopwindow.data.regions import Regions
from shopwindow.model.encoder import encode_photos, spelled
from shopwindow.model.tokenizer_files import in_known_case
from shopwindow.model.tokens import tokenize
from shopwindow.ranking.runs import Run

if TYPE_CHECKING:
    from shopwindow.model.bundle import Bundle

_IDEOGRAPH: Final = "\u2e80-\u9fff\uf900-\ufaff"
# Words are parted by spaces; of scripts without spaces every sign is a word, as in BERT's tokens.
_WORD: Final = re.compile(rf"[{_IDEOGRAPH}]|[^\s{_IDEOGRAPH}]+")
Method = Literal["late interaction", "occlusion"]
MOST_WORDS: Final = 64


@dataclass(frozen=True)
class Explanation:
    """How much each word of a query and each region of a photo owe each other in their score.

    `weights[w][r]` of word w and region r (in the order of the product's boxes) is in units of the score and
    may be negative. `score` is that of the vectors and, by the method "late interaction", `late_score` together. `seen`
    are the regions that the model selects, None for all: no word looks at another one.

    By late interaction `weights[w][r]` is `word_weights[w]`, which is learned, times `fits[w][r]`, a cosine (of a word
    in pieces their mean by weight; None of a region not seen, or a word that does not count). `late_score` is the sum
    over words, piece by piece, of the largest. By occlusion `word_weights[w]` is how much the score loses without the
    word, and there are no fits.
    """

    words: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    score: float
    seen: tuple[int, ...] | None = None
    method: Method = "occlusion"
    late_score: float | None = None
    word_weights: tuple[float, ...] = ()
    fits: tuple[tuple[float | None, ...], ...] | None = None

    @property
    def vector_score(self) -> float:
        """What of the score is that of the vectors."""
        return self.score - (self.late_score or 0.0)

    def looks_at(self, word: int) -> int:
        """The region, of those seen, of a word's largest weight; of equal ones the first."""
        weights = self.weights[word]
        return max(range(len(weights)) if self.seen is None else self.seen, key=weights.__getitem__)

    def to_json(self) -> dict[str, Any]:
        """As JSON can write it, with the region that each word looks at."""
        looks = [self.looks_at(word) for word in range(len(self.words))]
        return {
            "method": self.method,
            "words": self.words,
            "looks_at": looks,
            "weights": self.weights,
            "word_weights": self.word_weights,
            "fits": self.fits,
            "score": self.score,
            "vector_score": self.vector_score,
            "late_score": self.late_score,
        }


def explain(bundle: Bundle, query: str, photo: Regions) -> Explanation:
    """The weights of the query's first MOST_WORDS words with the regions of one photo: by the late interaction of a
    model that has one, by occlusion otherwise.

    Raises: ValueError for no words, more than one photo, or a photo without boxes where the model needs them.
    """
    if bundle.model.late is None:
        return explain_by_occlusion(bundle, query, photo)
    return _by_late_interaction(bundle, query, _spans(query, photo), photo)


def explain_by_occlusion(bundle: Bundle, query: str, photo: Regions) -> Explanation:
    """The same by occlusion of the vectors, for any model; `score` is that of the vectors.

    Raises: as `explain` does.
    """
    spans = _spans(query, photo)[:MOST_WORDS]
    texts = [query, *(query[:start] + " " + query[end:] for start, end in spans)]
    words = bundle.encode_texts(texts).astype(np.float64)
    scores = words @ _without_each(bundle, photo).T.astype(np.float64)
    return Explanation(
        _words(query, spans),
        _tuples(interactions(scores)),
        float(scores[0, 0]),
        word_weights=tuple((scores[0, 0] - scores[1:, 0]).tolist()),
    )


@dataclass(frozen=True)
class Explained:
    """A place of a run, explained: `query` and `product` are rows of the dataset, `rank` counts from 1."""

    query: int
    product: int
    rank: int
    explanation: Explanation


def explain_run(bundle: Bundle, dataset: Dataset, run: Run, *, queries: int, top: int) -> Iterator[Explained]:
    """Of the first `queries` queries of a run of the dataset, in the order of their ids, the `top` best products each,
    explained.

    Raises: ValueError for numbers below 1.
    """
    if queries < 1 or top < 1:
        raise ValueError(f"queries {queries}, top {top}: at least 1 is wanted")
    by_query = {int(number): row for row, number in enumerate(dataset.query_ids.tolist())}
    order = np.argsort(dataset.product_ids, kind="stable")
    for place, query_id in enumerate(run.queries[:queries].tolist()):
        row = by_query[int(query_id)]
        ids = run.product_ids[run.offsets[place] : run.offsets[place + 1]][:top]
        products = order[np.searchsorted(dataset.product_ids, ids, sorter=order)]
        for rank, product in enumerate(products.tolist(), start=1):
            photo = bundle.regions(dataset, np.array([product]))
            yield Explained(row, product, rank, explain(bundle, dataset.query_texts[row], photo))


def _spans(query: str, photo: Regions) -> list[tuple[int, int]]:
    """Where each word of the query stands."""
    if len(photo.counts) != 1:
        raise ValueError(f"{len(photo.counts)} photos: one is explained at a time")
    spans = [match.span() for match in _WORD.finditer(query)]
    if not spans:
        raise ValueError("no words to explain")
    return spans


def _words(query: str, spans: list[tuple[int, int]]) -> tuple[str, ...]:
    return tuple(query[start:end] for start, end in spans)


def _tuples(weights: Float64[np.ndarray, "words regions"]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in weights.tolist())


@torch.inference_mode()
def _by_late_interaction(
    bundle: Bundle, query: str, spans: list[tuple[int, int]], photo: Regions
) -> Explanation:
    """Each word's weight times its cosine with each region, its pieces added up; regions not selected have 0."""
    model, words = bundle.model, _words(query, spans)
    late = model.late
    assert late is not None
    photo = photo.to(model.device)
    tokens, owners = (
        torch.tensor(part, dtype=torch.int64, device=model.device) for part in _pieces(bundle, words)
    )
    counted = late.words[tokens]
    tokens, owners = tokens[counted], owners[counted]
    shares = late.share * late.weights(tokens, torch.zeros_like(tokens), 1)
    parts = torch.zeros(len(words), len(photo.features), dtype=torch.float64, device=model.device)
    totals = torch.zeros(len(words), dtype=torch.float64, device=model.device)
    totals = totals.index_add(0, owners, shares.double())
    kept = model.kept(photo)
    kept_count = torch.tensor([len(kept)])
    parts[:, kept] = parts[:, kept].index_add(
        0, owners, (shares[:, None] * late.fits(tokens, photo.take_regions(kept, kept_count))).double()
    )
    seen, vector_score, late_score = tuple(kept.tolist()), *_both_scores(bundle, query, photo)
    weights = _tuples(parts[:MOST_WORDS].cpu().numpy())
    word_weights = tuple(totals[:MOST_WORDS].tolist())
    return Explanation(
        words[:MOST_WORDS],
        weights,
        vector_score + late_score,
        seen,
        "late interaction",
        late_score,
        word_weights,
        tuple(_fits(row, total, seen) for row, total in zip(weights, word_weights, strict=True)),
    )


def _fits(weights: tuple[float, ...], total: float, seen: tuple[int, ...]) -> tuple[float | None, ...]:
    """The cosines of a word with the regions seen, from its weights with all of them."""
    return tuple(
        weight / total if total and region in seen else None for region, weight in enumerate(weights)
    )


def _pieces(bundle: Bundle, words: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """The tokens of the words as the model reads them in one query, and of which word each is a piece."""
    by_rules = [_spelled(word, bundle.model.query_rules) for word in words]
    if not any(word.strip() for word in by_rules):  # a query of which the rules leave nothing stays as it was
        by_rules = list(words)
    cased = in_known_case(bundle.tokenizer, by_rules)
    encoded = bundle.tokenizer.encode_batch(list(map(composed, cased)), add_special_tokens=False)
    pieces = [(token, owner) for owner, one in enumerate(encoded) for token in one.ids]
    pieces = pieces[: bundle.model.longest - 2]  # [CLS] and [SEP]
    return [token for token, _ in pieces], [owner for _, owner in pieces]


def _spelled(word: str, rules: Sequence[QueryRule]) -> str:
    for rule in rules:
        word = rule.apply(word)
    return word


def _both_scores(bundle: Bundle, query: str, photo: Regions) -> tuple[float, float]:
    """The score of the vectors and the late score; their sum is what `rank` gives."""
    model = bundle.model
    vector = bundle.encode_texts([query])[0].astype(np.float64)
    tokens, lengths = tokenize(
        bundle.tokenizer, spelled(model, bundle.tokenizer, [query]), longest=model.longest
    )
    late = model.late_scores(tokens.to(model.device), lengths, photo)
    return float(vector @ encode_photos(model, photo)[0].astype(np.float64)), float(late[0, 0])


def interactions(scores: Float64[np.ndarray, "words_1 photos"]) -> Float64[np.ndarray, "words regions"]:
    """The weights from scores whose first row and column are of the whole query and photo, the others each without
    one word or region; a single column is that of a photo with one region."""
    if scores.shape[1] == 1:
        alone: np.ndarray = scores[:1] - scores[1:]
        return alone
    together: np.ndarray = scores[:1, :1] - scores[1:, :1] - scores[:1, 1:] + scores[1:, 1:]
    return together


def _without_each(bundle: Bundle, photo: Regions) -> np.ndarray:
    """The vector of the photo, and those of it without each region; only the first for a single region."""
    count = len(photo.features)
    kept = [np.ones(count, bool)]
    if count > 1:
        kept += list(~np.eye(count, dtype=bool))
    copies = photo.take(torch.zeros(len(kept), dtype=torch.int64))
    places = torch.from_numpy(np.flatnonzero(np.concatenate(kept)))
    lengths = torch.tensor([int(own.sum()) for own in kept])
    return encode_photos(bundle.model, copies.take_regions(places, lengths))
