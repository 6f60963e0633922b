"""Which products answer these words, and why? One class for command line, service, page and evaluation.

words -> the bundle's text vector -> candidates of the index (lookup.py), perhaps filtered, fused with full text,
scored anew -> hits. A search takes one opened state of the index and stays in it. Knows no web.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

from shopwindow.files import DataError
from shopwindow.model.bundle import Bundle
from shopwindow.model.encoder import encode_photos
from shopwindow.model.explanation import Explanation, explain
from shopwindow.model.exported_text import ExportedText
from shopwindow.ranking.operators import Operator
from shopwindow.search.attributes import summarise
from shopwindow.search.bundled import check_same_text_side, load_same_bundle
from shopwindow.search.conditions import check_conditions
from shopwindow.search.golden import Golden
from shopwindow.search.hits import EVERYTHING, ColumnView, Filter, Hit, ProductView, ShownHit, UnknownProduct
from shopwindow.search.hybrid import FUSED, by_texts, fused
from shopwindow.search.index import BUNDLE, MANIFEST, OpenIndex, OpenPart
from shopwindow.search.lookup import Found, allowed_rows, find, find_exactly
from shopwindow.search.regions import ProductRegions
from shopwindow.search.reranking import LATE, Candidates, Reranking, check_reranking, pool_scores
from shopwindow.search.showing import living_words, shown_hits, view_of

Rerank = Callable[[str, list[int]], Sequence[float]]
"""Takes the words and the ids of the first products, gives their new scores."""

RERANKED: Final = 50
"""First products that are scored anew, where nothing else is asked for."""
_NOTHING: Final = Found(np.zeros(0, np.int64), np.zeros(0))


@dataclass(frozen=True)
class _State:
    """What one search sees: an opened index, its bundle, which `index.json` it was, and what encodes words instead of
    the bundle, if anything."""

    index: OpenIndex
    bundle: Bundle
    stamp: tuple[int, int]
    text: ExportedText | None = None

    @cached_property
    def regions(self) -> ProductRegions:
        """The regions of its products; datasets opened for them stay open."""
        return ProductRegions(self.index, self.bundle.model)

    @cached_property
    def columns(self) -> tuple[ColumnView, ...]:
        """What can be filtered by, of the products that count."""
        known = [
            (part.segment.attributes, part)
            for part in self.index.parts
            if part.segment.attributes is not None
        ]
        living = [some if part.live is None else some.take(part.living_rows) for some, part in known]
        return summarise(self.index.manifest.columns, living)

    @property
    def version(self) -> str:
        """Names the state."""
        return f"{self.index.manifest.revision}-{self.stamp[0]:x}"


class SearchEngine:
    """Searches an index. Safe to read from several threads; a search sees one state of the index throughout.

    Made by `open`. Scores are dot products of vectors, higher is better; equal ones stand by smaller product id.
    """

    def __init__(self, path: Path, state: _State, bundle: Path | None) -> None:
        self._path = path
        self._state = state
        self._bundle = bundle

    @classmethod
    def open(
        cls, index: str | Path, *, bundle: str | Path | None = None, text: ExportedText | None = None
    ) -> SearchEngine:
        """Opens an index with its own copy of the bundle, or with `bundle`, which must be the same model. `text`: the
        exported text side of that model, which then turns words into vectors, faster.

        Raises: DataError for a broken or foreign index, a bundle of other content, or the text side of another model.
        """
        path = Path(index).resolve()
        chosen = None if bundle is None else Path(bundle)
        return cls(path, _opened(path, chosen, None, text), chosen)

    def search(
        self,
        words: str,
        *,
        k: int = 10,
        where: Filter = EVERYTHING,
        exact: bool = False,
        hybrid: bool = False,
        rerank: Rerank | Reranking | None = None,
        candidates: int = RERANKED,
    ) -> list[Hit]:
        """The best k products for the words, fewer when there are fewer.

        `where`: only products that pass, such as `Filter(conditions=parse_conditions(["price<=20"]))`. `exact`: every
        vector is read, whatever the index is set to. `hybrid`: fused with full text by reciprocal rank (1 / (60 + rank)
        of either list, summed: that is the score then). `rerank`: gives the first `candidates`, or k where that is
        more, new scores: `late`, a pool operator (`reranking.py`), or a function of your own.

        Words of which the model knows none (`unknown_words`) find nothing but by full text.

        Raises: ValueError for no words, a k or candidates below 1, a condition that does not fit the index's columns,
        hybrid without texts, a re-ranking that does not fit the model, or another number of new scores than products.
        DataError, of `late`, as `similar_region`.
        """
        return self.search_many(
            [words], k=k, where=where, exact=exact, hybrid=hybrid, rerank=rerank, candidates=candidates
        )[0]

    def search_many(
        self,
        words: Sequence[str],
        *,
        k: int = 10,
        where: Filter = EVERYTHING,
        exact: bool = False,
        hybrid: bool = False,
        rerank: Rerank | Reranking | None = None,
        candidates: int = RERANKED,
    ) -> list[list[Hit]]:
        """The hits of several queries, in their order: those of `search`, cheaper. Raises: as `search`."""
        for one in words:
            _check(one, k)
        state = self._state
        check_conditions(where.conditions, state.index.manifest.columns)
        if hybrid and not state.index.has_texts:
            raise ValueError("hybrid: this index holds no texts; `index --texts` gives it some")
        wanted = _wanted(state, k, rerank, candidates)
        depth = max(wanted, FUSED) if hybrid else wanted
        vectors = _encode(state, list(words))
        every = (
            found if vector.any() and state.bundle.reads(_clean(text)) else _NOTHING
            for text, vector, found in zip(
                words, vectors, _found(state, vectors, depth, where, exact=exact), strict=True
            )
        )
        if hybrid:
            every = (
                fused(found, by_texts(state.index, _clean(text), depth, where), wanted)
                for text, found in zip(words, every, strict=True)
            )
        if rerank is not None:
            every = (
                _reranked(state, text, vector, found, rerank)
                for text, vector, found in zip(words, vectors, every, strict=True)
            )
        return [_hits(found, k) for found in every]

    def unknown_words(self, words: str) -> tuple[str, ...]:
        """The words, parted by spaces, that the model knows nothing of, each once."""
        state = self._state
        parts = _parts(state, words)
        known = zip(parts, state.bundle.knows(parts), strict=True)
        return tuple(dict.fromkeys(word for word, is_known in known if not is_known))

    def holds(self, product_ids: Int64[np.ndarray, " asked"]) -> Bool[np.ndarray, " asked"]:
        """Which products the index holds."""
        return self._state.index.holds(product_ids)

    def count(self, where: Filter = EVERYTHING) -> int:
        """How many products pass a filter. Raises: ValueError for a condition that does not fit the columns."""
        index = self._state.index
        check_conditions(where.conditions, index.manifest.columns)
        if not where:
            return len(index)
        masks = [allowed_rows(part, where) for part in index.parts]
        return sum(int(mask.sum()) for mask in masks if mask is not None)

    def encode(self, words: Sequence[str]) -> Float32[np.ndarray, "queries hidden"]:
        """The vectors of words: what a search compares with those of the products."""
        return _encode(self._state, list(words))

    def similar(self, product_id: int, *, k: int = 10, where: Filter = EVERYTHING) -> list[Hit]:
        """The products whose photos are nearest to one's own, itself left out.

        Raises: UnknownProduct, ValueError for a k below 1 or a condition that does not fit.
        """
        _check_count(k)
        state = self._state
        part, row = _locate(state, product_id)
        return _others(state, part.segment.vectors(np.array([row]))[0], product_id, k, where)

    def similar_region(
        self, product_id: int, region: int, *, k: int = 10, where: Filter = EVERYTHING
    ) -> list[Hit]:
        """The products nearest to one region (box) of a product, taken as a photo of its own; itself left out.

        The region is taken as the dataset has it, also where the index was made of smoothed regions: it asks, as words
        do; only what is searched is smoothed.

        Raises: UnknownProduct, ValueError as `similar` and for no such region, DataError where the dataset that holds
        the regions is gone or was replaced.
        """
        _check_count(k)
        state = self._state
        photo = state.regions.raw(*_locate(state, product_id))
        count = len(photo.features)
        if not 0 <= region < count:
            raise ValueError(f"region {region}: product {product_id} has regions 0 to {count - 1}")
        one = photo.take_regions(torch.tensor([region]), torch.tensor([1]))
        vector = encode_photos(state.bundle.model, one)[0]
        return _others(state, vector, product_id, k, where)

    def shown(self, hits: Sequence[Hit]) -> list[ShownHit]:
        """Hits as a list shows them; one that was deleted since the search is left out."""
        return shown_hits(self._state.index, hits)

    def product(self, product_id: int) -> ProductView:
        """What is known of a product. Raises: UnknownProduct."""
        return view_of(self._state.index, product_id)

    def explain(self, words: str, product_id: int) -> Explanation:
        """Which word looks at which box (explanation.py says how).

        Of the regions as the dataset has them: where the index was made of smoothed vectors or regions (`stats()` says
        so), its score is not that of the hit.

        Raises: UnknownProduct, ValueError for no words, DataError as `similar_region`.
        """
        _check(words, 1)
        state = self._state
        return explain(state.bundle, _clean(words), state.regions.raw(*_locate(state, product_id)))

    def stats(self) -> dict[str, Any]:
        """Numbers of the open state, as JSON can write them."""
        state = self._state
        return {**state.index.numbers(), "version": state.version, "late": state.regions.for_late}

    @property
    def version(self) -> str:
        """Names the state of the index that is open; changes with every change."""
        return self._state.version

    @property
    def columns(self) -> tuple[ColumnView, ...]:
        """The shop's own columns to filter by. `image_h` and `image_w` (px) can be asked for too."""
        return self._state.columns

    def words_of(self, column: str) -> tuple[str, ...]:
        """All words of one of the shop's own columns, rising; none of a column of numbers or where there is none."""
        return living_words(self._state.index, column)

    @property
    def label_names(self) -> dict[int, str]:
        """Names of labels; empty where none were given."""
        return dict(self._state.index.manifest.label_names)

    def at_rest(self) -> SearchEngine:
        """An engine that stays in the state that is open now, for questions whose answers must fit each other; what
        this one's `reload` opens does not reach it. Costs nothing."""
        return SearchEngine(self._path, self._state, self._bundle)

    def reload(self) -> bool:
        """Opens the newest state of the index where there is one; says whether there was. Searches in flight go on in
        the old one.

        Raises: DataError as `open`; the old state then stays open.
        """
        before = self._state
        if _stamp(self._path) == before.stamp:
            return False
        self._state = _opened(self._path, self._bundle, before, before.text)
        return True


