"""Which products answer these words, and why? One class for command line, service, page and evaluation.

words -> tokens -> the bundle's text vector, or a photo's (photos.py), or both -> candidates of the index (lookup.py),
perhaps filtered, fused with full text, scored anew -> hits. A search takes one opened state of the index and stays in
it. Knows no web and no pixel. What needs the model itself is imported when it is asked for: torch takes seconds.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Bool, Float32, Shaped

from shopwindow.files import DataError, find_photo, real_path
from shopwindow.ids import as_ids
from shopwindow.model.exported_text import ExportedText
from shopwindow.model.text_side import Query, TextSide
from shopwindow.search.attributes import summarise
from shopwindow.search.catalogue import PLACES
from shopwindow.search.completion import Lexicon, complete
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
    UnknownProduct,
    View,
)
from shopwindow.search.index import BUNDLE, MANIFEST, TEXT_SIDE, OpenIndex, content_name, no_index
from shopwindow.search.lookup import (
    NOTHING,
    OpenPart,
    Ranked,
    find_by_texts,
    find_exactly,
    find_quickly,
    fused,
)
from shopwindow.search.photos import PhotoSide, takes_photos, weighted_sum
from shopwindow.search.roles import Roles
from shopwindow.vision.backbone import Backbone
from shopwindow.vision.fetch import IN_TAR

if TYPE_CHECKING:
    from shopwindow.model.bundle import Bundle
    from shopwindow.model.explanation import Explanation
    from shopwindow.model.rerankers import Reranker
    from shopwindow.search.product_regions import ProductRegions

MOST_TEXTS_SHOWN: Final = 8
_TRIED: Final = 50
_SAME: Final = 0.99
"""The lowest cosine of an exported text side's vector (int8's) with the bundle's."""


@dataclass(frozen=True)
class _Choice:
    """How an engine was asked to open its index, as `SearchEngine.open` says."""

    bundle: Path | None
    text: ExportedText | None
    backbone: Backbone | None
    quick: bool


