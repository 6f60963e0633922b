"""A small engine that lives in memory: it knows what the drawn shop says of its products, and counts common words.

Real in all that the service sees of an engine, and right about products, so that a test can name the photos that a page
must show. Its ids are text that a path must quote. `python -m tests.service.toy SHOP PORT` serves it.
"""

from __future__ import annotations

import functools
import json
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32
from PIL import Image

from shopwindow.drawn.goods import BY_NAME, CATEGORIES
from shopwindow.model.explanation import Explanation
from shopwindow.search.conditions import fit_conditions
from shopwindow.search.hits import (
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
from shopwindow.vision.pictures import read_picture

MAKERS = 37


@dataclass
class ToyEngine:
    """Scores a product by the share of the words that are true of it; 0 is no hit."""

    products: dict[str, ProductView]
    truths: dict[str, frozenset[str]]
    version: str = "1"
    pending: list[ToyEngine] = field(default_factory=list)
    """States that `reload` is to open, one after the other."""
    gate: threading.Event | None = None
    """While it is there and not set, searches wait for it."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    """How searches were to be done, the words themselves left out."""

    @classmethod
    def of_shop(cls, shop: Path) -> ToyEngine:
        """The engine of a drawn shop."""
        products, truths = {}, {}
        for line in (shop / "truth.jsonl").read_text().splitlines():
            told = json.loads(line)
            product_id = f"SKU/{told['product_id']}%"
            products[product_id] = _view(product_id, told, shop / "photos" / f"{told['product_id']}.jpg")
            nouns = " ".join(BY_NAME[told["kind"]].nouns).split()
            named = {told[name] for name in ("kind", "colour", "pattern", "material", "shape")}
            truths[product_id] = frozenset([*named, *nouns])
        return cls(products, truths)

    @property
    def label_names(self) -> dict[int, str]:
        """Names of the labels."""
        return dict(enumerate(CATEGORIES))

    def stats(self) -> dict[str, Any]:
        """Numbers about the catalogue."""
        return {
            "products": len(self.products),
            "version": self.version,
            "texts": True,
            "rerankers": ["late"],
            "by_photo": True,
        }

    @property
    def columns(self) -> tuple[ColumnView, ...]:
        """Price and colour, and a maker of whom there are more than are told."""
        prices = [view.values["price"] for view in self.products.values()]
        colours = Counter(str(view.values["colour"]) for view in self.products.values())
        numbers = [price for price in prices if isinstance(price, float)]
        makers = tuple(f"maker {one}" for one in range(30))
        words = tuple(sorted(colours, key=lambda word: (-colours[word], word)))
        return (
            ColumnView("price", "number", min(numbers), max(numbers), role="price"),
            ColumnView(
                "colour", "word", None, None, words, tuple(colours[word] for word in words), len(words)
            ),
            ColumnView("maker", "word", None, None, makers, (3,) * len(makers), MAKERS),
        )

    def with_views(self, hits: Sequence[Hit]) -> list[Hit]:
        """Hits as a list shows them."""
        held = [(hit, self.products[hit.product_id]) for hit in hits if hit.product_id in self.products]
        return [
            replace(hit, view=View(**{one.name: getattr(view, one.name) for one in fields(View)}))
            for hit, view in held
        ]

    def product(self, product_id: ProductId) -> ProductView:
        """One product."""
        if product_id not in self.products:
            raise UnknownProduct(product_id)
        return self.products[product_id]

    def search(self, words: str, **settings: Any) -> list[Hit]:
        """The best products for words, as `search_many` finds them, without being noted."""
        return self._found(SearchRequest(words, **settings))

    def search_many(self, requests: Sequence[SearchRequest], /) -> list[list[Hit]]:
        """The best products for requests that differ in their words alone."""
        how = {name: value for name, value in vars(requests[0]).items() if name != "words"}
        if requests[0].by_words_alone:
            del how["photo"], how["share"]
            del how["product"], how["region"]
            self.asked.append({**how, "queries": len(requests)})
        return [self._found(request) for request in requests]

    def _found(self, request: SearchRequest) -> list[Hit]:
        """`hybrid`: a product of such a text is better by 1; re-ranked by late: ties the other way. A product is like a
        photo as their mean colours are."""
        if request.product is not None:
            return self._similar(request)
        if self.gate is not None:
            self.gate.wait(20)
        asked = request.words.lower().split()
        scores = {
            one: sum(word in truth for word in asked) / max(1, len(asked))
            for one, truth in self.truths.items()
        }
        if request.photo is not None:
            scores = {
                one: request.share * scores.get(one, 0.0) * bool(asked)
                + (1 - request.share * bool(asked)) * float(request.photo.vector @ _colour_of(view.photo))
                for one, view in self.products.items()
            }
        if request.hybrid:
            scores = {
                one: score + any(request.words.lower() == text for text in self.products[one].texts)
                for one, score in scores.items()
            }
        return self._best(scores, request.k, request.where, tied=-1 if request.rerank == "late" else 1)

    def encode_photo(self, content: bytes) -> PhotoQuery:
        """The mean colour of a picture."""
        return PhotoQuery(_colour(content))

    def unknown_words(self, words: str) -> tuple[str, ...]:
        """The words that are true of no product."""
        known = frozenset().union(*self.truths.values())
        return tuple(word for word in words.split() if word.lower() not in known)

    def correct(self, words: str) -> str | None:
        """The words with those of a swapped first pair of letters set right."""
        known = frozenset().union(*self.truths.values())
        swapped = {one[1::-1] + one[2:]: one for one in known}
        better = " ".join(word if word in known else swapped.get(word, word) for word in words.split())
        return None if better == words else better

    def suggest(self, typed: str, *, k: int = 8) -> list[str]:
        """Texts of products that begin so."""
        texts = {text for view in self.products.values() for text in view.texts}
        return sorted(text for text in texts if text.startswith(typed) and text != typed)[:k]

    @property
    def label_counts(self) -> dict[int, int]:
        """How many products have each label."""
        return dict(Counter(label for view in self.products.values() for label in sorted(set(view.labels))))

    def similar(self, product_id: ProductId, **settings: Any) -> list[Hit]:
        """The products most like one."""
        return self._similar(SearchRequest(product=product_id, **settings))

    def similar_region(self, product_id: ProductId, region: int, **settings: Any) -> list[Hit]:
        """The products most like one region of one."""
        return self._similar(SearchRequest(product=product_id, region=region, **settings))

    def _similar(self, request: SearchRequest) -> list[Hit]:
        """The products of which most is true that is true of one; like a region those with one of its label."""
        assert request.product is not None
        view = self.product(request.product)
        own = self.truths[view.product_id]
        scores = {
            one: len(own & truth) / len(own | truth)
            if request.region is None
            else other.labels.count(view.labels[request.region]) / len(other.labels)
            for (one, truth), other in zip(self.truths.items(), self.products.values(), strict=True)
            if one != view.product_id
        }
        return self._best(scores, request.k, request.where)

    def explain(self, words: str, product_id: ProductId) -> Explanation:
        """A true word looks at all regions, most at the first; another at none."""
        regions = len(self.product(product_id).boxes)
        asked = tuple(words.split())
        truth = self.truths[str(product_id)]
        weights = tuple(
            tuple((word.lower() in truth) / (len(asked) * 2**region) for region in range(regions))
            for word in asked
        )
        return Explanation(asked, weights, sum(map(sum, weights)))

    def at_rest(self) -> ToyEngine:
        """The engine as it is now."""
        return replace(self)

    def reload(self) -> bool:
        """Takes over the next pending state."""
        if not self.pending:
            return False
        new = self.pending.pop(0)
        self.products, self.truths, self.version = new.products, new.truths, new.version
        return True

    def passes(self, product_id: str, where: Filter) -> bool:
        """Whether a product may be found."""
        view = self.products[product_id]
        known = {**view.values, "image_h": float(view.image_h), "image_w": float(view.image_w)}
        return (not where.labels or bool(where.labels & set(view.labels))) and all(
            known[one.column] in one.values
            if one.column in ("colour", "maker")
            else bool(one.holds(pa.array([known[one.column]], pa.float64()))[0])
            for one in where.conditions
        )

    def _best(self, scores: dict[str, float], k: int, where: Filter, *, tied: int = 1) -> list[Hit]:
        fit_conditions(where.conditions, {"price": "number", "colour": "word", "maker": "word"})
        fitting = [one for one, score in scores.items() if score > 0 and self.passes(one, where)]
        fitting = sorted(fitting, key=str, reverse=tied < 0)
        best = sorted(fitting, key=lambda one: -scores[one])[:k]
        return [Hit(one, scores[one], rank) for rank, one in enumerate(best, start=1)]


@functools.cache
def _colour_of(photo: Path) -> Float32[np.ndarray, " 3"]:
    return _colour(photo.read_bytes())


def _colour(content: bytes) -> Float32[np.ndarray, " 3"]:
    """Around grey, of length 1. Raises: UnreadablePicture."""
    mean = np.asarray(read_picture(content, wanted=64), np.float32).mean((0, 1)) - 127.5
    unit: Float32[np.ndarray, " 3"] = mean / np.linalg.norm(mean)
    return unit


def _view(product_id: ProductId, told: dict[str, Any], photo: Path) -> ProductView:
    boxes = told["boxes"]
    price = 5.5 + int(told["product_id"]) % 40
    with Image.open(photo) as image:
        width, height = image.size
    return ProductView(
        product_id=product_id,
        image_h=height,
        image_w=width,
        boxes=tuple(tuple(map(float, box["box"])) for box in boxes),  # type: ignore[misc]
        labels=tuple(box["label"] for box in boxes),
        label_names=tuple(CATEGORIES[box["label"]] for box in boxes),
        photo=photo,
        title=f"{told['colour']} dress".capitalize() if told["kind"] == "dress" else None,
        texts=(f"{told['colour']} {told['kind']}",),
        link=f"https://shop.example/{told['product_id']}",
        price=price,
        currency="EUR",
        values={
            "price": price,
            "colour": told["colour"],
            "maker": f"maker {int(told['product_id']) % MAKERS}",
        },
    )


def main() -> None:
    """Serves the toy engine of a drawn shop."""
    from shopwindow.service.app import Service
    from shopwindow.service.run import open_socket, serve

    listener = open_socket("127.0.0.1", int(sys.argv[2]))
    service = Service(
        ToyEngine.of_shop(Path(sys.argv[1])),
        suggestions=["red dress", "leather bag", "striped shirt", "wooden chair"],
        look_every_seconds=0.2,
    )
    serve(service, listener, on_listening=lambda: print(listener.getsockname()[1], flush=True))  # noqa: T201


if __name__ == "__main__":
    main()
