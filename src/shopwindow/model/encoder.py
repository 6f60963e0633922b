"""How do words and regions become vectors, and what is an encoder?

`Encoder` is the protocol that ranking, indexes and services know. `PartsEncoder` is the model that is trained and kept:
a list of parts laid end to end, so that the score of a query and a product is one dot product. The functions below are
the one path from words and regions to vectors, taken by validation, ranking, indexing and serving alike. Knows no loss.

Legend of axes: texts, products; values = of a vector; tokens and regions = of all texts and products, end to end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from shopwindow.data.dataset import Dataset
from shopwindow.data.queries import choose_query_rules, normalise
from shopwindow.data.regions import Regions, TitleTokens, select, selected
from shopwindow.model.bags import Named, Names, PooledRegions, TitleWords, WordBag
from shopwindow.model.late import LateInteraction
from shopwindow.model.packing import Lengths
from shopwindow.model.pretrained import PretrainedTexts, WholePhotos
from shopwindow.model.recipe import Learned, Reads
from shopwindow.model.tokenizer_files import in_known_case, known_pieces
from shopwindow.model.tokens import tokenize
from shopwindow.model.towers import PhotoTower, TextTower

Component = TypeVar("Component", bound=nn.Module)
LEARNED_SHARE: Final = 0.5
"""A learned share at first, in units of all fixed shares together."""
TOKENS_AT_ONCE: Final = 8192
"""Tokens of one forward pass when encoding: bounds the memory (about 100 MB at full width)."""


class Encoder(Protocol):
    """Texts and products as vectors of one space; the score is their dot product."""

    @property
    def dimensions(self) -> int:
        """Values of a vector."""

    @property
    def fingerprint(self) -> str:
        """Names the space: vectors of another fingerprint cannot be compared."""

    def encode_texts(self, texts: list[str]) -> Float32[np.ndarray, "texts values"]:
        """The vectors of texts, in their order."""

    def encode_products(self, regions: Regions) -> Float32[np.ndarray, "products values"]:
        """The vectors of products, in their order."""


class Side(nn.Module):
    """One side of a part: the sum of its components. Those after the first enter through a gate that is 0 at first, so
    that a training begins with what the first one knows."""

    def __init__(self, *components: nn.Module) -> None:
        super().__init__()
        if not components:
            raise ValueError("a side needs a component")
        self.components = nn.ModuleList(components)
        self.gates = nn.ParameterList(torch.tensor(0.0) for _ in components[1:])


class Part(nn.Module):
    """One stretch of the vectors: a text side, a product's side (`photo`), and the share of the score.

    `share`: a number, or learned; then it is exp(`log_share`) times all fixed shares together. `normalise`: whether the
    stretch has length 1 times the root of its share; without it the vector is as the sides give it.

    Raises: ValueError for a title that is read by another bag of words than the text side's.
    """

    def __init__(
        self, width: int, text: Side, photo: Side, *, share: float | Learned = 1.0, normalise: bool = True
    ) -> None:
        super().__init__()
        self.width = width
        self.text = text
        self.photo = photo
        self.share: float | Learned = share
        self.normalise = normalise
        if share == "learned":
            self.log_share = nn.Parameter(torch.tensor(math.log(LEARNED_SHARE)))
        for title in photo.components:
            if isinstance(title, TitleWords) and not any(map(title.reads_like, text.components)):
                raise ValueError("a title is read by the bag of words of its own part")

    @property
    def reads(self) -> Reads:
        """What of a product it reads: its photo, its title, or its whole photo as a pretrained tower sees it."""
        first = self.photo.components[0]
        if isinstance(first, TitleWords):
            return "title"
        return "pretrained" if isinstance(first, WholePhotos) else "photo"


class PartsEncoder(nn.Module):
    """Tokens and regions to vectors: parts laid end to end.

    The length of each part is the root of its share of all shares. `names`: those that the bags of words know. `late`:
    a second score for re-ranking, beside the vectors. `skip`, `largest`: which regions are looked at
    (`data.regions.select`). Scale and bias belong to the loss only; they never change a ranking. `backbone` is the spec
    of what made the features, None where that is not known.

    Raises: ValueError for parts that do not fit together.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        feature_size: int,
        vocabulary: int,
        longest: int = 512,
        names: Names | None = None,
        late: LateInteraction | None = None,
        skip: tuple[int, ...] = (),
        largest: int | None = None,
        query_rules: tuple[str, ...] = (),
        scale: float = 1.0,
        bias: float = 0.0,
        backbone: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.normalise = parts[0].normalise
        if len(parts) > 1 and not all(part.normalise for part in parts):
            raise ValueError("several parts must be normalised")
        if not any(part.share != "learned" and part.share > 0 for part in parts):
            raise ValueError("at least one part needs a fixed share above 0")
        self.parts: Sequence[Part] = nn.ModuleList(parts)  # type: ignore[assignment] # it is one
        self.names = names
        self.late = late
        self.feature_size = feature_size
        self.vocabulary = vocabulary
        self.longest = longest
        self.dimensions = sum(part.width for part in parts)
        self.skip = skip
        self.largest = largest
        self.query_rules = choose_query_rules(query_rules)
        self.backbone = backbone
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.score_bias = nn.Parameter(torch.tensor(float(bias)))
        self._pairs = any(bag.pairs for bag in self.word_bags)
        self._fixed = sum(float(part.share) for part in parts if part.share != "learned")
        self.reads: frozenset[Reads] = frozenset(part.reads for part in parts)

    @property
    def word_bags(self) -> list[WordBag]:
        """The bags of words of all parts."""
        return self._components(WordBag)

    @property
    def text_towers(self) -> list[TextTower]:
        """The transformers over tokens."""
        return self._components(TextTower)

    @property
    def pretrained_texts(self) -> list[PretrainedTexts]:
        """The frozen text towers."""
        return self._components(PretrainedTexts)

    @property
    def linear_views(self) -> list[PooledRegions]:
        """The linear views."""
        return self._components(PooledRegions)

    @property
    def photo_towers(self) -> list[PhotoTower]:
        """The transformers over regions."""
        return self._components(PhotoTower)

    def _components(self, kind: type[Component]) -> list[Component]:
        sides = [side for part in self.parts for side in (part.text, part.photo)]
        return [component for side in sides for component in side.components if isinstance(component, kind)]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.log_scale.device

    @property
    def needs_boxes(self) -> bool:
        """Whether regions must come with boxes, labels, and the number of their photo."""
        chosen = bool(self.skip) or self.largest is not None or "pretrained" in self.reads
        return chosen or any(tower.label_count is not None for tower in self.photo_towers)

    def encode_text(
        self, tokens: Int64[Tensor, " tokens"], lengths: Lengths, words: list[str] | None = None
    ) -> Float[Tensor, "texts values"]:
        """The vectors of tokenised queries. `words`: the same as typed, which only a pretrained part reads.

        Raises: ValueError where it reads them and they are missing.
        """
        if self.pretrained_texts and words is None:
            raise ValueError("a pretrained part reads words, not tokens: they are missing")
        named = self._named(tokens, lengths)

        def apply(component: nn.Module) -> Tensor:
            if isinstance(component, PretrainedTexts):
                return component(words).to(tokens.device)  # type: ignore[no-any-return] # torch's call
            out: Tensor = component(named) if isinstance(component, WordBag) else component(tokens, lengths)
            return out

        return self._laid_out(_sums([part.text for part in self.parts], apply))

    def encode_photo(self, regions: Regions) -> Float[Tensor, "products values"]:
        """The vectors of products (features of any float type). A part of titles has zeros where there is none."""
        chosen = select(regions, self.skip, self.largest)
        titled: Named | None = None
        if "title" in self.reads:
            titles = regions.titles or TitleTokens.none(len(regions.counts)).to(regions.features.device)
            titled = self._named(titles.tokens, titles.lengths)

        def apply(component: nn.Module) -> Tensor:
            out: Tensor = component(titled) if isinstance(component, TitleWords) else component(chosen)
            return out

        return self._laid_out(_sums([part.photo for part in self.parts], apply))

    def _named(self, tokens: Int64[Tensor, " tokens"], lengths: Lengths) -> Named | None:
        return None if self.names is None else self.names(tokens, lengths, pairs=self._pairs)

    def _laid_out(self, vectors: list[Float[Tensor, "rows _width"]]) -> Float[Tensor, "rows values"]:
        if not self.normalise:
            return vectors[0].float()
        learned = {i: part.log_share.exp() for i, part in enumerate(self.parts) if part.share == "learned"}
        stretches = [
            functional.normalize(vector.float(), dim=-1)
            * (learned[i].sqrt() if i in learned else (float(self.parts[i].share) / self._fixed) ** 0.5)
            for i, vector in enumerate(vectors)
        ]
        whole = torch.cat(stretches, dim=1)
        return whole / (1 + torch.stack(list(learned.values())).sum()).sqrt() if learned else whole

    def shares(self) -> Float[Tensor, " parts"]:
        """The share of each part in the score; they sum to 1."""
        shares = torch.stack(
            [
                part.log_share.exp() * self._fixed
                if part.share == "learned"
                else self.log_scale.new_tensor(float(part.share))
                for part in self.parts
            ]
        )
        return shares / shares.sum()

    def by_part(
        self, vectors: Float[Tensor, "rows values"]
    ) -> list[tuple[float, Float[Tensor, "rows _stretch"]]]:
        """For each part of a fixed share: the weight of its loss, and the vectors whose dot products it learns by.

        These are its own cosines and those of all learned parts, so that it learns what they leave. The mean of the
        scores by weight is the score of the whole vectors. A part of share 0 has no loss; nor has one that cannot
        learn, where others can.
        """
        shares = [0.0 if part.share == "learned" else float(part.share) / self._fixed for part in self.parts]
        fixed = [place for place, share in enumerate(shares) if share]
        if len(fixed) == 1:
            return [(1.0, vectors)]
        stretches = torch.split(vectors, [part.width for part in self.parts], dim=1)
        common = [own for part, own in zip(self.parts, stretches, strict=True) if part.share == "learned"]
        learning = [place for place in fixed if self.parts[place].reads != "pretrained"] or fixed
        total = sum(shares[place] for place in learning)
        return [
            (shares[place] / total, torch.cat([stretches[place] / shares[place] ** 0.5, *common], dim=1))
            for place in learning
        ]

    def only(self, *reads: Reads) -> PartsEncoder:
        """A model of the parts that read these alone, with the same weights and shares: what the score owes them. Late
        interaction reads photos.

        Raises: ValueError where there is none, or their share is 0.
        """
        chosen = [
            Part(part.width, part.text, part.photo, share=share, normalise=part.normalise)
            for part, share in zip(self.parts, self.shares().tolist(), strict=True)
            if part.reads in reads
        ]
        if not chosen:
            raise ValueError(f"{', '.join(reads)}: this model reads {', '.join(sorted(self.reads))}")
        model = PartsEncoder(
            chosen,
            feature_size=self.feature_size,
            vocabulary=self.vocabulary,
            longest=self.longest,
            names=self.names,
            late=self.late if "photo" in reads else None,
            skip=self.skip,
            largest=self.largest,
            query_rules=tuple(rule.name for rule in self.query_rules),
            backbone=self.backbone,
        )
        return model.to(self.device).train(self.training)

    def late_scores(
        self,
        tokens: Int64[Tensor, " tokens"],
        lengths: Lengths,
        regions: Regions,
        *,
        projected: bool = False,
    ) -> Float[Tensor, "texts products"]:
        """The second score of every query with every product, times its learned share: what is added to the vectors'.
        `projected` regions are of `project_regions`.

        Raises: ValueError for a model that has none.
        """
        late = self._late()
        chosen = regions if projected else select(regions, self.skip, self.largest)
        scores: Tensor = late(tokens, lengths, chosen, projected=projected)
        return late.share * scores

    def project_regions(self, regions: Regions) -> Regions:
        """Products with all that their late scores need, made once for any number of queries: the regions looked at,
        as the late interaction's vectors.

        Raises: ValueError for a model that has none.
        """
        chosen = select(regions, self.skip, self.largest)
        return Regions(self._late().project(chosen), chosen.counts)

    def _late(self) -> LateInteraction:
        if self.late is None:
            raise ValueError("this model has no late interaction; the recipe late has")
        return self.late

    def kept(self, regions: Regions) -> Int64[Tensor, " kept"]:
        """The places of the regions that are looked at."""
        return selected(regions, self.skip, self.largest)