@dataclass
class _Model:
    """The bundle of an index, opened when it is first asked for, once for all threads."""

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
    """What one search sees: an opened index, its model, which `index.json` it was, what encodes photos, and what
    encodes words instead of the bundle, if anything."""

    index: OpenIndex
    model: _Model
    stamp: tuple[int, int]
    photo_side: PhotoSide
    text_side: ExportedText | None = None

    @classmethod
    def open(cls, path: Path, choice: _Choice, before: _State | None = None) -> _State:
        """The newest state, with model, text side and photo side of the state before where they are the same. Raises:
        as the engine."""
        stamp = _stamp(path)
        index = OpenIndex.open(path)
        wanted = index.manifest.bundle_hash
        if before is not None and before.model.bundle_hash == wanted:
            return cls(index, before.model, stamp, before.photo_side, before.text_side)
        model = _Model(choice.bundle or path / BUNDLE, wanted)
        text_side = choice.text or (_own_text_side(index) if choice.quick else None)
        if choice.text is not None:
            _check_same_text_side(choice.text, model.get(), index)
        elif text_side is None:
            model.get()
        return cls(index, model, stamp, PhotoSide(index.manifest.backbone, choice.backbone), text_side)

    @property
    def bundle(self) -> Bundle:
        """The model itself. Raises: DataError where it was replaced since the index was opened."""
        return self.model.get()

    @property
    def words(self) -> TextSide:
        """What reads words."""
        return self.text_side or self.bundle

    @cached_property
    def regions(self) -> ProductRegions:
        """The regions of its products; datasets opened for them stay open."""
        from shopwindow.search.product_regions import ProductRegions

        return ProductRegions(self.index, self.bundle.regions)

    @cached_property
    def columns(self) -> tuple[ColumnView, ...]:
        """What can be filtered by, of the products that count."""
        known = [
            (part.segment.attributes, part)
            for part in self.index.parts
            if part.segment.attributes is not None
        ]
        living = [some if part.live is None else some.take(part.living_rows) for some, part in known]
        roles = dict(self.roles)
        views = summarise(self.index.manifest.columns, living)
        return tuple(replace(view, role=roles.get(view.name)) for view in views)

    @cached_property
    def roles(self) -> Roles:
        """Which columns say title, link, price and currency."""
        return Roles.of(self.index.manifest.columns, self.index.manifest.shown)

    @cached_property
    def label_counts(self) -> dict[int, int]:
        """How many products have a region of each label."""
        counts: Counter[int] = Counter()
        for part in self.index.parts:
            columns = part.segment.columns
            owners = np.repeat(np.arange(len(columns.ids)), np.diff(columns.region_bounds))
            base = int(columns.labels.max(initial=0)) + 1
            products, labels = np.divmod(np.unique(owners * base + columns.labels), base)
            counts.update((labels if part.live is None else labels[part.live[products]]).tolist())
        return dict(sorted(counts.items()))

    @cached_property
    def lexicon(self) -> Lexicon:
        """The words of its titles and texts."""
        counts: Counter[str] = Counter()
        for part in self.index.parts:
            counts.update(part.texts.vocabulary() if part.texts else {})
        return Lexicon(counts)

    @property
    def version(self) -> str:
        """Names the state."""
        return f"{self.index.manifest.revision}-{self.stamp[0]:x}"

    def locate(self, product_id: ProductId) -> tuple[OpenPart, int]:
        """The part that holds a product, and its row there. Raises: UnknownProduct."""
        place = self.index.locate(product_id)
        if place is None:
            raise UnknownProduct(product_id)
        return place

    def fit(self, where: Filter) -> Filter:
        """The filter with columns as the index spells them. Raises: ValueError as `fit_conditions`."""
        if not where.conditions:
            return where
        return Filter(where.labels, fit_conditions(where.conditions, self.index.manifest.columns))

    def read(self, texts: Sequence[str]) -> list[Query]:
        """The texts as the model reads them, tokenised once."""
        texts = [_clean(text) for text in texts]
        tokens = self.words.tokenise(texts)
        vectors = self.words.encode_tokens(tokens, texts)
        return [Query(*query) for query in zip(texts, tokens, vectors, strict=True)]

    def reranker_of(self, request: SearchRequest) -> Reranker | None:
        """What scores a request's first products anew. Raises: ValueError where a setting does not fit the index."""
        if request.hybrid and not self.index.has_texts:
            raise ValueError("hybrid: this index holds no texts; `index make --texts` gives it some")
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

    def __init__(self, path: Path, state: _State, choice: _Choice) -> None:
        self._path = path
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
        path = real_path(index)
        choice = _Choice(None if bundle is None else Path(bundle), text, backbone, quick)
        return cls(path, _State.open(path, choice), choice)

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
                texts = find_by_texts(state.index.parts, query.text, request.depth, request.where)
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
        return self._state.lexicon.correct(_clean(words))

    def suggest(self, typed: str, *, k: int = 8) -> list[str]:
        """Titles and known texts that go on what somebody is typing, best first (`completion.py`)."""
        parts = [(part.texts, part.live) for part in self._state.index.parts if part.texts is not None]
        return complete(_clean(typed), parts, k)

    def encode(self, words: Sequence[str]) -> Float32[np.ndarray, "queries hidden"]:
        """The vectors of words: what a search compares with those of the products."""
        model, texts = self._state.words, [_clean(text) for text in words]
        return model.encode_tokens(model.tokenise(texts), texts)

    def holds(self, product_ids: Shaped[np.ndarray, " asked"]) -> Bool[np.ndarray, " asked"]:
        """Which products the index holds."""
        return self._state.index.holds(product_ids)

    def count(self, where: Filter = EVERYTHING) -> int:
        """How many products pass a filter. Raises: ValueError for a condition that does not fit the columns."""
        index = self._state.index
        where = self._state.fit(where)
        if not where:
            return len(index)
        masks = [part.allowed(where) for part in index.parts]
        return sum(int(mask.sum()) for mask in masks if mask is not None)

    def with_views(self, hits: Sequence[Hit]) -> list[Hit]:
        """The hits with what a list shows of them; one that was deleted since the search is left out."""
        state = self._state
        places = state.index.places(as_ids(np.array([hit.product_id for hit in hits])))
        return [
            replace(hit, view=View(**_shown(state, hit.product_id, *place)))
            for hit, place in zip(hits, places, strict=True)
            if place is not None
        ]

    def product(self, product_id: ProductId) -> ProductView:
        """What is known of a product. Raises: UnknownProduct."""
        index = self._state.index
        part, row = self._state.locate(product_id)
        columns, names = part.segment.columns, index.manifest.label_names
        regions = slice(*columns.region_bounds[row : row + 2].tolist())
        labels = columns.labels[regions].tolist()
        held = columns.ids[row].item()
        return ProductView(
            product_id=held,
            boxes=tuple((box[0], box[1], box[2], box[3]) for box in columns.boxes[regions].tolist()),
            labels=tuple(labels),
            label_names=tuple(names.get(label, str(label)) for label in labels),
            texts=part.texts.of(held)[:MOST_TEXTS_SHOWN] if part.texts else (),
            **_shown(self._state, held, part, row),
        )

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
        return explain(state.bundle, _clean(words), state.regions.raw(*state.locate(product_id)))

    def stats(self) -> dict[str, Any]:
        """Numbers of the open state, as JSON can write them. `rerankers`: those of the model that can be asked for."""
        state, own = self._state, self._state.bundle.reranker
        names = [own.name] if own is not None and state.regions.at_hand(own) else []
        numbers, by_photo = state.index.numbers(), takes_photos(state.photo_side.spec)
        return {**numbers, "version": state.version, "rerankers": names, "by_photo": by_photo}

    @property
    def version(self) -> str:
        """Names the state of the index that is open; changes with every change."""
        return self._state.version

    @property
    def columns(self) -> tuple[ColumnView, ...]:
        """The shop's own columns to filter by. `image_h` and `image_w` (px) can be asked for too."""
        return self._state.columns

    @property
    def label_counts(self) -> dict[int, int]:
        """How many products have a region of each label."""
        return self._state.label_counts

    def words_of(self, column: str) -> tuple[str, ...]:
        """All words of one of the shop's own columns, rising; none of a column of numbers or where there is none. The
        column's name in any case."""
        names = self._state.index.manifest.columns
        if column not in names:
            column = next((name for name in names if name.casefold() == column.casefold()), column)
        words: set[str] = set()
        for part in self._state.index.parts:
            if part.segment.attributes is not None:
                words |= part.segment.attributes.words(column, part.living_rows)
        return tuple(sorted(words))

    @property
    def label_names(self) -> dict[int, str]:
        """Names of labels that tell what a photo shows; empty where none were given."""
        made = self._state.index.manifest
        everywhere = () if made.backbone is None else PLACES
        return {label: name for label, name in made.label_names.items() if label not in everywhere}

    def at_rest(self) -> SearchEngine:
        """An engine that stays in the state that is open now, for questions whose answers must fit each other.

        What this engine's `reload` opens does not reach it. Costs nothing."""
        return SearchEngine(self._path, self._state, self._choice)

    def reload(self) -> bool:
        """Opens the newest state of the index where there is one; says whether there was. Searches in flight go on in
        the old one.

        Raises: DataError as `open`; the old state then stays open.
        """
        before = self._state
        if _stamp(self._path) == before.stamp:
            return False
        self._state = _State.open(self._path, self._choice, before)
        return True


