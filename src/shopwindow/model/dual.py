"""How do the two towers work as one model, and which words and photos does it turn into vectors how?

`DualEncoder` is the model that is trained and kept; `encode_texts` and `encode_products` are the one
path from words and photos to vectors, taken by validation, ranking, indexing and serving alike.
Knows no loss and no optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from shopwindow.data.dataset import Dataset
from shopwindow.data.queries import choose_query_rules, normalise
from shopwindow.data.regions import Features, Regions, Selection, select, selected
from shopwindow.model.bags import PooledRegions, WordBag
from shopwindow.model.late import LateInteraction
from shopwindow.model.packing import Lengths
from shopwindow.model.tokenizer_files import SPECIAL_TOKENS
from shopwindow.model.tokens import tokenize
from shopwindow.model.towers import PhotoTower, TextTower

COMMON_SHARE = 0.5
"""What the share of a common part is at first."""
TOKENS_AT_ONCE = 8192
"""Tokens of one forward pass when encoding: bounds the memory (about 100 MB at full width)."""


class DualEncoder(nn.Module):
    """Two towers whose vectors are compared by a dot product.

    Either side is a BERT tower, a bag (of a photo: one view or several), or the sum of both; then the tower enters
    through a gate that is 0 at first, so that a training begins with what the bag knows, and beside the last of several
    views, so that the others stay what they are without it. `normalise`: vectors have
    length 1. `common`: so many of the last values, those of the last view, are a part that all other views share: its
    cosine, times a learned share, is added to each view's; a tower has no say in it. `features`: "sqrt" feeds tower and
    late interaction the (signed) square roots of the region features. `selection`: which regions are looked at.
    `query_rules`: how words are normalised before they are tokenised. `late`: a second score for re-ranking, beside the
    vectors. Scale and bias belong to the loss only; they never change a ranking. Where there is no text tower,
    `longest` (tokens of a query) and `vocabulary` (how many tokens there are) must be given.

    Raises: ValueError where a side has neither, or vectors or features differ in size.
    """

    def __init__(
        self,
        text: TextTower | None,
        photo: PhotoTower | None,
        *,
        bag: WordBag | None = None,
        views: Sequence[PooledRegions] = (),
        late: LateInteraction | None = None,
        common: int = 0,
        longest: int = 512,
        vocabulary: int = 0,
        normalise: bool = False,
        features: Features = "raw",
        selection: Selection = "all",
        largest: int = 4,
        query_rules: tuple[str, ...] = (),
        scale: float = 1.0,
        bias: float = 0.0,
    ) -> None:
        super().__init__()
        members = max(1, len(views) - bool(common))
        sizes = {members * tower.size.hidden + common for tower in (text, photo) if tower is not None}
        sizes |= {part.weight.shape[1] for part in (bag,) if part is not None}
        sizes |= {sum(view.dense.out_features for view in views)} if views else set()
        if (text is None and bag is None) or (photo is None and not views):
            raise ValueError("each side needs a tower or a bag")
        if len(sizes) != 1:
            raise ValueError(f"the towers' vectors differ: {' and '.join(map(str, sorted(sizes)))}")
        features_of = {part.feature_size for part in (photo, *views) if part is not None}
        if len(features_of) != 1:
            raise ValueError(f"features of {' and of '.join(map(str, sorted(features_of)))} values")
        self.text = text
        self.photo = photo
        self.bag = bag
        self.views: Sequence[PooledRegions] = nn.ModuleList(views)  # type: ignore[assignment] # it is one
        self.late = late
        self.common = common
        self.longest = longest if text is None else text.longest
        self.vocabulary = vocabulary if text is None else text.vocabulary
        self.dimensions = sizes.pop()
        self._own = self.dimensions - common
        self.feature_size = features_of.pop()
        self.normalise = normalise
        self.features: Features = features
        self.selection: Selection = selection
        self.largest = largest
        self.query_rules = choose_query_rules(query_rules)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.score_bias = nn.Parameter(torch.tensor(float(bias)))
        if common:
            if len(views) < 2 or not normalise:
                raise ValueError("a common part is the last of several views, of vectors of length 1")
            self.log_share = nn.Parameter(torch.tensor(math.log(COMMON_SHARE)))
        if text is not None and bag is not None:
            self.text_gate = nn.Parameter(torch.tensor(0.0))
        if photo is not None and views:
            self.photo_gate = nn.Parameter(torch.tensor(0.0))

    @property
    def members(self) -> int:
        """Of how many vectors of equal length, one for each view, a vector is made: the score is their mean cosine (and
        the common part's)."""
        return max(1, len(self.views) - bool(self.common))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.log_scale.device

    @property
    def needs_boxes(self) -> bool:
        """Whether photos must come with boxes and labels."""
        return self.selection != "all" or (self.photo is not None and self.photo.boxes)

    def encode_text(
        self, tokens: Int64[Tensor, " tokens"], lengths: Lengths
    ) -> Float[Tensor, "sequences hidden"]:
        """The vectors of tokenised queries."""
        return self._joined(
            None if self.bag is None else self.bag(tokens, lengths),
            None if self.text is None else self.text(tokens, lengths),
            getattr(self, "text_gate", None),
        )

    def encode_photo(self, photos: Regions) -> Float[Tensor, "sequences hidden"]:
        """The vectors of photos (features of any float type)."""
        chosen = select(photos, self.selection, self.largest)
        bag = torch.cat([view(chosen) for view in self.views], dim=1) if len(self.views) else None
        tower = None
        if self.photo is not None:
            seen = chosen.scaled(self.features)
            tower = self.photo(seen.features, seen.counts, seen.geometry, seen.labels)
        return self._joined(bag, tower, getattr(self, "photo_gate", None))

    def late_scores(
        self,
        tokens: Int64[Tensor, " tokens"],
        lengths: Lengths,
        photos: Regions,
        *,
        projected: bool = False,
    ) -> Float[Tensor, "queries photos"]:
        """The second score of every query with every photo, times its learned share: what is added to the vectors'.
        `projected` photos are of `project_regions`.

        Raises: ValueError for a model that has none.
        """
        if self.late is None:
            raise ValueError("this model has no late interaction; the recipe late has")
        seen = photos if projected else self.seen(photos)
        scores: Tensor = self.late(tokens, lengths, seen, projected=projected)
        return self.late.share * scores

    def project_regions(self, photos: Regions) -> Regions:
        """Photos with all that their late scores need, made once for any number of queries: the regions selected, as
        the late interaction's vectors.

        Raises: ValueError for a model that has none.
        """
        if self.late is None:
            raise ValueError("this model has no late interaction; the recipe late has")
        seen = self.seen(photos)
        return Regions(self.late.project(seen), seen.counts)

    def seen(self, photos: Regions) -> Regions:
        """What the towers see of photos: the regions selected, the features scaled."""
        return select(photos, self.selection, self.largest).scaled(self.features)

    def kept(self, photos: Regions) -> Int64[Tensor, " kept"]:
        """The places of the regions that `seen` keeps."""
        return selected(photos, self.selection, self.largest)

    def _joined(
        self, bag: Tensor | None, tower: Tensor | None, gate: Tensor | None
    ) -> Float[Tensor, "sequences hidden"]:
        if bag is None or tower is None:
            vectors = tower if bag is None else bag
            assert vectors is not None
        else:
            assert gate is not None
            vectors = bag + gate * functional.pad(tower, (self._own - tower.shape[1], self.common))
        vectors = vectors.float()
        if not self.normalise:
            return vectors
        own, common = vectors[:, : self._own], vectors[:, self._own :]
        parts = own.reshape(len(own), self.members, -1)
        unit = functional.normalize(parts, dim=-1).flatten(1) / math.sqrt(self.members)
        if not self.common:
            return unit
        share = self.log_share.exp()
        return (
            torch.cat([unit, share.sqrt() * functional.normalize(common, dim=-1)], dim=1) / (1 + share).sqrt()
        )

    def by_view(self, vectors: Float[Tensor, "rows hidden"]) -> list[Float[Tensor, "rows width"]]:
        """For each view the vectors whose dot products are the scores it learns by: its own cosine, and the common
        part. Their mean is the score."""
        if self.members == 1:
            return [vectors]
        own, common = vectors[:, : self._own], vectors[:, self._own :]
        parts = math.sqrt(self.members) * own.reshape(len(own), self.members, -1)
        return [torch.cat([part, common], dim=1) for part in parts.unbind(1)]


def encode_texts(
    model: DualEncoder, tokenizer: Tokenizer, texts: list[str]
) -> Float32[np.ndarray, "texts hidden"]:
    """The vectors of queries, in their order; equal texts are encoded once."""
    return encode_tokens(model, tokenise(model, tokenizer, texts))


def tokenise(model: DualEncoder, tokenizer: Tokenizer, texts: list[str]) -> list[Int64[np.ndarray, " _"]]:
    """The tokens of each text as the model reads it: spelled by its rules, [CLS] first and [SEP] last, at most
    `longest`."""
    if not texts:
        return []
    tokens, lengths = tokenize(tokenizer, normalised(model, texts), longest=model.longest)
    return np.split(tokens.numpy(), lengths.cumsum(0).numpy()[:-1])


@torch.inference_mode()
def encode_tokens(
    model: DualEncoder, tokens: list[Int64[np.ndarray, " _"]]
) -> Float32[np.ndarray, "texts hidden"]:
    """The vectors of tokenised queries, in their order; equal ones are encoded once."""
    distinct: dict[bytes, int] = {}
    place = [distinct.setdefault(row.tobytes(), len(distinct)) for row in tokens]
    rows = [np.frombuffer(row, np.int64) for row in distinct]
    vectors = np.empty((len(rows), model.dimensions), np.float32)
    lengths = np.array([len(row) for row in rows], np.int64)
    with at_rest(model):
        for some in _by_length(lengths):
            packed = torch.from_numpy(np.concatenate([rows[row] for row in some])).to(model.device)
            vectors[some] = model.encode_text(packed, torch.from_numpy(lengths[some])).cpu().numpy()
    return vectors[place]


@torch.inference_mode()
def encode_products(
    model: DualEncoder,
    dataset: Dataset,
    products: Int64[np.ndarray, " products"] | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Float32[np.ndarray, "products hidden"]:
    """The vectors of products (rows of the dataset; all of them when none are named), in their order.

    `progress` is called with products done and products in all.
    Raises: ValueError when the dataset's features have another size than the model's.
    """
    check_features(model, dataset)
    rows = np.arange(len(dataset.product_ids)) if products is None else products
    out = np.empty((len(rows), model.dimensions), np.float32)
    done = 0
    with at_rest(model):
        for chosen in _by_length(dataset.region_counts[rows]):
            out[chosen] = encode_photos(model, dataset.regions(rows[chosen], boxes=model.needs_boxes))
            done += len(chosen)
            if progress is not None:
                progress(done, len(rows))
    return out


def encode_in_pieces(model: DualEncoder, photos: Regions) -> Float32[np.ndarray, "photos hidden"]:
    """The vectors of any number of photos, at most TOKENS_AT_ONCE regions (one photo at least) at once."""
    pieces = [encode_photos(model, photos.part(*piece)) for piece in pieces_of(photos.counts.numpy())]
    return np.concatenate(pieces)


def pieces_of(counts: Int64[np.ndarray, " photos"]) -> Iterator[tuple[int, int]]:
    """Where the first photo and the end of each piece of at most TOKENS_AT_ONCE regions (one photo at least) are."""
    ends = np.cumsum(counts)
    start, begin = 0, 0
    for end in range(1, len(ends) + 1):
        if end == len(ends) or ends[end] - begin > TOKENS_AT_ONCE:
            yield start, end
            start, begin = end, int(ends[end - 1])


def encode_regions(model: DualEncoder, photos: Sequence[np.ndarray]) -> Float32[np.ndarray, "photos hidden"]:
    """The vectors of photos that are in memory, one array [regions, features] each, in their order.

    Raises: ValueError for a photo without a region, features of another size than the model's or not finite, or a model
    that looks at boxes, which a dataset has.
    """
    if model.needs_boxes:
        raise ValueError("this model looks at boxes and labels of regions: give it a dataset, which has them")
    for number, regions in enumerate(photos):
        if regions.ndim != 2 or len(regions) == 0 or regions.shape[1] != model.feature_size:
            wanted = f"[1 or more, {model.feature_size}]"
            raise ValueError(f"photo {number}: regions of shape {list(regions.shape)}, wanted {wanted}")
        if not np.isfinite(regions).all():
            raise ValueError(f"photo {number}: a feature is not finite")
    out = np.empty((len(photos), model.dimensions), np.float32)
    for rows in _by_length(np.array([len(regions) for regions in photos], np.int64)):
        some = [torch.as_tensor(photos[row], dtype=torch.float32) for row in rows]
        lengths = torch.tensor([len(regions) for regions in some])
        out[rows] = encode_photos(model, Regions(torch.cat(some), lengths))
    return out


@torch.inference_mode()
def encode_photos(model: DualEncoder, photos: Regions) -> Float32[np.ndarray, "photos hidden"]:
    """The vectors of photos, in one forward pass."""
    with at_rest(model):
        vectors: np.ndarray = model.encode_photo(photos.to(model.device)).cpu().numpy()
    return vectors


def normalised(model: DualEncoder, texts: list[str]) -> list[str]:
    """The texts as the model's rules spell them."""
    return [normalise(text, rules) for text in texts] if (rules := model.query_rules) else texts


def knows(model: DualEncoder, tokenizer: Tokenizer, words: list[str]) -> list[bool]:
    """Of which words the model has learned something: one piece is in its vocabulary and, where its text side is a bag
    alone, a name of it.

    All other words look alike to a tower, and to a bag like none; the vector of a query of them alone says nothing.
    """
    pieces = known_pieces(tokenizer, tokenise(model, tokenizer, words))
    if model.text is not None or model.bag is None:
        return [bool(some) for some in pieces]
    tokens = torch.tensor([token for some in pieces for token in some], dtype=torch.int64)
    _, found = model.bag.rows_of(tokens.to(model.device))
    owners = np.repeat(np.arange(len(words)), [len(some) for some in pieces])
    known = np.zeros(len(words), bool)
    known[owners[found.cpu().numpy()]] = True
    return known.tolist()


def known_pieces(tokenizer: Tokenizer, tokens: list[Int64[np.ndarray, " _"]]) -> list[list[int]]:
    """The tokens of texts that stand for something: neither [UNK] nor another special one."""
    special = {tokenizer.token_to_id(name) for name in SPECIAL_TOKENS}
    return [[token for token in row.tolist() if token not in special] for row in tokens]


def check_features(model: DualEncoder, dataset: Dataset) -> None:
    """Raises: ValueError when the dataset's features have another size than the model's."""
    if dataset.feature_size != model.feature_size:
        raise ValueError(
            f"the dataset {dataset.path} has features of {dataset.feature_size} values,"
            f" the model takes {model.feature_size}"
        )


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