def _opened(path: Path, bundle: Path | None, before: _State | None, text: ExportedText | None) -> _State:
    stamp = _stamp(path)
    index = OpenIndex.open(path)
    wanted = index.manifest.bundle_hash
    if before is not None and before.index.manifest.bundle_hash == wanted:
        return _State(index, before.bundle, stamp, text=text)
    opened = load_same_bundle(bundle or path / BUNDLE, wanted)
    if text is not None:
        golden = index.manifest.golden
        if golden is None:
            raise DataError("has no golden queries to try a text side with", path=path)
        check_same_text_side(text, opened, list(Golden.read(path / golden).texts), path)
    return _State(index, opened, stamp, text=text)


def _stamp(path: Path) -> tuple[int, int]:
    """Differs between any two states: each has its own `index.json`."""
    try:
        found = (path / MANIFEST).stat()
    except OSError as error:
        says = "no index (a directory with index.json that `shopwindow index` writes)"
        raise DataError(f"{says}: {error.strerror}", path=path) from error
    return found.st_mtime_ns, found.st_ino


def _check(words: str, k: int) -> None:
    if not words.strip():
        raise ValueError("no words to search for")
    _check_count(k)


def _check_count(k: int) -> None:
    if k < 1:
        raise ValueError(f"k {k}: at least 1 is wanted")


