"""Which pairs make up the i-th step of a training?

A batch is a pure function of (seed, step), and, where it is made of neighbours, of their table: any process can
make any batch, and a training resumes at any step. Which pairs lie side by side is said in `grouping.py`. Reads
a dataset; knows no tokenizer and no tensor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from queue import Queue

import numpy as np
from jaxtyping import Float32, Int64

from shopwindow.data.dataset import Dataset
from shopwindow.data.grouping import (
    GROUP,
    Order,
    TextWords,
    attribute_anchors,
    grouped,
    neighbour_anchors,
    read_words,
)
from shopwindow.data.queries import numbers_of
from shopwindow.data.regions import Regions

Neighbours = Callable[[int], Int64[np.ndarray, "texts neighbours"] | None]
"""The table of an epoch: row i has the numbers of the texts near text i, -1 where there are fewer; texts are numbered
in the order in which they first stand in the dataset's queries (`numbers_of`). None: this epoch is shuffled."""


@dataclass(frozen=True)
class PairBatch:
    """The pairs of one step: rows of the dataset's queries and products, and what each pair weighs.

    `regions` are those of the share of the products that this process encodes, from the `first` on.
    """

    queries: Int64[np.ndarray, " pairs"]
    products: Int64[np.ndarray, " pairs"]
    regions: Regions
    weights: Float32[np.ndarray, " pairs"]
    first: int = 0

    @property
    def share(self) -> slice:
        """Which of the pairs this process encodes."""
        return slice(self.first, self.first + len(self.regions.counts))


