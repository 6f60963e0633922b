"""Which products answer these words, and why? One class for command line, service, page and evaluation.

words -> tokens -> the bundle's text vector, or a photo's (photos.py), or both -> candidates of the index (lookup.py),
perhaps filtered, fused with full text, scored anew -> hits. A search takes one opened state of the index and stays in
it. Knows no web and no pixel. What needs the model itself is imported when it is asked for: torch takes seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Bool, Float32, Shaped

from shopwindow.files import DataError, real_path
from shopwindow.model.exported_text import ExportedText
from shopwindow.model.text_side import Query, TextSide
from shopwindow.search.catalogue import PLACES
from shopwindow.search.conditions import fit_conditions
from shopwindow.search.hits import (
    EVERYTHING,
    ColumnView,
    Filter,
    Hit,
    PhotoQuery,
    ProductId,
    ProductView,
    SearchRequest,
)
from shopwindow.search.lookup import NOTHING, Ranked, fused
from shopwindow.search.photos import PhotoSide, takes_photos, weighted_sum
from shopwindow.search.stores.local import LocalFiles
from shopwindow.search.stores.protocol import Origin, Store, StoredRegions
from shopwindow.vision.backbone import Backbone

if TYPE_CHECKING:
    from shopwindow.model.bundle import Bundle
    from shopwindow.model.explanation import Explanation
    from shopwindow.model.rerankers import Reranker

_TRIED: Final = 50
_SAME: Final = 0.99
"""The lowest cosine of an exported text side's vector (int8's) with the bundle's."""


@dataclass(frozen=True)
class _Choice:
    """How an engine was asked to open its store, as `SearchEngine.open` says."""

    bundle: Path | None
    text: ExportedText | None
    backbone: Backbone | None
    quick: bool


@dataclass
class _Model:
    """The bundle of a store, opened when it is first asked for, once for all threads."""

    path: Path
    bundle_hash: str
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _opened: Bundle | None = None

    def get(self) -> Bundle:
        """Raises: DataError as `load_same_bundle`."""
        from shopwindow.search.own_bundle import load_same_bundle

        with self._lock:
            if self._opened is None:
                self._opened = load_same_bundle(self.path, self.bundle_hash)
            return self._opened


@dataclass(frozen=True)
class _State:
    """What one search sees: an opened store, its model, what encodes photos, and what encodes words instead of the
    bundle, if anything."""

    store: Store
    model: _Model
    photo_side: PhotoSide
    text_side: ExportedText | None = None

    @classmethod
    def open(cls, origin: Origin, choice: _Choice, before: _State | None = None) -> _State:
        """The newest state, with model, text side and photo side of the state before where they are the same. Raises:
        as the engine."""
        store = origin.open()
        wanted, bundle = store.bundle_hash, choice.bundle or origin.bundle
        if before is not None and before.model.bundle_hash == wanted:
            return cls(store, before.model, before.photo_side, before.text_side)
        if bundle is None:
            raise ValueError("the model is not in the database: a bundle is wanted")
        model = _Model(bundle, wanted)
        text_side = choice.text or (store.text_side() if choice.quick else None)
        if choice.text is not None:
            _check_same_text_side(choice.text, model.get(), store.known_texts(), bundle)
        elif text_side is None:
            model.get()
        return cls(store, model, PhotoSide(store.backbone, choice.backbone), text_side)

    @property
    def bundle(self) -> Bundle:
        """The model itself. Raises: DataError where it was replaced since the index was opened."""
        return self.model.get()

    @property
    def words(self) -> TextSide:
        """What reads words."""
        return self.text_side or self.bundle

    @cached_property
    def regions(self) -> StoredRegions:
        """The regions of its products."""
        return self.store.regions(self.bundle.regions)

    def fit(self, where: Filter) -> Filter:
        """The filter with columns as the index spells them. Raises: ValueError as `fit_conditions`."""
        if not where.conditions:
            return where
        return Filter(where.labels, fit_conditions(where.conditions, self.store.kinds))

    def read(self, texts: Sequence[str]) -> list[Query]:
        """The texts as the model reads them, tokenised once."""
        texts = [_clean(text) for text in texts]
        tokens = self.words.tokenise(texts)
        vectors = self.words.encode_tokens(tokens, texts)
        return [Query(*query) for query in zip(texts, tokens, vectors, strict=True)]

    def reranker_of(self, request: SearchRequest) -> Reranker | None:
        """What scores a request's first products anew. Raises: ValueError where a setting does not fit the index."""
        if request.hybrid and not self.store.has_texts:
            raise ValueError(f"hybrid: {self.store.without_texts()}")
        if request.rerank is None:
            return None
        from shopwindow.model.rerankers import find

        reranker = find(request.rerank, self.bundle)
        self.regions.check(reranker)
        return reranker