def _clean(words: str) -> str:
    """The words without halves of surrogate pairs, which no tokenizer takes."""
    return words.encode("utf-8", "replace").decode()


def _parts(state: _State, words: str) -> list[str]:
    """The words one by one, as far as the model reads: each is a token or more."""
    return _clean(words).split()[: state.bundle.model.longest]


def _encode(state: _State, words: list[str]) -> Float32[np.ndarray, "queries hidden"]:
    encode = state.bundle.encode_texts if state.text is None else state.text.encode
    return encode([_clean(one) for one in words])


def _found(
    state: _State, vectors: Float32[np.ndarray, "queries hidden"], k: int, where: Filter, *, exact: bool
) -> Iterator[Found]:
    if exact:
        return find_exactly(state.index, vectors, k, where=where)
    return (find(state.index, vector, k, where=where) for vector in vectors)


def _wanted(state: _State, k: int, rerank: Rerank | Reranking | None, candidates: int) -> int:
    if rerank is None:
        return k
    if candidates < 1:
        raise ValueError(f"candidates {candidates}: at least 1 is wanted")
    if isinstance(rerank, str | Operator):
        check_reranking(rerank, state.bundle)
        made = state.index.manifest
        if rerank == LATE and made.smooth_regions is not None and not made.late_regions:
            raise ValueError(
                "re-ranking late: the vectors of this index are of smoothed regions, and it keeps none of these: "
                "their scores would mix with those of raw ones"
            )
    return max(k, candidates)


