"""A small engine that lives in memory: it knows what the drawn shop says of its products, and counts common words.

Real in all that the service sees of an engine, and right about products, so that a test can name the photos that a page
must show. Its ids are text that a path must quote. `python -m tests.service.toy SHOP PORT` serves it.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shopwindow.drawn.goods import BY_NAME, CATEGORIES
from shopwindow.model.explanation import Explanation
from shopwindow.search.conditions import check_conditions
from shopwindow.search.hits import EVERYTHING, ColumnView, Filter, Hit, ProductView, ShownHit, UnknownProduct
from shopwindow.search.reranking import LATE, Reranking

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
        return {"products": len(self.products), "version": self.version, "texts": True, "late": True}

    @property
    def columns(self) -> tuple[ColumnView, ...]:
        """Price and colour, and a maker of whom there are more than are told."""
        prices = [view.values["price"] for view in self.products.values()]
        colours = Counter(str(view.values["colour"]) for view in self.products.values())
        numbers = [price for price in prices if isinstance(price, float)]
        words = tuple(sorted(colours, key=lambda word: (-colours[word], word)))
        return (
            ColumnView("price", "number", min(numbers), max(numbers)),
            ColumnView("colour", "word", words=words, count=len(words)),
            ColumnView("maker", "word", words=tuple(f"maker {one}" for one in range(30)), count=MAKERS),
        )

    def shown(self, hits: Sequence[Hit]) -> list[ShownHit]:
        """Hits as a list shows them."""
        views = [(hit, self.products[hit.product_id]) for hit in hits if hit.product_id in self.products]
        return [
            ShownHit(hit, view.image_h, view.image_w, view.photo is not None, view.values)
            for hit, view in views
        ]

    def product(self, product_id: str) -> ProductView:
        """One product."""
        if product_id not in self.products:
            raise UnknownProduct(product_id)
        return self.products[product_id]

    def search(
        self,
        words: str,
        *,
        k: int,
        where: Filter = EVERYTHING,
        hybrid: bool = False,
        rerank: Reranking | None = None,
    ) -> list[Hit]:
        """The best products for words. `hybrid`: a product of such a text is better by 1; late: ties the other way."""
        if self.gate is not None:
            self.gate.wait(20)
        asked = words.lower().split()
        scores = {
            one: sum(word in truth for word in asked) / len(asked) for one, truth in self.truths.items()
        }
        if hybrid:
            scores = {
                one: score + any(words.lower() == text for text in self.products[one].texts)
                for one, score in scores.items()
            }
        return self._best(scores, k, where, tied=-1 if rerank == LATE else 1)

    def search_many(
        self,
        words: Sequence[str],
        *,
        k: int,
        where: Filter,
        exact: bool,
        hybrid: bool,
        rerank: Reranking | None,
        candidates: int,
    ) -> list[list[Hit]]:
        """The same for several queries."""
        self.asked.append({"k": k, "where": where, "exact": exact, "hybrid": hybrid, "rerank": rerank,
                           "candidates": candidates, "queries": len(words)})  # fmt: skip
        return [self.search(one, k=k, where=where, hybrid=hybrid, rerank=rerank) for one in words]

    def unknown_words(self, words: str) -> tuple[str, ...]:
        """The words that are true of no product."""
        known = frozenset().union(*self.truths.values())
        return tuple(word for word in words.split() if word.lower() not in known)

    def similar(self, product_id: str, *, k: int, where: Filter = EVERYTHING) -> list[Hit]:
        """The products of which most is true that is true of one."""
        self.product(product_id)
        own = self.truths[product_id]
        scores = {
            one: len(own & truth) / len(own | truth)
            for one, truth in self.truths.items()
            if one != product_id
        }
        return self._best(scores, k, where)

    def similar_region(
        self, product_id: str, region: int, *, k: int, where: Filter = EVERYTHING
    ) -> list[Hit]:
        """The products that have a region of the same label."""
        label = self.product(product_id).labels[region]
        scores = {
            one: view.labels.count(label) / len(view.labels)
            for one, view in self.products.items()
            if one != product_id
        }
        return self._best(scores, k, where)

    def explain(self, words: str, product_id: str) -> Explanation:
        """A true word looks at all regions, most at the first; another at none."""
        regions = len(self.product(product_id).boxes)
        asked = tuple(words.split())
        truth = self.truths[product_id]
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
            else bool(one.holds(np.array([known[one.column]], np.float64))[0])
            for one in where.conditions
        )

    def _best(self, scores: dict[str, float], k: int, where: Filter, *, tied: int = 1) -> list[Hit]:
        check_conditions(where.conditions, {"price": "number", "colour": "word", "maker": "word"})
        fitting = [one for one, score in scores.items() if score > 0 and self.passes(one, where)]
        fitting = sorted(fitting, reverse=tied < 0)
        best = sorted(fitting, key=lambda one: -scores[one])[:k]
        return [Hit(one, scores[one], rank) for rank, one in enumerate(best, start=1)]


def _view(product_id: str, told: dict[str, Any], photo: Path) -> ProductView:
    boxes = told["boxes"]
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
        texts=(f"{told['colour']} {told['kind']}",),
        values={
            "price": 5.5 + int(told["product_id"]) % 40,
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