def _own_text_side(index: OpenIndex) -> ExportedText | None:
    """The exported text side that an index holds; None where there is none, or no onnxruntime. Raises: DataError."""
    name, path = index.manifest.text_side, index.path / TEXT_SIDE
    if name is None or importlib.util.find_spec("onnxruntime") is None:
        return None
    if not path.is_dir() or content_name(path) != name:
        raise DataError("a file is lost or not as it was written; make the index again", path=path)
    return ExportedText.load(path)


def _check_same_text_side(text: ExportedText, bundle: Bundle, index: OpenIndex) -> None:
    """Asks both for the vectors of golden queries. Raises: DataError where they are others."""
    from shopwindow.search.golden import Golden

    golden = index.manifest.golden
    if golden is None:
        raise DataError("has no golden queries to try a text side with", path=index.path)
    words = list(Golden.read(index.path / golden).texts)[:_TRIED]
    theirs, ours = text.encode_texts(words), bundle.encode_texts(words)
    if theirs.shape == ours.shape:
        lengths = np.linalg.norm(theirs, axis=1) * np.linalg.norm(ours, axis=1)
        if ((theirs * ours).sum(axis=1) >= _SAME * lengths).all():
            return
    raise DataError("the exported text side is of another model than the index was made by", path=index.path)


