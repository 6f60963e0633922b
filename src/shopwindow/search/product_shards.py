"""How are the products of a dataset encoded in shards? Each takes a stretch of them.

`join` lays the stretches end to end, where `build_index` finds all products encoded: the index is the same to the byte.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shopwindow.data.dataset import Dataset
from shopwindow.files import DataError
from shopwindow.model.bundle import Bundle
from shopwindow.model.encoder import check_features
from shopwindow.search import encoding
from shopwindow.search.building import kept_for
from shopwindow.search.encoding import MadeOf, encode_rows, join_encoded
from shopwindow.search.own_bundle import load_bundle
from shopwindow.shards import Shard, items_of

_PRODUCTS: Final = 65_536


@dataclass(frozen=True)
class ProductWork:
    """A bundle, a dataset, and what `build_index` takes that decides how products are encoded."""

    bundle: str
    dataset: str
    smooth_regions: tuple[float, ...] | None = None
    kept_regions: bool | None = None
    threads: int | None = None
    things: str = "products"

    def usual_count(self) -> int:
        """One shard for every 65,536 products."""
        return -(-len(self._opened()[1].product_ids) // _PRODUCTS)

    def settings(self) -> dict[str, Any]:
        """Bundle and dataset by their hashes, and what else decides."""
        return {"verb": "index make", **self._made_of().names(self._opened()[1])}

    def do(self, shard: Shard) -> int:
        """Encodes a stretch; goes on where an earlier try was killed."""
        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)
        bundle, dataset, _ = self._opened()
        rows = shard.rows(len(dataset.product_ids), unit=encoding.ENCODED_AT_ONCE)
        encode_rows(_encoded_of(shard.path), self._made_of(), bundle, dataset, rows)
        return len(rows)

    def join(self, shards: Sequence[Path], out: Path) -> None:
        """Lays the shards where `build_index` takes them up. Raises: DataError where they are not all products."""
        dataset = self._opened()[1]
        count = sum(map(items_of, shards))
        if count != len(dataset.product_ids):
            problem = f"its shards hold {count:,} products, the dataset {len(dataset.product_ids):,}"
            raise DataError(problem, path=out)
        join_encoded(out, self._made_of(), dataset, [_encoded_of(path) for path in shards])

    def _opened(self) -> tuple[Bundle, Dataset, str]:
        return _open(self.bundle, self.dataset)

    def _made_of(self) -> MadeOf:
        bundle, _, bundle_hash = self._opened()
        return MadeOf(bundle_hash, self.smooth_regions, kept_for(bundle, self.kept_regions))


def _encoded_of(shard: Path) -> Path:
    return shard / "encoded"


@functools.lru_cache(maxsize=1)
def _open(bundle: str, dataset: str) -> tuple[Bundle, Dataset, str]:
    opened, bundle_hash = load_bundle(Path(bundle))
    products = Dataset(dataset)
    check_features(opened.model, products)
    return opened, products, bundle_hash