def _sums(sides: list[Side], apply: Callable[[nn.Module], Tensor]) -> list[Float[Tensor, "rows _width"]]:
    """The vector of each side. First components of all sides come before later ones: dropout draws in this order."""
    components = [list(side.components) for side in sides]
    vectors = [apply(first) for first, *_ in components]
    for number, (_, *later) in enumerate(components):
        if later:
            for gate, component in zip(sides[number].gates, later, strict=True):
                vectors[number] = vectors[number] + gate * apply(component)
    return vectors


def encode_texts(
    model: PartsEncoder, tokenizer: Tokenizer, texts: list[str]
) -> Float32[np.ndarray, "texts values"]:
    """The vectors of queries, in their order; equal texts are encoded once."""
    return encode_tokens(model, tokenise(model, tokenizer, texts), texts)


def tokenise(model: PartsEncoder, tokenizer: Tokenizer, texts: list[str]) -> list[Int64[np.ndarray, " _"]]:
    """The tokens of each text as the model reads it: as `spelled`, [CLS] first and [SEP] last, at most `longest`."""
    if not texts:
        return []
    tokens, lengths = tokenize(tokenizer, spelled(model, tokenizer, texts), longest=model.longest)
    return np.split(tokens.numpy(), lengths.cumsum(0).numpy()[:-1])