class SearchEngine:
    """Searches an index. Safe to read from several threads; a search sees one state of the index throughout.

    Made by `open`. Scores are dot products of vectors, higher is better; equal ones stand by smaller product id.
    """

    def __init__(self, origin: Origin, state: _State, choice: _Choice) -> None:
        self._origin = origin
        self._state = state
        self._choice = choice

    @classmethod
    def open(
        cls,
        index: str | Path,
        *,
        bundle: str | Path | None = None,
        text: ExportedText | None = None,
        backbone: Backbone | None = None,
        quick: bool = False,
    ) -> SearchEngine:
        """Opens an index with its own copy of the bundle, or with `bundle`, which must be the same model. `text`: the
        exported text side of that model, which then turns words into vectors, faster. `backbone`: one that is open
        already, the same that the index names, which is else opened for the first photo.

        `quick`: the index's own text side encodes words, where it has one and onnxruntime is installed. The bundle, and
        torch, are loaded when a photo, a reranker or an explanation asks for them. Scores are the bundle's to 1e-5.

        Raises: DataError for a broken or foreign index, a bundle of other content, or the text side of another model.
        """
        choice = _Choice(None if bundle is None else Path(bundle), text, backbone, quick)
        origin = LocalFiles(real_path(index))
        return cls(origin, _State.open(origin, choice), choice)

    @classmethod
    def over(
        cls,
        store: Origin,
        *,
        bundle: str | Path,
        text: ExportedText | None = None,
        backbone: Backbone | None = None,
    ) -> SearchEngine:
        """Opens a database, `DatabaseOrigin(open_database(url))`, whose vectors `bundle` made. The others are those
        of `open`.

        Raises: DataError for a store that holds no products, or whose vectors are another bundle's.
        StoreUnavailableError where the database does not answer.
        """
        choice = _Choice(Path(bundle), text, backbone, quick=False)
        return cls(store, _State.open(store, choice), choice)

    def search(self, words: str | SearchRequest, **settings: Any) -> list[Hit]:
        """The best k products for the words, fewer when there are fewer. `settings` are those of `SearchRequest`, which
        may be given instead of words: `search("red shoe", k=5, where=Filter(parse_conditions(["price<=20"])))`.

        Words of which the model knows none (`unknown_words`) find nothing but by full text. Fused products score
        1 / (60 + rank) of either ranking, summed.

        Raises: ValueError as `SearchRequest`, for a condition that does not fit the index's columns, or hybrid
        without texts. ValueError for a reranker that does not fit the model, or another number of new scores than
        products. UnknownProduct.
        DataError, where regions are needed, if the dataset that holds them is gone or was replaced.
        """
        return self.search_many([words], **settings)[0]

    def search_many(self, words: Sequence[str | SearchRequest], **settings: Any) -> list[list[Hit]]:
        """The hits of several queries, in their order: those of `search`, cheaper. Raises: as `search`."""
        requests = [
            asked if isinstance(asked, SearchRequest) else SearchRequest(asked, **settings) for asked in words
        ]
        state = self._state
        requests = [replace(request, where=state.fit(request.where)) for request in requests]
        rerankers = [state.reranker_of(request) for request in requests]
        queries = _queries(state, requests)
        hits = []
        nearest = _nearest(state, requests, queries)
        for request, query, reranker, ranked in zip(requests, queries, rerankers, nearest, strict=True):
            if request.hybrid:
                texts = state.store.find_by_texts(query.text, request.depth, request.where)
                ranked = fused(ranked, texts, request.wanted)
            if reranker is not None and len(ranked.ids):
                ranked = _reranked(state, query, ranked, reranker)
            hits.append(_hits(ranked, request.k))
        return hits

    def encode_photo(self, content: bytes) -> PhotoQuery:
        """A picture's bytes, as a search asks with it: `search(SearchRequest(photo=engine.encode_photo(content)))`.

        Raises: as `PhotoSide.regions`.
        """
        state = self._state
        return PhotoQuery(state.bundle.encode_products(state.photo_side.regions(content))[0])

    def similar(self, product_id: ProductId, *, k: int = 10, where: Filter = EVERYTHING) -> list[Hit]:
        """The products whose photos are nearest to one's own, itself left out. Raises: as `search`."""
        return self.search(SearchRequest(product=product_id, k=k, where=where))

    def similar_region(
        self, product_id: ProductId, region: int, *, k: int = 10, where: Filter = EVERYTHING
    ) -> list[Hit]:
        """The products nearest to one region (box) of a product, taken as a photo of its own; itself left out.

        The region is taken as the dataset has it, also where the index was made of smoothed regions. It is a query,
        as words are; only what is searched is smoothed. Raises: as `search`, and ValueError for no such region.
        """
        return self.search(SearchRequest(product=product_id, region=region, k=k, where=where))

    def unknown_words(self, words: str) -> tuple[str, ...]:
        """The words, parted by spaces, that the model knows nothing of, each once."""
        model = self._state.words
        # As far as the model reads: each is a token or more.
        parts = _clean(words).split()[: model.longest]
        known = zip(parts, model.knows(parts), strict=True)
        return tuple(dict.fromkeys(word for word, is_known in known if not is_known))

    def correct(self, words: str) -> str | None:
        """The words with mistyped ones replaced by those of titles and known texts; None where none is mistyped."""
        return self._state.store.correct(_clean(words))

    def suggest(self, typed: str, *, k: int = 8) -> list[str]:
        """Titles and known texts that go on what somebody is typing, best first (`completion.py`)."""
        return self._state.store.suggest(_clean(typed), k)

    def encode(self, words: Sequence[str]) -> Float32[np.ndarray, "queries hidden"]:
        """The vectors of words: what a search compares with those of the products."""
        model, texts = self._state.words, [_clean(text) for text in words]
        return model.encode_tokens(model.tokenise(texts), texts)

    def holds(self, product_ids: Shaped[np.ndarray, " asked"]) -> Bool[np.ndarray, " asked"]:
        """Which products the index holds."""
        return self._state.store.holds(product_ids)

    def count(self, where: Filter = EVERYTHING) -> int:
        """How many products pass a filter. Raises: ValueError for a condition that does not fit the columns."""
        return self._state.store.count(self._state.fit(where))

    def with_views(self, hits: Sequence[Hit]) -> list[Hit]:
        """The hits with what a list shows of them; one that was deleted since the search is left out."""
        ids = np.array([hit.product_id for hit in hits])
        views = self._state.store.views(ids) if len(ids) else []
        return [replace(hit, view=view) for hit, view in zip(hits, views, strict=True) if view is not None]

    def product(self, product_id: ProductId) -> ProductView:
        """What is known of a product. Raises: UnknownProduct."""
        return self._state.store.product(product_id)

    def explain(self, words: str, product_id: ProductId) -> Explanation:
        """Which word looks at which box (explanation.py says how).

        The regions are those of the dataset. Where the index was made of smoothed vectors or regions, which `stats()`
        tells, the score is not that of the hit.

        Raises: UnknownProduct, ValueError for no words, DataError as `search`.
        """
        if not words.strip():
            raise ValueError("no words to explain")
        from shopwindow.model.explanation import explain

        state = self._state
        return explain(state.bundle, _clean(words), state.regions.raw(product_id))

    def stats(self) -> dict[str, Any]:
        """Numbers of the open state, as JSON can write them. `rerankers`: those of the model that can be asked for."""
        state, own = self._state, self._state.bundle.reranker
        names = [own.name] if own is not None and state.regions.at_hand(own) else []
        numbers, by_photo = state.store.numbers(), takes_photos(state.photo_side.spec)
        return {**numbers, "version": state.store.version, "rerankers": names, "by_photo": by_photo}

    @property
    def version(self) -> str:
        """Names the state of the index that is open; changes with every change."""
        return self._state.store.version

    @property
    def columns(self) -> tuple[ColumnView, ...]:
        """The shop's own columns to filter by. `image_h` and `image_w` (px) can be asked for too."""
        return self._state.store.columns

    @property
    def label_counts(self) -> dict[int, int]:
        """How many products have a region of each label."""
        return dict(self._state.store.label_counts)

    def words_of(self, column: str) -> tuple[str, ...]:
        """All words of one of the shop's own columns, rising; none of a column of numbers or where there is none. The
        column's name in any case."""
        names = self._state.store.kinds
        if column not in names:
            column = next((name for name in names if name.casefold() == column.casefold()), column)
        return tuple(self._state.store.words_of(column))

    @property
    def label_names(self) -> dict[int, str]:
        """Names of labels that tell what a photo shows; empty where none were given."""
        store = self._state.store
        everywhere = () if store.backbone is None else PLACES
        return {label: name for label, name in store.label_names.items() if label not in everywhere}

    def at_rest(self) -> SearchEngine:
        """An engine that stays in the state that is open now, for questions whose answers must fit each other.

        What this engine's `reload` opens does not reach it. Costs nothing."""
        return SearchEngine(self._origin, self._state, self._choice)

    def reload(self) -> bool:
        """Opens the newest state of the index where there is one; says whether there was. Searches in flight go on in
        the old one.

        Raises: DataError as `open`; the old state then stays open.
        """
        before = self._state
        if self._origin.stamp() == before.store.stamp:
            return False
        self._state = _State.open(self._origin, self._choice, before)
        return True


