"""How are the pools of queries ranked in shards? Each takes a stretch of the queries, and writes a run of them.

`joined` makes one run of all. Its scores may differ in their last bits from those of one process: batches differ.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from shopwindow.data.dataset import Dataset
from shopwindow.ids import joined_ids
from shopwindow.model.bundle import Bundle
from shopwindow.model.cross_bundle import CrossBundle
from shopwindow.model.cross_rank import rerank
from shopwindow.model.rank import candidate_pairs, rank_pools
from shopwindow.model.rerankers import find
from shopwindow.ranking.operators import Operator
from shopwindow.ranking.runs import Run, read_run, write_run
from shopwindow.shards import Shard

_QUERIES: Final = 4096
_RUN: Final = "shard.run"


@dataclass(frozen=True)
class PoolWork:
    """A bundle, a dataset of pools, and how they are scored; `rerank` is a cross-encoder for the `first` products."""

    bundle: str
    dataset: str
    smooth: tuple[float, ...] | None = None
    operator: str | None = None
    rerank: str | None = None
    first: int = 0
    device: str = "cpu"
    threads: int | None = None
    things: str = "queries"

    def usual_count(self) -> int:
        """One shard for every 4,096 queries."""
        return -(-len(self._queries()) // _QUERIES)

    def settings(self) -> dict[str, Any]:
        """Models by their files, the dataset by its hash, and how pools are scored."""
        return {
            "verb": "rank",
            "bundle": _content_of(self.bundle),
            "dataset": Dataset(self.dataset).content_hash,
            "smooth": None if self.smooth is None else list(self.smooth),
            "operator": self.operator,
            "rerank": None if self.rerank is None else _content_of(self.rerank),
            "first": self.first,
        }

    def do(self, shard: Shard) -> int:
        """Ranks the pools of a stretch of the queries that have one."""
        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)
        bundle, dataset = _open(self.bundle, self.dataset, self.device)
        queries, products = candidate_pairs(dataset)
        asked = np.unique(queries)
        rows = shard.rows(len(asked))
        chosen = np.isin(queries, asked[rows.start : rows.stop])
        if not chosen.any():
            return 0
        reranker = bundle.reranker if self.operator is None else find(Operator.parse(self.operator), bundle)
        pairs = queries[chosen], products[chosen]
        run = rank_pools(bundle, dataset, reranker=reranker, smooth=self.smooth, pairs=pairs)
        if self.rerank is not None:
            cross = CrossBundle.load(self.rerank, device=self.device)
            run = rerank(cross, dataset, run, first=self.first, name=run.name)
        write_run(run, shard.path / _RUN)
        return len(rows)

    def _queries(self) -> np.ndarray:
        return np.unique(candidate_pairs(Dataset(self.dataset))[0])


def joined(shards: Sequence[Path], *, name: str = "shopwindow") -> Run:
    """The run of all shards. Raises: DataError for a run of a shard that is broken."""
    runs = [read_run(path / _RUN) for path in shards if (path / _RUN).is_file()]
    queries, products = (
        joined_ids([getattr(run, ids) for run in runs]) for ids in ("query_ids", "product_ids")
    )
    return Run.from_arrays(queries, products, np.concatenate([run.scores for run in runs]), name=name)


def _content_of(folder: str) -> str:
    """A hash of the files of a folder, by name."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).iterdir()):
        if path.is_file():
            with path.open("rb") as file:
                digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=1)
def _open(bundle: str, dataset: str, device: str) -> tuple[Bundle, Dataset]:
    return Bundle.load(bundle, device=device), Dataset(dataset)