def read_titles(model: PartsEncoder, tokenizer: Tokenizer, dataset: Dataset) -> TitleTokens | None:
    """The titles of all products as the model reads them: as queries, but no token where there is no title. None where
    the model reads none, or the dataset has none."""
    if "title" not in model.reads or dataset.titles is None:
        return None
    # Equal titles are tokenised once, and each text only if it says something.
    place = {title: row for row, title in enumerate(dict.fromkeys(filter(str.strip, dataset.titles)))}
    tokens, lengths = tokenize(tokenizer, normalised(model, list(place)), longest=model.longest)
    distinct = TitleTokens(tokens, torch.cat([lengths, torch.zeros(1, dtype=torch.int64)]))
    return distinct.take(torch.tensor([place.get(title, len(place)) for title in dataset.titles]))


@torch.inference_mode()
def encode_tokens(
    model: PartsEncoder, tokens: list[Int64[np.ndarray, " _"]], texts: list[str] | None = None
) -> Float32[np.ndarray, "texts values"]:
    """The vectors of tokenised queries, in their order; equal ones are encoded once. `texts`: the same as typed, which
    only a pretrained part reads.

    Raises: ValueError where it reads them and they are missing.
    """
    words = texts if texts is not None and model.pretrained_texts else [""] * len(tokens)
    distinct: dict[tuple[bytes, str], int] = {}
    place = [
        distinct.setdefault((row.tobytes(), text), len(distinct))
        for row, text in zip(tokens, words, strict=True)
    ]
    rows, words = [np.frombuffer(row, np.int64) for row, _ in distinct], [text for _, text in distinct]
    vectors = np.empty((len(rows), model.dimensions), np.float32)
    lengths = np.array([len(row) for row in rows], np.int64)
    with at_rest(model):
        for some in _by_length(lengths):
            packed = torch.from_numpy(np.concatenate([rows[row] for row in some])).to(model.device)
            typed = None if texts is None else [words[row] for row in some]
            vectors[some] = model.encode_text(packed, torch.from_numpy(lengths[some]), typed).cpu().numpy()
    return vectors[place]


