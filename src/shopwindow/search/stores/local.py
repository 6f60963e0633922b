"""How does an index on disk answer the engine? Today's files, all parts of one state.

Knows no words and no model; `index.py` says what lies where.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Bool, Float32, Shaped

from shopwindow.files import DataError
from shopwindow.ids import as_ids
from shopwindow.model.exported_text import ExportedText
from shopwindow.search.attributes import summarise
from shopwindow.search.completion import Lexicon, complete
from shopwindow.search.conditions import Kind
from shopwindow.search.hits import ColumnView, Filter, ProductId, ProductView, UnknownProduct, View
from shopwindow.search.index import BUNDLE, MANIFEST, TEXT_SIDE, OpenIndex, content_name, no_index
from shopwindow.search.lookup import OpenPart, Ranked, find_by_texts, find_exactly, find_quickly
from shopwindow.search.roles import Roles
from shopwindow.search.views import view_fields

if TYPE_CHECKING:
    from shopwindow.data.dataset import Dataset
    from shopwindow.search.product_regions import ProductRegions
    from shopwindow.search.stores.protocol import Read

MOST_TEXTS_SHOWN: Final = 8
Stamp = tuple[int, int]


@dataclass(frozen=True)
class LocalFiles:
    """The index in a folder."""

    path: Path

    @property
    def bundle(self) -> Path:
        """The index's own copy."""
        return self.path / BUNDLE

    def stamp(self) -> Stamp:
        """Differs between any two states: each has its own `index.json`. Raises: DataError for no index."""
        try:
            stat = (self.path / MANIFEST).stat()
        except OSError as error:
            raise DataError(no_index(f": {error.strerror}"), path=self.path) from error
        return stat.st_mtime_ns, stat.st_ino

    def open(self) -> LocalStore:
        """The newest state. Raises: DataError for a broken or foreign index."""
        stamp = self.stamp()
        return LocalStore(OpenIndex.open(self.path), stamp)