def _check_same_text_side(text: ExportedText, bundle: Bundle, known: list[str], path: Path) -> None:
    """Asks both for the vectors of some texts. Raises: DataError where they are others."""
    words = known[:_TRIED]
    theirs, ours = text.encode_texts(words), bundle.encode_texts(words)
    if theirs.shape == ours.shape:
        lengths = np.linalg.norm(theirs, axis=1) * np.linalg.norm(ours, axis=1)
        if ((theirs * ours).sum(axis=1) >= _SAME * lengths).all():
            return
    raise DataError("the exported text side is of another model than the index was made by", path=path)


def _clean(words: str) -> str:
    """The words without halves of surrogate pairs, which no tokenizer takes."""
    return words.encode("utf-8", "replace").decode()


def _queries(state: _State, requests: Sequence[SearchRequest]) -> list[Query]:
    """What each request compares with the index: its words, tokenised once, and the vector of words or photo."""
    read = iter(state.read([request.words for request in requests if request.has_words]))
    return [_query(state, request, next(read) if request.has_words else None) for request in requests]


def _query(state: _State, request: SearchRequest, words: Query | None) -> Query:
    if request.product is not None:
        return Query("", np.zeros(0, np.int64), _product_vector(state, request.product, request.region))
    if request.photo is None:
        assert words is not None
        return words
    photo = request.photo.vector
    if words is None or not _says_something(state, words):
        return Query("", np.zeros(0, np.int64), photo)
    return replace(words, vector=weighted_sum(words.vector, photo, request.share))