@torch.inference_mode()
def encode_products(
    model: PartsEncoder,
    dataset: Dataset,
    products: Int64[np.ndarray, " products"] | None = None,
    *,
    titles: TitleTokens | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Float32[np.ndarray, "products values"]:
    """The vectors of products (rows of the dataset; all of them when none are named), in their order.

    `titles`: what `read_titles` gives. `progress` is called with products done and products in all.
    Raises: ValueError when the dataset's features are not what the model takes.
    """
    check_features(model, dataset)
    rows = np.arange(len(dataset.product_ids)) if products is None else products
    out = np.empty((len(rows), model.dimensions), np.float32)
    done = 0
    with at_rest(model):
        for chosen in _by_length(dataset.region_counts[rows]):
            out[chosen] = encode_photos(model, read_products(model, dataset, rows[chosen], titles))
            done += len(chosen)
            if progress is not None:
                progress(done, len(rows))
    return out


def read_products(
    model: PartsEncoder,
    dataset: Dataset,
    rows: Int64[np.ndarray, " products"],
    titles: TitleTokens | None,
) -> Regions:
    """All that the model reads of products of a dataset; `titles` are those of the dataset, as `read_titles` gives
    them."""
    regions = dataset.regions(rows, boxes=model.needs_boxes)
    return replace(regions, titles=titles and titles.take(torch.from_numpy(rows)))


def pieces_of(counts: Int64[np.ndarray, " products"]) -> Iterator[tuple[int, int]]:
    """The first product and the end of each piece of at most TOKENS_AT_ONCE regions; a piece has one product at
    least."""
    ends = np.cumsum(counts)
    start, before = 0, 0
    for end in range(1, len(ends) + 1):
        if end == len(ends) or ends[end] - before > TOKENS_AT_ONCE:
            yield start, end
            start, before = end, int(ends[end - 1])


def encode_regions(model: PartsEncoder, regions: Regions) -> Float32[np.ndarray, "products values"]:
    """The vectors of any number of products in memory, in their order, some at a time.

    Raises: ValueError for a product without a region, for features of another size or not finite, and for missing boxes
    or labels that the model needs.
    """
    if regions.features.shape[1] != model.feature_size:
        raise ValueError(
            f"features of {regions.features.shape[1]} values, the model takes {model.feature_size}"
        )
    if bool((regions.counts < 1).any()):
        raise ValueError(f"product {int(regions.counts.argmin())}: no region")
    if not bool(torch.isfinite(regions.features).all()):
        raise ValueError("a feature is not finite")
    if model.needs_boxes and (regions.geometry is None or regions.labels is None):
        raise ValueError(
            "this model looks at boxes and labels of regions: give boxes, photo_sizes and labels"
        )
    out = np.empty((len(regions.counts), model.dimensions), np.float32)
    for rows in _by_length(regions.counts.numpy()):
        out[rows] = encode_photos(model, regions.take(torch.from_numpy(rows)))
    return out


@torch.inference_mode()
def encode_photos(model: PartsEncoder, regions: Regions) -> Float32[np.ndarray, "products values"]:
    """The vectors of products, in one forward pass."""
    with at_rest(model):
        vectors: np.ndarray = model.encode_photo(regions.to(model.device)).cpu().numpy()
    return vectors


def normalised(model: PartsEncoder, texts: list[str]) -> list[str]:
    """The texts as the model's rules spell them."""
    return [normalise(text, rules) for text in texts] if (rules := model.query_rules) else texts


def spelled(model: PartsEncoder, tokenizer: Tokenizer, texts: list[str]) -> list[str]:
    """Queries as the model's rules spell them, each word in the case that the tokenizer knows."""
    return in_known_case(tokenizer, normalised(model, texts))


def knows(model: PartsEncoder, tokenizer: Tokenizer, words: list[str]) -> list[bool]:
    """Of which words the model has learned something: one piece is in its vocabulary and, where its text sides are bags
    alone, a name. A pretrained part knows all words.

    All other words look alike to a transformer, and to a bag like none; a query of them alone ranks nothing.
    """
    if model.pretrained_texts:
        return [True] * len(words)
    pieces = known_pieces(tokenizer, tokenise(model, tokenizer, words))
    if model.names is None or model.text_towers:
        return [bool(some) for some in pieces]
    lengths = torch.tensor([len(some) for some in pieces], dtype=torch.int64)
    tokens = torch.tensor([token for some in pieces for token in some], dtype=torch.int64)
    named = model.names(tokens.to(model.device), lengths, pairs=False)
    known = np.zeros(len(words), bool)
    known[named.owners.cpu().numpy()] = True
    return known.tolist()


def check_features(model: PartsEncoder, dataset: Dataset) -> None:
    """Raises: ValueError when the dataset's features have another size than the model's, or another backbone made
    them."""
    if dataset.feature_size != model.feature_size:
        raise ValueError(
            f"the dataset {dataset.path} has features of {dataset.feature_size} values,"
            f" the model takes {model.feature_size}"
        )
    if not same_backbone(model.backbone, dataset.backbone):
        raise ValueError(
            f"the features of {dataset.path} were made by {named_backbone(dataset.backbone)},"
            f" the model takes those of {named_backbone(model.backbone)}"
        )


def same_backbone(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    """Whether two specs have one fingerprint, or both are missing."""
    return (one or {}).get("fingerprint") == (other or {}).get("fingerprint")


def named_backbone(spec: dict[str, Any] | None) -> str:
    """How an error calls a backbone."""
    if spec is None:
        return "a backbone that is not known"
    return f"the backbone {spec.get('name')} ({str(spec.get('fingerprint'))[:12]})"


class at_rest:  # noqa: N801 - reads as a word after `with`
    """Dropout off while the block lasts. A model at rest is left as it is: telling every part anew is an eighth to a
    quarter of the time that the words of one query take."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def __enter__(self) -> None:
        self._was_training = self._model.training
        if self._was_training:
            self._model.eval()

    def __exit__(self, *error: object) -> None:
        if self._was_training:
            self._model.train()


def _by_length(lengths: Int64[np.ndarray, " sequences"]) -> Iterator[Int64[np.ndarray, " some"]]:
    """Rows in batches of at most TOKENS_AT_ONCE tokens (one sequence at least), similar lengths together."""
    order = np.argsort(lengths, kind="stable")
    ends = np.cumsum(lengths[order])
    start = 0
    while start < len(order):
        before = ends[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + TOKENS_AT_ONCE, side="right")))
        yield order[start:end]
        start = end