def _stamp(path: Path) -> tuple[int, int]:
    """Differs between any two states: each has its own `index.json`."""
    try:
        stat = (path / MANIFEST).stat()
    except OSError as error:
        raise DataError(no_index(f": {error.strerror}"), path=path) from error
    return stat.st_mtime_ns, stat.st_ino


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
    """The vector of a product as the index keeps it, or of one region of its photo. Raises: ValueError for no such
    region."""
    part, row = state.locate(product_id)
    vector: Float32[np.ndarray, " hidden"]
    if region is None:
        vector = part.segment.vectors(np.array([row]))[0]
        return vector
    photo = state.regions.raw(part, row)
    count = len(photo.features)
    if not 0 <= region < count:
        raise ValueError(f"region {region}: product {product_id} has regions 0 to {count - 1}")
    import torch

    one = replace(photo.take_regions(torch.tensor([region]), torch.tensor([1])), titles=None)
    vector = state.bundle.encode_products(one)[0]
    return vector


def _nearest(state: _State, requests: Sequence[SearchRequest], queries: Sequence[Query]) -> list[Ranked]:
    """What the vectors find for each request. Exact searches of one depth and filter are done in one scan."""
    nearest = [NOTHING] * len(requests)
    scans: dict[tuple[int, Filter], list[int]] = {}
    for row, (request, query) in enumerate(zip(requests, queries, strict=True)):
        if request.by_words_alone and not _says_something(state, query):
            continue  # the vector of words that the model knows nothing of says nothing
        if request.exact:
            scans.setdefault((request.depth, request.where), []).append(row)
        else:
            nearest[row] = find_quickly(state.index.parts, query.vector, request.depth, where=request.where)
    for (depth, where), rows in scans.items():
        vectors = np.stack([queries[row].vector for row in rows])
        exact = find_exactly(state.index.parts, vectors, depth, where=where)
        for row, ranked in zip(rows, exact, strict=True):
            nearest[row] = ranked
    for row, request in enumerate(requests):
        if request.product is not None:
            part, place = state.locate(request.product)
            others = nearest[row].ids != part.ids(np.array([place]))
            nearest[row] = nearest[row].take(np.flatnonzero(others))
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


def _photo_file(source: str) -> Path | str | None:
    """The file that a source names; text where it lies in a tar or a store."""
    if os.path.isfile(source):  # noqa: PTH113 - as `find_photo`
        return Path(source)
    return source if IN_TAR in source or "://" in source else None


def _shown(state: _State, product_id: ProductId, part: OpenPart, row: int) -> dict[str, Any]:
    """The fields of the `View` of a product."""
    segment = part.segment
    image_h, image_w = segment.columns.sizes[row].tolist()
    catalogue = segment.catalogue.of(row) if segment.catalogue else {}
    values = segment.attributes.of(row) if segment.attributes else {}
    told = state.roles.shown(values)
    photo, source = find_photo(state.index.manifest.photos, product_id), str(catalogue.get("photo", ""))
    is_url = source.startswith(("http://", "https://"))
    return {
        "image_h": image_h,
        "image_w": image_w,
        "photo": photo or (None if is_url else _photo_file(source)),
        "photo_url": source if is_url and photo is None else None,
        **told,
        "title": catalogue.get("title") or told["title"],
        "values": values,
    }