class PairBatches:
    """The batches of a training, from step `start` to `epochs` epochs.

    Every epoch visits the training pairs in a new order, each at most once; what does not fill a batch is dropped.
    Iterating again begins at `start` again. One batch ahead is read while the last one is used.

    `order` is what lies side by side, in chunks of at most `group` pairs, no text twice in a chunk: "shuffled"
    nothing; "nouns" the same head noun; "attributes" the same words but for one attribute; "neighbours" what
    `neighbours(epoch)` says. Of the pairs the share `hard` lies in chunks, the others are strewn between them.
    The words of the texts are read once, before the first batch (25 microseconds a text).

    With `shards_at_once` an epoch goes through the products files (about 1 GB each) in a new order, so many at a time,
    and shuffles the pairs within those: for data larger than memory. A batch then mixes fewer products, and one may
    hold pairs of two such lots.

    `neighbours` is asked once an epoch, in the thread that iterates, when the epoch's first batch is asked for and
    no earlier: the steps before it are done, so that it may ask the model.

    Of several `processes` each names the same pairs of a step and reads an equal share of their products.

    Raises: ValueError when there are fewer training pairs than a batch holds, or an argument makes no sense.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        epochs: int,
        seed: int,
        start: int = 0,
        order: Order = "shuffled",
        group: int = GROUP,
        hard: float = 1.0,
        neighbours: Neighbours | None = None,
        process: int = 0,
        processes: int = 1,
        shards_at_once: int = 0,
        boxes: bool = False,
    ) -> None:
        if shards_at_once < 0 or (shards_at_once and order != "shuffled"):
            raise ValueError(
                f"shards_at_once: {shards_at_once}, at least 0 is needed, with the order shuffled alone"
            )
        if (order == "neighbours") != (neighbours is not None):
            raise ValueError('the order "neighbours" and a table of neighbours go together')
        if group < 2 or not 0 <= hard <= 1:
            raise ValueError(f"group: {group}, at least 2 is needed; hard: {hard}, from 0 to 1")
        if batch_size % processes:
            raise ValueError(f"batch_size: {batch_size}, {processes} processes do not divide it")
        self.dataset = dataset
        self._share = batch_size // processes
        self._first = process * self._share
        self.batch_size = batch_size
        self.epochs = epochs
        self.seed = seed
        self.start = start
        self.order: Order = order
        self.group = group
        self.hard = hard
        self._neighbours = neighbours
        self.shards_at_once = shards_at_once
        self._boxes = boxes
        self._pairs = np.flatnonzero(dataset.pair_training)
        if len(self._pairs) < batch_size:
            raise ValueError(
                f"{len(self._pairs)} training pairs do not fill a batch of {batch_size}; lower batches.size"
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
        if self.order != "neighbours":
            return read_ahead(self._batches(self.start, self.steps))
        return self._epoch_by_epoch()

    def pairs_of(self, step: int) -> Int64[np.ndarray, " pairs"]:
        """The rows of the pairs of a step. It costs the order of an epoch."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        return self._order(epoch)[batch * self.batch_size : (batch + 1) * self.batch_size]

    def _order(self, epoch: int) -> Int64[np.ndarray, " pairs"]:
        """The pairs of an epoch in their order."""
        rng = np.random.default_rng([self.seed, epoch])
        anchors = None if self.order == "shuffled" else self._anchors(epoch, rng)
        if anchors is None:
            shuffled: np.ndarray = rng.permutation(self._pairs)
            return self._by_shards(shuffled, rng) if self.shards_at_once else shuffled
        places = grouped(self._texts, anchors, self._words.meanings, rng, group=self.group, hard=self.hard)
        pairs: np.ndarray = self._pairs[places]
        return pairs

    def _by_shards(
        self, pairs: Int64[np.ndarray, " pairs"], rng: np.random.Generator
    ) -> Int64[np.ndarray, " pairs"]:
        """The same pairs, those of `shards_at_once` products files side by side, else in the order given."""
        turns = rng.permutation(len(self.dataset.manifest["shards"])) // self.shards_at_once
        shards = self.dataset.shards_of(self.dataset.pair_products[pairs])
        ordered: np.ndarray = pairs[np.argsort(turns[shards], kind="stable")]
        return ordered

    def _anchors(self, epoch: int, rng: np.random.Generator) -> Int64[np.ndarray, "levels texts"] | None:
        """What the texts are grouped by in an epoch; None where it is shuffled."""
        if self._neighbours is not None:
            table = self._neighbours(epoch)
            if table is not None and len(table) != len(self._words.lengths):
                raise ValueError(f"neighbours: {len(table)} rows, texts: {len(self._words.lengths)}")
            return None if table is None else neighbour_anchors(table, rng)
        if self.order == "nouns":
            return self._words.nouns[None]
        return attribute_anchors(self._words, rng)

    @cached_property
    def _texts(self) -> Int64[np.ndarray, " pairs"]:
        """The number of the text of every training pair."""
        texts: np.ndarray = numbers_of(self.dataset.query_texts)[self.dataset.pair_queries[self._pairs]]
        return texts

    @cached_property
    def _words(self) -> TextWords:
        """The words of the distinct texts, in the order of their numbers."""
        return read_words(list(dict.fromkeys(self.dataset.query_texts)))

    def _epoch_by_epoch(self) -> Iterator[PairBatch]:
        """The batches, none of an epoch read before the one before is used up."""
        start = self.start
        while start < self.steps:
            end = (start // self.steps_per_epoch + 1) * self.steps_per_epoch
            order = self._order(start // self.steps_per_epoch)
            yield from read_ahead(self._batches(start, end, order))
            start = end

    def _batches(
        self, start: int, end: int, order: Int64[np.ndarray, " pairs"] | None = None
    ) -> Iterator[PairBatch]:
        """The batches of some steps; `order` is that of their only epoch, where it is known already."""
        epoch = -1
        for step in range(start, end):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                pairs = self._order(epoch) if order is None else order
            place = step % self.steps_per_epoch * self.batch_size
            yield self._batch(pairs[place : place + self.batch_size])

    def _batch(self, pairs: Int64[np.ndarray, " pairs"]) -> PairBatch:
        products = self.dataset.pair_products[pairs]
        share = products[self._first : self._first + self._share]
        return PairBatch(
            self.dataset.pair_queries[pairs],
            products,
            self.dataset.regions(share, boxes=self._boxes),
            self.dataset.pair_weights[pairs],
            self._first,
        )


def read_ahead(batches: Iterator[PairBatch]) -> Iterator[PairBatch]:
    """The same batches, the next one made by a thread while this one is used; a third is not begun before."""
    queue: Queue[PairBatch | BaseException | None] = Queue(maxsize=1)
    wanted = threading.Semaphore(1)
    stopped = threading.Event()

    def fill() -> None:
        try:
            while not stopped.is_set():
                wanted.acquire()
                batch = None if stopped.is_set() else next(batches, None)
                queue.put(batch)
                if batch is None:
                    return
                del batch
        except BaseException as error:  # handed to the reader, who raises it
            queue.put(error)

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        while (item := queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            wanted.release()
            yield item
            del item
    finally:
        stopped.set()
        wanted.release()
        while thread.is_alive() or not queue.empty():
            if not queue.empty():
                queue.get()
            thread.join(0.01)