def _says_something(state: _State, words: Query) -> bool:
    """Whether the model knows something of the words."""
    return bool(words.vector.any()) and state.words.reads(words.tokens)


def _product_vector(
    state: _State, product_id: ProductId, region: int | None
) -> Float32[np.ndarray, " hidden"]:
    """The vector of a product as the store keeps it, or of one region of its photo. Raises: ValueError for no such
    region."""
    if region is None:
        return state.store.vector(product_id)[1]
    photo = state.regions.raw(product_id)
    count = len(photo.features)
    if not 0 <= region < count:
        raise ValueError(f"region {region}: product {product_id} has regions 0 to {count - 1}")
    import torch

    one = replace(photo.take_regions(torch.tensor([region]), torch.tensor([1])), titles=None)
    vector: Float32[np.ndarray, " hidden"] = state.bundle.encode_products(one)[0]
    return vector


def _nearest(state: _State, requests: Sequence[SearchRequest], queries: Sequence[Query]) -> list[Ranked]:
    """What the vectors find for each request. Searches of one depth and filter are asked together."""
    nearest = [NOTHING] * len(requests)
    together: dict[tuple[int, Filter, bool], list[int]] = {}
    for row, (request, query) in enumerate(zip(requests, queries, strict=True)):
        if request.by_words_alone and not _says_something(state, query):
            continue  # the vector of words that the model knows nothing of says nothing
        together.setdefault((request.depth, request.where, request.exact), []).append(row)
    for (depth, where, exact), rows in together.items():
        vectors = np.stack([queries[row].vector for row in rows])
        ranked = state.store.find(vectors, depth, where, exact=exact)
        for row, best in zip(rows, ranked, strict=True):
            nearest[row] = best
    for row, request in enumerate(requests):
        if request.product is not None:
            held, _ = state.store.vector(request.product)
            nearest[row] = nearest[row].take(np.flatnonzero(nearest[row].ids != held))
    return nearest


def _reranked(state: _State, query: Query, ranked: Ranked, reranker: Reranker) -> Ranked:
    """The products found by their new scores; of equal ones the smaller id first."""
    scores = reranker.score(query, state.regions.pool(ranked, reranker))
    if scores.shape != ranked.ids.shape:
        raise ValueError(f"{scores.size} new scores for {len(ranked.ids)} products")
    return replace(ranked, scores=scores).best()


def _hits(ranked: Ranked, k: int) -> list[Hit]:
    pairs = zip(ranked.ids[:k].tolist(), ranked.scores[:k].tolist(), strict=True)
    return [Hit(product, score, rank) for rank, (product, score) in enumerate(pairs, start=1)]