def _reranked(
    state: _State,
    words: str,
    vector: Float32[np.ndarray, " hidden"],
    found: Found,
    rerank: Rerank | Reranking,
) -> Found:
    """The products found by their new scores; of equal ones the smaller id first."""
    if isinstance(rerank, str | Operator):
        ids = np.sort(found.ids)
        scores = _pool_scores(state, words, vector, ids, rerank) if len(ids) else np.zeros(0)
    else:
        ids, scores = found.ids, np.asarray(rerank(words, found.ids.tolist()), np.float64)
    if scores.shape != ids.shape:
        raise ValueError(f"{scores.size} new scores for {len(ids)} products")
    order = np.lexsort((ids, -scores))
    return Found(ids[order], scores[order])


def _pool_scores(
    state: _State,
    words: str,
    vector: Float32[np.ndarray, " hidden"],
    ids: Int64[np.ndarray, " candidates"],
    how: Reranking,
) -> np.ndarray:
    index = state.index
    vectors = np.empty((len(ids), index.manifest.width), np.float32)
    asked = vector
    for part, places, rows in index.by_part(ids):
        vectors[places] = part.segment.vectors(rows)
        asked = part.segment.asked(vector)
    photos, projected = state.regions.late(ids), index.manifest.late_regions
    return pool_scores(
        how, state.bundle, _clean(words), asked, Candidates(ids, vectors), photos, projected=projected
    )


def _others(
    state: _State, vector: Float32[np.ndarray, " hidden"], product_id: int, k: int, where: Filter
) -> list[Hit]:
    check_conditions(where.conditions, state.index.manifest.columns)
    found = find(state.index, vector, k + 1, where=where)
    other = found.ids != product_id
    return _hits(Found(found.ids[other], found.scores[other]), k)


def _hits(found: Found, k: int) -> list[Hit]:
    pairs = zip(found.ids[:k].tolist(), found.scores[:k].tolist(), strict=True)
    return [Hit(product, score, rank) for rank, (product, score) in enumerate(pairs, start=1)]


def _locate(state: _State, product_id: int) -> tuple[OpenPart, int]:
    place = state.index.locate(product_id)
    if place is None:
        raise UnknownProduct(product_id)
    return place
