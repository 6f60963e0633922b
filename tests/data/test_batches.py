"""Batches of every order: each pair once, the same in any process, resumed at any step."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Int64

from shopwindow.data import writer
from shopwindow.data.batches import PairBatches
from shopwindow.data.dataset import Dataset
from shopwindow.data.grouping import Order
from shopwindow.data.prepare import prepare
from shopwindow.data.queries import head_noun
from tests.data.rows import SIZE, make_line, make_product, write_tsv

COLOURS = ("red", "blue", "green", "black", "white")
GOODS = ("shoe", "lamp", "bag", "dress")
ORDERS: tuple[Order, ...] = ("shuffled", "nouns", "attributes", "neighbours")
PAIRS = 210


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """210 pairs of 20 texts, a head text of 30 among them; each fifth product has a second text."""
    folder = tmp_path_factory.mktemp("batches")
    texts = [f"{colour} {good}" for good in GOODS for colour in COLOURS]
    lines = []
    for i in range(PAIRS):
        text = "red shoe" if i < 20 else texts[i % 20]
        lines.append(make_line(make_product(1000 + i // 5 * 4 + i % 5 % 4), text, 100 + texts.index(text)))
    prepare([write_tsv(folder / "train.tsv", lines)], folder / "shop", feature_size=SIZE)
    return Dataset(folder / "shop")


def ring(epoch: int) -> Int64[np.ndarray, "texts neighbours"]:
    """The neighbours of text i in an epoch: the next ones."""
    near: np.ndarray = (np.arange(20)[:, None] + np.array([[1, 2 + epoch]])) % 20
    return near


def batches(shop: Dataset, order: Order, **changes: Any) -> PairBatches:
    given = {"batch_size": 20, "epochs": 3, "seed": 5, "neighbours": ring if order == "neighbours" else None}
    return PairBatches(shop, order=order, **{**given, **changes})


def test_shuffled_batches_are_those_of_a_permutation_by_seed_and_epoch(shop: Dataset) -> None:
    made = PairBatches(shop, batch_size=20, epochs=2, seed=5)
    for epoch in range(2):
        order = np.random.default_rng([5, epoch]).permutation(np.flatnonzero(shop.pair_training))
        for step in range(10):
            assert np.array_equal(made.pairs_of(10 * epoch + step), order[20 * step : 20 * step + 20])


@pytest.mark.parametrize("order", ORDERS)
def test_every_epoch_visits_a_pair_at_most_once_and_drops_only_what_fills_no_batch(
    shop: Dataset, order: Order
) -> None:
    made = batches(shop, order)
    assert made.steps_per_epoch == PAIRS // 20
    assert made.steps == len(made) == 3 * (PAIRS // 20)
    epochs = []
    for epoch in range(3):
        steps = range(epoch * made.steps_per_epoch, (epoch + 1) * made.steps_per_epoch)
        visited = np.concatenate([made.pairs_of(step) for step in steps])
        assert len(set(visited.tolist())) == len(visited) == made.steps_per_epoch * 20
        epochs.append(visited.tolist())
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("start", [1, 7, 10, 23])
def test_batches_begun_at_a_step_are_the_rest_of_all(shop: Dataset, order: Order, start: int) -> None:
    everything = list(batches(shop, order, hard=0.7))
    rest = list(batches(shop, order, hard=0.7, start=start))
    assert len(rest) == len(everything) - start > 0
    for one, two in zip(everything[start:], rest, strict=True):
        assert np.array_equal(one.queries, two.queries)
        assert np.array_equal(one.products, two.products)
        assert torch.equal(one.regions.features, two.regions.features)


@pytest.mark.parametrize("order", ORDERS)
def test_iterated_batches_are_the_pairs_of_their_steps(shop: Dataset, order: Order) -> None:
    made = batches(shop, order)
    for _ in range(2):
        for step, batch in enumerate(made):
            pairs = made.pairs_of(step)
            assert np.array_equal(batch.queries, shop.pair_queries[pairs])
            assert np.array_equal(batch.products, shop.pair_products[pairs])
            assert np.array_equal(batch.regions.counts, shop.region_counts[batch.products])
        assert step == made.steps - 1


@pytest.mark.parametrize("order", ORDERS[:3])
def test_another_process_makes_the_same_batches(shop: Dataset, order: Order) -> None:
    made = batches(shop, order)
    code = (
        "import sys; from shopwindow.data.batches import PairBatches; from shopwindow.data.dataset import Dataset\n"
        "b = PairBatches(Dataset(sys.argv[1]), batch_size=20, epochs=3, seed=5, order=sys.argv[2])\n"
        "print([b.pairs_of(s).tolist() for s in (0, 9, 13)])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "1"}
    out = subprocess.run(
        [sys.executable, "-c", code, str(shop.path), order],
        check=True,
        env=environment,
        capture_output=True,
        text=True,
    ).stdout
    assert out.strip() == str([made.pairs_of(step).tolist() for step in (0, 9, 13)])
    opened = pickle.loads(pickle.dumps(made))
    assert np.array_equal(opened.pairs_of(9), made.pairs_of(9))


def test_nouns_lie_side_by_side_and_a_chunk_has_no_text_twice(shop: Dataset) -> None:
    texts = shop.query_texts

    def beside(order: Order) -> tuple[float, float]:
        made = batches(shop, order, group=5)
        rows = np.concatenate([shop.pair_queries[made.pairs_of(step)] for step in range(10)]).tolist()
        said = [texts[row] for row in rows]
        pairs = list(pairwise(said))
        same = sum(head_noun(a) == head_noun(b) for a, b in pairs) / len(pairs)
        equal = sum(a == b for a, b in pairs) / len(pairs)
        return same, equal

    assert beside("shuffled")[0] < 0.45
    assert beside("nouns")[0] > 0.65
    assert beside("attributes")[0] > 0.6
    assert beside("nouns")[1] < 0.2  # the turns of the head text alone


def test_neighbours_are_asked_in_the_thread_that_iterates_when_their_epoch_begins(shop: Dataset) -> None:
    log: list[object] = []

    def asked(epoch: int) -> Int64[np.ndarray, "texts neighbours"]:
        log.append(("asked", epoch, threading.current_thread() is threading.main_thread()))
        return ring(epoch)

    for step, _ in enumerate(batches(shop, "neighbours", neighbours=asked, start=8, epochs=2)):
        log.append(8 + step)
    assert log == [("asked", 0, True), 8, 9, ("asked", 1, True), *range(10, 20)]


def test_an_epoch_without_neighbours_is_shuffled(shop: Dataset) -> None:
    made = batches(shop, "neighbours", neighbours=lambda epoch: ring(1) if epoch else None)
    plain = batches(shop, "shuffled")
    assert np.array_equal(made.pairs_of(3), plain.pairs_of(3))
    assert not np.array_equal(made.pairs_of(13), plain.pairs_of(13))
    with pytest.raises(ValueError, match="neighbours: 3 rows, texts: 20"):
        batches(shop, "neighbours", neighbours=lambda _: np.zeros((3, 1), np.int64)).pairs_of(0)


def test_leaving_early_stops_the_reader(shop: Dataset) -> None:
    before = threading.active_count()
    for order in ORDERS:
        iterator = iter(batches(shop, order))
        next(iterator)
        iterator.close()  # type: ignore[attr-defined] # a generator
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"order": "neighbours"}, "go together"),
        ({"neighbours": ring}, "go together"),
        ({"group": 1}, "group: 1"),
        ({"hard": 1.5}, "hard: 1.5"),
        ({"batch_size": 211}, "210 training pairs do not fill a batch of 211"),
    ],
)
def test_what_makes_no_sense_is_named(shop: Dataset, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PairBatches(shop, **{"batch_size": 20, "epochs": 1, "seed": 0, **changes})


def test_batches_by_shards_visit_every_pair_once_and_few_shards_at_a_time(
    shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CHUNK_BYTES", 200)
    monkeypatch.setattr(writer, "SHARD_BYTES", 700)
    lines = [make_line(make_product(row, 3), f"text {row}", row) for row in range(120)]
    prepare([write_tsv(tmp_path / "a.tsv", lines)], tmp_path / "ds", feature_size=SIZE)
    dataset = Dataset(tmp_path / "ds")
    assert len(dataset.manifest["shards"]) > 6
    made = PairBatches(dataset, batch_size=5, epochs=2, seed=1, shards_at_once=2)
    again = PairBatches(Dataset(tmp_path / "ds"), batch_size=5, epochs=2, seed=1, start=9, shards_at_once=2)
    assert np.array_equal(next(iter(again)).products, dataset.pair_products[made.pairs_of(9)])
    epochs = []
    for epoch in range(2):
        pairs = np.concatenate([made.pairs_of(24 * epoch + step) for step in range(24)])
        assert sorted(pairs.tolist()) == list(range(120))
        shards = dataset.shards_of(dataset.pair_products[pairs])
        assert np.array_equal(np.bincount(shards), [s["products"] for s in dataset.manifest["shards"]])
        # The shards met so far never run ahead of the finished ones by more than two.
        for place in range(1, 121):
            met = set(shards[:place].tolist())
            assert len(met & set(shards[place:].tolist())) <= 2
        epochs.append(pairs.tolist())
    assert epochs[0] != epochs[1]
    with pytest.raises(ValueError, match=r"shards_at_once: 1, .* shuffled alone"):
        batches(shop, "nouns", shards_at_once=1)


def test_no_more_than_two_copies_of_a_batch_are_in_memory(tmp_path: Path) -> None:
    lines = [make_line(make_product(row, 3, size=512), f"text {row}", row) for row in range(512)]
    prepare([write_tsv(tmp_path / "a.tsv", lines)], tmp_path / "ds", feature_size=512)
    for mapped in (True, False):
        made = PairBatches(Dataset(tmp_path / "ds", mapped=mapped), batch_size=256, epochs=4, seed=0)
        size = next(iter(made)).regions.features.nbytes
        held = []
        tracemalloc.start()
        for batch in made:
            time.sleep(0.05)
            assert batch.regions.features.nbytes == size
            held.append(tracemalloc.get_traced_memory()[0])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert size < max(held) < 2.3 * size
        # Torch lets other threads go on while it frees: then the next one is begun.
        assert peak < 3.3 * size


def test_nothing_of_a_batch_is_float64(shop: Dataset) -> None:
    batch = next(iter(batches(shop, "shuffled")))
    assert batch.queries.dtype == batch.products.dtype == np.dtype(np.int64)
    assert (batch.regions.features.dtype, batch.regions.counts.dtype) == (torch.float16, torch.int64)


def test_regions_read_past_the_map_are_those_of_the_map(shop: Dataset) -> None:
    other = pickle.loads(pickle.dumps(Dataset(shop.path, mapped=False)))
    assert not other.mapped
    for products in (np.arange(len(shop.product_ids)), np.array([7, 3, 3, 0]), np.empty(0, np.int64)):
        one, two = shop.regions(products), other.regions(products)
        assert torch.equal(one.features, two.features)
        assert torch.equal(one.counts, two.counts)
    with pytest.raises(IndexError, match="product rows go from 0"):
        other.regions(np.array([-1]))
