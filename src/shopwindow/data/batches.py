"""Which pairs make up the i-th step of a training?

A batch is a pure function of (seed, step): any process can make any batch, and a training resumes at
any step. Reads a dataset; knows no tokenizer and no tensor.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Queue

import numpy as np
from jaxtyping import Float16, Int64

from shopwindow.data.dataset import Dataset


@dataclass(frozen=True)
class PairBatch:
    """The pairs of one step: rows of the dataset's queries and products, and the products' regions packed."""

    queries: Int64[np.ndarray, " pairs"]
    products: Int64[np.ndarray, " pairs"]
    regions: Float16[np.ndarray, "regions features"]
    lengths: Int64[np.ndarray, " pairs"]


class PairBatches:
    """The batches of a training, from step `start` to `epochs` epochs.

    Every epoch visits the training pairs in a new order; what does not fill a batch is dropped. Iterating
    again begins at `start` again. One batch ahead is read while the last one is used.

    Raises: ValueError when there are fewer training pairs than a batch holds.
    """

    def __init__(self, dataset: Dataset, *, batch_size: int, epochs: int, seed: int, start: int = 0) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.epochs = epochs
        self.seed = seed
        self.start = start
        self._pairs = np.flatnonzero(dataset.pair_training)
        if len(self._pairs) < batch_size:
            raise ValueError(
                f"{len(self._pairs)} training pairs do not fill a batch of {batch_size}; lower batch_size"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Full batches an epoch."""
        return len(self._pairs) // self.batch_size

    @property
    def steps(self) -> int:
        """Steps of the whole training, from step 0."""
        return self.steps_per_epoch * self.epochs

    def __len__(self) -> int:
        return max(0, self.steps - self.start)

    def __iter__(self) -> Iterator[PairBatch]:
        return _read_ahead(self._batches())

    def pairs_of(self, step: int) -> Int64[np.ndarray, " pairs"]:
        """The rows of the pairs of a step."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        return self._order(epoch)[batch * self.batch_size : (batch + 1) * self.batch_size]

    def _order(self, epoch: int) -> Int64[np.ndarray, " pairs"]:
        return np.random.default_rng([self.seed, epoch]).permutation(self._pairs)

    def _batches(self) -> Iterator[PairBatch]:
        epoch, order = -1, np.empty(0, np.int64)
        for step in range(self.start, self.steps):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                order = self._order(epoch)
            place = step % self.steps_per_epoch * self.batch_size
            pairs = order[place : place + self.batch_size]
            products = self.dataset.pair_products[pairs]
            regions, lengths = self.dataset.regions(products)
            yield PairBatch(self.dataset.pair_queries[pairs], products, regions, lengths)


def _read_ahead(batches: Iterator[PairBatch]) -> Iterator[PairBatch]:
    """The same batches, the next one made by a thread while this one is used."""
    queue: Queue[PairBatch | BaseException | None] = Queue(maxsize=1)
    stopped = threading.Event()

    def fill() -> None:
        try:
            for batch in batches:
                queue.put(batch)
                if stopped.is_set():
                    return
            queue.put(None)
        except BaseException as error:  # handed to the reader, who raises it
            queue.put(error)

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        while (item := queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        while thread.is_alive() or not queue.empty():
            if not queue.empty():
                queue.get()
            thread.join(0.01)