@dataclass(frozen=True)
class LocalStore:
    """One opened state of an index."""

    index: OpenIndex
    stamp: Stamp = (0, 0)
    _datasets: dict[int, Dataset] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Names the state."""
        return f"{self.index.manifest.revision}-{self.stamp[0]:x}"

    @property
    def bundle_hash(self) -> str:
        """The fingerprint of the bundle that made the vectors."""
        return self.index.manifest.bundle_hash

    @property
    def backbone(self) -> dict[str, Any] | None:
        """What made the features of photos."""
        return self.index.manifest.backbone

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """What the shop's own columns hold."""
        return self.index.manifest.columns

    @property
    def label_names(self) -> Mapping[int, str]:
        """Names of labels."""
        return self.index.manifest.label_names

    @property
    def has_texts(self) -> bool:
        """Whether there is full text."""
        return self.index.has_texts

    def without_texts(self) -> str:
        """What gives an index texts."""
        return "this index holds no texts; `index make --texts` gives it some"

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
        views = summarise(self.kinds, living)
        return tuple(replace(view, role=roles.get(view.name)) for view in views)

    @cached_property
    def roles(self) -> Roles:
        """Which columns say title, link, price and currency."""
        return Roles.of(self.kinds, self.index.manifest.shown)

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

    def known_texts(self) -> list[str]:
        """The golden queries. Raises: DataError where there are none."""
        from shopwindow.search.golden import Golden

        golden = self.index.manifest.golden
        if golden is None:
            raise DataError("has no golden queries to try a text side with", path=self.index.path)
        return list(Golden.read(self.index.path / golden).texts)

    def text_side(self) -> ExportedText | None:
        """That of the index; None where there is none, or no onnxruntime. Raises: DataError for a changed one."""
        name, path = self.index.manifest.text_side, self.index.path / TEXT_SIDE
        if name is None or importlib.util.find_spec("onnxruntime") is None:
            return None
        if not path.is_dir() or content_name(path) != name:
            raise DataError("a file is lost or not as it was written; make the index again", path=path)
        return ExportedText.load(path)

    def find(
        self, vectors: Float32[np.ndarray, "queries dimensions"], k: int, where: Filter, *, exact: bool
    ) -> list[Ranked]:
        """The best k products of each query. Exact searches are done in one scan."""
        if exact:
            return list(find_exactly(self.index.parts, vectors, k, where=where))
        return [find_quickly(self.index.parts, vector, k, where=where) for vector in vectors]

    def find_by_texts(self, words: str, k: int, where: Filter) -> Ranked:
        """The best k products by full text."""
        return find_by_texts(self.index.parts, words, k, where)

    def locate(self, product_id: ProductId) -> tuple[OpenPart, int]:
        """The part that holds a product, and its row there. Raises: UnknownProduct."""
        place = self.index.locate(product_id)
        if place is None:
            raise UnknownProduct(product_id)
        return place

    def vector(self, product_id: ProductId) -> tuple[ProductId, Float32[np.ndarray, " dimensions"]]:
        """A product's id as the index holds it, and its vector. Raises: UnknownProduct."""
        part, row = self.locate(product_id)
        held: ProductId = part.ids(np.array([row]))[0].item()
        return held, part.segment.vectors(np.array([row]))[0]

    def holds(self, product_ids: Shaped[np.ndarray, " asked"]) -> Bool[np.ndarray, " asked"]:
        """Which products it holds."""
        return self.index.holds(product_ids)

    def count(self, where: Filter) -> int:
        """How many products pass a filter."""
        if not where:
            return len(self.index)
        masks = [part.allowed(where) for part in self.index.parts]
        return sum(int(mask.sum()) for mask in masks if mask is not None)

    def views(self, product_ids: Shaped[np.ndarray, " asked"]) -> list[View | None]:
        """What a list shows of products; None of one that is not there."""
        places = self.index.places(as_ids(product_ids))
        return [
            None if place is None else View(**self._shown(one, *place))
            for one, place in zip(product_ids.tolist(), places, strict=True)
        ]

    def product(self, product_id: ProductId) -> ProductView:
        """What is known of a product. Raises: UnknownProduct."""
        part, row = self.locate(product_id)
        columns, names = part.segment.columns, self.label_names
        regions = slice(*columns.region_bounds[row : row + 2].tolist())
        labels = columns.labels[regions].tolist()
        held = columns.ids[row].item()
        return ProductView(
            product_id=held,
            boxes=tuple((box[0], box[1], box[2], box[3]) for box in columns.boxes[regions].tolist()),
            labels=tuple(labels),
            label_names=tuple(names.get(label, str(label)) for label in labels),
            texts=part.texts.of(held)[:MOST_TEXTS_SHOWN] if part.texts else (),
            **self._shown(held, part, row),
        )

    def _shown(self, product_id: ProductId, part: OpenPart, row: int) -> dict[str, Any]:
        """The fields of the `View` of a product."""
        segment = part.segment
        catalogue = segment.catalogue.of(row) if segment.catalogue else {}
        height, width = segment.columns.sizes[row].tolist()
        return view_fields(
            product_id,
            (height, width),
            segment.attributes.of(row) if segment.attributes else {},
            roles=self.roles,
            photos=self.index.manifest.photos,
            title=str(catalogue.get("title") or "") or None,
            source=str(catalogue.get("photo", "")),
        )

    def words_of(self, column: str) -> tuple[str, ...]:
        """All words of a column, rising; none of a column of numbers or where there is none."""
        words: set[str] = set()
        for part in self.index.parts:
            if part.segment.attributes is not None:
                words |= part.segment.attributes.words(column, part.living_rows)
        return tuple(sorted(words))

    def correct(self, words: str) -> str | None:
        """The words with mistyped ones replaced by those of titles and known texts."""
        return self.lexicon.correct(words)

    def suggest(self, typed: str, k: int) -> list[str]:
        """Titles and known texts that go on what somebody is typing, best first."""
        parts = [(part.texts, part.live) for part in self.index.parts if part.texts is not None]
        return complete(typed, parts, k)

    def regions(self, read: Read) -> ProductRegions:
        """The regions of its products; datasets opened for them stay open."""
        from shopwindow.search.product_regions import ProductRegions

        return ProductRegions(self.index, read, self._datasets)

    def numbers(self) -> dict[str, Any]:
        """What it holds and how."""
        return self.index.numbers()
